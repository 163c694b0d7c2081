"""A video file -> prepared clips: decoded, tracked, aligned and cropped; all on the CPU.

Two passes. The first decodes every wanted frame once, finds faces, measures the picture and keeps
the pixels around the faces while they fit a budget: the main face is known only when the whole
video was seen. The second cuts clips, lays the mesh over the main face and makes the crops,
decoding again only what was not kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from actors.clips import ClipPlan, plan_clips
from actors.crops import Patch, PatchTooSmall, align_face, patch_region, sync_crop
from actors.decode import Reader, VideoReader
from actors.detectors import Detection, make_detector
from actors.faces import FaceTrack, face_stats, sync_boxes, track_main_face
from actors.features import FeaturesConfig
from actors.frame_stats import FRAME_STATS, FrameStatistics
from actors.landmarks import FaceMesher, five_points
from actors.pixels import Clock, Pixels, Seen
from actors.row import T
from actors.types import (
    CLIP_SECONDS,
    F32,
    FPS,
    MIB,
    U8,
    Bool,
    ClipSpan,
    MediaInfo,
    Row,
    Sound,
    Timings,
)
from model.geometry import CROP_SIZE

NEEDS: tuple[str, ...] = ()
ADDS = (
    "clip_index",
    "start_s",
    "end_s",
    "frame_mask",
    "face_mask",
    "audio_mask",
    "landmarks",
    "faces",
    "frame_times",
    "frame_period",
    "image_size",
    "waveform",
    "has_sound",
    "visual_crops",
    "visual_index",
    "sync_crops",
    "sync_index",
    "frame_stats",
)


@dataclass(frozen=True, slots=True)
class PreparedVideo:
    """A video whose clips are known; ``rows`` prepares them one by one, in order."""

    info: MediaInfo
    clips: int
    uncovered_s: float  # the end of the video that is in no clip
    missing_s: float  # what the header promises and the file does not hold
    black_frames: int
    broken_frames: int
    spans: tuple[ClipSpan, ...]  # of the clips, in order
    rows: Iterator[Row]


class Preparer:
    """Prepares one video after another, in one thread: MediaPipe has one graph for each process.

    Args:
        config: All settings of extraction; those of decoding, faces and landmarks are used here.
    """

    def __init__(self, config: FeaturesConfig) -> None:
        self._config = config
        self._detector = make_detector(config.faces.detector)
        self._mesher = FaceMesher(config.landmarks)
        self._wants_sync = "sync" in config.modalities
        self._wants_stats = bool({"lowlevel", "descriptors"} & set(config.modalities))
        self._wants_visual = bool({"visual", "lowlevel", "descriptors"} & set(config.modalities))

    def open(
        self, file: BinaryIO, name: str, timings: Timings, beat: Callable[[str], None]
    ) -> PreparedVideo:
        """Make the first pass over ``file``; the second happens while ``rows`` is consumed.

        Args:
            file: Seekable; stays open until ``rows`` is exhausted, closed by the caller.
            name: For messages.
            timings: Seconds of ``decode`` and ``faces`` are added here.
            beat: Called with the stage's name whenever something moved.

        Raises:
            VideoError: The video cannot be processed.
        """
        reader = VideoReader(file, self._config.decode, name, on_progress=lambda: beat("decode"))
        return self.read(reader, timings, beat)

    def read(self, reader: Reader, timings: Timings, beat: Callable[[str], None]) -> PreparedVideo:
        """Do as :meth:`open` does with a reader, which is entered here and closed after the rows.

        Raises:
            VideoError: The video cannot be processed.
        """
        seen = Seen()
        clock = Clock(timings)
        try:
            with clock("decode"):
                reader.__enter__()
            self._first_pass(reader, seen, clock, beat)
            with clock("decode"):
                sound = reader.sound()
            plan = plan_clips(seen.index, reader.duration_s, self._config.decode)
        except BaseException:
            reader.close()
            raise
        uncovered = 0.0 if plan.uncovered is None else plan.uncovered[1] - plan.uncovered[0]
        rows = self._rows(reader, seen, sound, plan, _Pass(clock, beat))
        return PreparedVideo(
            reader.info,
            len(plan.clips),
            uncovered,
            max(0.0, reader.info.duration_s - reader.duration_s),
            reader.black_frames,
            reader.broken_frames,
            tuple(plan.clips),
            rows,
        )

    # --- first pass

    def _first_pass(
        self, reader: Reader, seen: Seen, clock: Clock, beat: Callable[[str], None]
    ) -> None:
        statistics = FrameStatistics()
        nothing = np.full(len(FRAME_STATS), np.nan, np.float32)
        for frame in clock.each("decode", reader.frames()):
            seen.index.add(frame)
            seen.times.append(frame.time_s)
            image = None if frame.black else frame.image
            seen.good.append(image is not None)
            if image is None:
                seen.stats.append(nothing)
                seen.detections.append([])
                continue
            with clock("faces"):
                seen.stats.append(statistics(image) if self._wants_stats else nothing)
                found = self._detector.detect(image)
                seen.detections.append(found)
                self._keep(seen, frame.ordinal, image, found)
            beat("faces")

    def _keep(self, seen: Seen, ordinal: int, image: U8, found: list[Detection]) -> None:
        """Keep the pixels around the frame's faces, while the budget lasts."""
        height, width = image.shape[:2]
        region = patch_region([d.box for d in found], width, height) if found else None
        if region is not None:
            seen.last_faces = (ordinal, region)
        elif seen.last_faces is not None:
            since, place = seen.last_faces
            if ordinal - since <= self._config.faces.max_gap:
                region = place  # the detector missed a face that the track may bridge
        if region is None:
            return
        x0, y0, x1, y1 = region
        cost = 3 * (x1 - x0) * (y1 - y0)
        if seen.kept_bytes + cost <= self._config.prepare.cache_mib * MIB:
            seen.kept[ordinal] = Patch.cut(image, region)
            seen.kept_bytes += cost

    # --- second pass

    def _rows(
        self,
        reader: Reader,
        seen: Seen,
        sound: Sound | None,
        plan: ClipPlan,
        pass_: "_Pass",
    ) -> Iterator[Row]:
        clock, beat = pass_.clock, pass_.beat
        try:
            with clock("faces"):
                track = track_main_face(seen.detections, self._config.faces)
                grid = np.asarray(seen.index.grid, np.int64)
                boxes = sync_boxes(track.box[grid], self._config.faces.sync_edges)  # [G, 3]
            decode = self._config.decode
            overlap = decode.policy == "windows" and decode.hop_s < CLIP_SECONDS
            pixels = Pixels(reader, seen, track, clock, asked_again=overlap)
            video = _Video(reader.info, seen, sound, track, boxes, pixels, clock)
            for span in plan.clips:
                beat("faces")
                try:
                    row = self._clip(span, video)
                except PatchTooSmall:
                    pixels.whole_frames()
                    row = self._clip(span, video)
                yield row
        finally:
            reader.close()

    def _clip(self, span: ClipSpan, video: "_Video") -> Row:
        seen, track = video.seen, video.track
        n = len(span.ordinals)
        size = (video.info.height, video.info.width)
        frame_mask = np.zeros(T, np.bool_)
        frame_mask[:n] = np.asarray(seen.good)[span.ordinals]
        distinct, inverse = np.unique(span.ordinals, return_inverse=True)
        sync_crops, sync_index, patches = self._gather(span, distinct, video)
        with video.clock("landmarks"):
            points, found = self._mesher(patches, track.box[distinct])
        with video.clock("faces"):
            crops, crop_of = self._aligned(points, found, patches, size)
        landmarks = np.zeros((T, points.shape[1] * 3), np.float32)
        landmarks[:n] = points.reshape(len(distinct), -1)[inverse]
        face_mask = np.zeros(T, np.bool_)
        face_mask[:n] = found[inverse]
        face_mask &= frame_mask
        landmarks[~face_mask] = 0
        visual_index = np.full(T, -1, np.int32)
        visual_index[:n] = np.where(face_mask[:n], crop_of[inverse], -1)
        stats = np.full((T, len(FRAME_STATS)), np.nan, np.float32)
        stats[:n] = np.stack([seen.stats[o] for o in span.ordinals])
        times = np.asarray(seen.times)[span.ordinals]
        waveform, audio_mask = sound_of(span, video.sound, times, self._config.decode.policy)
        return {
            "clip_index": span.clip_index,
            "start_s": span.start_s,
            "end_s": span.end_s,
            "frame_mask": frame_mask,
            "face_mask": face_mask,
            "audio_mask": audio_mask,
            "landmarks": landmarks,
            "faces": face_stats(
                track, span.ordinals, frame_mask, face_mask, self._config.faces.detector.kind
            ),
            "frame_times": times,
            "frame_period": frame_period(times, self._config.decode.policy),
            "image_size": size,
            "waveform": waveform,
            "has_sound": bool(audio_mask.any()),
            "visual_crops": crops,
            "visual_index": visual_index,
            "sync_crops": sync_crops,
            "sync_index": sync_index,
            "frame_stats": stats,
        }

    def _gather(
        self, span: ClipSpan, distinct: NDArray[np.int64], video: "_Video"
    ) -> tuple[U8, NDArray[np.int32], list[Patch | None]]:
        """Go once through the clip's frames.

        Returns:
            SyncNet's crops; [m] which crop belongs to which consecutive frame, -1 for none; the
            pixels of each of the clip's ``distinct`` frames, None outside the main track.
        """
        present = video.track.present
        first_grid = round(span.start_s * FPS)
        mesh = set(distinct[present[distinct]].tolist())
        patches: dict[int, Patch] = {}
        crops: list[U8] = []
        sync_index = np.full(len(span.sync_ordinals), -1, np.int32)
        served: dict[int, list[int]] = {}
        if self._wants_sync:
            for position, ordinal in enumerate(span.sync_ordinals.tolist()):
                if present[ordinal]:
                    served.setdefault(ordinal, []).append(position)
        video.pixels.forget_before(int(span.ordinals[0]))
        for ordinal in sorted(mesh | served.keys()):
            patch = video.pixels.get(ordinal)
            if patch is None:
                continue
            if ordinal in mesh:
                patches[ordinal] = patch
            with video.clock("faces"):
                for position in served.get(ordinal, ()):
                    cx, cy, s = video.sync_boxes[first_grid + position]
                    if s < 1:
                        continue  # sync_edges "zero" shrinks a very short track to nothing
                    sync_index[position] = len(crops)
                    crops.append(sync_crop(patch, cx, cy, s))
        return _stacked(crops), sync_index, [patches.get(o) for o in distinct.tolist()]

    def _aligned(
        self, points: F32, found: Bool, patches: list[Patch | None], size: tuple[int, int]
    ) -> tuple[U8, NDArray[np.int32]]:
        """Crop the frames with a mesh; returns the crops and [n] which belongs to which frame."""
        index = np.full(len(found), -1, np.int32)
        crops: list[U8] = []
        if self._wants_visual:
            for i in np.flatnonzero(found).tolist():
                patch = patches[i]
                assert patch is not None  # a mesh was found in it
                index[i] = len(crops)
                crops.append(
                    align_face(patch, five_points(points[i], size), self._config.visual.crop)
                )
        return _stacked(crops), index


@dataclass(frozen=True, slots=True)
class _Video:
    """What all clips of a video share in the second pass."""

    info: MediaInfo
    seen: Seen
    sound: Sound | None
    track: FaceTrack
    sync_boxes: NDArray[np.float64]  # [G, 3] on the 25 fps grid
    pixels: Pixels
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Pass:
    """Who hears of time and progress."""

    clock: Clock
    beat: Callable[[str], None]


def frame_period(times: NDArray[np.float64], policy: str) -> float:
    """Return the seconds between the frames of a clip: 1/25, or what the `whole` policy left.

    Args:
        times: [n] timestamps of the clip's frames, seconds.
        policy: Of the sampling.
    """
    if policy == "windows" or len(times) < 2 or times[-1] <= times[0]:
        return 1 / FPS
    return float((times[-1] - times[0]) / (len(times) - 1))


def _stacked(crops: list[U8]) -> U8:
    return np.stack(crops) if crops else np.zeros((0, CROP_SIZE, CROP_SIZE, 3), np.uint8)


def sound_of(
    span: ClipSpan, sound: Sound | None, times: NDArray[np.float64], policy: str
) -> tuple[F32, Bool]:
    """Cut the clip's sound; the mask [T] says at which frames it really comes from the file.

    Args:
        span: Of the clip.
        sound: Of the video; None is a video without sound.
        times: [n] timestamps of the clip's frames, seconds.
        policy: Of the sampling.
    """
    mask = np.zeros(T, np.bool_)
    waveform = np.zeros(span.sample_stop - span.sample_start, np.float32)
    if sound is None:
        return waveform, mask
    piece = sound.samples[span.sample_start : span.sample_stop]
    waveform[: len(piece)] = piece
    starts = times if policy == "whole" else span.start_s + np.arange(len(times)) / FPS
    middles = starts + 0.5 / FPS
    mask[: len(times)] = (middles >= sound.start_s) & (middles < sound.end_s)
    return waveform, mask
