"""What all charts share: the drawing with its title, legends, axes, plain shapes.

Colours are CSS variables of the page (``pipelines.report.assets``); a chart only names classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.report.axes import Scale, log_tick_texts, log_ticks, tick_texts, ticks
from pipelines.report.html import Html, el, join

WIDTH = 360.0  # a phone's width: a chart is drawn for it and grows from there
CHARACTER = 6.7  # average width of a character in a wide font, in the drawing's units
SERIES = 8  # colours before they repeat


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle between the axes, in the drawing's units."""

    left: float
    top: float
    right: float
    bottom: float


def drawing(
    parts: Sequence[object], width: float, height: float, title: str, description: str
) -> Html:
    """Wrap shapes into a picture with a name and a description for those who cannot see it."""
    return el(
        "svg",
        el("title", title),
        el("desc", description) if description else None,
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        class_="chart",
        role="img",
        viewBox=f"0 0 {width:g} {height:g}",
    )


def empty(title: str, reason: str, width: float = WIDTH, height: float = 120.0) -> Html:
    """Draw a picture that says why there is nothing to draw."""
    lines = wrap(reason, width - 40)
    first = height / 2 - (len(lines) - 1) * 8
    shapes = [
        text(line, width / 2, first + 16 * index, anchor="middle", class_="quiet")
        for index, line in enumerate(lines)
    ]
    box = el("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=6, class_="placeholder")
    return drawing([box, *shapes], width, height, title, reason)


def text(
    content: str,
    x: float,
    y: float,
    *,
    anchor: str | None = None,
    class_: str | None = None,
    turn: float | None = None,
) -> Html:
    """Place text, turned by ``turn`` degrees about its anchor."""
    transform = None if turn is None else f"rotate({turn:g} {x:.2f} {y:.2f})"
    return el("text", content, x=x, y=y, text_anchor=anchor, class_=class_, transform=transform)


def wrap(content: str, width: float) -> list[str]:
    """Break text at spaces into lines of about ``width`` units."""
    room = max(int(width / CHARACTER), 8)
    lines: list[str] = []
    for word in content.split():
        if lines and len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines or [""]


def cut(content: str, width: float) -> str:
    """Shorten text in the middle to about ``width`` units."""
    room = max(int(width / CHARACTER), 3)
    if len(content) <= room:
        return content
    head = (room - 1 + 1) // 2
    return f"{content[:head]}…{content[len(content) - (room - 1 - head) :]}"


def series_class(index: int) -> str:
    """Return the class that gives series ``index`` its colour."""
    return f"s{index % SERIES}"


def shape(kind: int, x: float, y: float, size: float = 4.0, **attributes: object) -> Html:
    """Draw the mark of series ``kind``: colours alone must not be needed to tell lines apart."""
    marks: dict[int, list[tuple[float, float]]] = {
        1: [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        2: [(0, -1.25), (1.15, 0.9), (-1.15, 0.9)],
        3: [(0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)],
        4: [(0, 1.25), (1.15, -0.9), (-1.15, -0.9)],
        5: [(-0.45, -1.3), (0.45, -1.3), (0.45, 1.3), (-0.45, 1.3)],
        6: [(-1.3, -0.45), (1.3, -0.45), (1.3, 0.45), (-1.3, 0.45)],
    }
    corners = marks.get(kind % SERIES)
    if corners is None:
        return el("circle", cx=x, cy=y, r=size, **attributes)
    points = " ".join(f"{x + size * dx:.2f},{y + size * dy:.2f}" for dx, dy in corners)
    return el("polygon", points=points, **attributes)


def legend(
    entries: Sequence[tuple[str, int | None]], left: float, right: float
) -> tuple[Html, float]:
    """Place names and marks of series in rows from the top; returns them and the height taken.

    An entry whose series is ``None`` stands there without a mark: what is not drawn, and why.
    """
    if len(entries) < 2:
        return Html(""), 0.0
    parts: list[Html] = []
    x, y = left, 11.0
    for name, kind in entries:
        room = (6 if kind is None else 20) + len(name) * CHARACTER
        if x > left and x + room > right:
            x, y = left, y + 17
        if kind is None:
            parts.append(text(name, x, y, class_="quiet"))
        else:
            parts.append(shape(kind, x + 5, y - 4, class_=f"dot {series_class(kind)}"))
            parts.append(text(name, x + 14, y))
        x += room + 8
    return join(parts), y + 9


def upright_rules(x: Scale, frame: Frame) -> list[Html]:
    """Draw a vertical line and a number below it at each tick of ``x``."""
    parts = []
    values = ticks(x.low, x.high, 4)
    for value, written in zip(values, tick_texts(values), strict=True):
        at = x(value)
        parts.append(el("path", d=f"M{at:.2f} {frame.top:g}V{frame.bottom:g}", class_="rule"))
        parts.append(text(written, at, frame.bottom + 14, anchor="middle"))
    return parts


def axes(
    frame: Frame,
    x: Scale,
    y: Scale,
    *,
    x_label: str,
    y_label: str,
    whole_x: bool = False,
) -> Html:
    """Draw grid lines, ticks, their figures and the names of the axes."""
    parts = []
    y_ticks, y_texts = _marks(y, whole=False)
    for value, written in zip(y_ticks, y_texts, strict=True):
        at = y(value)
        parts.append(el("path", d=f"M{frame.left:g} {at:.2f}H{frame.right:g}", class_="rule"))
        parts.append(text(written, frame.left - 6, at + 4, anchor="end"))
    x_ticks, x_texts = _marks(x, whole=whole_x)
    for value, written in zip(x_ticks, x_texts, strict=True):
        at = x(value)
        tick = f"M{at:.2f} {frame.bottom:g}v4"
        parts.append(el("path", d=tick, class_="axis"))
        # The last figure would else be cut off by the edge of the picture.
        centre = min(at, WIDTH - len(written) * CHARACTER / 2)
        parts.append(text(written, centre, frame.bottom + 16, anchor="middle"))
    parts.append(el("path", d=f"M{frame.left:g} {frame.bottom:g}H{frame.right:g}", class_="axis"))
    middle = (frame.left + frame.right) / 2
    parts.append(text(x_label, middle, frame.bottom + 32, anchor="middle", class_="quiet"))
    if y_label:
        height = (frame.top + frame.bottom) / 2
        parts.append(text(y_label, 11, height, anchor="middle", class_="quiet", turn=-90))
    return join(parts)


def _marks(scale: Scale, *, whole: bool) -> tuple[list[float], list[str]]:
    if scale.log:
        values = log_ticks(scale.low, scale.high)
        return values, log_tick_texts(values)
    values = ticks(scale.low, scale.high, whole=whole)
    return values, tick_texts(values)


def y_room(scale: Scale) -> float:
    """Return the units that the figures of the vertical axis take."""
    _, texts = _marks(scale, whole=False)
    return max((len(written) for written in texts), default=1) * CHARACTER
