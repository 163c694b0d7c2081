"""The page around a report: one file without network, with tables, figures and facts."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.report.assets import SCRIPT, STYLE
from pipelines.report.html import DASH, Html, el, escape, finite, isolated, name_of, number


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; ``key`` is its anchor (letters, digits, hyphens; unique)."""

    key: str
    title: str
    body: Html


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; ``kind`` decides alignment and order when sorted.

    ``order`` says that the rows come sorted by this column.
    """

    title: str
    kind: Literal["text", "name", "number"] = "text"
    order: Literal["ascending", "descending"] | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: what is shown, and what it is sorted by (``None``: last)."""

    shown: object
    sort: float | str | None = None


def figure_cell(value: float | None, digits: int = 3) -> Cell:
    """Make the cell of a figure; an undefined one shows a dash and sorts last."""
    known = finite(value)
    return Cell(DASH if known is None else number(known, digits), known)


def name_cell(text: object, limit: int = 80) -> Cell:
    """Make the cell of an external name, which is sorted by what is shown of it."""
    return Cell(isolated(text, limit), name_of(text, limit))


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell | object]],
    *,
    label: str,
    tall: bool = False,
    key: str | None = None,
) -> Html:
    """Build a table in a box of its own that scrolls when it is wider than the page.

    Args:
        columns: Heads, which are buttons that sort when there are several rows.
        rows: Cells; a plain value is shown as it is. The first cell heads its row.
        label: What the table holds, for those who cannot see it.
        tall: Limit the height; the box scrolls.
        key: The table's ``id``, where something refers to it.
    """
    sortable = len(rows) > 1
    heads = [
        el(
            "th",
            el("button", column.title, type="button") if sortable else column.title,
            scope="col",
            class_=_kind(column),
            aria_sort=column.order if sortable else None,
        )
        for column in columns
    ]
    body = [
        el("tr", *(_cell(cell, columns[place], place) for place, cell in enumerate(row)))
        for row in rows
    ]
    built = el(
        "table",
        el("thead", el("tr", *heads)),
        el("tbody", *body),
        class_="sortable" if sortable else None,
        id=key,
        aria_label=label,
    )
    # A box that scrolls must be reachable by keyboard.
    return el(
        "div",
        built,
        class_="scroll tall" if tall else "scroll",
        tabindex=0,
        role="region",
        aria_label=label,
    )


def _kind(column: Column) -> str | None:
    return None if column.kind == "text" else column.kind


def _cell(cell: Cell | object, column: Column, place: int) -> Html:
    if not isinstance(cell, Cell):
        cell = Cell(cell, None if column.kind == "number" else str(cell))
    kind = _kind(column)
    attributes: dict[str, object] = {"class_": kind}
    if column.kind == "number":
        value = finite(cell.sort) if isinstance(cell.sort, int | float) else None
        attributes["data_v"] = "" if value is None else f"{value:.12g}"
        if value is None:
            attributes["class_"] = "number none"
    elif isinstance(cell.shown, Html):
        attributes["data_v"] = cell.sort or ""
    if place == 0:
        return el("th", cell.shown, scope="row", **attributes)
    return el("td", cell.shown, **attributes)


def figure(chart: Html, title: str, note: str = "", *, points: bool = False) -> Html:
    """Frame a chart with its caption.

    Args:
        chart: The picture.
        title: Caption.
        note: Less important words after the caption.
        points: A scatter plot, whose points are named when pointed at.
    """
    said = el("span", f" {note}", class_="quiet") if note else None
    readout = el("output", "Point at a dot to see its video.") if points else None
    caption = el("figcaption", title, said)
    return el("figure", caption, chart, readout, class_="scatter" if points else None)


def tile(
    title: str,
    big: object,
    below: object = None,
    bits: Sequence[object] = (),
    *,
    defined: bool = True,
) -> Html:
    """Show one figure large, with less important words below.

    Args:
        title: What the figure is.
        big: The figure; when it is not ``defined``, the word for that.
        below: Its interval, or why it is undefined.
        bits: Further short figures.
        defined: Whether there is a figure.
    """
    return el(
        "div",
        el("div", title, class_="name"),
        el("div", big, class_="big" if defined else "big none"),
        None if below is None else el("div", below, class_="small"),
        el("div", *(el("span", bit, class_="bit") for bit in bits), class_="small"),
        class_="tile",
    )


def grid(*figures: Html) -> Html:
    """Lay figures beside each other where there is room."""
    return el("div", *figures, class_="grid")


def details(summary: str, *body: object, opened: bool = False) -> Html:
    """Fold something away under its summary."""
    return el("details", el("summary", summary), *body, open=opened)


def facts(values: Mapping[str, object]) -> Html:
    """List names and values; values of ``None`` are left out."""
    parts = [
        part
        for name, value in values.items()
        if value is not None
        for part in (el("dt", name), el("dd", value))
    ]
    return el("dl", *parts, class_="facts")


def code(text: object) -> Html:
    """Show a digest, a path or a URI."""
    return el("code", name_of(text, 300))


def code_name(text: object) -> Html:
    """Show a name or URI from outside as code, isolated from the direction of what is around."""
    return el("code", isolated(text, 300))


def page(
    title: str,
    subtitle: object,
    sections: Sequence[Section],
    *,
    banner: str = "",
    footer: object = "",
    style: str = STYLE,
    script: str = SCRIPT,
    media: bool = False,
) -> str:
    """Write the whole document.

    A content security policy lets nothing in from outside and runs no script but ours, so that
    even text that slipped through unescaped could load or do nothing.

    Args:
        title: Heading of the page.
        subtitle: Below the heading.
        sections: Parts in order; the contents at the top link to them.
        banner: A warning above everything, where there is one.
        footer: Last words.
        style: Style sheet.
        script: The only script that runs.
        media: The page holds films.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    policy += f"script-src 'sha256-{digest}'"
    if media:
        policy += "; media-src data:"
    links = [el("li", el("a", part.title, href=f"#{part.key}")) for part in sections]
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", Html(style)),
    )
    top = el(
        "header",
        el("h1", title),
        el("p", subtitle, class_="quiet"),
        el("div", el("p", banner), class_="banner", role="note") if banner else None,
        el("nav", el("ul", *links), aria_label="Contents"),
        class_="top",
    )
    body = [
        el("section", el("h2", part.title, id=f"{part.key}-title"), part.body,
           id=part.key, aria_labelledby=f"{part.key}-title")
        for part in sections
    ]  # fmt: skip
    last = el("footer", el("p", footer)) if footer else None
    whole = el("body", top, el("main", *body), last, el("script", Html(script)))
    return f"<!DOCTYPE html>\n{el('html', head, whole, lang='en')}\n"


def text_of(value: object) -> Html:
    """Show a value of a report as text: external names safely, numbers short."""
    return escape(name_of(value, 300))
