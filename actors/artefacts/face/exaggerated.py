"""Expressions and mouth movements that are far too large."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.face._reshape import Factors, reshaped
from actors.types import U8
from model.tasks import Task

GROWTH: Final = 2.0


class Exaggerated(PictureArtefact):
    """Brows, lids, cheeks and mouth deviate from the person's mean shape more than they did.

    Severity s multiplies the deviation, without the motion of the head, by 1 + 2 s. Lips and lids
    never cross.
    """

    type: ClassVar[str] = "exaggerated"
    title: ClassVar[str] = "exaggerated expression"
    group: ClassVar[Group] = "face"
    harms: ClassVar[Mapping[Task, float]] = {"expression": 3.0, "lip_sync": 1.5, "cross_modal": 1.5}

    def measures(self, severity: float) -> dict[str, float]:
        """Return what deviations are multiplied by."""
        return {"expression_factor": 1.0 + GROWTH * severity}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Enlarge the expression."""
        factor = 1.0 + GROWTH * severity
        return reshaped(frames, Factors(factor, factor, closed=False), scene, self.type)
