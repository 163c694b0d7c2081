"""Opinion scores of videos: the label table, read and checked."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.config import Config
from model.tasks import TASKS
from pipelines.storage import open_uri
from pipelines.train_errors import TrainInputError
from pipelines.training.label_file import (
    KEYS,
    RATERS,
    STD,
    Problems,
    RawTable,
    key_column,
    key_of,
    known_columns,
    raters,
    read_raw,
    score,
    slip,
    spread,
    text,
)
from pipelines.training.spans import ProblemSpans, read_spans
from pipelines.training.variant_columns import VariantTable, read_variants
from pipelines.uris import display_text

F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]

_ADVICE: Final = (
    "Scores lie in [1, 5]; a missing one is -1, empty, null or NaN. Other scales must be mapped to "
    "[1, 5] first. Severities lie in [0, 1]."
)


class LabelsConfig(Config):
    """Which opinion scores to learn from."""

    labels: str = ""
    """Table with one video a row (.csv, .jsonl, .parquet), a local path or a URI: ``video_id`` or
    ``uri``, the five tasks in [1, 5], and optionally ``<task>_std`` and ``<task>_n``, or
    what is known of controlled damage: ``source``, ``type`` and ``severity``."""
    spans: str | None = None
    """Table of problem spans: ``video_id``, ``start_s``, ``end_s`` (seconds), ``task``, ``text``.
    None: there is none."""
    weight_by: Literal["none", "raters", "spread"] = "none"
    """What a label counts for in the loss beside its clips. ``none``: all alike. ``raters``: in
    proportion to the number of raters. ``spread``: the less, the less certain the mean of its
    raters is."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The label table. V videos, N = 5 tasks in the order of :data:`model.tasks.TASKS`.

    Attributes:
        where: The file, for messages.
        digest: 16 hex digits of its content.
        by: What the keys are: ``video_id``, or ``uri``: full addresses without credentials.
        keys: [V] distinct.
        rows: [V] row of the file, as a person counts it.
        values: [V, N] scores in [1, 5], NaN where missing.
        std: [V, N] spread of the raters, NaN where unknown.
        raters: [V, N] number of raters, NaN where unknown.
        weights: [V, N] what a label counts for, 1 on average over the labels of a task.
        absent: Tasks that have no column at all.
        extra: Other columns as text, None where empty: ``split``, ``speaker``, ``generator`` …
        spans: Problem spans, None without such a table.
        variants: Known damage, None when the columns ``source``, ``type`` and ``severity`` are not
            all there; they are in ``extra`` as well.
    """

    where: str
    digest: str
    by: str
    keys: list[str]
    rows: I64
    values: F64
    std: F64
    raters: F64
    weights: F64
    absent: tuple[str, ...]
    extra: dict[str, list[str | None]]
    spans: ProblemSpans | None = None
    variants: VariantTable | None = None

    @property
    def errors(self) -> F64:
        """[V, N] standard errors of the means, std / sqrt(raters), NaN where std is unknown.

        Where the number of raters is unknown, the label is taken for the word of one.
        """
        return np.asarray(self.std / np.sqrt(np.where(self.raters > 0, self.raters, 1.0)))

    def __len__(self) -> int:
        return len(self.keys)


def read_labels(config: LabelsConfig) -> LabelTable:
    """Read and check the label table and, where there is one, the table of problem spans.

    Raises:
        TrainInputError: The table cannot be used; one message names file, row, column and value of
            up to 20 problems.
        StorageError: The storage refuses or fails.
    """
    if not config.labels:
        raise TrainInputError("no label table was given: name a .csv, .jsonl or .parquet file")
    table = read_raw(config.labels)
    key = key_column(table)
    _check_columns(table)
    problems = Problems(table.where, _ADVICE)
    keys = _keys(table, key, problems)
    values = _numbers(table, "", score, problems)
    std = _numbers(table, STD, spread, problems)
    count = _numbers(table, RATERS, raters, problems)
    for row, task in np.argwhere((count == 0) & ~np.isnan(values)):
        problems.add(f"row {table.rows[row][0]}, {TASKS[task]}: a score, and 0 raters")
    variants = read_variants(table, problems)
    problems.raise_if_any()
    extra = {
        name: [text(cells.get(name)) for _, cells in table.rows]
        for name in table.columns
        if name not in known_columns() or (name in KEYS and name != key)
    }
    return LabelTable(
        where=table.where,
        digest=_file_digest(config.labels),
        by=key,
        keys=keys,
        rows=np.array([row for row, _ in table.rows], np.int64),
        values=values,
        std=std,
        raters=count,
        weights=_weights(table.where, config.weight_by, values, std, count),
        absent=tuple(task for task in TASKS if task not in table.columns),
        extra=extra,
        spans=None if config.spans is None else read_spans(config.spans),
        variants=variants,
    )


def _check_columns(table: RawTable) -> None:
    slips = {name: slip(name, table.columns) for name in table.columns}
    wrong = {name: meant for name, meant in slips.items() if meant and name not in known_columns()}
    if wrong:
        lines = [
            f"{table.where}: column {display_text(repr(name), 60)}: did you mean {meant}? Rename "
            "it, also if it means something else"
            for name, meant in wrong.items()
        ]
        raise TrainInputError("\n".join(lines))
    if not set(TASKS) & set(table.columns):
        have = ", ".join(display_text(repr(name), 60) for name in table.columns)
        raise TrainInputError(
            f"{table.where}: none of the columns {', '.join(TASKS)} is there (the columns are: "
            f"{have})"
        )


def _keys(table: RawTable, column: str, problems: Problems) -> list[str]:
    keys: list[str] = []
    seen: dict[str, tuple[int, Mapping[str, object]]] = {}
    for row, cells in table.rows:
        key = key_of(cells, column, table.folder)
        if key is None:
            problems.add(f"row {row}: no {column}")
            continue
        if key in seen:
            first, before = seen[key]
            other = ", ".join(
                f"{name}: {display_text(str(before.get(name)), 40)} and "
                f"{display_text(str(cells.get(name)), 40)}"
                for name in table.columns
                if before.get(name) != cells.get(name)
                and text(before.get(name)) != text(cells.get(name))
            )
            problems.add(
                f"rows {first} and {row}: both are about {display_text(key, 120)}; a video has one "
                f"row{f' (they differ in {other})' if other else ''}"
            )
            continue
        seen[key] = row, cells
        keys.append(key)
    return keys


def _numbers(table: RawTable, end: str, read: Callable[[object], float], problems: Problems) -> F64:
    """Read the columns ``<task><end>``, [V, N]; NaN where missing."""
    found = np.full((len(table.rows), len(TASKS)), math.nan)
    for n, task in enumerate(TASKS):
        column = task + end
        if column not in table.columns:
            continue
        for v, (row, cells) in enumerate(table.rows):
            value = cells.get(column)
            try:
                found[v, n] = read(value)
            except ValueError as error:
                problems.add(f"row {row}, {column}: {display_text(repr(value), 40)} {error}")
    return found


def _weights(where: str, by: str, values: F64, std: F64, count: F64) -> F64:
    """Return what each label counts for, [V, N]; 1 on average over the labels of a task.

    ``raters``: in proportion to their number n, the inverse variance of a mean of n votes.
    ``spread``: median(v) / (v + median(v)) with v = std^2 / n, the variance of that mean, or std^2
    where n is unknown; the median keeps a label with v = 0 from counting more than twice the middle
    one. A label whose number or spread is unknown counts 1.
    """
    weights = np.ones_like(values)
    if by == "none":
        return weights
    source, column = (count, RATERS) if by == "raters" else (std, STD)
    if not np.any(~np.isnan(source) & ~np.isnan(values)):
        raise TrainInputError(
            f"{where}: weight_by is {by}, but no label has a value in a column <task>{column}, "
            f"such as {TASKS[-1]}{column}"
        )
    for n in range(len(TASKS)):
        known = ~np.isnan(values[:, n]) & ~np.isnan(source[:, n])
        if not known.any():
            continue
        if by == "raters":
            raw = count[known, n]
        else:
            votes = np.where(np.isnan(count[known, n]), 1.0, count[known, n])
            variance = std[known, n] ** 2 / votes
            middle = np.median(variance) or variance.mean() or 1.0
            raw = middle / (variance + middle)
        weights[known, n] = raw / raw.mean()
    return weights


def _file_digest(uri: str) -> str:
    with open_uri(uri) as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
