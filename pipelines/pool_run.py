"""Running all videos to do through a pool of workers: what extraction and scoring share."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from model.config import Config
from pipelines.leases import LeaseBook
from pipelines.messages import Limits, PoolReport, ProcessorInfo, RunContext, RunError
from pipelines.provenance import DEMONSTRATION

if TYPE_CHECKING:
    from pipelines.keeper import Keeper
    from pipelines.pool import WorkerPool
    from pipelines.todo import Todo


class RunConfig(Config):
    """How a run behaves; none of it changes values."""

    shard_clips: int = Field(
        64, ge=1, description="clips after which a worker publishes a shard (about 80 MB)"
    )
    flush_seconds: float = Field(
        120.0, gt=0, description="rows wait no longer than this for their shard"
    )
    stall_seconds: float = Field(
        60.0, gt=0, description="a worker without any progress for so long is ended"
    )
    video_seconds: float = Field(3600.0, gt=0, description="what one video may take in all")
    max_attempts: int = Field(2, ge=1, description="how often a video may bring its worker down")
    retry_failed: bool = Field(
        False, description="try videos again that failed for good in an earlier run"
    )
    wait_lock: bool = Field(
        False, description="wait for another run on the same output instead of stopping"
    )
    limit: int | None = Field(None, ge=1, description="process at most so many videos in this run")

    @property
    def limits(self) -> Limits:
        """When a worker's process must die."""
        return Limits(self.stall_seconds, self.video_seconds, self.max_attempts)


def run_pool(
    run: RunConfig,
    pool: "WorkerPool",
    keeper: "Keeper",
    todo: "Todo",
    context: Callable[[ProcessorInfo], RunContext],
) -> PoolReport:
    """Lease videos to workers, which prepare, encode and commit them.

    Args:
        run: How it behaves.
        pool: Not yet started; ended on return.
        keeper: Writes down what happens.
        todo: What is to be done.
        context: What shards have in common, once workers have said what they are.

    Raises:
        RunError: The run cannot go on; what was committed stands.
        UserInputError: A worker found that it was asked for something impossible.
    """
    say = keeper.line.say
    try:
        info = pool.start()
        for name, note in sorted(info.notes.items()):
            say(f"{name}: {note}")
        if info.demonstration:
            say(DEMONSTRATION)
        book = LeaseBook(todo.videos(), max_attempts=run.max_attempts)
        shared = context(info)
        keeper.line.restart()
        report = pool.run(book, shared)
    finally:
        pool.stop()
        keeper.save()
    keeper.line.close()
    if not book.taken == book.committed + book.failed == keeper.line.total:
        raise RunError(
            f"{book.taken} of {keeper.line.total} videos were taken, {book.committed} committed "
            f"and {book.failed} failed: this is a defect of TalkMOS, please report it"
        )
    return report
