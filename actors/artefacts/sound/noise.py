"""Background noise."""

from typing import ClassVar, Final, Literal, get_args

import numpy as np

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import F64, bounded, level_in, speech_mask
from actors.types import F32, SAMPLE_RATE
from model.tasks import Task

Colour = Literal["white", "pink", "speech"]
COLOURS: Final[tuple[Colour, ...]] = get_args(Colour)

_LEAST_SNR_DB: Final = 35.0  # as the severity approaches 0: just heard in pauses
_RANGE_DB: Final = 35.0  # severity 1 is 0 dB: noise as loud as the voice
_PINK_FROM_HZ: Final = 50.0  # flat below, or it would be rumble
_SEGMENT: Final = 512


class Noise(SoundArtefact):
    """Steady noise at an SNR that falls evenly from 35 to 0 dB.

    The SNR is the mean power of the sound where somebody speaks, without DC, over the mean power of
    the noise, so pauses do not count. The seed decides the colour: white, pink (-3 dB an octave
    above 50 Hz) or speech (the video's own long-term spectrum). Where the sum would clip, all of it
    is turned down, which keeps the SNR. Silence has no SNR and stays silence.
    """

    type: ClassVar[str] = "noise"
    title: ClassVar[str] = "background noise"
    group: ClassVar[Group] = "sound"
    # As loud as the voice: listening is an effort throughout.
    harms: ClassVar[dict[Task, float]] = {"audio_quality": 3.3}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``snr_db``."""
        return {"snr_db": _LEAST_SNR_DB - _RANGE_DB * severity}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:
        """Add noise; see the base class."""
        level = level_in(samples, speech_mask(samples))
        if level == 0.0:
            return samples.copy()
        rng = scene.rng(self)
        colour = COLOURS[rng.integers(len(COLOURS))]
        noise = _coloured(rng.standard_normal(samples.size), colour, samples)
        wanted = level * 10 ** (-self.measures(severity)["snr_db"] / 20)
        return bounded(samples + noise * (wanted / np.sqrt(np.mean(np.square(noise)))))


def _coloured(white: F64, colour: Colour, samples: F32) -> F64:
    """Filter white noise [n] to a colour; ``samples`` [n] have the spectrum of ``speech``."""
    import scipy.fft
    from scipy.signal import welch

    if colour == "white":
        return white
    size = scipy.fft.next_fast_len(white.size, real=True)
    hertz = scipy.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    if colour == "pink":
        gain = np.sqrt(_PINK_FROM_HZ / np.maximum(hertz, _PINK_FROM_HZ))
    else:
        # Welch takes the mean off each segment, so DC adds none.
        at, power = welch(
            samples.astype(np.float64), SAMPLE_RATE, nperseg=min(_SEGMENT, samples.size)
        )
        gain = np.interp(hertz, at, np.sqrt(power))
    filtered: F64 = scipy.fft.irfft(scipy.fft.rfft(white, size) * gain, size)[: white.size]
    return filtered
