"""Face Mesh landmarks of the main face, and the table of the landmarks that other modules use.

The mesh sees only the surroundings of the main face, painted on a canvas that stands still
through the clip: another person in the picture cannot take its place, and the mesh can follow the
face from frame to frame, which costs less than half of finding it anew. The state is cleared before
each clip, so landmarks depend on the clip alone.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from actors.crops import REACH, Patch, Region, around, join
from actors.detectors import iou, silent_stderr
from actors.types import F32, U8, Bool
from model.config import Config

F64 = NDArray[np.float64]

N_POINTS = 468

# The one table of landmark indices (docs/landmarks.md shows them). Pairs: the subject's right side
# (left in the picture) first.
POINTS: dict[str, tuple[int, ...]] = {
    "nose_tip": (1,),
    "nose_root": (168,),
    "nose_wing": (98, 327),
    "upper_lip": (13,),
    "lower_lip": (14,),
    "mouth_corner": (61, 291),
    "upper_lid": (159, 386),
    "lower_lid": (145, 374),
    "outer_eye": (33, 263),
    "inner_eye": (133, 362),
    "inner_brow": (55, 285),
    "outer_brow": (46, 276),
    "brow_middle": (105, 334),
}

# Passes over the first picture after a start. The first pass is off by about 1.5 % of the eye
# distance, because the detector places the face coarsely; each further one starts from the last
# one's landmarks. Without them every clip would begin with a jump.
SETTLE = 3
TIGHT = 0.65  # reach of the second try, in box sides: the face and little else
_BLACK: U8 = np.zeros((64, 64, 3), np.uint8)
MESH_SIDE = 320  # pixels; faces of twice this side and more are shrunk by a whole number first


class LandmarksConfig(Config):
    """Thresholds of Face Mesh."""

    min_detection_confidence: float = Field(
        0.5, gt=0, lt=1, description="Least score of Face Mesh's own face detection."
    )
    min_tracking_confidence: float = Field(
        0.5, gt=0, lt=1, description="Least face presence; below it the face is looked for anew."
    )
    min_iou: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Least overlap (IoU) of the mesh's bounding box with the tracked box.",
    )


def five_points(points: ArrayLike, image_size: tuple[int, int]) -> F64:
    """Eye centres, nose tip and mouth corners for the alignment.

    An eye's centre is the middle of its corners, which a blink does not move.

    Args:
        points: [468, 3] (or [1404]) landmarks, x and y normalised to the picture.
        image_size: (height, width).

    Returns:
        [5, 2] pixels, in the order of :data:`model.geometry.FACE_TEMPLATE`.
    """
    height, width = image_size
    p = np.asarray(points, np.float64).reshape(N_POINTS, 3)[:, :2] * [width, height]
    eyes = (p[list(POINTS["outer_eye"])] + p[list(POINTS["inner_eye"])]) / 2
    return np.concatenate([eyes, p[list(POINTS["nose_tip"])], p[list(POINTS["mouth_corner"])]])


def belongs(points: ArrayLike, box: ArrayLike, min_iou: float) -> bool:
    """Whether a mesh is the face in ``box``: its middle lies inside and the two overlap enough.

    Args:
        points: [468, >= 2] pixels.
        box: [4] pixels.
        min_iou: Least overlap of the mesh's bounding box with ``box``.
    """
    p, b = np.asarray(points, np.float64)[:, :2], np.asarray(box, np.float64)
    bounds = np.concatenate([p.min(axis=0), p.max(axis=0)])
    middle = (bounds[:2] + bounds[2:]) / 2
    inside = bool((b[:2] <= middle).all() and (middle <= b[2:]).all())
    return inside and float(iou(bounds, b)[0, 0]) >= min_iou


def mesh_region(box: ArrayLike, width: int, height: int) -> Region:
    """What Face Mesh sees of a ``width`` x ``height`` frame whose face is at ``box``."""
    return around(box, REACH, width, height)


class FaceMesher:
    """MediaPipe Face Mesh (468 points) over one clip after another.

    The graph is not safe for threads: use one object in one thread.
    """

    name = "landmarks"
    version = "1"

    def __init__(self, config: LandmarksConfig) -> None:
        self._config = config
        self._seen_face = False
        with silent_stderr():
            from mediapipe.python.solutions.face_mesh import FaceMesh

            self._mesh = FaceMesh(
                static_image_mode=False,
                max_num_faces=1,
                refine_landmarks=False,
                min_detection_confidence=config.min_detection_confidence,
                min_tracking_confidence=config.min_tracking_confidence,
            )
            self._forget()

    def close(self) -> None:
        """Free the graph."""
        self._mesh.close()

    def __call__(self, patches: Sequence[Patch | None], boxes: ArrayLike) -> tuple[F32, Bool]:
        """Find the landmarks of one clip's distinct frames, in order.

        Args:
            patches: [n] pictures of one size; None for a frame without a picture.
            boxes: [n, 4] the main face, pixels of the whole picture; NaN where there is none.

        Returns:
            Landmarks [n, 468, 3], x and y normalised to the whole picture and z to its width
            (negative: nearer than the head's middle), zeros where not found; and found [n].

        Raises:
            PatchTooSmall: A patch lacks pixels of :func:`mesh_region`.
            ValueError: The numbers of patches and boxes differ.
        """
        b = np.asarray(boxes, np.float64).reshape(-1, 4)
        n = len(patches)
        if len(b) != n:
            raise ValueError(f"{n} patches, but {len(b)} boxes")
        points = np.zeros((n, N_POINTS, 3), np.float32)
        found = np.zeros(n, np.bool_)
        work = [
            (i, patch, b[i])
            for i, patch in enumerate(patches)
            if patch is not None and np.isfinite(b[i]).all()
        ]
        regions = [mesh_region(box, p.full_width, p.full_height) for _, p, box in work]
        visible = [
            (w, r) for w, r in zip(work, regions, strict=True) if r[0] < r[2] and r[1] < r[3]
        ]
        if not visible:
            return points, found
        canvas = _Canvas(
            join([r for _, r in visible]), np.stack([box for (_, _, box), _ in visible])
        )
        self._forget()
        for (i, patch, box), region in visible:
            result = self._find(canvas, patch, box, region)
            if result is not None:
                points[i] = result / [patch.full_width, patch.full_height, patch.full_width]
                found[i] = True
        return points, found

    def _forget(self) -> None:
        """Clear what is followed from frame to frame.

        On a black picture the graph loses the face, and the place of the last face is all that it
        keeps: afterwards it gives the same bits as a new graph, without the cost of starting one.
        """
        self._passes = SETTLE
        for _ in range(3):
            if not self._mesh.process(_BLACK).multi_face_landmarks:
                return
        raise RuntimeError("Face Mesh finds a face in a black picture")

    def _find(self, canvas: "_Canvas", patch: Patch, box: F64, region: Region) -> F64 | None:
        """Landmarks [468, 3] in pixels of the whole picture, or None."""
        result = self._run(canvas, patch, box, region)
        if result is not None:
            return result
        # Lost, or on somebody else: forget what was followed and look where the face must be.
        self._forget()
        result = self._run(
            canvas, patch, box, around(box, TIGHT, patch.full_width, patch.full_height)
        )
        if result is None:
            self._forget()
        return result

    def _run(self, canvas: "_Canvas", patch: Patch, box: F64, region: Region) -> F64 | None:
        picture = canvas.paint(patch, region)
        with nullcontext() if self._seen_face else silent_stderr():
            for _ in range(self._passes):
                faces = self._mesh.process(picture).multi_face_landmarks
                if not faces:
                    break
        if not faces:
            return None
        self._seen_face, self._passes = True, 1
        points = canvas.to_picture(_read(faces[0]))
        return points if belongs(points, box, self._config.min_iou) else None


def _read(face: Any) -> F64:
    values = (v for p in face.landmark for v in (p.x, p.y, p.z))
    return np.fromiter(values, np.float64, N_POINTS * 3).reshape(N_POINTS, 3)


class _Canvas:
    """A black picture at a fixed place, on which each frame's face is painted."""

    def __init__(self, region: Region, boxes: F64) -> None:
        side = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)))
        self._block = max(1, int(side / MESH_SIDE))
        self._x0, self._y0, x1, y1 = region
        self._columns = -(-(x1 - self._x0) // self._block)
        self._rows = -(-(y1 - self._y0) // self._block)
        self._image = np.zeros((self._rows * self._block, self._columns * self._block, 3), np.uint8)

    def paint(self, patch: Patch, region: Region) -> U8:
        """Paint ``region`` of ``patch`` and nothing else; large faces are shrunk by blocks."""
        x0, y0, x1, y1 = region
        self._image[:] = 0
        self._image[y0 - self._y0 : y1 - self._y0, x0 - self._x0 : x1 - self._x0] = patch.window(
            region
        )
        if self._block == 1:
            return self._image
        import cv2

        size = (self._columns, self._rows)
        return cv2.resize(self._image, size, interpolation=cv2.INTER_AREA)  # type: ignore[no-any-return]

    def to_picture(self, points: F64) -> F64:
        """Map normalised canvas coordinates [468, 3] to pixels of the whole picture, z too."""
        height, width = self._image.shape[:2]
        return points * [width, height, width] + [self._x0, self._y0, 0.0]
