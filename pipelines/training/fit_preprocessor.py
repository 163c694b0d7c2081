"""Fitting the preprocessor over feature shards on Ray.

1. read the schema of a shard: which streams there are and how wide (1:1)
2. deal the shards out to the workers by their number of training clips (N shards : W shares)
3. a pass for the moments of complete rows and the first counts of the medians (W : 1)
4. passes that count, until the medians are found; merged here (W counts : 1)
5. the shards with missing values once more: moments of the filled rows (W : 1)
6. principal components of each stream (1:1)

Winsorising needs the quartiles first: 3 only counts, and 5 takes all rows of all shards.

Shares depend on the shards and the number of workers alone, and are merged in their order, so a
repeated fit gives the same bits; another number of workers changes rounding only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import ray
from numpy.typing import NDArray

from actors.raw_clips import LOWLEVEL_MASKS, aux_floors
from model.moments import ColumnMoments, Moments
from model.order_statistics import QuantileSearch
from model.preprocessor_config import PreprocessorConfig, StreamLayout, stream_layout
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.fit_share import (
    Ask,
    Fill,
    Findings,
    Plan,
    ShardRows,
    UnitMoments,
    read_share,
)
from pipelines.training.share_runner import Progress, ShareRunner, deal

if TYPE_CHECKING:
    from model.fitted_stream import FittedStream
    from model.preprocessor import Preprocessor

__all__ = ["ShardRows", "deal", "fit_preprocessor"]

WHAT_IS_MISSING = {
    "frame": "no clip has a real frame",
    "face": "no face was found in any of their frames",
    "audio": "none of them has sound",
}


def fit_preprocessor(
    store: Store,
    shards: Sequence[ShardRows],
    config: PreprocessorConfig,
    streams: Sequence[str],
    aux_names: Sequence[str] = (),
    *,
    workers: int = 1,
    cpus_per_worker: float = 1.0,
    progress: Progress | None = None,
) -> "Preprocessor":
    """Fit the preprocessor on the training clips. Ray must be running.

    Args:
        store: Where the shards are.
        shards: The training clips, by shard.
        config: Settings.
        streams: Streams to fit, of :data:`model.batch.STREAMS`.
        aux_names: Auxiliary values to fit, of :data:`actors.raw_clips.AUX_NAMES`.
        workers: Ray tasks at a time.
        cpus_per_worker: CPUs of each; their number of threads follows from it.
        progress: Called with clips read, clips in this phase and the phase.

    Raises:
        TrainInputError: There are no training clips, a stream is missing or has no valid row, or
            there are fewer rows or dimensions than principal components.
    """
    some = [shard for shard in shards if len(shard.rows)]
    if not some:
        raise TrainInputError("there are no training clips to fit the preprocessor on")
    layouts, dtypes = _layouts(store, some[0].name, streams)
    _check_components(layouts, config)
    plan = Plan.of(layouts, config)
    shares = deal(some, workers)
    run = ShareRunner(store, shares, cpus_per_worker, progress or (lambda *_: None))
    fills, empty, parts, aux = _passes(run, plan, dtypes, tuple(aux_names))
    merge = ray.remote(_merge).options(num_cpus=cpus_per_worker)
    finish = ray.remote(_finish).options(num_cpus=cpus_per_worker)
    merged = [merge.remote(refs) for refs in parts]
    fitted = [
        finish.remote(
            layout,
            config,
            [fills[unit.key] for unit in plan.units if unit.stream == layout.name],
            [empty[unit.key] for unit in plan.units if unit.stream == layout.name],
            [m for unit, m in zip(plan.units, merged, strict=True) if unit.stream == layout.name],
        )
        for layout in layouts
    ]
    return _assemble(config, ray.get(fitted), aux_names, aux)


def _assemble(
    config: PreprocessorConfig,
    fitted: "list[FittedStream]",
    aux_names: Sequence[str],
    aux: ColumnMoments,
) -> "Preprocessor":
    from model.fitted_stream import FittedAux
    from model.preprocessor import Preprocessor
    from model.principal_components import scales

    vector = None
    if aux_names:
        floor = _floor(aux_names, config)
        vector = FittedAux(tuple(aux_names), aux.mean, scales(aux.variance), floor)
    return Preprocessor(config, fitted, vector)


def _floor(names: Sequence[str], config: PreprocessorConfig) -> NDArray[np.float64] | None:
    return aux_floors(names) if config.aux_log else None


def _layouts(
    store: Store, name: str, streams: Sequence[str]
) -> tuple[list[StreamLayout], dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = store.display(name)
    try:
        with store.open(name) as file:
            schema = pq.read_schema(file)
    except pa.ArrowInvalid as error:
        raise TrainInputError(
            f"{where} is not a whole Parquet file ({error}); remove it and extract again"
        ) from None
    layouts, dtypes = [], {}
    for stream in streams:
        if stream not in schema.names:
            raise TrainInputError(
                f"{where} has no column {stream}, which the evaluator reads; extract the features "
                "again with it, or leave it out of the evaluator's `streams`"
            )
        kind = schema.field(stream).type
        try:
            layouts.append(stream_layout(stream, kind.shape[1], LOWLEVEL_MASKS))
        except ValueError as error:
            raise TrainInputError(f"{where}: {error}") from None
        dtypes[stream] = np.dtype(kind.value_type.to_pandas_dtype())
    return layouts, dtypes


def _check_components(layouts: Sequence[StreamLayout], config: PreprocessorConfig) -> None:
    for layout in layouts:
        count = config.components(layout.name)
        if count is not None and count > layout.width:
            raise TrainInputError(
                f"preprocessor.{layout.name}: {count} principal components are asked for, but the "
                f"features have {layout.width} dimensions; ask for at most that many"
            )


def _check_rows(plan: Plan, valid: dict[str, int]) -> None:
    for unit in plan.units:
        rows, name = valid[unit.key], unit.stream
        # A corpus without sound may still be seen by the other columns of `lowlevel`.
        if not any(valid[other.key] for other in plan.units if other.stream == name):
            raise TrainInputError(
                f"{name}: no valid row among the training clips: "
                f"{WHAT_IS_MISSING[unit.group.mask]}, or all their values are NaN; leave the "
                "stream out of the evaluator's `streams`, or train on clips that have it"
            )
        count = plan.config.components(name)
        if count is not None and rows < count:
            raise TrainInputError(
                f"preprocessor.{name}: {count} principal components need at least {count} valid "
                f"frames, but the training clips have {rows}; ask for fewer "
                f"(--set preprocessor.{name}={min(rows, 10)}) or train on more clips"
            )


def _passes(
    run: ShareRunner, plan: Plan, dtypes: dict[str, Any], aux_names: tuple[str, ...]
) -> tuple[dict[str, Fill], dict[str, int], list[list[Any]], ColumnMoments]:
    """Read the shards as often as is needed.

    Returns:
        By unit key the fills, and how many of its dimensions have no value at all; for each unit
        references to its moments; the moments of the auxiliary vector.
    """
    winsorise = plan.config.winsorise
    which = (0.5,) if winsorise is None else (0.5, 0.25, 0.75)
    searches = {u.key: QuantileSearch(dtypes[u.stream], u.width, which) for u in plan.units}
    moments: list[list[Any]] = [[] for _ in plan.units]
    aux, set_aside, number = ColumnMoments(len(aux_names)), set[str](), 0
    # Without any stream there is still a pass for the auxiliary vector.
    while (
        open_ := {k: r for k, s in searches.items() if (r := s.request()) is not None}
    ) or number == 0:
        number += 1
        ask = Ask(open_)
        if number == 1:
            rows: Literal["complete", "none"] = "complete" if winsorise is None else "none"
            ask = Ask(open_, rows, {}, aux_names, _floor(aux_names, plan.config))
        founds, *ends = run(f"pass {number}: medians", read_share, plan, ask)
        total: Findings = ray.get(founds[0])
        for ref in founds[1:]:
            part: Findings = ray.get(ref)
            for key in open_:
                total.counters[key].merge(part.counters[key])
            total.set_aside |= part.set_aside
            if number == 1:
                total.aux.merge(part.aux)
        for key in open_:
            searches[key].update(total.counters[key])
        if number == 1:
            _check_rows(plan, {k: int(s.valid.max()) for k, s in searches.items()})
            aux, set_aside, moments = total.aux, set(total.set_aside), ends or moments
    fills = {key: _fill(search, winsorise) for key, search in searches.items()}
    if set_aside or winsorise is not None:
        number += 1
        ask = Ask({}, "incomplete" if winsorise is None else "all", fills)
        only = set_aside if winsorise is None else None
        _, *ends = run(f"pass {number}: filled rows", read_share, plan, ask, only=only)
        moments = [before + after for before, after in zip(moments, ends, strict=True)]
    empty = {key: int((search.valid == 0).sum()) for key, search in searches.items()}
    return fills, empty, moments, aux


def _fill(search: QuantileSearch, winsorise: float | None) -> Fill:
    # A dimension that is missing in every row counts as constantly 0.
    found = np.where(search.valid > 0, search.result(), 0.0)
    if winsorise is None:
        return Fill(found[0], None, None)
    reach = winsorise * (found[2] - found[1])
    return Fill(found[0], found[1] - reach, found[2] + reach)


def _merge(parts: list[Any]) -> UnitMoments:
    """Merge the moments of all shares, one in memory at a time."""
    first: UnitMoments = ray.get(parts[0])
    total = UnitMoments(Moments(first.moments.width, full=first.moments.full))
    for ref in parts:
        part: UnitMoments = ray.get(ref)
        total.moments.merge(part.moments)
        total.filled += part.filled
        total.clipped += part.clipped
    return total


def _finish(
    layout: StreamLayout,
    config: PreprocessorConfig,
    fills: list[Fill],
    empty: list[int],
    merged: list[Any],
) -> "FittedStream":
    """Moments of a stream's units -> what the preprocessor keeps."""
    from model.fitted_stream import FittedStream
    from model.principal_components import principal_components, scales

    parts: list[UnitMoments] = ray.get(merged)
    moments = [part.moments for part in parts]
    count = config.components(layout.name)
    axes = None if count is None else principal_components(moments[0], count)

    def join(arrays: list[Any]) -> Any:
        return None if arrays[0] is None else np.concatenate(arrays)

    return FittedStream(
        layout=layout,
        rows=tuple(m.count for m in moments),
        filled=sum(part.filled for part in parts),
        clipped=sum(part.clipped for part in parts),
        empty=sum(empty),
        median=join([fill.median for fill in fills]),
        low=join([fill.low for fill in fills]),
        high=join([fill.high for fill in fills]),
        mean=join([m.mean for m in moments]),
        scale=scales(join([m.variance for m in moments])),
        components=None if axes is None else axes.axes,
        explained_variance=None if axes is None else axes.variance,
        total_variance=0.0 if axes is None else axes.total,
    )
