"""Figures of named rows: heat maps and horizontal bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.report import svg
from pipelines.report.axes import Scale, domain
from pipelines.report.html import DASH, Html, el, finite, name_of, number
from pipelines.report.svg import Frame


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its interval; ``value`` None is undefined for ``reason``."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    series: int = 0


def heat_map(
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    limit: float = 1.0,
    digits: int = 2,
) -> Html:
    """Draw a matrix of signed figures; the colour says sign and size, the figure is written.

    Args:
        values: One sequence a row; undefined cells are hollow with a dash.
        rows: Names of the rows.
        columns: Names of the columns.
        title: Name of the picture.
        limit: The absolute value of the fullest colour.
        digits: Decimals of the figures.
    """
    if not rows or not columns:
        return svg.empty(title, "nothing to draw: no rows")
    left = min(max(len(name) for name in rows) * svg.CHARACTER + 10, 130)
    side = min((svg.WIDTH - left - 2) / len(columns), 90)
    longest = max(len(word) for name in columns for word in name.split())
    upright = longest * svg.CHARACTER <= side
    if not upright:
        # The last of the turned names reaches beyond its column.
        beyond = min(len(columns[-1]) * svg.CHARACTER, 120) * 0.82 - side / 2
        side -= max(beyond, 0) / len(columns)
    lines = [name.split() if upright else [name] for name in columns]
    top = (
        max(len(words) for words in lines) * 14 + 6
        if upright
        else min(max(len(name) for name in columns) * 4.2 + 14, 90)
    )
    parts = []
    for column, words in enumerate(lines):
        middle = left + (column + 0.5) * side
        for index, word in enumerate(words):
            at = top - 8 - 14 * (len(words) - 1 - index)
            if upright:
                parts.append(svg.text(word, middle, at, anchor="middle"))
            else:
                parts.append(svg.text(svg.cut(word, 120), middle, top - 6, turn=-35))
    row_height = 28
    for row, (name, cells) in enumerate(zip(rows, values, strict=True)):
        y = top + row * row_height
        label = svg.text(svg.cut(name_of(name), left - 8), left - 8, y + 18, anchor="end")
        parts.append(el("g", el("title", name_of(name)), label))
        for column, value in enumerate(cells):
            x = left + column * side
            where = f"{name_of(name)}, {columns[column]}"
            cell = _cell(
                finite(value),
                corner=(x, y),
                size=(side, row_height),
                where=where,
                limit=limit,
                digits=digits,
            )
            parts.append(cell)
    height = top + len(rows) * row_height + 2
    said = f"{len(rows)} rows by {len(columns)} columns: {', '.join(columns)}"
    return svg.drawing(parts, svg.WIDTH, height, title, said)


def bars(
    items: Sequence[Bar],
    *,
    title: str,
    x_label: str = "",
    x_range: tuple[float, float] | None = None,
    digits: int = 2,
) -> Html:
    """Draw horizontal bars from 0 with their intervals as whiskers and the figure beside.

    Args:
        items: The bars from top to bottom.
        title: Name of the picture.
        x_label: Name and unit of the axis.
        x_range: Range of the axis; without it the data's, with 0.
        digits: Decimals of the figures.
    """
    if not items:
        return svg.empty(title, "nothing to draw: no rows")
    ends = [
        end
        for item in items
        for value in (item.value, item.low, item.high)
        if (end := finite(value)) is not None
    ]
    low, high = x_range or domain(ends, zero=True)
    left = min(max(len(item.name) for item in items) * svg.CHARACTER + 10, 130)
    row = 24.0
    frame = Frame(left, 4, svg.WIDTH - 52, 4 + row * len(items))
    x = Scale(low, high, frame.left, frame.right)
    zero = x(min(max(0.0, low), high))
    parts = svg.upright_rules(x, frame)
    parts.append(el("path", d=f"M{zero:.2f} {frame.top:g}V{frame.bottom:g}", class_="axis"))
    for index, item in enumerate(items):
        parts.append(
            _bar(item, frame.top + row * index, x=x, zero=zero, frame=frame, digits=digits)
        )
    if x_label:
        middle = (frame.left + frame.right) / 2
        label = svg.text(x_label, middle, frame.bottom + 30, anchor="middle", class_="quiet")
        parts.append(label)
    height = frame.bottom + (38 if x_label else 20)
    return svg.drawing(parts, svg.WIDTH, height, title, f"{len(items)} bars")


def _cell(
    value: float | None,
    *,
    corner: tuple[float, float],
    size: tuple[float, float],
    where: str,
    limit: float,
    digits: int,
) -> Html:
    (x, y), (width, height) = corner, size
    box = {"x": x + 1, "y": y + 1, "width": width - 2, "height": height - 2, "rx": 3}
    middle = (x + width / 2, y + height / 2 + 4)
    if value is None:
        return el(
            "g",
            el("title", f"{where}: undefined"),
            el("rect", **box, class_="hollow"),
            svg.text(DASH, *middle, anchor="middle", class_="quiet"),
        )
    full = min(abs(value) / limit, 1.0) if limit > 0 else 0.0
    written = number(value, digits)
    return el(
        "g",
        el("title", f"{where}: {written}"),
        # 0.72 at most: the figure over it must stay readable.
        el("rect", **box, class_="above" if value > 0 else "below", fill_opacity=0.72 * full),
        el("rect", **box, class_="cell"),
        svg.text(written, *middle, anchor="middle"),
    )


def _bar(item: Bar, y: float, *, x: Scale, zero: float, frame: Frame, digits: int) -> Html:
    name = name_of(item.name)
    middle = y + 12
    label = svg.text(svg.cut(name, frame.left - 8), frame.left - 8, middle + 4, anchor="end")
    value, low, high = finite(item.value), finite(item.low), finite(item.high)
    if value is None:
        said = f"undefined: {item.reason}" if item.reason else "undefined"
        room = frame.right - frame.left + 44
        why = svg.text(svg.cut(said, room), frame.left + 6, middle + 4, class_="quiet")
        return el("g", el("title", f"{name}: {said}"), label, why)
    at = min(max(x(value), frame.left), frame.right)
    parts = [
        el(
            "rect",
            x=min(at, zero),
            y=y + 5,
            width=max(abs(at - zero), 0.5),
            height=14,
            rx=2,
            class_=f"bar {svg.series_class(item.series)}",
        )
    ]
    written = number(value, digits)
    said = f"{name}: {written}"
    if low is not None and high is not None:
        a, b = (min(max(x(end), frame.left), frame.right) for end in (low, high))
        way = f"M{a:.2f} {middle:g}H{b:.2f}M{a:.2f} {middle - 4:g}v8M{b:.2f} {middle - 4:g}v8"
        parts.append(el("path", d=way, class_="whisker"))
        said += f" [{number(low, digits)}, {number(high, digits)}]"
    figure = svg.text(written, svg.WIDTH - 2, middle + 4, anchor="end")
    return el("g", el("title", said), label, *parts, figure)
