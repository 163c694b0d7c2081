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


class LiveLine:
    """One line that is redrawn on a terminal, and written anew now and then elsewhere.

    Args:
        stream: Where to write; default standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.live = self._stream.isatty()
        self._next = time.monotonic()
        self._drawn = False

    def due(self) -> bool:
        """Say whether it is time to draw again; counts from this answer."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + (LIVE_EVERY if self.live else PLAIN_EVERY)
        return True

    def reset(self) -> None:
        """Draw at the next occasion."""
        self._next = time.monotonic()

    def say(self, text: str) -> None:
        """Write a line of its own, above the live one."""
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._drawn = False
        self._stream.write(text + "\n")
        self._stream.flush()

    def draw(self, text: str) -> None:
        """Show ``text`` in place of what was shown before."""
        if self.live:
            columns = shutil.get_terminal_size().columns
            self._stream.write("\r\x1b[2K" + text[: columns - 1])
            self._drawn = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave what is shown and begin a new line."""
        if self._drawn:
            self._stream.write("\n")
            self._stream.flush()
            self._drawn = False


def bar(share: float, width: int = 20) -> str:
    """Draw a share in [0, 1]: ``[#####...............]``."""
    full = int(width * share)
    return "[" + "#" * full + "." * (width - full) + "]"


class ProgressLine(LiveLine):
    """Videos done, clips a second, time left and failures.

    Args:
        total: Videos to process in this run.
        stream: Where to write; a live line is drawn only on a terminal.
        noun: What is counted.
    """

    def __init__(self, total: int, stream: TextIO | None = None, noun: str = "videos") -> None:
        super().__init__(stream)
        self.total = total
        self._noun = noun
        self._started = time.monotonic()
        self._workers = 0
        self.done = 0
        self.failed = 0
        self.clips = 0

    def restart(self) -> None:
        """Begin to count time now: start-up is over."""
        self._started = time.monotonic()
        self.reset()

    def update(self, workers: int, clips: int, done: int) -> None:
        """Redraw when it is time; ``clips`` counts those of unfinished videos as well."""
        self.clips = max(self.clips, clips)
        self.done = done
        self._workers = workers
        if self.due():
            self.draw(self.line(workers, time.monotonic() - self._started))

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
        if not self.live:
            return text
        return f"{bar(share)} {text}"

    def close(self) -> None:
        """Draw the last state and end the line."""
        self.draw(self.line(self._workers, time.monotonic() - self._started))
        self.end()
