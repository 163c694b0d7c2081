"""Per-frame measures of a clip that the low-level stream and the descriptors share.

Whichever of the two runs first computes them and leaves them in the row's transient column
``measures``; the other finds them there. Either works alone.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.action_units import lip_opening, lip_width
from actors.frame_stats import laplacian_variance
from actors.sound_frames import HOP_SECONDS, SoundFrames, analyse_sound
from actors.types import CLIP_FRAMES, F32, U8, Bool, Row
from model.geometry import CROP_SIZE

MEASURES_NEED: Final = (
    "waveform",
    "has_sound",
    "audio_mask",
    "landmarks",
    "face_mask",
    "frame_mask",
    "visual_crops",
    "visual_index",
    "image_size",
    "frame_times",
    "frame_period",
)

# Of the face in an aligned crop (model.geometry.FACE_TEMPLATE), pixels.
_OVAL_CENTRE: Final = (112, 118)
_OVAL_AXES: Final = (62, 82)


@dataclass(frozen=True, slots=True)
class ClipMeasures:
    """Per-frame measures, T = 150; NaN where there is no face (or no crop)."""

    frames: int  # real frames of the clip
    period_s: float  # between frames: 1/25 under `windows`
    sound: SoundFrames | None  # None without sound
    lip_opening: F32  # [T] in units of the distance between the outer eye corners
    lip_width: F32  # [T] the same
    face_sharpness: F32  # [T] variance of the Laplacian of the face in the aligned crop
    fresh: Bool  # [T] real frames that show another source frame than the one before


def frame_bounds(hops: int, frames: int, period_s: float) -> NDArray[np.intp]:
    """First and last (exclusive) hop of each frame, [frames, 2]; frame i covers [i, i + 1) periods.

    A frame past the sound's end gets the last hop.
    """
    edges = np.rint(np.arange(frames + 1) * period_s / HOP_SECONDS).astype(np.intp)
    start = np.minimum(edges[:-1], hops - 1)
    end = np.clip(edges[1:], start + 1, hops)
    return np.stack([start, end], axis=1)


def frame_means(values: NDArray[np.floating], bounds: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean of the hops of each frame: ``values`` [N, …] -> [frames, …]."""
    total = np.concatenate(
        [np.zeros_like(values[:1], np.float64), np.cumsum(values, 0, np.float64)]
    )
    count = (bounds[:, 1] - bounds[:, 0]).reshape(-1, *([1] * (values.ndim - 1)))
    result: NDArray[np.float64] = (total[bounds[:, 1]] - total[bounds[:, 0]]) / count
    return result


@lru_cache(maxsize=1)
def face_oval() -> U8:
    """Mask [224, 224] of the face in an aligned crop: brows to chin, without hair and background.

    These are often sharper than any skin, and stay so where a generator blurs the face.
    """
    import cv2

    mask = np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
    cv2.ellipse(mask, _OVAL_CENTRE, _OVAL_AXES, 0, 0, 360, 255, -1)
    mask.flags.writeable = False
    return mask


def crop_sharpness(crops: U8, index: NDArray[np.int32]) -> F32:
    """Sharpness of each frame's aligned face.

    Args:
        crops: [M, 224, 224, 3] distinct crops, RGB.
        index: [T] frame -> crop, -1 without one.

    Returns:
        [T] variance of the Laplacian of the luma inside the face's oval; NaN without a crop.
    """
    import cv2

    oval = face_oval()
    each = [laplacian_variance(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), oval) for crop in crops]
    return np.array([each[i] if i >= 0 else np.nan for i in index], np.float32)


def _faces_only(values: NDArray[np.floating], face: Bool) -> F32:
    result: F32 = np.where(face, values, np.nan).astype(np.float32)
    return result


def fresh_frames(times: NDArray[np.float64]) -> Bool:
    """Which frames show a new source frame, [150]; a slow source fills the grid with repeats.

    Args:
        times: [n] timestamps of the frames shown, n <= 150.
    """
    fresh = np.zeros(CLIP_FRAMES, np.bool_)
    fresh[: times.size] = np.diff(times, prepend=-np.inf) > 1e-6
    return fresh


def measure(row: Row) -> ClipMeasures:
    """Compute the shared measures of one clip from the columns MEASURES_NEED."""
    times = row["frame_times"]
    if not 0 < times.size <= CLIP_FRAMES:
        raise ValueError(f"frame_times: 1 to {CLIP_FRAMES} frames expected, got {times.size}")
    face = row["face_mask"] & row["frame_mask"]
    with_sound = bool(row["has_sound"]) and row["waveform"].size > 0 and row["audio_mask"].any()
    return ClipMeasures(
        frames=times.size,
        period_s=row["frame_period"],
        sound=analyse_sound(row["waveform"]) if with_sound else None,
        lip_opening=_faces_only(lip_opening(row["landmarks"], row["image_size"]), face),
        lip_width=_faces_only(lip_width(row["landmarks"], row["image_size"]), face),
        face_sharpness=crop_sharpness(row["visual_crops"], row["visual_index"]),
        fresh=fresh_frames(times),
    )


def measures_of(row: Row) -> ClipMeasures:
    """Return the row's measures, computed now unless they are there already."""
    if row.get("measures") is None:
        row["measures"] = measure(row)
    measures: ClipMeasures = row["measures"]
    return measures
