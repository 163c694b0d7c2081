"""Runs one generator per share of the shards on Ray, all at once, and tells how far they are."""

from collections.abc import Callable, Container, Sequence
from typing import Any

import ray

from pipelines.storage import StorageError, Store
from pipelines.train_errors import TrainInputError
from pipelines.training.fit_share import ShardRows

# Called with (clips read, clips in this phase, the phase).
Progress = Callable[[int, int, str], None]


def deal(shards: Sequence[ShardRows], workers: int) -> list[list[ShardRows]]:
    """Deal shards out so that the shares hold about equally many clips; none is empty.

    The order of ``shards`` does not matter.
    """
    shares: list[list[ShardRows]] = [[] for _ in range(max(1, min(workers, len(shards))))]
    loads = [0] * len(shares)
    for shard in sorted(shards, key=lambda s: (-len(s.rows), s.name)):
        least = loads.index(min(loads))
        shares[least].append(shard)
        loads[least] += len(shard.rows)
    return shares


class ShareRunner:
    """Runs a generator of :mod:`pipelines.training.fit_share` over all shares at once."""

    def __init__(
        self, store: Store, shares: list[list[ShardRows]], cpus: float, told: Progress
    ) -> None:
        self._store = store
        self._shares = shares
        self._cpus = cpus
        self._told = told

    def __call__(
        self,
        phase: str,
        work: Callable[..., Any],
        *more: Any,
        only: Container[str] | None = None,
    ) -> list[list[Any]]:
        """Return, for each thing that ``work`` yields after the shards, its reference per share.

        Args:
            phase: What the progress is told.
            work: A generator of (store, share, *more).
            more: The same for all shares.
            only: Names of the shards to read; all by default.
        """
        task = ray.remote(work).options(num_cpus=self._cpus, num_returns="streaming")
        common = [ray.put(x) for x in more]
        shares = [
            [shard for shard in share if only is None or shard.name in only]
            for share in self._shares
        ]
        clips = sum(len(shard.rows) for share in shares for shard in share)
        streams = [task.remote(self._store, share, *common) for share in shares]
        found: list[list[Any]] = [[] for _ in streams]
        done, left = 0, {stream: at for at, stream in enumerate(streams)}
        self._told(0, clips, phase)
        try:
            while left:
                ready, _ = ray.wait(list(left), num_returns=1, fetch_local=False)
                for stream in ready:
                    at = left[stream]
                    try:
                        ref = next(stream)
                    except StopIteration:
                        del left[stream]
                        continue
                    found[at].append(ref)
                    if len(found[at]) <= len(shares[at]):
                        done += fetch(ref)
                        self._told(done, clips, phase)
        finally:
            for stream in left:  # one failed: the others need not go on
                ray.cancel(stream)
        ends = [refs[len(share) :] for refs, share in zip(found, shares, strict=True)]
        most = max(len(refs) for refs in ends)
        for refs in ends:
            if len(refs) < most:
                fetch(refs[-1])  # raises what ended that share early
        return [list(refs) for refs in zip(*ends, strict=True)]


def fetch(ref: Any) -> Any:
    """Fetch a result; bad input and storage that fails, found by a worker, are raised as such."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TrainInputError | StorageError):
            raise error.cause from None
        raise
