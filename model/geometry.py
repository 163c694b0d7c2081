"""Similarity transforms, and the face template that crops are aligned to.

Coordinates are pixels, x to the right and y downwards; a transform is a 2 x 3 matrix ``[A | t]``
that maps a point p to A p + t.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

CROP_SIZE = 224

# Eye centres, nose tip, mouth corners (left to right in the picture) in a 112 x 112 crop: the
# published ArcFace reference points (Deng et al., CVPR 2019).
ARCFACE_112 = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)

# ArcFace cuts the chin off. At 1.8 pixels (instead of 2) for each of its pixels, with the eye line
# at y = 80, a 224 x 224 crop spans 3.5 distances between the eye centres: the brows, an open mouth
# and the chin stay inside.
FACE_SCALE = 1.8
FACE_EYE_LINE = 80.0

# The lips crop magnifies the face crop by this much around the middle of the mouth.
LIPS_ZOOM = 2.0


def _face_template() -> F64:
    eye_middle = ARCFACE_112[:2].mean(axis=0)
    # The reference points lean by a fraction of a pixel; x is centred on the five points' mean of
    # eyes and mouth, so that the face stands in the middle of the crop.
    x_middle = ARCFACE_112[[0, 1, 3, 4], 0].mean()
    origin = np.array([x_middle, eye_middle[1]])
    template: F64 = (ARCFACE_112 - origin) * FACE_SCALE + [CROP_SIZE / 2, FACE_EYE_LINE]
    return template


def _lips_template() -> F64:
    face = _face_template()
    mouth = face[3:].mean(axis=0)
    template: F64 = (face - mouth) * LIPS_ZOOM + CROP_SIZE / 2
    return template


FACE_TEMPLATE: F64 = _face_template()  # [5, 2] in a 224 x 224 crop
LIPS_TEMPLATE: F64 = _lips_template()  # [5, 2] in a 224 x 224 crop
FACE_TEMPLATE.setflags(write=False)
LIPS_TEMPLATE.setflags(write=False)


def umeyama(source: ArrayLike, target: ArrayLike) -> F64:
    """Least-squares similarity transform (rotation, uniform scale, translation; no reflection).

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", IEEE TPAMI 13(4), 1991, equations 38-43.

    Args:
        source: [N, 2] points, N >= 2, not all equal.
        target: [N, 2] points that correspond.

    Returns:
        [2, 3] matrix ``[scale * R | t]`` with the least sum of squared distances to ``target``.

    Raises:
        ValueError: The shapes differ, or the source points are all equal or not finite.
    """
    src = np.asarray(source, np.float64)
    dst = np.asarray(target, np.float64)
    if src.shape != dst.shape or src.ndim != 2 or src.shape[1] != 2 or len(src) < 2:
        raise ValueError(f"need two [N, 2] point sets with N >= 2, got {src.shape} and {dst.shape}")
    if not (np.isfinite(src).all() and np.isfinite(dst).all()):
        raise ValueError("points must be finite")
    src_mean, dst_mean = src.mean(axis=0), dst.mean(axis=0)
    src_centred, dst_centred = src - src_mean, dst - dst_mean
    variance = (src_centred**2).sum() / len(src)
    if variance < 1e-12:
        raise ValueError("the source points are all equal: no transform is determined")
    covariance = dst_centred.T @ src_centred / len(src)  # [2, 2]
    U, D, Vt = np.linalg.svd(covariance)
    sign = np.array([1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt)) or 1.0])
    rotation = (U * sign) @ Vt
    scale = (D * sign).sum() / variance
    linear = scale * rotation
    return np.concatenate([linear, (dst_mean - linear @ src_mean)[:, None]], axis=1)


def apply(matrix: ArrayLike, points: ArrayLike) -> F64:
    """Map [N, 2] ``points`` by a [2, 3] ``matrix``."""
    m = np.asarray(matrix, np.float64)
    return np.asarray(points, np.float64) @ m[:, :2].T + m[:, 2]


def scale_of(matrix: ArrayLike) -> float:
    """Magnification of a [2, 3] similarity ``matrix``: target pixels for each source pixel."""
    linear = np.asarray(matrix, np.float64)[:, :2]
    return float(np.sqrt(abs(np.linalg.det(linear))))


def invert(matrix: ArrayLike) -> F64:
    """Inverse of a [2, 3] similarity ``matrix``.

    Raises:
        ValueError: The matrix has no inverse.
    """
    m = np.asarray(matrix, np.float64)
    if abs(np.linalg.det(m[:, :2])) < 1e-12:
        raise ValueError("the transform has scale 0 and no inverse")
    linear = np.linalg.inv(m[:, :2])
    return np.concatenate([linear, -(linear @ m[:, 2])[:, None]], axis=1)
