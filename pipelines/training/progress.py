"""What a person sees while an evaluator is trained."""

import time
from typing import Any, TextIO

from model.tasks import TASKS
from pipelines.progress import LiveLine, bar, duration


class CountLine(LiveLine):
    """How far a part of the work is that goes through clips once."""

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._what = what
        self._started = time.monotonic()

    def update(self, done: int, total: int, what: str = "") -> None:
        """Redraw when it is time, and at the end."""
        if not (self.due() or done == total):
            return
        elapsed = time.monotonic() - self._started
        rate = done / elapsed if elapsed > 0 else 0.0
        left = duration((total - done) / rate) if rate else "?"
        share = done / total if total else 1.0
        text = f"{what or self._what}: {done}/{total} clips ({share:.0%}), {rate:.0f} clips/s"
        text += f", {left} left" if done < total else ""
        self.draw(f"{bar(share)} {text}" if self.live else text)


class StepLine(LiveLine):
    """Steps done, rate, time left, loss; a kind of training adds what else it shows.

    Args:
        steps: Of the whole run.
        stream: Where to write; default standard error.
    """

    def __init__(self, steps: int, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._total = steps
        self._started: float | None = None
        self._first = 0

    def begin(self, step: int) -> None:
        """Count time from here: ``step`` steps were done before."""
        self._started, self._first = time.monotonic(), step

    def _step(self, step: int, loss: float, before: str, after: str) -> None:
        """Redraw when it is time; what else is shown goes before and after."""
        if self._started is None:
            self.begin(step)
        if not self.due() or self._started is None:
            return
        elapsed = time.monotonic() - self._started
        rate = (step - self._first) / elapsed if elapsed > 0 else 0.0
        left = duration((self._total - step) / rate) if rate > 0 else "?"
        share = step / self._total
        text = (
            f"{before}step {step}/{self._total} ({share:.0%}), {rate:.2f} steps/s, at most {left} "
            f"left, loss {loss:.4f}, {after}"
        )
        self.draw(f"{bar(share)} {text}" if self.live else text)


class TrainLine(StepLine):
    """Epochs and steps done, rate, time left, loss, incidents; a line for each epoch."""

    def __init__(self, epochs: int, steps: int, stream: TextIO | None = None) -> None:
        super().__init__(steps, stream)
        self._epochs = epochs
        self._incidents = 0

    def progress(self, epoch: int, step: int, loss: float) -> None:
        """Redraw when it is time."""
        incidents = f"{self._incidents} incident{'' if self._incidents == 1 else 's'}"
        self._step(step, loss, f"epoch {epoch + 1}/{self._epochs}, ", incidents)

    def epoch(self, record: dict[str, Any]) -> None:
        """Write what an epoch reached."""
        plcc = ", ".join(f"{task} {_shown(record['plcc'][task], 3)}" for task in TASKS)
        mark = ", best so far" if record["best"] else ""
        self.say(
            f"epoch {record['epoch'] + 1}: loss {_shown(record['train'].get('total'))}, validation "
            f"{_shown(record['val']['total'])}{mark}; PLCC {plcc}"
        )

    def incident(self, text: str) -> None:
        """Write what went wrong in a step."""
        self._incidents += 1
        self.say(text)


def _shown(value: float | None, digits: int = 4) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"
