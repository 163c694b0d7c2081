"""Duration and frames of a video -> its clips (SPEC section 2)."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from actors.decode import ROUNDING, WHOLE_SYNC_FRAMES, DecodeConfig
from actors.errors import VideoError
from actors.types import (
    CLIP_FRAMES,
    CLIP_SECONDS,
    FPS,
    MIN_SECONDS,
    SAMPLE_RATE,
    ClipSpan,
    Frame,
)

ROUNDING_S = float(ROUNDING)


@dataclass(slots=True)
class FrameIndex:
    """Which frame serves which position; a few bytes a frame, pixels not kept."""

    grid: list[int] = field(default_factory=list)  # position on the 25 fps grid -> ordinal
    whole: list[int] = field(default_factory=list)  # step of the `whole` policy -> ordinal

    def add(self, frame: Frame) -> None:
        """Note the positions of ``frame``, frames in the reader's order."""
        self.grid.extend([frame.ordinal] * len(frame.grid))
        if frame.whole:
            self.whole.append(frame.ordinal)

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> "FrameIndex":
        """Index all ``frames``."""
        index = cls()
        for frame in frames:
            index.add(frame)
        return index


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """The clips of a video, and the end of it that is in no clip."""

    clips: list[ClipSpan]
    uncovered: tuple[float, float] | None  # start and end in seconds


def plan_clips(index: FrameIndex, duration_s: float, config: DecodeConfig) -> ClipPlan:
    """Cut a video into clips.

    `windows`: clip k spans [k hop, min(k hop + 6, duration)). A clip shorter than 1 s is none; with
    overlapping windows, neither is one that lies inside the clip before it, so clips end with the
    first that reaches the end of the video. What follows the last clip is reported as uncovered.

    `whole`: one clip from every Δ-th frame, thinned evenly to 150, with all of the sound. Its flaws
    stand at :class:`actors.decode.DecodeConfig`.

    Args:
        index: All frames of the video.
        duration_s: What was really decoded (``VideoReader.duration_s``).
        config: Policy and hop.

    Raises:
        VideoError: ``too_short``, for less than one second.
    """
    if duration_s < MIN_SECONDS - ROUNDING_S:
        raise VideoError(
            "decode",
            "too_short",
            f"The video lasts {duration_s:.3f} s; at least {MIN_SECONDS:g} s is needed.",
        )
    grid = np.asarray(index.grid, np.int64)
    if config.policy == "whole":
        chosen = thin(np.asarray(index.whole, np.int64), CLIP_FRAMES)
        clip = _span(0, 0.0, duration_s, chosen, grid[:WHOLE_SYNC_FRAMES])
        return ClipPlan([clip], None)
    hop = round(config.hop_s * FPS)
    clips: list[ClipSpan] = []
    end = 0.0
    while end < duration_s:
        first = len(clips) * hop
        start = first / FPS
        if duration_s - start < MIN_SECONDS - ROUNDING_S:
            break
        end = min(start + CLIP_SECONDS, duration_s)
        frames = grid[first : first + CLIP_FRAMES]
        clips.append(_span(len(clips), start, end, frames, frames))
    uncovered = (end, duration_s) if duration_s - end > ROUNDING_S else None
    return ClipPlan(clips, uncovered)


def thin(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Keep at most ``most`` of ``values``, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return values
    return values[np.rint(np.linspace(0, len(values) - 1, most)).astype(np.int64)]


def _span(
    clip_index: int,
    start_s: float,
    end_s: float,
    ordinals: NDArray[np.int64],
    sync_ordinals: NDArray[np.int64],
) -> ClipSpan:
    return ClipSpan(
        clip_index=clip_index,
        start_s=start_s,
        end_s=end_s,
        ordinals=ordinals,
        sync_ordinals=sync_ordinals,
        sample_start=round(start_s * SAMPLE_RATE),
        sample_stop=round(end_s * SAMPLE_RATE),
    )
