"""Previews of variants, decoded again by FFmpeg."""

import io
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from scipy.signal import correlate, resample_poly

from actors.artefacts.chain import Step
from actors.artefacts.preview import (
    excerpt,
    film,
    small_size,
    spectrogram,
    still,
    telling_moment,
    views,
)
from actors.artefacts.studio import Studio
from actors.decode import DecodeConfig, VideoReader
from actors.errors import VideoError
from actors.features import FeaturesConfig
from actors.types import Sound, Timings
from tests.media import counting_images, read_count, write_video
from tests.talking import faces, talking_video, voice

LENGTH = 30  # pictures


def sound_of(samples: Any) -> Sound:
    return Sound(np.asarray(samples, np.float32), 0.0, len(samples) / 16_000)


def streams(mp4: bytes) -> dict[str, Any]:
    with av.open(io.BytesIO(mp4)) as container:
        return {stream.type: stream.codec_context for stream in container.streams}


def pictures_of(mp4: bytes) -> tuple[list[np.ndarray], list[float]]:
    with av.open(io.BytesIO(mp4)) as container:
        shown = list(container.decode(video=0))
    return [f.to_ndarray(format="rgb24") for f in shown], [float(f.time) for f in shown]


def sound_in(mp4: bytes) -> np.ndarray:
    with av.open(io.BytesIO(mp4)) as container:
        return np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])


@pytest.fixture(scope="module")
def filmed() -> bytes:
    times = np.arange(LENGTH) / 25
    return film(faces(LENGTH), times, LENGTH / 25, sound_of(voice(LENGTH / 25)))


def test_a_film_is_what_browsers_play_with_its_index_in_front(filmed: bytes) -> None:
    found = streams(filmed)
    assert {kind: codec.name for kind, codec in found.items()} == {"video": "h264", "audio": "aac"}
    assert found["video"].pix_fmt == "yuv420p"
    assert found["audio"].layout.name == "mono"
    assert not found["video"].has_b_frames
    assert filmed.index(b"moov") < filmed.index(b"mdat")


def test_its_pictures_are_those_put_in_at_their_times(filmed: bytes) -> None:
    shown, times = pictures_of(filmed)
    assert times == pytest.approx(np.arange(LENGTH) / 25, abs=1e-4)
    for one, other in zip(shown, faces(LENGTH), strict=True):
        # Swapped channels, a wrong matrix or range are below 25 dB.
        assert cv2.PSNR(one, other) > 33
        assert abs(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))).max() < 1.5


def test_its_sound_begins_with_the_picture(filmed: bytes) -> None:
    heard = sound_in(filmed)
    said = resample_poly(voice(LENGTH / 25), 3, 1)
    assert abs(len(heard) - len(said)) <= 1024
    lags = correlate(heard, said, "full")
    assert abs(int(lags.argmax()) - (len(said) - 1)) <= 2  # samples at 48 kHz


def test_equal_input_gives_equal_bytes_and_no_sound_no_stream(filmed: bytes) -> None:
    times = np.arange(LENGTH) / 25
    again = film(faces(LENGTH), times, LENGTH / 25, sound_of(voice(LENGTH / 25)))
    assert again == filmed
    assert set(streams(film(faces(3), times[:3], 0.12, None))) == {"video"}


def test_uneven_times_are_kept() -> None:
    times = np.array([0.0, 0.1, 0.15, 0.9])
    mp4 = film(faces(4), times, 1.5, sound_of(voice(1.5)))
    assert pictures_of(mp4)[1] == pytest.approx(times, abs=1e-4)
    with av.open(io.BytesIO(mp4)) as container:
        assert float(container.duration / av.time_base) == pytest.approx(1.5, abs=0.03)


def test_an_excerpt_is_the_beginning_without_loss(tmp_path: Path) -> None:
    path = talking_video(tmp_path / "long.mp4", 60)

    def read(file: Any) -> tuple[list[Any], Any]:
        with VideoReader(file, DecodeConfig()) as reader:
            return list(reader.frames()), reader.sound()

    with path.open("rb") as file:
        data = excerpt(file, DecodeConfig(), "long", 1.5)
        frames, sound = read(file)
    cut, heard = read(io.BytesIO(data))
    assert len(cut) == 38  # the last one begins at 1.48 s
    for one, other in zip(cut, frames, strict=False):
        assert one.time_s == other.time_s
        assert np.array_equal(one.image, other.image)
    assert np.array_equal(heard.samples[:24_000], sound.samples[:24_000])


def test_a_short_video_is_its_own_excerpt_and_a_late_sound_none(tmp_path: Path) -> None:
    path = talking_video(
        tmp_path / "late.mkv", 40, audio=voice(0.5), audio_start_s=1.0, audio_codec="pcm_s16le"
    )
    with path.open("rb") as file:
        whole = excerpt(file, DecodeConfig(), "late", 3.0)
        early = excerpt(file, DecodeConfig(), "late", 0.8)
    assert len(pictures_of(whole)[0]) == 40
    assert set(streams(whole)) == {"video", "audio"}
    assert set(streams(early)) == {"video"}


def test_a_broken_file_is_refused() -> None:
    with pytest.raises(VideoError):
        excerpt(io.BytesIO(b"no video at all" * 99), DecodeConfig(), "broken")


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((512, 512), (240, 240)),
        ((1080, 1920), (136, 240)),
        ((1920, 1080), (320, 180)),
        ((101, 63), (100, 64)),  # sides of H.264 are even
        ((1, 3000), (2, 240)),
    ],
)
def test_small_ones_fit_and_keep_their_shape(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert small_size(*size) == small


def test_views_are_those_of_the_variant(tmp_path: Path) -> None:
    images = [cv2.resize(i, (512, 128)) for i in counting_images(25)]
    path = write_video(tmp_path / "count.mp4", images, codec_options={"crf": "10"})
    studio = Studio(FeaturesConfig(), lambda _: path.open("rb"))
    try:
        seen = views(studio.read("a", "a", (), Timings()))
        frozen = views(studio.read("a", "a", (Step("frozen_picture", 1.0, 3),), Timings())).small
        large = [frame.image for frame in studio.read("a", "a", (), Timings()).frames()]
    finally:
        studio.close()
    clean = seen.small
    assert {one.shape for one in clean} == {(60, 240, 3)}
    for detail, whole in zip(seen.details, large, strict=True):
        assert whole is not None
        assert np.array_equal(detail, whole[4:124, 136:376])  # pixel by pixel
    assert [read_count(cv2.resize(one, (128, 32))) for one in clean] == list(range(25))
    assert len(frozen) == 25
    assert telling_moment(clean, [frozen]) > 0


def test_the_telling_moment_is_the_most_changed_picture_of_all_severities() -> None:
    clean = [np.full((4, 4, 3), 100, np.uint8)] * 7
    weak, strong = [one.copy() for one in clean], [one.copy() for one in clean]
    strong[2][:2] = 40
    strong[5][:2] = 50
    weak[5][0] = 104
    assert telling_moment(clean, [strong]) == 2
    assert telling_moment(clean, [weak, strong]) == 5  # shown by both
    assert telling_moment(clean, [clean]) == 3
    assert telling_moment(clean, []) == 3


def test_a_still_is_a_jpeg_with_its_colours() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    data = still(red)
    assert data.startswith(b"\xff\xd8")
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown[..., 2].mean() == pytest.approx(200, abs=8)
    assert shown[..., :2].max() < 12


def test_a_spectrogram_shows_when_and_how_high() -> None:
    times = np.arange(32_000) / 16_000
    tone = np.where(times < 1, 0, 0.5 * np.sin(2 * np.pi * 2000 * times))
    drawn = spectrogram(sound_of(tone)).sum(axis=-1, dtype=int)
    assert drawn.shape == (72, 240)
    assert drawn[:, :115].max() <= 12  # silence is black (the palette's own)
    rows = drawn[:, 130:].mean(axis=1)
    assert abs(int(rows.argmax()) - 72 * 3 / 4) <= 1  # 2 of 8 kHz, from the bottom
