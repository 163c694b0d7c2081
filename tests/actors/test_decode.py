import io
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

from actors.decode import DecodeConfig, VideoReader
from actors.types import Frame, Sound
from tests import media
from tests.support import clips_dir

CONFIG = DecodeConfig()
HALF_FRAME = 0.020
MS = 0.001  # FLV, Matroska and ASF count in milliseconds


def read(
    source: Path | bytes, config: DecodeConfig = CONFIG
) -> tuple[VideoReader, list[Frame], Sound | None]:
    data = source if isinstance(source, bytes) else source.read_bytes()
    with VideoReader(io.BytesIO(data), config) as reader:
        frames = list(reader.frames())
        return reader, frames, reader.sound()


def grid_of(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames for _ in frame.grid]


def vary(seconds: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    times = [0.0]
    while times[-1] < seconds:
        times.append(round(times[-1] + rng.uniform(0.017, 0.08), 3))
    return times


# --- picture and sound are from the same instants


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", {"fps": 25, "audio_rate": 44_100}),
        (".mp4", {"fps": 30, "audio_rate": 16_000, "channels": 2}),
        (".mp4", {"fps": 60, "audio_rate": 8_000}),
        (".mp4", {"fps": Fraction(30000, 1001), "audio_rate": 48_000, "first_picture_s": 0.35}),
        (".mp4", {"times": vary(4.0), "audio_rate": 44_100, "codec_options": {"bf": "3"}}),
        (".mp4", {"fps": 12, "audio_codec": "pcm_s16le"}),
        (".mp4", {"fps": 25, "delay_s": 0.1}),
        (".mkv", {"fps": 30, "audio_rate": 44_100}),
        (".mkv", {"times": vary(4.0, 1), "audio_rate": 8_000, "first_picture_s": 0.2}),
        (".mkv", {"fps": 60, "audio_codec": "pcm_s16le", "audio_rate": 44_100}),
        (".avi", {"fps": 25, "audio_codec": "pcm_s16le", "audio_rate": 44_100}),
        (".avi", {"fps": 30, "audio_codec": "pcm_s16le", "codec": "mpeg4"}),
        (".ts", {"fps": 25, "audio_rate": 44_100}),
        (".ts", {"times": vary(4.0, 2), "audio_rate": 16_000}),
        (".webm", {"fps": 30, "codec": "libvpx", "audio_codec": "libopus", "audio_rate": 48_000}),
        (".flv", {"fps": 25, "audio_rate": 44_100}),
        (".mpg", {"fps": 30, "codec": "mpeg2video", "audio_codec": "mp2", "audio_rate": 44_100}),
        (".wmv", {"fps": 25, "codec": "wmv2", "audio_codec": "wmav2", "audio_rate": 44_100}),
    ],
)
def test_a_flash_and_its_beep_are_at_the_same_instant(tmp_path, suffix, options):
    made = media.flash_beep_video(tmp_path / f"v{suffix}", **options)
    reader, frames, sound = read(made.path)
    assert sound is not None
    assert len(sound.samples) == round(reader.duration_s * 16_000)
    assert reader.broken_frames == reader.black_frames == 0

    # Every grid position has the picture that is nearest in the times that were written.
    grid = grid_of(frames)
    times = np.array(made.times)
    for position, frame in enumerate(grid):
        nearest = np.abs(times - position / 25).min()
        assert abs(frame.time_s - position / 25) <= nearest + MS
    assert len(grid) == round(np.ceil((reader.duration_s - 0.002) * 25))

    score = np.correlate(sound.samples, media.beep(16_000), "valid")
    lit = [frame.image.mean() > 150 for frame in grid]
    for instant in made.instants:
        near = max(0, int((instant - 0.2) * 16_000))
        heard = (near + score[near : near + 8_000].argmax()) / 16_000
        assert abs(heard - instant - options.get("delay_s", 0.0)) < 0.002
        seen = next(g / 25 for g, on in enumerate(lit) if on and g / 25 > instant - 0.1)
        # The grid is one frame wide, and a slow source is at most half of its own frame away.
        slack = max(0.0, 0.5 / float(options.get("fps", 25)) - HALF_FRAME)
        assert abs(seen - instant) <= HALF_FRAME + slack + MS or seen - instant < 0.04


def test_a_clip_without_b_frames_or_with_many_gives_the_same_frames(tmp_path):
    counts = []
    for bf in ("0", "3"):
        path = media.write_video(
            tmp_path / f"{bf}.mp4",
            media.counting_images(100),
            codec_options={"bf": bf, "b-adapt": "0"},
        )
        counts.append([media.read_count(f.image) for f in grid_of(read(path)[1])])
    assert counts[0] == counts[1] == list(range(100))


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".ts", ".mkv"])
def test_reordered_pictures_come_in_order_of_display(tmp_path, suffix):
    path = media.write_video(
        tmp_path / f"v{suffix}", media.counting_images(60), codec_options={"bf": "2"}
    )
    _, frames, _ = read(path)
    assert [media.read_count(f.image) for f in frames] == list(range(60))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(60) / 25, atol=MS)


def test_a_faster_source_is_thinned_by_time_and_a_slower_one_repeated(tmp_path):
    fast = media.write_video(tmp_path / "60.mp4", media.counting_images(120), fps=60)
    _, frames, _ = read(fast)
    assert [media.read_count(f.image) for f in frames] == [round(g * 2.4) for g in range(50)]
    slow = media.write_video(tmp_path / "10.mp4", media.counting_images(20), fps=10)
    _, frames, _ = read(slow)
    assert len(frames) == 20
    assert [f.ordinal for f in grid_of(frames)] == [int(g / 2.5 + 0.5) for g in range(48)] + [
        19
    ] * 2


def test_a_second_pass_yields_the_same(tmp_path):
    made = media.flash_beep_video(tmp_path / "v.mp4", seconds=2)
    with made.path.open("rb") as file, VideoReader(file, CONFIG) as reader:
        first = list(reader.frames())
        sound = reader.sound()
        second = list(reader.frames())
        assert np.array_equal(reader.sound().samples, sound.samples)
        next(reader.frames())  # an abandoned pass does no harm
        third = list(reader.frames())
    for again in (second, third):
        assert [(f.ordinal, f.time_s, f.grid) for f in first] == [
            (f.ordinal, f.time_s, f.grid) for f in again
        ]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))


def test_sound_can_be_asked_for_before_any_frame(tmp_path):
    made = media.flash_beep_video(tmp_path / "v.mp4", seconds=2)
    with made.path.open("rb") as file, VideoReader(file, CONFIG) as reader:
        sound = reader.sound()
        assert reader.duration_s == pytest.approx(2.0)
        assert len(list(reader.frames())) == 50
    assert np.array_equal(sound.samples, read(made.path)[2].samples)


# --- sound


def test_sound_shorter_later_and_longer_than_the_picture(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    options = {"audio_codec": "pcm_s16le"}
    late = media.write_video(
        tmp_path / "late.mkv", media.noise_images(75), audio=tone, audio_start_s=1.5, **options
    )
    reader, _, sound = read(late)
    assert reader.duration_s == pytest.approx(3.0)
    assert (len(sound.samples), sound.start_s, sound.end_s) == (48_000, 1.5, 2.5)
    assert not sound.samples[:24_000].any()
    assert not sound.samples[40_000:].any()
    np.testing.assert_allclose(sound.samples[24_000:40_000], tone, atol=1e-4)

    long = media.write_video(
        tmp_path / "long.mkv", media.noise_images(30), audio=np.tile(tone, 4), **options
    )
    reader, _, sound = read(long)
    assert len(sound.samples) == 19_200
    np.testing.assert_allclose(sound.samples, np.tile(tone, 2)[:19_200], atol=1e-4)


def test_no_sound_stream_and_sound_outside_the_picture_are_none(tmp_path):
    assert read(media.write_video(tmp_path / "a.mp4", media.noise_images(30)))[2] is None
    after = media.write_video(
        tmp_path / "b.mkv",
        media.noise_images(30),
        audio=np.ones(16_000) * 0.1,
        audio_start_s=5.0,
        audio_codec="pcm_s16le",
    )
    assert read(after)[2] is None


# --- the picture itself


@pytest.mark.parametrize(
    ("degrees", "flip"),
    [(0, False), (90, False), (180, False), (-90, False), (0, True), (90, True)],
)
def test_rotation_and_mirroring_are_undone(tmp_path, degrees, flip):
    image = np.zeros((48, 96, 3), np.uint8) + 40
    image[:24, :48] = (220, 30, 30)  # upper left: red
    image[24:, :48] = (30, 30, 220)  # lower left: blue
    path = media.write_video(
        tmp_path / "v.mp4", [image] * 25, rotation=degrees, flip=flip, codec_options={"qp": "5"}
    )
    reader, frames, _ = read(path)
    # av_display_matrix_flip negates the turned x, so it mirrors what is already turned.
    shown = np.rot90(image, degrees // 90)
    shown = shown[:, ::-1] if flip else shown
    assert frames[0].image.shape == shown.shape
    assert (reader.info.height, reader.info.width) == shown.shape[:2]
    for y in (0.25, 0.75):
        for x in (0.25, 0.75):
            at = int(y * shown.shape[0]), int(x * shown.shape[1])
            assert np.abs(frames[0].image[at].astype(int) - shown[at]).max() < 30


def test_oblong_pixels_become_square(tmp_path):
    path = media.write_video(
        tmp_path / "v.mp4", media.noise_images(25, (64, 48)), pixel_aspect=Fraction(3, 2)
    )
    reader, frames, _ = read(path)
    assert (reader.info.width, reader.info.height) == (96, 48)
    assert frames[0].image.shape == (48, 96, 3)


COLOURS = [(200, 40, 40), (40, 200, 60), (50, 60, 210), (230, 230, 230), (16, 16, 16)]
KR_KB = {"709": (0.2126, 0.0722), "601": (0.299, 0.114)}  # ITU-R BT.709-6, BT.601-7


@pytest.mark.parametrize(
    ("matrix", "full", "tagged", "size", "bits"),
    [
        ("709", False, True, (64, 64), 8),
        ("709", True, True, (64, 64), 8),
        ("601", False, True, (64, 64), 8),
        ("601", True, True, (64, 64), 8),
        ("601", False, False, (64, 64), 8),
        ("709", False, False, (1280, 720), 8),
        ("709", False, True, (64, 64), 10),
    ],
)
def test_colours_are_right(tmp_path, matrix, full, tagged, size, bits):  # noqa: PLR0917
    path = tmp_path / "v.mp4"
    kr, kb = KR_KB[matrix]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p" if bits == 8 else "yuv420p10le"
        context = stream.codec_context
        context.color_range = 2 if full else 1
        if tagged:
            context.colorspace = 1 if matrix == "709" else 5
        for index, colour in enumerate(COLOURS):
            r, g, b = (c / 255 for c in colour)
            y = kr * r + (1 - kr - kb) * g + kb * b
            cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
            low, luma, chroma = (0, 255, 255) if full else (16, 219, 224)
            frame = av.VideoFrame(*size, stream.pix_fmt)
            frame.color_range = context.color_range
            frame.colorspace = context.colorspace if tagged else 2
            for plane, value in zip(
                frame.planes, (low + luma * y, 128 + chroma * cb, 128 + chroma * cr), strict=True
            ):
                dtype, scale = (np.uint8, 1) if bits == 8 else (np.uint16, 4)
                count = plane.buffer_size // np.dtype(dtype).itemsize
                plane.update(np.full(count, round(value * scale), dtype).tobytes())
            frame.pts = index
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    _, frames, _ = read(path)
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert np.abs(frame.image.astype(int) - colour).max() <= 3


def test_black_frames_are_flagged_and_keep_their_place(tmp_path):
    images = list(media.noise_images(40))
    for index in range(10, 15):
        images[index] = np.full_like(images[0], 4)
    reader, frames, _ = read(media.write_video(tmp_path / "v.mp4", images))
    assert [f.ordinal for f in frames if f.black] == list(range(10, 15))
    assert reader.black_frames == 5
    assert [f.grid for f in frames] == [(g,) for g in range(40)]


def test_a_dark_picture_with_one_light_is_not_black(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[20:24, 30:34] = 200
    assert not any(f.black for f in read(media.write_video(tmp_path / "v.mp4", [image] * 25))[1])


def test_broken_pictures_keep_their_place(tmp_path):
    path = media.write_video(
        tmp_path / "v.mp4", media.counting_images(75), codec_options={"g": "1", "bf": "0"}
    )
    data = bytearray(path.read_bytes())
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    for packet in packets[20:23]:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    reader, frames, _ = read(bytes(data))
    assert [f.ordinal for f in frames if f.image is None] == [20, 21, 22]
    assert reader.broken_frames == 3
    assert [f.grid for f in frames] == [(g,) for g in range(75)]
    assert [media.read_count(f.image) for f in frames[23:]] == list(range(23, 75))


def test_unused_frames_are_not_yielded_and_whole_takes_every_step(tmp_path):
    path = media.write_video(tmp_path / "v.mp4", media.counting_images(200), fps=50)
    _, frames, _ = read(path, DecodeConfig(policy="whole"))
    whole = [f for f in frames if f.whole]
    assert [media.read_count(f.image) for f in whole] == list(range(0, 200, 2))
    assert len(grid_of(frames)) == 100
    assert not any(f.whole for f in read(path)[1])


def test_4k_is_accepted(tmp_path):
    image = np.full((2160, 4096, 3), 90, np.uint8)
    path = media.write_video(tmp_path / "v.mp4", [image] * 3, codec_options={"preset": "ultrafast"})
    assert read(path)[0].info.width == 4096


def test_one_frame_is_read(tmp_path):
    reader, frames, _ = read(media.write_video(tmp_path / "v.mp4", media.noise_images(1)))
    assert len(frames) == 1
    assert reader.duration_s == pytest.approx(0.04)


# --- configuration, and real clips


@pytest.mark.parametrize("hop", [0.0, -6.0, 0.05, 5.99, float("nan"), float("inf")])
def test_a_hop_off_the_grid_is_an_error(hop):
    with pytest.raises(ValidationError, match=r"multiple of 0\.04 s"):
        DecodeConfig(hop_s=hop)


def test_hops_on_the_grid_are_accepted():
    assert [DecodeConfig(hop_s=h).hop_s for h in (6, 0.04, 2.52, 0.12)] == [6, 0.04, 2.52, 0.12]


REAL = {  # seconds of picture: frames of the stream / its rate, from the containers' own tables
    "real/silent_no_audio_track.mp4": 268 / 25,
    "real/talk_30fps.mp4": 354 / 30,
    "real/talk_h264_44k.mp4": 225 / 25,
    "real/talk_variable_rate.mp4": 6.1,
    "real/talk_mpeg4_16k.mp4": 200 / 25,
    "generated/source/may.mp4": 553 / 25,
}


@pytest.mark.parametrize("name", REAL)
def test_real_clips_last_as_long_as_their_tables_say(name):
    path = clips_dir() / name
    with path.open("rb") as file, VideoReader(file, CONFIG) as reader:
        times = np.array([f.time_s for f in grid_of(list(reader.frames()))])
        sound = reader.sound()
        assert reader.duration_s == pytest.approx(REAL[name], abs=MS)
    assert (sound is None) == ("silent" in name)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stamps = sorted(p.pts for p in container.demux(stream) if p.size and not p.is_discard)
        truth = np.array([float((s - stamps[0]) * stream.time_base) for s in stamps])
    wanted = np.arange(len(times)) / 25
    nearest = np.abs(truth[:, None] - wanted).min(axis=0)
    np.testing.assert_allclose(np.abs(times - wanted), nearest, atol=1e-9)
