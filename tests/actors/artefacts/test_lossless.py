"""Stored videos: what goes in comes out, bit by bit."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.artefacts.lossless import LosslessWriter, time_base
from actors.decode import DecodeConfig, VideoReader
from actors.types import F32, U8, Frame, Sound
from tests.media import write_video


def read(file: Any) -> tuple[list[Frame], float, Sound | None]:
    file.seek(0)
    with VideoReader(file, DecodeConfig()) as reader:
        return list(reader.frames()), reader.duration_s, reader.sound()


def stored(
    pictures: list[U8], times: Any, duration_s: float | Fraction, sound: Sound | None
) -> io.BytesIO:
    file = io.BytesIO()
    with LosslessWriter(file, pictures[0].shape[:2], times, duration_s, sound) as writer:
        for picture in pictures:
            writer.write(picture)
    return file


def noise(count: int, size: tuple[int, int] = (46, 58), seed: int = 0) -> list[U8]:
    """Pictures in which every value differs from its neighbours."""
    return list(np.random.default_rng(seed).integers(256, size=(count, *size, 3), dtype=np.uint8))


def hiss(seconds: float, rate: int = 16_000) -> F32:
    return np.random.default_rng(5).uniform(-1, 1, round(seconds * rate)).astype(np.float32)


def varied(count: int) -> list[float]:
    """Irregular times, each 1 to 8 hundredths of a second after the one before."""
    steps = np.random.default_rng(7).integers(1, 9, count - 1)
    return [float(t) for t in np.append(0, np.cumsum(steps)) / 100]


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "25 fps": ("mp4", {}),
    "30 fps": ("mp4", {"fps": 30}),
    "29.97 fps": ("mp4", {"fps": Fraction(30_000, 1001)}),
    "23.976 fps, milliseconds": ("mkv", {"fps": Fraction(24_000, 1001)}),
    "12 fps": ("mp4", {"fps": 12}),
    "60 fps in a transport stream": ("ts", {"fps": 60}),
    "variable rate": ("mp4", {"times": varied(40)}),
    "44.1 kHz": ("mp4", {"audio": hiss(2, 44_100), "audio_rate": 44_100}),
    "late sound": ("mkv", {"audio": hiss(1), "audio_start_s": 0.123}),
    "sound that ends early": ("mp4", {"audio": hiss(0.5)}),
    "sound that begins first": (
        "mp4",
        {"times": [0.21 + i / 25 for i in range(40)], "audio": hiss(2)},
    ),
    "no sound": ("mp4", {"audio": None}),
    "odd sides": ("mkv", {"pix_fmt": "yuv444p", "size": (47, 59)}),
    "a single picture": ("mp4", {"count": 1, "audio": None}),
}


@pytest.mark.parametrize(("suffix", "options"), CASES.values(), ids=CASES.keys())
def test_a_stored_video_reads_like_its_source(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {
        "audio": hiss(2),
        "audio_codec": "pcm_s16le" if suffix == "mkv" else "aac",
    }
    settings |= options
    pictures = noise(settings.pop("count", 40), settings.pop("size", (46, 58)))
    source = write_video(tmp_path / f"source.{suffix}", pictures, **settings)
    with source.open("rb") as file:
        frames, duration_s, sound = read(file)
    images = [frame.image for frame in frames if frame.image is not None]
    made, its_duration_s, its_sound = read(
        stored(images, [frame.time_s for frame in frames], duration_s, sound)
    )
    assert its_duration_s == duration_s
    assert [frame.time_s for frame in made] == [frame.time_s for frame in frames]
    assert [frame.grid for frame in made] == [frame.grid for frame in frames]
    np.testing.assert_array_equal([frame.image for frame in made], images)
    assert (its_sound is None) == (sound is None) == (settings["audio"] is None)
    if sound is not None:
        assert its_sound is not None
        assert (its_sound.start_s, its_sound.end_s) == (sound.start_s, sound.end_s)
        assert its_sound.samples.tobytes() == sound.samples.tobytes()


@pytest.mark.parametrize(
    ("first", "stop"), [(0, 19_200), (1, 19_199), (777, 16_001), (19_199, 19_200)]
)
def test_sound_is_where_it_was_to_the_sample(first: int, stop: int) -> None:
    samples = np.zeros(19_200, np.float32)
    samples[first:stop] = hiss((stop - first) / 16_000)
    samples[first], samples[stop - 1] = -1.0, 1.0
    sound = Sound(samples, first / 16_000, stop / 16_000)
    _, _, made = read(stored(noise(30), [i / 25 for i in range(30)], 1.2, sound))
    assert made is not None
    assert (made.start_s, made.end_s) == (sound.start_s, sound.end_s)
    assert made.samples.tobytes() == samples.tobytes()


def test_times_without_a_common_base_are_kept_to_a_ten_millionth() -> None:
    times = np.cumsum(np.random.default_rng(3).uniform(0.04, 0.06, 31)) - 0.04
    times -= times[0]
    frames, duration_s, _ = read(stored(noise(30), times[:-1], float(times[-1]), None))
    np.testing.assert_allclose([frame.time_s for frame in frames], times[:-1], rtol=0, atol=1e-7)
    assert duration_s == pytest.approx(times[-1], abs=1e-7)


@pytest.mark.parametrize("ticks", [25, 600, 1000, 12_800, 90_000, 1_000_000])
def test_the_base_of_a_files_clock_is_found_again(ticks: int) -> None:
    """Up to the last pictures of an hour."""
    stamps = np.cumsum(np.random.default_rng(ticks).integers(1, 2 + ticks // 20, 200))
    stamps = np.append(stamps, 3600 * ticks - stamps)
    base = time_base([float(Fraction(int(stamp), ticks)) for stamp in stamps])
    assert Fraction(1, ticks) / base == int(Fraction(1, ticks) / base)
    assert base >= Fraction(1, ticks)


def test_fractions_are_kept() -> None:
    assert time_base([Fraction(i * 1001, 30_000) for i in range(9)]) == Fraction(1, 30_000)
    assert time_base([0.0, 2**0.5]) == Fraction(1, 10_000_000)


def test_same_video_same_bytes() -> None:
    sound = Sound(hiss(0.8), 0.0, 0.8)
    first, second = (
        stored(noise(20), [i / 25 for i in range(20)], 0.8, sound).getvalue() for _ in range(2)
    )
    assert first == second
    assert b"Lavf" not in first  # the muxer's version
    # A QuickTime file begins its clock in 1904; 0 is no date.
    at = first.index(b"mvhd")
    assert first[at + 8 : at + 16] == bytes(8)


def test_pictures_are_written_as_they_come() -> None:
    file = io.BytesIO()
    sizes = []
    with LosslessWriter(file, (46, 58), [i / 25 for i in range(30)], 1.2, None) as writer:
        for picture in noise(30):
            writer.write(picture)
            sizes.append(file.tell())
    assert sizes[20] > sizes[10] > 5 * 46 * 58 * 3


@pytest.mark.parametrize(
    ("times", "duration_s"),
    [([0.0, 0.08, 0.04], 0.2), ([0.04, 0.08], 0.2), ([0.0, 0.04], 0.04), ([], 1.0)],
)
def test_times_must_ascend_from_0(times: list[float], duration_s: float) -> None:
    with pytest.raises(ValueError, match="ascend from 0"):
        LosslessWriter(io.BytesIO(), (8, 8), times, duration_s, None)


def test_sound_beyond_its_bounds_is_refused() -> None:
    samples: NDArray[np.float32] = np.full(1600, 0.5, np.float32)
    for start_s, end_s in ((0.01, 0.1), (0.0, 0.09)):
        with pytest.raises(ValueError, match="not silent"):
            LosslessWriter(io.BytesIO(), (8, 8), [0.0], 0.1, Sound(samples, start_s, end_s))


def test_pictures_must_be_as_many_as_times_and_of_one_size() -> None:
    with (
        pytest.raises(ValueError, match="1 pictures for 2 times"),
        LosslessWriter(io.BytesIO(), (46, 58), [0.0, 0.04], 0.08, None) as writer,
    ):
        writer.write(noise(1)[0])
    with (
        pytest.raises(ValueError, match="picture 1 of 1"),
        LosslessWriter(io.BytesIO(), (46, 58), [0.0], 0.04, None) as writer,
    ):
        list(map(writer.write, noise(2)))
    with (
        pytest.raises(ValueError, match=r"picture 0 of 1: \(58, 46, 3\)"),
        LosslessWriter(io.BytesIO(), (46, 58), [0.0], 0.04, None) as writer,
    ):
        writer.write(noise(1, (58, 46))[0])
