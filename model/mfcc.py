"""MFCC exactly as SyncNet was trained on: ``python_speech_features.mfcc`` with its defaults.

Source: https://github.com/jameslyons/python_speech_features (definition of every step); the
parameters are fixed, because a SyncNet reads no others. The sound is int16: floats in [-1, 1] shift
coefficient 0 by -20.79 and nothing else, which is easily missed, so they are refused.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
FRAME_LENGTH = 400  # 25 ms
FRAME_STEP = 160  # 10 ms: 100 columns a second, 4 a picture frame at 25 fps
FFT_SIZE = 512
FILTERS = 26
COEFFICIENTS = 13
PRE_EMPHASIS = 0.97
LIFTER = 22

_EPS = float(np.finfo(np.float64).eps)  # stands for zero power, whose logarithm does not exist


@cache
def mel_filters() -> NDArray[np.float64]:
    """Return the triangular mel filters [26, 257] on the bins of a 512-point FFT.

    Corners: floor((512 + 1) f / 16000) for 28 frequencies equally spaced in mel over 0..8000 Hz.
    """
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, FILTERS + 2) / 2595.0) - 1.0)
    corners = np.floor((FFT_SIZE + 1) * hertz / SAMPLE_RATE)
    left, middle, right = (corners[k : k + FILTERS, None] for k in range(3))
    bins = np.arange(FFT_SIZE // 2 + 1, dtype=np.float64)
    # Two corners may share a bin; that side of the triangle is then empty.
    rising = (bins - left) / np.maximum(middle - left, 1.0)
    falling = (right - bins) / np.maximum(right - middle, 1.0)
    filters = np.where((bins >= left) & (bins < middle), rising, 0.0)
    filters = np.where((bins >= middle) & (bins < right), falling, filters)
    filters.flags.writeable = False
    return filters


@cache
def _cosines() -> NDArray[np.float64]:
    """Orthonormal DCT-II of the log filters and the sinusoidal lifter in one matrix [26, 13]."""
    order = np.arange(COEFFICIENTS)
    angles = np.pi * (np.arange(FILTERS)[:, None] + 0.5) * order / FILTERS
    scale = np.where(order == 0, np.sqrt(1.0 / FILTERS), np.sqrt(2.0 / FILTERS))
    lift = 1.0 + LIFTER / 2.0 * np.sin(np.pi * order / LIFTER)
    matrix: NDArray[np.float64] = np.cos(angles) * scale * lift
    matrix.flags.writeable = False
    return matrix


def mfcc(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """Compute MFCC of a sound.

    The last frame is completed with zeros, so no sample is left out. Coefficient 0 is the log of
    the frame's energy.

    Args:
        samples: [n] int16, 16 kHz mono.

    Returns:
        [columns, 13] float64; columns = 1 + ceil(max(n - 400, 0) / 160), none for an empty sound.

    Raises:
        ValueError: ``samples`` is not a one-dimensional int16 array.
    """
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(
            f"MFCC for SyncNet wants int16 samples [n], got {samples.dtype} {samples.shape}"
        )
    if samples.size == 0:
        return np.empty((0, COEFFICIENTS))
    columns = 1 + -(-max(samples.size - FRAME_LENGTH, 0) // FRAME_STEP)
    signal = np.zeros((columns - 1) * FRAME_STEP + FRAME_LENGTH)
    signal[: samples.size] = samples
    # Before the zeros are appended, as in the source: the step from the last sample to the zeros is
    # no part of the signal.
    signal[1 : samples.size] -= PRE_EMPHASIS * samples[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME_LENGTH)[::FRAME_STEP]
    spectrum = np.fft.rfft(frames, FFT_SIZE)
    power = (spectrum.real**2 + spectrum.imag**2) / FFT_SIZE  # [columns, 257]
    energy = power.sum(axis=1)
    filtered = power @ mel_filters().T  # [columns, 26]
    filtered[filtered == 0] = _EPS
    energy[energy == 0] = _EPS
    coefficients = np.log(filtered) @ _cosines()
    coefficients[:, 0] = np.log(energy)
    return coefficients


def to_int16(waveform: NDArray[np.float32]) -> NDArray[np.int16]:
    """Turn sound in [-1, 1] into int16 samples: round(32768 x), clipped.

    The scale is that of decoders (int16 / 32768), so 16-bit sound comes back bit for bit.
    """
    scaled = np.rint(waveform.astype(np.float64) * 32768.0)
    return np.clip(scaled, -32768, 32767).astype(np.int16)
