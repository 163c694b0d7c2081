"""What runs inside an extraction worker: both halves in one process, or one ahead of the other.

The stage classes are the same; only where they run differs.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from actors.encode import Encoder, Stage, backbone_stages, cpu_stages
from actors.errors import VideoError
from actors.features import STRUCT_FIELDS, FeaturesConfig
from actors.row import stored_columns
from actors.types import MIB, Row, Timings, VideoRef
from pipelines.hashing import hash_text
from pipelines.messages import HelperCrashError, Processor, ProcessorInfo, Progress, VideoEnd
from pipelines.resources import Plan
from pipelines.storage import StorageError, open_uri

if TYPE_CHECKING:
    from actors.prepare import PreparedVideo

AHEAD = 2  # prepared clips (about 45 MB each) that one preparer may hold before it waits


@dataclass(frozen=True, slots=True)
class ExtractFactory:
    """Makes the processor of a plan inside each worker; travels to the workers by pickle."""

    config: FeaturesConfig
    plan: Plan
    expected_clips: int  # for each worker, to decide whether compiling pays
    stall_seconds: float = 60.0

    def __call__(self, threads: int) -> Processor:
        """Make the processor; called in the worker."""
        if self.plan.layout == "split":
            return SplitProcessor(
                self.config, self.plan, threads, self.expected_clips, self.stall_seconds
            )
        return WholeProcessor(self.config, threads, self.expected_clips)


class VideoPreparer:
    """Prepares what a corpus names: video files, and virtual variants of them.

    Args:
        config: All settings of extraction.
    """

    def __init__(self, config: FeaturesConfig) -> None:
        from actors.prepare import Preparer
        from actors.variants import VariantPreparer

        self._plain = Preparer(config)
        self._variants = VariantPreparer(self._plain, config, open_uri)

    @contextmanager
    def opened(
        self, ref: VideoRef, timings: Timings, beat: Callable[[str], None]
    ) -> "Iterator[PreparedVideo]":
        """Prepare a video; its rows are read inside the block.

        Raises:
            VideoError, StorageError: It cannot be processed.
        """
        if ref.artefacts:
            # Without the part of the chain, see pipelines/corpus.py: what variants have in common.
            # The whole address: queries of web addresses may be all that tells sources apart.
            key = f"{hash_text(ref.uri):016x} {ref.version.rpartition('+')[0]}"
            yield self._variants.open(ref.uri, key, ref.artefacts, timings, beat)
            return
        self._variants.close()
        with open_uri(ref.uri) as file:
            yield self._plain.open(file, ref.video_id, timings, beat)


class WholeProcessor:
    """Decodes and encodes in one process: frames are never copied between processes."""

    def __init__(self, config: FeaturesConfig, threads: int, expected_clips: int) -> None:
        self._config = config
        self._threads = threads
        self._expected_clips = expected_clips

    def load(self) -> ProcessorInfo:
        """Load weights and models."""
        limit_threads(self._threads)
        self._encoder = Encoder(
            backbone_stages(self._config, "cpu", self._expected_clips) + cpu_stages(self._config),
            self._config.prepare.remember_mib * MIB,
        )
        self._preparer = VideoPreparer(self._config)
        return describe(self._config, self._encoder.stages)

    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        """Yield the rows of a video, then what is left of it."""
        limit_threads(self._threads)
        again = ref.source is not None
        with self._preparer.opened(ref, timings, progress.beat) as video:
            for row in video.rows:
                yield self._encoder([row], timings, progress.beat, remember=again)[0]
            yield end_of(video)

    def ahead(self, coming: list[VideoRef]) -> None:
        """Nothing to begin: there are no helper processes."""

    def close(self) -> None:
        """Nothing to end: there are no helper processes."""


class PrepareWorker:
    """The CPU half as a Ray actor: streams prepared clips to the encoder that owns it."""

    def __init__(self, config: FeaturesConfig) -> None:
        self._config = config
        self._progress = Progress()

    def load(self) -> None:
        """Load the models."""
        limit_threads(1)
        self._encoder = Encoder(cpu_stages(self._config))
        self._preparer = VideoPreparer(self._config)

    def prepare(self, ref: VideoRef, columns: frozenset[str]) -> Iterator[tuple[str, Any]]:
        """Yield ``("row", row)`` for each clip, then ``("end", (VideoEnd, Timings))``.

        Rows have those of ``columns`` that this half adds: what nobody reads is not sent. What
        goes wrong with the video ends the stream with ``("error", exception)``.
        """
        limit_threads(1)
        timings, beat = Timings(), self._progress.beat
        self._progress.video(0, ref.video_id)
        try:
            with self._preparer.opened(ref, timings, beat) as video:
                for row in video.rows:
                    done = self._encoder([row], timings, beat)[0]
                    yield "row", {name: done[name] for name in columns & done.keys()}
                yield "end", (end_of(video), timings)
        except (VideoError, StorageError) as error:
            yield "error", error

    @ray.method(concurrency_group="status")  # type: ignore[untyped-decorator]
    def still_seconds(self) -> float:
        """Say how long ago something last moved; answers while a video is prepared."""
        return time.monotonic() - self._progress.last


@dataclass(slots=True)
class _Running:
    ref: VideoRef
    helper: int
    stream: Any


class _Watch:
    """Tells a preparer that is slow from one that hangs, while nothing comes from it.

    Long videos give no clip before all of their frames were seen, so silence alone says nothing:
    the preparer is asked when it last moved. One that waits for its encoder does not move either,
    and is innocent: only time during which the encoder waited counts.
    """

    def __init__(self, helper: Any, stall_seconds: float) -> None:
        self._helper, self._limit = helper, stall_seconds
        self._begun = time.monotonic()
        self._question: Any = None
        self._asked = 0.0

    def look(self) -> None:
        """Ask, or judge the answer.

        Raises:
            HelperCrashError: It has not moved, or not answered, for longer than the limit.
        """
        now = time.monotonic()
        if self._question is None:
            self._question, self._asked = self._helper.still_seconds.remote(), now
        if ray.wait([self._question], timeout=0)[0]:
            still = min(ray.get(self._question), now - self._begun)
            self._question = None
        else:
            still = now - self._asked
        if still > self._limit:
            raise HelperCrashError(
                "decode",
                "stalled",
                f"decoding made no progress for {still:.0f} s; its process was ended",
            )


class SplitProcessor:
    """Encodes on its device what its own CPU processes have prepared ahead.

    The preparers belong to this worker: they end with it. One that dies or hangs is replaced here,
    and the video that it was at is reported by :class:`HelperCrashError`.
    """

    def __init__(
        self,
        config: FeaturesConfig,
        plan: Plan,
        threads: int,
        expected_clips: int,
        stall_seconds: float,
    ) -> None:
        self._config, self._plan, self._threads = config, plan, threads
        self._expected_clips, self._stall_seconds = expected_clips, stall_seconds
        self._helpers: list[Any] = []
        self._running: dict[str, _Running] = {}

    def load(self) -> ProcessorInfo:
        """Load the backbones and start the preparers."""
        limit_threads(self._threads)
        options = dict(self._plan.preparer_options)
        self._class = ray.remote(concurrency_groups={"status": 1}, **options)(PrepareWorker)
        self._helpers = [self._class.remote(self._config) for _ in range(self._plan.preparers)]
        loading = [helper.load.remote() for helper in self._helpers]
        self._encoder = Encoder(
            backbone_stages(self._config, self._plan.device, self._expected_clips),
            self._config.prepare.remember_mib * MIB,
        )
        self._columns = frozenset(stored_columns(self._config.left_out)).union(
            *(stage.needs for stage in self._encoder.stages)
        )
        ray.get(loading)
        return describe(self._config, (*self._encoder.stages, *cpu_stages(self._config)))

    def ahead(self, coming: list[VideoRef]) -> None:
        """Let free preparers begin with the videos that come next."""
        waiting = deque(ref for ref in coming if ref.video_id not in self._running)
        busy = {running.helper for running in self._running.values()}
        for helper in range(len(self._helpers)):
            if helper not in busy and waiting:
                ref = waiting.popleft()
                stream = (
                    self._helpers[helper]
                    .prepare.options(
                        num_returns="streaming", _generator_backpressure_num_objects=AHEAD
                    )
                    .remote(ref, self._columns)
                )
                self._running[ref.video_id] = _Running(ref, helper, stream)

    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        """Yield the rows of a video as its preparer delivers them."""
        limit_threads(self._threads)
        self.ahead([ref])
        running = self._running[ref.video_id]
        finished = False
        try:
            while not finished:
                kind, value = self._next(running, progress, timings)
                if kind == "row":
                    (row,) = self._encoder(
                        [dict(value)], timings, progress.beat, remember=ref.source is not None
                    )
                    yield row
                elif kind == "error":
                    finished = True
                    raise value
                else:
                    finished = True
                    end, seconds = value
                    for stage, spent in seconds.seconds.items():
                        timings.add(f"ahead:{stage}", spent)
                    yield end
        finally:
            self._running.pop(ref.video_id, None)
            if not finished:
                self._replace(running.helper, progress)

    def _next(self, running: _Running, progress: Progress, timings: Timings) -> tuple[str, Any]:
        begun = time.perf_counter()
        watch = _Watch(self._helpers[running.helper], self._stall_seconds)
        try:
            while True:
                # Short waits keep this worker's own status alive.
                ready, _ = ray.wait([running.stream], timeout=1.0)
                progress.beat("wait")
                if ready:
                    return ray.get(next(running.stream))  # type: ignore[no-any-return]
                watch.look()
        except RayTaskError as error:
            raise RuntimeError(f"preparing failed: {error.cause or error}") from error
        except RayError as error:
            raise HelperCrashError(
                "decode",
                "worker_died",
                "the decoding process ended without a word while it worked on this video "
                f"(a crash in native code, or out of memory): {str(error).splitlines()[0]}",
            ) from None
        finally:
            timings.add("wait", time.perf_counter() - begun)

    def _replace(self, helper: int, progress: Progress) -> None:
        ray.kill(self._helpers[helper])
        self._helpers[helper] = self._class.remote(self._config)
        loading = self._helpers[helper].load.remote()
        while not ray.wait([loading], timeout=1.0)[0]:
            progress.beat("wait")
        try:
            ray.get(loading)
        except RayActorError:
            # Dead again: the next video that is given to it finds out, and gets another attempt.
            return

    def close(self) -> None:
        """End the preparers."""
        for helper in self._helpers:
            ray.kill(helper)
        self._helpers = []


def end_of(video: "PreparedVideo") -> VideoEnd:
    """Say what of a video is in no clip."""
    return VideoEnd(video.uncovered_s, video.missing_s, video.broken_frames, video.black_frames)


def limit_threads(threads: int) -> None:
    """Hold every library of this thread to ``threads`` compute threads."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def describe(config: FeaturesConfig, stages: tuple[Stage, ...]) -> ProcessorInfo:
    """Say what the loaded stages are."""
    from actors.decode import VERSION as DECODE_VERSION
    from actors.faces import VERSION as FACES_VERSION
    from actors.landmarks import FaceMesher
    from actors.weights import file_digest

    encoder = Encoder(stages)
    versions = {"decode": DECODE_VERSION, "faces": FACES_VERSION, "landmarks": FaceMesher.version}
    versions |= {stage.name: stage.version for stage in stages}
    weights = encoder.weights
    if config.faces.detector.weights is not None:
        weights["detector"] = file_digest(Path(config.faces.detector.weights))
    return ProcessorInfo(
        extractors=dict(sorted(versions.items())),
        weights=weights,
        demonstration=encoder.demonstration,
        struct_fields=STRUCT_FIELDS,
        left_out=config.left_out,
        notes=encoder.notes,
    )
