"""Helpers that several test files share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def clips_dir() -> Path:
    """The folder of real clips, or skip: they are not part of the project."""
    for candidate in (os.environ.get("TALKMOS_CLIPS", ""), ROOT.parent / "shared" / "clips"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    pytest.skip("real clips are absent (set TALKMOS_CLIPS to a folder that has them)")
