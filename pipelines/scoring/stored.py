"""Scores from stored feature shards, on Ray Data.

One item is one feature shard: its actor reads the wanted videos, scores them in batches and
publishes one shard of scores, named by what it holds, so that an item that is tried again writes
the same object. What comes back to the driver is a receipt.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any

import ray

from actors.errors import VideoError
from actors.types import Row, VideoRef
from pipelines.leases import Failure
from pipelines.lock import LockGuard
from pipelines.messages import ProcessorInfo, RunContext, RunError
from pipelines.scoring.processor import load_right_checkpoint
from pipelines.scoring.rows import ScoreRows
from pipelines.shard_index import CommittedShard, VideoEntry, iter_videos
from pipelines.shard_writer import ShardWriter
from pipelines.shards import VideoKey
from pipelines.storage import StorageError, Store

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.keeper import Keeper
    from pipelines.resources import Cluster

BATCH_CLIPS = 32


@dataclass(frozen=True, slots=True)
class FeatureShard:
    """Which videos of a feature shard are to be scored."""

    name: str
    videos: list[VideoRef]


@dataclass(frozen=True, slots=True)
class StoredSource:
    """What every actor needs to know.

    Attributes:
        features: The feature output.
        checkpoint: URI of the checkpoint.
        digest: Which one it must be.
        run: What all shards of scores have in common.
        demonstration: The features come from seeded backbones.
        device: Where the evaluator computes.
    """

    features: Store
    checkpoint: str
    digest: str
    run: RunContext
    demonstration: bool
    device: str


class StoredScorer:
    """Scores feature shards; one process, may die at any time."""

    def __init__(self, source: StoredSource) -> None:
        from pipelines.scoring.scorer import Scorer

        self._source = source
        checkpoint = load_right_checkpoint(source.checkpoint, source.digest)
        self._scorer = Scorer(checkpoint, source.device)
        self._rows = ScoreRows(checkpoint.digest, checkpoint.features.fingerprint)
        self._info = ProcessorInfo({}, {}, source.demonstration, {})
        self._store = Store.at(source.run.out_uri)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Score the shards of a batch -> receipts as JSON."""
        receipts = [self._score(json.loads(item)) for item in batch["item"]]
        return {"receipt": [json.dumps(receipt) for receipt in receipts]}

    def _score(self, item: dict[str, Any]) -> dict[str, Any]:
        wanted = {ref[0]: VideoRef(*ref) for ref in item["videos"]}
        run = self._source.run
        writer = ShardWriter(
            self._store,
            self._rows.schema(),
            run.fingerprint,
            LockGuard(run.out_uri, run.run_id),
            folder=run.folder,
        )
        failures: list[tuple[str, str, str]] = []  # video, reason, message
        left = dict(wanted)
        span = 0.0
        try:
            for key, batches in _videos(self._source.features, item["name"]):
                ref = left.pop(key.video_id, None)
                if ref is None:
                    for _ in batches:
                        pass
                    continue
                try:
                    packed = self._video(ref, batches)
                except VideoError as error:
                    failures.append((ref.video_id, error.reason, error.message))
                    continue
                writer.add(VideoKey(ref.video_id, ref.version), packed)
                span += _span(packed)
        except _UnreadableError as error:
            failures += [(name, "unreadable_features", str(error)) for name in left]
        else:
            message = "its features vanished from the shard while the run was on: start again"
            failures += [(name, "unreadable_features", message) for name in left]
        shard = asdict(writer.commit()) if writer.videos else None
        writer.discard()
        return {"shard": shard, "failures": failures, "videos": item["videos"], "span": span}

    def _video(self, ref: VideoRef, batches: "Iterator[pa.RecordBatch]") -> "list[pa.RecordBatch]":
        from actors.raw_clips import table_rows

        rows: list[Row] = []
        for batch in batches:
            names = [name for name in self._scorer.needs if name in batch.schema.names]
            clips = table_rows(batch.select(names))
            for start in range(0, len(clips), BATCH_CLIPS):
                rows += self._scorer(clips[start : start + BATCH_CLIPS])
        return [self._rows.pack(rows, ref, self._info, self._source.run)]


def _span(batches: "list[pa.RecordBatch]") -> float:
    """Return the seconds from the start of a video's first clip to the end of its last."""
    starts = [start for batch in batches for start in batch["start_s"].to_pylist()]
    ends = [end for batch in batches for end in batch["end_s"].to_pylist()]
    return float(max(ends) - min(starts))


class _UnreadableError(Exception):
    """A feature shard cannot be read to its end."""


def _videos(store: Store, name: str) -> "Iterator[tuple[VideoKey, Iterator[pa.RecordBatch]]]":
    """Read the videos of a feature shard; what goes wrong is the shard's fault, not the output's.

    Raises:
        _UnreadableError: It is damaged or gone.
    """
    import pyarrow as pa

    try:
        for key, batches in iter_videos(store, name):
            yield key, iter(list(batches))
    except (StorageError, pa.ArrowException, OSError) as error:
        raise _UnreadableError(
            f"{store.display(name)} cannot be read ({error}): extract its videos again"
        ) from error


def score_stored(
    source: StoredSource, shards: Iterable[FeatureShard], keeper: "Keeper", cluster: "Cluster"
) -> None:
    """Score feature shards on the cluster; ``keeper`` is told what becomes of every video.

    Raises:
        RunError: The run cannot go on; what was committed stands.
    """
    todo = list(shards)
    before = keeper.videos + keeper.failed
    items = [
        {"item": json.dumps({"name": shard.name, "videos": [astuple(ref) for ref in shard.videos]})}
        for shard in todo
    ]
    if not items:
        return
    on_gpu = source.device != "cpu"
    workers = max(1, min(len(items), int(cluster.gpus if on_gpu else cluster.cpus)))
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the progress line says what matters
    context = ray.data.DataContext.get_current()
    kept, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            StoredScorer,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=1,
            num_gpus=1 if on_gpu else None,
            fn_constructor_kwargs={"source": source},
        )
        keeper.line.restart()
        for row in dataset.iter_rows():
            _take(json.loads(row["receipt"]), keeper)
            keeper.tick(workers, keeper.clips, keeper.videos)
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else None
        raise RunError(f"scoring stored features cannot go on: {cause or error}") from error
    finally:
        context.enable_progress_bars = kept
        keeper.save()
    keeper.line.close()
    wanted = sum(len(shard.videos) for shard in todo)
    found = keeper.videos + keeper.failed - before
    if found != wanted:
        raise RunError(
            f"{wanted} videos were to be scored, and {found} are accounted for: this is a defect "
            "of TalkMOS, please report it"
        )


def _take(receipt: dict[str, Any], keeper: "Keeper") -> None:
    refs = {ref[0]: VideoRef(*ref) for ref in receipt["videos"]}
    keeper.span_s += receipt["span"]
    if receipt["shard"] is not None:
        videos = [VideoEntry(**entry) for entry in receipt["shard"].pop("videos")]
        keeper.on_committed(CommittedShard(videos=videos, **receipt["shard"]))
    for video_id, reason, message in receipt["failures"]:
        transient = reason == "unreadable_features"
        keeper.on_failed(Failure(refs[video_id], "features", reason, message, 1, transient))
