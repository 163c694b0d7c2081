"""The geometry of the face wobbles slowly, as if it were painted on water."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.face import _shape as S
from actors.artefacts.face._common import follow, log_scale
from actors.artefacts.face._warp import moved, put, window_around
from actors.types import F32, U8
from model.tasks import Task

# Standard deviation of the displacement in x and in y, distances between the outer eye corners.
LEAST: Final = 0.005
MOST: Final = 0.05
WAVES: Final = 4  # in each direction
WAVELENGTH: Final = (1.2, 2.4)  # eye distances
SLOWNESS_S: Final = 0.08  # standard deviation of the window that smooths the waves' strengths
_CLIPPED: Final = 2.0  # standard deviations of a wave's strength
_CENTRE: Final = (0.0, 0.35)  # of the part that moves, face coordinates
_RADII: Final = (1.0, 1.25)
_CORE: Final = 0.4
_CELLS: Final = 60


class FaceWobble(PictureArtefact):
    """Long waves run over the face and change within a fraction of a second; identity wavers.

    Severity s: 0.005 x 10^s eye distances (standard deviation in x and in y), in waves of 1.2 to
    2.4 eye distances whose strengths change at about 2 Hz.
    """

    type: ClassVar[str] = "face_wobble"
    title: ClassVar[str] = "wobbling face"
    group: ClassVar[Group] = "face"
    harms: ClassVar[Mapping[Task, float]] = {"expression": 3.0, "cross_modal": 0.5}

    def measures(self, severity: float) -> dict[str, float]:
        """Return the displacement."""
        return {"displacement_eye_distances": log_scale(severity, LEAST, MOST)}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Make the face wobble."""
        from scipy.ndimage import gaussian_filter1d

        followed = follow(scene, self.type)
        shape = S.shape_of(followed)
        rng = scene.rng(self)
        length = rng.uniform(*WAVELENGTH, 2 * WAVES)
        angle, phase = rng.uniform(0, 2 * np.pi, (2, 2 * WAVES))
        wave = (2 * np.pi / length)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        noise = rng.standard_normal((scene.count, 2 * WAVES))
        sigma = SLOWNESS_S * followed.rate
        slow = gaussian_filter1d(noise, sigma, axis=0)
        slow /= np.linalg.norm(gaussian_filter1d(np.eye(1, 201, 100)[0], sigma))  # variance 1 again
        # The mean square of a sine is 1/2, and WAVES of them add up.
        size = log_scale(severity, LEAST, MOST) * np.sqrt(2 / WAVES)
        strength = slow.clip(-_CLIPPED, _CLIPPED) * size * followed.strength[:, None]
        centre = np.array(_CENTRE)
        corners = centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * _RADII
        for i, image in enumerate(frames):
            window = window_around(shape.to_pixels(i, corners), image.shape[:2], _CELLS)
            if followed.strength[i] == 0.0 or window is None:
                yield image
                continue
            face = S.to_face(shape.pose[i], window.centres()).reshape(-1, 2)
            waves = np.sin(face @ wave.T + phase) * strength[i]
            shift = np.stack([waves[:, :WAVES].sum(axis=1), waves[:, WAVES:].sum(axis=1)])
            shift *= S.near(face, centre, _RADII, _CORE)
            offset: F32 = -(shape.pose[i, :, :2] @ shift).astype(np.float32)
            field = window.fine(offset.reshape(2, *window.shape))
            yield put(image, window, moved(image, window, field))
