"""The low-level stream: 64 plain measures a frame, without any weights (SPEC section 3)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.clip_measures import (
    MEASURES_NEED,
    ClipMeasures,
    frame_bounds,
    frame_means,
    measures_of,
)
from actors.frame_stats import STAT
from actors.sound_frames import FLOOR_POWER, SoundFrames, band_power, mel_filterbank
from actors.types import CLIP_FRAMES, F32, SAMPLE_RATE, Bool, Row
from model.config import Config

N_MEL: Final = 40
N_MFCC: Final = 13
LIPS: Final = (
    "lip_opening",  # interocular units
    "lip_opening_d1",  # first difference, per frame
    "lip_opening_d2",  # second difference
    "lip_width",
    "lip_width_d1",
    "lip_width_d2",
)
SOUND_NAMES: Final = (
    *(f"log_mel_{i:02d}" for i in range(N_MEL)),  # dB
    *(f"mfcc_{i:02d}" for i in range(N_MFCC)),  # orthonormal DCT-II of the log-Mel bands
    "energy",  # RMS level, dB re full scale
    "f0",  # Hz, median of the voiced hops; 0 unvoiced
    "voicing",  # voiced share of the frame, 0..1
)
PICTURE_NAMES: Final = (
    "face_sharpness",  # variance of the Laplacian of the face in the aligned crop
    "frame_difference",  # mean absolute difference to the previous frame, levels
)
LOWLEVEL_NAMES: Final[tuple[str, ...]] = (*SOUND_NAMES, *LIPS, *PICTURE_NAMES)


class LowLevelConfig(Config):
    """The low-level stream has no settings: streams of different runs must mean the same."""


def log_mel(power: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-Mel bands of power spectra [n, 257] -> [n, 40] dB, at least -100."""
    result: NDArray[np.float64] = 10 * np.log10(
        power @ mel_filterbank(N_MEL).T.astype(np.float64) + FLOOR_POWER
    )
    return result


def mfcc(log_mel_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cepstral coefficients [n, 13] of log-Mel bands [n, 40]: orthonormal DCT-II, no lifter."""
    import scipy.fft

    result: NDArray[np.float64] = scipy.fft.dct(log_mel_db, axis=1, norm="ortho")[:, :N_MFCC]
    return result


def sound_features(sound: SoundFrames, frames: int, period_s: float) -> F32:
    """Sound part of the stream.

    Frame i is the mean power over [i, i + 1) periods (four hops at 25 fps), so that it sits on the
    frame's centre.

    Returns:
        [frames, 56] in the order of SOUND_NAMES.
    """
    bounds = frame_bounds(len(sound.power), frames, period_s)
    power = frame_means(sound.power, bounds)
    bands = log_mel(power)
    energy = 10 * np.log10(band_power(power, 0.0, SAMPLE_RATE) + FLOOR_POWER)
    voicing = frame_means(sound.voiced.astype(np.float64), bounds)
    f0 = np.zeros(frames)
    for i in np.flatnonzero(voicing > 0):
        hops = slice(*bounds[i])
        f0[i] = np.median(sound.f0[hops][sound.voiced[hops]])
    return np.concatenate(
        [bands, mfcc(bands), np.stack([energy, f0, voicing], axis=1)], axis=1
    ).astype(np.float32)


def differences(values: F32) -> F32:
    """First and second difference to the previous frames, [T] -> [T, 2]; 0 where one is NaN."""
    first = np.diff(values, prepend=np.nan)
    second = np.diff(first, prepend=np.nan)
    return np.nan_to_num(np.stack([first, second], axis=1), nan=0.0)


def lowlevel_stream(measures: ClipMeasures, stats: F32, frame_mask: Bool, audio_mask: Bool) -> F32:
    """Put the stream together.

    Args:
        measures: Shared measures of the clip.
        stats: [T, len(FRAME_STATS)] statistics of the whole frames.
        frame_mask: [T] real frames.
        audio_mask: [T] frames at which the file has sound.

    Returns:
        [150, 64] in the order of LOWLEVEL_NAMES; finite. Masked frames are 0, as are the sound part
        without sound, the lips without a face and the difference of the video's first frame.
    """
    out = np.zeros((CLIP_FRAMES, len(LOWLEVEL_NAMES)), np.float32)
    n = measures.frames
    first_lip = len(SOUND_NAMES)
    if measures.sound is not None:
        out[:n, :first_lip] = sound_features(measures.sound, n, measures.period_s)
        out[~audio_mask, :first_lip] = 0.0
    for start, values in (
        (first_lip, measures.lip_opening),
        (first_lip + 3, measures.lip_width),
    ):
        out[:, start] = np.nan_to_num(values, nan=0.0)
        out[:, start + 1 : start + 3] = differences(values)
    out[:, -2] = np.nan_to_num(measures.face_sharpness, nan=0.0)
    difference = np.nan_to_num(stats[:, STAT["difference"]], nan=0.0)
    out[:, -1] = np.where(measures.fresh, difference, 0.0)
    out[~frame_mask] = 0.0
    return out


class LowLevel:
    """Adds the low-level stream to clips."""

    name = "lowlevel"
    version = "2"
    needs = (*MEASURES_NEED, "frame_stats")
    adds = ("lowlevel",)

    def __init__(self, config: LowLevelConfig) -> None:
        self._config = config

    def __call__(self, batch: list[Row]) -> list[Row]:
        """Add ``lowlevel`` [150, 64] to each row (and leave the shared ``measures`` there)."""
        for row in batch:
            row["lowlevel"] = lowlevel_stream(
                measures_of(row), row["frame_stats"], row["frame_mask"], row["audio_mask"]
            )
        return batch
