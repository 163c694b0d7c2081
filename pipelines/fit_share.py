"""One worker's share of fitting the preprocessor: shards -> counts, shards -> moments.

Generators without Ray: each yields the number of clips read after every shard, and then its
results. Memory depends on the widths and the largest row group, not on the number of shards.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.raw_clips import RawClips, columns_for, raw_clips
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


@dataclass(slots=True)
class UnitMoments:
    """Moments of a unit's filled and clipped rows, and how many values were filled."""

    moments: Moments
    filled: int = 0


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
            parquet = pq.ParquetFile(file)
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
        except pa.ArrowInvalid as error:
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


def count_share(
    store: Store,
    share: Sequence[ShardRows],
    plan: Plan,
    requests: Mapping[str, CountRequest],
) -> Iterator[int | dict[str, Counter]]:
    """Answer count requests (by unit key) over a share of the shards.

    Yields:
        After each shard the number of its clips; at last the counters by unit key.
    """
    counters = {key: Counter(request) for key, request in requests.items()}
    asked = [unit for unit in plan.units if unit.key in counters]
    streams = list(dict.fromkeys(unit.stream for unit in asked))
    for shard in share:
        for clips in read_rows(store, shard, streams, ()):
            for unit in asked:
                counters[unit.key].add(unit_rows(clips, unit, plan.config))
        yield len(shard.rows)
    yield counters


def moments_share(
    store: Store,
    share: Sequence[ShardRows],
    plan: Plan,
    fills: Mapping[str, Fill],
    aux_names: Sequence[str],
) -> Iterator[int | UnitMoments | ColumnMoments]:
    """Moments of a share of the shards.

    Yields:
        After each shard the number of its clips; then the moments of each unit in order, and at
        last those of the auxiliary vector.
    """
    results = {unit.key: UnitMoments(Moments(unit.width, full=unit.full)) for unit in plan.units}
    aux = ColumnMoments(len(aux_names))
    streams = list(dict.fromkeys(unit.stream for unit in plan.units))
    for shard in share:
        for clips in read_rows(store, shard, streams, aux_names):
            for unit in plan.units:
                rows = unit_rows(clips, unit, plan.config)
                _add(results[unit.key], rows, fills[unit.key])
            if clips.aux is not None:
                aux.add(clips.aux)
        yield len(shard.rows)
    for unit in plan.units:
        yield results.pop(unit.key)
    yield aux


def _add(result: UnitMoments, rows: NDArray[Any], fill: Fill) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        result.filled += int(finite.size - np.count_nonzero(finite))
        # Stored values are exact in float64, and the mean of two medians may need it.
        rows = np.where(finite, rows.astype(np.float64), fill.median)
    if fill.low is not None and fill.high is not None:
        rows = np.clip(rows.astype(np.float64), fill.low, fill.high)
    result.moments.add(rows)
