"""Damaged demo videos: is each damage what it says it is, by a measure of its own?"""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.demo.damage import (
    CLEAN_SCORE,
    HARM,
    KINDS,
    Damage,
    Kind,
    damaged_frames,
    damaged_poses,
    damaged_sound,
    true_scores,
)
from actors.demo.face import Face, Pose
from actors.demo.looks import Look
from actors.demo.motion import poses
from actors.demo.render import VideoSpec, pictures, render, utterance, waveform
from actors.demo.voice import Utterance
from model.tasks import HIGH, LOW, TASKS

RATE, FPS, FRAME = 16_000, 25, 640
CLEAN = VideoSpec("clean", "bruno", 1, 3.0, 11)


def with_damage(kind: Kind, severity: float, direction: int = 1) -> VideoSpec:
    return replace(CLEAN, damage=Damage(kind, severity, direction))


@pytest.fixture(scope="module")
def said() -> Utterance:
    return utterance(CLEAN)


@pytest.fixture(scope="module")
def short() -> list[NDArray[np.uint8]]:
    """The clean video's first second."""
    spec = replace(CLEAN, seconds=1.0)
    return list(pictures(spec, utterance(spec)))


def lead(damaged: NDArray[Any], clean: NDArray[Any]) -> int:
    """Samples by which ``damaged`` plays earlier, from the peak of the cross-correlation."""
    from scipy.signal import correlate, correlation_lags

    height = correlate(clean.astype(np.float64), damaged.astype(np.float64), "full")
    return int(correlation_lags(len(clean), len(damaged), "full")[height.argmax()])


def decibel(ratio: Any) -> Any:
    return 10 * np.log10(ratio)


# --- nothing where severity is 0


@pytest.mark.parametrize("kind", KINDS)
def test_severity_0_is_the_clean_video(
    kind: Kind, said: Utterance, short: list[NDArray[np.uint8]]
) -> None:
    none = with_damage(kind, 0.0)
    np.testing.assert_array_equal(waveform(none, said), said.samples)
    moves = poses(said, CLEAN.seed)
    assert damaged_poses(moves, Damage(kind, 0.0)) == moves
    shown = list(damaged_frames(iter(short), Damage(kind, 0.0)))
    np.testing.assert_array_equal(np.array(shown), np.array(short))


def test_a_damage_touches_only_its_own_place(
    said: Utterance, short: list[NDArray[np.uint8]]
) -> None:
    moves = poses(said, CLEAN.seed)
    touched: dict[str, set[Kind]] = {"sound": set(), "poses": set(), "frames": set()}
    for kind in KINDS:
        damage = Damage(kind, 1.0)
        if not np.array_equal(damaged_sound(said.samples, damage, 1), said.samples):
            touched["sound"].add(kind)
        if damaged_poses(moves, damage) != moves:
            touched["poses"].add(kind)
        shown = damaged_frames(iter(short), damage)
        if not np.array_equal(np.array(list(shown)), np.array(short)):
            touched["frames"].add(kind)
    assert touched == {
        "sound": {"offset", "noise"},
        "poses": {"frozen_mouth"},
        "frames": {"blur"},
    }


# --- sound


@pytest.mark.parametrize(("severity", "direction"), [(0.25, 1), (0.6, -1), (1.0, 1), (1.0, -1)])
def test_an_offset_moves_the_sound_by_whole_frames(
    said: Utterance, severity: float, direction: int
) -> None:
    damage = Damage("offset", severity, direction)
    assert damage.offset_frames == direction * round(12 * severity)
    moved = damaged_sound(said.samples, damage, 1)
    assert moved.shape == said.samples.shape
    assert moved.dtype == np.float32
    assert lead(moved, said.samples) == damage.offset_frames * FRAME
    # What the sound left behind is the quiet of the room, neither silence nor speech.
    gap = abs(damage.offset_frames) * FRAME
    left = moved[-gap:] if direction > 0 else moved[:gap]
    assert abs(decibel(np.var(left) / np.var(said.samples[:1600]))) < 1.0


def test_a_positive_offset_lets_the_sound_lead_in_the_file(tmp_path: Path, said: Utterance) -> None:
    import av

    spec = with_damage("offset", 0.5)
    render(spec, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        sounds = list(container.decode(audio=0))
    first = round(float(sounds[0].time) * RATE)
    samples = np.concatenate([s.to_ndarray()[0] for s in sounds])[max(0, -first) :]
    assert abs(lead(samples, said.samples) - 6 * FRAME) <= 16  # 1 ms: the codec's own
    # The lips, which stayed, now follow the sound: the envelope fits them best 6 frames later.
    loudness = np.abs(samples[: 70 * FRAME].reshape(70, FRAME)).mean(axis=1)
    fit = [np.corrcoef(loudness[:55], said.opening[k : k + 55])[0, 1] for k in range(13)]
    assert int(np.argmax(fit)) in (6, 7)  # frame i's sound is that of [i, i + 1): half a frame late


@pytest.mark.parametrize("severity", [0.1, 0.5, 1.0])
def test_noise_has_the_ratio_that_it_names(said: Utterance, severity: float) -> None:
    damage = Damage("noise", severity)
    assert damage.snr_db == pytest.approx(35 - 30 * severity)
    for clean in (said.samples, np.clip(3.0 * said.samples, -1, 1)):  # the second would clip
        noisy = damaged_sound(clean, damage, 1).astype(np.float64)
        assert np.abs(noisy).max() <= 1.0
        # The part that goes with the clean sound, and the rest.
        gain = noisy @ clean / (clean @ clean.astype(np.float64))
        noise = noisy - gain * clean
        assert 0.5 < gain < 1.01
        snr = decibel(np.mean(np.square(gain * clean)) / np.mean(noise**2))
        assert snr == pytest.approx(damage.snr_db, abs=0.1)
        assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.02  # white


# --- picture


def test_blur_is_a_gaussian_that_takes_sharpness(short: list[NDArray[np.uint8]]) -> None:
    import cv2
    from scipy.ndimage import gaussian_filter

    sharpness = []
    for severity in (0.0, 0.3, 0.6, 1.0):
        damage = Damage("blur", severity)
        shown = next(damaged_frames(iter(short[:1]), damage))
        gray = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)
        sharpness.append(cv2.Laplacian(gray, cv2.CV_64F).var())
        sigma = damage.measures(25)["sigma_px"]
        assert sigma == pytest.approx(3.0 * severity)
        expected = gaussian_filter(short[0].astype(float), (sigma, sigma, 0), mode="mirror")
        assert np.abs(shown - expected).max() < 2.0  # levels of 255
    assert (np.diff(sharpness) < 0).all()
    assert sharpness[-1] < 0.1 * sharpness[0]


def test_a_frozen_mouth_stands_still_while_the_head_moves() -> None:
    moves = [
        Pose(
            opening=0.5 + 0.4 * np.sin(i), width=0.1 * np.cos(i), rounding=0.02 * i, roll=0.001 * i
        )
        for i in range(40)
    ]
    damage = Damage("frozen_mouth", 0.5)
    frozen = damaged_poses(moves, damage)
    assert [replace(p, opening=0, width=0, rounding=0) for p in frozen] == [
        replace(p, opening=0, width=0, rounding=0) for p in moves
    ]
    # Drawn with the head at rest, only the mouth can change the picture.
    face = Face(Look())
    drawn = np.array([face.draw(replace(p, roll=0.0)) for p in frozen], dtype=int)
    still = np.abs(np.diff(drawn, axis=0)).max(axis=(1, 2, 3)) == 0
    assert still.tolist() == [10 <= i < 29 for i in range(39)]
    assert damage.measures(40) == {"start_s": 10 / FPS, "end_s": 30 / FPS}


# --- scores


@pytest.mark.parametrize("kind", KINDS)
def test_scores_fall_in_the_harmed_tasks_and_stay_in_the_others(kind: Kind) -> None:
    steps = [true_scores(Damage(kind, s)) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    harmed = {*HARM[kind], "overall"}
    assert set(HARM) == set(get_args(Kind))
    for task in TASKS:
        track = [scores[task] for scores in steps]
        assert track[0] == CLEAN_SCORE
        assert LOW < min(track) <= max(track) < HIGH
        if task in harmed:
            assert (np.diff(track) < -0.1).all()
        else:
            assert set(track) == {CLEAN_SCORE}


def test_overall_is_half_the_worst_and_half_the_mean() -> None:
    assert set(true_scores(None).values()) == {4.5}
    assert list(true_scores(None)) == list(TASKS)
    # Lip sync 4.5 - 0.5 x 3, cross-modal 4.5 - 0.5 x 2.5; worst 3, mean 3.8125.
    scores = true_scores(Damage("offset", 0.5))
    assert scores == pytest.approx(
        {"lip_sync": 3.0, "expression": 4.5, "audio_quality": 4.5, "cross_modal": 3.25,
         "overall": 3.40625}
    )  # fmt: skip


# --- specification


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tilt", 0.5), "unknown damage 'tilt': choose from offset"),
        (("blur", 1.5), r"lies in \[0, 1\], not 1.5"),
        (("blur", float("nan")), "not nan"),
        (("offset", 0.5, 0), "1 or -1, not 0"),
    ],
)
def test_a_wrong_damage_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Damage(*arguments)


def test_the_damage_is_part_of_the_digest_and_clean_videos_keep_theirs() -> None:
    specs = [CLEAN, *(with_damage(kind, s) for kind in KINDS for s in (0.5, 0.6))]
    specs.append(with_damage("offset", 0.5, -1))
    assert len({spec.digest for spec in specs}) == len(specs)
    # Regression value: with another digest, every corpus out there would be drawn again.
    assert VideoSpec("clean", "ada", 1, 12.0, 0).digest == "7b5f83252b5a807a6ee72533ea17c8ef"


def test_the_same_damage_is_the_same_video(tmp_path: Path) -> None:
    spec = replace(with_damage("noise", 0.7), seconds=1.0)
    render(spec, tmp_path / "a.mp4")
    render(spec, tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    said = utterance(CLEAN)
    noisy = with_damage("noise", 0.7)
    np.testing.assert_array_equal(waveform(noisy, said), waveform(noisy, said))
