"""What driver, workers and processors say to each other, and the pool to its keeper."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from actors.types import Row, Timings, VideoRef
from pipelines.leases import Failure
from pipelines.shard_index import FOLDER, CommittedShard

if TYPE_CHECKING:
    import pyarrow as pa


class Progress:
    """Where a worker is, written by its working thread and read by the status thread."""

    def __init__(self) -> None:
        self.lease = 0
        self.video_id = ""
        self.stage = "idle"
        self.clips = 0
        self.videos = 0  # finished in this lease
        self.started = time.monotonic()
        self.last = self.started

    def video(self, lease: int, video_id: str) -> None:
        """A new video begins."""
        self.lease = lease
        self.video_id = video_id
        self.started = time.monotonic()
        self.beat("open")

    def beat(self, stage: str) -> None:
        """Something moved."""
        self.stage = stage
        self.last = time.monotonic()

    @contextmanager
    def alive(self, stage: str, seconds: float) -> Iterator[None]:
        """Show life from a second thread for at most ``seconds``: for work that bounds itself."""
        over = threading.Event()
        until = time.monotonic() + seconds

        def keep() -> None:
            while not over.wait(1.0) and time.monotonic() < until:
                self.beat(stage)

        self.beat(stage)
        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def idle(self) -> None:
        """No video is being worked on."""
        self.video_id = ""
        self.beat("idle")


@dataclass(frozen=True, slots=True)
class ProcessorInfo:
    """What a loaded processor says of itself."""

    extractors: dict[str, str]  # name -> version
    weights: dict[str, str]  # backbone -> digest
    demonstration: bool
    struct_fields: dict[str, dict[str, str]]
    left_out: frozenset[str] = frozenset()  # optional columns that are not written
    rows: "RowFormat | None" = None  # what is stored of a clip; None: the row of features
    notes: dict[str, str] = field(default_factory=dict)  # precision chosen and why, and the like


@dataclass(frozen=True, slots=True)
class VideoEnd:
    """Follows the last row of a video."""

    uncovered_s: float  # the end of the video that is in no clip
    missing_s: float = 0.0  # what the header promises and the file does not hold: it was cut off
    broken_frames: int = 0  # source pictures that could not be decoded
    black_frames: int = 0  # decoded, and all black


class RowFormat(Protocol):
    """What is stored of a clip; travels with :class:`ProcessorInfo`."""

    def schema(self) -> "pa.Schema":
        """Return the schema of the shards."""
        ...

    def trim(self, row: Row) -> Row:
        """Return the row without what is not stored, so that frames do not wait for their group."""
        ...

    def pack(
        self, rows: list[Row], ref: VideoRef, info: ProcessorInfo, run: "RunContext"
    ) -> "pa.RecordBatch":
        """Add identity and provenance to rows of a video, check them, and pack them."""
        ...


class Processor(Protocol):
    """What turns a video into rows; made in the worker by the factory of its settings."""

    def load(self) -> ProcessorInfo:
        """Load weights and warm up. Raises an exception with a clear message when that fails."""
        ...

    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        """Yield the rows of a video in order of clip_index, then one VideoEnd.

        Identity and provenance are added by the worker.
        """
        ...

    def ahead(self, coming: list[VideoRef]) -> None:
        """Begin with videos that will be asked for next, where there are helpers for that."""
        ...

    def close(self) -> None:
        """End helper processes, if any."""
        ...


ProcessorFactory = Callable[[int], Processor]  # argument: compute threads


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every shard of a run has in common."""

    run_id: str
    out_uri: str
    fingerprint: str
    code_version: str
    shard_clips: int
    flush_seconds: float
    folder: str = FOLDER  # where in the output shards go


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one video of a lease."""

    video_id: str
    clips: int = 0
    seconds: float = 0.0
    end: VideoEnd = VideoEnd(0.0)
    span_s: float = 0.0  # from the start of the first clip to the end of the last
    stage: str = ""
    reason: str = ""  # empty: it was extracted
    message: str = ""
    transient: bool = False
    crashed: bool = False  # it brought down a helper process: worth another attempt


@dataclass(slots=True)
class LeaseResult:
    """The answer to one lease."""

    outcomes: list[Outcome]
    shards: list[CommittedShard]
    timings: Timings
    seconds: float
    peak_rss: int  # bytes


@dataclass(frozen=True, slots=True)
class Status:
    """A glance at a worker."""

    lease: int
    video_id: str
    stage: str
    video_seconds: float
    still_seconds: float  # since the last sign of progress
    clips: int
    videos: int = 0  # finished in this lease


class HelperCrashError(Exception):
    """A helper process of the worker died or hung on a video."""

    def __init__(self, stage: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.reason = reason
        self.message = message


class RunError(Exception):
    """The run as a whole cannot go on; what was committed stands."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker's process must die."""

    stall_seconds: float  # without any progress
    video_seconds: float  # for one video
    max_attempts: int


class Events(Protocol):
    """Who wants to hear what happens (ledger, failure table, progress)."""

    def on_extracted(self, outcome: Outcome) -> None:
        """A video's rows are in a spool."""
        ...

    def on_committed(self, shard: CommittedShard) -> None:
        """A shard is published."""
        ...

    def on_failed(self, failure: Failure) -> None:
        """A video was given up."""
        ...

    def published(self, videos: list[VideoRef]) -> set[str]:
        """Say which of ``videos`` are committed, also those whose worker died before it said so."""
        ...

    def tick(self, workers: int, clips: int, done: int) -> None:
        """Called at least twice a second with live counts: workers, clips and extracted videos."""
        ...


@dataclass(slots=True)
class PoolReport:
    """What the pool knows at its end."""

    info: ProcessorInfo
    timings: Timings = field(default_factory=Timings)
    busy_seconds: float = 0.0
    peak_rss: int = 0
    workers_lost: int = 0
    work_seconds: float = 0.0  # from the first lease to the last commit
