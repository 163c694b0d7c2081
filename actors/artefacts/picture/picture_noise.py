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
    title: ClassVar[str] = "picture noise"
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
        luma = _Grains(rng, scene.size, grain, deviation * LUMA_SHARE**0.5)
        colour = _Grains(rng, scene.size, 2 * grain, deviation * (1 - LUMA_SHARE) ** 0.5, (3,))
        noise = np.empty((*scene.size, 3), np.float32)
        for frame in frames:
            noise = cv2.cvtColor(luma.draw(), cv2.COLOR_GRAY2RGB, dst=noise)
            np.add(noise, colour.draw(), out=noise)
            # Rounds, and stays within 0..255.
            yield cv2.add(frame, noise, dtype=cv2.CV_8U)


class _Grains:
    """Pictures of white Gaussian noise in squares.

    Normal numbers are read from a table of quantiles, and every picture is written over the one
    before it: that takes a third of the time.

    Args:
        rng: Where they come from.
        size: Height and width, pixels.
        side: Of a square, pixels.
        deviation: Standard deviation.
        channels: Further axes of the pictures, independent.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        side: int,
        deviation: float,
        channels: tuple[int, ...] = (),
    ) -> None:
        from scipy.special import ndtri

        self._rng, self._size, self._side = rng, size, side
        self._table = (deviation * ndtri((np.arange(2**16) + 0.5) / 2**16)).astype(np.float32)
        height, width = (length // side + 2 for length in size)
        self._small = np.empty((height, width, *channels), np.float32)
        self._large = np.empty((height * side, width * side, *channels), np.float32)

    def draw(self) -> F32:
        """Draw the next one: [H, W] or [H, W, channels], until the next draw.

        The squares begin elsewhere each time: edges that keep their places are those of a codec.
        """
        import cv2

        which = self._rng.integers(2**16, size=self._small.shape, dtype=np.uint16)
        # "clip" spares a copy; no index is out of range.
        self._table.take(which, out=self._small, mode="clip")
        squares = self._large.shape[1::-1]
        self._large = cv2.resize(
            self._small, squares, dst=self._large, interpolation=cv2.INTER_NEAREST
        )
        y, x = self._rng.integers(self._side, size=2).tolist()
        return self._large[y : y + self._size[0], x : x + self._size[1]]
