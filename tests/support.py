"""Helpers that several test files share."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]


def clips_dir() -> Path:
    """The folder of real clips, or skip: they are not part of the project."""
    for candidate in (os.environ.get("TALKMOS_CLIPS", ""), ROOT.parent / "shared" / "clips"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    pytest.skip("real clips are absent (set TALKMOS_CLIPS to a folder that has them)")


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait until something is the case. The limit only ends what would never end."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def over(processes: Iterable[psutil.Process]) -> bool:
    """Say whether all have ended. One that nobody has reaped yet has; in containers nobody may."""
    return not any(_alive(process) for process in processes)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two questions
        return False
