"""Brightness and colours that change from picture to picture."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.picture._common import geometric
from actors.types import U8
from model.tasks import Task

# Standard deviation of the brightness gain in stops (factors of two): 1.4 % to 25 %.
LEAST_STOPS: Final = 0.02
MOST_STOPS: Final = 0.32
COLOUR_SHARE: Final = 0.3  # how much the gains of R, G and B part, as a share of the same


class Flicker(PictureArtefact):
    """Each picture is made brighter or darker, and a little of another colour.

    Gains are independent from picture to picture. Their logarithms are uniformly distributed, so
    that none lies far beyond the others.
    """

    type: ClassVar[str] = "flicker"
    title: ClassVar[str] = "flicker"
    group: ClassVar[Group] = "picture"
    # It draws the eye away from the face without changing what the face does.
    harms: ClassVar[Mapping[Task, float]] = {"expression": 2.0}

    def measures(self, severity: float) -> dict[str, float]:
        """Return the standard deviation of the brightness gain, stops (factors of two)."""
        return {"deviation_stops": geometric(LEAST_STOPS, MOST_STOPS, severity)}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Change the gains; see :class:`actors.artefacts.artefact.PictureArtefact`."""
        import cv2

        deviation = self.measures(severity)["deviation_stops"]
        rng = scene.rng(self)
        levels = np.arange(256.0)[None, :, None]
        for frame in frames:
            light, *colours = rng.uniform(-(3**0.5), 3**0.5, 4)  # standard deviation 1
            stops = deviation * (light + COLOUR_SHARE * np.array(colours))
            table = np.clip(np.rint(levels * 2**stops), 0, 255).astype(np.uint8)
            yield cv2.LUT(frame, table)
