"""Face detectors behind one interface: what the MediaPipe wheel brings, or SCRFD in ONNX.

``detect(image)`` is a function of that image alone: it remembers nothing of earlier frames, so a
frame's detections do not depend on the order or the company in which it is seen.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from actors.types import F32, U8
from model.config import Config

F64 = NDArray[np.float64]

LONGEST_SIDE = (
    1280  # pixels; larger pictures are shrunk by a whole number before MediaPipe sees them
)
SMALL_FACE = 0.2  # of the picture's longer side; the detector's box of a smaller face is coarse
LOOK_AGAIN = 1.5  # half side of the region around a small face, in sides of its first box
SCRFD_STRIDES = (8, 16, 32)
SCRFD_ANCHORS = 2  # at each cell


class DetectorConfig(Config):
    """How faces are found."""

    kind: Literal["mediapipe", "onnx"] = Field(
        "mediapipe",
        description="`mediapipe`: BlazeFace of the MediaPipe wheel; `onnx`: SCRFD by path.",
    )
    weights: str | None = Field(None, description="Path of the ONNX file; needed by `onnx` only.")
    threshold: float = Field(0.5, gt=0, lt=1, description="Least score of a detection, 0 to 1.")
    input_size: int = Field(
        640, ge=64, multiple_of=32, description="Side of the ONNX network's square input, pixels."
    )
    nms_iou: float = Field(
        0.4, gt=0, lt=1, description="ONNX: of boxes that overlap more, the best one stays."
    )

    @model_validator(mode="after")
    def _weights_with_onnx(self) -> "DetectorConfig":
        if self.kind == "onnx" and not self.weights:
            raise ValueError(
                "detector kind 'onnx' needs `weights`, the path of an SCRFD .onnx file"
            )
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One face. Coordinates in pixels of the picture, not clipped to it."""

    box: F64  # [4] x0, y0, x1, y1
    score: float  # 0 to 1
    keypoints: F64 | None = (
        None  # [6, 2] MediaPipe or [5, 2] SCRFD; None when the detector has none
    )


class Detector(Protocol):
    """Finds all faces of one picture."""

    name: str  # goes into the feature shards

    def detect(self, image: U8) -> list[Detection]:
        """Find the faces of an RGB ``image`` [H, W, 3], best score first."""
        ...


def make_detector(config: DetectorConfig) -> Detector:
    """Build the detector that ``config`` names.

    Raises:
        ValueError: ONNX weights that do not exist or are no SCRFD network, or onnxruntime is
            missing.
    """
    if config.kind == "mediapipe":
        return MediaPipeDetector(config)
    return ScrfdDetector(config)


def iou(a: F64, b: F64) -> F64:
    """Intersection over union of each box of ``a`` [M, 4] with each of ``b`` [N, 4] -> [M, N]."""
    a, b = np.atleast_2d(a)[:, None], np.atleast_2d(b)[None]
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inter = np.prod(np.clip(size, 0, None), axis=-1)
    area_a = np.prod(np.clip(a[..., 2:] - a[..., :2], 0, None), axis=-1)
    area_b = np.prod(np.clip(b[..., 2:] - b[..., :2], 0, None), axis=-1)
    union = area_a + area_b - inter
    result: F64 = np.divide(inter, union, out=np.zeros_like(union), where=union > 0)
    return result


def suppress(boxes: F64, scores: F64, most: float) -> list[int]:
    """Greedy non-maximum suppression: indices kept, best score first (ties: first in order).

    Args:
        boxes: [N, 4].
        scores: [N].
        most: A box that overlaps a better kept one by more IoU than this is dropped.
    """
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if not kept or iou(boxes[i], boxes[kept]).max() <= most:
            kept.append(i)
    return kept


# --- MediaPipe


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what native code writes to stderr.

    MediaPipe's native log has no switch: it prints notices when a graph starts and when it sees
    its first picture. Those two moments are wrapped in this, and nothing else, because it acts on
    the whole process.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def shrink(image: U8, longest: int) -> tuple[U8, int]:
    """Shrink by the smallest whole number that brings the longer side to at most ``longest``.

    Returns:
        The picture (area-averaged when shrunk, rows and columns that do not fill a block left out),
        and the number.
    """
    factor = -(-max(image.shape[:2]) // longest)
    if factor == 1:
        return image, 1
    import cv2

    height, width = (side // factor for side in image.shape[:2])
    block = image[: height * factor, : width * factor]
    return cv2.resize(block, (width, height), interpolation=cv2.INTER_AREA), factor


class MediaPipeDetector:
    """BlazeFace: the short-range model, and the full-range one for frames where that finds nothing.

    The short-range model is fast and exact for faces of at least a fifth of the picture's
    longer side, the usual talking face. A smaller one is looked at again, enlarged: its first box
    may be half as large again as the face, which would upset every crop. Faces below about 6 % of
    the longer side are not found. The box is square and spans the middle of the forehead to the
    chin, ear to ear.
    """

    name = "mediapipe-blazeface"

    def __init__(self, config: DetectorConfig) -> None:
        self._threshold = config.threshold
        self._short = self._load(0)
        self._full: Any = None  # made when it is first needed

    def _load(self, model: int) -> Any:
        with silent_stderr():
            from mediapipe.python.solutions.face_detection import FaceDetection

            graph = FaceDetection(min_detection_confidence=self._threshold, model_selection=model)
            graph.process(np.zeros((64, 64, 3), np.uint8))  # loads the weights
        return graph

    def detect(self, image: U8) -> list[Detection]:
        """Find the faces of an RGB ``image`` [H, W, 3], best score first."""
        small, factor = shrink(image, LONGEST_SIDE)
        found = self._run(self._short, small, factor, 0, 0)
        if not found:
            if self._full is None:
                self._full = self._load(1)
            return self._run(self._full, small, factor, 0, 0)
        limit = SMALL_FACE * max(image.shape[:2])
        return [self._again(image, d) if _side(d.box) < limit else d for d in found]

    def _again(self, image: U8, first: Detection) -> Detection:
        """Detect once more around a small face; keep the first box if nothing fits."""
        height, width = image.shape[:2]
        centre, half = (first.box[:2] + first.box[2:]) / 2, LOOK_AGAIN * _side(first.box)
        x0, y0 = (int(v) for v in np.clip(np.floor(centre - half), 0, [width, height]))
        x1, y1 = (int(v) for v in np.clip(np.ceil(centre + half), 0, [width, height]))
        if x1 <= x0 or y1 <= y0:
            return first
        near = self._run(self._short, np.ascontiguousarray(image[y0:y1, x0:x1]), 1, x0, y0)
        overlaps = [float(iou(first.box, d.box)[0, 0]) for d in near]
        if not overlaps or max(overlaps) < 0.2:
            return first
        return near[int(np.argmax(overlaps))]

    def _run(self, model: Any, image: U8, factor: int, x0: int, y0: int) -> list[Detection]:
        found = model.process(image).detections or []
        size = np.array([image.shape[1], image.shape[0]], np.float64) * factor
        origin = np.array([x0, y0], np.float64)
        detections = []
        for d in found:
            box = d.location_data.relative_bounding_box
            corner = np.array([box.xmin, box.ymin]) * size + origin
            extent = np.array([box.width, box.height]) * size
            points = np.array([(k.x, k.y) for k in d.location_data.relative_keypoints]) * size
            detections.append(
                Detection(
                    np.concatenate([corner, corner + extent]), float(d.score[0]), points + origin
                )
            )
        return sorted(detections, key=lambda d: -d.score)


def _side(box: F64) -> float:
    return float((box[2:] - box[:2]).max())


# --- SCRFD


def letterbox(image: U8, side: int) -> tuple[F32, float]:
    """Fit ``image`` into the upper left of a square and normalise it for SCRFD.

    Args:
        image: RGB [H, W, 3].
        side: Side of the square, pixels.

    Returns:
        [1, 3, side, side] RGB, (value - 127.5) / 128, zero pixels beyond the picture; and the
        scale: input pixels for each pixel of ``image``.
    """
    import cv2

    scale = side / max(image.shape[:2])
    width = min(side, max(1, round(image.shape[1] * scale)))
    height = min(side, max(1, round(image.shape[0] * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=way)
    normal = (canvas.astype(np.float32) - 127.5) / 128.0
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None]), scale


def decode_scrfd(
    outputs: list[F32], side: int, scale: float, threshold: float, nms_iou: float
) -> list[Detection]:
    """Turn the outputs of an SCRFD network into detections.

    Source: Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR
    2022, and the layout of its published ONNX files. Two anchors sit at each cell (row by row, the
    two adjacent) at (column x stride, row x stride). A box is its distances left, top, right,
    bottom from the anchor and a key point its offset x, y, all in strides.

    Args:
        outputs: For the strides 8, 16, 32: three score arrays [A, 1], three of boxes [A, 4] and,
            when the
            network has key points, three more [A, 10]; A = 2 (side / stride)^2. A leading 1 is
            allowed.
        side: Side of the network's input, pixels.
        scale: Input pixels for each picture pixel.
        threshold: Least score.
        nms_iou: Of boxes that overlap more, the best one stays.

    Returns:
        Detections in pixels of the picture, best score first.

    Raises:
        ValueError: The number or the shapes of the outputs are not SCRFD's.
    """
    levels = len(SCRFD_STRIDES)
    if len(outputs) not in (2 * levels, 3 * levels):
        raise ValueError(f"an SCRFD network has 6 or 9 outputs, this one has {len(outputs)}")
    with_points = len(outputs) == 3 * levels
    scores, boxes, points = [], [], []
    for level, stride in enumerate(SCRFD_STRIDES):
        cells = side // stride
        anchors = SCRFD_ANCHORS * cells * cells
        wanted = {"score": (level, 1), "box": (level + levels, 4)}
        if with_points:
            wanted["key points"] = (level + 2 * levels, 10)
        part = {}
        for what, (index, last) in wanted.items():
            array = np.asarray(outputs[index], np.float64)
            if array.size != anchors * last or array.shape[-1] != last:
                raise ValueError(
                    f"SCRFD {what} of stride {stride}: expected [{anchors}, {last}] for an input "
                    f"of {side} pixels, got {list(array.shape)}; check `input_size` and the file"
                )
            part[what] = array.reshape(anchors, last)
        good = np.flatnonzero(part["score"][:, 0] >= threshold)
        cell = good // SCRFD_ANCHORS
        anchor = np.stack([cell % cells, cell // cells], axis=1) * float(stride)  # [n, 2] x, y
        reach = part["box"][good] * stride
        scores.append(part["score"][good, 0])
        boxes.append(np.concatenate([anchor - reach[:, :2], anchor + reach[:, 2:]], axis=1))
        if with_points:
            shift = part["key points"][good].reshape(-1, 5, 2) * stride
            points.append(anchor[:, None] + shift)
    score, box = np.concatenate(scores), np.concatenate(boxes) / scale
    point = np.concatenate(points) / scale if with_points else None
    return [
        Detection(box[i], float(score[i]), None if point is None else point[i])
        for i in suppress(box, score, nms_iou)
    ]


class ScrfdDetector:
    """SCRFD (or a network exported with the same outputs) in ONNX Runtime, on one CPU thread."""

    def __init__(self, config: DetectorConfig) -> None:
        path = Path(config.weights or "")
        if not path.is_file():
            raise ValueError(f"detector weights {str(path)!r} do not exist")
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(
                "detector kind 'onnx' needs onnxruntime, which is not installed: "
                "pip install 'talkmos[onnx]', or use the detector kind 'mediapipe'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._config = config
        self.name = f"onnx-{path.stem}"

    def detect(self, image: U8) -> list[Detection]:
        """Find the faces of an RGB ``image`` [H, W, 3], best score first."""
        config = self._config
        tensor, scale = letterbox(image, config.input_size)
        outputs = self._session.run(None, {self._input: tensor})
        return decode_scrfd(outputs, config.input_size, scale, config.threshold, config.nms_iou)
