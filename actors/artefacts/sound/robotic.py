"""A voice like a machine's."""

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import F64, speech_mask, with_level
from actors.types import F32, SAMPLE_RATE
from model.tasks import Task

_PERIODS: Final = (115, 175)  # samples: 139 to 91 Hz
_WINDOW: Final = 320  # samples, 20 ms: too short to keep the voice's own harmonics apart
_NFFT: Final = 512
_SPREAD_S: Final = 0.005  # between the lowest and the highest frequency of a grain
_CHUNK: Final = 2000  # windows at a time, so that a long sound needs little memory


class Robotic(SoundArtefact):
    """A buzz of constant pitch that says the same, mixed in by a share equal to the severity.

    Robotisation after U. Zölzer (ed.), "DAFX: Digital Audio Effects", 2nd ed. 2011, chapter on
    time-frequency processing: the spectrum of each 20 ms gets the same phase as all others, and the
    grains follow each other in constant time. So the formants stay, and melody and hiss go. The
    phase is not zero: a grain whose frequencies come one after the other within 5 ms has a peak
    about 5 dB lower. The seed decides the pitch, 91 to 139 Hz. Voice and buzz are equally loud
    before they are mixed as (1 - severity) and severity, and the level where somebody speaks is
    kept as far as it does not clip.
    """

    type: ClassVar[str] = "robotic"
    title: ClassVar[str] = "robotic voice"
    group: ClassVar[Group] = "sound"
    # No person speaks like that, though every word is understood.
    harms: ClassVar[dict[Task, float]] = {"audio_quality": 3.0}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``robot_share``, of the amplitude."""
        return {"robot_share": severity}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:
        """Mix the buzz in; see the base class."""
        period = int(scene.rng(self).integers(_PERIODS[0], _PERIODS[1] + 1))
        spoken = speech_mask(samples)
        if not spoken.any():
            return samples.copy()
        robot = with_level(_buzz(samples, period), samples, spoken).astype(np.float64)
        return with_level((1.0 - severity) * samples + severity * robot, samples, spoken)


def _buzz(samples: F32, period: int) -> F64:
    """Return ``samples`` [n] with one phase in all windows, which are ``period`` samples apart."""
    import scipy.fft

    count = -(-samples.size // period)
    half = _WINDOW // 2
    # Window k is centred on sample k * period.
    padded = np.pad(samples, (half, count * period + half - samples.size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::period][:count]
    shape = np.hanning(_WINDOW + 1)[:-1]
    phase = _phase()
    result = np.zeros(count * period + _NFFT)
    for first in range(0, count, _CHUNK):
        part = windows[first : first + _CHUNK].astype(np.float64)
        part = (part - part.mean(axis=1, keepdims=True)) * shape
        magnitude = np.abs(scipy.fft.rfft(part, _NFFT, axis=1))
        grains = scipy.fft.irfft(magnitude * phase, _NFFT, axis=1)
        # The middle of a grain is its sample 0; what wrapped around goes before it.
        grains = np.roll(grains, _NFFT // 2, axis=1)
        for k, grain in enumerate(grains, start=first):
            result[k * period : k * period + _NFFT] += grain
    return np.asarray(result[_NFFT // 2 : _NFFT // 2 + samples.size])


def _phase() -> NDArray[np.complex128]:
    """Return the factor [257] that delays frequency f by 5 ms x (sqrt(f / 8 kHz) - sqrt(1 / 8)).

    So 1 kHz stays in its place. The phase is minus 2 pi times the integral of the delay.
    """
    share = np.arange(_NFFT // 2 + 1) / (_NFFT // 2)  # of 8 kHz
    area = (2 / 3 * share**1.5 - np.sqrt(1 / 8) * share) * SAMPLE_RATE / 2
    return np.asarray(np.exp(-2j * np.pi * _SPREAD_S * area))
