"""The section of a training report that shows errors by generator and speaker."""

from collections.abc import Mapping
from typing import Any

from model.tasks import TASKS
from pipelines.report.charts import heat_map
from pipelines.report.html import Html, el, finite, join, name_of
from pipelines.report.names import SHORT
from pipelines.report.page import Cell, Column, details, figure, figure_cell, grid, table
from pipelines.report.results import SPLITS, headline_split

GROUPS_DRAWN = 20
GROUPS_LISTED = 500
_FIGURES = ("n", "bias", "MAE")


def where(metrics: Mapping[str, Any]) -> str:
    """Say which split groups and correlations are of."""
    split = metrics.get("held_out") or headline_split(metrics)
    return f"on the {SPLITS.get(split, split)} split" if split else "on all videos"


def group_errors(metrics: Mapping[str, Any]) -> Html:
    """Draw and list bias and mean absolute error of each generator and speaker."""
    parts = []
    for kind, groups in (metrics.get("groups") or {}).items():
        if groups:
            parts += [el("h3", f"By {name_of(kind)}"), _group_part(str(kind), groups)]
    if not parts:
        said = "Neither the labels nor the features name a generator or a speaker."
        return el("p", said, class_="quiet")
    said = (
        f"Errors {where(metrics)}. Bias is the mean of prediction minus label: above 0 the "
        "group is flattered. MAE is the mean absolute error."
    )
    return join([el("p", said), *parts])


def _group_part(kind: str, groups: Mapping[str, Any]) -> Html:
    by_size = sorted(groups, key=lambda name: (-_size(groups[name]), str(name)))
    drawn = by_size[:GROUPS_DRAWN]
    names = [SHORT[task] for task in TASKS]
    charts = []
    for key, title in (("bias", "Bias"), ("mae", "MAE")):
        matrix = [[_of(groups[name], task, key) for task in TASKS] for name in drawn]
        known = [abs(value) for row in matrix for value in row if value is not None]
        chart = heat_map(
            matrix,
            rows=[str(name) for name in drawn],
            columns=names,
            title=f"{title} by {name_of(kind)} and task",
            # Differences of a hundredth shall not look like an alarm.
            limit=max([0.5, *known]),
        )
        charts.append(figure(chart, title, "in points of the scale"))
    columns = [Column(name_of(kind), "name")]
    columns += [Column(f"{SHORT[task]} {what}", "number") for task in TASKS for what in _FIGURES]
    rows = [
        [name_of(name), *(cell for task in TASKS for cell in _group_cells(groups[name], task))]
        for name in by_size[:GROUPS_LISTED]
    ]
    listed = table(columns, rows, label=f"Errors by {name_of(kind)}", tall=True)
    cut = []
    if len(by_size) > len(drawn):
        cut.append(f"Drawn: the {len(drawn)} of {len(by_size):,} with the most labels.")
    if len(by_size) > GROUPS_LISTED:
        cut.append(f"Listed: the {GROUPS_LISTED} with the most labels.")
    note = el("p", " ".join(cut), class_="quiet") if cut else None
    return join([grid(*charts), note, details("As a table", listed)])


def _group_cells(group: Mapping[str, Any], task: str) -> list[Cell]:
    found = group.get(task)
    count = int(found["n"]) if found else 0
    return [
        Cell(f"{count:,}", count),
        figure_cell(_of(group, task, "bias")),
        figure_cell(_of(group, task, "mae")),
    ]


def _of(group: Mapping[str, Any], task: str, key: str) -> float | None:
    return finite((group.get(task) or {}).get(key))


def _size(group: Mapping[str, Any]) -> int:
    return max((int(found["n"]) for found in group.values()), default=0)
