"""Distributions of named groups beside each other: box plots."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.report import svg
from pipelines.report.axes import Scale
from pipelines.report.html import Html, el, finite, name_of, number
from pipelines.report.svg import Frame

ENDS = (0.05, 0.25, 0.5, 0.75, 0.95)  # whisker, box, median, box, whisker
_ROW = 24.0


@dataclass(frozen=True, slots=True)
class Box:
    """A group and its values; undefined ones are left out."""

    name: str
    values: Iterable[float | None]
    series: int = 0


def quantiles(values: Iterable[float | None], at: Sequence[float] = ENDS) -> list[float]:
    """Return quantiles by linear interpolation between the sorted values (Hyndman and Fan's 7).

    Args:
        values: Undefined ones are left out.
        at: Shares in [0, 1].

    Returns:
        One value a share; empty when no value is defined.
    """
    known = sorted(value for raw in values if (value := finite(raw)) is not None)
    if not known:
        return []
    found = []
    for share in at:
        place = share * (len(known) - 1)
        below = int(place)
        above = min(below + 1, len(known) - 1)
        found.append(known[below] + (place - below) * (known[above] - known[below]))
    return found


def boxes(
    items: Sequence[Box],
    *,
    title: str,
    x_label: str,
    low: float,
    high: float,
    digits: int = 2,
) -> Html:
    """Draw a box a group: quartiles and median, whiskers from 5 % to 95 % of its values.

    Args:
        items: Groups from top to bottom.
        title: Name of the picture.
        x_label: Name and unit of the axis.
        low: The axis begins here.
        high: The axis ends here.
        digits: Decimals of the median, which is written beside the box.
    """
    if not items:
        return svg.empty(title, "nothing to draw: no group")
    left = min(max(len(item.name) for item in items) * svg.CHARACTER + 10, 130)
    frame = Frame(left, 4, svg.WIDTH - 42, 4 + _ROW * len(items))
    x = Scale(low, high, frame.left, frame.right)
    parts = svg.upright_rules(x, frame)
    parts += [
        _box(item, frame.top + _ROW * index, x, frame, digits) for index, item in enumerate(items)
    ]
    middle = (frame.left + frame.right) / 2
    parts.append(svg.text(x_label, middle, frame.bottom + 30, anchor="middle", class_="quiet"))
    return svg.drawing(parts, svg.WIDTH, frame.bottom + 38, title, f"{len(items)} groups")


def _box(item: Box, y: float, x: Scale, frame: Frame, digits: int) -> Html:
    name = name_of(item.name)
    middle = y + _ROW / 2
    label = svg.text(svg.cut(name, frame.left - 8), frame.left - 8, middle + 4, anchor="end")
    values = [value for raw in item.values if (value := finite(raw)) is not None]
    found = quantiles(values)
    if not found:
        why = svg.text("no score", frame.left + 6, middle + 4, class_="quiet")
        return el("g", el("title", f"{name}: no score"), label, why)
    ends = [min(max(x(value), frame.left), frame.right) for value in found]
    whiskers = f"M{ends[0]:.2f} {middle:g}H{ends[1]:.2f}M{ends[3]:.2f} {middle:g}H{ends[4]:.2f}"
    caps = "".join(f"M{end:.2f} {middle - 4:g}v8" for end in (ends[0], ends[4]))
    said = ", ".join(number(value, digits) for value in found)
    return el(
        "g",
        el("title", f"{name}: {said} at 5, 25, 50, 75, 95 % of {len(values):,}"),
        label,
        el("path", d=whiskers + caps, class_="whisker"),
        el(
            "rect",
            x=ends[1],
            y=y + 5,
            width=max(ends[3] - ends[1], 1.0),
            height=_ROW - 10,
            rx=2,
            class_=f"box-body {svg.series_class(item.series)}",
        ),
        el("path", d=f"M{ends[2]:.2f} {y + 4:g}v{_ROW - 8:g}", class_="median"),
        svg.text(number(found[2], digits), svg.WIDTH - 2, middle + 4, anchor="end"),
    )
