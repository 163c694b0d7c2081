"""Whose an output is: no file of somebody else's, and no other evaluator's, is replaced."""

import json
from dataclasses import dataclass
from typing import Any, Final

from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.output import (
    CURVES,
    FAILURES,
    FORMAT,
    REPORT,
    SCHEMA_VERSION,
    SUMMARY,
    TABLE,
    TABLE_CSV,
    VIDEOS,
)
from pipelines.benchmarking.scored import MANIFEST
from pipelines.storage import MissingError, Store
from pipelines.uris import display_text

MARK: Final = "benchmark.json"
COMPARISON: Final = "comparison"
_WRITTEN: Final = (
    MARK, SUMMARY, REPORT, TABLE, TABLE_CSV, CURVES, VIDEOS, FAILURES, MANIFEST,
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """An evaluator as the command names it: what another run into the same output must name, too.

    Attributes:
        kind: ``checkpoint``, ``scores``, ``command``, ``callable`` or ``peer``.
        what: The option's value, paths absolute, without credentials.
    """

    kind: str
    what: str


def check_output(store: Store, given: Given | None) -> None:
    """Refuse an output whose files are not this run's to replace.

    Args:
        store: The output.
        given: The evaluator; None: only a comparison is written.

    Raises:
        BenchmarkInputError: It holds something else, or the benchmark of another evaluator.
        StorageError: It cannot be read.
    """
    if store.exists("run.json") or store.exists("plan.json"):
        raise BenchmarkInputError(
            f"{store.display('')} holds something else than a benchmark (run.json or plan.json): "
            "choose another --out"
        )
    summary, mark = _ours(store, SUMMARY), _ours(store, MARK)
    if summary is None and mark is None:
        for name in _WRITTEN:
            if store.exists(name):
                raise BenchmarkInputError(
                    f"{store.display(name)} was not written by jobs/benchmark.py and would be "
                    "replaced: choose another --out"
                )
    if summary is not None:
        _check_evaluator(store, summary.get("evaluator"), given)
    elif mark is not None and given is not None and mark.get("holds") == COMPARISON:
        raise BenchmarkInputError(
            f"{store.display(REPORT)} is a comparison of evaluators and would be replaced: choose "
            "another --out"
        )


def claim(store: Store, given: Given | None) -> None:
    """Note, under the lock, that what will be written is this command's: a run may be stopped."""
    if _ours(store, MARK) is None:
        holds = COMPARISON if given is None else "evaluator"
        mark = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "holds": holds}
        store.write_bytes(MARK, json.dumps(mark).encode())


def _check_evaluator(store: Store, there: Any, given: Given | None) -> None:
    there = there if isinstance(there, dict) else {}
    kind, what = there.get("kind"), there.get("given")
    # Outputs of earlier versions do not say what was given.
    if given is not None and kind == given.kind and what in (None, given.what):
        return
    name = display_text(str(there.get("name")), 60)
    whose, would = ("an", "report") if given is None else ("another", "figures")
    raise BenchmarkInputError(
        f"{store.display('')} holds the benchmark of {whose} evaluator, {name} "
        f"({display_text(str(kind), 20)} {display_text(str(what or ''), 200)}".rstrip()
        + f"), whose {would} would be replaced: choose another --out, or remove "
        f"{store.display(SUMMARY)}"
    )


def _ours(store: Store, name: str) -> dict[str, Any] | None:
    """Read a file of ours; None when there is none, or it is somebody else's."""
    try:
        found = json.loads(store.read_bytes(name))
    except (MissingError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None
