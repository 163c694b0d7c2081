"""The mouth hardly moves: its opening and width are scaled towards closed lips."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.face._reshape import Factors, reshaped
from actors.types import U8
from model.tasks import Task


class DampedMouth(PictureArtefact):
    """Lips and jaw make smaller movements than the words need: under-articulation.

    Severity s multiplies the deviation of the lower face from its most closed state by 1 - s.
    """

    type: ClassVar[str] = "damped_mouth"
    title: ClassVar[str] = "damped mouth"
    group: ClassVar[Group] = "face"
    harms: ClassVar[Mapping[Task, float]] = {"lip_sync": 3.0, "expression": 2.0, "cross_modal": 2.0}

    def measures(self, severity: float) -> dict[str, float]:
        """Return what is left of the movement."""
        return {"mouth_motion_factor": 1.0 - severity}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Damp the movements of the mouth."""
        factors = Factors(face=1.0, mouth=1.0 - severity, closed=True)
        return reshaped(frames, factors, scene, self.type)
