"""What a benchmark run writes: tables and summary."""

import io
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from pipelines.benchmarking.book import flat
from pipelines.benchmarking.config import BenchmarkConfig
from pipelines.benchmarking.evaluation import SINGLE, Evaluation
from pipelines.benchmarking.measuring import Measured
from pipelines.benchmarking.variants import Corpus
from pipelines.storage import Store
from pipelines.version import CODE_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT: Final = "talkmos-benchmark"
SCHEMA_VERSION: Final = 1
SUMMARY, REPORT = "summary.json", "report.html"
TABLE, TABLE_CSV = "table.parquet", "table.csv"
CURVES, VIDEOS, FAILURES = "curves.parquet", "videos.parquet", "failures.parquet"


@dataclass(frozen=True)
class Benchmark:
    """One evaluator on one corpus, as tables and reports show it.

    Attributes:
        summary: ``summary.json``.
        levels: Rows of ``curves.parquet``.
        misses: Rows of ``failures.parquet``.
    """

    summary: dict[str, Any]
    levels: list[dict[str, Any]]
    misses: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """Name of the evaluator; external text."""
        return str(self.summary["evaluator"]["name"])


def summarised(
    corpus: Corpus,
    found: Evaluation,
    measured: Measured,
    config: BenchmarkConfig,
    *,
    given: str,
    started: float,
) -> Benchmark:
    """Compose what is told of a run; ``given``: the evaluator as the command names it."""
    reasons = Counter(miss.reason for miss in found.misses)
    summary = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "code_version": CODE_VERSION,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "evaluator": {
            "name": config.name or found.name,
            "kind": found.kind,
            "given": given,
            "tasks": list(found.tasks),
            "speaks_for": list(found.speaks_for) if SINGLE in found.tasks else None,
            "demonstration": found.demonstration,
            "facts": dict(found.facts),
        },
        "corpus": {
            "where": corpus.where,
            "split": corpus.split,
            "digest": corpus.digest,
            "sources": len(corpus.clean),
            "videos": len(corpus.variants),
            "seed": corpus.plan.seed,
            "severities": list(corpus.plan.severities),
            "notes": corpus.notes,
        },
        "settings": config.ruler.model_dump(),
        "videos": {
            "asked": len(corpus.variants),
            "scored": len(corpus.variants) - len(found.misses),
            "failed": len(found.misses),
            "reasons": dict(sorted(reasons.items())),
        },
        "scopes": measured.scopes,
        "artefacts": measured.artefacts,
        "cells": measured.cells,
    }
    plain = _plain(summary)
    assert isinstance(plain, dict)
    return Benchmark(
        plain, [flat(row) for row in measured.levels], [asdict(miss) for miss in found.misses]
    )


def write_benchmark(store: Store, done: Benchmark, corpus: Corpus, found: Evaluation) -> None:
    """Write the tables, and the summary last: it says that they belong to it."""
    store.delete(SUMMARY)
    cells = _table([flat(row) for row in done.summary["cells"]], _CELL_TEXTS)
    _write(store, TABLE, cells)
    store.write_bytes(TABLE_CSV, _csv(cells))
    _write(store, CURVES, _table(done.levels, _CELL_TEXTS))
    _write(store, VIDEOS, _videos(corpus, found))
    _write(store, FAILURES, _table(done.misses, ("video_id", "reason", "message")))
    store.write_bytes(SUMMARY, json.dumps(done.summary, indent=1).encode())


_CELL_TEXTS: Final = ("type", "title", "group", "task", "relation", "blind")


def _table(rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> "pa.Table":
    """Make a table; columns that have no value anywhere keep their type."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row)) or list(texts)
    columns: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kind = None
        if name in texts or name.endswith("_reason"):
            kind = pa.string()
        elif all(value is None or isinstance(value, float) for value in values):
            kind = pa.float64()
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


def _videos(corpus: Corpus, found: Evaluation) -> "pa.Table":
    rows = [
        {
            "video_id": v.video_id,
            "source": v.source,
            "type": v.type,
            "severity": v.severity,
            "split": v.split,
            **{task: found.scores.get(v.video_id, {}).get(task) for task in found.tasks},
        }
        for v in corpus.variants
    ]
    return _table(rows, ("video_id", "source", "type", "split"))


def _write(store: Store, name: str, table: "pa.Table") -> None:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    store.write_bytes(name, sink.getvalue())


def _csv(table: "pa.Table") -> bytes:
    from pyarrow import csv

    sink = io.BytesIO()
    csv.write_csv(table, sink)
    return sink.getvalue()


def _plain(value: Any) -> Any:
    """Make NaN and infinity null: JSON has neither."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
