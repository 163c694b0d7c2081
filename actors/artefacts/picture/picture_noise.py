"""Noise as of a sensor in the dark."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.picture._common import REFERENCE_SIDE, geometric, shorter_side
from actors.types import F32, U8
from model.tasks import Task

# Standard deviation in each of R, G and B, grey levels of 255: PSNR 48 dB to 18 dB.
LEAST_LEVELS: Final = 1.0
MOST_LEVELS: Final = 32.0
LUMA_SHARE: Final = 0.6  # of the variance is common to R, G and B; the rest is colour noise


class PictureNoise(PictureArtefact):
    """White Gaussian noise of brightness, and of colour in grains of twice the size.

    Each picture has its own. A grain grows with the picture (one pixel where the shorter side has
    512), so that the noise of large pictures does not vanish when they are scaled down.
    """

    type: ClassVar[str] = "picture_noise"
    title: ClassVar[str] = "Picture noise"
    group: ClassVar[Group] = "picture"
    # A face can be read through much noise, so it costs less than lost detail does.
    harms: ClassVar[Mapping[Task, float]] = {"expression": 2.0}

    def measures(self, severity: float) -> dict[str, float]:
        """Return the standard deviation of each colour channel, grey levels of 255."""
        return {"deviation_levels": geometric(LEAST_LEVELS, MOST_LEVELS, severity)}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Add noise; see :class:`actors.artefacts.artefact.PictureArtefact`."""
        import cv2

        deviation = self.measures(severity)["deviation_levels"]
        rng = scene.rng(self)
        grain = max(1, round(shorter_side(scene) / REFERENCE_SIDE))
        for frame in frames:
            noise = _noise(rng, scene.size, grain, deviation)
            # Rounds, and stays within 0..255.
            yield cv2.add(frame, noise, dtype=cv2.CV_8U)


def _noise(rng: np.random.Generator, size: tuple[int, int], grain: int, deviation: float) -> F32:
    """Draw one picture of noise: [H, W, 3]."""
    colour = _grains(rng, size, 2 * grain, 3, deviation * (1 - LUMA_SHARE) ** 0.5)
    return colour + _grains(rng, size, grain, 1, deviation * LUMA_SHARE**0.5)


def _grains(
    rng: np.random.Generator, size: tuple[int, int], side: int, channels: int, deviation: float
) -> F32:
    """Draw white noise in squares of ``side`` pixels: [H, W, channels].

    The squares begin elsewhere in each picture: edges that keep their places are those of a codec.
    """
    height, width = size
    grains = rng.standard_normal((height // side + 2, width // side + 2, channels), np.float32)
    grains *= np.float32(deviation)
    y, x = rng.integers(side, size=2).tolist()
    large = grains.repeat(side, axis=0).repeat(side, axis=1) if side > 1 else grains
    return large[y : y + height, x : x + width]
