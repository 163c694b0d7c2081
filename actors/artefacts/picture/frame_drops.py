"""Stutter: single pictures are lost."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.picture._common import repeated
from actors.types import U8
from model.tasks import Task

MOST_SHARE: Final = 0.6  # of the pictures


class FrameDrops(PictureArtefact):
    """The picture before is shown in place of a lost one.

    The seed puts the pictures in an order; the severity says how many of them, from the first on,
    are lost. So what is lost at one severity is lost at every larger one too.
    """

    type: ClassVar[str] = "frame_drops"
    title: ClassVar[str] = "dropped frames"
    group: ClassVar[Group] = "picture"
    # Motion jerks; mouths shut late by the length of a hold, but are right again after it.
    harms: ClassVar[Mapping[Task, float]] = {
        "lip_sync": 1.5,
        "expression": 2.5,
        "cross_modal": 1.0,
    }

    def measures(self, severity: float) -> dict[str, float]:
        """Return the share of pictures that repeat the one before them."""
        return {"dropped_share": MOST_SHARE * severity}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Drop pictures; see :class:`actors.artefacts.artefact.PictureArtefact`."""
        # The first picture has none before it.
        order = scene.rng(self).permutation(scene.count - 1) + 1
        lost = round(self.measures(severity)["dropped_share"] * len(order))
        return repeated(frames, frozenset(order[:lost].tolist()))
