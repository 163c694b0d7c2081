"""What the low-level stream and the descriptors both read off a clip's sound, every 10 ms."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.pitch import HOP, hop_windows, track_pitch
from actors.types import F32, SAMPLE_RATE, Bool

HOP_SECONDS: Final = HOP / SAMPLE_RATE
WINDOW: Final = 400  # samples, 25 ms
NFFT: Final = 512
FLOOR_POWER: Final = 1e-10  # -100 dB

# The band of the first two formants follows the mouth's opening best and leaves hum and hiss out.
_ENVELOPE_BAND: Final = (150.0, 4000.0)
_SPEECH_RANGE_DB: Final = 30.0  # speech lies within this below its peaks
_LEAST_CONTRAST_DB: Final = 6.0  # between pauses and speech; with less, only voicing tells
_SILENT_DB: Final = -60.0
_CLOSE_HOPS: Final = 15  # pauses up to 150 ms are stops and short breaths inside speech
_CHUNK: Final = 1000  # hops at a time, so that a long sound needs little memory
_LEAST_HOPS: Final = 5  # bursts under 50 ms are clicks


@dataclass(frozen=True, slots=True)
class SoundFrames:
    """Sound at hops of 10 ms; hop i is centred on sample 160 i + 80. N hops, 257 frequencies."""

    power: F32  # [N, 257] squared magnitude of the 512-point spectrum of a 25 ms Hann window
    level_db: F32  # [N] RMS level in dB re full scale, 25 ms window, without DC, at least -100
    envelope: F32  # [N] amplitude of 150 to 4000 Hz, 1 = full scale
    f0: F32  # [N] Hz, 0 where unvoiced
    hnr: F32  # [N] dB, NaN where unvoiced
    voiced: Bool  # [N]
    active: Bool  # [N] speech, pauses up to 150 ms included


@lru_cache(maxsize=4)
def mel_filterbank(bands: int = 40) -> F32:
    """Triangular mel filters from 0 to 8000 Hz.

    Slaney's mel scale (Auditory Toolbox, 1998: linear to 1 kHz, logarithmic above) and his
    normalisation to unit area, which are librosa's defaults.

    Returns:
        [bands, 257], read-only.
    """
    step = np.log(6.4) / 27
    edges_mel = np.linspace(0.0, 15 + np.log(SAMPLE_RATE / 2 / 1000) / step, bands + 2)
    edges = np.where(
        edges_mel < 15, edges_mel * 200 / 3, 1000 * np.exp(step * np.maximum(edges_mel - 15, 0))
    )
    hertz = np.linspace(0, SAMPLE_RATE / 2, NFFT // 2 + 1)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rising, falling))
    weights *= (2 / (edges[2:] - edges[:-2]))[:, None]
    result: F32 = weights.astype(np.float32)
    result.flags.writeable = False
    return result


@lru_cache(maxsize=1)
def _window() -> F32:
    # Periodic, as in spectral analysis.
    result: F32 = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    return result


def band_power(power: NDArray[np.floating], low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Mean square of the signal between two frequencies, a value a row of ``power`` [N, 257].

    The scale is Parseval's: a sine of amplitude A inside the band gives A²/2.
    """
    bins = np.arange(NFFT // 2 + 1) * SAMPLE_RATE / NFFT
    inside = (bins >= low_hz) & (bins < high_hz)
    scale = 2 / (NFFT * float((_window() ** 2).sum()))
    result: NDArray[np.float64] = power[:, inside].sum(axis=1, dtype=np.float64) * scale
    return result


def runs(mask: Bool) -> NDArray[np.intp]:
    """Start and end (exclusive) of every run of true values, [R, 2]."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return edges.reshape(-1, 2)


def speech_activity(level_db: F32, voiced: Bool) -> Bool:
    """Where somebody speaks, by energy between the clip's own pauses and peaks.

    The threshold lies 30 dB below the peaks (95th percentile of the level) or a third of the way
    up from the pauses (5th percentile), at most 9 dB above them, whichever is higher. A sound
    whose level hardly varies (under 6 dB) is speech where it is voiced.

    Args:
        level_db: [N] level of each hop.
        voiced: [N].

    Returns:
        [N], gaps up to 150 ms closed and bursts under 50 ms removed.
    """
    audible = level_db > _SILENT_DB
    if not audible.any():
        return np.zeros(level_db.size, np.bool_)
    low, high = np.percentile(level_db, (5, 95))
    if high - low < _LEAST_CONTRAST_DB:
        active = voiced & audible
    else:
        rise = min(9.0, (high - low) / 3)
        active = audible & (level_db > max(high - _SPEECH_RANGE_DB, low + rise))
    active = active.copy()
    for start, end in runs(~active):
        if end - start <= _CLOSE_HOPS and start > 0 and end < active.size:
            active[start:end] = True
    for start, end in runs(active):
        if end - start < _LEAST_HOPS:
            active[start:end] = False
    return active


def analyse_sound(samples: F32) -> SoundFrames:
    """Analyse a clip's sound once for everybody.

    Args:
        samples: [n] 16 kHz mono in [-1, 1].

    Returns:
        ceil(n / 160) hops.
    """
    import scipy.fft

    samples = np.ascontiguousarray(samples, np.float32)
    hops = -(-samples.size // HOP)
    frames = hop_windows(samples, hops, WINDOW)
    power = np.empty((hops, NFFT // 2 + 1), np.float32)
    for start in range(0, hops, _CHUNK):
        part = slice(start, start + _CHUNK)
        spectrum = scipy.fft.rfft(frames[part] * _window(), NFFT, axis=1)
        power[part] = spectrum.real**2 + spectrum.imag**2
    pitch = track_pitch(samples, hops)
    level = 10 * np.log10(band_power(power, 60.0, SAMPLE_RATE) + FLOOR_POWER)
    return SoundFrames(
        power=power,
        level_db=level.astype(np.float32),
        envelope=np.sqrt(band_power(power, *_ENVELOPE_BAND)).astype(np.float32),
        f0=pitch.f0,
        hnr=pitch.hnr,
        voiced=pitch.voiced,
        active=speech_activity(level.astype(np.float32), pitch.voiced),
    )
