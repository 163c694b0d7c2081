"""A program that is run once a video and prints a number."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pipelines.benchmarking.answers import Answer, JudgeError, answer_in
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.uris import display_text, strip_text

VIDEO, CLEAN = "{video}", "{clean}"
_MOST_OUTPUT: Final = 16 * 2**20  # bytes; what prints more is stopped
_READ: Final = 64 * 2**10  # of the end of the output
_LOOK: Final = 0.05  # seconds between two looks at a running program


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, run without a shell.

    Attributes:
        text: As the user wrote it.
        arguments: Its words; ``{video}`` and ``{clean}`` in them are replaced by paths.
    """

    text: str
    arguments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Command":
        """Split a command line as a shell would.

        Raises:
            BenchmarkInputError: It cannot be split, its program is not there, or ``{video}`` is
                missing.
        """
        shown = display_text(strip_text(text))
        try:
            arguments = tuple(shlex.split(text))
        except ValueError as error:
            raise BenchmarkInputError(f"--command {shown}: {error}") from None
        if not any(VIDEO in word for word in arguments):
            raise BenchmarkInputError(
                f"--command {shown}: {VIDEO} must say where the path of the video goes"
            )
        if shutil.which(arguments[0]) is None:
            raise BenchmarkInputError(
                f"--command: there is no program {display_text(arguments[0])}"
            )
        return cls(text, arguments)

    @property
    def needs_clean(self) -> bool:
        """The clean video is wanted too."""
        return any(CLEAN in word for word in self.arguments)

    def filled(self, video: Path, clean: Path | None) -> list[str]:
        """Return the words with paths in them."""
        words = [word.replace(VIDEO, str(video)) for word in self.arguments]
        return [word.replace(CLEAN, str(clean)) for word in words] if clean else words


class CommandJudge:
    """Runs a command for one video after another.

    Args:
        command: What to run.
        timeout_s: A program that takes longer is stopped, seconds.
        stop: Set when the run is interrupted.
    """

    def __init__(self, command: Command, timeout_s: float, stop: threading.Event) -> None:
        self._command, self._timeout_s, self._stop = command, timeout_s, stop
        self.needs_clean = command.needs_clean

    def judge(self, video: Path, clean: Path | None) -> Answer:
        """Run the program.

        Raises:
            JudgeError: ``exit_status``, ``crashed``, ``timeout``, ``garbage``, ``stopped``.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with _started(self._command.filled(video, clean), out, err) as process:
                self._wait(process, out)
            status = process.returncode
            if status:
                said = strip_text(_end(err)).strip() or strip_text(_end(out)).strip()
                tail = f": {display_text(said[-300:], 300)}" if said else ""
                if status < 0:
                    raise JudgeError("crashed", f"ended by {_signal(-status)}{tail}")
                raise JudgeError("exit_status", f"exit status {status}{tail}")
            return answer_in(_end(out))

    def close(self) -> None:
        """Nothing stays open."""

    def _wait(self, process: "subprocess.Popen[bytes]", out: IO[bytes]) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                process.wait(_LOOK)
                return
            except subprocess.TimeoutExpired:
                pass
            if self._stop.is_set():
                raise JudgeError("stopped", "the run was interrupted")
            if time.monotonic() > deadline:
                raise JudgeError("timeout", f"no answer within {self._timeout_s:g} s")
            if os.fstat(out.fileno()).st_size > _MOST_OUTPUT:
                raise JudgeError("garbage", f"printed more than {_MOST_OUTPUT >> 20} MiB")


@contextmanager
def _started(
    words: list[str], out: IO[bytes], err: IO[bytes]
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a program in a session of its own; it and what it started is over at the end."""
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
    except OSError as error:
        raise JudgeError("error", f"cannot be started: {error.strerror}") from None
    try:
        yield process
    finally:
        if process.poll() is None:
            # Not waited for yet, so the number is still that of this program's group.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _READ))
    return file.read().decode("utf-8", "replace")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
