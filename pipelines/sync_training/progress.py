"""What a person sees while SyncNet is trained."""

import time
from typing import Any, TextIO

from pipelines.progress import LiveLine, bar, duration


class SyncLine(LiveLine):
    """Steps done, rate, time left, loss; a line for each validation.

    Args:
        steps: Of the whole run.
        stream: Where to write; default standard error.
    """

    def __init__(self, steps: int, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._total = steps
        self._started: float | None = None
        self._first = 0

    def heard(self, kind: str, value: Any) -> None:
        """Take a message of :class:`pipelines.sync_training.loop.SyncRun`."""
        if kind == "resumed":
            self.say(f"goes on after step {value}")
            self._begin(value)
        elif kind == "progress":
            self._progress(*value)
        elif kind == "validation":
            self._validation(value)
        else:
            self.say(str(value))

    def _begin(self, step: int) -> None:
        self._started, self._first = time.monotonic(), step

    def _progress(self, step: int, loss: float, least: int) -> None:
        if self._started is None:
            self._begin(step)
        if not self.due() or self._started is None:
            return
        elapsed = time.monotonic() - self._started
        rate = (step - self._first) / elapsed if elapsed > 0 else 0.0
        left = duration((self._total - step) / rate) if rate > 0 else "?"
        share = step / self._total
        text = (
            f"step {step}/{self._total} ({share:.0%}), {rate:.2f} steps/s, at most {left} left, "
            f"loss {loss:.4f}, shifts from {least} frames"
        )
        self.draw(f"{bar(share)} {text}" if self.live else text)

    def _validation(self, record: dict[str, Any]) -> None:
        whole, pieces = record["whole"], record["pieces"]
        mark = ", best so far" if record["best"] else ""
        self.say(
            f"step {record['step']}: offsets found exactly {whole['exact']:.1%} of whole clips, "
            f"{pieces['exact']:.1%} of pieces; own sound preferred {whole['foreign']:.1%}, "
            f"{pieces['foreign']:.1%}{mark}"
        )
