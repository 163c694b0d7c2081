"""Sound without its upper frequencies."""

from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import bounded
from actors.types import F32, SAMPLE_RATE
from model.tasks import Task

_OCTAVES: Final = 3.5  # below 8 kHz: severity 1 is 707 Hz
_HALF: Final = 200  # samples of the filter on each side of its middle
_KAISER: Final = 8.0  # -80 dB; the filter falls within 200 Hz


class BandLimit(SoundArtefact):
    """Low-pass whose cutoff (-6 dB) falls evenly in octaves from 8 kHz to 707 Hz.

    A symmetric windowed-sinc filter, so nothing is delayed. 3.4 kHz, the telephone, is about
    severity 0.35. The level is not brought back: what remains is as loud as it was.
    """

    type: ClassVar[str] = "band_limit"
    title: ClassVar[str] = "muffled sound"
    group: ClassVar[Group] = "sound"
    # Below 700 Hz a voice is heard, words hardly are; nothing hurts the ear.
    harms: ClassVar[dict[Task, float]] = {"audio_quality": 2.6}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``cutoff_hz``."""
        return {"cutoff_hz": SAMPLE_RATE / 2 * 2.0 ** (-_OCTAVES * severity)}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:  # noqa: ARG002
        """Filter the sound; nothing is random. See the base class."""
        from scipy.signal import firwin, oaconvolve

        if not samples.size:
            return samples.copy()
        # A filter needs a cutoff below half the rate; nobody hears those 8 Hz.
        cutoff = min(self.measures(severity)["cutoff_hz"], 0.4995 * SAMPLE_RATE)
        taps = firwin(2 * _HALF + 1, cutoff, window=("kaiser", _KAISER), fs=SAMPLE_RATE)
        # Held beyond its ends, or DC would begin and end with a step.
        padded = np.pad(samples, _HALF, mode="edge").astype(np.float64)
        return bounded(oaconvolve(padded, taps, mode="valid"))
