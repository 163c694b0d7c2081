"""A pool of extraction workers on Ray: leases out, results in, the hung and the dead replaced.

The only place that starts, watches and ends Ray actors. Which video is where is kept by
`pipelines.leases.LeaseBook`; this file moves messages and decides when a process must die.
"""

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.exceptions import RayError, RayTaskError

from actors.types import VideoRef
from pipelines.errors import UserInputError
from pipelines.leases import Failure, Lease, LeaseBook
from pipelines.messages import (
    Events,
    LeaseResult,
    Limits,
    Outcome,
    PoolReport,
    ProcessorFactory,
    ProcessorInfo,
    RunContext,
    RunError,
    Status,
)
from pipelines.resources import Plan
from pipelines.shards import CommittedShard
from pipelines.storage import StorageError
from pipelines.worker import ExtractWorker

POLL_SECONDS = 2.0
START_FAILURES = 3  # consecutive workers that died before they were ready: the run is given up
GRACE_SECONDS = (
    20.0  # beyond the stall limit, for a worker whose status thread does not answer either
)


Kind = Literal["load", "begin", "lease", "flush", "status"]


@dataclass(slots=True)
class _Handle:
    number: int
    actor: Any
    ready: bool = False
    pid: int = 0
    flushing: bool = False
    asked: float = 0.0  # when the status question that is still open was put
    answered: float = 0.0
    finished_clips: int = 0  # in finished leases
    clips: int = 0  # the same and those of the running lease, as of the last glance
    lease_videos: int = 0  # finished in the running lease, as of the last glance
    killed: str = ""  # why we ended it: becomes the failure's message
    killed_stage: str = ""
    killed_reason: str = ""


@dataclass(slots=True)
class _Call:
    handle: _Handle
    kind: Kind
    lease: Lease | None = None


class WorkerPool:
    """Runs all videos of a lease book through a pool of workers.

    Args:
        plan: Where workers go.
        factory: Makes the processor inside each worker.
        limits: When a process must die.
        events: Told of every video's fate.
    """

    def __init__(
        self, plan: Plan, factory: ProcessorFactory, limits: Limits, events: Events
    ) -> None:
        self._plan = plan
        self._factory = factory
        self._limits = limits
        self._events = events
        self._handles: dict[int, _Handle] = {}
        self._calls: dict[Any, _Call] = {}
        self._numbers = itertools.count()
        self._start_failures = 0
        self._info: ProcessorInfo | None = None
        self._context: RunContext | None = None
        self._next_poll = 0.0
        self._dead_clips = 0
        self._report: PoolReport | None = None
        options = dict(plan.actor_options)
        self._actor_class = ray.remote(
            max_concurrency=1, concurrency_groups={"status": 1}, **options
        )(ExtractWorker)

    # --- life of the pool

    def start(self) -> ProcessorInfo:
        """Start the workers and wait for the first to be ready.

        Raises:
            RunError: No worker can be started, with the worker's own reason.
        """
        for _ in range(self._plan.workers):
            self._start_worker()
        patience = time.monotonic() + 15.0
        while self._info is None:
            self._step(None)
            if time.monotonic() > patience:  # nodes may have to come first: show that it goes on
                self._events.tick(0, 0, 0)
        return self._info

    def run(self, book: LeaseBook, context: RunContext) -> PoolReport:
        """Process everything in ``book``; returns when each video is committed or failed.

        Raises:
            RunError: The run cannot go on.
        """
        assert self._info is not None, (
            "start() comes first"
        )  # an internal order, not a user's error
        self._context = context
        self._report = PoolReport(self._info)
        started = time.monotonic()
        for handle in self._handles.values():
            if handle.ready:
                self._begin(handle)
        while True:
            self._hand_out(book)
            if book.nothing_to_hand_out and book.open == 0 and not self._leases_running(book):
                break
            self._step(book)
        self._report.work_seconds = time.monotonic() - started
        return self._report

    def stop(self) -> None:
        """End all workers."""
        for handle in self._handles.values():
            ray.kill(handle.actor)
        self._handles.clear()
        self._calls.clear()

    # --- messages out

    def _start_worker(self) -> None:
        handle = _Handle(
            next(self._numbers), self._actor_class.remote(self._factory, self._plan.threads)
        )
        self._handles[handle.number] = handle
        self._call(handle, "load", handle.actor.load.remote())

    def _call(self, handle: _Handle, kind: Kind, ref: Any, lease: Lease | None = None) -> None:
        self._calls[ref] = _Call(handle, kind, lease)

    def _begin(self, handle: _Handle) -> None:
        self._call(handle, "begin", handle.actor.begin.remote(self._context))

    def _hand_out(self, book: LeaseBook) -> None:
        least = max(1, 2 * self._plan.preparers)  # keeps preparers ahead across videos
        for handle in self._handles.values():
            if not handle.ready or handle.flushing:
                continue
            while book.leases_of(handle.number) < book.depth():
                lease = book.lease(handle.number, least)
                if lease is None:
                    break
                ref = handle.actor.extract.remote(lease.number, lease.videos)
                self._call(handle, "lease", ref, lease)
            if book.leases_of(handle.number) == 0 and book.spooled(handle.number):
                handle.flushing = True
                self._call(handle, "flush", handle.actor.flush.remote())

    def _leases_running(self, book: LeaseBook) -> bool:
        return any(book.leases_of(n) or book.spooled(n) for n in self._handles)

    # --- messages in

    def _step(self, book: LeaseBook | None) -> None:
        if not self._calls:
            raise RunError("no worker is left and none could be started")
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=0.5)
        if ready:
            # Take all that is there: with tiny videos one wait per answer would cost the driver
            # dearly.
            ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        for ref in ready:
            call = self._calls.pop(ref, None)
            if call is None:
                continue  # its worker was found dead through another answer of this round
            try:
                answer = ray.get(ref)
            except RayTaskError as error:
                self._refused(call, error)
                continue
            except RayError as error:  # the actor, its node or its answer is gone
                self._lost(call.handle, book, str(error))
                continue
            self._answer(call, answer, book)
        if book is None:
            return
        self._watch(book)
        clips = self._dead_clips + sum(h.clips for h in self._handles.values())
        done = book.committed + sum(map(book.spooled, self._handles))
        done += sum(h.lease_videos for h in self._handles.values())
        self._events.tick(sum(h.ready for h in self._handles.values()), clips, done)

    def _answer(self, call: _Call, answer: Any, book: LeaseBook | None) -> None:
        handle = call.handle
        if call.kind == "load":
            info, handle.pid = answer
            self._loaded(handle, info)
        elif call.kind == "status":
            self._judge(handle, answer, book)
        elif call.kind == "lease" and book is not None and call.lease is not None:
            self._lease_done(handle, call.lease, answer, book)
        elif call.kind == "flush" and book is not None:
            handle.flushing = False
            self._committed(handle, answer, book)

    def _loaded(self, handle: _Handle, info: ProcessorInfo) -> None:
        if self._info is None:
            self._info = info
        elif (info.weights, info.extractors) != (self._info.weights, self._info.extractors):
            raise RunError(
                "workers loaded different weights or code "
                f"({info.weights} against {self._info.weights}): is a path of weights different "
                "between nodes?"
            )
        handle.ready = True
        self._start_failures = 0
        if self._context is not None:
            self._begin(handle)

    def _lease_done(
        self, handle: _Handle, lease: Lease, result: LeaseResult, book: LeaseBook
    ) -> None:
        assert self._report is not None
        handle.lease_videos = 0
        refs = {ref.video_id: ref for ref in lease.videos}
        good = [outcome for outcome in result.outcomes if not outcome.reason]
        book.finished(handle.number, lease, [outcome.video_id for outcome in good], result.seconds)
        for outcome in good:
            handle.finished_clips += outcome.clips
            self._events.on_extracted(outcome)
        handle.clips = max(handle.clips, handle.finished_clips)
        for outcome in result.outcomes:
            if outcome.reason:
                self._failed_outcome(refs[outcome.video_id], outcome, book)
        self._committed(handle, result.shards, book)
        self._report.timings.merge(result.timings)
        self._report.busy_seconds += result.seconds
        self._report.peak_rss = max(self._report.peak_rss, result.peak_rss)

    def _failed_outcome(self, ref: VideoRef, outcome: Outcome, book: LeaseBook) -> None:
        attempts = book.attempts(ref.video_id) + 1
        if outcome.crashed:
            given_up = book.crashed(ref)
            if given_up is None:
                return
            attempts = given_up
        else:
            book.fail()
        self._events.on_failed(
            Failure(
                ref, outcome.stage, outcome.reason, outcome.message, attempts, outcome.transient
            )
        )

    def _committed(
        self, handle: _Handle, shards: Iterable[CommittedShard], book: LeaseBook
    ) -> None:
        for shard in shards:
            book.commit(handle.number, [entry.video_id for entry in shard.videos])
            self._events.on_committed(shard)

    # --- trouble

    def _refused(self, call: _Call, error: RayTaskError) -> None:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, UserInputError):
            raise cause from None
        if call.kind == "load":
            raise RunError(f"a worker could not load: {cause}") from None
        if isinstance(cause, StorageError):
            raise RunError(f"shards cannot be written: {cause}") from None
        raise RunError(f"a worker refused to go on ({type(cause).__name__}): {cause}") from error

    def _lost(self, handle: _Handle, book: LeaseBook | None, why: str) -> None:
        if self._handles.pop(handle.number, None) is None:
            return
        ray.kill(
            handle.actor
        )  # it may only be out of reach, and must not go on beside its successor
        self._dead_clips += handle.clips
        for ref in [ref for ref, call in self._calls.items() if call.handle is handle]:
            del self._calls[ref]
        if not handle.ready:
            self._start_failures += 1
            if self._start_failures >= START_FAILURES:
                raise RunError(f"{START_FAILURES} workers in a row died while starting: {why}")
        if book is not None:
            self._take_back(handle, book, why)
        if book is None or not book.nothing_to_hand_out:
            self._start_worker()

    def _take_back(self, handle: _Handle, book: LeaseBook, why: str) -> None:
        assert self._report is not None
        self._report.workers_lost += 1
        published = self._events.published(book.held(handle.number))
        for ref, attempts in book.died(handle.number, published):
            reason = handle.killed_reason or "worker_died"
            stage = handle.killed_stage or "process"
            message = handle.killed or (
                "the worker's process ended without a word while it worked on this video "
                f"(a crash in native code, or out of memory): {_first_line(why)}"
            )
            # Neither a slow store nor a lost node is the video's fault: the next run tries again.
            transient = stage == "write" or "node" in _first_line(why).lower()
            self._events.on_failed(Failure(ref, stage, reason, message, attempts, transient))

    def _watch(self, book: LeaseBook) -> None:
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL_SECONDS
        for handle in list(self._handles.values()):
            if not handle.ready or (book.running(handle.number) is None and not handle.flushing):
                continue
            if handle.asked == 0.0:
                handle.asked = now
                self._call(handle, "status", handle.actor.status.remote())
            elif now - handle.asked > self._limits.stall_seconds + GRACE_SECONDS:
                self._kill(
                    handle, "process", "stalled",
                    f"the worker did not answer for {now - handle.asked:.0f} s and was ended",
                )  # fmt: skip

    def _judge(self, handle: _Handle, status: Status, book: LeaseBook | None) -> None:
        handle.asked = 0.0
        handle.clips = status.clips
        running = None if book is None else book.running(handle.number)
        same = running is not None and running.number == status.lease
        handle.lease_videos = status.videos if same else 0
        if book is None or status.stage == "idle":
            return
        limits = self._limits
        if status.still_seconds > limits.stall_seconds:
            self._kill(
                handle, status.stage, "stalled",
                f"{status.stage} made no progress for {status.still_seconds:.0f} s; "
                "its process was ended",
            )  # fmt: skip
        elif status.video_id and status.video_seconds > limits.video_seconds:
            self._kill(
                handle, status.stage, "deadline",
                f"the video took more than the {limits.video_seconds:.0f} s that one may take; "
                "its process was ended",
            )  # fmt: skip

    def _kill(self, handle: _Handle, stage: str, reason: str, message: str) -> None:
        if handle.killed:
            return
        handle.killed, handle.killed_stage, handle.killed_reason = message, stage, reason
        ray.kill(handle.actor)  # its open calls now fail, which takes the videos back


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:200]
