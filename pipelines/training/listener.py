"""What rank 0 says while it trains: shown to people and written for TensorBoard."""

from types import TracebackType
from typing import Any

from pipelines.storage import Store, display_text
from pipelines.training.data import TrainData
from pipelines.training.progress import TrainLine
from pipelines.training.task import TrainTask
from pipelines.training.tensorboard import TensorBoardLog

NAMED = 5  # clips of an incident on the terminal


class Listener:
    """Hears the messages of :class:`pipelines.training.loop.TrainingRun`; closes with the run."""

    def __init__(
        self, store: Store, data: TrainData, task: TrainTask, workers: int, run_id: str
    ) -> None:
        self._store, self._data, self._run_id = store, data, run_id
        training = task.training
        self._line = TrainLine(training.epochs, training.epochs * task.steps_per_epoch(workers))
        self._board: TensorBoardLog | None = None
        self._begun = 0

    def __enter__(self) -> "Listener":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._line.end()
        if self._board is not None:
            self._board.close()

    def heard(self, kind: str, value: Any) -> None:
        """Take a message."""
        if kind == "resumed":
            epoch, self._begun = value
            self._line.say(f"goes on after epoch {epoch}, step {self._begun}")
            self._line.begin(self._begun)
        elif kind == "progress":
            self._line.progress(*value)
        elif kind == "step":
            self._log().step(value)
        elif kind == "epoch":
            self._line.epoch(value)
            board = self._log()
            board.epoch(value)
            board.correlations("validation_predictions", value["correlations"], value["step"])
            board.publish()
        elif kind == "incident":
            self._line.incident(self._told(value))
        else:
            self._line.say(str(value))

    def _log(self) -> TensorBoardLog:
        if self._board is None:
            self._board = TensorBoardLog(self._store, self._run_id, self._begun)
        return self._board

    def _told(self, incident: dict[str, Any]) -> str:
        names = [f"{video} clip {clip}" for video, clip in named(self._data, incident["clips"])]
        shown = ", ".join(display_text(name) for name in names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        if incident["kind"] == "not_finite":
            return (
                f"step {incident['step']}: the loss is {incident['value']}, the step was left out; "
                f"clips: {shown}{more}"
            )
        return (
            f"step {incident['step']}: the gradient norm jumped to {incident['value']:.3g}; clips "
            f"of the step: {shown}{more}"
        )


def named(data: TrainData, clips: list[int]) -> list[tuple[str, int]]:
    """Return (video_id, clip_index) of clips by number."""
    index = data.index
    at = data.clips[clips]
    return [
        (index.videos[v], int(i))
        for v, i in zip(index.video[at], index.clip_index[at], strict=True)
    ]
