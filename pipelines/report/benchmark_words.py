"""Words and cells that all parts of a benchmark report share."""

from collections.abc import Mapping
from typing import Any, Final

from pipelines.report.html import DASH, Html, el, finite, join, name_of, number
from pipelines.report.names import SHORT as TASK_NAMES
from pipelines.report.notes import Notes, interval
from pipelines.report.page import Cell

SHORT: Final = {**TASK_NAMES, "score": "score"}
SCOPES: Final = {
    "all": "all artefacts",
    "sound": "sound",
    "sync": "sync",
    "picture": "picture",
    "face": "face",
}
RELATIONS: Final = {"harmed": "should fall", "follows": "falls with them", "unharmed": "stays"}


def scope_title(scope: Mapping[str, Any]) -> str:
    """Name a group of artefacts, and which part of it."""
    title = SCOPES.get(str(scope["scope"]), str(scope["scope"]))
    parts = []
    if scope["held_out"]:
        parts.append("held out from training")
    if scope["with_blind"]:
        parts.append("with those declared blind")
    return title + (f" ({', '.join(parts)})" if parts else "")


def value_of(figure: Mapping[str, Any] | None) -> float | None:
    """Return the value of a figure."""
    return None if figure is None else finite(figure.get("value"))


def written(figure: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Write a figure with its interval as plain text."""
    value = value_of(figure)
    if figure is None or value is None:
        return DASH
    low, high = finite(figure.get("low")), finite(figure.get("high"))
    bounds = "" if low is None or high is None else f" {interval(low, high, digits)}"
    return number(value, digits) + bounds


def figure_with_interval(figure: Mapping[str, Any] | None, notes: Notes, digits: int = 2) -> Cell:
    """Make the cell of a figure: value, interval below it, and a letter for a reason."""
    value = value_of(figure)
    if figure is None:
        return Cell(DASH, None)
    reason = str(figure.get("reason") or "")
    mark = notes.mark(reason) if reason else None
    if value is None:
        return Cell(join([DASH, mark]), None)
    low, high = finite(figure.get("low")), finite(figure.get("high"))
    bounds = None if low is None or high is None else el("small", interval(low, high, digits))
    return Cell(join([number(value, digits), mark, bounds]), value)


def ratio_written(figure: Mapping[str, Any] | None) -> str:
    """Write a selectivity without its interval; one that was limited says so."""
    value = value_of(figure)
    if figure is None or value is None:
        return DASH
    limited = "limited" in str(figure.get("reason") or "")
    return f"\u2265 {value:g}" if limited else number(value, 1)


def ratio_cell(figure: Mapping[str, Any] | None, notes: Notes) -> Cell:
    """Make the cell of a selectivity."""
    value = value_of(figure)
    if figure is None or value is None:
        return figure_with_interval(figure, notes)
    reason = str(figure.get("reason") or "")
    low, high = finite(figure.get("low")), finite(figure.get("high"))
    bounds = None if low is None or high is None else el("small", interval(low, high, 1))
    return Cell(
        join([ratio_written(figure), notes.mark(reason) if reason else None, bounds]), value
    )


def severity_cell(figure: Mapping[str, Any], notes: Notes, *, combined: bool) -> Cell:
    """Make the cell of the smallest severity that is detected; never sorts last.

    Args:
        figure: Of the summary.
        notes: Of the table.
        combined: It is of combinations, which have no severity.
    """
    value = value_of(figure)
    reason = str(figure.get("reason") or "")
    mark = notes.mark(reason) if reason else None
    if value is None:
        return Cell(join([DASH if combined else "never", mark]), None)
    low, high = finite(figure.get("low")), finite(figure.get("high"))
    bounds = None
    if low is not None:
        end = "never" if high is None else f"{high:g}"
        bounds = el("small", f"[{low:g}, {end}]")
    return Cell(join([f"{value:g}", mark, bounds]), value)


def artefact_name(row: Mapping[str, Any]) -> Html:
    """Name an artefact in a table, with what sets it apart."""
    tags = []
    if row.get("held_out"):
        tags.append("held out from training")
    if row.get("blind"):
        tags.append("declared blind")
    below = el("small", ", ".join(tags)) if tags else None
    return join([el("span", name_of(row["title"])), below])
