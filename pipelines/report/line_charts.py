"""Curves over epochs, seconds or runs: line charts and sparklines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.report import svg
from pipelines.report.axes import Scale, domain, log_domain
from pipelines.report.html import DASH, Html, el, finite, join, short_number
from pipelines.report.svg import Frame

Numbers = Sequence[float | None]
LINE_POINTS = 600  # more than a screen has columns for


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: ``y`` over ``x``, with a band from ``low`` to ``high`` where given.

    ``series`` (0-7) chooses colour and mark; without it the place in the list does.
    """

    name: str
    x: Sequence[float]
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    series: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at ``x`` with its name, such as the chosen epoch."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the horizontal axis that is shaded, such as a problem in a video."""

    start: float
    end: float
    text: str


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    log_y: bool = False,
    whole_x: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
    spans: Sequence[Span] = (),
    height: float = 230.0,
) -> Html:
    """Draw curves over a common axis (epochs, seconds, runs).

    Args:
        lines: The curves. A logarithmic axis leaves out values that are not above 0.
        title: Name of the picture.
        x_label: Name and unit of the horizontal axis.
        y_label: Name and unit of the vertical axis.
        log_y: Logarithmic vertical axis.
        whole_x: Ticks at whole numbers only.
        x_range: Range of the horizontal axis; without it the data's.
        y_range: Range of the vertical axis; without it the data's.
        marks: Vertical lines.
        spans: Shaded stretches.
        height: Height of the drawing; its width is 360.
    """
    curves = [_Curve.of(line, index, log_y) for index, line in enumerate(lines)]
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        return svg.empty(title, "nothing to draw: no value is defined")
    key, taken = svg.legend(
        [
            (curve.name, curve.series) if curve.points else (f"{curve.name}: undefined", None)
            for curve in curves
        ],
        4,
        svg.WIDTH,
    )
    ys = [value for curve in drawn for value in curve.values()]
    low, high = y_range or (log_domain(ys) if log_y else domain(ys))
    xs = [x for curve in drawn for x, _ in curve.points]
    x_low, x_high = x_range or domain(xs, nice=False)
    bottom = taken + height - 40
    y = Scale(low, high, bottom, taken + 14, log_y)
    frame = Frame(svg.y_room(y) + (26 if y_label else 10), taken + 14, svg.WIDTH - 12, bottom)
    x = Scale(x_low, x_high, frame.left, frame.right)
    parts = [key, *(_span(span, x, frame) for span in spans)]
    parts.append(svg.axes(frame, x, y, x_label=x_label, y_label=y_label, whole_x=whole_x))
    parts += [curve.band(x, y) for curve in drawn]
    parts += [curve.path(x, y) for curve in drawn]
    parts += [_mark(mark, x, frame) for mark in marks]
    said = "; ".join(curve.said() for curve in drawn)
    missing = [curve.name for curve in curves if not curve.points]
    if missing:
        said += f". Undefined throughout: {', '.join(missing)}"
    return svg.drawing(parts, svg.WIDTH, height + taken, title, said)


def sparkline(values: Numbers, *, title: str, width: float = 120.0, height: float = 28.0) -> Html:
    """Draw a curve without axes for a table's cell; the last defined value has a dot."""
    curve = _Curve.of(Line("", list(range(len(values))), values), 0, log=False)
    if not curve.points:
        return svg.empty(title, DASH, width, height)
    low, high = domain(curve.values(), nice=False)
    x = Scale(0, max(len(values) - 1, 1), 4, width - 4)
    y = Scale(low, high, height - 4, 4)
    ends = f"from {short_number(curve.points[0][1])} to {short_number(curve.points[-1][1])}"
    return svg.drawing([curve.path(x, y)], width, height, title, ends)


@dataclass(frozen=True, slots=True)
class _Curve:
    """The defined values of a line: runs without a gap between them."""

    name: str
    series: int
    runs: list[list[tuple[float, float]]]
    edges: list[list[tuple[float, float, float]]]  # x, low, high

    @classmethod
    def of(cls, line: Line, index: int, log: bool) -> "_Curve":
        def known(raw: float | None) -> float | None:
            value = finite(raw)
            return None if value is None or (log and value <= 0) else value

        runs = _runs([(x, known(y)) for x, y in zip(line.x, line.y, strict=True)])
        edges: list[list[tuple[float, float, float]]] = []
        if line.low is not None and line.high is not None:
            both: list[tuple[float, float, float]] = []
            for x, low, high in zip(line.x, line.low, line.high, strict=True):
                bottom, top = known(low), known(high)
                if bottom is not None and top is not None:
                    both.append((x, bottom, top))
                elif both:
                    edges.append(both)
                    both = []
            edges += [both] if both else []
        series = index if line.series is None else line.series
        return cls(line.name, series, runs, edges)

    @property
    def points(self) -> list[tuple[float, float]]:
        return [point for run in self.runs for point in run]

    def values(self) -> list[float]:
        ends = [end for run in self.edges for _, low, high in run for end in (low, high)]
        return [y for _, y in self.points] + ends

    def said(self) -> str:
        first, last = self.points[0][1], self.points[-1][1]
        return f"{self.name}: from {short_number(first)} to {short_number(last)}"

    def path(self, x: Scale, y: Scale) -> Html:
        colour = svg.series_class(self.series)
        parts = []
        for run in self.runs:
            way = _way([(x(a), y(b)) for a, b in _thin_line(run)])
            if len(run) > 1:
                parts.append(el("path", d=way, class_=f"line {colour}"))
            else:
                parts.append(el("circle", cx=x(run[0][0]), cy=y(run[0][1]), r=2, class_="dot"))
        end_x, end_y = self.points[-1]
        parts.append(svg.shape(self.series, x(end_x), y(end_y), class_="dot"))
        return el("g", el("title", self.name) if self.name else None, *parts, class_=colour)

    def band(self, x: Scale, y: Scale) -> Html:
        parts = []
        for run in self.edges:
            corners = [(x(a), y(high)) for a, _, high in run]
            corners += [(x(a), y(low)) for a, low, _ in reversed(run)]
            shade = f"band {svg.series_class(self.series)}"
            parts.append(el("path", d=_way(corners) + "Z", class_=shade))
        return join(parts)


def _runs(pairs: Iterable[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in pairs:
        if y is not None:
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _way(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in corners)


def _thin_line(run: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep ends, lowest and highest value of each stretch: peaks stay visible."""
    if len(run) <= LINE_POINTS:
        return run
    kept: list[tuple[float, float]] = []
    stretches = LINE_POINTS // 2
    for index in range(stretches):
        part = run[index * len(run) // stretches : (index + 1) * len(run) // stretches]
        extremes = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        kept += sorted(extremes)
    return [run[0], *(point for point in kept if point not in (run[0], run[-1])), run[-1]]


def _mark(mark: Mark, x: Scale, frame: Frame) -> Html:
    at = x(mark.x)
    if not frame.left - 1 <= at <= frame.right + 1:
        return Html("")
    anchor = "end" if at > (frame.left + frame.right) / 2 else "start"
    name = svg.text(
        mark.text, at + (-4 if anchor == "end" else 4), frame.top - 3, anchor=anchor, class_="quiet"
    )
    return el(
        "g", el("path", d=f"M{at:.2f} {frame.top - 10:g}V{frame.bottom:g}", class_="mark"), name
    )


def _span(span: Span, x: Scale, frame: Frame) -> Html:
    start = max(x(span.start), frame.left)
    end = min(x(span.end), frame.right)
    if end <= start:
        return Html("")
    return el(
        "rect",
        el("title", span.text),
        x=start,
        y=frame.top,
        width=end - start,
        height=frame.bottom - frame.top,
        class_="span",
    )
