"""Tables of a benchmark: groups of artefacts, artefacts, every cell, failures."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.benchmark_words import (
    RELATIONS,
    SCOPES,
    SHORT,
    artefact_name,
    figure_with_interval,
    ratio_cell,
    scope_title,
    severity_cell,
)
from pipelines.report.html import DASH, Html, el, finite, join, number
from pipelines.report.notes import Notes
from pipelines.report.page import Cell, Column, details, name_cell, table

Rows = Sequence[Mapping[str, Any]]
LISTED = 300  # failures


def scopes(rows: Rows) -> Html:
    """Show all artefacts and each group: trained and held-out, with and without blind ones."""
    notes = Notes()
    heads = ["types", "steps", "monotonicity", "SRCC", "selectivity"]
    heads += ["drop of harmed", "change of others", "detected", "median severity"]
    columns = [Column("artefacts"), *(Column(head, "number") for head in heads)]
    body = []
    for row in rows:
        found = row["detected"]
        share = f"{found['detected']} of {found['cells']}"
        median = finite(found["median"])
        body.append(
            [
                scope_title(row),
                Cell(f"{len(row['types'])}", len(row["types"])),
                Cell(f"{row['steps']:,}", row["steps"]),
                figure_with_interval(row["monotonicity"], notes),
                figure_with_interval(row["srcc"], notes),
                ratio_cell(row["selectivity"], notes),
                figure_with_interval(row["harmed_drop"], notes),
                figure_with_interval(row["unharmed_change"], notes),
                Cell(share, found["detected"]),
                Cell(DASH if median is None else f"{median:g}", median),
            ]
        )
    return join([table(columns, body, label="Groups of artefacts"), notes.listed()])


def tasks_of_scopes(rows: Rows) -> Html:
    """Show monotonicity and SRCC of each task by group."""
    notes = Notes()
    columns = [Column("artefacts"), Column("task"), Column("steps", "number")]
    columns += [Column("monotonicity", "number"), Column("SRCC", "number")]
    body = [
        [
            scope_title(row),
            SHORT.get(task, task),
            Cell(f"{found['steps']:,}", found["steps"]),
            figure_with_interval(found["monotonicity"], notes),
            figure_with_interval(found["srcc"], notes),
        ]
        for row in rows
        for task, found in row["tasks"].items()
    ]
    built = table(columns, body, label="Tasks by group of artefacts", tall=len(body) > 12)
    return details("By task", built, notes.listed())


def selectivity(rows: Rows) -> Html:
    """Show what harmed and unharmed scores do at the highest severity of each artefact."""
    notes = Notes()
    heads = ("selectivity", "drop of harmed", "change of others", "mean drop of others")
    columns = [
        Column("artefact", "name"),
        Column("group"),
        *(Column(head, "number") for head in heads),
    ]
    body = [
        [
            Cell(artefact_name(row), str(row["title"])),
            _group(row),
            ratio_cell(row["selectivity"], notes),
            figure_with_interval(row["harmed_drop"], notes),
            figure_with_interval(row["unharmed_change"], notes),
            figure_with_interval(row["unharmed_drop"], notes),
        ]
        for row in rows
    ]
    return join([table(columns, body, label="Selectivity of artefacts"), notes.listed()])


def _group(row: Mapping[str, Any]) -> str:
    return SCOPES.get(str(row["group"]), DASH) if row["group"] else DASH


def every_cell(rows: Rows) -> Html:
    """Show every figure of every artefact and task."""
    notes = Notes()
    heads = ["monotonicity", "SRCC", "pooled SRCC", "smallest severity", "drop", "mean drop"]
    heads += ["change", "points", "steps", "ties", "sources", "no score"]
    columns = [Column("artefact", "name"), Column("group"), Column("task"), Column("should")]
    columns += [Column(head, "number") for head in heads]
    body = []
    for row in rows:
        points = finite(row["points"])
        body.append(
            [
                Cell(artefact_name(row), str(row["title"])),
                _group(row),
                SHORT.get(str(row["task"]), str(row["task"])),
                RELATIONS.get(str(row["relation"]), str(row["relation"])),
                figure_with_interval(row["monotonicity"], notes),
                figure_with_interval(row["srcc"], notes),
                figure_with_interval(row["srcc_pooled"], notes),
                severity_cell(row["smallest_severity"], notes, combined=row["group"] is None),
                figure_with_interval(row["drop"], notes),
                figure_with_interval(row["drop_all"], notes),
                figure_with_interval(row["change"], notes),
                Cell(DASH if points is None else number(points, 1), points),
                *(
                    Cell(f"{row[name]:,}", row[name])
                    for name in ("steps", "ties", "sources", "missing")
                ),
            ]
        )
    label = "Every artefact and task"
    return join([table(columns, body, label=label, tall=len(body) > 15), notes.listed()])


def failures(misses: Rows, reasons: Mapping[str, int]) -> Html:
    """Count and list the videos without any score."""
    if not misses:
        return el("p", "Every video has a score.", class_="quiet")
    counted = table(
        [Column("reason", "name"), Column("videos", "number")],
        [[name_cell(reason), Cell(f"{count:,}", count)] for reason, count in reasons.items()],
        label="Failures by reason",
    )
    columns = [Column("video", "name"), Column("reason", "name"), Column("why", "name")]
    rows = [
        [
            name_cell(miss["video_id"], 120),
            name_cell(miss["reason"]),
            name_cell(miss["message"], 300),
        ]
        for miss in misses[:LISTED]
    ]
    listed = table(columns, rows, label="Videos that failed", tall=len(rows) > 12)
    more = len(misses) - LISTED
    cut = el("p", f"and {more:,} more in failures.parquet", class_="quiet") if more > 0 else None
    said = el("p", "They take no part in any figure; steps and drops that need them are left out.")
    return join([said, counted, listed, cut])
