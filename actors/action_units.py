"""Seventeen action-unit proxies from the landmarks by geometry (SPEC section 3).

They are distances between landmarks and reciprocals of distances, not FACS intensities: several are
functions of one another (AU15 = 0.8 AU14, AU26 = 1.2 AU25), and all depend to some degree on who
the person is and where the head turns. Use them as descriptors of motion within one video, and
scale them per unit.

Mode `interocular` (default): in 2-D, in pixels (so the picture's aspect ratio is corrected), in
units of the distance between the outer eye corners. Distances do not change when the head rolls, so
roll needs no further correction. A turn of the head (yaw) shortens the unit itself.

Mode `paper`: the stored 3-D normalised coordinates, each frame's 17 values divided by (their
maximum + eps). That depends on head size, aspect ratio and pose, and the reciprocals swamp the
rest; it exists to reproduce the paper.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from actors.landmarks import N_POINTS, POINTS
from actors.types import F32, Bool, Row
from model.config import Config

F64 = NDArray[np.float64]
Mode = Literal["interocular", "paper"]

EPS = 1e-6
AU_NUMBERS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28)


class ActionUnitsConfig(Config):
    """How action units are measured."""

    mode: Mode = Field("interocular", description="`interocular` or `paper`, see the module.")


def distance(points: F64, a: str, b: str) -> F64:
    """Euclidean distance between two named landmarks; mean of right and left for pairs.

    Args:
        points: [n, 468, D].
        a: Name in :data:`actors.landmarks.POINTS`.
        b: Name; a single point is measured from both points of a pair.

    Returns:
        [n].
    """
    first, second = points[:, list(POINTS[a])], points[:, list(POINTS[b])]
    result: F64 = np.linalg.norm(first - second, axis=2).mean(axis=1)
    return result


def across(points: F64, name: str) -> F64:
    """Distance [n] between the right and the left point of a pair; points [n, 468, D]."""
    right, left = POINTS[name]
    result: F64 = np.linalg.norm(points[:, right] - points[:, left], axis=1)
    return result


def interocular_points(landmarks: F32, image_size: tuple[int, int]) -> F64:
    """Landmarks in 2-D, aspect-corrected, in units of the distance between the outer eye corners.

    Args:
        landmarks: [n, 1404]; frames of zeros have no face.
        image_size: (height, width), pixels.

    Returns:
        [n, 468, 2]; zeros where the eye corners coincide (no face).
    """
    height, width = image_size
    pixels = landmarks.reshape(-1, N_POINTS, 3)[:, :, :2].astype(np.float64) * [width, height]
    unit = across(pixels, "outer_eye")[:, None, None]
    return np.divide(pixels, unit, out=np.zeros_like(pixels), where=unit > 0)


def formulas(points: F64) -> F64:
    """The table of SPEC section 3.

    Args:
        points: [n, 468, D], D = 2 or 3.

    Returns:
        [n, 17] in the order of :data:`AU_NUMBERS`.
    """
    lids = distance(points, "upper_lid", "lower_lid")
    corner_nose = distance(points, "mouth_corner", "nose_tip")
    dimpler = 1 / (corner_nose + EPS)
    mouth = across(points, "mouth_corner")
    lips = distance(points, "upper_lip", "lower_lip")
    values = {
        1: distance(points, "inner_brow", "nose_root"),
        2: distance(points, "outer_brow", "nose_root"),
        4: across(points, "brow_middle"),
        5: lids,
        # The lower lid stands for the eye: raised cheeks push it up, and a blink hardly moves it.
        6: distance(points, "lower_lid", "mouth_corner"),
        7: 1 / (lids + EPS),
        9: across(points, "nose_wing"),
        10: distance(points, "upper_lip", "nose_tip"),
        12: corner_nose,
        14: dimpler,
        15: 0.8 * dimpler,
        17: distance(points, "lower_lip", "nose_tip"),
        20: mouth,
        23: 1 / (lips + EPS),
        25: lips,
        26: 1.2 * lips,
        28: 1 / (mouth + EPS),
    }
    return np.stack([values[number] for number in AU_NUMBERS], axis=1)


def action_units(
    landmarks: F32, face_mask: Bool, image_size: tuple[int, int], mode: Mode = "interocular"
) -> F32:
    """Action-unit proxies of each frame.

    Args:
        landmarks: [n, 1404] x1 y1 z1 x2 …, x and y normalised to the picture.
        face_mask: [n] frames with a face.
        image_size: (height, width), pixels.
        mode: See the module.

    Returns:
        [n, 17] in the order of :data:`AU_NUMBERS`; zeros without a face. `interocular`: in units of
        the outer eye distance (or its reciprocal); `paper`: in [0, 1].
    """
    result = np.zeros((len(landmarks), len(AU_NUMBERS)), np.float32)
    if not face_mask.any():
        return result
    faces = landmarks[face_mask]
    if mode == "interocular":
        result[face_mask] = formulas(interocular_points(faces, image_size))
    else:
        values = formulas(faces.reshape(-1, N_POINTS, 3).astype(np.float64))
        result[face_mask] = values / (values.max(axis=1, keepdims=True) + EPS)
    return result


def lip_opening(landmarks: F32, image_size: tuple[int, int]) -> F64:
    """Distance [n] of the inner lips (13, 14) in outer-eye distances; 0 without a face.

    Args:
        landmarks: [n, 1404].
        image_size: (height, width), pixels.
    """
    return distance(interocular_points(landmarks, image_size), "upper_lip", "lower_lip")


def lip_width(landmarks: F32, image_size: tuple[int, int]) -> F64:
    """Distance [n] of the mouth corners (61, 291) in outer-eye distances; 0 without a face."""
    return across(interocular_points(landmarks, image_size), "mouth_corner")


def eye_opening(landmarks: F32, image_size: tuple[int, int]) -> F64:
    """Mean distance [n] of the lids (159-145, 386-374) in outer-eye distances; 0 without a face."""
    return distance(interocular_points(landmarks, image_size), "upper_lid", "lower_lid")


class ActionUnits:
    """Adds `action_units` to each row."""

    name = "action_units"
    version = "1"
    needs = ("landmarks", "face_mask", "image_size")
    adds = ("action_units",)

    def __init__(self, config: ActionUnitsConfig) -> None:
        self._config = config

    def __call__(self, batch: list[Row]) -> list[Row]:
        """Measure every clip of ``batch``."""
        for row in batch:
            row["action_units"] = action_units(
                row["landmarks"], row["face_mask"], row["image_size"], self._config.mode
            )
        return batch
