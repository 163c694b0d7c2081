"""Faults of the face: mouth that stands still, blur, trembling, no face at all."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.descriptors_face import LEFT_EYE_OUTER, RIGHT_EYE_OUTER, RIGID
from actors.findings_clip import Clip, closed
from actors.findings_kinds import Finding, finding, per_cent
from actors.findings_picture import frozen
from actors.sound_frames import runs
from actors.types import Bool

F64 = NDArray[np.float64]

LEAST_NO_FACE_S: Final = 0.2  # the tracker bridges what is shorter

# --- mouth. Standard deviation of lip opening and width (the larger, iod) over 0.8 s of speech,
# after a median over 5 frames that takes single wrong landmarks away.
STILL_WINDOW_S: Final = 0.8
LEAST_STILL_S: Final = 0.84  # more than one window
LEAST_SPOKEN_S: Final = 0.72  # from the first to the last word in it
SPOKEN: Final = 0.6  # least share of the still time with speech
# 15 clips of recorded people: 0.0113 and more, but for one who mumbles (0.0047). A mouth frozen for
# 1 s: 0.001 to 0.0034 in drawn faces, 0.006 to 0.013 in recordings, where Face Mesh trembles on it.
STILL_IOD: Final = 0.0105
# Against the clip's own windows (75th percentile). Those recordings: 0.24 and more where the above
# does not tell already; frozen 0.02 to 0.09 drawn, 0.14 to 0.26 recorded.
STILL_RATIO: Final = 0.235
# As still as that is no speech, whatever the rest of the clip (which may be as still) is like.
NO_MOTION_IOD: Final = 0.004
_MEDIAN_FRAMES: Final = 5

# --- blur. Variance of the Laplacian in the oval of the face, levels squared.
# Median of the clip, clean: 16 and more, 13 in one generator; blurred by 0.045 iod: 3 to 8.
BLURRED: Final = 10.0
# A very detailed face may stay above it: twice of it counts where the whole picture (256 px wide)
# is that soft; clean 22 and more, blurred 4 to 9.
PICTURE_BLURRED: Final = 13.0
# Against the clip's 90th percentile, for 0.4 s: clean 0.35 and more (fast motion), blurred 0.2 and
# less.
BLURRED_RATIO: Final = 0.25
LEAST_BLUR_S: Final = 0.4

# --- trembling. Median over 1 s of half the second difference of the head's place across the
# picture, iod. Recorded people: 0.0034 and less over a clip, 0.009 over a second (one who sings);
# trembling by 0.6 px in a 320 px picture: 0.007 over a clip.
TREMBLE_CLIP: Final = 0.005
TREMBLE_SECOND: Final = 0.014


def find_face(clip: Clip) -> list[Finding]:
    """All faults of the face of a clip."""
    if not clip.seen.any():
        start, end = clip.whole
        real = float(clip.real.sum()) * clip.period_s
        if real < LEAST_NO_FACE_S:
            return []
        return [finding("no_face", clip.whole, end - start)]
    blur = _blur(clip)
    # On a blurred face landmarks hardly move: they tell nothing of the mouth.
    mouth = [
        f
        for f in _mouth(clip)
        if not any(b.start_s < f.end_s and f.start_s < b.end_s for b in blur)
    ]
    return [*_no_face(clip), *mouth, *blur, *_tremble(clip)]


def _no_face(clip: Clip) -> list[Finding]:
    found = []
    for first, last in runs(clip.real & ~clip.seen):
        start, end = clip.span(first, last)
        if end - start >= LEAST_NO_FACE_S - 1e-6:
            found.append(finding("no_face", (start, end), end - start))
    return found


# --- mouth


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


def _mouth(clip: Clip) -> list[Finding]:
    """A mouth that stands still while somebody speaks, in a picture that moves."""
    if clip.lowlevel is None:
        return []
    speaking = clip.speaking()
    width = max(4, round(STILL_WINDOW_S / clip.period_s))
    motion = lip_motion(clip, width)
    spoken = np.convolve(speaking, np.ones(width), "valid")[: motion.size] / width
    usable = np.isfinite(motion) & (spoken >= SPOKEN)
    if not usable.any():
        return []
    usual = float(np.percentile(motion[usable], 75))
    limit = max(NO_MOTION_IOD, min(STILL_IOD, STILL_RATIO * usual))
    still = np.zeros(clip.frames, np.bool_)
    for i in np.flatnonzero(usable & (motion < limit)):
        still[i : i + width] = True
    # A frozen picture is another finding.
    still &= ~closed(frozen(clip), 2)
    found = []
    for since, until in runs(still):
        spoken_frames = since + np.flatnonzero(speaking[since:until])
        if not spoken_frames.size:
            continue
        first, last = int(spoken_frames[0]), int(spoken_frames[-1]) + 1
        start, end = clip.span(first, last)
        seconds = (until - since) * clip.period_s
        enough = seconds >= LEAST_STILL_S - 1e-6 and end - start >= LEAST_SPOKEN_S - 1e-6
        if enough and speaking[first:last].mean() >= SPOKEN:
            found.append(finding("mouth_frozen", (start, end), end - start))
    return found


# --- blur


def _blur(clip: Clip) -> list[Finding]:
    face, picture = clip.value("face_sharpness"), clip.value("sharpness")
    sharpness, seen = None, clip.seen
    if clip.lowlevel is not None:
        sharpness = clip.stream("face_sharpness")
        seen = clip.seen & (sharpness > 0)
        if not seen.any():
            return []
        face = float(np.median(sharpness[seen]))
    soft = picture is not None and picture < PICTURE_BLURRED
    if face is not None and face < (2 * BLURRED if soft else BLURRED):
        text = f"face blurred throughout (sharpness {face:.0f}, clear ones have 20 and more)"
        return [finding("blur", clip.whole, face, text)]
    if sharpness is None:
        return []
    usual = float(np.percentile(sharpness[seen], 90))
    least = round(LEAST_BLUR_S / clip.period_s)
    found = []
    for first, last in runs(closed(seen & (sharpness < BLURRED_RATIO * usual), 2)):
        if last - first < least:
            continue
        inside = float(np.median(sharpness[first:last][seen[first:last]]))
        loss = 1 - inside / usual
        text = f"face blurred: {per_cent(loss)} less sharp than in the rest of the clip"
        span = clip.span(first, last)
        found.append(finding("blur", span, inside, text, severity=min(1.0, max(0.2, loss))))
    return found


# --- trembling


def _tremble(clip: Clip) -> list[Finding]:
    """A head that jumps to and fro from frame to frame."""
    if clip.mesh is None or clip.seen.sum() < 10:
        return []
    place = clip.mesh[:, list(RIGID), 0].mean(axis=1).astype(np.float64)
    eyes = np.abs(clip.mesh[:, LEFT_EYE_OUTER, 0] - clip.mesh[:, RIGHT_EYE_OUTER, 0])
    unit = float(np.median(eyes[clip.seen]))
    if unit <= 0:
        return []
    place = np.where(clip.seen, place / unit, np.nan)
    jump = np.abs(place[:-2] - 2 * place[1:-1] + place[2:]) / 2  # [n - 2]
    if not np.isfinite(jump).any():
        return []
    overall = float(np.nanmedian(jump))
    if overall >= TREMBLE_CLIP:
        return [finding("face_jerky", clip.whole, overall)]
    width = round(1 / clip.period_s)
    if jump.size < width:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(jump, width)
    known = np.isfinite(windows).all(axis=1)
    medians = np.where(known, np.median(np.where(np.isfinite(windows), windows, 0), axis=1), 0.0)
    shaky: Bool = np.zeros(clip.frames, np.bool_)
    for i in np.flatnonzero(medians >= TREMBLE_SECOND):
        shaky[i + 1 : i + 1 + width] = True
    return [
        finding("face_jerky", clip.span(a, b), float(np.nanmedian(jump[max(0, a - 1) : b - 1])))
        for a, b in runs(shaky)
    ]
