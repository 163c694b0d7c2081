"""How the head, the lids and the brows move while a mouth speaks."""

import numpy as np
from numpy.typing import NDArray

from actors.demo.face import Pose
from actors.demo.voice import Utterance
from actors.types import FPS

F64 = NDArray[np.float64]

_BLINK = (0.35, 0.9, 1.0, 0.6, 0.2)  # closure in consecutive frames: 0.2 s


def poses(utterance: Utterance, seed: int) -> list[Pose]:
    """Return the face's pose in every frame of an utterance.

    The lips take the utterance's tracks as they are. The head sways slowly and nods a little with
    the stress of the voice, the brows rise on stress, the lids blink every 2 to 5 s.
    """
    rng = np.random.default_rng([seed, 0xFACE])
    n = len(utterance.opening)
    time = np.arange(n) / FPS
    stress = _slow(utterance.opening.astype(np.float64), 0.8)
    stress = (stress - stress.mean()) / (np.abs(stress - stress.mean()).max() + 1e-9)
    blink = np.zeros(n)
    at = rng.uniform(0.6, 3.0)
    while at < n / FPS:
        first = round(at * FPS)
        shape = np.array(_BLINK)[: n - first]
        blink[first : first + len(shape)] = shape
        at += rng.uniform(2.0, 5.0)
    tracks = {
        "blink": blink,
        "brow": 0.5 * stress + 0.35 * _sway(time, rng),
        "roll": 0.028 * _sway(time, rng),
        "yaw": 2.2 * _sway(time, rng),
        "pitch": 0.9 * _sway(time, rng) + 0.9 * stress,
        "shift_x": 2.0 * _sway(time, rng),
        "shift_y": 1.2 * _sway(time, rng) + 0.8 * stress,
        "scale": 1.0 + 0.010 * _sway(time, rng),
        "opening": utterance.opening,
        "width": utterance.width,
        "rounding": utterance.rounding,
    }
    return [Pose(**{k: float(v[i]) for k, v in tracks.items()}) for i in range(n)]


def _sway(time: F64, rng: np.random.Generator) -> F64:
    """Return smooth random motion in [-1, 1]: four sines of 0.08 to 0.6 Hz."""
    hertz = rng.uniform([0.08, 0.15, 0.25, 0.4], [0.15, 0.25, 0.4, 0.6])
    phase = rng.uniform(0.0, 2.0 * np.pi, 4)
    parts = np.array([0.4, 0.3, 0.2, 0.1])[:, None] * np.sin(
        2.0 * np.pi * hertz[:, None] * time + phase[:, None]
    )
    return np.asarray(parts.sum(0))


def _slow(track: F64, seconds: float) -> F64:
    half = max(1, round(seconds * FPS / 2))
    window = np.hanning(2 * half + 1)
    padded = np.pad(track, half, mode="edge")
    return np.asarray(np.convolve(padded, window / window.sum(), mode="valid"))
