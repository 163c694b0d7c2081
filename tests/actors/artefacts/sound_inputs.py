"""Sounds that tests of artefacts damage, and the way they do it."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.apply import damaged_sound
from actors.artefacts.chain import Step
from actors.artefacts.registry import ARTEFACTS
from actors.demo.render import VideoSpec, utterance, waveform
from actors.types import F32, SAMPLE_RATE
from tests.faults import read_media, speech_hops
from tests.support import clips_dir

F64 = NDArray[np.float64]

SEVERITIES: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
SEEDS: Final = (1, 2, 3)
VOICES: Final = ("demo", "real")


@lru_cache(maxsize=4)
def voice(name: str) -> F32:
    """Six seconds of the demo's voice, or a real recording; cannot be written to."""
    if name == "demo":
        samples = demo_voice("ada", 6.0, 11)
    else:
        sound = read_media(clips_dir() / "real" / "talk_mpeg4_16k.mp4", max_side=64).sound
        assert sound is not None
        samples = np.clip(sound[: 6 * SAMPLE_RATE], -1.0, 1.0)
    samples.flags.writeable = False
    return samples


def demo_voice(speaker: str, seconds: float, seed: int) -> F32:
    """Say something in the voice of one of the demo's speakers."""
    spec = VideoSpec("source", speaker, 1, seconds, seed)
    return waveform(spec, utterance(spec)).copy()


@lru_cache(maxsize=1)
def donor_voice() -> F32:
    """Another sentence, in another voice."""
    samples = demo_voice("bruno", 7.0, 5)
    samples.flags.writeable = False
    return samples


def damaged(
    samples: F32, type_: str, severity: float, seed: int = 1, donor: F32 | None = None
) -> F32:
    """Apply one artefact as a corpus does."""
    foreign = type_ == "foreign_sound"
    step = Step(type_, severity, seed, "donor" if foreign else None)
    other = donor if donor is not None else donor_voice()
    return damaged_sound(samples, (step,), lambda _: other)


def measure(type_: str, severity: float, name: str | None = None) -> float:
    values = ARTEFACTS[type_].measures(severity)
    return values[name] if name else next(iter(values.values()))


def spoken(samples: F32) -> NDArray[np.bool_]:
    """Where somebody speaks, by a rule that is not the artefacts' own."""
    where = np.repeat(speech_hops(samples), 160)
    return np.pad(where, (0, samples.size - where.size))


def decibels(power: float | F64) -> F64:
    return 10 * np.log10(power)


def loudness_db(samples: F32, where: NDArray[np.bool_]) -> float:
    return float(decibels(samples[where].var(dtype=np.float64)))


def half_spoken(amplitude: float) -> tuple[F32, NDArray[np.bool_]]:
    """Two seconds of noise in four of silence, on a zero line that is off, and where it is."""
    where = np.zeros(4 * SAMPLE_RATE, np.bool_)
    where[SAMPLE_RATE : 3 * SAMPLE_RATE] = True
    noise = np.random.default_rng(8).uniform(-amplitude, amplitude, where.size)
    return (where * noise + 0.05).astype(np.float32), where
