"""A mouth that stands still while somebody speaks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.findings_clip import Clip, closed
from actors.findings_kinds import Finding, finding, seconds
from actors.findings_picture import frozen
from actors.sound_frames import runs
from actors.types import Bool

F64 = NDArray[np.float64]

STILL_WINDOW_S: Final = 0.8
LEAST_STILL_S: Final = 0.84  # more than one window
LEAST_SPOKEN_S: Final = 0.72  # from the first to the last word in it
SPOKEN: Final = 0.6  # least share of the still time with speech

# --- by the motion alone: standard deviation of lip opening and width (the larger, iod) over 0.8 s
# of speech, after a median over 5 frames that takes single wrong landmarks away.
# 15 clips of recorded people: 0.0113 and more, but for one who mumbles (0.0047). A mouth frozen for
# 1 s: 0.001 to 0.0034 in drawn faces, 0.002 to 0.021 in recordings, where Face Mesh trembles on it.
STILL_IOD: Final = 0.0105
# Against the clip's own windows (75th percentile). Those recordings: 0.24 and more where the above
# does not tell already; frozen 0.02 to 0.09 drawn, 0.14 to 0.26 recorded.
STILL_RATIO: Final = 0.235
# As still as that is no speech, whatever the rest of the clip (which may be as still) is like.
NO_MOTION_IOD: Final = 0.004
_MEDIAN_FRAMES: Final = 5

# --- by three measures together: that motion, and how far the lips' shape and opening go in 0.12 s
# (which leaves the head's slower turns out); each against the clip's own windows of speech (60th
# percentile), their geometric mean. Over 0.92 s, clean: recordings 0.43, 0.46 and more, drawn 0.54;
# frozen: recordings 0.396 and less but for three of 27 (0.49 to 0.58), drawn 0.17 and less.
STILL_SCORE: Final = 0.4
SCORE_WINDOW_S: Final = 0.92
SCORE_SPOKEN: Final = 0.75
USUAL_PERCENTILE: Final = 60
LEAST_WINDOWS: Final = 20  # places to compare with
STEP_S: Final = 0.12
_OPENING_MEDIAN_FRAMES: Final = 3

# --- at a border of the clip, where the rest of the stillness lies in the next clip. Lengths tried;
# one of 1 s across the border leaves 0.6 s on one side or 0.4 s on both.
BORDER_S: Final = (0.76, 0.64, 0.52, 0.4)
ALONE_S: Final = 0.6
# The shorter, the stiller by chance. Clean: recordings and drawn faces 0.23 and more, a
# generator once 0.09; frozen, drawn: 0.17 and less
BORDER_SCORE: Final = 0.2
WEAK: Final = 0.1  # severity of a piece that counts only with its other half

# Face Mesh's outer and inner lips.
LIPS: Final = (
    *(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    *(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 14, 87, 178, 88, 95),
)


def find_mouth(clip: Clip) -> list[Finding]:
    """A mouth that stands still while somebody speaks, in a picture that moves."""
    if clip.lowlevel is None:
        return []
    speaking = clip.speaking()
    # A frozen picture is another finding.
    moving = ~closed(frozen(clip), 2)
    shapes = lip_shapes(clip)
    still = _by_motion(clip, speaking)
    if shapes is not None:
        still |= _by_score(clip, shapes, speaking)
    still &= moving
    found = []
    for since, until in runs(still):
        spoken_frames = since + np.flatnonzero(speaking[since:until])
        if not spoken_frames.size:
            continue
        first, last = int(spoken_frames[0]), int(spoken_frames[-1]) + 1
        start, end = clip.span(first, last)
        lasted = (until - since) * clip.period_s
        enough = lasted >= LEAST_STILL_S - 1e-6 and end - start >= LEAST_SPOKEN_S - 1e-6
        if enough and speaking[first:last].mean() >= SPOKEN:
            found.append(finding("mouth_frozen", (start, end), end - start))
    pieces = [] if shapes is None else _at_borders(clip, shapes, speaking, moving)
    told = [(f.start_s, f.end_s) for f in found]
    return found + [
        piece
        for piece in pieces
        if not any(start < piece.end_s and piece.start_s < end for start, end in told)
    ]


def lip_motion(clip: Clip, frames: int) -> F64:
    """How much the lips move in the ``frames`` from each frame on, iod; NaN where not all are seen.

    Returns:
        [n - frames + 1] the larger of the standard deviations of opening and width.
    """
    from scipy.ndimage import median_filter

    if clip.frames < frames:
        return np.zeros(0)
    spread = []
    for name in ("lip_opening", "lip_width"):
        track = median_filter(clip.stream(name), _MEDIAN_FRAMES, mode="nearest")
        track[~clip.seen] = np.nan
        windows = np.lib.stride_tricks.sliding_window_view(track, frames)
        spread.append(windows.std(axis=1))
    result: F64 = np.maximum(*spread)
    return result


def lip_shapes(clip: Clip) -> F64 | None:
    """The lips' shape in each frame, without place, size and roll of the head.

    Generalised Procrustes analysis (Gower, Psychometrika 40, 1975) in the plane: centred, scaled
    to unit root mean square and turned onto the clip's mean shape. The coordinates are those of
    the picture with sides of 1: unless it is square, some roll of the head remains.

    Returns:
        [n, 2 * points], NaN where the face is not seen; None without landmarks of lips.
    """
    if clip.mesh is None or not clip.seen.any():
        return None
    points = clip.mesh[:, list(LIPS), :2].astype(np.float64)
    points -= points.mean(axis=1, keepdims=True)
    shapes = points[..., 0] + 1j * points[..., 1]
    size = np.sqrt((np.abs(shapes) ** 2).mean(axis=1))
    if not (size[clip.seen] > 1e-6).all():
        return None
    shapes = shapes[clip.seen] / size[clip.seen, None]
    mean, turned = shapes[0], shapes
    for _ in range(3):
        turn = shapes @ mean.conj()
        turned = shapes * (turn.conj() / np.maximum(np.abs(turn), 1e-12))[:, None]
        mean = turned.mean(axis=0)
    result = np.full((clip.frames, 2 * len(LIPS)), np.nan)
    result[clip.seen] = np.concatenate([turned.real, turned.imag], axis=1)
    return result


def _steps(track: F64, step: int, frames: int) -> F64:
    """Root mean square of ``track``'s change over ``step`` frames in windows, [n - frames + 1]."""
    change = ((track[step:] - track[:-step]) ** 2).reshape(len(track) - step, -1).sum(axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(change, frames - step)
    result: F64 = np.sqrt(windows.mean(axis=1))
    return result


@dataclass(frozen=True, slots=True)
class _Windows:
    """Windows of one length, by their first frame."""

    usable: Bool  # all seen, enough of it spoken
    motion: F64  # iod
    score: F64  # 1: as much motion as usual; 1 where that is not known


def _windows(
    clip: Clip, shapes: F64, speaking: Bool, frames: int, least_spoken: float
) -> _Windows | None:
    """Three measures against the clip's usual; None in a clip that is shorter than a window."""
    from scipy.ndimage import median_filter

    step = max(1, round(STEP_S / clip.period_s))
    if not step < frames <= clip.frames:
        return None
    opening = median_filter(clip.stream("lip_opening"), _OPENING_MEDIAN_FRAMES, mode="nearest")
    opening[~clip.seen] = np.nan
    motion = lip_motion(clip, frames)
    spoken = np.convolve(speaking, np.ones(frames), "valid") / frames
    usable = np.isfinite(motion) & (spoken >= least_spoken - 1e-9)
    score = np.ones(motion.size)
    if usable.sum() >= LEAST_WINDOWS:
        for measure in (motion, _steps(shapes, step, frames), _steps(opening, step, frames)):
            usual = float(np.percentile(measure[usable], USUAL_PERCENTILE))
            score = score * measure / max(usual, 1e-9)
    return _Windows(usable, motion, np.cbrt(score))


def _by_motion(clip: Clip, speaking: Bool) -> Bool:
    """Frames [n] in windows whose opening and width stand still."""
    still = np.zeros(clip.frames, np.bool_)
    width = max(4, round(STILL_WINDOW_S / clip.period_s))
    motion = lip_motion(clip, width)
    spoken = np.convolve(speaking, np.ones(width), "valid")[: motion.size] / width
    usable = np.isfinite(motion) & (spoken >= SPOKEN)
    if usable.any():
        usual = float(np.percentile(motion[usable], 75))
        limit = max(NO_MOTION_IOD, min(STILL_IOD, STILL_RATIO * usual))
        _mark(still, np.flatnonzero(usable & (motion < limit)), width)
    return still


def _by_score(clip: Clip, shapes: F64, speaking: Bool) -> Bool:
    """Frames [n] in windows that are much stiller than usual by all measures together."""
    still = np.zeros(clip.frames, np.bool_)
    width = max(4, round(SCORE_WINDOW_S / clip.period_s))
    windows = _windows(clip, shapes, speaking, width, SCORE_SPOKEN)
    if windows is not None:
        _mark(still, np.flatnonzero(windows.usable & (windows.score < STILL_SCORE)), width)
    return still


def _mark(still: Bool, starts: Iterable[int], width: int) -> None:
    for i in starts:
        still[i : i + width] = True


def _at_borders(clip: Clip, shapes: F64, speaking: Bool, moving: Bool) -> list[Finding]:
    """The longest still pieces that touch the clip's start and end."""
    found: dict[bool, Finding] = {}
    for length in BORDER_S:
        frames = max(4, round(length / clip.period_s))
        if len(found) == 2 or frames > clip.frames // 2:
            continue
        windows = _windows(clip, shapes, speaking, frames, SPOKEN)
        if windows is None:
            continue
        for at_end in (False, True):
            at = windows.score.size - 1 if at_end else 0
            quiet = windows.score[at] < BORDER_SCORE or windows.motion[at] < NO_MOTION_IOD
            still = windows.usable[at] and quiet
            if at_end in found or not still or not moving[at : at + frames].all():
                continue
            start, end = clip.span(at, at + frames)
            if end - start >= ALONE_S - 1e-6:
                found[at_end] = finding("mouth_frozen", (start, end), end - start)
            else:
                where = "end" if at_end else "start"
                text = f"mouth still for {seconds(end - start)} at the {where} of the clip"
                found[at_end] = finding(
                    "mouth_frozen", (start, end), end - start, text, severity=WEAK
                )
    return list(found.values())
