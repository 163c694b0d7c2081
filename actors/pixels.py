"""What the first pass over a video leaves for the second: times, detections, and pixels."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from actors.clips import FrameIndex
from actors.crops import Patch, Region, patch_region
from actors.decode import Reader
from actors.detectors import Detection
from actors.faces import FaceTrack
from actors.types import F32, Frame, Timings


class Clock:
    """Adds the seconds of ``with clock(stage):`` blocks and of iterator steps to the timings."""

    def __init__(self, timings: Timings) -> None:
        self._timings = timings
        self._stage = ""
        self._begun = 0.0

    def __call__(self, stage: str) -> "Clock":
        """Name the stage of the block that follows."""
        self._stage = stage
        return self

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timings.add(self._stage, time.perf_counter() - self._begun)

    def each(self, stage: str, items: Iterator[Frame]) -> Iterator[Frame]:
        """Yield ``items``, timing how long each takes to come."""
        while True:
            begun = time.perf_counter()
            item = next(items, None)
            self._timings.add(stage, time.perf_counter() - begun)
            if item is None:
                return
            yield item


@dataclass(slots=True)
class Seen:
    """What the first pass leaves behind; pixels only in ``kept``."""

    index: FrameIndex = field(default_factory=FrameIndex)
    times: list[float] = field(default_factory=list)  # [n] seconds
    good: list[bool] = field(default_factory=list)  # [n] decoded and not black
    stats: list[F32] = field(default_factory=list)  # [n] of [S]
    detections: list[list[Detection]] = field(default_factory=list)  # [n]
    kept: dict[int, Patch] = field(default_factory=dict)  # ordinal -> pixels around the faces
    kept_bytes: int = 0
    last_faces: tuple[int, Region] | None = None  # ordinal and place of the latest detections


class Pixels:
    """The pixels around the main face, frame by frame: from what was kept, else decoded again."""

    def __init__(
        self,
        reader: Reader,
        seen: Seen,
        track: FaceTrack,
        clock: Clock,
        *,
        asked_again: bool,
    ) -> None:
        self._reader, self._seen, self._track, self._clock = reader, seen, track, clock
        self._kept = seen.kept
        self._again: Iterator[Frame] | None = None
        self._position = -1  # ordinal that the second decoding has reached
        self._use_kept = True
        self._asked_again = asked_again  # clips overlap

    def get(self, ordinal: int) -> Patch | None:
        """Return the frame's pixels, None for a frame that has none."""
        if not self._seen.good[ordinal]:
            return None
        if ordinal in self._kept:
            return self._kept[ordinal]
        if self._again is None or self._position >= ordinal:
            self._again, self._position = self._reader.frames(), -1
        for frame in self._clock.each("decode", self._again):
            self._position = frame.ordinal
            if frame.ordinal == ordinal:
                assert frame.image is not None  # it was good in the first pass
                patch = self._cut(frame)
                if self._asked_again:
                    self._kept[ordinal] = patch
                return patch
        raise RuntimeError(f"frame {ordinal} was there in the first pass and not in the second")

    def _cut(self, frame: Frame) -> Patch:
        assert frame.image is not None
        box = self._track.box[frame.ordinal]
        height, width = frame.image.shape[:2]
        region = patch_region(box, width, height) if self._use_kept else None
        return Patch.whole(frame.image) if region is None else Patch.cut(frame.image, region)

    def forget_before(self, ordinal: int) -> None:
        """Free the frames of earlier clips."""
        for old in [o for o in self._kept if o < ordinal]:
            del self._kept[old]

    def whole_frames(self) -> None:
        """A crop reached beyond the kept pixels: use whole frames from here on."""
        self._kept.clear()
        self._use_kept = False
