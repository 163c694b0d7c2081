"""Which video is where: queueing, blame and retries, as pure bookkeeping without Ray.

A lease is a short list of videos given to one worker. A video is *queued*, *running* (in a lease),
*spooled* (extracted, its rows wait in the worker for the next shard), *committed* or *failed*. The
book makes
sure that every video ends in exactly one of the last two, whatever dies in between.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from actors.types import VideoRef

MAX_LEASE = 256
MAX_VARIANTS = (
    32  # of one source in a lease: what they share is done once, and others have work too
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a video has no rows."""

    ref: VideoRef
    stage: str
    reason: str
    message: str
    attempts: int
    transient: bool = False


@dataclass(slots=True)
class Lease:
    """Videos handed to one worker in one call."""

    number: int
    worker: int
    videos: list[VideoRef]


@dataclass(slots=True)
class _Worker:
    leases: deque[Lease] = field(default_factory=deque)  # first in, first run
    spooled: dict[str, VideoRef] = field(default_factory=dict)


class LeaseBook:
    """The state of every video that has left the corpus listing and is not yet committed.

    Args:
        source: The videos to process, read only as fast as they are handed out.
        max_attempts: How often a video may bring its worker down before it is given up.
        lease_seconds: Work that one lease should hold; videos that take longer go one by one.
    """

    def __init__(
        self, source: Iterable[VideoRef], *, max_attempts: int = 2, lease_seconds: float = 1.0
    ) -> None:
        self._source: Iterator[VideoRef] = iter(source)
        self._next = next(self._source, None)  # known beforehand: does it belong to the others?
        self._again: deque[VideoRef] = deque()  # lost with a worker, not under suspicion
        self._suspects: deque[VideoRef] = deque()  # were running when a worker died: one to a lease
        self._attempts: dict[str, int] = {}
        self._workers: dict[int, _Worker] = {}
        self._number = 0
        self._max_attempts = max_attempts
        self._lease_seconds = lease_seconds
        self._video_seconds: float | None = None
        self.taken = 0  # videos ever handed out for the first time
        self.committed = 0
        self.failed = 0

    # --- handing out

    def lease_size(self, least: int = 1) -> int:
        """Return how many videos the next lease holds: many only when they are quick."""
        if self._video_seconds is None:
            return least
        size = int(self._lease_seconds / max(self._video_seconds, 1e-6))
        return max(least, min(size, MAX_LEASE))

    def depth(self) -> int:
        """Return how many leases a worker may hold: two for quick videos, so it never waits."""
        quick = self._video_seconds is not None and self._video_seconds < self._lease_seconds
        return 2 if quick else 1

    def lease(self, worker: int, least: int = 1) -> Lease | None:
        """Hand out the next videos to ``worker``, or None when nothing is left to hand out."""
        state = self._workers.setdefault(worker, _Worker())
        if self._suspects:
            videos = [self._suspects.popleft()]
        else:
            videos = []
            size = self.lease_size(least)
            while len(videos) < size and self._again:
                videos.append(self._again.popleft())
            while self._next is not None and (len(videos) < size or self._belongs_to(videos)):
                videos.append(self._next)
                self.taken += 1
                self._next = next(self._source, None)
        if not videos:
            return None
        self._number += 1
        lease = Lease(self._number, worker, videos)
        state.leases.append(lease)
        return lease

    def _belongs_to(self, videos: list[VideoRef]) -> bool:
        """Say whether the next video is a variant of the same source as the last one."""
        if self._next is None or not videos or len(videos) >= MAX_VARIANTS:
            return False
        return self._next.source is not None and self._next.source == videos[-1].source

    def attempts(self, video_id: str) -> int:
        """Return how often the video has brought a worker down."""
        return self._attempts.get(video_id, 0)

    # --- what workers report

    def finished(self, worker: int, lease: Lease, extracted: Iterable[str], seconds: float) -> None:
        """A lease came back; the rows of ``extracted`` are now in the worker's spool."""
        state = self._workers[worker]
        state.leases.remove(lease)
        by_id = {ref.video_id: ref for ref in lease.videos}
        for video_id in extracted:
            state.spooled[video_id] = by_id[video_id]
        each = seconds / len(lease.videos)
        old = self._video_seconds
        self._video_seconds = each if old is None else 0.8 * old + 0.2 * each

    def commit(self, worker: int, video_ids: Iterable[str]) -> None:
        """The worker published these videos."""
        spooled = self._workers[worker].spooled
        for video_id in video_ids:
            del spooled[video_id]
            self._attempts.pop(video_id, None)
            self.committed += 1

    def fail(self) -> None:
        """A video of a finished lease failed for good."""
        self.failed += 1

    def crashed(self, ref: VideoRef) -> int | None:
        """A video of a finished lease brought down a helper process of its worker.

        Returns:
            None when it was queued again, else the number of attempts: it is given up.
        """
        return self._suspect(ref)

    def died(self, worker: int, published: set[str]) -> list[tuple[VideoRef, int]]:
        """A worker is gone: take back what it had.

        Args:
            worker: Its number.
            published: Videos that turned out to be committed although the worker did not say so.

        Returns:
            Videos that are given up, with their attempts.
        """
        state = self._workers.pop(worker, None)
        if state is None:
            return []
        for video_id, ref in state.spooled.items():
            if video_id in published:
                self.committed += 1
            else:
                self._again.append(ref)
        given_up = []
        for position, lease in enumerate(state.leases):
            left = []
            for ref in lease.videos:
                if ref.video_id in published:
                    self.committed += 1
                else:
                    left.append(ref)
            if position > 0:
                self._again.extend(left)  # had not begun
            elif len(left) == 1:
                attempts = self._suspect(left[0])
                if attempts is not None:
                    given_up.append((left[0], attempts))
            else:
                self._suspects.extend(left)  # which of them it was shows when each runs alone
        return given_up

    def _suspect(self, ref: VideoRef) -> int | None:
        attempts = self._attempts.get(ref.video_id, 0) + 1
        if attempts >= self._max_attempts:
            self._attempts.pop(ref.video_id, None)
            self.failed += 1
            return attempts
        self._attempts[ref.video_id] = attempts
        self._suspects.append(ref)
        return None

    # --- questions

    def leases_of(self, worker: int) -> int:
        """Return how many leases the worker holds."""
        state = self._workers.get(worker)
        return len(state.leases) if state else 0

    def running(self, worker: int) -> Lease | None:
        """Return the lease that the worker is busy with."""
        state = self._workers.get(worker)
        return state.leases[0] if state and state.leases else None

    def held(self, worker: int) -> list[VideoRef]:
        """Return all videos that the worker has, spooled, running or waiting."""
        state = self._workers.get(worker)
        if state is None:
            return []
        return [*state.spooled.values(), *(ref for lease in state.leases for ref in lease.videos)]

    def spooled(self, worker: int) -> int:
        """Return how many extracted videos wait in the worker for the next shard."""
        state = self._workers.get(worker)
        return len(state.spooled) if state else 0

    @property
    def nothing_to_hand_out(self) -> bool:
        """Whether queue and listing are empty (leases may still be running)."""
        return self._next is None and not self._again and not self._suspects

    @property
    def open(self) -> int:
        """Videos that were taken and are neither committed nor failed."""
        return self.taken - self.committed - self.failed
