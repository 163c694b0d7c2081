"""Talking faces for tests: pictures and sound of the demo corpus, put together as needed."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.demo.render import VideoSpec, pictures, utterance
from actors.features import FeaturesConfig
from actors.prepare import Preparer
from actors.types import Row, Timings
from tests.media import write_video

SECONDS = 2.0


@cache
def _drawn(speaker: str) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    spec = VideoSpec("clean", speaker, 1, SECONDS, 7)
    said = utterance(spec)
    return list(pictures(spec, said)), said.samples


def faces(count: int, speaker: str = "ada") -> list[NDArray[np.uint8]]:
    """``count`` pictures [320, 320, 3] of a talking head; beyond 2 s it goes back and forth."""
    drawn = _drawn(speaker)[0]
    there_and_back = drawn + drawn[::-1]
    return [there_and_back[i % len(there_and_back)] for i in range(count)]


def voice(seconds: float, speaker: str = "ada") -> NDArray[np.float32]:
    """Speech at 16 kHz; beyond 2 s it repeats."""
    return np.resize(_drawn(speaker)[1], round(seconds * 16_000))


def talking_video(path: Path, count: int = 50, speaker: str = "ada", **options: Any) -> Path:
    """Write ``count`` pictures with sound of the same length unless ``options`` say otherwise."""
    images = options.pop("images", None) or faces(count, speaker)
    seconds = len(images) / float(options.get("fps", 25))
    options.setdefault("audio", voice(seconds, speaker))
    return write_video(path, images, **options)


def prepared(preparer: Preparer, path: Path) -> list[Row]:
    """All clips of a video."""
    with path.open("rb") as file:
        return list(preparer.open(file, path.name, Timings(), lambda _: None).rows)


def seeded_settings(**settings: Any) -> FeaturesConfig:
    """Settings with every modality and seeded weights; ``settings`` replace sections."""
    seeded = {name: {"weights": "seeded"} for name in ("visual", "audio", "sync")}
    return FeaturesConfig.model_validate({**seeded, **settings})


def assert_same(left: Row, right: Row, columns: tuple[str, ...]) -> None:
    """Equal values, bit for bit."""
    for name in columns:
        a, b = left[name], right[name]
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, name
            assert a.shape == b.shape, name
            assert a.tobytes() == b.tobytes(), name
        elif isinstance(a, dict):
            assert {k: str(v) for k, v in a.items()} == {k: str(v) for k, v in b.items()}, name
        else:
            assert a == b, name
