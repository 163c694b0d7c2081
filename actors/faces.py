"""Face tracks over a video: linking detections by overlap, choosing the main face, counting.

All functions are pure. A frame is one that the reader yields (``Frame.ordinal``), over the whole
video and not one clip, so that a clip's main face does not depend on how the video is cut.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from actors.detectors import Detection, DetectorConfig, iou
from actors.types import Bool
from model.config import Config

F64 = NDArray[np.float64]

VERSION = "1"  # raise when tracks or crops change
SYNC_FILTER = 13  # frames, SyncNet's median filter

# The `faces` column of the row: field -> Arrow type.
FACE_FIELDS: dict[str, str] = {
    "tracks": "int32",  # faces followed through the video, the main one included
    "max_faces": "int32",  # most faces in one frame of the clip
    "multi_face_share": "float32",  # share of the clip's real frames with more than one face
    "face_share": "float32",  # share of the clip's real frames where the main face has landmarks
    "detected_share": "float32",  # share of the clip's real frames where the main face was detected
    "main_track_frames": "int32",  # frames of the video in which the main face was detected
    "box_width": "float32",  # median over the clip, pixels; null without a main face
    "box_height": "float32",  # the same
    "detector": "string",  # its name
}


class FacesConfig(Config):
    """How faces are found and followed."""

    detector: DetectorConfig = Field(default_factory=DetectorConfig, description="Face detector.")
    min_iou: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Least overlap (IoU) of a face with its box in the track's last frame.",
    )
    max_gap: int = Field(
        12, ge=0, description="Frames in a row that a track may miss and still be taken up again."
    )
    sync_edges: Literal["nearest", "zero"] = Field(
        "nearest",
        description="What the median filter of SyncNet's boxes sees beyond the ends of a track: "
        "`nearest` repeats the end; `zero` is the original's, which pulls the first and last 6 "
        "boxes towards their minimum.",
    )


@dataclass(slots=True)
class Track:
    """One face through the video: the frames where it was detected, ascending, and its boxes."""

    frames: list[int] = field(default_factory=list)
    boxes: list[F64] = field(default_factory=list)  # [4] each

    def weight(self) -> float:
        """Frames x mean size: the sum over its frames of the root of the box's area, pixels."""
        sides = np.stack(self.boxes)[:, 2:] - np.stack(self.boxes)[:, :2]
        return float(np.sqrt(np.prod(np.clip(sides, 0, None), axis=1)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """The main face of a video and what else was seen; n frames."""

    box: F64  # [n, 4] pixels; interpolated where the detector missed it; NaN outside the track
    detected: Bool  # [n] the detector found the main face
    n_faces: NDArray[np.int32]  # [n] faces found in the frame
    n_tracks: int  # faces followed through the video; 0: no face at all

    @property
    def present(self) -> Bool:
        """[n] the frame lies inside the main track."""
        return np.isfinite(self.box[:, 0])


def build_tracks(detections: list[list[Detection]], config: FacesConfig) -> list[Track]:
    """Link detections of consecutive frames by overlap, best pairs first.

    A face that is missed stays open for ``config.max_gap`` frames and is taken up by a detection
    that overlaps its last box. Equal overlaps go to the older track, then to the better detection.

    Args:
        detections: For each frame of the video its faces, best score first.
        config: Thresholds.

    Returns:
        Tracks in the order of their first detection.
    """
    tracks: list[Track] = []
    active: list[Track] = []  # those that may still be taken up
    for frame, found in enumerate(detections):
        if not found:
            continue
        active = [t for t in active if frame - t.frames[-1] - 1 <= config.max_gap]
        free = list(range(len(found)))
        if active:
            overlap = iou(np.stack([t.boxes[-1] for t in active]), np.stack([d.box for d in found]))
            taken: set[int] = set()
            for pair in np.argsort(-overlap, axis=None, kind="stable").tolist():
                row, column = divmod(pair, len(found))
                if overlap[row, column] < config.min_iou:
                    break
                if row in taken or column not in free:
                    continue
                taken.add(row)
                free.remove(column)
                active[row].frames.append(frame)
                active[row].boxes.append(found[column].box)
        new = [Track([frame], [found[column].box]) for column in free]
        tracks += new
        active += new
    return tracks


def main_track(tracks: list[Track]) -> Track | None:
    """The longest x largest track (:meth:`Track.weight`); of equals the earliest."""
    return max(tracks, key=Track.weight, default=None)


def fill_gaps(track: Track, n: int) -> F64:
    """Boxes of ``track`` on frames 0..n-1: linear inside gaps, NaN before and after the track.

    Returns:
        [n, 4].
    """
    boxes = np.full((n, 4), np.nan)
    frames = np.arange(track.frames[0], track.frames[-1] + 1)
    known = np.stack(track.boxes)
    for column in range(4):
        boxes[frames, column] = np.interp(frames, track.frames, known[:, column])
    return boxes


def track_main_face(detections: list[list[Detection]], config: FacesConfig) -> FaceTrack:
    """Follow the faces of a video and choose the main one.

    No face at all is no error: the boxes are then NaN everywhere and ``n_tracks`` is 0.

    Args:
        detections: For each of the video's n frames its faces; empty for a frame that could not be
            decoded.
        config: Thresholds.
    """
    n = len(detections)
    tracks = build_tracks(detections, config)
    main = main_track(tracks)
    detected = np.zeros(n, np.bool_)
    box = np.full((n, 4), np.nan)
    if main is not None:
        detected[main.frames] = True
        box = fill_gaps(main, n)
    n_faces = np.array([len(found) for found in detections], np.int32)
    return FaceTrack(box, detected, n_faces, len(tracks))


def median_filter(values: F64, edges: Literal["nearest", "zero"]) -> F64:
    """Running median over 13 values; beyond the ends the last value or zeros."""
    half = SYNC_FILTER // 2
    padded = np.pad(values, half, "edge" if edges == "nearest" else "constant")
    windows = np.lib.stride_tricks.sliding_window_view(padded, SYNC_FILTER)
    result: F64 = np.median(windows, axis=1)
    return result


def sync_boxes(box: ArrayLike, edges: Literal["nearest", "zero"] = "nearest") -> F64:
    """Centre and half size of SyncNet's crops: of the boxes, median-filtered over 13 frames.

    Args:
        box: [n, 4] face boxes at consecutive 25 fps frames of the video; NaN where there is no
            face.
        edges: See :class:`FacesConfig`.

    Returns:
        [n, 3] cx, cy, s (half the longer side), pixels; NaN where ``box`` is. Each run of frames
        with a face is filtered by itself.
    """
    b = np.asarray(box, np.float64)
    half = (b[:, 2:] - b[:, :2]).max(axis=1, initial=-np.inf) / 2
    raw = np.stack([(b[:, 0] + b[:, 2]) / 2, (b[:, 1] + b[:, 3]) / 2, half], axis=1)
    result = np.full_like(raw, np.nan)
    there = np.flatnonzero(np.isfinite(raw).all(axis=1))
    if there.size == 0:
        return result
    for run in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):
        for column in range(3):
            result[run, column] = median_filter(raw[run, column], edges)
    return result


def face_stats(
    track: FaceTrack, ordinals: NDArray[np.int64], frame_mask: Bool, face_mask: Bool, detector: str
) -> dict[str, Any]:
    """The `faces` struct of a clip (:data:`FACE_FIELDS`).

    Args:
        track: Of the whole video.
        ordinals: [n <= T] the video frame that serves each frame of the clip.
        frame_mask: [T] real frames.
        face_mask: [T] frames where the main face has landmarks.
        detector: Name of the detector.
    """
    real = frame_mask[: len(ordinals)]
    frames = ordinals[real]
    total = max(1, len(frames))
    faces = track.n_faces[frames]
    size = track.box[frames]
    size = (size[:, 2:] - size[:, :2])[np.isfinite(size[:, 0])]
    middle = np.median(size, axis=0).tolist() if len(size) else [None, None]
    return {
        "tracks": track.n_tracks,
        "max_faces": int(faces.max(initial=0)),
        "multi_face_share": float((faces > 1).sum() / total),
        "face_share": float((face_mask & frame_mask).sum() / total),
        "detected_share": float(track.detected[frames].sum() / total),
        "main_track_frames": int(track.detected.sum()),
        "box_width": middle[0],
        "box_height": middle[1],
        "detector": detector,
    }
