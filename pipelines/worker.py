"""The Ray actors of extraction: thin shells around plain classes.

`ExtractWorker` takes a lease of videos, has a `Processor` turn each into rows, and publishes rows
as shards. It answers `status` from a second thread, so the driver can tell a slow video from a hung
one and end the process.
"""

import math
import os
import resource
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from actors.errors import VideoError
from actors.types import Row, Timings, VideoRef
from pipelines.feature_rows import FeatureRows
from pipelines.lock import LockGuard
from pipelines.messages import (
    HelperCrashError,
    LeaseResult,
    Outcome,
    ProcessorFactory,
    ProcessorInfo,
    Progress,
    RowFormat,
    RunContext,
    Status,
    VideoEnd,
)
from pipelines.shard_writer import ROW_GROUP_CLIPS
from pipelines.shards import CommittedShard, ShardWriter, VideoKey
from pipelines.storage import StorageError, Store

if TYPE_CHECKING:
    import pyarrow as pa

WRITE_SECONDS = 1800.0  # what publishing one shard may take


class ExtractWorker:
    """Turns leases of videos into shards. One process; may die at any time."""

    def __init__(self, factory: ProcessorFactory, threads: int) -> None:
        self._threads = threads
        self._processor = factory(threads)
        self._progress = Progress()
        self._info: ProcessorInfo | None = None
        self._run: RunContext | None = None
        self._writer: ShardWriter | None = None
        self._first_row = 0.0

    def load(self) -> tuple[ProcessorInfo, int]:
        """Load the processor; returns what it says of itself and this process's id."""
        self._info = self._processor.load()
        return self._info, os.getpid()

    def begin(self, run: RunContext) -> None:
        """Name the run that following leases belong to."""
        self._run = run

    def extract(self, number: int, lease: list[VideoRef]) -> LeaseResult:
        """Extract every video of the lease; a video that fails is an outcome, not an exception.

        Raises:
            StorageError: Rows cannot be published; the run cannot go on.
        """
        started = time.perf_counter()
        timings = Timings()
        outcomes: list[Outcome] = []
        shards: list[CommittedShard] = []
        for position, ref in enumerate(lease):
            self._progress.videos = position
            self._progress.video(number, ref.video_id)
            self._processor.ahead(lease[position:])
            outcomes.append(self._one(ref, timings))
            shards.extend(self._commit_if_due(timings))
        self._progress.idle()
        return LeaseResult(outcomes, shards, timings, time.perf_counter() - started, _peak_rss())

    def flush(self) -> list[CommittedShard]:
        """Publish what is spooled."""
        self._progress.video(0, "")
        shards = self._commit(Timings())
        self._progress.idle()
        return shards

    @ray.method(concurrency_group="status")  # type: ignore[untyped-decorator]
    def status(self) -> Status:
        """Answer while a lease is running."""
        now = time.monotonic()
        p = self._progress
        still = now - p.last
        return Status(p.lease, p.video_id, p.stage, now - p.started, still, p.clips, p.videos)

    def close(self) -> None:
        """End helper processes and drop the spool."""
        if self._writer is not None:
            self._writer.discard()
        self._processor.close()

    # --- one video

    def _one(self, ref: VideoRef, timings: Timings) -> Outcome:
        begun = time.perf_counter()
        writer = self._open_writer()
        writer.begin(VideoKey(ref.video_id, ref.version))
        try:
            clips, span, end = self._rows(ref, writer, timings)
        except VideoError as error:
            writer.abort()
            return _failed(
                ref, error.stage, error.reason, error.message, begun, transient=error.transient
            )
        except HelperCrashError as error:
            writer.abort()
            return _failed(ref, error.stage, error.reason, error.message, begun, crashed=True)
        except StorageError:
            raise  # rows cannot be written: no fault of the video, see _read
        except Exception as error:  # noqa: BLE001 - the boundary where one video's defect becomes data
            writer.abort()
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = (
                f"{type(error).__name__}: {error} (at {Path(where.filename).name}:{where.lineno}); "
                "this is a defect of TalkMOS, please report it with the video"
            )
            return _failed(ref, self._progress.stage, "internal_error", message, begun)
        seconds = time.perf_counter() - begun
        if clips == 0:
            writer.abort()
            return _failed(ref, "process", "no_clips", "the video gave no clip", begun)
        if writer.videos == 0:
            self._first_row = time.monotonic()
        writer.end()
        return Outcome(ref.video_id, clips=clips, seconds=seconds, end=end, span_s=span)

    def _rows(
        self, ref: VideoRef, writer: ShardWriter, timings: Timings
    ) -> tuple[int, float, VideoEnd]:
        """Append the rows of a video -> clips, seconds from first to last, what is left of it."""
        info, run = self._ready()
        format_ = self._format()
        clips = 0
        first, last = math.inf, 0.0
        end = VideoEnd(0.0)
        group: list[Row] = []
        for row in self._read(ref, timings):
            if isinstance(row, VideoEnd):
                end = row
                continue
            group.append(format_.trim(row))
            clips += 1
            first, last = min(first, row["start_s"]), max(last, row["end_s"])
            self._progress.clips += 1
            if len(group) == ROW_GROUP_CLIPS:
                self._append(writer, format_.pack(group, ref, info, run), timings)
                group = []
        if group:
            self._append(writer, format_.pack(group, ref, info, run), timings)
        return clips, max(0.0, last - first), end

    def _read(self, ref: VideoRef, timings: Timings) -> Iterator[Row | VideoEnd]:
        """Process the video; a storage that fails here is the video's, not the output's."""
        try:
            yield from self._processor.process(ref, self._progress, timings)
        except StorageError as error:
            raise VideoError("open", "unreadable_source", str(error), transient=True) from error

    def _append(self, writer: ShardWriter, rows: "pa.RecordBatch", timings: Timings) -> None:
        begun = time.perf_counter()
        writer.append(rows)
        self._progress.beat("write")
        timings.add("write", time.perf_counter() - begun)

    # --- shards

    def _open_writer(self) -> ShardWriter:
        if self._writer is None:
            _, run = self._ready()
            self._writer = ShardWriter(
                Store.at(run.out_uri),
                self._format().schema(),
                run.fingerprint,
                LockGuard(run.out_uri, run.run_id),
                folder=run.folder,
            )
        return self._writer

    def _commit_if_due(self, timings: Timings) -> list[CommittedShard]:
        _, run = self._ready()
        writer = self._writer
        if writer is None or writer.videos == 0:
            return []
        waited = time.monotonic() - self._first_row
        if writer.clips < run.shard_clips and waited < run.flush_seconds:
            return []
        return self._commit(timings)

    def _commit(self, timings: Timings) -> list[CommittedShard]:
        writer = self._writer
        if writer is None or writer.videos == 0:
            return []
        begun = time.perf_counter()
        # An upload sends many megabytes, and its retries are bounded: it is slow, not hung.
        with self._progress.alive("write", WRITE_SECONDS):
            shard = writer.commit()
        self._writer = None
        timings.add("write", time.perf_counter() - begun)
        return [shard]

    def _format(self) -> RowFormat:
        info, _ = self._ready()
        return info.rows or FeatureRows(info.struct_fields, info.left_out)

    def _ready(self) -> tuple[ProcessorInfo, RunContext]:
        if self._info is None or self._run is None:
            raise RuntimeError("load() and begin() come before extract()")
        return self._info, self._run


def _failed(
    ref: VideoRef,
    stage: str,
    reason: str,
    message: str,
    begun: float,
    *,
    transient: bool = False,
    crashed: bool = False,
) -> Outcome:
    return Outcome(
        ref.video_id,
        seconds=time.perf_counter() - begun,
        stage=stage,
        reason=reason,
        message=message,
        transient=transient,
        crashed=crashed,
    )


def _peak_rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
