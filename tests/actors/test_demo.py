"""The demo corpus: does the voice say what its score says, and does the face move as it speaks?"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.demo import portrait
from actors.demo.face import MAX_GAP, Face, Pose
from actors.demo.looks import Look, reshape
from actors.demo.mesh import IMAGE_SIZE
from actors.demo.motion import poses
from actors.demo.phones import CLOSED, PAUSE, PHONES, SILENT_CLOSURES
from actors.demo.render import SPEAKERS, VideoSpec, digest_of, render, utterance
from actors.demo.voice import F0_MAX_HZ, F0_MIN_HZ, Utterance, Voice, resonator, speak

RATE, FPS = 16_000, 25


def envelope(samples: NDArray[np.float32], frames: int) -> NDArray[np.float64]:
    """RMS of the 40 ms around the instant of each frame."""
    padded = np.pad(samples.astype(np.float64), 320)
    return np.array([np.sqrt(np.mean(padded[i * 640 : (i + 1) * 640] ** 2)) for i in range(frames)])


def correlation(a: Any, b: Any) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def best_lag(a: NDArray[Any], b: NDArray[Any], reach: int = 6) -> int:
    """Frames by which ``a`` comes after ``b``."""
    middle = slice(reach, len(b) - reach)
    lags = range(-reach, reach + 1)
    return max(lags, key=lambda lag: correlation(np.roll(a, -lag)[middle], b[middle]))


# --- voice


@pytest.fixture(scope="module", params=["bruno", "chen"])
def said(request: pytest.FixtureRequest) -> tuple[Voice, Utterance]:
    voice = SPEAKERS[request.param].voice
    return voice, speak(voice, 12.0, 7)


def test_an_utterance_has_the_length_that_was_asked_for(said: tuple[Voice, Utterance]) -> None:
    _, spoken = said
    assert spoken.samples.shape == (12 * RATE,)
    assert spoken.samples.dtype == np.float32
    assert 0.5 < np.abs(spoken.samples).max() <= 1.0
    for track in (spoken.opening, spoken.width, spoken.rounding, spoken.f0_hz):
        assert track.shape == (12 * FPS,)
    assert spoken.visemes[0].start_s == 0.0
    assert spoken.visemes[-1].end_s == 12.0
    for before, after in zip(spoken.visemes, spoken.visemes[1:], strict=False):
        assert before.end_s == after.start_s > before.start_s
    assert 0.0 <= spoken.opening.min() < 0.01
    assert 0.8 < spoken.opening.max() <= 1.0


def test_syllables_come_at_the_speaker_s_rate(said: tuple[Voice, Utterance]) -> None:
    voice, spoken = said
    vowels = sum(PHONES[v.name].voicing == 1.0 for v in spoken.visemes)
    speech = sum(v.end_s - v.start_s for v in spoken.visemes if v.name != PAUSE)
    assert 3.0 <= voice.rate <= 5.0
    assert vowels / speech == pytest.approx(voice.rate, rel=0.08)


def test_the_pitch_that_is_heard_is_the_pitch_of_the_score(said: tuple[Voice, Utterance]) -> None:
    import librosa

    _, spoken = said
    heard, _, _ = librosa.pyin(
        spoken.samples, fmin=65, fmax=320, sr=RATE, frame_length=1024, hop_length=640
    )
    heard = heard[: len(spoken.f0_hz)]
    both = np.isfinite(heard) & (spoken.f0_hz > 0)
    assert both.sum() > 0.9 * (spoken.f0_hz > 0).sum()
    error = np.abs(heard[both] / spoken.f0_hz[both] - 1)
    assert np.median(error) < 0.01
    assert correlation(heard[both][error < 0.2], spoken.f0_hz[both][error < 0.2]) > 0.95
    voiced = spoken.f0_hz[spoken.f0_hz > 0]
    assert voiced.min() >= F0_MIN_HZ
    assert voiced.max() <= F0_MAX_HZ


def test_lips_are_shut_and_silent_in_closures(said: tuple[Voice, Utterance]) -> None:
    _, spoken = said
    loud = np.sqrt(np.mean(spoken.samples**2))
    shut = 0
    for viseme in spoken.visemes:
        middle = (viseme.start_s + viseme.end_s) / 2
        if viseme.name in CLOSED:
            frame = round(middle * FPS)
            if viseme.start_s <= frame / FPS <= viseme.end_s:
                assert spoken.opening[frame] < 0.02
                shut += 1
        if viseme.name in SILENT_CLOSURES:
            around = round(middle * RATE)
            assert np.sqrt(np.mean(spoken.samples[around - 160 : around + 160] ** 2)) < 0.1 * loud
    assert shut > 5


def test_a_vowel_has_its_formants() -> None:
    """The filter's peaks, seen by SciPy, lie where the table puts them."""
    from scipy.signal import freqz

    for vowel in "aeiou":
        for centre in PHONES[vowel].formants:
            frequency, response = freqz(*resonator(centre, 80.0), worN=8000, fs=RATE)
            assert frequency[np.abs(response).argmax()] == pytest.approx(centre, abs=15)
            assert np.abs(response[0]) == pytest.approx(1.0)


def test_loudness_follows_the_opening_without_delay(said: tuple[Voice, Utterance]) -> None:
    _, spoken = said
    loudness = envelope(spoken.samples, len(spoken.opening))
    assert correlation(loudness, spoken.opening) > 0.6
    assert abs(best_lag(loudness, spoken.opening)) <= 1


def test_a_seed_decides_the_utterance() -> None:
    voice = Voice()
    first, again, other = speak(voice, 2.0, 3), speak(voice, 2.0, 3), speak(voice, 2.0, 4)
    np.testing.assert_array_equal(first.samples, again.samples)
    np.testing.assert_array_equal(first.opening, again.opening)
    assert first.visemes == again.visemes != other.visemes


@pytest.mark.parametrize("seconds", [1.0, 1.04, 6.0, 7.48])
def test_any_length_can_be_said(seconds: float) -> None:
    spoken = speak(Voice(), seconds, 0)
    assert len(spoken.samples) == round(seconds * RATE)
    assert len(spoken.opening) == round(seconds * FPS)


def test_too_short_an_utterance_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 s"):
        speak(Voice(), 0.9, 0)


# --- face


def face_mesh(*, static: bool) -> Any:
    import mediapipe as mp

    return mp.solutions.face_mesh.FaceMesh(
        static_image_mode=static, max_num_faces=1, min_detection_confidence=0.5
    )


def mesh_of(mesh: Any, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Face Mesh's points in pixels, [468, 2]."""
    found = mesh.process(image).multi_face_landmarks
    assert found, "no face"
    height, width = image.shape[:2]
    return np.array([[p.x * width, p.y * height] for p in found[0].landmark])


def distance(points: NDArray[np.float64], a: int, b: int) -> float:
    return float(np.hypot(*(points[a] - points[b])))


def lip_opening(points: NDArray[np.float64]) -> float:
    return distance(points, 13, 14) / distance(points, 33, 263)


def test_the_table_of_key_points_agrees_with_face_mesh() -> None:
    import cv2

    picture = portrait.load()
    x, y, side, scale = 104, 0, 256, 4
    crop = picture[y : y + side, x : x + side]
    crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    with face_mesh(static=True) as mesh:
        found = mesh_of(mesh, crop) / scale + [x, y]
    table = portrait.array(portrait.MEASURED)
    error = np.hypot(*(found[list(portrait.MEASURED)] - table).T)
    assert error.max() < 1.5  # pixels of 512, interocular distance 63
    assert error.mean() < 0.5


def test_a_missing_portrait_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ModuleNotFoundError, match="pip install 'scikit-image"):
        portrait.load()


@pytest.mark.parametrize("name", list(SPEAKERS))
def test_every_speaker_opens_mouth_and_shuts_eyes_measurably(name: str) -> None:
    face = Face(SPEAKERS[name].look)
    with face_mesh(static=True) as mesh:
        openings = [
            lip_opening(mesh_of(mesh, face.draw(Pose(opening=o)))) for o in (0, 0.2, 0.5, 1)
        ]
        rest = mesh_of(mesh, face.draw(Pose()))
        blinking = mesh_of(mesh, face.draw(Pose(blink=1.0)))
        rounded = mesh_of(mesh, face.draw(Pose(opening=0.3, width=-0.9, rounding=1.0)))
        spread = mesh_of(mesh, face.draw(Pose(opening=0.3, width=1.0)))
    assert openings[0] < 0.05
    assert (np.diff(openings) > 0.02).all()
    assert openings[-1] == pytest.approx(MAX_GAP / portrait.INTEROCULAR, rel=0.3)
    for upper, lower in ((159, 145), (386, 374)):
        assert distance(blinking, upper, lower) < 0.7 * distance(rest, upper, lower)
    assert distance(rounded, 61, 291) < 0.93 * distance(spread, 61, 291)


def test_speakers_differ_in_shape_and_the_background_stays() -> None:
    points = np.array([[130.0, 10.0], [320.0, 10.0], [125.0, 150.0], [227.0, 100.0]])
    for speaker in SPEAKERS.values():
        moved = reshape(points, speaker.look)
        np.testing.assert_allclose(moved[:3], points[:3], atol=0.6)
    ends = np.array([portrait.LEFT_UPPER_LID[33], portrait.RIGHT_UPPER_LID[263]])
    wide = reshape(ends, Look(width=0.1))
    assert np.hypot(*(wide[1] - wide[0])) == pytest.approx(1.1 * portrait.INTEROCULAR, rel=0.01)
    np.testing.assert_array_equal(reshape(ends, Look()), ends)


def test_a_moving_head_leaves_the_corners_of_the_picture_alone() -> None:
    face = Face(Look())
    rest, turned = face.draw(Pose()), face.draw(Pose(roll=0.05, shift_x=3.0, yaw=3.0, scale=1.02))
    assert rest.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert rest.dtype == np.uint8
    for corner in (np.s_[:20, :30], np.s_[:20, -30:]):
        assert np.abs(rest[corner].astype(int) - turned[corner]).max() <= 2
    assert np.abs(rest.astype(int) - turned)[100:250, 80:240].mean() > 5


def test_poses_take_the_mouth_from_the_voice_and_blink() -> None:
    spoken = speak(Voice(), 12.0, 5)
    moves = poses(spoken, 5)
    np.testing.assert_array_equal([p.opening for p in moves], spoken.opening)
    assert [p.blink for p in moves].count(1.0) >= 2
    assert max(abs(p.roll) for p in moves) < 0.03
    assert moves == poses(spoken, 5) != poses(spoken, 6)


# --- video


def decode(path: Path) -> tuple[list[NDArray[np.uint8]], list[float], NDArray[np.float32], float]:
    """Frames, their times, the sound and the time of its first sample."""
    import av

    with av.open(str(path)) as container:
        pictures = [(f.to_ndarray(format="rgb24"), f.time) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        sounds = list(container.decode(audio=0))
    assert sounds[0].sample_rate == RATE
    samples = np.concatenate([s.to_ndarray()[0] for s in sounds])
    return [p for p, _ in pictures], [t for _, t in pictures], samples, float(sounds[0].time)


@pytest.mark.parametrize(("speaker", "seed"), [("bruno", 101), ("dara", 3)])
def test_lips_in_the_file_follow_the_known_visemes(tmp_path: Path, speaker: str, seed: int) -> None:
    spec = VideoSpec("clean", speaker, 1, 6.0, seed)
    path = tmp_path / "video.mp4"
    render(spec, path)
    assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"]
    images, times, samples, sound_start = decode(path)
    spoken = utterance(spec)
    np.testing.assert_allclose(times, np.arange(150) / FPS, atol=1e-6)
    with face_mesh(static=False) as mesh:
        seen = np.array([lip_opening(mesh_of(mesh, image)) for image in images])
    assert correlation(seen, spoken.opening) > 0.9
    assert best_lag(seen, spoken.opening) == 0
    # The sound in the file is the utterance, on the picture's clock.
    first = round(sound_start * RATE)
    assert abs(first + len(samples) - 6 * RATE) <= 1024
    piece = spoken.samples[16_000:64_000]
    shifts = np.arange(-800, 801)
    match = [float(piece @ samples[16_000 - first + s : 64_000 - first + s]) for s in shifts]
    assert abs(shifts[int(np.argmax(match))]) <= 16  # 1 ms
    loudness = envelope(samples[max(0, -first) :], 150)
    assert abs(best_lag(loudness, seen)) <= 1


def test_the_same_specification_gives_the_same_file(tmp_path: Path) -> None:
    spec = VideoSpec("clean", "chen", 1, 1.0, 9)
    render(spec, tmp_path / "a.mp4")
    render(spec, tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert digest_of(tmp_path / "a.mp4") == spec.digest
    other = VideoSpec("clean", "chen", 1, 1.0, 10)
    assert other.digest != spec.digest
    (tmp_path / "c.mp4").write_bytes(b"not a video")
    assert digest_of(tmp_path / "c.mp4") is None


def test_a_failed_rendering_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Face, pose: Pose) -> NDArray[np.uint8]:
        raise RuntimeError("out of paint")

    monkeypatch.setattr(Face, "draw", broken)
    with pytest.raises(RuntimeError, match="out of paint"):
        render(VideoSpec("clean", "ada", 1, 1.0, 0), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []
