"""Sound and lips apart: by SyncNet where it can be trusted, or else by the lips' opening."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.descriptors import MAX_LAG
from actors.findings_clip import Clip
from actors.findings_kinds import Finding, finding
from actors.sound_frames import mel_filterbank
from actors.types import FPS, Row
from actors.weights import SEEDED

F64 = NDArray[np.float64]

# --- SyncNet. Its confidence (LSE-C) is 6 and more on good video, 1 to 2 where nothing fits.
LEAST_CONFIDENCE: Final = 3.0
# Its step is a frame, and a frame more or less is common in good files. ITU-R BT.1359: noticed
# from 45 ms (sound early) and 125 ms (late).
LEAST_LEAD_FRAMES: Final = 2
LEAST_LAG_FRAMES: Final = 3

# --- lips and envelope
# A frame's picture is taken at i / 25 s, its sound is the mean to (i + 1) / 25 s.
HALF_FRAME_S: Final = 0.5 / FPS
# Lips open before the voice comes: 0.1 to 0.3 s by Chandrasekaran et al. (PLoS Comput. Biol. 5,
# 2009); 33 clips of recorded and generated faces read -0.12 to -0.08 s (median -0.1).
NATURAL_LAG_S: Final = -0.1
# A mouth that copies the loudness (both correlations this high) was drawn from it, without that
# lead: in 6 s of the demo corpus 0.76 and more, of recorded and generated faces 0.69 and less.
COPIED: Final = 0.72
# In 3 s the same reach 0.76 by chance, and their lead would be told as a lag of some 0.1 s.
SHORT_FRAMES: Final = 100
COPIED_SHORT: Final = 0.8
AMBIGUOUS_S: Final = (-0.17, -0.06)
# Otherwise the peak must be clear: this high, and that far above every other more than four frames
# away; of 45 clips of recorded and generated faces none that passes is wrong by more than a frame.
LEAST_HEIGHT: Final = 0.45
LEAST_LEAD_OVER_RIVALS: Final = 0.2
LEAST_LEAD_COPIED: Final = 0.08
AGREE_FRAMES: Final = 1  # plain and band-passed correlation peak at the same lag, or beside
LEAST_COPIED_S: Final = 0.08
LEAST_NATURAL_S: Final = 0.16  # people differ by 0.06 s in their lead
LEAST_FRAMES: Final = 60
_BAND_HZ: Final = (1.0, 8.0)  # syllables; slower is loudness and pose
_MEL_BANDS: Final = slice(2, 28)  # 150 to 4000 Hz


def find_sync(row: Row, clip: Clip) -> list[Finding]:
    """An offset of sound and lips, throughout the clip."""
    offset = _by_syncnet(row)
    if offset is not None:
        seconds, confidence = offset
        least = LEAST_LEAD_FRAMES if seconds > 0 else LEAST_LAG_FRAMES
        if abs(seconds) < least / FPS - 1e-6:
            return []
        return [_offset(clip, seconds, f"SyncNet, confidence {confidence:.1f}")]
    found = lips_offset(clip)
    if found is None:
        return []
    seconds, copied = found
    if abs(seconds) < (LEAST_COPIED_S if copied else LEAST_NATURAL_S):
        return []
    return [_offset(clip, seconds, "by lip opening and loudness, a coarse measure")]


def _offset(clip: Clip, seconds: float, how: str) -> Finding:
    lead = "leads" if seconds > 0 else "lags"
    text = f"sound {lead} by {1000 * abs(seconds):.0f} ms ({how})"
    return finding("av_offset", clip.whole, seconds, text)


def _by_syncnet(row: Row) -> tuple[float, float] | None:
    """SyncNet's offset in seconds and confidence; None from random weights or without trust."""
    values, weights = row.get("sync"), row.get("weights")
    if values is None or weights is None:
        return None
    digest = (weights if isinstance(weights, Mapping) else dict(weights)).get("sync")
    if digest is None or str(digest).startswith(SEEDED):
        return None
    numbers: NDArray[Any] = np.asarray(values, np.float64)
    if not np.isfinite(numbers).all() or numbers[2] < LEAST_CONFIDENCE:
        return None
    return float(numbers[1]) / FPS, float(numbers[2])


def lips_offset(clip: Clip) -> tuple[float, bool] | None:
    """Offset by the correlation of lip opening and speech envelope over lags up to 15 frames.

    Returns:
        Seconds (positive: the sound leads), and whether the lips copy the loudness; None where
        the correlation tells nothing.
    """
    if clip.lowlevel is None or abs(clip.period_s - 1 / FPS) > 1e-3:
        return None
    usable = clip.audible & clip.seen
    if usable.sum() < LEAST_FRAMES or not clip.speaking().any():
        return None
    envelope, opening = _envelope(clip), clip.stream("lip_opening")
    if clip.seen.mean() < 0.9:
        return None
    seen = np.flatnonzero(clip.seen)
    opening = np.interp(np.arange(clip.frames), seen, opening[seen])
    first, last = np.flatnonzero(clip.audible)[[0, -1]]
    envelope, opening = envelope[first : last + 1], opening[first : last + 1]
    plain = _correlations(envelope, opening)
    band = _correlations(_band(envelope), _band(opening))
    if plain is None or band is None:
        return None
    mean = (plain + band) / 2
    best = int(np.argmax(mean))
    if max(abs(int(np.argmax(curve)) - best) for curve in (plain, band)) > AGREE_FRAMES:
        return None
    height = float(min(plain.max(), band.max()))
    rivals = mean[np.abs(np.arange(mean.size) - best) > 4]
    above = float(mean[best] - rivals.max())
    copied = height >= COPIED
    short = usable.sum() < SHORT_FRAMES
    if height < LEAST_HEIGHT or above < (LEAST_LEAD_COPIED if copied else LEAST_LEAD_OVER_RIVALS):
        return None
    lag = (best - MAX_LAG + _vertex(mean, best)) / FPS
    seconds = lag - (HALF_FRAME_S if copied else NATURAL_LAG_S)
    natural = AMBIGUOUS_S[0] <= seconds <= AMBIGUOUS_S[1] and height < COPIED_SHORT
    if short and (not copied or natural):
        return None
    return seconds, copied


def _envelope(clip: Clip) -> F64:
    """Amplitude from 150 to 4000 Hz, its square root: loudness more than level."""
    assert clip.lowlevel is not None
    bank = mel_filterbank()
    # Slaney's filters have unit area: by their height they give back the power in the band.
    power = 10 ** (clip.lowlevel[:, : len(bank)].astype(np.float64) / 10) / bank.max(axis=1)
    power[~clip.audible] = 0.0
    result: F64 = power[:, _MEL_BANDS].sum(axis=1) ** 0.25
    return result


def _band(track: F64) -> F64:
    from scipy.signal import butter, sosfiltfilt

    filters = butter(2, _BAND_HZ, "bandpass", fs=FPS, output="sos")
    result: F64 = sosfiltfilt(filters, track)
    return result


def _correlations(sound: F64, lips: F64) -> F64 | None:
    """Pearson's correlation at lags of -15 to 15 frames; None where one of the two is constant."""
    n = sound.size
    result = np.zeros(2 * MAX_LAG + 1)
    for at in range(result.size):
        lag = at - MAX_LAG
        a = sound[max(0, -lag) : n - max(0, lag)]
        b = lips[max(0, lag) : n - max(0, -lag)]
        a, b = a - a.mean(), b - b.mean()
        norm = float(np.sqrt((a @ a) * (b @ b)))
        if norm < 1e-9:
            return None
        result[at] = float(a @ b) / norm
    return result


def _vertex(curve: F64, best: int) -> float:
    """Place of the parabola's top beside the highest value, in steps."""
    if not 0 < best < curve.size - 1:
        return 0.0
    before, top, after = curve[best - 1 : best + 2]
    bend = before - 2 * top + after
    return 0.0 if bend > -1e-12 else float(0.5 * (before - after) / bend)
