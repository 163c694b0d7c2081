"""Scalar descriptors of a clip that need no weights (SPEC section 9).

The table is docs/descriptors.md. They name the likely cause where quality drops and may join the
evaluators as an auxiliary vector. Each is a number or None where it is undefined.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors import descriptors_face as face
from actors import descriptors_picture as picture
from actors import descriptors_sound as speech
from actors.clip_measures import MEASURES_NEED, ClipMeasures, frame_bounds, frame_means, measures_of
from actors.pitch import HOP
from actors.sound_frames import HOP_SECONDS
from actors.types import Bool, Row
from model.config import Config

Values = dict[str, float | None]

DESCRIPTOR_NAMES: Final = (
    # lips and sound
    *("lip_opening_mean", "lip_opening_std", "lip_velocity", "lip_acceleration"),
    *("av_lag", "av_correlation", "lip_rate", "rhythm_agreement"),
    *("frozen_mouth", "still_mouth_share"),
    # face and head
    *("au_jerk", "facial_asymmetry", "blink_rate"),
    *("head_translation_speed", "head_rotation_speed", "head_rotation_range"),
    *("skull_deformation", "face_sharpness"),
    # picture
    *("luma", "contrast", "sharpness", "blockiness", "picture_noise", "frame_difference"),
    *("flicker_luma", "flicker_chroma"),
    *("duplicated_share", "frozen_share", "longest_freeze"),
    # sound
    *("speech_share", "speech_rate", "articulation_rate"),
    *("f0_mean", "f0_std", "f0_range", "hnr"),
    *("loudness_dbfs", "loudness_lufs", "crest_factor_db", "clipping_share", "dropout_share"),
    *("snr", "decay_rate", "spectral_flatness", "bandwidth"),
    *(speech.band_name(*band) for band in speech.BANDS_HZ),
)
DESCRIPTOR_FIELDS: Final[dict[str, str]] = dict.fromkeys(DESCRIPTOR_NAMES, "float32")
JOINT_DESCRIPTORS: Final = DESCRIPTOR_NAMES[
    DESCRIPTOR_NAMES.index("av_lag") : DESCRIPTOR_NAMES.index("still_mouth_share") + 1
]
SOUND_DESCRIPTORS: Final = DESCRIPTOR_NAMES[DESCRIPTOR_NAMES.index("speech_share") :]

# Measures whose ratios count: half as sharp is as much for a sharp picture as for a soft one. Each
# with the value below which differences no longer matter, for evaluators that read logarithms
# (`preprocessor.aux_log`): log(value + floor).
LOG_FLOORS: Final[dict[str, float]] = {
    "lip_opening_mean": 0.02,
    "lip_opening_std": 0.01,
    "lip_velocity": 0.05,
    "lip_acceleration": 2.0,
    "au_jerk": 50.0,
    "facial_asymmetry": 0.005,
    "head_translation_speed": 0.03,
    "head_rotation_speed": 3.0,
    "head_rotation_range": 3.0,
    "skull_deformation": 0.002,
    "face_sharpness": 4.0,
    "sharpness": 4.0,
    "blockiness": 0.01,
    "picture_noise": 0.3,
    "frame_difference": 0.3,
    "flicker_luma": 0.03,
    "flicker_chroma": 0.01,
    "f0_mean": 1.0,
    "f0_std": 5.0,
    "f0_range": 25.0,
    "clipping_share": 0.0005,
    "dropout_share": 0.002,
    "decay_rate": 20.0,
    "spectral_flatness": 0.001,
    "bandwidth": 500.0,
}

MAX_LAG: Final = 15  # frames, as SyncNet's search
_LEAST_PAIRS: Final = 25


class DescriptorsConfig(Config):
    """The descriptors have no settings: those of different runs must mean the same."""


def lagged_correlation(
    envelope: NDArray[np.floating], opening: NDArray[np.floating], max_lag: int = MAX_LAG
) -> tuple[float, float] | None:
    """Lag and height of the highest correlation between speech envelope and lip opening.

    Args:
        envelope: [n] speech envelope; NaN where there is no sound.
        opening: [n] lip opening; NaN where there is no face.
        max_lag: Shifts searched, frames to each side.

    Returns:
        The lag in frames (positive: the sound leads the picture, SyncNet's sign), refined by a
        parabola, and Pearson's correlation there; None when fewer than 25 pairs remain or one of
        the two does not vary.
    """
    n = envelope.size
    height = np.full(2 * max_lag + 1, np.nan)
    for at in range(height.size):
        lag = at - max_lag
        sound = envelope[max(0, -lag) : n - max(0, lag)]
        lips = opening[max(0, lag) : n - max(0, -lag)]
        both = np.isfinite(sound) & np.isfinite(lips)
        if both.sum() >= _LEAST_PAIRS:
            a, b = sound[both] - sound[both].mean(), lips[both] - lips[both].mean()
            norm = float(np.sqrt((a @ a) * (b @ b)))
            if norm > 1e-9:
                height[at] = float(a @ b) / norm
    if not np.isfinite(height).any():
        return None
    best = int(np.nanargmax(height))
    top, shift = float(height[best]), 0.0
    if 0 < best < height.size - 1 and np.isfinite(height[best - 1 : best + 2]).all():
        before, after = float(height[best - 1]), float(height[best + 1])
        curve = before - 2 * top + after
        if curve < -1e-12:
            shift = 0.5 * (before - after) / curve
            top -= 0.25 * (before - after) * shift
    return best - max_lag + shift, min(top, 1.0)


def rhythm_agreement(syllable_rate: float | None, lip_rate: float | None) -> float | None:
    """Smaller over larger of two rates; None when either is undefined or both are 0."""
    if syllable_rate is None or lip_rate is None or max(syllable_rate, lip_rate) == 0:
        return None
    return min(syllable_rate, lip_rate) / max(syllable_rate, lip_rate)


def _audible_hops(measures: ClipMeasures, audio_mask: Bool, hops: int) -> Bool:
    """Hops at which the file has sound; the rest of the waveform is padding."""
    frame = np.minimum(
        ((np.arange(hops) + 0.5) * HOP_SECONDS / measures.period_s).astype(int), measures.frames - 1
    )
    result: Bool = audio_mask[frame]
    return result


def sound_descriptors(row: Row, measures: ClipMeasures) -> Values:
    """Everything that the sound alone tells."""
    sound = measures.sound
    if sound is None:
        return dict.fromkeys(SOUND_DESCRIPTORS)
    use = _audible_hops(measures, row["audio_mask"], len(sound.power))
    spans = np.flatnonzero(use)
    samples = row["waveform"][spans[0] * HOP : (spans[-1] + 1) * HOP]
    active = sound.active & use
    seconds, spoken = float(use.sum()) * HOP_SECONDS, float(active.sum()) * HOP_SECONDS
    nuclei = speech.syllable_nuclei(sound)
    syllables = int(use[nuclei].sum())
    return {
        "speech_share": spoken / seconds,
        "speech_rate": syllables / seconds,
        "articulation_rate": syllables / spoken if spoken >= 0.5 else None,
        "dropout_share": speech.dropout_share(row["waveform"], active),
        "snr": speech.snr(sound, use),
        "decay_rate": speech.decay_rate(sound, use),
        **speech.pitch_descriptors(sound, use),
        **speech.level_descriptors(samples),
        **speech.spectral_descriptors(sound, use),
    }


def face_descriptors(row: Row, measures: ClipMeasures) -> Values:
    """Everything that the face alone tells."""
    period, n = measures.period_s, measures.frames
    seen = row["face_mask"] & row["frame_mask"]
    points, iod = face.face_points(row["landmarks"][:n], seen[:n], row["image_size"])
    seconds = float(seen.sum()) * period
    blinks = face.count_blinks(face.eye_aspect_ratio(points), period)
    sharpness = measures.face_sharpness[np.isfinite(measures.face_sharpness)]
    return {
        **face.lip_descriptors(measures.lip_opening, period),
        "au_jerk": face.au_jerk(points, period),
        "facial_asymmetry": face.facial_asymmetry(points),
        "blink_rate": 60 * blinks / seconds if seconds >= 1.0 else None,
        **face.head_motion(points, iod, period),
        "skull_deformation": face.skull_deformation(points, period),
        "face_sharpness": float(sharpness.mean(dtype=np.float64)) if sharpness.size else None,
    }


def joint_descriptors(row: Row, measures: ClipMeasures, articulation: float | None) -> Values:
    """What sound and face tell together; all None without sound.

    Args:
        row: The clip.
        measures: Its shared measures.
        articulation: Syllables per second of speech.
    """
    sound, n, period = measures.sound, measures.frames, measures.period_s
    if sound is None:
        return dict.fromkeys(JOINT_DESCRIPTORS)
    bounds = frame_bounds(len(sound.power), n, period)
    audible = row["audio_mask"][:n]
    envelope = np.where(audible, frame_means(sound.envelope, bounds), np.nan)
    speaking = audible & (frame_means(sound.active.astype(np.float64), bounds) > 0.5)
    opening, width = measures.lip_opening[:n], measures.lip_width[:n]
    found = lagged_correlation(envelope, opening)
    lip_rate = face.lip_rate(opening, speaking, period)
    return {
        "av_lag": found[0] * period if found else None,
        "av_correlation": found[1] if found else None,
        "lip_rate": lip_rate,
        "rhythm_agreement": rhythm_agreement(articulation, lip_rate),
        "frozen_mouth": face.frozen_mouth(opening, width, speaking, period),
        "still_mouth_share": face.still_mouth_share(opening, speaking, period),
    }


def describe(row: Row, measures: ClipMeasures) -> Values:
    """All descriptors of a clip, in the order of DESCRIPTOR_NAMES."""
    sound = sound_descriptors(row, measures)
    values = {
        **face_descriptors(row, measures),
        **joint_descriptors(row, measures, sound["articulation_rate"]),
        **picture.picture_descriptors(
            row["frame_stats"],
            row["frame_mask"],
            measures.fresh,
            measures.frames,
            measures.period_s,
        ),
        **sound,
    }
    return {name: values[name] for name in DESCRIPTOR_NAMES}


class Descriptors:
    """Adds the scalar descriptors to clips."""

    name = "descriptors"
    version = "4"
    needs = (*MEASURES_NEED, "frame_stats")
    adds = ("descriptors",)

    def __init__(self, config: DescriptorsConfig) -> None:
        self._config = config

    def __call__(self, batch: list[Row]) -> list[Row]:
        """Add ``descriptors`` to each row, a dict name -> number or None."""
        for row in batch:
            row["descriptors"] = describe(row, measures_of(row))
        return batch
