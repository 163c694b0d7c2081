"""Descriptors of the face: lips, expression, blinks, head motion.

Pure functions of landmark tracks. Lengths are in interocular units (iod): the distance between the
outer eye corners in the picture. Times are seconds. A value that is undefined (no face, too few
frames) is None.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.action_units import AU_NUMBERS, formulas
from actors.landmarks import N_POINTS, POINTS
from actors.sound_frames import runs
from actors.types import F32, Bool

Points = NDArray[np.float64]

# Face Mesh indices, subject's right (left in the picture) first.
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = POINTS["outer_eye"]
# Corner, corner, then pairs of upper and lower lid (Soukupová and Čech, 2016).
RIGHT_EYE: Final = (33, 133, 160, 144, 158, 153)
LEFT_EYE: Final = (263, 362, 387, 373, 385, 380)
# Bridge of the nose, eye corners, temples, forehead: what speech and expression move least.
RIGID: Final = (168, 6, 197, 195, 33, 133, 362, 263, 127, 356, 10, 151, 9, 54, 284, 234, 454)
# Points that mirror each other: brows, eyes, nose, cheeks, lips, jaw.
PAIRS: Final = (
    *((33, 263), (133, 362), (159, 386), (145, 374), (55, 285), (46, 276), (105, 334)),
    *((70, 300), (63, 293), (107, 336), (98, 327), (50, 280), (205, 425), (187, 411)),
    *((61, 291), (39, 269), (37, 267), (40, 270), (185, 409), (146, 375), (91, 321)),
    *((181, 405), (84, 314), (78, 308), (80, 310), (81, 311), (82, 312), (178, 402)),
    *((87, 317), (88, 318), (95, 324), (191, 415), (58, 288), (172, 397), (136, 365)),
    *((150, 379), (149, 378), (234, 454), (127, 356), (93, 323), (132, 361)),
)
# Action units that are lengths; the others are reciprocals or multiples of these.
LENGTH_UNITS: Final = (1, 2, 4, 5, 6, 9, 10, 12, 17, 20, 25)
_BLINK_DEPTH: Final = 0.25  # of the open eye
_LONGEST_BLINK_S: Final = 0.5
_REACH: Final = 2  # frames to each side over which the head's speed is taken
_DEFORMATION_S: Final = 0.2
_MEAN_SHAPE_ROUNDS: Final = 3  # of generalised Procrustes analysis
_FROZEN_MOUTH: Final = 0.012  # iod, peak to peak
_STILL_MOUTH: Final = 0.015  # iod, standard deviation
_STILL_MOUTH_S: Final = 0.4
_LIP_STROKE: Final = 0.02  # iod, least rise and fall of one opening


def face_points(
    landmarks: F32, face: Bool, image_size: tuple[int, int]
) -> tuple[Points, NDArray[np.float64]]:
    """Bring landmarks [n, 1404] into interocular units, the picture's aspect ratio corrected.

    Face Mesh gives depth on the scale of x.

    Returns:
        Points [n, 468, 3] in iod and the iod [n] in pixels; NaN without a face.
    """
    height, width = image_size
    points = landmarks.reshape(-1, N_POINTS, 3) * np.array([width, height, width], np.float64)
    eyes = points[:, LEFT_EYE_OUTER, :2] - points[:, RIGHT_EYE_OUTER, :2]
    iod = np.hypot(eyes[:, 0], eyes[:, 1])
    iod = np.where(face & (iod > 1e-6), iod, np.nan)
    return points / iod[:, None, None], iod


def _mean(values: NDArray[np.floating]) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else None


def derivative(values: NDArray[np.floating], order: int, period_s: float) -> NDArray[np.float64]:
    """Finite difference along the first axis; NaN where a frame of it is missing."""
    result: NDArray[np.float64] = (
        np.diff(values.astype(np.float64), order, axis=0) / period_s**order
    )
    return result


def lip_descriptors(opening: F32, period_s: float) -> dict[str, float | None]:
    """Statistics of the lip opening [T] (iod, NaN without a face)."""
    seen = opening[np.isfinite(opening)].astype(np.float64)
    return {
        "lip_opening_mean": _mean(opening),
        "lip_opening_std": float(seen.std()) if seen.size > 1 else None,
        "lip_velocity": _mean(np.abs(derivative(opening, 1, period_s))),
        "lip_acceleration": _mean(np.abs(derivative(opening, 2, period_s))),
    }


def au_jerk(points: Points, period_s: float) -> float | None:
    """Mean absolute third derivative of the action units that are lengths, iod/s³."""
    columns = [AU_NUMBERS.index(number) for number in LENGTH_UNITS]
    lengths = formulas(points[:, :, :2])[:, columns]
    return _mean(np.abs(derivative(lengths, 3, period_s)))


def rigid_rotations(source: Points, target: Points) -> Points:
    """Rotations [n, 3, 3] that best turn centred ``source`` into ``target`` [n, p, 3] (Kabsch)."""
    covariance = np.einsum("npi,npj->nij", target, source)
    u, _, vt = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= sign[:, None]
    result: Points = u @ vt
    return result


def _centred(points: Points) -> Points:
    result: Points = points - points.mean(axis=1, keepdims=True)
    return result


def _laid_onto(source: Points, target: Points) -> Points:
    """Turn centred ``source`` into centred ``target`` [n, p, 3] by the best rotations."""
    result: Points = np.einsum("nij,npj->npi", rigid_rotations(source, target), source)
    return result


def facial_asymmetry(points: Points) -> float | None:
    """RMS distance between the face and its mirror image, iod; 0 for a symmetric face.

    The mirror image is laid onto the face by the best rigid motion first, so that turning the head
    does not count.
    """
    points = points[np.isfinite(points[:, 0, 0])]
    if not len(points):
        return None
    right, left = np.array(PAIRS).T
    face = _centred(points[:, np.concatenate([right, left])])
    mirrored = _centred(points[:, np.concatenate([left, right])]) * np.array([-1.0, 1.0, 1.0])
    return _mean(np.sqrt(((_laid_onto(mirrored, face) - face) ** 2).sum(axis=2).mean(axis=1)))


def eye_aspect_ratio(points: Points) -> NDArray[np.float64]:
    """Height over width of the eyes [n], mean of both (Soukupová and Čech, 2016)."""
    ratios = []
    for outer, inner, *lids in (RIGHT_EYE, LEFT_EYE):
        upper, lower = np.array(lids).reshape(2, 2).T
        height = np.linalg.norm(points[:, upper, :2] - points[:, lower, :2], axis=2).mean(axis=1)
        ratios.append(height / np.linalg.norm(points[:, outer, :2] - points[:, inner, :2], axis=1))
    result: NDArray[np.float64] = np.mean(ratios, axis=0)
    return result


def count_blinks(ratio: NDArray[np.float64], period_s: float) -> int:
    """Number of blinks in a track of the eye aspect ratio [n].

    A blink is a dip by at least a quarter of the open eye (90th percentile) that lasts at most 0.5
    s at half its depth.
    """
    import scipy.signal

    seen = np.isfinite(ratio)
    if not seen.any():
        return 0
    filled = np.interp(np.arange(ratio.size), np.flatnonzero(seen), ratio[seen])
    depth = _BLINK_DEPTH * float(np.percentile(filled, 90))
    dips, _ = scipy.signal.find_peaks(
        -filled, prominence=depth, width=(None, _LONGEST_BLINK_S / period_s), rel_height=0.5
    )
    return int(dips.size)


def head_motion(
    points: Points, iod: NDArray[np.float64], period_s: float
) -> dict[str, float | None]:
    """Speed and range of the head, from points of the skull.

    Speeds are taken over four frames, centred, which divides the noise of the landmarks by four
    and keeps motion up to about 3 Hz.

    Args:
        points: [n, 468, 3] iod of their own frame, NaN without a face.
        iod: [n] pixels, so that all frames can be measured by one unit, their median.
        period_s: Seconds between frames.

    Returns:
        Translation in the picture (iod/s), rotation (degrees/s), and the largest rotation from the
        first seen pose (degrees). Noise sets a floor of a few degrees/s.
    """
    names = ("head_translation_speed", "head_rotation_speed", "head_rotation_range")
    seen = np.flatnonzero(np.isfinite(iod))
    if not seen.size:
        return dict.fromkeys(names)
    skull = points[:, np.array(RIGID)] * (iod / np.median(iod[seen]))[:, None, None]
    first = np.broadcast_to(skull[seen[0]], skull[seen].shape)
    reach = float(_angles(first, skull[seen]).max())
    before, after = skull[: -2 * _REACH], skull[2 * _REACH :]
    pairs = np.isfinite(before[:, 0, 0] + after[:, 0, 0])
    if not pairs.any():
        return {**dict.fromkeys(names), "head_rotation_range": reach}
    before, after, span = before[pairs], after[pairs], 2 * _REACH * period_s
    moved = np.linalg.norm((after - before)[:, :, :2].mean(axis=1), axis=1)
    return {
        "head_translation_speed": float(moved.mean()) / span,
        "head_rotation_speed": float(_angles(before, after).mean()) / span,
        "head_rotation_range": reach,
    }


def _angles(source: Points, target: Points) -> NDArray[np.float64]:
    rotation = rigid_rotations(_centred(source), _centred(target))
    # The vector of the skew part has length 2 sin(angle): exact for small angles, where arccos is
    # not.
    skew = np.stack([rotation[:, i, j] - rotation[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))])
    cosine = (np.trace(rotation, axis1=1, axis2=2) - 1) / 2
    result: NDArray[np.float64] = np.degrees(np.arctan2(np.linalg.norm(skew, axis=0) / 2, cosine))
    return result


def skull_deformation(points: Points, period_s: float) -> float | None:
    """How much the shape of the skull changes within 0.2 s: RMS in the picture's plane, iod.

    The points of the skull in each frame are laid onto their mean shape by the best rigid motion
    (generalised Procrustes analysis without scale, Gower 1975), so that moving and turning the head
    does not count, and compared with those 0.2 s later: what perspective and a guessed depth do to
    a head that turns is slower. Depth itself is left out of the distance.

    Args:
        points: [n, 468, 3] iod of their own frame, NaN without a face.
        period_s: Seconds between frames.

    Returns:
        None without two frames with a face 0.2 s apart.
    """
    lag = max(1, round(_DEFORMATION_S / period_s))
    skull = _centred(points[:, np.array(RIGID)])
    seen = np.isfinite(skull[:, 0, 0])
    pairs = seen[lag:] & seen[:-lag]
    if not pairs.any():
        return None
    shapes = skull[seen]
    turned, mean = shapes, shapes[len(shapes) // 2]
    for _ in range(_MEAN_SHAPE_ROUNDS):
        turned = _laid_onto(shapes, np.broadcast_to(mean, shapes.shape))
        mean = turned.mean(axis=0)
    laid = np.full_like(skull, np.nan)
    laid[seen] = turned
    change = (laid[lag:] - laid[:-lag])[pairs][:, :, :2]
    return float(np.sqrt((change**2).sum(axis=2).mean()))


def frozen_mouth(opening: F32, width: F32, speaking: Bool, period_s: float) -> float | None:
    """Longest time in which somebody speaks and the mouth stands still, seconds.

    Still means that opening and width both stay within 0.012 iod, peak to peak, which is about the
    noise of Face Mesh on a frozen picture that was coded again.

    Args:
        opening: [T] lip opening, iod, NaN without a face.
        width: [T] lip width, the same.
        speaking: [T] frames with speech.
        period_s: Seconds between frames.

    Returns:
        0 when the mouth never stands still; None when nobody speaks with a face seen.
    """
    usable = speaking & np.isfinite(opening) & np.isfinite(width)
    if not usable.any():
        return None
    longest = 0
    lips = np.stack([opening, width], axis=1).astype(np.float64)
    for start, end in runs(usable):
        first = start
        for last in range(start, end):
            while (np.ptp(lips[first : last + 1], axis=0) > _FROZEN_MOUTH).any():
                first += 1
            longest = max(longest, last - first)
    return longest * period_s


def still_mouth_share(opening: F32, speaking: Bool, period_s: float) -> float | None:
    """Share of the time of speech in which the lips hardly open or close.

    Of all stretches of 0.4 s, wholly of speech, those in which the opening keeps a standard
    deviation under 0.015 iod. Unlike :func:`frozen_mouth` it bears the landmarks' noise and sees a
    mouth that stands still now and again.

    Args:
        opening: [T] lip opening, iod, NaN without a face.
        speaking: [T] frames with speech.
        period_s: Seconds between frames.

    Returns:
        In [0, 1]; None without such a stretch.
    """
    frames = max(3, round(_STILL_MOUTH_S / period_s))
    spoken = [opening[a:b] for a, b in runs(speaking & np.isfinite(opening)) if b - a >= frames]
    if not spoken:
        return None
    windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(x, frames) for x in spoken])
    return float((windows.std(axis=1, dtype=np.float64) < _STILL_MOUTH).mean())


def lip_rate(opening: F32, speaking: Bool, period_s: float) -> float | None:
    """Openings of the lips per second of speech (rises and falls of at least 0.02 iod)."""
    import scipy.signal

    usable = speaking & np.isfinite(opening)
    seconds = float(usable.sum()) * period_s
    if seconds < 1.0:
        return None
    seen = np.isfinite(opening)
    filled = np.interp(np.arange(opening.size), np.flatnonzero(seen), opening[seen])
    peaks, _ = scipy.signal.find_peaks(filled, prominence=_LIP_STROKE)
    return float(usable[peaks].sum()) / seconds
