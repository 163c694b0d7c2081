"""Faults of the face: blur, trembling, no face at all, and what it does not say (the mouth)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.descriptors_face import LEFT_EYE_OUTER, RIGHT_EYE_OUTER, RIGID
from actors.findings_clip import Clip, closed
from actors.findings_kinds import Finding, finding, per_cent
from actors.findings_mouth import find_mouth
from actors.sound_frames import runs
from actors.types import Bool

F64 = NDArray[np.float64]

LEAST_NO_FACE_S: Final = 0.2  # the tracker bridges what is shorter

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
        return _no_face(clip)
    blur = _blur(clip)
    # On a blurred face landmarks hardly move: they tell nothing of the mouth.
    mouth = [
        f
        for f in find_mouth(clip)
        if not any(b.start_s < f.end_s and f.start_s < b.end_s for b in blur)
    ]
    return [*_no_face(clip), *mouth, *blur, *_tremble(clip)]


def _no_face(clip: Clip) -> list[Finding]:
    """Real frames without a face; black ones are another finding (no_picture)."""
    found = []
    for first, last in runs(clip.real & ~clip.seen):
        start, end = clip.span(first, last)
        if end - start >= LEAST_NO_FACE_S - 1e-6:
            found.append(finding("no_face", (start, end), end - start))
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
        text = f"face blurred throughout (sharpness {face:.0f}, clear faces have 13 and more)"
        if face >= BLURRED:
            text = f"face and picture blurred throughout (sharpness {face:.0f} and {picture:.0f})"
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
