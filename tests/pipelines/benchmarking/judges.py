"""Functions of a video's path, as a user might give them."""

import os
import time
from pathlib import Path

CALLS = os.environ.get("TALKMOS_TEST_CALLS")


def by_name(video: str) -> float:
    """The severity in the name, so that the answer is known; some names misbehave."""
    name = Path(video).stem
    if CALLS:
        with Path(CALLS).open("a") as file:
            file.write(f"{name}\n")
    if name == "noise-0.2":
        raise ValueError("cannot judge this")
    if name == "noise-0.4":
        os._exit(7)
    if name == "noise-0.6":
        time.sleep(60)
    if name == "noise-0.8":
        return float("nan")
    _, _, severity = name.rpartition("-")
    print("a function may print")
    return 5.0 - (float(severity) if severity.replace(".", "").isdigit() else 0.0)


def against(video: str, clean: str) -> dict[str, float]:
    """Needs the clean video: says how much longer the file is."""
    size = Path(video).stat().st_size - Path(clean).stat().st_size
    return {"audio_quality": -float(size), "other": 1.0}


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("an exception that cannot be shown")


def rude(video: str) -> float:
    """Raises what is no usual exception."""
    name = Path(video).stem
    if name == "noise-0.2":
        raise KeyboardInterrupt
    if name == "noise-0.4":
        raise SystemExit("bye")
    if name == "noise-0.6":
        raise MuteError
    return 1.0


class Compiled:
    """Like a compiled function: does not say what it takes."""

    __signature__ = "none"

    def __call__(self, video: str) -> float:
        return 2.0


compiled = Compiled()
NOT_A_FUNCTION = 3
