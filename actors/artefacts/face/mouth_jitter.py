"""The mouth trembles."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.face import _shape as S
from actors.artefacts.face._common import follow, log_scale
from actors.artefacts.face._warp import moved, put, window_around
from actors.types import U8
from model.tasks import Task

# Standard deviation of the displacement in x and in y, distances between the outer eye corners.
LEAST: Final = 0.008
MOST: Final = 0.10
_CLIPPED: Final = 2.0  # standard deviations
_RADII: Final = (0.85, 0.75)  # of the part that moves, eye distances
_CORE: Final = 0.35
_CELLS: Final = 60  # across the part that moves, whose edge is soft


class MouthJitter(PictureArtefact):
    """The region of the mouth is displaced at random in every picture, as landmark noise does it.

    Severity s: 0.008 x 12.5^s eye distances (standard deviation in x and in y, cut at twice that),
    independently in every picture.
    """

    type: ClassVar[str] = "mouth_jitter"
    title: ClassVar[str] = "trembling mouth"
    group: ClassVar[Group] = "face"
    harms: ClassVar[Mapping[Task, float]] = {"expression": 3.0, "lip_sync": 2.0, "cross_modal": 1.0}

    def measures(self, severity: float) -> dict[str, float]:
        """Return the displacement."""
        return {"displacement_eye_distances": log_scale(severity, LEAST, MOST)}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Make the mouth tremble."""
        followed = follow(scene, self.type)
        shape = S.shape_of(followed)
        noise = scene.rng(self).standard_normal((scene.count, 2)).clip(-_CLIPPED, _CLIPPED)
        noise *= log_scale(severity, LEAST, MOST) * followed.strength[:, None]
        centre = S.mouth_centre(shape.mean)
        corners = centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * _RADII
        for i, image in enumerate(frames):
            # The centre follows the head and not the lips, so that all lips move alike.
            window = window_around(shape.to_pixels(i, corners), image.shape[:2], _CELLS)
            if followed.strength[i] == 0.0 or window is None:
                yield image
                continue
            face = S.to_face(shape.pose[i], window.centres())
            weight = S.near(face.reshape(-1, 2), centre, _RADII, _CORE).reshape(window.shape)
            offset = -weight * (shape.pose[i, :, :2] @ noise[i])[:, None, None]
            yield put(image, window, moved(image, window, window.fine(offset.astype(np.float32))))
