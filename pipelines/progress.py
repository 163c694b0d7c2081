"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

import shutil
import sys
import time
from typing import TextIO

PLAIN_EVERY = 15.0  # seconds between lines where there is no terminal
LIVE_EVERY = 0.25


def duration(seconds: float) -> str:
    """Write seconds as a person would: ``42s``, ``3m10s``, ``2h05m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class ProgressLine:
    """Videos done, clips a second, time left and failures.

    Args:
        total: Videos to process in this run.
        stream: Where to write; a live line is drawn only on a terminal.
        noun: What is counted.
    """

    def __init__(self, total: int, stream: TextIO | None = None, noun: str = "videos") -> None:
        self.total = total
        self._stream = stream or sys.stderr
        self._noun = noun
        self._live = self._stream.isatty()
        self._started = time.monotonic()
        self._next = self._started
        self._drawn = False
        self._workers = 0
        self.done = 0
        self.failed = 0
        self.clips = 0

    def restart(self) -> None:
        """Begin to count time now: start-up is over."""
        self._started = time.monotonic()
        self._next = self._started

    def update(self, workers: int, clips: int, done: int) -> None:
        """Redraw when it is time; ``clips`` counts those of unfinished videos as well."""
        self.clips = max(self.clips, clips)
        self.done = done
        self._workers = workers
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (LIVE_EVERY if self._live else PLAIN_EVERY)
        self._draw(self.line(workers, now - self._started))

    def line(self, workers: int, elapsed: float) -> str:
        """Compose the line."""
        finished = self.done + self.failed
        share = finished / self.total if self.total else 1.0
        rate = self.clips / elapsed if elapsed > 0 else 0.0
        left = "?"
        if finished and elapsed > 0:
            left = duration(elapsed / finished * (self.total - finished))
        text = (
            f"{finished}/{self.total} {self._noun} ({share:.0%}), {rate:.2f} clips/s, "
            f"{left} left, {self.failed} failed, {workers} worker{'s' if workers != 1 else ''}"
        )
        if not self._live:
            return text
        width = 20
        full = int(width * share)
        return "[" + "#" * full + "." * (width - full) + "] " + text

    def say(self, text: str) -> None:
        """Write a line of its own, above the live one."""
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._drawn = False
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Draw the last state and end the line."""
        self._draw(self.line(self._workers, time.monotonic() - self._started))
        if self._drawn:
            self._stream.write("\n")
            self._stream.flush()
            self._drawn = False

    def _draw(self, text: str) -> None:
        if self._live:
            columns = shutil.get_terminal_size().columns
            self._stream.write("\r\x1b[2K" + text[: columns - 1])
            self._drawn = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
