"""Injected faults: each is what it says it is, by a measure of its own, and is found again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from actors import findings
from actors.demo.render import VideoSpec, pictures, utterance
from tests import faults
from tests.fault_bed import Bed, Injected, Source
from tests.fault_cases import injected, judge
from tests.faults import Media
from tests.media import write_video
from tests.talking import faces, voice

RATE = 16_000
SPEC = VideoSpec("clean", "dara", 1, 4.0, 3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    said = utterance(SPEC)
    images = list(pictures(SPEC, said))
    media = Media(images, [i / 25 for i in range(len(images))], said.samples)
    return Source("dara", Bed(tmp_path_factory.mktemp("bed")), lambda: media, SPEC)


def moving(count: int = 50, seed: int = 0) -> Media:
    """A texture that moves a pixel a picture, 25 a second, without sound."""
    coarse = np.random.default_rng(seed).integers(0, 255, (30, 60, 3), np.uint8)
    wide = cv2.resize(coarse, (480, 240), interpolation=cv2.INTER_CUBIC)
    images = [wide[:, i : i + 320].copy() for i in range(count)]
    return Media(images, [i / 25 for i in range(count)], None)


def changes(a: Media, b: Media) -> list[int]:
    return [i for i, (x, y) in enumerate(zip(a.images, b.images, strict=True)) if (x != y).any()]


def still(media: Media) -> list[int]:
    """Pictures that are the same as the one before."""
    pairs = zip(media.images, media.images[1:], strict=False)
    return [i for i, (a, b) in enumerate(pairs, start=1) if np.array_equal(a, b)]


def lead(moved: NDArray[Any], clean: NDArray[Any]) -> int:
    """Samples by which ``moved`` plays earlier, from the peak of the cross-correlation."""
    height = scipy.signal.correlate(clean.astype(float), moved.astype(float), "full")
    return int(scipy.signal.correlation_lags(len(clean), len(moved), "full")[height.argmax()])


# --- sound


@pytest.mark.parametrize("frames", [3, -4, 9])
def test_an_offset_is_as_large_as_it_says(source: Source, frames: int) -> None:
    sound = source.media.sound
    assert sound is not None
    moved = faults.offset_sound(sound, frames)
    assert len(moved) == len(sound)
    assert lead(moved, sound) == frames * 640
    gap = moved[-frames * 640 :] if frames > 0 else moved[: -frames * 640]
    assert 0 < gap.std() < 0.03 * sound.std()


@pytest.mark.parametrize("share", [0.02, 0.08])
def test_clipping_hits_the_share_of_samples_that_it_says(source: Source, share: float) -> None:
    sound = source.media.sound
    assert sound is not None
    clipped = faults.clip_sound(sound, share)
    assert np.abs(clipped).max() == 1
    assert (np.abs(clipped) == 1).mean() == pytest.approx(share, abs=2 / len(sound))
    free = np.abs(clipped) < 1
    gain = clipped[free] @ sound[free] / (sound[free] @ sound[free])
    np.testing.assert_allclose(clipped[free], gain * sound[free], atol=1e-6)


def test_drop_outs_are_gaps_in_speech(source: Source) -> None:
    sound = source.media.sound
    assert sound is not None
    broken, gaps = faults.drop_sound(sound, (0.5, 3.5), seed=2)
    assert len(gaps) == 6
    lost = np.zeros(len(sound), bool)
    for start, end in gaps:
        assert 0.5 <= start < end <= 3.5
        assert 0.019 < end - start < 0.201
        lost[round(start * RATE) : round(end * RATE)] = True
    assert not broken[lost].any()
    np.testing.assert_array_equal(broken[~lost], sound[~lost])
    level = np.sqrt(np.mean(sound[lost] ** 2) / np.mean(sound**2))
    assert level > 0.2  # what was lost was no pause


@pytest.mark.parametrize("snr", [5, 20])
def test_noise_has_the_ratio_that_it_says(source: Source, snr: float) -> None:
    sound = source.media.sound
    assert sound is not None
    noisy = faults.add_noise(sound, snr).astype(float)
    gain = noisy @ sound / (sound.astype(float) @ sound)
    rest = noisy - gain * sound
    ratio = 10 * np.log10(np.mean((gain * sound) ** 2) / np.mean(rest**2))
    assert ratio == pytest.approx(snr, abs=0.1)


def test_speech_is_where_the_voice_is_loud() -> None:
    tone = np.sin(np.arange(RATE) * 0.3).astype(np.float32)
    sound = np.concatenate([0.001 * tone, 0.3 * tone, 0.001 * tone])
    expected = np.repeat([False, True, False], 100)
    np.testing.assert_array_equal(faults.speech_hops(sound), expected)


# --- picture


def test_a_frozen_picture_stands_still_in_its_span_only() -> None:
    media = moving()
    assert still(media) == []
    assert still(faults.freeze_picture(media, (0.4, 1.4))) == list(range(11, 35))


@pytest.mark.parametrize("span", [None, (0.4, 1.0)])
def test_blur_is_a_gaussian(span: faults.Span | None) -> None:
    media = moving()
    blurred = faults.blur_picture(media, 3.0, span)
    assert changes(media, blurred) == list(range(50) if span is None else range(10, 25))
    # Its transfer function at a frequency f, in cycles per pixel, is exp(-2 (pi f sigma)^2).
    clean, soft = (m.images[12].mean(axis=2)[:, 40:-40] for m in (media, blurred))
    window = np.hanning(clean.shape[1])
    before, after = (np.abs(np.fft.rfft(p * window, axis=1)).mean(axis=0) for p in (clean, soft))
    f = np.fft.rfftfreq(clean.shape[1])
    for i in np.flatnonzero((f > 0.02) & (f < 0.09)):
        assert after[i] / before[i] == pytest.approx(np.exp(-2 * (np.pi * f[i] * 3) ** 2), rel=0.25)


def test_a_blurred_face_leaves_the_rest_sharp(source: Source) -> None:
    media = source.media
    blurred = faults.blur_face(media, source.points, 3.0, (1.0, 1.2))
    assert changes(media, blurred) == list(range(25, 30))
    left, top = source.points[26].min(axis=0).astype(int)
    right, bottom = source.points[26].max(axis=0).astype(int)
    eyes = slice(*(source.points[26, i, 1].astype(int) + d for i, d in ((33, -8), (263, 8))))

    def sharpness(image: NDArray[np.uint8]) -> float:
        return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())

    middle = eyes, slice(left + 15, right - 15)
    a, b = media.images[26], blurred.images[26]
    assert sharpness(b[middle]) < 0.2 * sharpness(a[middle])
    np.testing.assert_array_equal(b[: max(0, top - 20)], a[: max(0, top - 20)])
    np.testing.assert_array_equal(b[bottom + 20 :], a[bottom + 20 :])


def test_flicker_is_a_gain_of_its_own_in_every_picture() -> None:
    media = moving()
    light = faults.flicker(media, 0.05, (0.4, 1.4), seed=1)
    ratio = [b.mean() / a.mean() for a, b in zip(media.images, light.images, strict=True)]
    inside = np.array(ratio[10:35])
    assert set(ratio[:10] + ratio[35:]) == {1.0}
    assert np.abs(inside - 1).max() < 0.052
    assert inside.std() == pytest.approx(0.1 / np.sqrt(12), rel=0.35)
    assert abs(np.corrcoef(inside[1:], inside[:-1])[0, 1]) < 0.5


def lips(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Distance of the inner lips over that of the eyes, from the mesh of a video's rows."""
    mesh = np.concatenate([r["landmarks"][r["face_mask"]] for r in rows]).reshape(-1, 468, 3)
    p = mesh[..., :2].astype(float)  # the demo's pictures are square
    gap = np.linalg.norm(p[:, 13] - p[:, 14], axis=1)
    return np.asarray(gap / np.linalg.norm(p[:, 33] - p[:, 263], axis=1))


@pytest.mark.parametrize("drawn", [True, False])
def test_a_frozen_mouth_stands_still_while_the_head_moves(source: Source, drawn: bool) -> None:
    media = source.media
    span = source.place(1.0, np.random.default_rng(0), talking=True)
    if drawn:
        frozen = faults.demo_frozen_mouth(SPEC, media, span)
    else:
        frozen = faults.freeze_mouth(media, source.points, span)
    held = media.inside(span)
    assert len(held) == 25
    assert set(changes(media, frozen)) <= set(held)
    before, after = lips(source.prepared), lips(source.bed.prepared_media(frozen))
    assert np.ptp(before[held]) > 0.08  # the mouth moves there
    # and stands still now, but for the mesh's own noise, which differs by processor (0.0130 seen)
    assert after[held].std() < 0.025
    assert after[held].std() < 0.35 * before[held].std()
    others = np.setdiff1d(np.arange(len(before)), [*held, *range(held.stop, held.stop + 3)])
    np.testing.assert_allclose(after[others], before[others], atol=0.02)
    # The head goes on: what changes from picture to picture lies above the mouth, too.
    brow = int(source.points[held][:, 1, 1].min()) - 10
    steps = [
        np.abs(frozen.images[i][:brow].astype(int) - frozen.images[i - 1][:brow]).max()
        for i in held
    ]
    assert min(steps) > 3


# --- files


def test_media_come_back_from_a_file(tmp_path: Path) -> None:
    media = moving(30)
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(RATE * 30 // 25)).astype(np.float32)
    times = [i / 30 for i in range(30)]
    written = Media(media.images, times, sound)
    assert written.seconds == pytest.approx(1.0)
    back = faults.read_media(faults.write_media(tmp_path / "a.mkv", written))
    np.testing.assert_allclose(back.times, times, atol=1e-3)
    assert back.sound is not None
    np.testing.assert_allclose(back.sound[:16_000], sound[:16_000], atol=1 / 32_000)
    both = zip(back.images, media.images, strict=True)
    worst = max(np.abs(a.mean(axis=2) - b.mean(axis=2)).mean() for a, b in both)
    assert worst < 3  # levels
    # A piece starts at its own first picture, sound included.
    piece = faults.read_media(tmp_path / "a.mkv", 0.5, 0.8, max_side=160)
    assert len(piece.images) == 9
    assert piece.images[0].shape == (120, 160, 3)
    assert piece.sound is not None
    np.testing.assert_allclose(piece.sound[:4700], sound[8000:12_700], atol=1 / 32_000)


def test_sound_before_and_after_the_picture_is_left_out(tmp_path: Path) -> None:
    media = moving(25)
    sound = np.linspace(-0.5, 0.5, RATE, dtype=np.float32)
    path = write_video(
        tmp_path / "a.mkv", media.images, times=[0.2 + i / 25 for i in range(25)], audio=sound,
        audio_codec="pcm_s16le",
    )  # fmt: skip
    back = faults.read_media(path)
    assert back.sound is not None
    np.testing.assert_allclose(back.sound[:12_800], sound[3200:], atol=1e-4)
    assert not back.sound[12_800:].any()


# --- the bed and the judge


def test_another_sound_gives_the_rows_of_the_whole_video(source: Source) -> None:
    clean = Media(faces(40), [i / 25 for i in range(40)], voice(1.6))
    other = faults.clip_sound(clean.sound, 0.05)
    (expected,) = source.bed.encoded(source.bed.prepared_media(replace(clean, sound=other)))
    (quick,) = source.bed.with_sound(source.bed.prepared_media(clean), other)
    assert quick["descriptors"] == expected["descriptors"]
    for name in ("lowlevel", "landmarks", "audio_mask", "face_mask"):
        np.testing.assert_array_equal(quick[name], expected[name])


def test_rows_are_kept(source: Source) -> None:
    clean = source.clean()
    (row,) = source.bed.encoded(source.prepared)
    again = source.bed.kept("dara clean", lambda: pytest.fail("computed again"))
    np.testing.assert_array_equal(again.rows[0]["landmarks"], row["landmarks"])
    assert again.rows[0]["descriptors"] == pytest.approx(row["descriptors"])
    assert again.span is None
    assert clean.rows[0]["end_s"] == row["end_s"] == 4.0


class Found:
    def __init__(self, kind: str, start_s: float, end_s: float, value: float = 1.0) -> None:
        self.kind, self.start_s, self.end_s, self.value = kind, start_s, end_s, value


@pytest.mark.parametrize(
    ("span", "named", "exact"),
    [
        ((2.1, 2.9), True, True),
        ((1.6, 3.4), True, True),
        ((2.8, 3.4), False, False),  # a third of it inside
        ((0.0, 6.0), True, False),  # the clip
        ((0.0, 12.0), False, False),  # two clips, one of them sound
        ((6.0, 12.0), False, False),
    ],
)
def test_the_judge_wants_the_right_segment(
    span: tuple[float, float], named: bool, exact: bool
) -> None:
    clips = [{"start_s": 0.0, "end_s": 6.0}, {"start_s": 6.0, "end_s": 12.0}]
    made = Injected(clips, (2.0, 3.0))
    verdict = judge([Found("mouth_frozen", *span)], "frozen mouth", made)
    assert (verdict.named, verdict.exact) == (named, exact)
    assert not judge([Found("blur", *span)], "frozen mouth", made)


def test_a_fault_throughout_covers_half_of_the_video() -> None:
    clips = [{"start_s": 0.0, "end_s": 6.0}, {"start_s": 6.0, "end_s": 8.0}]
    made = Injected(clips, None, 4)
    assert judge([Found("av_offset", 0, 6, 3.7)], "offset +4", made).value == 3.7
    assert not judge([Found("av_offset", 6, 8)], "offset +4", made)


# --- found again


FEW = ("offset +4", "offset -6", "clipped 8 %, AAC", "drop-outs", "blurred face", "frozen mouth")


@pytest.mark.parametrize("fault", FEW)
def test_a_fault_is_found_where_it_was_put(source: Source, fault: str) -> None:
    made = injected(source, fault)
    found = findings.join([findings.find(row) for row in made.rows])
    assert judge(found, fault, made), [(f.kind, f.start_s, f.end_s, f.value) for f in found]


def test_nothing_is_found_in_the_clean_video(source: Source) -> None:
    found = findings.join([findings.find(row) for row in source.clean().rows])
    assert [(f.kind, f.value) for f in found] == []
