import ctypes
import io
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from actors.decode import DecodeConfig, VideoReader
from actors.errors import VideoError
from tests import media

CONFIG = DecodeConfig()


def read(source: Path | bytes, config: DecodeConfig = CONFIG) -> float:
    """Read all of a video, picture and sound; return its duration."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    with VideoReader(io.BytesIO(data), config) as reader:
        for _ in reader.frames():
            pass
        reader.sound()
        return reader.duration_s


def failure(source: Path | bytes, config: DecodeConfig = CONFIG) -> VideoError:
    with pytest.raises(VideoError) as caught:
        read(source, config)
    return caught.value


# --- limits and bad files


def test_limits_of_duration_and_streams(tmp_path):
    path = media.write_video(tmp_path / "v.mp4", media.noise_images(75), audio=np.zeros(48_000))
    assert failure(path, DecodeConfig(max_duration_s=2)).reason == "too_long"
    assert failure(path, DecodeConfig(max_streams=1)).reason == "too_many_streams"
    # A live Matroska says no duration: the pictures themselves tell.
    live = media.write_video(
        tmp_path / "v.mkv", media.noise_images(75), container_options={"live": "1"}
    )
    assert failure(live, DecodeConfig(max_duration_s=2)).reason == "too_long"


def test_a_picture_beyond_the_limit_is_refused(tmp_path):
    path = media.write_video(tmp_path / "v.mp4", media.noise_images(25, (640, 480)))
    error = failure(path, DecodeConfig(max_pixels=640 * 479))
    assert (error.stage, error.reason) == ("decode", "too_large")
    assert "640x480" in error.message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is no video\n" * 50, "not_a_video"),
        (np.random.default_rng(0).bytes(100_000), "not_a_video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "not_a_video"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(64), "unreadable"),
        (b"\x1a\x45\xdf\xa3" + bytes(64), "unreadable"),
        (b"#EXTftyp#EXTM3U\nfile:///etc/passwd\n", "unreadable"),
    ],
)
def test_files_that_are_no_videos_say_why(data, reason):
    error = failure(data)
    assert (error.stage, error.reason) == ("open", reason)
    assert error.message.endswith(".") or error.message.endswith("?")
    assert not error.transient


def test_cover_art_and_bare_sound_are_no_video(tmp_path):
    assert failure(media.cover_art_audio(tmp_path / "a.m4a")).reason == "no_video_stream"


def test_encrypted_video_is_named(tmp_path):
    path = media.write_video(
        tmp_path / "v.mp4",
        media.noise_images(30),
        container_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "00112233445566778899aabbccddeeff",
            "encryption_kid": "00112233445566778899aabbccddeeff",
        },
    )
    assert failure(path).reason == "encrypted"


def test_a_picture_stream_without_one_good_picture(tmp_path):
    path = media.write_video(tmp_path / "v.mp4", media.noise_images(30))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    assert failure(bytes(data)).reason == "no_frames"


FUZZED = {
    ".mp4": {},
    ".fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    ".mkv": {},
    ".ts": {},
    ".avi": {"codec": "mpeg4", "audio_codec": "pcm_s16le"},
}


@pytest.mark.parametrize("suffix", FUZZED)
def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path, suffix):
    options = {"codec_options": {"g": "12"}} if "codec" not in FUZZED[suffix] else {}
    data = media.write_video(
        tmp_path / f"v{suffix}",
        media.noise_images(75, (160, 128)),
        audio=np.random.default_rng(1).normal(0, 0.1, 48_000),
        **FUZZED[suffix],
        **options,
    ).read_bytes()
    lengths = []
    for part in range(20):
        try:
            lengths.append(read(data[: len(data) * part // 20]))
        except VideoError as error:
            lengths.append(error.reason)
    if suffix == ".mp4":  # its index is at the end
        assert lengths == ["empty"] + ["unreadable"] * 19
    else:  # what is there is read, and no more
        seconds = [s for s in lengths if isinstance(s, float)]
        assert len(seconds) >= 16
        assert seconds == sorted(seconds)
        # Within the two pictures or so that the container buffers.
        for part, length in enumerate(lengths):
            if isinstance(length, float):
                assert length <= 3.0 * part / 20 + 0.45
        assert seconds[-1] > 2.5
    rng = random.Random(7)
    for _ in range(30):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 10, 100, 1000))):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        try:
            read(bytes(broken))
        except VideoError:
            continue  # any other exception fails the test


class Flaky(io.BytesIO):
    """A file on a storage that fails after some bytes."""

    good = 40_000

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > self.good:
            raise ConnectionResetError("storage went away")
        return super().read(size)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_storage_failure_is_no_short_video(tmp_path, suffix):
    data = media.write_video(
        tmp_path / f"v{suffix}", media.noise_images(75, (320, 240))
    ).read_bytes()
    assert len(data) > 3 * Flaky.good
    with pytest.raises(VideoError) as caught, VideoReader(Flaky(data), CONFIG) as reader:
        list(reader.frames())
    assert caught.value.reason == "read_failed"
    assert caught.value.transient


def test_progress_is_reported_all_along(tmp_path):
    calls = []
    path = media.write_video(tmp_path / "v.mp4", media.noise_images(75))
    with (
        path.open("rb") as file,
        VideoReader(file, CONFIG, on_progress=lambda: calls.append(1)) as reader,
    ):
        before = len(calls)
        list(reader.frames())
    assert before > 0
    assert len(calls) - before >= 70


# --- nothing but the file itself is ever opened


@contextmanager
def opened(path: Path) -> Iterator[list[bool]]:
    """Tell whether ``path`` was opened by anybody, by inotify."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    assert fd >= 0
    assert libc.inotify_add_watch(fd, os.fsencode(path), 0x20) >= 0  # IN_OPEN
    seen: list[bool] = []
    try:
        yield seen
        try:
            seen.append(bool(os.read(fd, 4096)))
        except BlockingIOError:
            seen.append(False)
    finally:
        os.close(fd)


@pytest.fixture
def server():
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", requests
        http.shutdown()


def refused(path: Path) -> VideoError:
    with path.open("rb") as file, pytest.raises(VideoError) as caught:
        VideoReader(file, CONFIG, str(path)).__enter__()
    return caught.value


def playlists(target: Path, url: str) -> dict[str, str]:
    return {
        "hls_file": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{target}\n#EXT-X-ENDLIST\n",
        "hls_http": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
        "hls_bom": f"\ufeff\n #EXTM3U\n#EXTINF:3,\n{url}/b.ts\n",
        "concat": f"ffconcat version 1.0\nfile '{target}'\nfile {url}/c.mp4\n",
        "concat_bare": f"file '{target}'\n",
        "dash": f'<?xml version="1.0"?><MPD><BaseURL>{url}/d.mp4</BaseURL></MPD>',
        "smooth": f'<SmoothStreamingMedia Url="{url}"/>',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "asx": f'<ASX version="3.0"><Entry><Ref href="{url}/e.wmv"/></Entry></ASX>',
        "pls": f"[playlist]\nFile1={url}/f.mp4\n",
        "url": f"{url}/g.mp4\n",
    }


def test_a_playlist_in_disguise_opens_no_file_and_no_url(tmp_path, server):
    url, requests = server
    target = media.write_video(tmp_path / "target.ts", media.noise_images(50))
    for name, text in playlists(target, url).items():
        path = tmp_path / f"{name}.mp4"
        path.write_text(text, encoding="utf-8")
        with opened(target) as seen:
            caught = refused(path)
        assert seen == [False], name
        assert caught.reason == "playlist", name
        assert "refused" in caught.message
    assert requests == []


def test_the_alarm_of_the_playlist_test_rings(tmp_path):
    target = media.write_video(tmp_path / "target.ts", media.noise_images(50))
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(playlists(target, "")["hls_file"])
    options = {"extension_picky": "0", "allowed_extensions": "ALL"}
    with opened(target) as seen, av.open(str(playlist), options=options) as container:
        assert len(list(container.decode(video=0))) == 50
    assert seen == [True]


def test_a_movie_with_external_data_opens_nothing(tmp_path):
    target = media.write_video(tmp_path / "target.mov", media.noise_images(30))
    movie = media.external_reference_movie(tmp_path / "movie.mp4", target)
    with opened(target) as seen:
        error = refused(movie)
    assert seen == [False]
    assert error.reason in ("no_frames", "unreadable")
    # The reference is real: FFmpeg follows it when it is allowed to.
    asked = []

    def note(url: str, *_: object) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO()

    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    with movie.open("rb") as file, av.open(file, options=options, io_open=note):
        pass
    assert asked == [str(target)]
