"""Artefacts between sound and lips, held against cross-correlation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, correlate, correlation_lags, sosfiltfilt
from scipy.stats import theilslopes

from actors.types import F32, SAMPLE_RATE
from tests.actors.artefacts.sound_inputs import (
    SEEDS,
    SEVERITIES,
    VOICES,
    damaged,
    donor_voice,
    measure,
    voice,
)
from tests.faults import speech_hops

FRAME = 640  # samples in 40 ms
SEAM = 80  # samples, 5 ms


def lead_of(made: F32, original: F32) -> int:
    """By how many samples ``made`` plays what is in ``original`` earlier."""
    found = correlate(original, made, "full", "fft")
    return int(correlation_lags(original.size, made.size)[found.argmax()])


def level_db(samples: F32) -> float:
    return float(20 * np.log10(samples.std(dtype=np.float64)))


# --- offset


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VOICES)
def test_offset_by_cross_correlation(name: str, seed: int) -> None:
    samples = voice(name)
    leads = [lead_of(damaged(samples, "offset", s, seed), samples) for s in SEVERITIES]
    assert np.abs(leads).tolist() == [2 * FRAME, 5 * FRAME, 7 * FRAME, 10 * FRAME, 12 * FRAME]
    assert len(set(np.sign(leads))) == 1  # the seed decides, not the severity
    assert [abs(lead) / FRAME for lead in leads] == [measure("offset", s) for s in SEVERITIES]


def test_offset_goes_both_ways() -> None:
    leads = [
        lead_of(damaged(voice("demo"), "offset", 0.5, seed), voice("demo")) for seed in range(12)
    ]
    assert set(leads) == {-6 * FRAME, 6 * FRAME}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", VOICES)
def test_offset_moves_samples_as_they_are_and_fills_the_gap(name: str, seed: int) -> None:
    samples = voice(name)
    made = damaged(samples, "offset", 1.0, seed)
    lead = lead_of(made, samples)
    moved = 12 * FRAME
    if lead > 0:
        np.testing.assert_array_equal(made[: -moved - SEAM], samples[moved:-SEAM])
        gap = made[-moved:]
    else:
        np.testing.assert_array_equal(made[moved + SEAM :], samples[SEAM:-moved])
        gap = made[:moved]
    tenths = samples[: samples.size // 1600 * 1600].reshape(-1, 1600)
    assert level_db(gap) == pytest.approx(level_db(tenths[tenths.std(axis=1).argmin()]), abs=2)
    assert np.count_nonzero(gap) > 0.99 * gap.size  # no digital silence


def test_offset_of_a_sound_that_is_shorter() -> None:
    samples = voice("demo")[5000:10000]
    made = damaged(samples, "offset", 1.0)
    assert made.shape == samples.shape
    assert np.abs(made).max() < np.abs(samples).max() / 2


# --- drift


def clicks(seconds: float) -> F32:
    """Band-limited clicks, one each quarter of a second."""
    sound = np.zeros(round(seconds * SAMPLE_RATE))
    sound[2000::4000] = 1.0
    soft = sosfiltfilt(butter(2, 2000, fs=SAMPLE_RATE, output="sos"), sound)
    return (0.9 * soft / np.abs(soft).max()).astype(np.float32)


def click_times(sound: F32) -> NDArray[np.float64]:
    """Samples at which clicks stand, by their centre of energy."""
    power = np.square(sound.astype(np.float64))
    peaks = np.flatnonzero(power > 0.3)
    peaks = peaks[np.diff(peaks, prepend=-1000) > 100]
    around = np.arange(-30, 31)
    at = [p + around for p in peaks if 30 <= p < sound.size - 30]
    return np.array([(power[i] * i).sum() / power[i].sum() for i in at])


@pytest.mark.parametrize("seconds", [1.5, 6.0, 20.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_drift_is_a_straight_line_from_zero(seed: int, seconds: float) -> None:
    sound = clicks(seconds)
    put = click_times(sound)
    ends = []
    for severity in SEVERITIES:
        found = click_times(damaged(sound, "drift", severity, seed))
        count = min(put.size, found.size)
        lead = (put[:count] - found[:count]) / FRAME
        slope, intercept = np.polyfit(found[:count] / sound.size, lead, 1)
        assert abs(intercept) < 0.005  # frames: 0.2 ms
        np.testing.assert_allclose(lead, slope * found[:count] / sound.size, atol=0.01)
        assert abs(slope) == pytest.approx(measure("drift", severity), abs=0.02)
        ends.append(slope)
    assert len(set(np.sign(ends))) == 1


def envelope(samples: F32) -> NDArray[np.float64]:
    """Loudness every 5 ms."""
    smooth = np.hanning(320) / np.hanning(320).sum()
    return np.sqrt(np.convolve(np.square(samples.astype(np.float64)), smooth, "same")[::80])


def windowed_leads(made: F32, original: F32) -> tuple[list[float], list[float]]:
    """Leads in frames in windows of 1.2 s, and the middles of these in samples.

    Of envelopes: within a window, the waveforms of a stretched sound part.
    """
    window, reach = 240, 13 * 8
    heard = scaled(
        np.lib.stride_tricks.sliding_window_view(np.pad(envelope(original), reach), window)
    )
    played = scaled(np.lib.stride_tricks.sliding_window_view(envelope(made), window))
    times, leads = [], []
    for start in range(0, len(played), 40):
        alike = heard[start : start + 2 * reach + 1] @ played[start]
        if alike.max() > 0.75:
            times.append((start + window / 2) * 80)
            leads.append((int(alike.argmax()) - reach) / 8)
    return leads, times


def scaled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows whose inner product is their correlation."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VOICES)
def test_drift_of_a_voice_by_windowed_cross_correlation(name: str, seed: int) -> None:
    samples = voice(name)
    ends = []
    for severity in SEVERITIES:
        leads, times = windowed_leads(damaged(samples, "drift", severity, seed), samples)
        assert len(leads) >= 7
        ends.append(theilslopes(leads, times)[0] * samples.size)
    assert (np.diff(np.abs(ends)) > 0).all()
    assert len(set(np.sign(ends))) == 1
    np.testing.assert_allclose(np.abs(ends), [measure("drift", s) for s in SEVERITIES], atol=1.0)


def test_drift_changes_pitch_by_no_more_than_its_rate() -> None:
    time = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    for seed in SEEDS:
        made = damaged(tone, "drift", 1.0, seed)[: 9 * SAMPLE_RATE]
        spectrum = np.abs(np.fft.rfft(made * np.hanning(made.size)))
        hertz = spectrum.argmax() / 9
        assert abs(hertz / 1000 - 1) == pytest.approx(0.48 / 10, abs=2e-4)
        far = np.abs(np.fft.rfftfreq(made.size, 1 / SAMPLE_RATE) - hertz) > 50
        assert spectrum[far].max() < 1e-4 * spectrum.max()  # interpolation adds nothing


def test_drift_goes_both_ways_and_keeps_the_level() -> None:
    quarter = voice("demo").size // 4
    ends = []
    for seed in range(8):
        made = damaged(voice("demo"), "drift", 1.0, seed)
        ends.append(lead_of(made[3 * quarter :], voice("demo")[3 * quarter :]))
        first = slice(0, 2 * quarter)
        assert level_db(made[first]) == pytest.approx(level_db(voice("demo")[first]), abs=1)
    assert min(ends) < 0 < max(ends)


# --- foreign sound


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VOICES)
def test_foreign_sound_is_the_donors_in_the_middle(name: str, seed: int) -> None:
    samples, donor = voice(name), donor_voice()
    whole = damaged(samples, "foreign_sound", 1.0, seed)
    changed_before = np.zeros(samples.size, np.bool_)
    shares = []
    for severity in SEVERITIES:
        made = damaged(samples, "foreign_sound", severity, seed)
        changed = made != samples
        first, last = np.flatnonzero(changed)[[0, -1]]
        shares.append((last - first + 1) / samples.size)
        assert shares[-1] == pytest.approx(severity, abs=0.01)
        assert first + last + 1 == pytest.approx(samples.size, abs=200)  # in the middle
        # Inside the fades it is one and the same donor's sound at every severity.
        inside = slice(first + 330, last - 330)
        np.testing.assert_array_equal(made[inside], whole[inside])
        piece = made[inside].astype(np.float64)
        own = samples[inside].astype(np.float64)
        assert abs(np.corrcoef(piece, own)[0, 1]) < 0.2
        found = correlate(donor.astype(np.float64), piece, "valid", "fft")
        at = int(found.argmax())
        assert np.corrcoef(donor[at : at + piece.size], piece)[0, 1] > 0.9999
        assert (changed | ~changed_before).mean() > 0.999
        changed_before = changed
    assert (np.diff(shares) > 0).all()


@pytest.mark.parametrize("gain", [0.2, 1.0])
@pytest.mark.parametrize("name", VOICES)
def test_foreign_sound_is_as_loud_as_the_speech_was(name: str, gain: float) -> None:
    made = damaged(voice(name), "foreign_sound", 1.0, donor=gain * donor_voice())
    spoken = [np.repeat(speech_hops(sound), 160) for sound in (made, voice(name))]
    levels = [
        level_db(sound[where]) for sound, where in zip((made, voice(name)), spoken, strict=True)
    ]
    assert levels[0] == pytest.approx(levels[1], abs=2)


def test_foreign_sound_never_clips() -> None:
    loud = np.clip(30 * voice("demo"), -1, 1)
    made = damaged(loud, "foreign_sound", 1.0)
    assert np.abs(made).max() <= 1.0
    donor = donor_voice().astype(np.float64)
    found = correlate(donor, made.astype(np.float64), "valid", "fft")
    at = int(found.argmax())
    assert np.corrcoef(donor[at : at + made.size], made)[0, 1] > 0.9999


def test_a_short_donor_is_repeated_without_a_click() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    # Not a whole number of periods, so that a bare cut would jump.
    donor = (0.3 * np.sin(2 * np.pi * 100.4 * time)).astype(np.float32)
    made = damaged(voice("demo"), "foreign_sound", 1.0, donor=donor)
    steepest = np.abs(np.diff(made)).max() / np.abs(made).max()
    assert steepest < 1.5 * 2 * np.pi * 100.4 / SAMPLE_RATE
    np.testing.assert_allclose(made[: -SAMPLE_RATE + 320], made[SAMPLE_RATE - 320 :], atol=1e-6)


def test_foreign_sound_begins_where_the_seed_says() -> None:
    starts = set()
    for seed in range(6):
        made = damaged(voice("demo"), "foreign_sound", 1.0, seed).astype(np.float64)
        found = correlate(donor_voice().astype(np.float64), made, "valid", "fft")
        starts.add(int(found.argmax()))
    assert len(starts) == 6


def test_no_cut_clicks() -> None:
    ones = np.full(2 * SAMPLE_RATE, 0.5, np.float32)
    donor = -ones
    made = damaged(ones, "foreign_sound", 0.5, donor=donor)
    assert made.min() < -0.49
    assert np.abs(np.diff(made)).max() < 1.05 / 320  # 20 ms from one to the other
