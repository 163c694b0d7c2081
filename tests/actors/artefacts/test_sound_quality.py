"""Artefacts of the sound's signal: noise, clipping, band limit, reverberation."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import butter, correlate, sosfiltfilt, welch

from actors.types import F32, SAMPLE_RATE
from tests.actors.artefacts.sound_inputs import (
    F64,
    SEEDS,
    SEVERITIES,
    VOICES,
    damaged,
    decibels,
    half_spoken,
    loudness_db,
    measure,
    spoken,
    voice,
)

# --- noise


@pytest.mark.parametrize("seed", SEEDS)
def test_snr_by_its_definition(seed: int) -> None:
    samples, where = half_spoken(0.2)
    for severity in SEVERITIES:
        made = damaged(samples, "noise", severity, seed)
        added = made.astype(np.float64) - samples
        assert np.abs(made).max() < 1.0  # nothing was turned down
        snr = decibels(samples[where].var(dtype=np.float64) / np.mean(added**2))
        assert snr == pytest.approx(measure("noise", severity), abs=0.2)
    assert [measure("noise", s) for s in (0, 1)] == [35, 0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VOICES)
def test_noise_of_one_seed_is_one_noise(name: str, seed: int) -> None:
    samples = voice(name)
    added = [damaged(samples, "noise", s, seed).astype(np.float64) - samples for s in SEVERITIES]
    for one, two in pairwise(added):
        assert decibels(np.mean(two**2) / np.mean(one**2)) == pytest.approx(7.0, abs=0.01)
        assert np.corrcoef(one, two)[0, 1] > 0.99999
    snr = loudness_db(samples, spoken(samples)) - decibels(np.mean(added[-1] ** 2))
    assert snr == pytest.approx(0.0, abs=1.0)


def test_noise_has_three_colours() -> None:
    samples = voice("demo")
    hertz, own = welch(samples.astype(np.float64), SAMPLE_RATE, nperseg=512)
    band = (hertz > 150) & (hertz < 7000)
    colours = set()
    for seed in range(12):
        added = damaged(samples, "noise", 1.0, seed).astype(np.float64) - samples
        level = decibels(welch(added, SAMPLE_RATE, nperseg=512)[1][band])
        slope, start = np.polyfit(np.log2(hertz[band]), level, 1)
        if np.std(level - decibels(own[band])) < 1.0:
            colours.add("speech")
        elif np.std(level - slope * np.log2(hertz[band]) - start) < 1.0:
            colours.add({0: "white", -3: "pink"}[round(float(slope))])
        else:
            colours.add(f"unknown, {slope} dB an octave")
    assert colours == {"white", "pink", "speech"}


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_does_not_clip_loud_sound(seed: int) -> None:
    samples, where = half_spoken(0.9)
    made = damaged(samples, "noise", 1.0, seed).astype(np.float64)
    assert np.abs(made).max() == pytest.approx(1.0)
    assert np.sum(np.abs(made) > 0.999) <= 2  # turned down, not cut
    # What is not noise is the sound by one factor.
    gain = (made @ (samples * where)) / ((samples * where) @ (samples * where))
    added = made / gain - samples
    assert gain < 0.9
    assert decibels(samples[where].var() / added.var()) == pytest.approx(0.0, abs=0.3)


# --- clipping


@pytest.mark.parametrize("name", VOICES)
def test_share_of_samples_at_the_limit(name: str) -> None:
    samples = voice(name)
    where = spoken(samples)
    shares = []
    for severity in SEVERITIES:
        made = damaged(samples, "clipping", severity)
        limit = np.abs(made).max()
        flat = np.abs(made) >= (1 - 1e-6) * limit
        shares.append(flat.sum() / where.sum())
        assert shares[-1] == pytest.approx(measure("clipping", severity), rel=0.1)
        # Below the limit it is the original, by one factor; at the limit it was above.
        factors = made[~flat & (np.abs(samples) > 1e-3)] / samples[~flat & (np.abs(samples) > 1e-3)]
        assert np.ptp(factors) < 1e-3 * factors.mean()
        assert np.abs(samples[flat]).min() >= 0.999 * np.abs(samples[~flat]).max()
        assert loudness_db(made, where) == pytest.approx(loudness_db(samples, where), abs=0.2)
    assert (np.diff(shares) > 0).all()


def test_clipping_leaves_clicks_between_zeros() -> None:
    clicks = np.zeros(SAMPLE_RATE, np.float32)
    clicks[6000:10000:4] = 0.5
    np.testing.assert_allclose(damaged(clicks, "clipping", 1.0), clicks, atol=1e-6)


# --- band limit


@pytest.mark.parametrize("severity", SEVERITIES)
def test_band_ends_at_the_cutoff(severity: float) -> None:
    white = np.random.default_rng(1).uniform(-0.3, 0.3, 20 * SAMPLE_RATE).astype(np.float32)
    hertz, before = welch(white, SAMPLE_RATE, nperseg=1024)
    after = welch(damaged(white, "band_limit", severity), SAMPLE_RATE, nperseg=1024)[1]
    gain, cutoff = decibels(after / before), measure("band_limit", severity)
    assert np.interp(cutoff, hertz, gain) == pytest.approx(-6, abs=1)
    assert np.abs(gain[(hertz < cutoff - 150) & (hertz > 20)]).max() < 0.1
    assert gain[hertz > cutoff + 200].max() < -50


@pytest.mark.parametrize("name", VOICES)
def test_energy_above_the_cutoff_and_no_delay(name: str) -> None:
    samples = voice(name)
    left = []
    for severity in SEVERITIES:
        made = damaged(samples, "band_limit", severity)
        hertz, power = welch(made, SAMPLE_RATE, nperseg=1024)
        total = welch(samples, SAMPLE_RATE, nperseg=1024)[1]
        above = hertz > measure("band_limit", severity) + 200
        assert power[above].sum() < 1e-4 * total[above].sum()
        left.append(power[hertz > 500].sum() / total[hertz > 500].sum())
        assert correlate(made, samples, "full", "fft").argmax() == samples.size - 1
    assert (np.diff(left) < 0).all()


def test_band_limit_is_symmetric_in_time_and_keeps_dc() -> None:
    click = np.eye(1, 4001, 2000, dtype=np.float32)[0]
    made = damaged(click, "band_limit", 0.8)
    np.testing.assert_allclose(made, made[::-1], atol=1e-7)
    np.testing.assert_allclose(damaged(0 * click + 0.5, "band_limit", 1.0), 0.5, atol=1e-6)


# --- reverberation


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_rt60_by_schroeder_integration(severity: float, seed: int) -> None:
    click = np.zeros(4 * SAMPLE_RATE, np.float32)
    click[8000] = 0.25
    made = damaged(click, "reverberation", severity, seed).astype(np.float64)
    assert np.abs(made).argmax() == 8000  # the direct sound stays where it was
    assert np.abs(made[:8000]).max() < 1e-9
    assert np.abs(made[8001:8032]).max() < 1e-9  # 2 ms before the first reflection
    tail = np.square(made[8001:])
    drr = decibels(made[8000] ** 2 / tail.sum())
    assert drr == pytest.approx(measure("reverberation", severity, "drr_db"), abs=0.01)
    # Backward integration (M. R. Schroeder, JASA 37, 1965), from -5 to -25 dB: T20.
    decay = decibels(np.maximum(np.cumsum(tail[::-1])[::-1] / tail.sum(), 1e-12))
    part = (decay < -5) & (decay > -25)
    slope = np.polyfit(np.arange(decay.size)[part] / SAMPLE_RATE, decay[part], 1)[0]
    assert -60 / slope == pytest.approx(measure("reverberation", severity, "rt60_s"), rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VOICES)
def test_reverberation_flattens_modulation(name: str, seed: int) -> None:
    samples = voice(name)
    where = spoken(samples)

    low = butter(2, 12, fs=SAMPLE_RATE, output="sos")
    octaves = [
        butter(2, (hertz / 2**0.5, hertz * 2**0.5), "bandpass", fs=SAMPLE_RATE, output="sos")
        for hertz in (500, 1000, 2000, 4000)
    ]

    def intensities(sound: F32) -> list[F64]:
        parts = [sosfiltfilt(octave, sound.astype(np.float64)) for octave in octaves]
        return [sosfiltfilt(low, np.square(part))[::400] for part in parts]

    before = intensities(samples)

    def modulation(sound: F32) -> float:
        """Share of the modulation below 12 Hz that is left, mean over octaves.

        Envelope regression: K. L. Payton, L. D. Braida, JASA 106 (1999).
        """
        left = []
        for own, after in zip(before, intensities(sound), strict=True):
            slope = np.cov(own, after)[0, 1] / own.var(ddof=1)
            left.append(slope * own.mean() / after.mean())
        return float(np.mean(left))

    made = [damaged(samples, "reverberation", s, seed) for s in SEVERITIES]
    left = [modulation(sound) for sound in made]
    assert left[0] < 1.03
    assert (np.diff(left) < 0).all()
    assert left[-1] < 0.4
    # It rings on in the pauses.
    pauses = [loudness_db(sound, ~where) - loudness_db(sound, where) for sound in (samples, *made)]
    assert (np.diff(pauses) > 0).all()
    for sound in made:
        assert loudness_db(sound, where) == pytest.approx(loudness_db(samples, where), abs=1)
