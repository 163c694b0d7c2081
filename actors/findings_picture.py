"""Faults of the whole picture."""

from typing import Final

import numpy as np

from actors.findings_clip import Clip
from actors.findings_kinds import Finding, finding
from actors.sound_frames import runs
from actors.types import Bool

# A frame that repeats the one before comes back from the codec within 0.1 levels on average
# (actors/frame_stats.py); a still head in a still room moves by 0.15 and more.
REPEAT_LEVELS: Final = 0.1
# Strong blur hides motion for up to 0.24 s; a source of 5 fps fills the grid with runs of 0.2 s.
LEAST_FREEZE_S: Final = 0.32
LEAST_NO_PICTURE_S: Final = 0.08  # two frames
# Clean: up to 2.5 % in one recording (12 % when it is blurred). Video stretched from 20 to 25 fps
# repeats every fifth frame, from 12.5 fps every second one.
LEAST_DUPLICATED: Final = 0.18
# Clean: 0.31 levels and less. Light that varies by 4 % from frame to frame for 2 s of a clip of 6
# s: 0.85 and more; for half of that 0.5.
LEAST_FLICKER: Final = 0.45
# Clean, codecs of all kinds: up to 1.27 in recordings, 1.31 in generated video.
LEAST_BLOCKINESS: Final = 1.6


def frozen(clip: Clip) -> Bool:
    """Frames [n] in a freeze of the picture, from the first that is repeated on."""
    result = np.zeros(clip.frames, np.bool_)
    if clip.lowlevel is None:
        return result
    repeats = clip.real & (clip.stream("frame_difference") <= REPEAT_LEVELS)
    repeats[0] = False  # unknown in the first frame of a video
    for first, last in runs(repeats):
        start = max(0, first - 1)
        if (last - start) * clip.period_s >= LEAST_FREEZE_S - 1e-6:
            result[start:last] = True
    return result


def find_picture(clip: Clip) -> list[Finding]:
    """All faults of the picture of a clip, but for the face's."""
    found = []
    for first, last in runs(~clip.real):
        start, end = clip.span(first, last)
        if end - start >= LEAST_NO_PICTURE_S - 1e-6:
            found.append(finding("no_picture", (start, end), end - start))
    held = _freezes(clip)
    found += held
    duplicated, share = clip.value("duplicated_share"), clip.value("frozen_share")
    singly = (duplicated or 0.0) - (share or 0.0)
    if singly >= LEAST_DUPLICATED:
        found.append(finding("duplicated_frames", clip.whole, singly))
    flicker = max(clip.value("flicker_luma") or 0.0, clip.value("flicker_chroma") or 0.0)
    if flicker >= LEAST_FLICKER:
        found.append(finding("flicker", clip.whole, flicker))
    blockiness = clip.value("blockiness")
    if blockiness is not None and blockiness >= LEAST_BLOCKINESS:
        found.append(finding("blockiness", clip.whole, blockiness))
    return found


def _freezes(clip: Clip) -> list[Finding]:
    longest = clip.value("longest_freeze")
    if clip.lowlevel is None:
        if longest is None or longest < LEAST_FREEZE_S:
            return []
        return [finding("picture_frozen", clip.whole, longest)]
    if longest == 0.0:
        # Pictures that hardly change (less than 0.1 levels) without being the same: nothing but
        # the mouth moves in a large still picture.
        return []
    spans = [clip.span(first, last) for first, last in runs(frozen(clip))]
    return [finding("picture_frozen", span, span[1] - span[0]) for span in spans]
