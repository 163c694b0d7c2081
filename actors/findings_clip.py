"""A stored row as detectors of faults see it: only what is there, cut to the real frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.landmarks import N_POINTS
from actors.lowlevel import LOWLEVEL_NAMES
from actors.sound_frames import runs
from actors.types import CLIP_FRAMES, F32, FPS, Bool, Row

_INDEX: Final = {name: i for i, name in enumerate(LOWLEVEL_NAMES)}

# Speech is found as actors.sound_frames.speech_activity finds it, on frames instead of hops.
_SPEECH_RANGE_DB: Final = 30.0
_LEAST_CONTRAST_DB: Final = 6.0
_SILENT_DB: Final = -60.0
_CLOSE_FRAMES: Final = 4  # pauses up to 0.16 s


@dataclass(frozen=True, slots=True)
class Clip:
    """What a row holds of a clip. n real frames; None where the run left the column out."""

    start_s: float
    end_s: float
    period_s: float
    real: Bool  # [n] decoded, not black
    seen: Bool  # [n] with the main face
    audible: Bool  # [n] the file has sound
    lowlevel: F32 | None  # [n, 64]
    mesh: F32 | None  # [n, 468, 3] normalised to the picture, 0 without a face
    values: Mapping[str, Any]  # descriptors; empty without them

    @property
    def frames(self) -> int:
        """How many there are."""
        return self.real.size

    @property
    def whole(self) -> tuple[float, float]:
        """The clip's span in the video, seconds."""
        return self.start_s, self.end_s

    def span(self, first: int, last: int) -> tuple[float, float]:
        """Seconds in the video of the frames ``first`` to ``last`` (exclusive)."""
        end = self.start_s + last * self.period_s
        return self.start_s + first * self.period_s, min(end, self.end_s)

    def stream(self, name: str) -> NDArray[np.float64]:
        """One column of the low-level stream, [n]."""
        assert self.lowlevel is not None
        return self.lowlevel[:, _INDEX[name]].astype(np.float64)

    def value(self, name: str) -> float | None:
        """A descriptor; None where it is undefined or was not extracted."""
        found = self.values.get(name)
        return None if found is None or not np.isfinite(found) else float(found)

    def speaking(self) -> Bool:
        """Frames [n] in which somebody speaks, gaps up to 0.16 s closed; needs ``lowlevel``."""
        level, sound = self.stream("energy"), self.audible
        audible = sound & (level > _SILENT_DB)
        if not audible.any():
            return np.zeros(self.frames, np.bool_)
        low, high = np.percentile(level[sound], (5, 95))
        if high - low < _LEAST_CONTRAST_DB:
            active = audible & (self.stream("voicing") > 0.5)
        else:
            rise = min(9.0, (high - low) / 3)
            active = audible & (level > max(high - _SPEECH_RANGE_DB, low + rise))
        return closed(active, _CLOSE_FRAMES)


def closed(mask: Bool, gap: int) -> Bool:
    """``mask`` with inner gaps of at most ``gap`` entries filled."""
    result = mask.copy()
    for start, end in runs(~mask):
        if end - start <= gap and start > 0 and end < mask.size:
            result[start:end] = True
    return result


def read_clip(row: Row) -> Clip:
    """Read a feature row, as the encoder emits it or as a shard gives it back."""
    masks = {
        name: np.asarray(row[name], np.bool_) for name in ("frame_mask", "face_mask", "audio_mask")
    }
    start_s, end_s = float(row["start_s"]), float(row["end_s"])
    used = np.flatnonzero(np.logical_or.reduce(list(masks.values())))
    shown = int(used[-1]) + 1 if used.size else 1
    n = max(1, round((end_s - start_s) * FPS))
    period_s = 1 / FPS
    if not shown <= n <= CLIP_FRAMES:  # policy `whole`: frames lie further apart
        n, period_s = shown, (end_s - start_s) / shown
    lowlevel, points = row.get("lowlevel"), row.get("landmarks")
    return Clip(
        start_s=start_s,
        end_s=end_s,
        period_s=period_s,
        real=masks["frame_mask"][:n],
        seen=(masks["face_mask"] & masks["frame_mask"])[:n],
        audible=masks["audio_mask"][:n],
        lowlevel=None if lowlevel is None else _tensor(lowlevel)[:n],
        mesh=None if points is None else _tensor(points)[:n].reshape(n, N_POINTS, 3),
        values=row.get("descriptors") or {},
    )


def _tensor(values: Any) -> F32:
    return np.asarray(values, np.float32).reshape(CLIP_FRAMES, -1)
