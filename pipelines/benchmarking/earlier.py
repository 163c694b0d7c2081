"""Reading the output of an earlier run again, for comparison."""

import json
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.output import (
    CURVES,
    FAILURES,
    FORMAT,
    SCHEMA_VERSION,
    SUMMARY,
    Benchmark,
)
from pipelines.storage import MissingError, Store
from pipelines.uris import display_text

_COLUMNS: Final = {
    CURVES: ("type", "task", "relation", "group", "severity", "score", "score_low", "score_high"),
    FAILURES: ("video_id", "reason", "message"),
}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Figure(_Part):
    value: float | None
    low: float | None
    high: float | None
    reason: str | None


class _Selectivity(_Part):
    selectivity: _Figure
    harmed_drop: _Figure
    unharmed_drop: _Figure
    unharmed_change: _Figure


class _Course(_Part):
    steps: int
    monotonicity: _Figure
    srcc: _Figure


class _Detected(_Part):
    cells: int
    detected: int
    median: float | None


class _Scope(_Selectivity, _Course):
    scope: str
    held_out: bool
    with_blind: bool
    types: list[str]
    tasks: dict[str, _Course]
    detected: _Detected


class _Artefact(_Selectivity):
    type: str
    title: str
    group: str | None
    held_out: bool
    blind: str | None


class _Cell(_Course):
    type: str
    title: str
    group: str | None
    task: str
    relation: str
    points: float | None
    held_out: bool
    blind: str | None
    ties: int
    sources: int
    missing: int
    srcc_pooled: _Figure
    drop: _Figure
    drop_all: _Figure
    change: _Figure
    smallest_severity: _Figure


class _Evaluator(_Part):
    name: str
    kind: str
    speaks_for: list[str] | None
    demonstration: bool
    facts: dict[str, Any]


class _Corpus(_Part):
    where: str
    split: str
    digest: str
    sources: int
    videos: int
    seed: Any
    severities: list[float]
    notes: list[str]


class _Videos(_Part):
    asked: int
    scored: int
    failed: int
    reasons: dict[str, int]


class _Settings(_Part):
    level: float
    tolerance: float
    cap: float
    alpha: float


class _Summary(_Part):
    """What tables and reports read of ``summary.json``."""

    code_version: str
    started: str
    seconds: float
    evaluator: _Evaluator
    corpus: _Corpus
    settings: _Settings
    videos: _Videos
    scopes: list[_Scope]
    artefacts: list[_Artefact]
    cells: list[_Cell]


def read_benchmark(uri: str, digest: str | None = None) -> Benchmark:
    """Read the output of an earlier run.

    Args:
        uri: Its folder.
        digest: Of the corpus that it must be about; None: of any.

    Raises:
        BenchmarkInputError: There is none, it is damaged, or it is about other videos.
        StorageError: It cannot be read.
    """
    store = Store.at(uri)
    if not store.exists(SUMMARY):
        raise BenchmarkInputError(
            f"--compare {store.display('')}: there is no {SUMMARY}; name the --out of a "
            "jobs/benchmark.py that has ended"
        )
    summary = _summary(store)
    there = summary["corpus"]
    if digest is not None and there["digest"] != digest:
        raise BenchmarkInputError(
            f"--compare {store.display('')} was measured on other videos "
            f"({display_text(there['where'])}, split {display_text(there['split'], 20)}, "
            f"{there['videos']} videos): evaluators are comparable on the same ones only"
        )
    return Benchmark(summary, _rows(store, CURVES), _rows(store, FAILURES))


def _summary(store: Store) -> dict[str, Any]:
    try:
        summary = json.loads(store.read_bytes(SUMMARY))
        known = summary["format"] == FORMAT and summary["schema_version"] == SCHEMA_VERSION
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise BenchmarkInputError(
            f"--compare {store.display(SUMMARY)} was not written by this version of "
            "jobs/benchmark.py: measure the evaluator again"
        )
    try:
        _Summary.model_validate(summary)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BenchmarkInputError(
            f"--compare {store.display(SUMMARY)} is damaged ({display_text(place, 80)}: "
            f"{display_text(first['msg'], 100)}): measure the evaluator again"
        ) from None
    assert isinstance(summary, dict)
    return summary


def _rows(store: Store, name: str) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(store.read_bytes(name)))
        missing = [column for column in _COLUMNS[name] if column not in table.column_names]
        problem = f"has no column {missing[0]}" if table.num_rows and missing else None
    except MissingError:
        problem = "is missing"
    except (pa.ArrowInvalid, OSError) as error:
        problem = f"cannot be read: {display_text(str(error), 200)}"
    if problem:
        raise BenchmarkInputError(
            f"--compare {store.display(name)} {problem}: measure the evaluator again"
        )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
