"""Reduced clips: what evaluators read, once through the preprocessor, at hand for every epoch.

A raw clip takes 1.5 MB and has to be decompressed; a reduced one takes 0.26 MB at most. Ray Data
reads the shards, applies the preprocessor and leaves the result in Ray's object store, which every
worker of a node reads without copying and which spills to disk when memory is short. Clips are then
read by number, in any order, so that the order of a run depends on its seed and on nothing else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray

from actors.silence import without_sound
from pipelines.messages import RunError
from pipelines.storage import StorageError, Store
from pipelines.train_errors import TrainInputError
from pipelines.training.board import Board, board
from pipelines.training.fit_share import ShardRows, read_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from model.batch import ClipBatch
    from model.preprocessor import Preprocessor

BLOCK_BYTES = 16 * 2**20  # small enough to be fetched for a few of its clips


@dataclass(frozen=True)
class ReducedClips:
    """Where each reduced clip lies.

    Attributes:
        blocks: References to Arrow tables in the object store.
        block: [C] the block of each clip.
        row: [C] its row there.
        frames: [C] steps up to its last real frame.
        streams: Names of the sequences, in order.
        aux: The clips carry an auxiliary vector.
    """

    blocks: list[Any]
    block: NDArray[np.int32]
    row: NDArray[np.int32]
    frames: NDArray[np.int32]
    streams: tuple[str, ...]
    aux: bool

    def __len__(self) -> int:
        return len(self.block)

    def read(self, clips: NDArray[np.integer]) -> "ClipBatch":
        """Read clips by number, padded to the longest of them.

        Raises:
            RunError: A block was lost together with its node.
        """
        wanted = self.block[clips]
        numbers = np.unique(wanted)
        try:
            tables = ray.get([self.blocks[n] for n in numbers])
        except ray.exceptions.ObjectLostError as error:
            raise RunError(
                f"reduced clips were lost with their node: start again ({error})"
            ) from None
        by_number = dict(zip(numbers.tolist(), tables, strict=True))
        return collate(
            [(by_number[b], int(r)) for b, r in zip(wanted.tolist(), self.row[clips], strict=True)],
            self.streams,
            self.aux,
        )


def table_of(batch: "ClipBatch", numbers: NDArray[np.int64]) -> "pa.Table":
    """Pack reduced clips into rows of lists, each as long as its clip."""
    import pyarrow as pa

    mask = batch.frame_mask.numpy()
    steps = mask.shape[1]
    # The last real frame ends a clip; one without any real frame keeps one (masked) step.
    frames = np.maximum(1, steps - np.argmax(mask[:, ::-1], axis=1)) * mask.any(axis=1)
    frames = np.maximum(frames, 1).astype(np.int64)

    def ragged(values: NDArray[Any]) -> "pa.LargeListArray":
        width = values.shape[2] if values.ndim == 3 else 1
        offsets = np.concatenate([[0], np.cumsum(frames * width)])
        flat = np.concatenate([v[:n].reshape(-1) for v, n in zip(values, frames, strict=True)])
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat))

    columns: dict[str, Any] = {
        "clip": pa.array(numbers, pa.int64()),
        "frames": pa.array(frames.astype(np.int32)),
        "mask": ragged(mask.astype(np.uint8)),
    }
    for name, values in batch.streams.items():
        columns[f"stream.{name}"] = ragged(values.numpy())
        columns[f"present.{name}"] = ragged(batch.present[name].numpy().astype(np.uint8))
    if batch.aux is not None and batch.aux_present is not None:
        width = batch.aux.shape[1]
        for name, flat in (
            ("aux", batch.aux.numpy().reshape(-1)),
            ("aux_present", batch.aux_present.numpy().astype(np.uint8).reshape(-1)),
        ):
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
    return pa.table(columns)


def collate(rows: list[tuple["pa.Table", int]], streams: tuple[str, ...], aux: bool) -> "ClipBatch":
    """Put rows of :func:`table_of` together into one padded batch."""
    import torch

    from model.batch import ClipBatch

    cells: dict[int, dict[str, Any]] = {}

    def column(table: "pa.Table", name: str) -> Any:
        known = cells.setdefault(id(table), {})
        if name not in known:
            chunks = table.column(name).combine_chunks()
            chunk = chunks.chunk(0) if hasattr(chunks, "chunk") else chunks
            if hasattr(chunk.type, "list_size"):
                width = chunk.type.list_size
                known[name] = (
                    None,
                    chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, width),
                )
            elif name == "frames":
                known[name] = (None, chunk.to_numpy(zero_copy_only=True))
            else:
                known[name] = (
                    chunk.offsets.to_numpy(zero_copy_only=True),
                    chunk.values.to_numpy(zero_copy_only=True),
                )
        return known[name]

    lengths = [int(column(table, "frames")[1][row]) for table, row in rows]
    steps = max(lengths, default=1)

    def padded(name: str, dtype: Any) -> "torch.Tensor":
        result = None
        for i, (table, row) in enumerate(rows):
            offsets, values = column(table, name)
            part = values[offsets[row] : offsets[row + 1]].reshape(lengths[i], -1)
            if result is None:
                result = np.zeros((len(rows), steps, part.shape[1]), dtype)
            result[i, : lengths[i]] = part
        assert result is not None  # a batch has at least one clip
        return torch.from_numpy(result)

    def vector(name: str, dtype: Any) -> "torch.Tensor":
        stacked = np.stack([column(table, name)[1][row] for table, row in rows])
        return torch.from_numpy(stacked.astype(dtype))

    return ClipBatch(
        {name: padded(f"stream.{name}", np.float32) for name in streams},
        {name: padded(f"present.{name}", np.bool_)[..., 0] for name in streams},
        padded("mask", np.bool_)[..., 0],
        vector("aux", np.float32) if aux else None,
        vector("aux_present", np.bool_) if aux else None,
    )


def reduce_clips(
    store: Store,
    shards: list[ShardRows],
    numbers: list[NDArray[np.int64]],
    preprocessor: "Preprocessor",
    *,
    silenced: tuple[list[ShardRows], list[NDArray[np.int64]]] = ([], []),
    progress: Callable[[int], None] = lambda _: None,
) -> ReducedClips:
    """Apply the preprocessor to clips of shards, on the whole cluster.

    Args:
        store: The feature output.
        shards: Which rows of which shards.
        numbers: For each of ``shards`` the numbers that its rows bear in the result; together
            (and with those of ``silenced``) 0 .. C - 1, each once.
        preprocessor: Fitted.
        silenced: Shards and numbers of further clips, whose sound is masked.
        progress: Told the clips done so far, now and then.

    Raises:
        TrainInputError: A shard is damaged or has changed since it was listed.
        StorageError: A shard cannot be read.
        RunError: Clips are not there any more.
    """
    work = [(shard, own, False) for shard, own in zip(shards, numbers, strict=True)]
    work += [(shard, own, True) for shard, own in zip(*silenced, strict=True)]
    total = sum(len(own) for _, own, _ in work)
    recipe = ray.put(preprocessor)
    done = 0
    problems: list[Exception] = []
    with board() as words:

        def heard(kind: str, value: Any) -> None:
            nonlocal done
            if kind == "problem":
                problems.append(value)
                return
            done += value
            progress(done)

        try:
            refs = words.watch(lambda: _run(store, work, recipe, words), heard)
        except ray.exceptions.RayTaskError:
            if problems:  # as the worker raised it, without what Ray puts around it
                raise problems[0] from None
            raise
    where = ray.remote(_where).options(num_cpus=0)
    found = ray.get([where.remote(ref) for ref in refs])
    block, row, frames = (np.full(total, -1, np.int32) for _ in range(3))
    for number, (clips, lengths) in enumerate(found):
        block[clips] = number
        row[clips] = np.arange(len(clips))
        frames[clips] = lengths
    missing = int((block < 0).sum())
    if missing:
        raise RunError(
            f"{missing} of {total} clips were not found again in their shards: something else "
            f"changes {store.display('')} at this moment"
        )
    streams = tuple(preprocessor.widths)
    return ReducedClips(refs, block, row, frames, streams, preprocessor.aux_width > 0)


def _run(
    store: Store,
    work: list[tuple[ShardRows, NDArray[np.int64], bool]],
    recipe: Any,
    words: Board,
) -> list[Any]:
    import logging

    from ray.data import DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the progress line says what matters
    context = DataContext.get_current()
    kept = (context.enable_progress_bars, context.target_max_block_size)
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    try:
        items = []
        for shard, own, silent in work:
            order = np.argsort(shard.rows)  # rows are read in their order in the shard
            rows = shard.rows[order].astype(np.int64)
            item = {"name": shard.name, "rows": rows, "numbers": own[order], "silent": silent}
            items.append(item)
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _reduce_shard,
            batch_size=1,
            fn_kwargs={"store": store, "recipe": [recipe], "words": words},
        )
        blocks: list[Any] = dataset.materialize().to_arrow_refs()
        return blocks
    finally:
        context.enable_progress_bars, context.target_max_block_size = kept


def _reduce_shard(
    item: dict[str, Any], *, store: Store, recipe: list[Any], words: Board
) -> Iterator["pa.Table"]:
    preprocessor: Preprocessor = ray.get(recipe[0])
    shard = ShardRows(str(item["name"][0]), item["rows"][0])
    numbers, silent = item["numbers"][0], bool(item["silent"][0])
    start = 0
    names = tuple(preprocessor.widths)
    try:
        for raw in read_rows(store, shard, names, preprocessor.aux_names):
            clips = without_sound(raw, preprocessor.aux_names) if silent else raw
            yield table_of(preprocessor.apply(clips), numbers[start : start + len(raw)])
            start += len(raw)
            words.tell("reduced", len(raw))
    except (StorageError, TrainInputError) as error:
        words.hand_over("problem", error)
        raise


def _where(table: "pa.Table") -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Tell a block's clips and their lengths: runs where the block lies, so only numbers travel."""
    return table.column("clip").to_numpy(), table.column("frames").to_numpy()
