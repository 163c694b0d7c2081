"""What artefacts of the sound share: where somebody speaks, how loud, and how to keep that.

Nobody speaks in silence, so silence stays silence under every artefact that does not bring other
sound with it.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.sound_frames import speech_activity
from actors.types import F32, FPS, SAMPLE_RATE, Bool

F64 = NDArray[np.float64]

FRAME: Final = SAMPLE_RATE // FPS  # samples a picture of the 25 fps grid lasts: 40 ms
MAX_OFFSET: Final = 12  # frames; SyncNet looks as far as 15 and needs room around the answer
_HOP: Final = 160  # samples, 10 ms
_SILENCE: Final = 1e-12  # mean square, -120 dB: less than rounding to 16 bits leaves
_QUIET: Final = 1e-5  # RMS, -100 dB
_TENTH: Final = SAMPLE_RATE // 10
_SEAM: Final = SAMPLE_RATE // 200  # 5 ms, so that a seam does not click


def speech_mask(samples: F32) -> Bool:
    """Where somebody speaks, by energy (:func:`actors.sound_frames.speech_activity`).

    Levels are those of 30 ms without their DC, relative to the loudest, so neither the gain of the
    recording nor an offset of its zero line matters. A sound whose level hardly varies counts as
    speech throughout.

    Args:
        samples: [n] 16 kHz mono.

    Returns:
        [n]; nowhere in silence.
    """
    if not samples.size:
        return np.zeros(0, np.bool_)
    padded = np.pad(samples, (0, -samples.size % _HOP), mode="edge")
    parts = padded.astype(np.float64).reshape(-1, _HOP)
    hops = np.pad(np.stack((parts.mean(1), np.square(parts).mean(1))), ((0, 0), (1, 1)), "edge")
    mean, square = (hops[:, :-2] + hops[:, 1:-1] + hops[:, 2:]) / 3
    power = np.maximum(square - np.square(mean), 0.0)
    loudest = float(power.max())
    if loudest < _SILENCE:
        return np.zeros(samples.size, np.bool_)
    level = 10 * np.log10(power / loudest + 1e-10).astype(np.float32)
    active = speech_activity(level, np.ones(level.size, np.bool_))
    return np.repeat(active, _HOP)[: samples.size]


def level_in(samples: NDArray[Any], where: Bool) -> float:
    """RMS of ``samples`` [n] without their DC, over ``where`` [n]; 0 when that is nowhere."""
    part = samples[where].astype(np.float64)
    return float(part.std()) if part.size else 0.0


def with_level(changed: F64, original: F32, where: Bool) -> F32:
    """Give a changed sound the level that the original has where somebody speaks.

    Loudness would otherwise tell what was done. Where either has no level, nothing is scaled.

    Args:
        changed: [n], any range.
        original: [n].
        where: [n] somebody speaks in the original.

    Returns:
        [n] in [-1, 1], see :func:`bounded`.
    """
    now, before = level_in(changed, where), level_in(original, where)
    return bounded(changed * (before / now) if now > 0.0 and before > 0.0 else changed)


def bounded(samples: NDArray[Any]) -> F32:
    """Turn a whole sound down where it would clip, which would be another damage.

    Args:
        samples: [n], any range.

    Returns:
        [n] float32 in [-1, 1].
    """
    peak = max(1.0, float(np.abs(samples).max(initial=0.0)))
    result: F32 = np.clip(samples / peak, -1.0, 1.0).astype(np.float32)
    return result


def direction(rng: np.random.Generator) -> int:
    """Draw 1 (the sound leads the picture, as SyncNet counts) or -1 (it lags)."""
    return 1 if rng.random() < 0.5 else -1


def room_noise(samples: F32, rng: np.random.Generator) -> F32:
    """Make noise with loudness and spectrum of the quietest tenth of a second of a sound.

    White noise is convolved with that piece, so its spectrum is the piece's. Digital silence is no
    room; a sound with nothing else has none, and gets none.

    Args:
        samples: [n].
        rng: n + 1599 normal numbers are drawn.

    Returns:
        [n] in [-1, 1].
    """
    from scipy.signal import oaconvolve

    white = rng.standard_normal(samples.size + _TENTH - 1)
    tenths = np.pad(samples, (0, max(0, _TENTH - samples.size)))
    tenths = tenths[: tenths.size // _TENTH * _TENTH].reshape(-1, _TENTH).astype(np.float64)
    levels = tenths.std(axis=1)
    levels[levels < _QUIET] = np.inf
    quietest = int(levels.argmin())
    if not np.isfinite(levels[quietest]):
        return np.zeros(samples.size, np.float32)
    piece = tenths[quietest] - tenths[quietest].mean()
    noise = oaconvolve(white, piece, mode="valid") / np.sqrt(_TENTH)
    result: F32 = np.clip(noise, -1.0, 1.0).astype(np.float32)
    return result


def before_gap(sound: F32, room: F32) -> F32:
    """Let the room's noise follow a sound that ends early; a seam of 5 ms lies in the sound.

    Args:
        sound: [m].
        room: [n], n >= m.

    Returns:
        [n]; beyond the seam it is ``sound`` or ``room`` bit by bit.
    """
    if sound.size == room.size:
        return sound.copy()
    result = room.copy()
    result[: sound.size] = sound
    seam = min(_SEAM, sound.size)
    part = slice(sound.size - seam, sound.size)
    fade = np.linspace(1.0, 0.0, seam, dtype=np.float32)
    result[part] = sound[sound.size - seam :] * fade + room[part] * (1.0 - fade)
    return result
