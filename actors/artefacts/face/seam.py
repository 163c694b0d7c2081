"""A seam around the face, as of a face pasted into the picture."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.face import _shape as S
from actors.artefacts.face._common import HEAD_S, follow, log_scale
from actors.artefacts.face._topology import topology
from actors.artefacts.face._warp import Window, laid_over, moved, put, window_around
from actors.types import F32, U8
from model.tasks import Task

OFFSET: Final = (4.0, 36.0)  # brightness at severity 0 and 1, of 255 levels
TINT: Final = 0.35  # of the offset: how far the colours part
FEATHER: Final = (0.08, 0.006)  # width of the edge (standard deviation), eye distances
BLUR: Final = (0.002, 0.014)  # standard deviation, eye distances
SHIFT: Final = (0.002, 0.03)  # eye distances
_SIZE: Final = 0.92  # of the face's outline
_DARK, _BRIGHT = 80.0, 170.0  # a face beyond these is made brighter (darker), whatever the seed


class Seam(PictureArtefact):
    """The face has another brightness, colour and sharpness than its surroundings, and an edge.

    Severity s: offset of 4 x 9^s levels, edge of 0.08 x 0.075^s, blur of 0.002 x 7^s and shift of
    0.002 x 15^s eye distances. The seed chooses the direction in colour and in space.
    """

    type: ClassVar[str] = "seam"
    title: ClassVar[str] = "seam around the face"
    group: ClassVar[Group] = "face"
    harms: ClassVar[Mapping[Task, float]] = {"expression": 2.5, "cross_modal": 0.5}

    def measures(self, severity: float) -> dict[str, float]:
        """Return offset, width of the edge, blur and shift."""
        return {
            "offset_levels": log_scale(severity, *OFFSET),
            "edge_eye_distances": log_scale(severity, *FEATHER),
            "blur_eye_distances": log_scale(severity, *BLUR),
            "shift_eye_distances": log_scale(severity, *SHIFT),
        }

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Paste the face."""
        followed = follow(scene, self.type)
        eyes = S.shape_of(followed).eyes
        outline = followed.smooth(HEAD_S)[:, topology().oval]
        middle = outline.mean(axis=1, keepdims=True)
        outline = middle + _SIZE * (outline - middle)
        rng = scene.rng(self)
        sign, angle = rng.choice([-1.0, 1.0]), rng.uniform(0, 2 * np.pi)
        tint = rng.standard_normal(3)
        tint = TINT * (tint - tint.mean()) / np.abs(tint - tint.mean()).max()
        towards = np.array([np.cos(angle), np.sin(angle)])
        edge, blur, shift = (log_scale(severity, *range_) for range_ in (FEATHER, BLUR, SHIFT))
        colour: F32 | None = None
        for i, image in enumerate(frames):
            strength, eye = float(followed.strength[i]), float(eyes[i])
            reach = 4 * edge * eye + 2
            ring = np.concatenate([outline[i] - reach, outline[i] + reach])
            window = window_around(ring, scene.size)
            if strength == 0.0 or window is None:
                yield image
                continue
            face = _polygon(outline[i], window)
            if not face.any():
                yield image
                continue
            if colour is None:
                level = float(_part(image, window)[face > 0].mean())
                sign = 1.0 if level < _DARK else -1.0 if level > _BRIGHT else sign
                colour = (log_scale(severity, *OFFSET) * (sign + tint)).astype(np.float32)
            alpha = strength * _feathered(face, edge * eye)
            offset = np.empty((2, *alpha.shape[:2]), np.float32)
            offset[:] = (shift * eye * towards)[:, None, None]
            pasted = _blurred(moved(image, window, offset), blur * eye)
            yield put(image, window, laid_over(_part(image, window), pasted + colour, alpha))


def _part(image: U8, window: Window) -> U8:
    x0, y0, x1, y1 = window.region
    return image[y0:y1, x0:x1]


def _polygon(outline: S.F64, window: Window) -> F32:
    """Mask [h, w] of a polygon [m, 2] in pixels: 0 or 1."""
    import cv2

    x0, y0, x1, y1 = window.region
    mask = np.zeros((y1 - y0, x1 - x0), np.float32)
    polygon = np.rint((outline - [x0, y0] - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [polygon], 1.0, cv2.LINE_8, 4)
    return mask


def _feathered(mask: F32, sigma: float) -> F32:
    """Soften the edge of a mask; returns [h, w, 1], exactly 0 beyond 4 ``sigma`` + 1."""
    import cv2

    width = 2 * int(np.ceil(4 * sigma)) + 1
    return cv2.GaussianBlur(mask, (width, width), sigma)[..., None]  # type: ignore[no-any-return]


def _blurred(image: U8, sigma: float) -> F32:
    import cv2

    return cv2.GaussianBlur(image, (0, 0), sigma).astype(np.float32)  # type: ignore[no-any-return]
