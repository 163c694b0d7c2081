"""A face with hardly any expression."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.face._reshape import Factors, reshaped
from actors.types import U8
from model.tasks import Task

MOUTH_SHARE: Final = 0.7  # the mouth goes on speaking


class Flattened(PictureArtefact):
    """Brows, lids and cheeks stay near the person's mean shape; the mouth makes smaller movements.

    Severity s multiplies deviations, without the motion of the head, by 1 - s, those of the mouth
    from its closed state by 1 - 0.7 s. Closed lids are not torn open: a blink stays a blink.
    """

    type: ClassVar[str] = "flattened"
    title: ClassVar[str] = "flattened expression"
    group: ClassVar[Group] = "face"
    harms: ClassVar[Mapping[Task, float]] = {"expression": 2.5, "lip_sync": 1.5, "cross_modal": 1.0}

    def measures(self, severity: float) -> dict[str, float]:
        """Return what deviations are multiplied by."""
        return {
            "expression_factor": 1.0 - severity,
            "mouth_motion_factor": 1.0 - MOUTH_SHARE * severity,
        }

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Flatten the expression."""
        factors = Factors(1.0 - severity, 1.0 - MOUTH_SHARE * severity, closed=True)
        return reshaped(frames, factors, scene, self.type)
