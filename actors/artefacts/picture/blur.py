"""Pictures out of focus."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.picture._common import geometric, shorter_side
from actors.types import U8
from model.tasks import Task

# Standard deviation of the Gaussian, % of the shorter side. Across a face that fills a third of the
# picture, points nearer than a ninth of its width (2.35 deviations) run together at the upper end.
LEAST_PERCENT: Final = 0.15
MOST_PERCENT: Final = 1.6
REACH: Final = 3.0  # deviations; the kernel holds 99.7 % of the Gaussian


class Blur(PictureArtefact):
    """Gaussian blur. Nothing in it is random."""

    type: ClassVar[str] = "blur"
    title: ClassVar[str] = "blur"
    group: ClassVar[Group] = "picture"
    # Lips still open and close in time with the sound; the fine signs of a living face are lost.
    harms: ClassVar[Mapping[Task, float]] = {"expression": 2.5}

    def measures(self, severity: float) -> dict[str, float]:
        """Return the standard deviation of the Gaussian, % of the shorter side."""
        return {"sigma_percent": geometric(LEAST_PERCENT, MOST_PERCENT, severity)}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Blur each picture; see :class:`actors.artefacts.artefact.PictureArtefact`."""
        import cv2

        sigma = self.measures(severity)["sigma_percent"] / 100 * shorter_side(scene)
        # cv2.GaussianBlur rounds the kernel to 8 bits: off by up to two levels, and slower.
        kernel = cv2.getGaussianKernel(2 * math.ceil(REACH * sigma) + 1, sigma, cv2.CV_32F)
        for frame in frames:
            yield cv2.sepFilter2D(frame, -1, kernel, kernel)
