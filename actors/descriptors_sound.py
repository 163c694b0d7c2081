"""Descriptors of the sound. Pure functions of samples in [-1, 1] at 16 kHz and of their analysis.

A value that is undefined (silence, nobody speaks) is None.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.pitch import HOP
from actors.sound_frames import (
    FLOOR_POWER,
    HOP_SECONDS,
    NFFT,
    SoundFrames,
    band_power,
    mel_filterbank,
    runs,
)
from actors.types import F32, SAMPLE_RATE, Bool

BANDS_HZ: Final = ((0, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8001))

# ITU-R BS.1770-5, annex 1: the two stages of the K-weighting given there for 48 kHz, as analogue
# prototypes (De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES
# 145, 2018).
_SHELF: Final = (1681.974450955533, 3.999843853973347, 0.7071752369554196)  # Hz, dB, Q
_HIGH_PASS: Final = (38.13547087602444, 0.5003270373238773)  # Hz, Q
_LOUDNESS_OFFSET: Final = -0.691

# A flat top survives resampling as a stretch within 2 % of the extreme, and a lossy codec as one
# near a level that only its overshoots exceed.
_FLAT_TOP: Final = 0.98
_WAVY_TOP: Final = 0.9
_RARE: Final = 5e-4  # of the samples
_SPEECH_TOPS: Final = 3e-3  # of the samples: what unclipped speech has there, and a little more
_FLAT_RUN: Final = 3
_BANDWIDTH_DB: Final = 50.0
_WHITE_FLATNESS: Final = float(np.exp(-np.euler_gamma))
_GUARD_HOPS: Final = 5  # around speech, where its decay is no noise
_LEAST_PAUSE_HOPS: Final = 10
_NUCLEUS_DIP_DB: Final = 2.0
_NUCLEUS_GAP: Final = 8  # hops: no two syllables within 80 ms
_DECAY_HOPS: Final = 10  # of a straight line through the level, 100 ms
_DECAY_SPEECH_HOPS: Final = 4  # of them, at least, are speech: its ends are seen, pauses are not
_DECAY_BANDS: Final = slice(2, 20)  # of 24 mel bands: 120 Hz to 4.8 kHz
_DECAY_LEAST: Final = 50  # windows, half a second of speech
_DECAY_PERCENTILE: Final = 95
_DROP_AMPLITUDE: Final = 1e-4  # -80 dBFS
_DROP_SECONDS: Final = (0.01, 0.5)


@lru_cache(maxsize=2)
def k_weighting(rate: int) -> NDArray[np.float64]:
    """K-weighting of ITU-R BS.1770 as second-order sections [2, 6], for any sampling rate."""
    f, gain, q = _SHELF
    k = np.tan(np.pi * f / rate)
    high = 10 ** (gain / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    shelf = [
        (high + band * k / q + k * k) / a0,
        2 * (k * k - high) / a0,
        (high - band * k / q + k * k) / a0,
        1.0,
        2 * (k * k - 1) / a0,
        (1 - k / q + k * k) / a0,
    ]
    f, q = _HIGH_PASS
    k = np.tan(np.pi * f / rate)
    a0 = 1 + k / q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]
    return np.array([shelf, high_pass])


def loudness_lufs(samples: F32, rate: int = SAMPLE_RATE) -> float | None:
    """Integrated loudness of a mono signal (ITU-R BS.1770: K-weighting, 400 ms blocks, both gates).

    A full-scale sine of 997 Hz has -3.01 LUFS. None when every block lies under the absolute gate
    of -70 LUFS.
    """
    import scipy.signal

    weighted = scipy.signal.sosfilt(k_weighting(rate), samples.astype(np.float64))
    step = rate // 10
    parts = weighted[: weighted.size // step * step].reshape(-1, step)
    tenths = (parts**2).mean(axis=1)
    if tenths.size < 4:
        return None
    power = np.convolve(tenths, np.full(4, 0.25), "valid")
    power = power[_LOUDNESS_OFFSET + 10 * np.log10(power + 1e-20) > -70.0]
    if not power.size:
        return None
    power = power[power > 0.1 * power.mean()]
    return float(_LOUDNESS_OFFSET + 10 * np.log10(power.mean()))


def level_descriptors(samples: F32) -> dict[str, float | None]:
    """Level, loudness, crest factor and clipping of a piece of sound."""
    power = float((samples.astype(np.float64) ** 2).mean()) if samples.size else 0.0
    if power < FLOOR_POWER:
        return dict.fromkeys(
            ("loudness_dbfs", "loudness_lufs", "crest_factor_db", "clipping_share")
        )
    peak = float(np.abs(samples).max())
    return {
        "loudness_dbfs": 10 * np.log10(power),
        "loudness_lufs": loudness_lufs(samples),
        "crest_factor_db": float(20 * np.log10(peak) - 10 * np.log10(power)),
        "clipping_share": clipping_share(samples),
    }


def clipping_share(samples: F32) -> float:
    """Share of samples in flat tops, at any level: clipped sound may have been attenuated later.

    A flat top is three or more samples in a row within 2 % of the extreme of their sign. Lossy
    codecs (AAC) make the tops wavy, and overshoots hide them from that measure; so it is held
    against a second one, samples in stretches within 10 % of a level that 0.05 % of all exceed,
    less the 0.3 % that speech may have there, and the larger counts. Shares under 0.5 % are
    therefore missed where the sound was coded after it was clipped. A pure tone has slow tops and
    reads as clipped by several per cent; so may, by up to half a per cent, a voice behind a
    limiter; other speech by under 0.1 %.
    """
    flat = wavy = 0
    for side in (samples, -samples):
        peak = float(side.max(initial=0.0))
        if peak > 1e-3:
            flat += _in_stretches(side >= _FLAT_TOP * peak)
            wavy += _in_stretches(side >= _WAVY_TOP * float(np.quantile(side, 1 - _RARE)))
    share = max(flat, wavy - _SPEECH_TOPS * samples.size)
    return share / samples.size if samples.size else 0.0


def _in_stretches(high: Bool) -> int:
    spans = runs(high)
    lengths = spans[:, 1] - spans[:, 0]
    return int(lengths[lengths >= _FLAT_RUN].sum())


def pitch_descriptors(sound: SoundFrames, use: Bool) -> dict[str, float | None]:
    """F0 and HNR over the voiced hops among ``use`` [N]."""
    hops = use & sound.voiced
    if hops.sum() < 5:
        return dict.fromkeys(("f0_mean", "f0_std", "f0_range", "hnr"))
    f0 = sound.f0[hops].astype(np.float64)
    low, high = np.percentile(f0, (5, 95))
    return {
        "f0_mean": float(f0.mean()),
        "f0_std": float(f0.std()),
        "f0_range": float(high - low),
        "hnr": float(sound.hnr[hops].mean(dtype=np.float64)),
    }


def snr(sound: SoundFrames, use: Bool) -> float | None:
    """Ratio of speech to noise above 60 Hz, dB.

    Noise is the mean power in the pauses, at least 50 ms away from speech; speech is the mean power
    while somebody speaks, less the noise.

    Returns:
        Between -20 and 100 dB; None when nobody speaks or the pauses come to under 0.1 s.
    """
    speech = use & sound.active
    near = np.convolve(sound.active, np.ones(2 * _GUARD_HOPS + 1), "same") > 0.5
    pause = use & ~near
    if not speech.any() or pause.sum() < _LEAST_PAUSE_HOPS:
        return None
    total = float(band_power(sound.power[speech], 60.0, SAMPLE_RATE).mean())
    noise = float(band_power(sound.power[pause], 60.0, SAMPLE_RATE).mean())
    noise = max(noise, FLOOR_POWER)
    return float(np.clip(10 * np.log10(max(total / noise - 1, 1e-2)), -20.0, 100.0))


def spectral_descriptors(sound: SoundFrames, use: Bool) -> dict[str, float | None]:
    """Flatness, band energies and bandwidth over speech, or over everything when nobody speaks.

    Flatness is the geometric over the arithmetic mean of a 25 ms spectrum, divided by its
    expectation for white noise (exp(-0.5772) = 0.561), so that white noise has 1 and a tone 0.
    """
    hops = use & sound.active
    power = sound.power[hops if hops.any() else use].astype(np.float64)
    names = ("spectral_flatness", "bandwidth", *(band_name(*band) for band in BANDS_HZ))
    if not len(power) or band_power(power, 0.0, SAMPLE_RATE).mean() < FLOOR_POWER:
        return dict.fromkeys(names)
    # Bin 0 and the last are no complex Gaussian sums, so white noise is not exponential there.
    inner = power[:, 1:-1]
    inner = inner[inner.mean(axis=1) > 1e-12] + 1e-12
    flatness = np.exp(np.log(inner).mean(axis=1)) / inner.mean(axis=1)
    mean = power.mean(axis=0, keepdims=True)
    whole = float(band_power(mean, 0.0, SAMPLE_RATE)[0])
    result: dict[str, float | None] = {
        "spectral_flatness": min(1.0, float(flatness.mean()) / _WHITE_FLATNESS),
        "bandwidth": bandwidth(mean[0]),
    }
    for band in BANDS_HZ:
        share = float(band_power(mean, *band)[0]) / whole
        result[band_name(*band)] = 10 * np.log10(share + FLOOR_POWER)
    return result


def band_name(low: int, high: int) -> str:
    """Name of the descriptor of a band's energy."""
    return f"band_{low}_{min(high, SAMPLE_RATE // 2)}"


def bandwidth(spectrum: NDArray[np.float64]) -> float:
    """Highest frequency, Hz, at which a mean power spectrum [257] is within 50 dB of its peak."""
    above = np.flatnonzero(spectrum >= spectrum.max() * 10 ** (-_BANDWIDTH_DB / 10))
    return float(above[-1] * SAMPLE_RATE / NFFT)


def syllable_nuclei(sound: SoundFrames) -> NDArray[np.intp]:
    """Hops at which syllables peak.

    After de Jong and Wempe (Behavior Research Methods 41, 2009): voiced peaks of the intensity
    that stand at least 2 dB above the dips beside them.
    """
    import scipy.signal

    width = np.hanning(9)[1:-1]
    level = 20 * np.log10(np.convolve(sound.envelope, width / width.sum(), "same") + 1e-5)
    peaks, _ = scipy.signal.find_peaks(level, prominence=_NUCLEUS_DIP_DB, distance=_NUCLEUS_GAP)
    result: NDArray[np.intp] = peaks[sound.active[peaks] & sound.voiced[peaks]]
    return result


def decay_rate(sound: SoundFrames, use: Bool) -> float | None:
    """Steepness with which speech dies away in narrow bands, dB/s; reverberation makes it low.

    In a room no sound dies away faster than its reverberation, 60 dB in the reverberation time
    (Ratnam et al., JASA 114, 2003: the fastest decays tell of the room). A straight line through
    the level of each mel band over 100 ms gives a rate of decay; the 95th percentile over the bands
    and times of speech counts. Digital silence is no decay and is left out. Noise lowers it, too,
    since speech then falls no deeper; steady noise has about 45.

    Returns:
        None with less than half a second of speech.
    """
    if len(sound.power) < _DECAY_HOPS:
        return None
    ones = np.ones(_DECAY_HOPS)
    usable = use & (sound.level_db > 20 * np.log10(_DROP_AMPLITUDE))
    whole = np.convolve(usable, ones, "valid") > _DECAY_HOPS - 0.5
    chosen = whole & (np.convolve(sound.active, ones, "valid") > _DECAY_SPEECH_HOPS - 0.5)
    if chosen.sum() < _DECAY_LEAST:
        return None
    levels = sound.power.astype(np.float64) @ mel_filterbank(24)[_DECAY_BANDS].T
    levels = 10 * np.log10(levels + FLOOR_POWER)
    times = (np.arange(_DECAY_HOPS) - (_DECAY_HOPS - 1) / 2) * HOP_SECONDS
    windows = np.lib.stride_tricks.sliding_window_view(levels, _DECAY_HOPS, axis=0)[chosen]
    return float(np.percentile(-(windows @ times) / (times @ times), _DECAY_PERCENTILE))


def dropout_share(samples: F32, active: Bool) -> float | None:
    """Share of the spoken time that is digital silence breaking off speech.

    A drop-out is 10 to 500 ms under -80 dBFS with speech right before and right after it; pauses
    do not count, since speech dies away towards them.

    Args:
        samples: [n].
        active: [N] speech, a value each 10 ms.
    """
    spoken = float(active.sum()) * HOP_SECONDS
    if spoken == 0:
        return None
    low, high = (round(s * SAMPLE_RATE) for s in _DROP_SECONDS)
    lost = 0
    speech = float(np.sqrt((samples[: active.size * HOP].astype(np.float64) ** 2).mean()))
    for start, end in runs(np.abs(samples) < _DROP_AMPLITUDE):
        if not low <= end - start <= high or start < HOP or end + HOP > samples.size:
            continue
        before, after = samples[start - HOP : start], samples[end : end + HOP]
        # -20 dB of the mean level: a broken vowel or fricative, not the tail of a word.
        if min(float(np.abs(before).max()), float(np.abs(after).max())) > 0.1 * speech:
            lost += end - start
    return min(1.0, lost / SAMPLE_RATE / spoken)
