"""How scores are distributed: all videos, and each generator."""

from collections.abc import Mapping, Sequence
from typing import Any

from model.tasks import HIGH, LOW, TASKS, TITLES
from pipelines.report.box_charts import quantiles
from pipelines.report.charts import Box, boxes, histogram
from pipelines.report.html import Html, el, finite, join, number
from pipelines.report.page import figure, grid, tile
from pipelines.report.scoring_words import NO_REASON, ORDER, known

DRAWN = 20
Columns = Mapping[str, Sequence[Any]]


def mean(values: Sequence[float | None]) -> float | None:
    """Average the defined values; None when there is none."""
    there = [value for raw in values if (value := finite(raw)) is not None]
    return sum(there) / len(there) if there else None


def reasons(columns: Columns, task: str) -> dict[str, int]:
    """Count why videos have no score in ``task``, the most frequent reason first."""
    counts: dict[str, int] = {}
    for value, reason in zip(columns[task], columns[f"{task}_reason"], strict=True):
        if finite(value) is None:
            said = str(reason or NO_REASON)
            counts[said] = counts.get(said, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def without_scores(columns: Columns) -> int:
    """Count the videos that have no score in any task."""
    return sum(
        all(finite(value) is None for value in row)
        for row in zip(*(columns[task] for task in TASKS), strict=True)
    )


def tiles(columns: Columns) -> Html:
    """Show the mean of each task large, with the spread of its videos."""
    return el("div", *(_tile(columns, task) for task in ORDER), class_="tiles")


def _tile(columns: Columns, task: str) -> Html:
    title = TITLES[task]
    value = mean(columns[task])
    missing = [f"{known(why)}: {count:,}" for why, count in reasons(columns, task).items()][:3]
    if value is None:
        below = ", ".join(missing) or "no video was scored"
        return tile(title, "undefined", below, defined=False)
    count = len(columns[task]) - sum(reasons(columns, task).values())
    low, high = quantiles(columns[task], (0.05, 0.95))
    bits = [f"{count:,} video{'s' * (count != 1)}"]
    if missing:
        bits.append(", ".join(missing))
    spread = f"5 to 95 %: {number(low, 2)} to {number(high, 2)}"
    return tile(title, number(value, 2), spread if count > 1 else None, bits)


def distributions(columns: Columns) -> Html:
    """Draw the scores of each task: all videos as a histogram, generators as boxes."""
    if not any(finite(value) is not None for task in TASKS for value in columns[task]):
        return el("p", "No video has a score.", class_="quiet")
    groups = _groups(columns["generator"])
    charts = []
    for task in ORDER:
        index = TASKS.index(task)
        title = TITLES[task].capitalize()
        shown = [_histogram(columns[task], task, index)]
        if len(groups) > 1:
            items = [
                Box(name, [columns[task][row] for row in rows], index)
                for name, rows in list(groups.items())[:DRAWN]
            ]
            shown.append(
                boxes(items, title=f"{title} by generator", x_label="score", low=LOW, high=HIGH)
            )
        missing = sum(reasons(columns, task).values())
        count = len(columns[task]) - missing
        note = f"{count:,} video{'s' * (count != 1)}"
        charts.append(figure(join(shown), title, note + (f", {missing:,} without" * bool(missing))))
    said = "Upper pictures: all videos, as shares."
    if len(groups) > 1:
        said += " Boxes: quartiles and median of each generator, whiskers from 5 % to 95 %."
    if len(groups) > DRAWN:
        said += f" Drawn: the {DRAWN} of {len(groups):,} generators with the most videos."
    return join([el("p", said if len(groups) > 1 else "All videos, as shares."), grid(*charts)])


def _histogram(values: Sequence[float | None], task: str, index: int) -> Html:
    return histogram(
        {"videos": values},
        title=f"{TITLES[task].capitalize()}: distribution",
        x_label="score",
        low=LOW,
        high=HIGH,
        height=150,
        series=index,
    )


def _groups(names: Sequence[Any]) -> dict[str, list[int]]:
    """Return the rows of each generator, those with the most videos first."""
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(known(name, 40), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))
