"""What moves in a face: the pose of the head, and the expression that is left.

A face has coordinates of its own: x across, y down, the origin midway between the outer corners of
the eyes, whose distance is 1. The mesh of a picture is

    pose (mean + parallax + expression)

with an affine pose, the person's mean shape, what depth adds when the head turns, and the
deviation that is expression.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.face._common import HEAD_S, LIPS_S, Followed, smoothstep
from actors.landmarks import POINTS
from model.geometry import umeyama

F64 = NDArray[np.float64]

# Speech and expression hardly move these: eye corners, bridge, tip, wings and base of the nose,
# temples, top of the forehead.
STEADY: Final = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 98, 327, 2, 127, 356, 234, 454, 10)
NOSE: Final = (1, 4, 5)
NOSE_BASE: Final = 2
CHIN: Final = 152
MOUTH_PAIRS: Final = ((82, 87), (13, 14), (312, 317))  # inner lips, upper and lower
RIGHT_EYE_PAIRS: Final = ((160, 144), (159, 145), (158, 153))
LEFT_EYE_PAIRS: Final = ((385, 380), (386, 374), (387, 373))
OPENED: Final = (
    1.8  # nothing is known behind closed lips and lids: no gap is made wider than by so much
)
_NOISE: Final = 0.004  # what the mesh trembles, eye distances (standard deviation)
_TREMBLING: Final = 0.012  # what is more than this is motion
_DEPTH_REACH: Final = 0.1  # the depth of a face is smooth over so much, eye distances


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The face of n pictures, taken apart.

    Attributes:
        mean: [468, 2] the person's mean shape, face coordinates.
        pose: [n, 2, 3] from face coordinates to pixels.
        parallax: [n, 468, 2] face coordinates.
        expression: [n, 468, 2] face coordinates.
    """

    mean: F64
    pose: F64
    parallax: F64
    expression: F64

    @property
    def eyes(self) -> F64:
        """[n] distance between the outer eye corners of the face seen from the front, pixels."""
        return np.asarray(np.sqrt(np.abs(np.linalg.det(self.pose[:, :, :2]))))

    def pixels(self, i: int, expression: F64) -> F64:
        """Return the mesh [468, 2] of picture ``i`` with another expression [468, 2]."""
        return self.to_pixels(i, self.mean + self.parallax[i] + expression)

    def to_pixels(self, i: int, face: F64) -> F64:
        """Map points [m, 2] in face coordinates to pixels of picture ``i``."""
        return np.asarray(face @ self.pose[i, :, :2].T + self.pose[i, :, 2])


def gap_of(face: F64, pairs: tuple[tuple[int, int], ...]) -> F64:
    """Mean distance downwards from the upper to the lower points of ``pairs``.

    Args:
        face: [..., 468, 2] face coordinates.
        pairs: Points of the mesh.
    """
    upper, lower = (list(side) for side in zip(*pairs, strict=True))
    return np.asarray((face[..., lower, 1] - face[..., upper, 1]).mean(axis=-1))


def shape_of(followed: Followed) -> Shape:
    """Take the meshes of a video apart."""
    head = followed.smooth(HEAD_S)
    known = followed.known
    steady = list(STEADY)
    mean = _eye_frame(head[known][0])
    mean = _eye_frame(_mean_in_frame(head[known], mean))
    pose = _affine(mean[steady], head[:, steady])
    for _ in range(2):
        mean = _eye_frame(_back(pose[known], head[known]).mean(axis=0))
        pose = _affine(mean[steady], head[:, steady])
    slow = _back(pose, head) - mean
    fast = _back(pose, followed.smooth(LIPS_S)) - mean
    # Lips may part within one picture. What the smoothing takes away is trembling where it is
    # little, and motion where it is much.
    lost = _back(pose, followed.points) - mean - fast
    square = (lost**2).sum(axis=2, keepdims=True) / _TREMBLING**2
    fast += lost * -np.expm1(-square)
    turn = slow[:, list(NOSE)].mean(axis=1)  # [n, 2] the tip of the nose against the rest
    turn -= turn[known].mean(axis=0)
    t, moved = turn[known], slow[known]
    moved = moved - moved.mean(axis=0)
    scale = (t**2).sum() + 2 * len(t) * _NOISE**2
    depth = np.einsum("nd,nvd->v", t, moved) / scale  # [468] of the nose's
    depth = _smooth_over(mean, depth)
    parallax = depth[None, :, None] * turn[:, None, :]
    return Shape(mean, pose, parallax, fast - parallax)


def to_face(pose: F64, pixels: F64) -> F64:
    """Map pixels [..., 2] to face coordinates by the ``pose`` [2, 3] of their picture."""
    return np.asarray((pixels - pose[:, 2]) @ np.linalg.inv(pose[:, :2]).T)


# --- where on the face


def lower_face(mean: F64) -> F64:
    """Weights [468] in [0, 1]: 1 on lips and chin, 0 on the nose, at the ears and above."""
    rise = smoothstep((mean[:, 1] - mean[NOSE_BASE, 1]) / (mean[0, 1] - mean[NOSE_BASE, 1]))
    across = np.abs(mean[:, 0] - mouth_centre(mean)[0])
    return np.asarray(rise * (1.0 - smoothstep((across - 0.42) / 0.36)))


def inner_face(mean: F64, oval: NDArray[np.int64]) -> F64:
    """Weights [468]: 1 inside the face, falling to 0 at its outline; the chin is inside."""
    away = np.linalg.norm(mean[:, None] - mean[oval][None], axis=2).min(axis=1)
    return np.maximum(smoothstep(away / 0.25), lower_face(mean))


def near(mean: F64, centre: F64, radii: tuple[float, float], core: float) -> F64:
    """Weights [m] of points [m, 2]: 1 in the ``core`` share of an ellipse, 0 outside of it."""
    distance = np.sqrt((((mean - centre) / radii) ** 2).sum(axis=1))
    return 1.0 - smoothstep((distance - core) / (1.0 - core))


def mouth_centre(mean: F64) -> F64:
    """[2] midway between the corners of the mouth."""
    return np.asarray(mean[list(POINTS["mouth_corner"])].mean(axis=0))


def limited(factor: float, gap: F64, rest: F64) -> F64:
    """Limit a factor on the deviation of a gap so that it stays one, and hides what nobody knows.

    Args:
        factor: On ``gap - rest``.
        gap: [n] between lips or lids, as it is.
        rest: Scalar: the gap that the factor leaves alone.

    Returns:
        [n] between 1 and ``factor``: with it no gap closes beyond nothing, and none opens to more
        than ``OPENED`` times what it is, unless it is wider than ``rest`` already.
    """
    gap = np.maximum(gap, 0.0)
    below = np.maximum(rest - gap, 1e-9)
    if factor >= 1.0:
        return np.where(gap < rest, np.minimum(factor, np.maximum(rest / below, 1.0)), factor)
    least = (rest - OPENED * gap) / below  # the factor that opens by OPENED
    return np.where(gap < rest, np.clip(least, factor, 1.0), factor)


# --- fits


def _eye_frame(points: F64) -> F64:
    right, left = (points[i] for i in POINTS["outer_eye"])
    matrix = umeyama(np.stack([right, left]), [[-0.5, 0.0], [0.5, 0.0]])
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _mean_in_frame(points: F64, mean: F64) -> F64:
    """Mean of meshes [n, 468, 2] after a similarity transform of each onto ``mean``."""
    steady = list(STEADY)
    total = np.zeros_like(mean)
    for mesh in points:
        matrix = umeyama(mesh[steady], mean[steady])
        total += mesh @ matrix[:, :2].T + matrix[:, 2]
    return total / len(points)


def _affine(face: F64, pixels: F64) -> F64:
    """Least-squares affine maps [n, 2, 3] of points [m, 2] onto [n, m, 2]."""
    known = np.c_[face, np.ones(len(face))]
    return np.asarray(np.einsum("im,nmd->ndi", np.linalg.pinv(known), pixels))


def _back(pose: F64, pixels: F64) -> F64:
    """Map [n, m, 2] pixels to face coordinates."""
    inverse = np.linalg.inv(pose[:, :, :2])
    return np.asarray(np.einsum("nij,nmj->nmi", inverse, pixels - pose[:, None, :, 2]))


def _smooth_over(mean: F64, values: F64) -> F64:
    """Weighted means of ``values`` [468] over the neighbourhood on the face."""
    square = ((mean[:, None] - mean[None]) ** 2).sum(axis=2)
    weight = np.exp(-0.5 * square / _DEPTH_REACH**2)
    return np.asarray(weight @ values / weight.sum(axis=1))
