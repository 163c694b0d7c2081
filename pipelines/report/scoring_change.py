"""What changed against the baseline: tasks, generators, single videos."""

from collections.abc import Mapping, Sequence
from typing import Any

from model.tasks import TITLES
from pipelines.report.charts import heat_map
from pipelines.report.html import Html, el, finite, join, name_of, number
from pipelines.report.names import SHORT
from pipelines.report.notes import Notes
from pipelines.report.page import (
    Cell,
    Column,
    code_name,
    details,
    figure,
    figure_cell,
    grid,
    name_cell,
    table,
)
from pipelines.report.scoring_leaderboard import difference_cell
from pipelines.report.scoring_words import NO_REASON, ORDER, known, named, p_value, signed

NOTHING_SHARED = "none of its videos has scores in this run, so nothing can be compared."
DRAWN, LISTED, IDS = 20, 200, 20
_FULL = 0.5  # points of the scale that have the fullest colour at least


def change(found: Mapping[str, Any] | None, baseline: str | None = None) -> Html:
    """Show the change of every task, by generator, and the videos that moved most.

    Args:
        found: See :mod:`pipelines.scoring.baseline`; None when nothing could be compared.
        baseline: Where the baseline is; None when none was given.
    """
    if found is None and baseline:
        return el("p", "Baseline ", code_name(baseline), f": {NOTHING_SHARED}")
    if found is None:
        return el("p", "No baseline was given.", class_="quiet")
    parts: list[object] = [el("p", *_said(found)), _tasks(found), *_generators(found)]
    for key, title in (("fell", "Fell most"), ("rose", "Rose most")):
        parts += [el("h3", title), _moved(found.get(key) or [], key)]
    parts.append(_only(found))
    return join(parts)


def sentence(found: Mapping[str, Any], task: str) -> str:
    """Say the change of a task in words, without its name."""
    shift = (found.get("tasks") or {}).get(task) or {}
    difference = finite(shift.get("difference"))
    if difference is None:
        return f"undefined: {known(shift.get('reason') or NO_REASON, 200)}"
    before, after = finite(shift.get("before")), finite(shift.get("after"))
    means = "" if before is None or after is None else (
        f" ({number(before, 2)} to {number(after, 2)})"
    )  # fmt: skip
    said = {True: "significant", False: "not significant", None: "not tested"}
    p = p_value(shift.get("p_adjusted"))
    tested = said[shift.get("significant")]
    if shift.get("significant") is not None:
        tested += f", p {'' if p.startswith('<') else '= '}{p}"
    return f"{signed(difference)}{means}, {tested}, {shift.get('n', 0):,} videos"


def _said(found: Mapping[str, Any]) -> list[object]:
    videos = found.get("videos") or {}
    both = videos.get("both", 0)
    parts: list[object] = [
        f"{both:,} video{'s are' if both != 1 else ' is'} in this run and in ",
        code_name(found.get("baseline") or "the baseline"),
        (
            f", {videos.get('same_content', 0):,} of them with the same content; "
            f"{videos.get('only_here', 0):,} only here, {videos.get('only_there', 0):,} only "
            "there. Differences are this run minus the baseline, each video against itself; "
            "p-values are corrected (Holm). "
        ),
    ]
    checkpoints = found.get("checkpoints") or {}
    if checkpoints.get("baseline") != checkpoints.get("here"):
        parts.append(
            el("b", "Another checkpoint scored the baseline: part of the change may be its. ")
        )
    absent = found.get("absent_generators") or []
    if absent:
        names = join([named(name) for name in absent[:IDS]], ", ")
        parts += ["Only in the baseline: ", names, f"{' and more' * (len(absent) > IDS)}."]
    return parts


def _tasks(found: Mapping[str, Any]) -> Html:
    notes = Notes()
    columns = [
        Column("task"),
        *(Column(name, "number") for name in
          ("baseline", "now", "change", "p", "p corrected")),
        Column("significant"),
        *(Column(name, "number") for name in ("videos", "score lost", "score gained")),
    ]  # fmt: skip
    rows = []
    for task in ORDER:
        shift = (found.get("tasks") or {}).get(task) or {}
        flag = shift.get("significant")
        rows.append(
            [
                TITLES[task],
                figure_cell(shift.get("before"), 2),
                figure_cell(shift.get("after"), 2),
                difference_cell(shift, notes),
                Cell(p_value(shift.get("p")), finite(shift.get("p"))),
                Cell(p_value(shift.get("p_adjusted")), finite(shift.get("p_adjusted"))),
                "not tested" if flag is None else "yes" if flag else "no",
                *(Cell(f"{shift.get(key, 0):,}", shift.get(key, 0))
                  for key in ("n", "lost", "gained")),
            ]
        )  # fmt: skip
    return join([table(columns, rows, label="Change of all videos by task"), notes.listed()])


def _generators(found: Mapping[str, Any]) -> list[Html]:
    rows: Sequence[Mapping[str, Any]] = found.get("generators") or []
    if len(rows) < 2:
        return []
    drawn = sorted(rows, key=lambda row: (-(row.get("videos") or 0), str(row.get("name"))))
    matrix = [
        [finite((row.get(task) or {}).get("difference")) for task in ORDER] for row in drawn[:DRAWN]
    ]
    sizes = [abs(value) for line in matrix for value in line if value is not None]
    chart = heat_map(
        matrix,
        rows=[known(row.get("name"), 40) for row in drawn[:DRAWN]],
        columns=[SHORT[task] for task in ORDER],
        title="Change by generator and task",
        limit=max([_FULL, *sizes]),
    )
    more = f"the {DRAWN} of {len(rows):,} with the most videos" if len(rows) > DRAWN else ""
    notes = Notes()
    listed = [
        [
            name_cell(known(row.get("name"))),
            Cell(f"{row.get('videos', 0):,}", row.get("videos", 0)),
            *(_generator_cell(row.get(task) or {}, notes) for task in ORDER),
        ]
        for row in drawn[:LISTED]
    ]
    columns = [Column("generator", "name"), Column("videos", "number")]
    columns += [Column(SHORT[task], "number") for task in ORDER]
    built = table(columns, listed, label="Change by generator", tall=len(listed) > 12)
    star = el("p", "* significant after correction over the generators of a task.", class_="quiet")
    note = f"in points of the scale, {more}" if more else "in points of the scale"
    return [el("h3", "By generator"), grid(figure(chart, "Change", note)), built, notes.listed(),
            star]  # fmt: skip


def _generator_cell(shift: Mapping[str, Any], notes: Notes) -> Cell:
    cell = difference_cell(shift, notes)
    return Cell(join(["* ", cell.shown]), cell.sort) if shift.get("significant") else cell


def _moved(rows: Sequence[Mapping[str, Any]], key: str) -> Html:
    if not rows:
        return el("p", f"No video {key}.", class_="quiet")
    columns = [
        Column("video", "name"), Column("generator"),
        *(Column(name, "number") for name in ("baseline", "now")),
        Column("change", "number", "ascending" if key == "fell" else "descending"),
        Column("findings now", "name"),
    ]  # fmt: skip
    listed = [
        [
            name_cell(row["video_id"], 120),
            name_cell(known(row.get("generator"))),
            figure_cell(row.get("before"), 2),
            figure_cell(row.get("after"), 2),
            Cell(signed(row["difference"]), row["difference"]),
            name_of(row.get("cause") or "none", 160),
        ]
        for row in rows
    ]
    return table(columns, listed, label=f"Videos that {key} most")


def _only(found: Mapping[str, Any]) -> Html | None:
    parts = []
    videos = found.get("videos") or {}
    for key, title in (("only_here", "Only in this run"), ("only_there", "Only in the baseline")):
        names = found.get(key) or []
        total = videos.get(key, len(names))
        if names:
            more = total - len(names)
            items = [el("li", code_name(name)) for name in names]
            items += [el("li", f"and {more:,} more")] if more > 0 else []
            parts.append(details(f"{title}: {total:,}", el("ul", *items)))
    return join(parts) if parts else None
