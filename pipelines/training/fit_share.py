"""One worker's share of fitting the preprocessor: a pass over shards -> counts and moments.

A generator without Ray: it yields the number of clips read after every shard, and then what it
found. Memory depends on the widths and the largest row group, not on the number of shards.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from actors.raw_clips import RawClips, columns_for, raw_clips
from model.fitted_stream import logarithms
from model.moments import ColumnMoments, Moments
from model.order_statistics import Counter, CountRequest
from model.preprocessor_config import ColumnGroup, FrameMasks, PreprocessorConfig, StreamLayout
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError


@dataclass(frozen=True, slots=True)
class ShardRows:
    """Which clips of a shard are for training.

    Attributes:
        name: The shard, relative to the store.
        rows: [n] int, row numbers in the shard, in any order.
    """

    name: str
    rows: NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Unit:
    """Columns that are fitted together: a column group of a stream."""

    stream: str
    group: ColumnGroup
    full: bool  # with products of dimensions, for the principal components

    @property
    def key(self) -> str:
        """Name of the unit, unique in a fit."""
        return f"{self.stream}:{self.group.start}"

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.group.stop - self.group.start


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fitted and how: the units of all streams, in order."""

    units: tuple[Unit, ...]
    config: PreprocessorConfig

    @classmethod
    def of(cls, layouts: Sequence[StreamLayout], config: PreprocessorConfig) -> "Plan":
        """Plan the fit of some streams."""
        units = tuple(
            Unit(layout.name, group, config.components(layout.name) is not None)
            for layout in layouts
            for group in layout.groups
        )
        return cls(units, config)


@dataclass(frozen=True, slots=True)
class Fill:
    """What replaces the missing values of a unit, and where the others are clipped; each [D]."""

    median: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None

    def clip(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Clip rows [n, D] to the bounds, when there are any."""
        if self.low is None or self.high is None:
            return rows
        return np.clip(rows.astype(np.float64), self.low, self.high)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a pass over the shards is for.

    Attributes:
        requests: Counts for order statistics, by unit key.
        rows: Of which rows the moments are wanted. Those of `complete` rows, without a missing
            value, can be had before the medians are known; those of the others after.
        fills: By unit key; needed for rows that are not complete.
        aux_names: Auxiliary values whose moments are wanted.
        aux_floor: Of their logarithms, see :class:`model.fitted_stream.FittedAux`.
    """

    requests: Mapping[str, CountRequest]
    rows: Literal["none", "complete", "incomplete", "all"] = "none"
    fills: Mapping[str, Fill] = field(default_factory=dict)
    aux_names: tuple[str, ...] = ()
    aux_floor: NDArray[np.float64] | None = None


@dataclass(slots=True)
class Findings:
    """What a pass found, moments of the units apart.

    Attributes:
        counters: By unit key.
        set_aside: By shard, rows with missing values that are still to be added.
        aux: Moments of the auxiliary vector.
    """

    counters: dict[str, Counter]
    set_aside: dict[str, int]
    aux: ColumnMoments = field(default_factory=lambda: ColumnMoments(0))


@dataclass(slots=True)
class UnitMoments:
    """Moments of a unit's filled and clipped rows, and how many values were filled, clipped."""

    moments: Moments
    filled: int = 0
    clipped: int = 0


def read_rows(
    store: Store, shard: ShardRows, streams: Sequence[str], aux_names: Sequence[str]
) -> Iterator[RawClips]:
    """Yield the wanted clips of a shard in its order, a row group at a time, only what is needed.

    Raises:
        TrainInputError: The shard is damaged, or lacks a column or a wanted row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = store.display(shard.name)
    columns = columns_for(streams, aux_names)
    wanted = np.sort(np.asarray(shard.rows, np.int64))
    with store.open(shard.name) as file:
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            if len(wanted) and (wanted[0] < 0 or wanted[-1] >= parquet.metadata.num_rows):
                raise TrainInputError(
                    f"{where}: row {wanted[-1]} of {parquet.metadata.num_rows} is asked for: the "
                    "features have changed since they were listed; start again"
                )
            first = 0
            for number in range(parquet.num_row_groups):
                count = parquet.metadata.row_group(number).num_rows
                low, high = np.searchsorted(wanted, [first, first + count])
                local = wanted[low:high] - first
                first += count
                if not len(local):
                    continue
                try:
                    clips = raw_clips(
                        parquet.read_row_group(number, columns=columns), streams, aux_names
                    )
                except ValueError as error:
                    raise TrainInputError(
                        f"{where}: {error}; extract the features again with it, or leave it out "
                        "of the evaluator's settings"
                    ) from None
                yield clips if len(local) == count else _take(clips, local)
        except (pa.ArrowInvalid, OSError) as error:  # OSError: a page is damaged
            raise TrainInputError(
                f"{where} is not a whole Parquet file ({error}); remove it and extract again"
            ) from None


def _take(clips: RawClips, rows: NDArray[np.int64]) -> RawClips:
    return replace(
        clips,
        streams={name: values[rows] for name, values in clips.streams.items()},
        frame_mask=clips.frame_mask[rows],
        face_mask=clips.face_mask[rows],
        audio_mask=clips.audio_mask[rows],
        aux=None if clips.aux is None else clips.aux[rows],
    )


def unit_rows(clips: RawClips, unit: Unit, config: PreprocessorConfig) -> NDArray[Any]:
    """Rows [n, D] of a unit that take part in fitting, in the stored type."""
    masks = FrameMasks(clips.frame_mask, clips.face_mask, clips.audio_mask, config)
    fitted = masks.fitted(unit.stream, unit.group.mask)
    values = clips.streams[unit.stream][..., unit.group.start : unit.group.stop]
    rows = values.reshape(-1, unit.width) if fitted.all() else values[fitted]
    zero = (masks.zeros(unit.group.mask) & fitted)[fitted]
    if zero.any():
        rows = np.where(zero[:, None], rows.dtype.type(0), rows)
    return rows


def read_share(
    store: Store, share: Sequence[ShardRows], plan: Plan, ask: Ask
) -> Iterator[int | Findings | UnitMoments]:
    """Read a share of the shards once.

    Yields:
        After each shard the number of its clips; then the findings; then, when they were asked
        for, the moments of each unit in order.
    """
    asked = [u for u in plan.units if u.key in ask.requests or ask.rows != "none"]
    streams = list(dict.fromkeys(unit.stream for unit in asked))
    found = Findings({key: Counter(r) for key, r in ask.requests.items()}, {})
    found.aux = ColumnMoments(len(ask.aux_names))
    results = {unit.key: UnitMoments(Moments(unit.width, full=unit.full)) for unit in asked}
    for shard in share:
        set_aside = 0
        for clips in read_rows(store, shard, streams, ask.aux_names):
            for unit in asked:
                rows = unit_rows(clips, unit, plan.config)
                if unit.key in found.counters:
                    found.counters[unit.key].add(rows)
                if ask.rows != "none":
                    set_aside += _add(results[unit.key], rows, ask, unit.key)
            if clips.aux is not None:
                found.aux.add(logarithms(clips.aux.astype(np.float64), ask.aux_floor))
        if set_aside:
            found.set_aside[shard.name] = set_aside
        yield len(shard.rows)
    yield found
    if ask.rows != "none":
        for unit in plan.units:
            yield results.pop(unit.key)


def _add(result: UnitMoments, rows: NDArray[Any], ask: Ask, key: str) -> int:
    """Add the rows that are asked for; returns how many with missing values were left out."""
    finite = np.isfinite(rows)
    whole = bool(finite.all())
    if ask.rows == "complete" and not whole:
        complete = finite.all(axis=1)
        result.moments.add(rows[complete])
        return int(len(rows) - np.count_nonzero(complete))
    if ask.rows == "incomplete":
        if whole:
            return 0
        incomplete = ~finite.all(axis=1)
        rows, finite = rows[incomplete], finite[incomplete]
    if not whole:
        result.filled += int(finite.size - np.count_nonzero(finite))
        # In float64: a median may lie between two stored values.
        rows = np.where(finite, rows.astype(np.float64), ask.fills[key].median)
    if key in ask.fills:
        inside = ask.fills[key].clip(rows)
        if inside is not rows:
            result.clipped += int(np.count_nonzero(inside != rows))
        rows = inside
    result.moments.add(rows)
    return 0
