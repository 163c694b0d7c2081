"""Writes down what the pool reports: ledger, failure table, counts; and shows it."""

import time
from collections.abc import Callable

import psutil

from actors.types import VideoRef
from pipelines.failures import FailureTable
from pipelines.leases import Failure
from pipelines.ledger import Ledger
from pipelines.lock import LockGuard
from pipelines.messages import Outcome
from pipelines.progress import ProgressLine
from pipelines.shards import CommittedShard, reconcile
from pipelines.spool import SpooledCorpus
from pipelines.storage import Store, display_text

FAILURES_EVERY = 10.0  # seconds between writes of the failure table while it grows
LEDGER_EVERY = 120.0  # the ledger is a cache: writing it often would only cost
CUT_OFF_SECONDS = 0.5  # a header may round its duration, and in some containers it counts the sound
SHOWN_FAILURES = 20  # on the terminal; all of them are in the table


class Keeper:
    """The pool's `Events`: every fact goes to its place as it happens.

    Args:
        store: The output.
        ledger: Of the output.
        failures: Of the output.
        line: What a person sees.
        guard: Called before every change; raises when this run may not change the output.
        watch: Shown the counts about once a second.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        failures: FailureTable,
        line: ProgressLine,
        guard: LockGuard,
        *,
        watch: "Callable[[Keeper], None]" = lambda _: None,
    ) -> None:
        self._guard, self._watch = guard, watch
        self.store, self.ledger, self.failures, self.line = store, ledger, failures, line
        self.videos = self.clips = self.failed = self.shards = self.bytes = self.repaired = 0
        self._counted: set[str] = set()
        self.uncovered_s = self.span_s = 0.0
        self.broken_frames = self.black_frames = self.cut_off = 0
        self.reasons: dict[str, int] = {}
        self.driver_peak = 0
        self._process = psutil.Process()
        self._failures_due = self._ledger_due = 0.0
        self._next_look = 0.0
        self._ledger_new = False

    # --- events of the pool

    def on_extracted(self, outcome: Outcome) -> None:
        """A video's rows are in a spool."""
        self.uncovered_s += outcome.end.uncovered_s
        self.span_s += outcome.span_s
        self.broken_frames += outcome.end.broken_frames
        self.black_frames += outcome.end.black_frames
        self.cut_off += outcome.end.missing_s > CUT_OFF_SECONDS

    def on_committed(self, shard: CommittedShard) -> None:
        """A shard is published.

        May be called twice: the shard of a living worker can be found by listing, for the sake of
        a dead one, before its own report is read.
        """
        if shard.name in self._counted:
            return
        self._counted.add(shard.name)
        self.ledger.record(shard)
        self.videos += len(shard.videos)
        self.clips += shard.clips
        self.shards += 1
        self.bytes += shard.bytes
        self._ledger_new = True
        for entry in shard.videos:
            self.failures.drop(entry.video_id)

    def on_failed(self, failure: Failure) -> None:
        """A video was given up."""
        self.failed += 1
        self.reasons[failure.reason] = self.reasons.get(failure.reason, 0) + 1
        self.failures.add(failure)
        self.line.failed = self.failed
        if self.failed <= SHOWN_FAILURES:
            name = display_text(failure.ref.video_id)
            self.line.say(f"failed: {name}: {failure.reason}: {display_text(failure.message)}")
        elif self.failed == SHOWN_FAILURES + 1:
            self.line.say("more failures are not shown; all are in failures.parquet")

    def published(self, videos: list[VideoRef]) -> set[str]:
        """Look into the output which of ``videos`` are committed."""
        for shard in self.ledger.refresh(self.store):
            self.on_committed(shard)
        states = self.ledger.status_many([(ref.video_id, ref.version) for ref in videos])
        return {ref.video_id for ref, state in zip(videos, states, strict=True) if state == "done"}

    def tick(self, workers: int, clips: int, done: int) -> None:
        """Show progress; write down what is due."""
        self.line.update(workers, clips, done)
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + 1.0
        self._watch(self)
        self.driver_peak = max(self.driver_peak, self._process.memory_info().rss)
        if self.failures.changed and now >= self._failures_due:
            self._save_failures(now)
        if self._ledger_new and now >= self._ledger_due:
            self._save_ledger(now)

    # --- the end

    def save(self) -> None:
        """Write what is not yet written."""
        now = time.monotonic()
        if self.failures.changed:
            self._save_failures(now)
        if self._ledger_new:
            self._save_ledger(now)

    def settle(self, corpus: SpooledCorpus) -> None:
        """Make sure that no video is there twice or in an old version, and write the books."""
        for shard in self.ledger.refresh(self.store):
            # Published by a worker that was cut off: its videos may be there twice now.
            self._ledger_new = True
            self.line.say(f"found an unreported shard: {shard.name}")
        if self.ledger.has_surplus:
            report = reconcile(self.store, corpus.versions(), ledger=self.ledger, guard=self._guard)
            self.repaired = report.rewritten + report.dropped
            self._ledger_new = True
        self._forget_mended()
        self.save()

    def _forget_mended(self) -> None:
        """Drop failures of videos whose very version is done.

        A run that is killed right after a commit has no time to write that down.
        """
        rows = [(row["video_id"], row["source_version"]) for row in self.failures.rows()]
        states = self.ledger.status_many(rows)
        self.failures.drop(
            *(name for (name, _), state in zip(rows, states, strict=True) if state == "done")
        )

    def _save_failures(self, now: float) -> None:
        self._guard()
        self.failures.flush(self.store)
        self._failures_due = now + FAILURES_EVERY

    def _save_ledger(self, now: float) -> None:
        self._guard()
        self.ledger.save(self.store)
        self._ledger_new = False
        self._ledger_due = now + LEDGER_EVERY
