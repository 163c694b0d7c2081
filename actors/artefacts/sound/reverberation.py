"""Sound as from far away in a large room."""

from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import F64, speech_mask, with_level
from actors.types import F32, SAMPLE_RATE
from model.tasks import Task

_RT60_S: Final = (0.15, 2.0)  # a furnished room, a church
_DRR_DB: Final = (20.0, -10.0)
_GAP: Final = SAMPLE_RATE // 500  # 2 ms between the direct sound and the first reflection
_TAIL: Final = round(_RT60_S[1] * SAMPLE_RATE)  # samples; at -60 dB the longest one ends


class Reverberation(SoundArtefact):
    """Convolution with a room's response: RT60 from 0.15 to 2 s (in log), DRR from 20 to -10 dB.

    The response is the direct sound, in its place, and from 2 ms on white noise that decays
    exponentially (Polack's model of the diffuse field: J.-D. Polack, "La transmission de l'énergie
    sonore dans les salles", 1988). RT60 is the time in which it falls by 60 dB, DRR the energy of
    the direct sound over that of the rest. The level where somebody speaks is kept; what rings
    beyond the end is cut.
    """

    type: ClassVar[str] = "reverberation"
    title: ClassVar[str] = "reverberation"
    group: ClassVar[Group] = "sound"
    # Syllables run into each other, yet it is a sound that people know from halls.
    harms: ClassVar[dict[Task, float]] = {"audio_quality": 2.8}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``rt60_s`` and ``drr_db``."""
        shortest, longest = _RT60_S
        driest, wettest = _DRR_DB
        return {
            "rt60_s": shortest * (longest / shortest) ** severity,
            "drr_db": driest + (wettest - driest) * severity,
        }

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:
        """Convolve the sound; see the base class."""
        from scipy.signal import oaconvolve

        tail = self._tail(severity, scene)
        dry = samples.astype(np.float64)
        wet = np.zeros_like(dry)
        if dry.size > _GAP:
            # Air carries no DC: where the zero line of a recording lies does not sound. The median
            # finds it, and is 0 where much is digitally silent.
            wet[_GAP:] = oaconvolve(dry - np.median(dry), tail)[: dry.size - _GAP]
        return with_level(dry + wet, samples, speech_mask(samples))

    def _tail(self, severity: float, scene: SoundScene) -> F64:
        """Return what follows the direct sound (of energy 1) after the gap, [2 s]."""
        values = self.measures(severity)
        time = np.arange(_TAIL) / SAMPLE_RATE
        noise = scene.rng(self).standard_normal(_TAIL)
        tail = noise * 10.0 ** (-3.0 * time / values["rt60_s"])
        energy = 10.0 ** (-values["drr_db"] / 10)
        return np.asarray(tail * np.sqrt(energy / np.square(tail).sum()))
