"""TensorBoard logs of a training run: written beside the run, copied to the output after epochs."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.tasks import TASKS
from pipelines.storage import Store

FOLDER = "tensorboard/"


class TensorBoardLog:
    """Losses, task weights, learning rates, gradient norms, validation, correlations of tasks.

    Event files are appended to, which object stores cannot do; so the log grows in a local folder
    and :meth:`publish` copies it whole. Events are written at once, not by a thread as
    tensorboardX's SummaryWriter does: what is published ends with a whole record.

    Args:
        store: The output.
        run_id: Tells the files of resumed runs apart.
        step: Steps that are done; later ones of an interrupted run are hidden.
    """

    def __init__(self, store: Store, run_id: str, step: int = 0) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._store = store
        self._folder = tempfile.TemporaryDirectory(prefix="talkmos-tensorboard-")
        self._writer = EventsWriter(f"{self._folder.name}/events", f".{run_id}")
        if step:
            self._write(step, session_log=SessionLog(status=SessionLog.START))

    def step(self, record: dict[str, Any]) -> None:
        """Log a step of ``history.json``."""
        step = record["step"]
        for name in ("total", *TASKS, "consistency", "ranking", "alignment"):
            self._scalar(f"loss/{name}", record.get(name), step)
        for task, weight in record["weights"].items():
            self._scalar(f"weight/{task}", weight, step)
        for part, rate in record["lr"].items():
            self._scalar(f"learning_rate/{part}", rate, step)
        self._scalar("gradient/norm", record["grad_norm"], step)

    def epoch(self, record: dict[str, Any]) -> None:
        """Log an epoch of ``history.json``."""
        step = record["step"]
        for name, value in record["train"].items():
            self._scalar(f"epoch_loss/{name}", value, step)
        for name, value in record["val"].items():
            self._scalar(f"validation_loss/{name}", value, step)
        for metric in ("plcc", "srcc"):
            for task, value in record[metric].items():
                self._scalar(f"validation_{metric}/{task}", value, step)
        self._scalar("validation/monitor", record["monitor"], step)

    def correlations(self, name: str, matrix: list[list[float | None]], step: int) -> None:
        """Log a heat map of the correlations of the tasks, [N, N], None where undefined."""
        from tensorboardX.summary import image

        values = [[np.nan if v is None else v for v in row] for row in matrix]
        picture = image(f"correlation/{name}", heat_map(np.array(values)), dataformats="CHW")
        self._write(step, summary=picture)

    def publish(self) -> None:
        """Copy the event files to the output."""
        self._writer.flush()
        self._copy()

    def close(self) -> None:
        """Copy the files a last time and remove the local folder."""
        self._writer.close()
        self._copy()
        self._folder.cleanup()

    def _copy(self) -> None:
        for path in Path(self._folder.name).iterdir():
            with path.open("rb") as file:
                self._store.publish(file, f"{FOLDER}{path.name}")

    def _scalar(self, name: str, value: float | None, step: int) -> None:
        if value is not None:
            from tensorboardX.summary import scalar

            self._write(step, summary=scalar(name, value))

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))


def heat_map(matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw a matrix of correlations with its values -> [3, H, W] RGB; undefined ones are grey."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.5), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("0.8")
    shown = axes.imshow(np.ma.masked_invalid(matrix), vmin=-1, vmax=1, cmap="RdBu_r")
    names = list(TASKS)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (row, column), value in np.ndenumerate(matrix):
        text = "undefined" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7)
    figure.colorbar(shown)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
