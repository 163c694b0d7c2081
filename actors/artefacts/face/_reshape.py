"""Warping a face so that its expression is larger or smaller than it was."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.artefact import PictureScene
from actors.artefacts.face import _shape as S
from actors.artefacts.face._common import follow
from actors.artefacts.face._topology import topology
from actors.artefacts.face._warp import warped
from actors.types import U8

F64 = NDArray[np.float64]

FARTHEST: Final = 0.3  # no point is moved farther than this, eye distances
CLOSED_SHARE: Final = 0.25  # of the pictures: in these, with the narrowest gap, the mouth rests
_EYE_RADII: Final = (0.34, 0.26)


@dataclass(frozen=True, slots=True)
class Factors:
    """What deviations are multiplied by.

    Attributes:
        face: All but the mouth: brows, lids, cheeks.
        mouth: Lips, jaw.
        closed: The mouth deviates from its closed state, not from its mean.
    """

    face: float
    mouth: float
    closed: bool


def reshaped(
    frames: Iterable[U8], factors: Factors, scene: PictureScene, artefact: str
) -> Iterator[U8]:
    """Scale the deviations from the person's own shape.

    Args:
        frames: RGB [H, W, 3].
        factors: 1 leaves a part as it is.
        scene: With its face.
        artefact: Its type, for messages.

    Raises:
        VideoError: ``no_face``.
    """
    followed = follow(scene, artefact)
    shape = S.shape_of(followed)
    rest = shape.expression[followed.known].mean(axis=0)
    lower = S.lower_face(shape.mean)
    if factors.closed:
        gap = S.gap_of(shape.mean + shape.expression, S.MOUTH_PAIRS)
        closed = shape.expression[_most_closed(gap, followed.known)]
        rest = rest + lower[:, None] * (closed.mean(axis=0) - rest)
    factor = _factor_of_points(shape, rest, lower, factors)  # [n, 468]
    part = S.inner_face(shape.mean, topology().oval) if factors.face != 1.0 else lower
    for i, image in enumerate(frames):
        if followed.strength[i] == 0.0:
            yield image
            continue
        change = (factor[i] - 1.0)[:, None] * (shape.expression[i] - rest)
        change = _bounded(followed.strength[i] * part[:, None] * change)
        here = shape.pixels(i, shape.expression[i])
        yield warped(image, here, here + change @ shape.pose[i, :, :2].T)


def _most_closed(gap: F64, known: NDArray[np.bool_]) -> NDArray[np.int64]:
    candidates = np.flatnonzero(known)
    count = max(1, round(CLOSED_SHARE * len(candidates)))
    return candidates[np.argsort(gap[candidates], kind="stable")[:count]]


def _factor_of_points(shape: S.Shape, rest: F64, lower: F64, factors: Factors) -> F64:
    """Factors [n, 468], limited where lips or lids would cross or show what nobody knows."""
    faces, at_rest = shape.mean + shape.expression, shape.mean + rest
    result = np.full(faces.shape[:2], factors.face)
    for pairs in (S.RIGHT_EYE_PAIRS, S.LEFT_EYE_PAIRS):
        centre = shape.mean[[point for pair in pairs for point in pair]].mean(axis=0)
        weight = S.near(shape.mean, centre, _EYE_RADII, 0.75)
        allowed = S.limited(factors.face, S.gap_of(faces, pairs), S.gap_of(at_rest, pairs))
        result += weight * (allowed[:, None] - result)
    gaps = (S.gap_of(face, S.MOUTH_PAIRS) for face in (faces, at_rest))
    result += lower * (S.limited(factors.mouth, *gaps)[:, None] - result)
    return result


def _bounded(change: F64) -> F64:
    """Shorten far moves [m, 2] to less than ``FARTHEST``; short ones stay as they are."""
    length = np.linalg.norm(change, axis=1, keepdims=True)
    return np.asarray(change / (1.0 + (length / FARTHEST) ** 4) ** 0.25)
