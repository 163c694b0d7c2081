"""Sums of cells: selectivity of an artefact, and everything of a group of artefacts.

Every step, curve and difference counts once, whichever artefact it is of. Makers are called after
the book has been resampled.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from actors.artefacts.artefact import GROUPS
from pipelines.benchmarking.book import Book, Figure, undefined
from pipelines.benchmarking.plan import COMBINATION

if TYPE_CHECKING:
    from pipelines.benchmarking.measuring import Entry

ALL: Final = "all"
COUNTED: Final = ("harmed", "follows")  # relations whose scores should fall
_REASONS: Final = {True: "no unharmed score", False: "no harmed score"}

Row = dict[str, Any]


def artefact_rows(entries: "Sequence[Entry]", book: Book) -> list[Callable[[], Row]]:
    """Prepare a row of selectivity for each artefact."""
    kinds = dict.fromkeys(entry.cell.type for entry in entries)
    return [_artefact([e for e in entries if e.cell.type == kind], book) for kind in kinds]


def scope_rows(entries: "Sequence[Entry]", book: Book) -> list[Callable[[Sequence[Row]], Row]]:
    """Prepare the rows of all artefacts and of each group.

    Types that training has seen and those held out from it stand apart, each without the cells
    that are declared blind, and with them where there are some. Combinations belong to no group.
    """
    makers = []
    for name in (ALL, *GROUPS):
        for held_out in (False, True):
            mine = [
                e
                for e in entries
                if e.cell.type != COMBINATION
                and e.cell.held_out == held_out
                and name in (ALL, e.cell.group)
            ]
            seen = [e for e in mine if not e.cell.blind]
            if seen:
                makers.append(_scope(seen, book, scope=name, held_out=held_out, blind=False))
            if len(seen) < len(mine):
                makers.append(_scope(mine, book, scope=name, held_out=held_out, blind=True))
    return makers


def _artefact(entries: "Sequence[Entry]", book: Book) -> Callable[[], Row]:
    cell = entries[0].cell
    quotient = _selectivity(entries, book)
    blind = next((e.cell.blind for e in entries if e.cell.blind), None)
    return lambda: {
        "type": cell.type,
        "title": cell.title,
        "group": cell.group,
        "held_out": cell.held_out,
        "blind": blind,
        **quotient(),
    }


def _selectivity(entries: "Sequence[Entry]", book: Book) -> Callable[[], dict[str, Figure]]:
    """Drops of harmed and changes of unharmed scores, and their quotient."""
    harmed = [e for e in entries if e.cell.relation == "harmed"]
    unharmed = [e for e in entries if e.cell.relation == "unharmed"]
    at = {
        "harmed_drop": book.pool([e.drop for e in harmed]),
        "harmed_drop_all": book.pool([e.drop_all for e in harmed]),
        "unharmed_drop": book.pool([e.drop for e in unharmed]),
        "unharmed_change": book.pool([e.change for e in unharmed]),
        "unharmed_change_all": book.pool([e.change_all for e in unharmed]),
    }

    def make() -> dict[str, Figure]:
        figures = {name: book.figure(p, _REASONS["un" in name]) for name, p in at.items()}
        return {
            **figures,
            "selectivity": book.quotient(at["harmed_drop"], at["unharmed_change"]),
            "selectivity_all": book.quotient(at["harmed_drop_all"], at["unharmed_change_all"]),
        }

    return make


def _scope(
    entries: "Sequence[Entry]", book: Book, *, scope: str, held_out: bool, blind: bool
) -> Callable[[Sequence[Row]], Row]:
    harmed = [e for e in entries if e.cell.relation == "harmed"]
    counted = [e for e in entries if e.cell.relation in COUNTED]
    total = _course(harmed, book)
    tasks = {
        task: _course([e for e in counted if e.cell.task == task], book)
        for task in dict.fromkeys(e.cell.task for e in counted)
    }
    quotient = _selectivity(entries, book)
    names = {(e.cell.type, e.cell.task) for e in harmed}
    return lambda rows: {
        "scope": scope,
        "held_out": held_out,
        "with_blind": blind,
        "types": list(dict.fromkeys(e.cell.type for e in entries)),
        **total(),
        "tasks": {task: make() for task, make in tasks.items()},
        **quotient(),
        "detected": _detected([row for row in rows if (row["type"], row["task"]) in names]),
    }


def _course(entries: "Sequence[Entry]", book: Book) -> Callable[[], Row]:
    """Whether scores that should fall do, step by step and along the curves."""
    from pipelines.benchmarking.measuring import FEW, NEVER

    falls = book.pool([e.falls for e in entries])
    srcc = book.pool([e.srcc for e in entries])
    changes = any(e.varies for e in entries)

    def make() -> Row:
        none = _REASONS[False]
        found = book.figure(srcc, FEW if entries else none)
        return {
            "cells": len(entries),
            "steps": int(book.ratio(falls).out_of.sum()),
            "monotonicity": book.figure(falls, none),
            "srcc": undefined(NEVER) if entries and not changes else found,
        }

    return make


def _detected(rows: Sequence[Row]) -> Row:
    """Count the cells whose artefact is detected at some severity; the median of these."""
    known = [value for row in rows if (value := row["smallest_severity"]["value"]) is not None]
    return {
        "cells": len(rows),
        "detected": len(known),
        "median": statistics.median(known) if known else None,
    }
