"""What holds for every artefact of the sound."""

import numpy as np
import pytest

from actors.artefacts.registry import ARTEFACTS
from actors.artefacts.sound import SOUND
from actors.artefacts.sound._common import before_gap, bounded, room_noise, speech_mask, with_level
from actors.types import F32, SAMPLE_RATE
from model.tasks import TASKS
from tests.actors.artefacts.sound_inputs import SEVERITIES, VOICES, damaged, demo_voice, voice
from tests.faults import speech_hops

TYPES = [artefact.type for artefact in SOUND]
SEEDED = [t for t in TYPES if t not in ("clipping", "band_limit", "sound_codec")]


def odd_sounds() -> dict[str, F32]:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    said = demo_voice("ada", 1.0, 3)
    sounds = {
        "silence": np.zeros(SAMPLE_RATE),
        "one second": said,
        "DC alone": np.full(SAMPLE_RATE, -1.0),
        "DC and a voice": 0.6 + 0.3 * said,
        "full scale": np.sign(np.sin(2 * np.pi * 90 * time)),
        "white": np.random.default_rng(0).uniform(-1, 1, SAMPLE_RATE),
        "very quiet": 1e-5 * said,
        "a click": np.eye(1, SAMPLE_RATE, SAMPLE_RATE // 2)[0],
        "half silent": np.concatenate((np.zeros(SAMPLE_RATE), said)),
        "25 samples": said[8000:8025],
    }
    return {name: samples.astype(np.float32) for name, samples in sounds.items()}


def test_all_are_registered() -> None:
    assert len(TYPES) == len(set(TYPES)) == 10
    assert all(ARTEFACTS[artefact.type] is artefact for artefact in SOUND)


@pytest.mark.parametrize("type_", TYPES)
def test_severity_zero_is_the_same_bytes(type_: str) -> None:
    samples = voice("demo")
    assert damaged(samples, type_, 0.0).tobytes() == samples.tobytes()


@pytest.mark.parametrize("name", list(odd_sounds()))
@pytest.mark.parametrize("type_", TYPES)
def test_any_sound_keeps_length_range_and_the_input(type_: str, name: str) -> None:
    samples = odd_sounds()[name]
    before = samples.tobytes()
    for severity in (1e-6, 0.5, 1.0):
        made = damaged(samples, type_, severity)
        assert made.shape == samples.shape
        assert made.dtype == np.float32
        assert np.isfinite(made).all()
        assert np.abs(made).max() <= 1.0
        assert not np.shares_memory(made, samples)
    assert samples.tobytes() == before


@pytest.mark.parametrize("donor", [np.zeros(0), np.zeros(SAMPLE_RATE), np.ones(1), np.ones(90)])
def test_any_donor_will_do(donor: F32) -> None:
    made = damaged(voice("demo"), "foreign_sound", 0.7, donor=donor.astype(np.float32))
    assert made.shape == voice("demo").shape
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.abs(made).max() <= 1.0


@pytest.mark.parametrize("type_", TYPES)
def test_a_minute_of_sound(type_: str) -> None:
    samples = np.tile(voice("demo"), 10)
    made = damaged(samples, type_, 0.6)
    assert made.shape == samples.shape
    assert np.isfinite(made).all()
    assert not np.array_equal(made, samples)


@pytest.mark.parametrize("type_", TYPES)
def test_same_seed_same_bytes(type_: str) -> None:
    samples = voice("demo")
    first = damaged(samples, type_, 0.7, seed=4)
    np.random.seed(0)  # noqa: NPY002 # whatever else draws numbers does not matter
    assert damaged(samples, type_, 0.7, seed=4).tobytes() == first.tobytes()
    others = [damaged(samples, type_, 0.7, seed=seed) for seed in range(5, 11)]
    assert any(not np.array_equal(other, first) for other in others) == (type_ in SEEDED)


@pytest.mark.parametrize("type_", [t for t in TYPES if t != "foreign_sound"])
def test_silence_stays_silence(type_: str) -> None:
    assert not damaged(np.zeros(2 * SAMPLE_RATE, np.float32), type_, 1.0).any()


def test_measures_are_those_of_the_documentation() -> None:
    ends = {a.type: (a.measures(1e-9), a.measures(1.0)) for a in SOUND}
    found = {
        (type_, name): (round(weakest[name], 3), round(strongest[name], 3))
        for type_, (weakest, strongest) in ends.items()
        for name in weakest
    }
    assert found == {
        ("offset", "offset_frames"): (0, 12),
        ("drift", "end_offset_frames"): (0, 12),
        ("foreign_sound", "foreign_share"): (0, 1),
        ("noise", "snr_db"): (35, 0),
        ("clipping", "clipped_share"): (0.001, 0.5),
        ("band_limit", "cutoff_hz"): (8000, 707.107),
        ("reverberation", "rt60_s"): (0.15, 2),
        ("reverberation", "drr_db"): (20, -10),
        ("robotic", "robot_share"): (0, 1),
        ("dropouts", "lost_share"): (0.02, 0.4),
        ("sound_codec", "bitrate_kbit_s"): (64, 4),
    }


@pytest.mark.parametrize("artefact", SOUND, ids=TYPES)
def test_measures_are_monotone_and_harms_are_scores(artefact) -> None:
    steps = [artefact.measures(severity) for severity in (0.0, *SEVERITIES)]
    assert steps[0]
    for name in steps[0]:
        differences = np.diff([step[name] for step in steps])
        assert (differences > 0).all() or (differences < 0).all()
    assert artefact.harms
    assert set(artefact.harms) <= set(TASKS) - {"overall"}
    assert all(0 < points <= 3.5 for points in artefact.harms.values())
    assert (artefact.group == "sync") == ("lip_sync" in artefact.harms)


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("type_", [a.type for a in SOUND if a.group == "sound"])
def test_a_stronger_one_is_further_from_the_original(type_: str, name: str) -> None:
    samples = voice(name).astype(np.float64)

    def distance(severity: float) -> float:
        made = damaged(voice(name), type_, severity).astype(np.float64)
        # Level apart: what cannot be had by turning the original up or down.
        fit = made @ samples / (samples @ samples)
        return float(np.square(made - fit * samples).sum() / np.square(made).sum())

    distances = [distance(severity) for severity in (0.02, *SEVERITIES)]
    assert (np.diff(distances) > 0).all()
    assert distances[0] < 0.03
    assert distances[-1] > 0.15


# --- what they share


@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_speech_is_found_at_any_level(gain: float) -> None:
    samples = voice("demo")
    found = speech_mask((gain * samples + 0.1).astype(np.float32))
    expected = np.repeat(speech_hops(samples), 160)
    assert found.shape == samples.shape
    assert np.mean(found[: expected.size] == expected) > 0.9
    # Known by construction: the demo's utterances begin and end with a pause.
    assert not found[:1600].any()


def test_room_noise_sounds_like_the_quietest_part() -> None:
    rng = np.random.default_rng(2)
    samples = rng.uniform(-0.5, 0.5, 3 * SAMPLE_RATE)
    low = np.convolve(rng.standard_normal(SAMPLE_RATE), np.ones(32) / 32, "same")
    samples[SAMPLE_RATE : 2 * SAMPLE_RATE] = 0.01 * low / low.std()
    samples[:4000] = 0.0  # digital silence is no room
    noise = room_noise(samples.astype(np.float32), np.random.default_rng(3))
    assert noise.shape == samples.shape
    assert 20 * np.log10(noise.std() / 0.01) == pytest.approx(0, abs=3)
    power = np.abs(np.fft.rfft(noise.astype(np.float64))) ** 2
    assert power[: power.size // 16].sum() > 0.7 * power.sum()  # low-pass at 500 Hz


def test_levels_are_kept_and_nothing_clips() -> None:
    samples = voice("demo")
    spoken = speech_mask(samples)
    kept = with_level(0.2 * samples.astype(np.float64), samples, spoken)
    np.testing.assert_allclose(kept, samples, atol=1e-6)
    np.testing.assert_allclose(bounded(np.array([3.0, -1.5, 0.0])), [1.0, -0.5, 0.0])
    np.testing.assert_array_equal(bounded(np.array([0.25, -1.0])), [0.25, -1.0])


def test_a_gap_begins_without_a_click() -> None:
    sound, room = np.full(1000, 0.5, np.float32), np.full(1600, -0.5, np.float32)
    made = before_gap(sound, room)
    np.testing.assert_array_equal(made[:920], sound[:920])
    np.testing.assert_array_equal(made[1000:], room[1000:])
    assert np.abs(np.diff(made)).max() < 1.1 / 80
