"""Charts of a benchmark: scores over severity, and which artefact moves which task."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report import svg
from pipelines.report.axes import domain
from pipelines.report.benchmark_words import RELATIONS, SHORT
from pipelines.report.charts import Line, line_chart
from pipelines.report.html import DASH, Html, el, finite, name_of, number
from pipelines.report.page import figure

Rows = Sequence[Mapping[str, Any]]
ROW = 28.0


def curves(levels: Rows, artefacts: Rows, tasks: Sequence[str]) -> list[Html]:
    """Draw the mean score over severity, one small chart for each artefact.

    Args:
        levels: Rows of ``curves.parquet``.
        artefacts: Rows of the summary, in their order; combinations have no severity and no chart.
        tasks: Columns, which keep their colours in all charts.
    """
    ends = [
        value
        for row in levels
        for key in ("score", "score_low", "score_high")
        if (value := finite(row.get(key))) is not None
    ]
    shared = domain(ends)
    charts = []
    for artefact in artefacts:
        mine = [row for row in levels if row["type"] == artefact["type"]]
        if artefact["group"] is None or not mine:
            continue
        lines = [
            _line([row for row in mine if row["task"] == task], task, place)
            for place, task in enumerate(tasks)
        ]
        title = name_of(artefact["title"])
        said = [str(artefact["group"])]
        if len(tasks) == 1:  # a line alone has no name that an arrow could stand behind
            said.append("should fall" if _falls(mine[0]) else "should stay")
        if artefact["held_out"]:
            said.append("held out from training")
        if artefact["blind"]:
            said.append(f"declared blind: {name_of(artefact['blind'], 300)}")
        chart = line_chart(
            lines,
            title=f"Mean score over severity: {title}",
            x_label="severity",
            x_range=(0.0, 1.0),
            y_range=shared,
            height=200.0,
        )
        charts.append(figure(chart, title, "; ".join(said)))
    return charts


def _line(rows: Rows, task: str, place: int) -> Line:
    ordered = sorted(rows, key=lambda row: float(row["severity"]))
    fallen = bool(ordered) and _falls(ordered[0])
    name = SHORT.get(task, task) + ("\u2193" if fallen else "")
    return Line(
        name,
        [float(row["severity"]) for row in ordered],
        [finite(row["score"]) for row in ordered],
        [finite(row["score_low"]) for row in ordered],
        [finite(row["score_high"]) for row in ordered],
        series=place,
    )


def _falls(row: Mapping[str, Any]) -> bool:
    return str(row["relation"]) != "unharmed"


def drop_map(cells: Rows, tasks: Sequence[str], unit: str) -> Html:
    """Draw artefacts by tasks: how far the score falls from clean to the highest severity.

    Harmed cells, where it should fall, have a frame; the others should be pale.
    """
    rows = list(dict.fromkeys(str(row["type"]) for row in cells if row["group"] is not None))
    if not rows:
        return svg.empty("Selectivity", "nothing to draw: no artefact")
    known = {(str(row["type"]), str(row["task"])): row for row in cells if row["group"] is not None}
    values = [finite(row["drop"]["value"]) for row in known.values()]
    limit = max((abs(value) for value in values if value is not None), default=1.0) or 1.0
    names = {kind: name_of(next(r["title"] for (k, _), r in known.items() if k == kind))
             for kind in rows}  # fmt: skip
    longest = max(len(name) for name in names.values()) * svg.CHARACTER + 10
    left = min(longest, 118 if len(tasks) > 1 else 240)
    side = min((svg.WIDTH - left - 28) / len(tasks), 90)
    top = 62.0 if len(tasks) > 1 else 24.0
    parts: list[Html] = []
    for column, task in enumerate(tasks):
        middle = left + (column + 0.5) * side
        turn = -35 if len(tasks) > 1 else None
        anchor = None if len(tasks) > 1 else "middle"
        head = svg.text(SHORT.get(task, task), middle, top - 8, turn=turn, anchor=anchor)
        parts.append(head)
    for line, kind in enumerate(rows):
        y = top + line * ROW
        label = svg.text(svg.cut(names[kind], left - 8), left - 8, y + 18, anchor="end")
        parts.append(el("g", el("title", names[kind]), label))
        for column, task in enumerate(tasks):
            row = known.get((kind, task))
            corner = (left + column * side, y)
            parts.append(_cell(row, names[kind], task, corner=corner, side=side, limit=limit))
    height = top + len(rows) * ROW + 2
    said = f"{len(rows)} artefacts by {len(tasks)} scores; drops in {unit}"
    return svg.drawing(parts, svg.WIDTH, height, "Drop at the highest severity", said)


def _cell(
    row: Mapping[str, Any] | None,
    title: str,
    task: str,
    *,
    corner: tuple[float, float],
    side: float,
    limit: float,
) -> Html:
    x, y = corner
    box = {"x": x + 1.5, "y": y + 1.5, "width": side - 3, "height": ROW - 3, "rx": 3}
    middle = (x + side / 2, y + ROW / 2 + 4)
    where = f"{title}, {SHORT.get(task, task)}"
    value = None if row is None else finite(row["drop"]["value"])
    if row is None or value is None:
        return el(
            "g",
            el("title", f"{where}: undefined"),
            el("rect", **box, class_="hollow"),
            svg.text(DASH, *middle, anchor="middle", class_="quiet"),
        )
    shown = number(value, 2)
    harmed = row["relation"] == "harmed"
    words = RELATIONS.get(str(row["relation"]), "")
    return el(
        "g",
        el("title", f"{where}: {shown} ({words})"),
        el(
            "rect",
            **box,
            class_="above" if value > 0 else "below",
            fill_opacity=0.72 * min(abs(value) / limit, 1.0),
        ),
        el("rect", **box, class_="should" if harmed else "cell"),
        svg.text(shown, *middle, anchor="middle"),
    )


def rate_map(benchmarks: Sequence[tuple[str, Rows]], key: str, title: str) -> Html:
    """Draw artefacts by evaluators: a figure over the cells where the score should fall.

    Args:
        benchmarks: Name and cells of each evaluator.
        key: ``monotonicity`` or ``srcc``.
        title: Of the picture.
    """
    from pipelines.report.charts import heat_map

    kinds: dict[str, str] = {}
    for _, cells in benchmarks:
        for row in cells:
            if row["group"] is not None:
                kinds.setdefault(str(row["type"]), name_of(row["title"]))
    matrix = [[_mean(cells, kind, key) for _, cells in benchmarks] for kind in kinds]
    return heat_map(
        matrix,
        rows=list(kinds.values()),
        columns=[name_of(name, 24) for name, _ in benchmarks],
        title=title,
    )


def _mean(cells: Rows, kind: str, key: str) -> float | None:
    """Mean of a figure over the harmed tasks of an artefact."""
    found = [
        value
        for row in cells
        if row["type"] == kind
        and row["relation"] == "harmed"
        and (value := finite(row[key]["value"])) is not None
    ]
    return sum(found) / len(found) if found else None


def legend_of_map() -> Html:
    """Explain the frames of :func:`drop_map`."""
    return el(
        "p",
        "Framed: the artefact harms this task, the score should fall (blue). Not framed: it should "
        "stay (pale). Overall follows from the others.",
        class_="quiet",
    )
