"""Many values at once: scatter plots and histograms."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.report import svg
from pipelines.report.axes import Scale, domain
from pipelines.report.html import Html, el, finite, name_of
from pipelines.report.svg import Frame


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a scatter plot; ``name`` appears when it is pointed at."""

    x: float | None
    y: float | None
    name: str
    series: int = 0


def scatter(
    points: Iterable[Point],
    *,
    title: str,
    x_label: str,
    y_label: str,
    low: float | None = None,
    high: float | None = None,
    identity: bool = True,
    limit: int = 2000,
) -> Html:
    """Draw y against x on axes of the same range.

    Of more than ``limit`` points a part is drawn, the same each time: with ``identity`` a
    twentieth of the limit goes to those farthest from the line, the rest to a fixed selection by
    name. The picture says so.

    Args:
        points: The points; those with an undefined coordinate are left out.
        title: Name of the picture.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
        low: Both axes begin here at the latest.
        high: Both axes end here at the earliest.
        identity: Draw the line y = x.
        limit: Most points that are drawn.
    """
    known = [
        (x, y, point)
        for point in points
        if (x := finite(point.x)) is not None and (y := finite(point.y)) is not None
    ]
    if not known:
        return svg.empty(title, "nothing to draw: no video has both values")
    shown = _thinned(known, limit, keep=limit // 20 if identity else 0)
    # The axes show the range of all points, so that thinning out does not move them.
    ends = [value for x, y, _ in known for value in (x, y)]
    bounds = domain([*ends, *(end for end in (low, high) if end is not None)], nice=low is None)
    frame = Frame(44, 12, 346, 314)
    x_scale = Scale(*bounds, frame.left + 4, frame.right - 4)
    y_scale = Scale(*bounds, frame.bottom - 4, frame.top + 4)
    parts = [svg.axes(frame, x_scale, y_scale, x_label=x_label, y_label=y_label)]
    if identity:
        (a, b), (c, d) = ((x_scale(end), y_scale(end)) for end in bounds)
        parts.append(el("path", d=f"M{a:.2f} {b:.2f}L{c:.2f} {d:.2f}", class_="identity"))
    # Many points are drawn fainter, so that their density can be seen.
    crowd = "points many" if len(shown) > 300 else "points"
    dots = [
        el(
            "circle",
            el("title", name_of(point.name, 200)),
            cx=x_scale(x),
            cy=y_scale(y),
            r=3,
            class_=f"dot {svg.series_class(point.series)}",
        )
        for x, y, point in shown
    ]
    parts.append(el("g", *dots, class_=crowd))
    said = f"{len(known):,} points"
    height = 354.0
    if len(shown) < len(known):
        said = f"{len(shown):,} of {len(known):,} points are drawn"
        parts.append(svg.text(said, svg.WIDTH / 2, 367, anchor="middle", class_="quiet"))
        height = 376.0
    return svg.drawing(parts, svg.WIDTH, height, title, said)


def histogram(
    groups: Mapping[str, Iterable[float | None]],
    *,
    title: str,
    x_label: str,
    low: float,
    high: float,
    bins: int = 20,
    height: float = 190.0,
    series: int = 0,
) -> Html:
    """Draw how the values of each group are distributed, as shares of the group.

    Args:
        groups: Name to values; undefined ones are left out.
        title: Name of the picture.
        x_label: Name and unit of the axis.
        low: The first bin begins here; smaller values count into it.
        high: The last bin ends here; larger values count into it.
        bins: Bins of equal width.
        height: Height of the drawing; its width is 360.
        series: Colour of the first group.
    """
    shares: list[tuple[str, int, list[float]]] = []
    entries: list[tuple[str, int | None]] = []
    for index, (name, values) in enumerate(groups.items(), series):
        known = [value for raw in values if (value := finite(raw)) is not None]
        entries.append((name, index) if known else (f"{name}: none", None))
        if not known:
            continue
        counts = [0] * bins
        for value in known:
            counts[min(max(int((value - low) / (high - low) * bins), 0), bins - 1)] += 1
        shares.append((name, index, [100 * count / len(known) for count in counts]))
    if not shares:
        return svg.empty(title, "nothing to draw: no value is defined")
    key, taken = svg.legend(entries, 4, svg.WIDTH)
    top = taken + 8
    bottom = taken + height - 40
    peak = domain([value for *_, part in shares for value in part], zero=True)[1]
    y = Scale(0, peak, bottom, top)
    frame = Frame(svg.y_room(y) + 26, top, svg.WIDTH - 12, bottom)
    x = Scale(low, high, frame.left, frame.right)
    parts = [key, svg.axes(frame, x, y, x_label=x_label, y_label="share, %")]
    width = (high - low) / bins
    for _, index, part in shares:
        steps = [f"M{frame.left:.2f} {bottom:.2f}"]
        for place, share in enumerate(part):
            steps.append(f"V{y(share):.2f}H{x(low + (place + 1) * width):.2f}")
        steps.append(f"V{bottom:.2f}")
        parts.append(el("path", d="".join(steps), class_=f"outline {svg.series_class(index)}"))
    said = "; ".join(
        f"{name}: most at {low + (part.index(max(part)) + 0.5) * width:.2f}"
        for name, _, part in shares
    )
    return svg.drawing(parts, svg.WIDTH, height + taken, title, said)


def _thinned(
    known: list[tuple[float, float, Point]], limit: int, keep: int
) -> list[tuple[float, float, Point]]:
    if len(known) <= limit:
        return known
    by_error = sorted(range(len(known)), key=lambda i: -abs(known[i][1] - known[i][0]))
    chosen = set(by_error[:keep])

    # By a digest of the name: neither order nor neighbours have a say, run after run.
    def place(index: int) -> tuple[int, int]:
        return zlib.crc32(known[index][2].name.encode("utf-8", "surrogatepass")), index

    rest = sorted((index for index in range(len(known)) if index not in chosen), key=place)
    chosen.update(rest[: limit - len(chosen)])
    return [known[index] for index in sorted(chosen)]
