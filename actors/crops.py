"""Cutting faces out of pictures: patches, SyncNet's crop, the aligned crop.

A :class:`Patch` is a picture of which only a part was kept. A crop taken from a patch has the same
bits as one taken from the whole picture, or :class:`PatchTooSmall` is raised: each crop first cuts
an integer window whose position does not depend on the patch, and computes from that alone.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actors.types import U8
from model.geometry import CROP_SIZE, FACE_TEMPLATE, LIPS_TEMPLATE, apply, invert, scale_of, umeyama

F64 = NDArray[np.float64]
Region = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the whole picture, ends excluded

PAD_VALUE = 110  # grey beyond the picture's edge, in SyncNet's pipeline and here everywhere
SYNC_SCALE = 0.40  # SyncNet's crop_scale
# Face Mesh and the crops look at most this far from the middle of a detection's box, in its longer
# sides.
REACH = 1.0


class PatchTooSmall(Exception):  # noqa: N818 - a condition that the caller answers with the whole picture
    """A crop needs pixels that lie in the picture but were not kept in the patch."""


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A rectangle of a picture; ``image`` [h, w, 3] RGB lies at (x0, y0) of the whole picture."""

    image: U8
    x0: int
    y0: int
    full_width: int
    full_height: int

    @classmethod
    def whole(cls, image: U8) -> "Patch":
        """Wrap a whole picture [H, W, 3]; no copy."""
        return cls(image, 0, 0, image.shape[1], image.shape[0])

    @classmethod
    def cut(cls, image: U8, region: Region) -> "Patch":
        """Copy ``region`` (inside the picture) out of a whole picture [H, W, 3]."""
        x0, y0, x1, y1 = region
        return cls(image[y0:y1, x0:x1].copy(), x0, y0, image.shape[1], image.shape[0])

    def covers(self, region: Region) -> bool:
        """Whether all of ``region`` that lies in the picture was kept."""
        x0, y0, x1, y1 = clip_region(region, self.full_width, self.full_height)
        if x1 <= x0 or y1 <= y0:
            return True
        height, width = self.image.shape[:2]
        return self.x0 <= x0 and self.y0 <= y0 and x1 <= self.x0 + width and y1 <= self.y0 + height

    def window(self, region: Region, fill: int = PAD_VALUE) -> U8:
        """Pixels of ``region``, ``fill`` beyond the picture's edge; a view where possible.

        Returns:
            [y1 - y0, x1 - x0, 3].

        Raises:
            PatchTooSmall: The region has pixels of the picture that the patch has not.
        """
        if not self.covers(region):
            raise PatchTooSmall(
                f"region {region} of a {self.full_width}x{self.full_height} picture is not "
                f"inside the patch of {self.image.shape[1]}x{self.image.shape[0]} pixels at "
                f"({self.x0}, {self.y0})"
            )
        x0, y0, x1, y1 = region
        a0, b0, a1, b1 = clip_region(region, self.full_width, self.full_height)
        kept = self.image[b0 - self.y0 : b1 - self.y0, a0 - self.x0 : a1 - self.x0]
        if (a0, b0, a1, b1) == region:
            return kept
        window = np.full((y1 - y0, x1 - x0, 3), fill, np.uint8)
        if a1 > a0 and b1 > b0:
            window[b0 - y0 : b1 - y0, a0 - x0 : a1 - x0] = kept
        return window


def clip_region(region: Region, width: int, height: int) -> Region:
    """The part of ``region`` that lies in a picture of ``width`` x ``height``; may be empty."""
    x0, y0, x1, y1 = region
    return max(0, x0), max(0, y0), min(width, x1), min(height, y1)


def around(box: ArrayLike, reach: float, width: int, height: int) -> Region:
    """The square of ``reach`` longer sides around the middle of ``box``, clipped to the picture."""
    b = np.asarray(box, np.float64)
    centre, half = (b[:2] + b[2:]) / 2, reach * float((b[2:] - b[:2]).max())
    x0, y0 = np.floor(centre - half)
    x1, y1 = np.ceil(centre + half)
    return clip_region((int(x0), int(y0), int(x1), int(y1)), width, height)


def patch_region(boxes: ArrayLike, width: int, height: int, margin: float = 0.3) -> Region | None:
    """What to keep of a frame so that every crop of any of its faces can be cut later.

    It holds all that Face Mesh reads, and SyncNet's and the aligned crop of upright faces, also
    when the median filter moves SyncNet's crop by up to a fifth of the face. A crop that still
    reaches further (a head that lies on its side) raises :class:`PatchTooSmall`, and the caller
    decodes the whole frame.

    Args:
        boxes: [K, 4] of the frame's detections.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        margin: Beyond the reach of the crops, in longer sides of the box.

    Returns:
        The smallest region that holds the surroundings of every box, inside the picture; None when
        there is no box, or none touches the picture.
    """
    b = np.asarray(boxes, np.float64).reshape(-1, 4)
    regions = [around(box, REACH + margin, width, height) for box in b]
    regions = [r for r in regions if r[0] < r[2] and r[1] < r[3]]
    return join(regions) if regions else None


def join(regions: list[Region]) -> Region:
    """The smallest region that holds all ``regions`` (at least one)."""
    r = np.array(regions)
    low, high = r[:, :2].min(axis=0), r[:, 2:].max(axis=0)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def sync_region(cx: float, cy: float, s: float) -> Region:
    """SyncNet's crop region, to the pixel as in its pipeline (whole numbers after padding).

    Source: joonson/syncnet_python, ``run_pipeline.py``: the frame is padded by b = int(s (1 + 2 c))
        on all sides, c = 0.40; rows int(y - s) to int(y + s (1 + 2 c)) and columns int(x -+ s (1 +
        c)) around the centre in the padded frame.
    """
    pad = int(s * (1 + 2 * SYNC_SCALE))
    mx, my = cx + pad, cy + pad
    x0, x1 = np.floor(mx - s * (1 + SYNC_SCALE)), np.floor(mx + s * (1 + SYNC_SCALE))
    y0, y1 = np.floor(my - s), np.floor(my + s * (1 + 2 * SYNC_SCALE))
    return int(x0) - pad, int(y0) - pad, int(x1) - pad, int(y1) - pad


def sync_crop(patch: Patch, cx: float, cy: float, s: float) -> U8:
    """SyncNet's unaligned face crop: y from -s to +1.8 s, x -+ 1.4 s, grey 110 outside.

    Args:
        patch: The picture, RGB.
        cx: Centre of the face box, pixels, median-filtered (:func:`actors.faces.sync_boxes`).
        cy: The same.
        s: Half the longer side of the face box, pixels, median-filtered; at least 1.

    Returns:
        RGB [224, 224, 3], resized bilinearly as in the original.

    Raises:
        PatchTooSmall: The patch lacks pixels of the region.
        ValueError: The numbers are not finite or s is below 1 pixel.
    """
    import cv2

    if not (np.isfinite([cx, cy, s]).all() and s >= 1):
        raise ValueError(f"SyncNet's crop needs a finite centre and s >= 1, got {cx}, {cy}, {s}")
    face = patch.window(sync_region(cx, cy, s))
    return cv2.resize(face, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)  # type: ignore[no-any-return]


def align_face(patch: Patch, points5: ArrayLike, region: Literal["face", "lips"] = "face") -> U8:
    """Cut a face so that its five points lie as near as possible to the template's.

    The similarity transform (Umeyama) leaves the proportions of the face alone. A source that is
    larger than the crop by k or more (k = 2, 3 …) is averaged over k x k blocks first, then sampled
    bilinearly, so that fine texture does not alias.

    Args:
        patch: The picture, RGB.
        points5: [5, 2] eye centres, nose tip and mouth corners, left to right in the picture, in
            pixels of the
            whole picture; pixel i spans i to i + 1 (:func:`actors.landmarks.five_points`).
        region: `face`, or `lips`: the same transform, enlarged twice around the mouth.

    Returns:
        RGB [224, 224, 3], grey 110 beyond the picture's edge.

    Raises:
        PatchTooSmall: The patch lacks pixels of the region.
        ValueError: The points are not finite or all equal.
    """
    import cv2

    matrix = umeyama(points5, FACE_TEMPLATE if region == "face" else LIPS_TEMPLATE)
    inverse = invert(matrix)
    corners = apply(inverse, [[0, 0], [CROP_SIZE, 0], [0, CROP_SIZE], [CROP_SIZE, CROP_SIZE]])
    block = max(1, int(1 / scale_of(matrix)))
    # One block more on each side is what bilinear sampling at the crop's edge reads.
    x0, y0 = (int(v) for v in np.floor(corners.min(axis=0)) - block)
    far = np.ceil(corners.max(axis=0)) + block
    columns, rows = (int(-(-(v - o) // block)) for v, o in zip(far, (x0, y0), strict=True))
    source = patch.window((x0, y0, x0 + columns * block, y0 + rows * block))
    if block > 1:
        source = cv2.resize(source, (columns, rows), interpolation=cv2.INTER_AREA)
    linear = matrix[:, :2] * block
    shift = matrix[:, 2] + matrix[:, :2] @ np.array([x0, y0], np.float64)
    # OpenCV counts from pixel centres: pixel i at i, not i + 1/2.
    shift = shift + linear @ np.array([0.5, 0.5]) - 0.5
    return cv2.warpAffine(  # type: ignore[no-any-return]
        source,
        np.concatenate([linear, shift[:, None]], axis=1),
        (CROP_SIZE, CROP_SIZE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
