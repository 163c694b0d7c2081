"""Fundamental frequency, voicing and harmonics-to-noise ratio by autocorrelation.

After P. Boersma, "Accurate short-term analysis of the fundamental frequency and the
harmonics-to-noise ratio of a sampled sound", Proc. Institute of Phonetic Sciences 17 (1993): the
autocorrelation of a windowed frame is divided by that of its window, peaks are interpolated by a
windowed sinc, and the path through the candidates of all frames that costs least is chosen (his
section 4 with its default costs).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.types import F32, SAMPLE_RATE, Bool

HOP: Final = 160  # samples, 10 ms
FLOOR_HZ: Final = 65.0
CEILING_HZ: Final = 500.0
_WINDOW: Final = 1024  # 64 ms: over four periods of the lowest pitch
_NFFT: Final = 2 * _WINDOW  # so that the circular correlation is the linear one
_CANDIDATES: Final = 6
_SINC_TAPS: Final = 24  # on each side
_SILENCE: Final = 0.03  # of the highest peak
_VOICING: Final = 0.45
_OCTAVE_COST: Final = 0.01
_JUMP_COST: Final = 0.35
_TURN_COST: Final = 0.14  # from voiced to unvoiced or back
_MAX_HNR: Final = 60.0
_CHUNK: Final = 1000  # hops at a time, so that a long sound needs little memory


@dataclass(frozen=True, slots=True)
class Pitch:
    """Per hop of 10 ms; hop i is centred on sample 160 i + 80."""

    f0: F32  # [N] Hz, 0 where unvoiced
    hnr: F32  # [N] dB, NaN where unvoiced
    voiced: Bool  # [N]


def hop_windows(samples: F32, hops: int, width: int) -> F32:
    """Cut ``hops`` windows of ``width`` samples around the centres of the hops.

    Beyond its ends the sound is silent.

    Returns:
        [hops, width], a read-only view.
    """
    left = (width - HOP) // 2
    padded = np.zeros(max((hops - 1) * HOP + width, left + samples.size), np.float32)
    padded[left : left + samples.size] = samples
    windows: F32 = np.lib.stride_tricks.sliding_window_view(padded, width)[: hops * HOP : HOP]
    return windows[:hops]


def _correlations(frames: F32) -> tuple[F32, F32]:
    """Normalised autocorrelation [N, lags] of windows [N, 1024], and their peak amplitude [N]."""
    import scipy.fft

    window = np.hanning(_WINDOW + 2)[1:-1].astype(np.float32)
    own = scipy.fft.irfft(np.abs(scipy.fft.rfft(window, _NFFT)) ** 2)
    lags = round(SAMPLE_RATE / FLOOR_HZ) + _SINC_TAPS + 2
    centred = frames - frames.mean(axis=1, keepdims=True)
    peak = np.abs(centred).max(axis=1)
    spectrum = scipy.fft.rfft(centred * window, _NFFT, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    r = scipy.fft.irfft(power, _NFFT, axis=1)[:, :lags]
    energy = np.maximum(r[:, :1], 1e-12)
    normalised: F32 = (r / energy / (own[:lags] / own[0])).astype(np.float32)
    return normalised, peak


def _sinc(r: F32, rows: NDArray[np.intp], lag: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of the rows of ``r`` at fractional lags, by a Hann-windowed sinc."""
    whole = np.floor(lag).astype(np.intp)
    taps = np.arange(-_SINC_TAPS + 1, _SINC_TAPS + 1)
    # The correlation is even, so lags below zero are mirrored.
    index = np.abs(whole[:, None] + taps)
    distance = (lag - whole)[:, None] - taps
    kernel = np.sinc(distance) * (0.5 + 0.5 * np.cos(np.pi * distance / (_SINC_TAPS + 1)))
    value: NDArray[np.float64] = (r[rows[:, None], index] * kernel).sum(axis=1)
    return value


def _candidates(r: F32) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lags and heights [N, C] of the highest peaks of each hop; lag NaN where there are fewer."""
    low = int(SAMPLE_RATE / CEILING_HZ)
    high = round(SAMPLE_RATE / FLOOR_HZ) + 1
    middle, before, after = r[:, low:high], r[:, low - 1 : high - 1], r[:, low + 1 : high + 1]
    is_peak = (middle > before) & (middle >= after) & (middle > 0.5 * _VOICING)
    # A higher pitch is preferred a little, or a period and its double would tie.
    bonus = -_OCTAVE_COST * np.log2(FLOOR_HZ * np.arange(low, high) / SAMPLE_RATE)
    score = np.where(is_peak, middle + bonus.astype(np.float32), -np.inf)
    best = np.argpartition(-score, _CANDIDATES - 1, axis=1)[:, :_CANDIDATES]
    lag = np.full(best.shape, np.nan)
    height = np.zeros(best.shape)
    rows, columns = np.nonzero(np.isfinite(np.take_along_axis(score, best, axis=1)))
    at = best[rows, columns] + low
    a, b, c = (r[rows, at + k].astype(np.float64) for k in (-1, 0, 1))
    fine = at + 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9)
    lag[rows, columns] = fine
    height[rows, columns] = _sinc(r, rows, fine)
    return lag, height


def _cheapest_path(
    lag: NDArray[np.float64], height: NDArray[np.float64], peak: F32
) -> NDArray[np.intp]:
    """Index of the candidate chosen for each hop [N]; the last index (C) means unvoiced."""
    hops, count = lag.shape
    # A period of the sound can correlate above 1 by the division through the window: reflect
    # (Boersma, p. 106).
    height = np.where(height > 1, 1 / np.maximum(height, 1), height)
    strength = np.full((hops, count + 1), -1e9)
    valid = np.isfinite(lag)
    octave = -_OCTAVE_COST * np.log2(FLOOR_HZ * np.where(valid, lag, 1.0) / SAMPLE_RATE)
    strength[:, :-1] = np.where(valid, height + octave, -1e9)
    loudest = max(float(peak.max(initial=0.0)), 1e-9)
    strength[:, -1] = _VOICING + np.maximum(0.0, 2 - (peak / loudest) / (_SILENCE / (1 + _VOICING)))
    log_f0 = np.where(valid, -np.log2(np.where(valid, lag, 1.0)), 0.0)
    jumps = np.full((max(hops - 1, 0), count + 1, count + 1), _TURN_COST)
    jumps[:, -1, -1] = 0.0
    jumps[:, :-1, :-1] = _JUMP_COST * np.abs(log_f0[:-1, :, None] - log_f0[1:, None, :])
    back = np.zeros((hops, count + 1), np.intp)
    total = strength[0]
    everything = np.arange(count + 1)
    for hop in range(1, hops):
        reached = total[:, None] - jumps[hop - 1]
        back[hop] = reached.argmax(axis=0)
        total = reached[back[hop], everything] + strength[hop]
    path = np.zeros(hops, np.intp)
    path[-1] = total.argmax()
    for hop in range(hops - 1, 0, -1):
        path[hop - 1] = back[hop, path[hop]]
    return path


def _refine(
    r: F32, rows: NDArray[np.intp], lag: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact lag and height in (0, 1) of the peaks of rows of ``r`` that lie near ``lag``."""
    # The parabola's vertex is a little off where harmonics are strong: look around it on a
    # fine grid.
    offsets = np.linspace(-0.5, 0.5, 11)
    around = lag[:, None] + offsets
    values = _sinc(r, np.repeat(rows, offsets.size), around.ravel()).reshape(around.shape)
    best = np.clip(values.argmax(axis=1), 1, offsets.size - 2)
    each = np.arange(rows.size)
    a, b, c = (values[each, best + k] for k in (-1, 0, 1))
    shift = np.clip(0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-12), -1, 1)
    top = b - 0.25 * (a - c) * shift
    top = np.clip(np.where(top > 1, 1 / np.maximum(top, 1), top), 1e-6, 1 - 1e-6)
    return around[each, best] + shift * (offsets[1] - offsets[0]), top


def track_pitch(samples: F32, hops: int) -> Pitch:
    """Follow the pitch of a sound.

    Args:
        samples: [n] 16 kHz mono.
        hops: How many hops of 10 ms to analyse, from the start.

    Returns:
        F0 between 65 and 500 Hz, HNR up to 60 dB, and the voicing decision, a value a hop.
    """
    f0 = np.zeros(hops, np.float32)
    hnr = np.full(hops, np.nan, np.float32)
    voiced = np.zeros(hops, np.bool_)
    if hops == 0 or not samples.any():
        return Pitch(f0, hnr, voiced)
    frames = hop_windows(samples, hops, _WINDOW)
    parts = []
    for start in range(0, hops, _CHUNK):
        r, peak = _correlations(frames[start : start + _CHUNK])
        parts.append((r, peak, *_candidates(r)))
    r, peak, lag, height = (np.concatenate(part) for part in zip(*parts, strict=True))
    path = _cheapest_path(lag, height, peak)
    voiced = path < lag.shape[1]
    rows = np.flatnonzero(voiced)
    for start in range(0, rows.size, _CHUNK):
        some = rows[start : start + _CHUNK]
        period, top = _refine(r, some, lag[some, path[some]])
        f0[some] = SAMPLE_RATE / period
        hnr[some] = np.minimum(10 * np.log10(top / (1 - top)), _MAX_HNR)
    return Pitch(f0, hnr, voiced)
