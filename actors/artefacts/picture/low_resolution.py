"""Pictures of too few pixels, enlarged to their old size."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.picture._common import geometric
from actors.types import U8
from model.tasks import Task

MOST_FACTOR: Final = 12.0  # a face 170 pixels wide has 14 left


class LowResolution(PictureArtefact):
    """Scaling down by area averaging and up again by bicubic interpolation; nothing is random."""

    type: ClassVar[str] = "low_resolution"
    title: ClassVar[str] = "low resolution"
    group: ClassVar[Group] = "picture"
    # As with blur: the timing of the lips survives.
    harms: ClassVar[Mapping[Task, float]] = {"expression": 2.5}

    def measures(self, severity: float) -> dict[str, float]:
        """Return by what factor both sides shrink."""
        return {"factor": geometric(1.0, MOST_FACTOR, severity)}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Take pixels away; see :class:`actors.artefacts.artefact.PictureArtefact`."""
        import cv2

        factor = self.measures(severity)["factor"]
        height, width = scene.size
        small = (max(1, round(width / factor)), max(1, round(height / factor)))
        for frame in frames:
            reduced = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
            yield cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC)
