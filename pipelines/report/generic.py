"""Nested plain values (what a JSON file holds) as tables and lists, whatever their keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.html import DASH, Html, el, finite, join, name_of, short_number
from pipelines.report.page import Cell, Column, details, facts, table, text_of

ITEMS = 20  # of a list of plain values
ROWS = 200  # of a table
NAME = "\0name"  # the column of a mapping's keys; no key of a file is called so
LONG = 40  # characters of a text that has a line of its own


def generic(values: Mapping[str, Any], depth: int = 0) -> Html:
    """Show a mapping: plain values as facts, lists of records and mappings of them as tables.

    Keys and values are external text. Long lists are cut, and the page says how much is left out.

    Args:
        values: What to show.
        depth: Nesting so far; deeper headings are smaller, below two levels folded away.
    """
    plain: dict[str, object] = {}
    parts: list[Html] = []
    for key, value in values.items():
        shown = _shown(value)
        if shown is not None:
            plain[_title(key)] = shown
            continue
        body = _nested(value, _title(key), depth)
        if depth >= 2:
            parts.append(details(_heading(key), body))
        else:
            parts.append(join([el("h3" if depth == 0 else "h4", _heading(key)), body]))
    return join([facts(plain) if plain else None, *parts])


def bullets(texts: Sequence[object]) -> Html:
    """List texts one below the other; of more than 20 the rest is counted."""
    more = len(texts) - ITEMS
    items = [el("li", name_of(_plain(text), 1000)) for text in texts[:ITEMS]]
    return el("ul", *items, el("li", f"and {more:,} more") if more > 0 else None)


def _title(key: object) -> str:
    return name_of(str(key).replace("_", " "), 60)


def _heading(key: object) -> str:
    title = _title(key)
    return title[:1].upper() + title[1:]


def _shown(value: Any) -> Html | None:
    """Show a plain value or a list of them; ``None`` for what needs a table."""
    if isinstance(value, Mapping):
        return None if value else text_of("none")
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            return text_of("none")
        if any(isinstance(item, Mapping) for item in value):
            return None
        if any(isinstance(item, str) and len(item) > LONG for item in value):
            return bullets(value)
        first = ", ".join(str(_plain(item)) for item in value[:ITEMS])
        more = len(value) - ITEMS
        # The cut is said outside of what may itself be cut for its length.
        return join([name_of(first, 1000), f" and {more:,} more" if more > 0 else ""])
    return text_of(_plain(value))


def _plain(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return short_number(value) if finite(value) is not None else "undefined"
    return str(value)


def _nested(value: Any, title: str, depth: int) -> Html:
    if isinstance(value, Mapping):
        records = [part for part in value.values() if isinstance(part, Mapping)]
        if len(records) == len(value) and _alike(records):
            return _table(title, [{NAME: key, **part} for key, part in value.items()])
        return generic(value, depth + 1)
    records = [part for part in value if isinstance(part, Mapping)]
    if len(records) == len(value) and _alike(records):
        return _table(title, records)
    return join([generic(part, depth + 1) if isinstance(part, Mapping) else _shown(part)
                 for part in value[:ITEMS]])  # fmt: skip


def _alike(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether records are rows of one table: plain values, and mostly the same keys."""
    if any(isinstance(value, Mapping) for record in records for value in record.values()):
        return False
    keys = [set(record) for record in records]
    return 2 * len(set.intersection(*keys)) >= len(set.union(*keys))


def _table(title: str, records: Sequence[Mapping[str, Any]]) -> Html:
    keys = list(dict.fromkeys(key for record in records for key in record))
    columns = []
    for place, key in enumerate(keys):
        values = [record.get(key) for record in records]
        figures = all(
            value is None or (isinstance(value, int | float) and not isinstance(value, bool))
            for value in values
        )
        title_of = "name" if key == NAME else _title(key)
        columns.append(Column(title_of, "number" if figures and place else "text"))
    rows = [
        [_cell(record.get(key), column) for key, column in zip(keys, columns, strict=True)]
        for record in records[:ROWS]
    ]
    built = table(columns, rows, label=title, tall=len(rows) > 15)
    more = len(records) - ROWS
    return join([built, el("p", f"and {more:,} more rows", class_="quiet") if more > 0 else None])


def _cell(value: Any, column: Column) -> Cell:
    if column.kind == "number":
        return Cell(_plain(value), value)
    # Sorted as it reads: lists and the like have no other order.
    return Cell(_shown(value), None if value is None else _plain(value))
