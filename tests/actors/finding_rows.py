"""Feature rows made by hand: a person who talks, seen and heard, without any fault."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.descriptors import DESCRIPTOR_NAMES
from actors.lowlevel import LOWLEVEL_NAMES
from actors.sound_frames import mel_filterbank

T = 150
FPS = 25
_AT = {name: i for i, name in enumerate(LOWLEVEL_NAMES)}

# Ordinary values of a clean recording.
DESCRIPTORS = {
    **dict.fromkeys(DESCRIPTOR_NAMES),
    "face_sharpness": 60.0,
    "blockiness": 1.03,
    "flicker_luma": 0.12,
    "flicker_chroma": 0.04,
    "duplicated_share": 0.0,
    "frozen_share": 0.0,
    "longest_freeze": 0.0,
    "speech_share": 0.8,
    "loudness_dbfs": -23.0,
    "loudness_lufs": -23.0,
    "crest_factor_db": 17.0,
    "clipping_share": 0.0,
    "dropout_share": 0.0,
    "snr": 35.0,
    "bandwidth": 7700.0,
}


def syllables(frames: int, seed: int) -> NDArray[np.float64]:
    """Loudness of speech in [0, 1]: 3 to 6 syllables a second, unequal, with pauses."""
    rng = np.random.default_rng(seed)
    track, at = np.zeros(frames), 2
    while at < frames - 8:
        length = int(rng.integers(4, 9))
        if rng.random() < 0.15:
            at += int(rng.integers(4, 9))  # a pause
            continue
        end = min(frames, at + length)
        shape = np.sin(np.pi * (np.arange(at, end) - at + 0.5) / length)
        track[at:end] = rng.uniform(0.35, 1.0) * shape
        at = end
    return track


def row(
    *, lag: int = -2, closeness: float = 0.0, frames: int = T, start_s: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """One clip.

    Args:
        lag: Frames by which the lips follow the sound (< 0: they come first).
        closeness: 0: lips correlate with the loudness by about 0.6; 1: they copy it.
        frames: Length.
        start_s: In the video.
        seed: Of what is said, and of all noise.
    """
    rng = np.random.default_rng([seed, 1])
    loud = syllables(frames + 40, seed)
    own = syllables(frames + 40, seed + 1000)
    sound = loud[20 : 20 + frames]
    followed = closeness + (1 - closeness) * 0.43
    lips = (followed * loud + (1 - followed) * own)[20 - lag : 20 - lag + frames]
    # Lips that speak are never quite still: they round and spread.
    rounding = 0.022 * np.sin(2 * np.pi * (1.7 * np.arange(frames) / FPS + rng.random()))
    level = -60 + 40 * np.sqrt(sound) + rng.normal(0, 0.3, frames)
    stream = np.zeros((T, len(LOWLEVEL_NAMES)), np.float32)
    bank = mel_filterbank()
    bands = level[:, None] + 10 * np.log10(bank.max(axis=1) / 26)
    stream[:frames, : len(bank)] = bands
    stream[:frames, _AT["energy"]] = level
    stream[:frames, _AT["voicing"]] = sound > 0.1
    stream[:frames, _AT["lip_opening"]] = 0.02 + 0.15 * lips + rng.normal(0, 0.002, frames)
    stream[:frames, _AT["lip_width"]] = 0.6 - 0.02 * lips + rounding + rng.normal(0, 0.002, frames)
    stream[:frames, _AT["face_sharpness"]] = 60 * np.exp(rng.normal(0, 0.04, frames))
    stream[:frames, _AT["frame_difference"]] = rng.uniform(0.6, 1.5, frames)
    mesh = np.zeros((T, 468, 3), np.float32)
    sway = 0.5 + 0.02 * np.sin(np.arange(frames) / 20)
    mesh[:frames, :, 0] = sway[:, None] + rng.normal(0, 1e-4, (frames, 1))
    mesh[:frames, 33, 0] -= 0.06
    mesh[:frames, 263, 0] += 0.06
    mesh[:frames, :, 1] = 0.5
    inside = np.arange(T) < frames
    return {
        "start_s": start_s,
        "end_s": start_s + frames / FPS,
        "frame_mask": inside.copy(),
        "face_mask": inside.copy(),
        "audio_mask": inside.copy(),
        "lowlevel": stream,
        "landmarks": mesh.reshape(T, -1),
        "descriptors": dict(DESCRIPTORS),
    }


def column(made: dict[str, Any], name: str) -> NDArray[np.float32]:
    """A column of the row's low-level stream, to be changed in place."""
    view: NDArray[np.float32] = made["lowlevel"][:, _AT[name]]
    return view
