"""Artefacts of the voice and its transmission: robot, drop-outs, codec."""

import io
from itertools import pairwise

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate, stft

from actors.pitch import track_pitch
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

# --- robotic


def pitch_spread(samples: F32) -> tuple[float, float]:
    """Median of the pitch in Hz, and its spread in semitones (16th to 84th percentile, halved).

    Octaves are folded, since trackers mistake them where a formant is strong.
    """
    pitch = track_pitch(samples, samples.size // 160)
    f0 = pitch.f0[pitch.voiced].astype(np.float64)
    median = float(np.median(f0))
    low, high = np.percentile((12 * np.log2(f0 / median) + 6) % 12 - 6, (16, 84))
    return median, float(high - low) / 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VOICES)
def test_a_robot_has_one_pitch(name: str, seed: int) -> None:
    samples = voice(name)
    where = np.flatnonzero(spoken(samples))
    where = where[where < samples.size - 200]
    made = [damaged(samples, "robotic", s, seed) for s in SEVERITIES]
    f0, spread = pitch_spread(made[-1])
    assert 90 < f0 < 140
    assert spread < 0.1  # semitones
    assert pitch_spread(samples)[1] > 1.0
    # The sound repeats itself with the robot's period, more and more.
    period = round(SAMPLE_RATE / f0)
    alike = [np.corrcoef(s[where], s[where + period])[0, 1] for s in (samples, *made)]
    assert (np.diff(alike) > 0).all()
    assert alike[-1] > 0.7
    for sound in made:
        assert loudness_db(sound, spoken(samples)) == pytest.approx(
            loudness_db(samples, spoken(samples)), abs=0.5
        )


@pytest.mark.parametrize("name", VOICES)
def test_a_robot_says_the_same(name: str) -> None:
    def formants(sound: F32) -> F64:
        """Levels [band, time] of thirds of an octave, which tell vowels but not pitch."""
        power = np.abs(stft(sound, SAMPLE_RATE, nperseg=400, noverlap=240)[2]) ** 2
        edges = 40 * 2 ** np.arange(3, 7.5, 1 / 3) / 40
        bands = [power[int(a) : int(b) + 1].sum(axis=0) for a, b in pairwise(edges)]
        return decibels(np.array(bands) + 1e-9)

    before, after = formants(voice(name)), formants(damaged(voice(name), "robotic", 1.0))
    loud = before.max(axis=0) > before.max() - 30
    assert np.corrcoef(before[:, loud].ravel(), after[:, loud].ravel())[0, 1] > 0.8
    levels = [f.max(axis=0) for f in (before, after)]
    found = correlate(levels[1] - levels[1].mean(), levels[0] - levels[0].mean())
    assert abs(int(found.argmax()) - levels[0].size + 1) <= 1  # in time within 10 ms


def test_a_robot_clicks_in_time() -> None:
    at = 48_000
    click = np.zeros(6 * SAMPLE_RATE, np.float32)
    click[at - 1600 : at + 1600 : 8] = 0.5 * np.hanning(400)
    energy = np.square(damaged(click, "robotic", 1.0).astype(np.float64))
    middle = (energy * np.arange(energy.size)).sum() / energy.sum()
    assert middle == pytest.approx(at, abs=32)  # 2 ms


def test_robots_differ() -> None:
    pitches = {round(pitch_spread(damaged(voice("demo"), "robotic", 1.0, s))[0]) for s in range(5)}
    assert len(pitches) >= 4


# --- drop-outs


def gaps_in(made: F32, original: F32) -> NDArray[np.intp]:
    """Runs of zeros where the original is none: [G, 2]."""
    zero = (made == 0) & ~((original == 0) & (np.roll(original, 1) == 0))
    edges = np.flatnonzero(np.diff(np.pad(zero.astype(int), 1)))
    spans = edges.reshape(-1, 2)
    return spans[spans[:, 1] - spans[:, 0] > 80]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VOICES)
def test_dropouts_are_runs_of_zeros_in_speech(name: str, seed: int) -> None:
    samples = voice(name)
    total = spoken(samples).sum()
    shares, lost_before = [], np.zeros(samples.size, np.bool_)
    for severity in SEVERITIES:
        made = damaged(samples, "dropouts", severity, seed)
        gaps = gaps_in(made, samples)
        lengths = gaps[:, 1] - gaps[:, 0]
        assert lengths.min() >= 0.02 * SAMPLE_RATE - 1
        assert lengths.max() <= 0.2 * SAMPLE_RATE + 1
        shares.append(lengths.sum() / total)
        lost = made != samples
        assert not made[lost].any()  # nothing but zeros is new
        assert lost[lost_before].all()  # what a smaller severity loses, a larger one does
        lost_before = lost
    assert (np.diff(shares) > 0).all()
    wanted = [measure("dropouts", s) for s in SEVERITIES]
    np.testing.assert_allclose(shares, wanted, rtol=0.1, atol=0.003)
    assert spoken(samples)[lost_before].mean() > 0.85


def test_dropouts_spare_pauses() -> None:
    samples, where = half_spoken(0.5)
    lost = damaged(samples, "dropouts", 1.0) != samples
    assert lost[where].mean() == pytest.approx(0.4, abs=0.05)
    near = np.convolve(where, np.ones(801), "same") > 0
    assert not lost[~near].any()


def test_few_syllables_lose_something() -> None:
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[8000:8900] = 0.3 * np.random.default_rng(0).standard_normal(900)
    for severity in (0.01, 1.0):
        gaps = gaps_in(damaged(samples, "dropouts", severity), samples)
        assert len(gaps) >= 1


# --- codec


def through_a_file(samples: F32, bit_rate: int) -> tuple[F64, float]:
    """Code to an AAC file in memory and decode it: the samples as they come, and bits a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate, stream.options = bit_rate, {"aac_coder": "fast"}
        padded = np.pad(samples, (0, 4096))
        block = av.AudioFrame.from_ndarray(padded[None], "fltp", "mono")
        block.sample_rate = SAMPLE_RATE
        container.mux([*stream.encode(block), *stream.encode(None)])
    size, file = len(file.getvalue()), io.BytesIO(file.getvalue())
    with av.open(file) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    headers = 7 * len(parts)
    return np.concatenate(parts), 8 * (size - headers) / (padded.size / SAMPLE_RATE)


@pytest.mark.parametrize("name", VOICES)
def test_codec_is_in_time_and_worse_with_fewer_bits(name: str) -> None:
    samples = voice(name)

    def log_spectrum(sound: F32) -> F64:
        return decibels(np.abs(stft(sound, SAMPLE_RATE, nperseg=512)[2]) ** 2 + 1e-9)

    snrs, distances = [], []
    for severity in (0.02, *SEVERITIES):
        made = damaged(samples, "sound_codec", severity)
        assert correlate(made, samples, "full", "fft").argmax() == samples.size - 1
        snrs.append(decibels(samples.var() / np.var(made - samples)))
        difference = log_spectrum(made) - log_spectrum(samples)
        distances.append(np.sqrt(np.square(difference).mean(axis=0)).mean())
    assert (np.diff(snrs) < 0).all()
    assert (np.diff(distances) > 0).all()
    assert snrs[0] > 15
    assert snrs[-1] < 10


def test_a_coded_click_stands_where_it_was() -> None:
    for at in (3000, 8191, 15900):
        click = np.eye(1, SAMPLE_RATE, at, dtype=np.float32)[0]
        made = damaged(click, "sound_codec", 0.1)
        assert np.abs(made).argmax() == at


@pytest.mark.parametrize("severity", SEVERITIES)
def test_codec_is_what_a_file_of_that_bit_rate_holds(severity: float) -> None:
    samples = voice("demo")
    kbit_s = measure("sound_codec", severity)
    decoded, bits = through_a_file(samples, round(1000 * kbit_s))
    assert bits / 1000 == pytest.approx(kbit_s, rel=0.15)
    made = damaged(samples, "sound_codec", severity)
    np.testing.assert_allclose(decoded[1024 : 1024 + samples.size], made, atol=1e-6)
