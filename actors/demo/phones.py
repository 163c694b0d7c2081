"""The sounds that the demo voice knows."""

from dataclasses import dataclass

import numpy as np

PAUSE = "sil"


@dataclass(frozen=True, slots=True)
class Phone:
    """One sound of the demo voice: where the lips aim, and what sounds."""

    opening: float
    width: float
    rounding: float
    formants: tuple[float, ...] = ()  # Hz, vowels and nasals
    voicing: float = 0.0  # amplitude of the pulses
    noise_hz: float = 0.0  # centre of the frication or burst
    noise_bandwidth_hz: float = 0.0
    noise: float = 0.0  # its amplitude
    burst: bool = False  # the noise sounds only at the release


# Formants after the averages of G. E. Peterson and H. L. Barney, JASA 24 (1952), rounded.
VOWELS = {
    "a": Phone(1.00, 0.1, 0.0, (730, 1200, 2500, 3500), 1.0),
    "e": Phone(0.55, 0.6, 0.0, (530, 1800, 2500, 3500), 1.0),
    "i": Phone(0.32, 1.0, 0.0, (300, 2250, 3000, 3600), 1.0),
    "o": Phone(0.60, -0.5, 0.7, (520, 900, 2400, 3400), 1.0),
    "u": Phone(0.30, -0.9, 1.0, (320, 870, 2250, 3300), 1.0),
    "@": Phone(0.45, 0.0, 0.1, (500, 1450, 2450, 3450), 1.0),
}
CONSONANTS = {
    "m": Phone(0.0, 0.0, 0.0, (270, 1000, 2200, 3300), 0.10),
    "b": Phone(0.0, 0.0, 0.0, noise_hz=900, noise_bandwidth_hz=900, noise=0.25, burst=True),
    "p": Phone(0.0, 0.0, 0.0, noise_hz=1200, noise_bandwidth_hz=1500, noise=0.4, burst=True),
    "f": Phone(0.08, 0.1, 0.0, noise_hz=5500, noise_bandwidth_hz=5000, noise=0.06),
    "s": Phone(0.14, 0.5, 0.0, noise_hz=6000, noise_bandwidth_hz=1800, noise=0.11),
    "sh": Phone(0.18, -0.4, 0.6, noise_hz=3200, noise_bandwidth_hz=1500, noise=0.11),
    "t": Phone(0.20, 0.2, 0.0, noise_hz=4500, noise_bandwidth_hz=2500, noise=0.3, burst=True),
    "n": Phone(0.22, 0.1, 0.0, (280, 1500, 2400, 3400), 0.25),
    "l": Phone(0.30, 0.1, 0.0, (360, 1150, 2600, 3400), 0.45),
}
SILENT = Phone(0.0, 0.0, 0.0)
PHONES = {**VOWELS, **CONSONANTS, PAUSE: SILENT}
CLOSED = frozenset({"m", "b", "p"})  # the lips touch
SILENT_CLOSURES = frozenset({"b", "p"})  # and nothing sounds until the release

# How often each consonant begins a syllable, in the order of the table.
CONSONANT_SHARES = np.array([3, 2.5, 2.5, 1, 1, 1, 1, 1, 1]) / 14.0
