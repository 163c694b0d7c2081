"""What runs inside a scoring worker: extraction's processors, and the scorer behind them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from actors.types import Row, Timings, VideoRef
from pipelines.checkpoint import FeatureOrigin, load_checkpoint
from pipelines.config import differences, digest
from pipelines.messages import Processor, ProcessorFactory, ProcessorInfo, Progress, VideoEnd
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.rows import ScoreRows

if TYPE_CHECKING:
    from pipelines.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class ScoreFactory:
    """Makes the processor inside each worker.

    Attributes:
        inner: Makes what gives rows of features.
        checkpoint: URI of the checkpoint; every worker reads it.
        digest: Which one it must be.
        device: Where the evaluator computes.
    """

    inner: ProcessorFactory
    checkpoint: str
    digest: str
    device: str

    def __call__(self, threads: int) -> Processor:
        """Make the processor; called in the worker."""
        return ScoreProcessor(self, threads)


class ScoreProcessor:
    """Turns videos into rows of scores; features stay in memory for as long as their clip."""

    def __init__(self, factory: ScoreFactory, threads: int) -> None:
        self._factory = factory
        self._inner = factory.inner(threads)

    def load(self) -> ProcessorInfo:
        """Load extractors and evaluator, and hold them against each other.

        Raises:
            ScoreInputError: The extractors here do not give the features that the checkpoint was
                trained on, or the checkpoint was replaced meanwhile.
        """
        from pipelines.scoring.scorer import Scorer

        info = self._inner.load()
        checkpoint = load_right_checkpoint(self._factory.checkpoint, self._factory.digest)
        check_extractors(checkpoint.features, info)
        self._scorer = Scorer(checkpoint, self._factory.device)
        self._weights, self._left_out = info.weights, info.left_out
        rows = ScoreRows(checkpoint.digest, checkpoint.features.fingerprint)
        return replace(info, rows=rows)

    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        """Yield the rows of scores of a video, then what is left of it."""
        import time

        for item in self._inner.process(ref, progress, timings):
            if isinstance(item, VideoEnd):
                yield item
                continue
            progress.beat("score")
            begun = time.perf_counter()
            # What training left out says nothing here either: stored features do not have it.
            kept = {name: v for name, v in item.items() if name not in self._left_out}
            (row,) = self._scorer([{**kept, "weights": self._weights}])
            timings.add("score", time.perf_counter() - begun)
            yield row

    def ahead(self, coming: list[VideoRef]) -> None:
        """Let helper processes begin."""
        self._inner.ahead(coming)

    def close(self) -> None:
        """End helper processes."""
        self._inner.close()


def load_right_checkpoint(uri: str, wanted: str) -> "Checkpoint":
    """Load the checkpoint that the driver saw.

    Raises:
        ScoreInputError: There is another one now.
        CheckpointError: It cannot be used.
    """
    checkpoint = load_checkpoint(uri)
    if checkpoint.digest != wanted:
        raise ScoreInputError(
            f"the checkpoint changed while the run started (digest {wanted} became "
            f"{checkpoint.digest}), or a path means different files on different nodes: start "
            "again, with a URI that all nodes read"
        )
    return checkpoint


def check_extractors(origin: FeatureOrigin, info: ProcessorInfo) -> None:
    """Refuse to judge features of other extractors or weights than those of training.

    Raises:
        ScoreInputError: Names what differs.
    """
    now = {"extractors": info.extractors, "weights": info.weights}
    then = {"extractors": origin.extractors, "weights": origin.weights}
    if digest({"settings": origin.settings, **now}) == origin.fingerprint:
        return
    lines = "\n".join(f"  {line}" for line in differences(then, now))
    raise ScoreInputError(
        "the checkpoint was trained on features of other extractors or weights (then -> now):\n"
        f"{lines or '  (its own record is inconsistent)'}\n"
        "Its scores would mean nothing. Name the weights of training with --visual-weights, "
        "--audio-weights and --sync-weights, use the version of TalkMOS that made the features, "
        "or train on features of now."
    )
