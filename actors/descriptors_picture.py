"""Descriptors of the whole picture, from the statistics of its frames."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.frame_stats import STAT
from actors.sound_frames import runs
from actors.types import F32, Bool

_FREEZE_S: Final = 0.2


def _mean(values: NDArray[np.floating]) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean(dtype=np.float64)) if values.size else None


def flicker(values: NDArray[np.floating]) -> float | None:
    """Mean distance of a frame's value from the mean of its neighbours; steady drift gives 0."""
    return _mean(np.abs(np.diff(values.astype(np.float64), 2)) / 2)


def freezes(
    duplicate: NDArray[np.floating], seconds: NDArray[np.float64]
) -> dict[str, float | None]:
    """Duplicated and frozen frames.

    Args:
        duplicate: [n] 1 for a frame that repeats the one before it; NaN unknown (the video's
            first).
        seconds: [n] how long each frame is shown.

    Returns:
        The share of frames that are repeats, the share of time in freezes (a picture that stays
        for at least 0.2 s by repeats), and the longest such time. None without a frame that has
        one before it.
    """
    known = np.isfinite(duplicate)
    if not known.any():
        return dict.fromkeys(("duplicated_share", "frozen_share", "longest_freeze"))
    repeats: Bool = known & (duplicate > 0.5)
    # A freeze starts with the picture that is repeated.
    lengths = np.array([seconds[max(start - 1, 0) : end].sum() for start, end in runs(repeats)])
    lengths = lengths[lengths >= _FREEZE_S - 1e-6]
    return {
        "duplicated_share": float(repeats.sum() / known.sum()),
        "frozen_share": float(min(1.0, lengths.sum() / seconds.sum())),
        "longest_freeze": float(lengths.max(initial=0.0)),
    }


def picture_descriptors(
    stats: F32, frame_mask: Bool, fresh: Bool, frames: int, period_s: float
) -> dict[str, float | None]:
    """Describe the picture of a clip.

    Args:
        stats: [T, len(FRAME_STATS)].
        frame_mask: [T] real frames.
        fresh: [T] frames that show another source frame than the one before; a source slower than
            25 fps fills the grid with repeats that are no fault of the video.
        frames: Length of the clip in frames.
        period_s: Seconds between frames.

    Returns:
        Descriptor -> value, None where undefined.
    """
    shown = np.flatnonzero(fresh)
    seconds = np.diff(np.append(shown, frames)) * period_s
    own = np.where(frame_mask[shown, None], stats[shown], np.nan)
    return {
        "luma": _mean(own[:, STAT["luma_mean"]]),
        "contrast": _mean(own[:, STAT["luma_std"]]),
        "sharpness": _mean(own[:, STAT["sharpness"]]),
        "blockiness": _mean(own[:, STAT["blockiness"]]),
        "picture_noise": _mean(own[:, STAT["noise"]]),
        "frame_difference": _mean(own[:, STAT["difference"]]),
        "flicker_luma": flicker(own[:, STAT["luma_mean"]]),
        "flicker_chroma": _chroma_flicker(own),
        **freezes(own[:, STAT["duplicate"]], seconds),
    }


def _chroma_flicker(stats: F32) -> float | None:
    parts = [flicker(stats[:, STAT[name]]) for name in ("cb_mean", "cr_mean")]
    return max(parts[0], parts[1]) if parts[0] is not None and parts[1] is not None else None
