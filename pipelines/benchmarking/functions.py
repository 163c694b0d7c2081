"""A Python function of a video's path, called in a process of its own that may crash."""

import importlib
import inspect
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from pipelines.benchmarking.answers import Answer, JudgeError, answer_of
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.uris import display_text, strip_text

START_S: Final = 120.0  # importing the function may take as long, or as long as a call
_LOOK: Final = 0.1


def check_target(target: str) -> str:
    """Check the form ``package.module:function``.

    Raises:
        BenchmarkInputError: It is another one.
    """
    module, colon, name = target.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), name)):
        raise BenchmarkInputError(
            f"--callable {display_text(target)}: expected package.module:function"
        )
    return target


class FunctionJudge:
    """Calls a function in a child process, which is started anew after a crash or a hang.

    Args:
        target: ``package.module:function``. Called with the path as text; when it has a parameter
            ``clean``, with the path of the clean video as well.
        timeout_s: A call that takes longer is ended, seconds.
        stop: Set when the run is interrupted.
        needs_clean: It has that parameter, see :meth:`start`.
    """

    def __init__(
        self, target: str, timeout_s: float, stop: threading.Event, *, needs_clean: bool = False
    ) -> None:
        self._target, self._timeout_s, self._stop = target, timeout_s, stop
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Connection | None = None
        self.needs_clean = needs_clean

    def start(self) -> None:
        """Start the child, import the function, and see whether it wants the clean video.

        Raises:
            BenchmarkInputError: It cannot be imported.
            JudgeError: The child died or hung while it imported.
        """
        ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(theirs, self._target), daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe = ours
        kind, value = self._answer(max(START_S, self._timeout_s))
        if kind == "refused":
            self.close()
            raise BenchmarkInputError(f"--callable {display_text(self._target)}: {value}")
        self.needs_clean = bool(value)

    def judge(self, video: Path, clean: Path | None) -> Answer:
        """Call the function.

        Raises:
            JudgeError: ``error``: it raised; ``crashed``, ``timeout``, ``garbage``, ``stopped``.
        """
        if self._pipe is None:
            self.start()
        assert self._pipe is not None
        try:
            self._pipe.send((str(video), None if clean is None else str(clean)))
        except OSError:  # it died after its last answer
            self.close()
            self.start()
            self._pipe.send((str(video), None if clean is None else str(clean)))
        kind, value = self._answer(self._timeout_s)
        if kind == "error":
            raise JudgeError("error", display_text(strip_text(str(value)), 300))
        return answer_of(value)

    def close(self) -> None:
        """End the child."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _answer(self, seconds: float) -> tuple[str, Any]:
        assert self._pipe is not None
        deadline = time.monotonic() + seconds
        while not self._pipe.poll(_LOOK):
            if self._stop.is_set():
                self.close()
                raise JudgeError("stopped", "the run was interrupted")
            if time.monotonic() > deadline:
                self.close()
                raise JudgeError("timeout", f"no answer within {seconds:g} s")
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            status = self._process.exitcode
            self.close()
            raise JudgeError("crashed", f"its process ended with status {status}") from None
        return str(kind), value


def _serve(pipe: Connection, target: str) -> None:
    """The child: import, then answer until the parent is gone."""
    from pipelines.child_process import end_with_parent

    end_with_parent()
    # Ctrl-C reaches this process, too: the parent ends it, and no traceback is for the terminal.
    # Not SIG_IGN, which programs that the function starts would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    os.dup2(2, 1)  # what the function prints is not the benchmark's output
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - texts are compared
        sys.path.append(os.getcwd())  # noqa: PTH109
    function, refused = _load(target)
    if function is None:
        pipe.send(("refused", refused))
        return
    wants_clean = _wants_clean(function)
    pipe.send(("ready", wants_clean))
    while True:
        try:
            video, clean = pipe.recv()
        except EOFError:
            return
        more = {"clean": clean} if wants_clean else {}
        try:
            answer = ("answer", _plain(function(video, **more)))
        except BaseException as error:  # noqa: BLE001 - whatever a user's function raises is one failure
            answer = ("error", _told(error))
        pipe.send(answer)


def _load(target: str) -> tuple[Callable[..., Any] | None, str]:
    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except BaseException as error:  # noqa: BLE001 - importing runs a user's code, which may exit
        return None, f"cannot be imported: {_told(error)}"
    if not callable(found):
        return None, f"the module {module} has no function {name}"
    return found, ""


def _wants_clean(function: Callable[..., Any]) -> bool:
    try:
        return "clean" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False  # compiled functions may not say what they take


def _told(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException:  # noqa: BLE001 - a user's exception may fail to say what it is
        return f"{name} (its text cannot be read)"


def _plain(value: Any) -> Any:
    """Turn numbers of NumPy and the like into floats, which travel without their library."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)[:100]
