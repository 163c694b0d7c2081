from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import resample_poly

from actors.sound import SoundTrack, to_mono

RATE = 44_100


def feed(track: SoundTrack, samples: np.ndarray, rate: int, start: float, *, jitter=0.0) -> None:
    rng = np.random.default_rng(0)
    for at in range(0, len(samples), 1024):
        time = Fraction(start + at / rate + rng.uniform(-jitter, jitter))
        track.add(samples[at : at + 1024], rate, time)


def tone(seconds: float, rate: int, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("block", "planar", "want"),
    [
        (np.array([[0, 128, 255]], np.uint8), False, [-1, 0, 127 / 128]),
        (np.array([[-32768, 0, 16384]], np.int16), False, [-1, 0, 0.5]),
        (np.array([[2**30], [-(2**31)]], np.int32), True, [-0.25]),
        (np.array([[0.5, -0.5, 1.0, 0.0]], np.float32), False, [0.0, 0.5]),
        (np.array([[3.0, -2.0, 0.25]], np.float64), True, [1.0, -1.0, 0.25]),
        (np.array([[np.nan, np.inf, -np.inf]], np.float32), True, [0.0, 1.0, -1.0]),
    ],
)
def test_channels_are_averaged_and_scaled(block, planar, want):
    channels = block.shape[0] if planar else (2 if block.shape[1] == 4 else 1)
    mono = to_mono(block, channels, planar=planar)
    assert mono.dtype == np.float32
    np.testing.assert_allclose(mono, want, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_agrees_with_scipy_and_with_the_true_tone(rate):
    track = SoundTrack(60)
    feed(track, tone(2.0, rate), rate, 0.0)
    sound = track.render(Fraction(0), Fraction(2))
    assert len(sound.samples) == 32_000
    inner = slice(1_000, -1_000)
    np.testing.assert_allclose(sound.samples[inner], tone(2.0, 16_000)[inner], atol=2e-4)
    ratio = Fraction(16_000, rate)
    other = resample_poly(tone(2.0, rate), ratio.numerator, ratio.denominator)
    np.testing.assert_allclose(sound.samples[inner], other[:32_000][inner], atol=5e-3)


def test_frequencies_that_16_khz_cannot_hold_are_removed():
    track = SoundTrack(60)
    feed(track, tone(1.0, RATE, 12_000.0), RATE, 0.0)
    samples = track.render(Fraction(0), Fraction(1)).samples
    assert np.abs(samples[500:-500]).max() < 1e-3


def test_the_origin_is_the_first_picture():
    track = SoundTrack(60)
    feed(track, tone(2.0, RATE), RATE, 10.0)
    # A picture that begins 0.5 s after the sound: cut; 0.25 s before it: silence first.
    cut = track.render(Fraction(21, 2), Fraction(1))
    expected = 0.5 * np.sin(2 * np.pi * 440 * (0.5 + np.arange(16_000) / 16_000))
    np.testing.assert_allclose(cut.samples[500:-500], expected[500:-500], atol=2e-4)
    assert (cut.start_s, cut.end_s) == (0, 1)
    early = track.render(Fraction(39, 4), Fraction(1))
    assert (early.start_s, early.end_s) == (0.25, 1)
    assert not early.samples[:4_000].any()


def test_jitter_of_time_stamps_makes_no_seam():
    plain, shaky = SoundTrack(60), SoundTrack(60)
    feed(plain, tone(3.0, RATE), RATE, 0.0)
    feed(shaky, tone(3.0, RATE), RATE, 0.0, jitter=0.015)
    a = plain.render(Fraction(0), Fraction(3)).samples
    b = shaky.render(Fraction(0), Fraction(3)).samples
    # One shift for all of it: that of the first time stamp.
    errors = [np.abs(b[8_000:40_000] - a[8_000 + k : 40_000 + k]).max() for k in range(-240, 241)]
    assert min(errors) < 0.05
    # No seam: the tone's second difference stays what a sine has.
    steepest = 0.5 * (2 * np.pi * 440 / 16_000) ** 2
    assert np.abs(np.diff(b[500:-500], 2)).max() < 1.05 * steepest


def test_a_gap_is_silent_and_what_follows_is_in_time():
    track = SoundTrack(60)
    feed(track, tone(1.0, RATE), RATE, 0.0)
    feed(track, tone(1.0, RATE), RATE, 1.2)
    samples = track.render(Fraction(0), Fraction(22, 10)).samples
    assert not samples[16_000:19_200].any()
    np.testing.assert_allclose(samples[19_700:34_700], tone(1, 16_000)[500:15_500], atol=2e-4)


def test_a_clock_that_runs_away_slowly_is_followed():
    # 0.5 % more time stamps than samples: 50 ms in 10 s, without one jump of that size.
    track = SoundTrack(60)
    pulses = np.zeros(20 * RATE, np.float32)
    pulses[RATE // 2 :: RATE] = 1.0
    for at in range(0, len(pulses), 1024):
        track.add(pulses[at : at + 1024], RATE, Fraction(at, RATE) * Fraction(1005, 1000))
    samples = track.render(Fraction(0), Fraction(20)).samples
    for second in range(2, 19):
        at = round((second + 0.5) * 1.005 * 16_000)
        found = np.abs(samples[at - 1_600 : at + 1_600]).argmax() - 1_600
        assert abs(found) / 16_000 < 0.03


def test_a_change_of_rate_in_the_middle():
    track = SoundTrack(60)
    feed(track, tone(1.0, RATE), RATE, 0.0)
    feed(track, tone(1.0, 8_000), 8_000, 1.0)
    samples = track.render(Fraction(0), Fraction(2)).samples
    np.testing.assert_allclose(samples[500:15_500], tone(1, 16_000)[500:15_500], atol=2e-4)
    np.testing.assert_allclose(samples[16_500:31_500], tone(1, 16_000)[500:15_500], atol=2e-4)


def test_sound_beyond_the_limit_is_not_kept_and_no_sound_is_none():
    track = SoundTrack(1.0)
    assert track.render(Fraction(0), Fraction(1)) is None
    feed(track, tone(5.0, 16_000), 16_000, 0.0)
    assert track.render(Fraction(0), Fraction(5)).end_s < 1.2
