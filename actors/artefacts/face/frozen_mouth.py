"""The mouth stands still while the head moves and the voice goes on."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.face import _shape as S
from actors.artefacts.face._common import follow
from actors.artefacts.face._topology import topology
from actors.artefacts.face._warp import laid_over, moved, put, spread, touched, window_around
from actors.types import U8
from model.tasks import Task

_RADII: Final = (0.5, 0.4)  # of the part that is laid over, eye distances
_CORE: Final = 0.6


class FrozenMouth(PictureArtefact):
    """Lips and jaw keep, through the middle of the video, the state in which that part begins.

    Severity s is the share of the video. The lower face of each picture is warped to the held
    shape, which moves with the head, and the held mouth is laid over it with a soft edge.
    """

    type: ClassVar[str] = "frozen_mouth"
    title: ClassVar[str] = "frozen mouth"
    group: ClassVar[Group] = "face"
    harms: ClassVar[Mapping[Task, float]] = {"lip_sync": 3.5, "expression": 2.0, "cross_modal": 2.5}

    def measures(self, severity: float) -> dict[str, float]:
        """Return the share of the video."""
        return {"frozen_share": severity}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Freeze the mouth."""
        followed = follow(scene, self.type)
        shape = S.shape_of(followed)
        middle, half = scene.count / 2, severity * scene.count / 2
        first, last = round(middle - half), round(middle + half)
        lower = S.lower_face(shape.mean)[:, None]
        alpha = S.near(shape.mean, S.mouth_centre(shape.mean), _RADII, _CORE)[:, None]
        held: tuple[int, U8] | None = None
        for i, image in enumerate(frames):
            strength = float(followed.strength[i])
            if not first <= i < last or strength == 0.0:
                yield image
                continue
            if held is None:
                held = i, image
            yield _with_mouth_of(held, (i, image), shape, (lower * strength, alpha * strength))


def _with_mouth_of(
    held: tuple[int, U8], shown: tuple[int, U8], shape: S.Shape, weights: tuple[S.F64, S.F64]
) -> U8:
    """Return the shown picture with the mouth of the held one.

    Args:
        held: Number of a picture, and the picture.
        shown: The same.
        shape: Of the whole video.
        weights: [468, 1] each: how far the mesh takes the held shape, and the held pixels.
    """
    (since, earlier), (i, image), (lower, alpha) = held, shown, weights
    now, then = shape.expression[i], shape.expression[since]
    with_ring = topology().with_ring
    here, there = with_ring(shape.pixels(i, now)), with_ring(shape.pixels(since, then))
    goal = here.copy()
    goal[: len(now)] = shape.pixels(i, now + lower * (then - now))
    opacity = np.zeros((len(here), 1))
    opacity[: len(now)] = alpha
    moving = (np.abs(goal - here).max(axis=1) > 0) | (opacity[:, 0] > 0)
    window = window_around(touched(goal, moving), image.shape[:2])
    if window is None:
        return image
    values = np.concatenate([here - goal, there - goal, opacity], axis=1)
    field = window.fine(spread(goal, values, window, moving))
    own, other = moved(image, window, field[:2]), moved(earlier, window, field[2:4])
    return put(image, window, laid_over(own, other, field[4][..., None]))
