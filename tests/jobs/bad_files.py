"""A corpus of bad and odd files, and what each of them is expected to become."""

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tests.media import cover_art_audio, noise_images, write_video

FPS = 25
PLACES = 20  # where files are cut off
FAST = {"preset": "ultrafast"}
RATE = 16_000


@dataclass(frozen=True)
class Expected:
    """What becomes of a file: its number of clips, or the classes of failure that describe it."""

    clips: int = 0
    reasons: frozenset[str] = frozenset()
    says: str = ""  # part of the message
    frames: int | None = None  # real frames of all its clips
    sounding: int | None = None  # of which so many have sound
    faces: int | None = None  # seen at most in a frame


@dataclass
class BadCorpus:
    """The files below ``folder`` and their fates, by the path relative to it."""

    folder: Path
    files: dict[str, Expected] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)  # of files that lie elsewhere

    def path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def done(self, name: str, clips: int, **more: Any) -> Path:
        self.files[name] = Expected(clips, **more)
        return self.path(name)

    def failed(self, name: str, *reasons: str, says: str = "") -> Path:
        self.files[name] = Expected(reasons=frozenset(reasons), says=says)
        return self.path(name)


def clips_of(seconds: float) -> int:
    """Clips of 6 s that start every 6 s, of which the last has at least 1 s (SPEC section 2)."""
    whole, rest = divmod(round(seconds * FPS), 6 * FPS)
    return whole + (rest >= FPS)


def tone(seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    return (0.3 * np.sin(2 * np.pi * 200 * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def portrait(copies: int = 1, size: int = 256) -> NDArray[np.uint8]:
    """A public-domain portrait, ``copies`` times side by side."""
    import cv2
    from skimage.data import astronaut

    face = astronaut()[:300, 80:380]
    one = np.asarray(cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    return np.concatenate([one] * copies, axis=1)


def moving(image: NDArray[np.uint8], count: int) -> Iterator[NDArray[np.uint8]]:
    """The picture, swaying by two pixels."""
    for i in range(count):
        yield np.roll(image, round(2 * np.sin(i / 5)), axis=1)


def colour_bars(width: int = 160, height: int = 128) -> NDArray[np.uint8]:
    colours = np.array(
        [[200, 200, 200], [200, 200, 0], [0, 200, 200], [0, 200, 0], [200, 0, 0]], np.uint8
    )
    return np.broadcast_to(colours.repeat(width // 5, axis=0), (height, width, 3)).copy()


def decodable_seconds(path: Path) -> float:
    """Seconds of picture that FFmpeg finds in a file, 0 when it cannot open it."""
    try:
        with av.open(str(path)) as container:
            times: list[float] = []
            with contextlib.suppress(av.FFmpegError):
                times.extend(frame.time for frame in container.decode(video=0))
            return times[-1] - times[0] + 1 / FPS if times else 0.0
    except (av.FFmpegError, IndexError):
        return 0.0


def write_corpus(folder: Path, server: str) -> BadCorpus:
    """Write all files; ``server`` is the address that playlists point to."""
    corpus = BadCorpus(folder)
    _neighbours(corpus)
    for name, stage in (("never_answers", "open"), ("never_ends", "decode")):
        corpus.failed(f"{name}.mp4", "stalled", says=f"{stage} made no progress")
        corpus.addresses[f"{name}.mp4"] = f"{server}/{name}.mp4"
    os.mkfifo(corpus.failed("pipe.mp4", "unreadable_source", says="not a file"))
    link = corpus.failed("link_to_nowhere.mp4", "unreadable_source", says="does not exist")
    link.symlink_to("nowhere.mp4")
    _not_videos(corpus, server)
    _truncated(corpus)
    _odd(corpus)
    return corpus


def _not_videos(corpus: BadCorpus, server: str) -> None:
    random = np.random.default_rng(1)
    corpus.failed("empty.mp4", "empty", says="empty").write_bytes(b"")
    corpus.failed("one_byte.mp4", "not_a_video").write_bytes(b"x")
    for i in range(3):
        path = corpus.failed(f"random_{i}.mp4", "not_a_video", says="not a video")
        path.write_bytes(random.bytes(100_000))
    corpus.failed("text.mp4", "not_a_video", says="text").write_text("Dear diary,\n" * 100)
    corpus.failed("box_of_nothing.mp4", "unreadable").write_bytes(
        b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + random.bytes(5000)
    )
    cover_art_audio(corpus.failed("sound_only.mp4", "no_video_stream", says="no video stream"))
    secret = corpus.folder.parent / "secret.ts"
    write_video(secret, noise_images(50), audio=tone(2))
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
    texts = {
        "hls_file.mp4": hls.format(f"file://{secret}"),
        "hls_http.mp4": hls.format(f"{server}/secret.ts"),
        "hls_relative.mp4": hls.format("../secret.ts"),
        "concat.mp4": f"ffconcat version 1.0\nfile '{secret}'\nfile '{server}/secret.ts'\n",
        "dash.mp4": f'<?xml version="1.0"?>\n<MPD><BaseURL>{server}/secret.ts</BaseURL></MPD>\n',
    }
    for name, text in texts.items():
        corpus.failed(name, "playlist", says="playlist").write_text(text)


def _truncated(corpus: BadCorpus) -> None:
    """Cut three kinds of files at 20 places each: what is left decides what they become."""
    kinds: dict[str, dict[str, str]] = {
        "plain.mp4": {},
        "faststart.mp4": {"movflags": "faststart"},
        "stream.mkv": {},
    }
    for kind, options in kinds.items():
        stem, _, suffix = kind.partition(".")
        whole = corpus.folder.parent / kind
        write_video(
            whole, noise_images(40, (160, 128)), audio=tone(1.6), container_options=options,
            codec_options={**FAST, "g": "5"},
        )  # fmt: skip
        data = whole.read_bytes()
        for i in range(PLACES):
            cut = 1 + i * (len(data) - 2) // (PLACES - 1)  # from one byte to all but one
            name = f"cut/{stem}_{i:02d}.{suffix}"
            corpus.path(name).write_bytes(data[:cut])
            seconds = decodable_seconds(corpus.path(name))
            if seconds >= 1:
                corpus.done(name, clips_of(seconds))
            else:
                reasons = ("not_a_video", "unreadable", "no_frames", "too_short", "no_video_stream")
                corpus.failed(name, *reasons)


def _odd(corpus: BadCorpus) -> None:
    face, bars = portrait(), colour_bars()
    fast: dict[str, Any] = {"codec_options": FAST}
    write_video(
        corpus.done("silent.mp4", 1, frames=40, sounding=0, faces=1), moving(face, 40), **fast
    )
    write_video(
        corpus.done("no_face_noise.mp4", 1, frames=40, sounding=40, faces=0),
        noise_images(40, (160, 128)), audio=tone(1.6), **fast,
    )  # fmt: skip
    write_video(
        corpus.done("no_face_bars.mp4", 1, frames=40, sounding=40, faces=0),
        [bars] * 40, audio=tone(1.6), **fast,
    )  # fmt: skip
    write_video(
        corpus.done("two_faces.mp4", 1, frames=40, sounding=40, faces=2),
        moving(portrait(2), 40), audio=tone(1.6), **fast,
    )  # fmt: skip
    write_video(corpus.failed("one_frame.mp4", "too_short"), [face], audio=tone(0.04), **fast)
    write_video(
        corpus.failed("short.mp4", "too_short", says="0.400 s"),
        moving(face, 10), audio=tone(0.4), **fast,
    )  # fmt: skip
    write_video(
        corpus.done("sixty.mp4", 1, frames=50, sounding=50, faces=1),
        moving(face, 120), fps=60, audio=tone(2), **fast,
    )  # fmt: skip
    large = np.zeros((2160, 3840, 3), np.uint8)
    large[600:1624, 1300:2324] = portrait(1, 1024)
    write_video(
        corpus.done("4k.mp4", 1, frames=30, sounding=30, faces=1),
        moving(large, 30), audio=tone(1.2), **fast,
    )  # fmt: skip
    write_video(
        corpus.failed("6k.mp4", "too_large", says="decode.max_pixels"),
        [np.full((3240, 5760, 3), 90, np.uint8)] * 2, **fast,
    )  # fmt: skip
    write_video(
        corpus.done("telephone.mp4", 1, frames=40, sounding=40, faces=1),
        moving(face, 40), audio=tone(1.6, 8000), audio_rate=8000, **fast,
    )  # fmt: skip
    write_video(
        corpus.done("sound_longer.mp4", 1, frames=40, sounding=40, faces=1),
        moving(face, 40), audio=tone(9), **fast,
    )  # fmt: skip
    write_video(
        corpus.done("sound_shorter.mp4", 1, frames=50, sounding=13, faces=1),
        moving(face, 50), audio=tone(0.512), **fast,
    )  # fmt: skip
    names = ("a name  with spaces", "new\nline", "Ünï çødé 视频 🙂", "50%#?[x]*")
    for name in names:
        write_video(
            corpus.done(f"names/{name}.mp4", 1, frames=30, sounding=30, faces=0),
            [bars] * 30, audio=tone(1.2), **fast,
        )  # fmt: skip


def _neighbours(corpus: BadCorpus) -> None:
    """Good videos between the bad ones: 7.2 s give two clips, 6.4 s one and a tail."""
    face = portrait()
    for i, seconds in enumerate((2.0, 6.4, 7.2)):
        frames = 150 if seconds == 6.4 else round(seconds * FPS)
        path = corpus.done(
            f"good/neighbour_{i}.mp4", clips_of(seconds), frames=frames, sounding=frames, faces=1
        )
        write_video(
            path, moving(face, round(seconds * FPS)), audio=tone(seconds), codec_options=FAST
        )


@dataclass
class Server:
    """A local HTTP server: ``address``, and the paths that were asked for."""

    address: str
    asked: list[str]


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve ``/never_ends.mp4``, a real video whose second half never comes; list all requests.

    ``/never_answers.mp4`` gets no answer at all.
    """
    video = write_video(
        folder / "large.mp4", _noise(12), codec_options={**FAST, "qp": "1"},
        container_options={"movflags": "faststart"},
    ).read_bytes()  # fmt: skip
    assert len(video) > 12 * 2**20, "more than one block of the storage layer"
    asked: list[str] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            asked.append(self.path)
            if "never_answers" in self.path:
                over.wait()
            self.send_response(200)
            self._headers(len(video))

        def do_GET(self) -> None:
            asked.append(self.path)
            if "never_answers" in self.path:
                over.wait()
            wanted = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
            begin, _, end = wanted.partition("-")
            first, last = int(begin), min(int(end or len(video)), len(video) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(video)}")
            self._headers(last - first + 1)
            if first == 0:
                self.wfile.write(video[: last + 1])
            else:
                self.wfile.write(video[first : first + 1000])
                over.wait()

        def _headers(self, length: int) -> None:
            self.send_header("Content-Length", str(length))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _noise(count: int) -> Iterator[NDArray[np.uint8]]:
    random = np.random.default_rng(2)
    for _ in range(count):
        yield random.integers(0, 255, (720, 1280, 3), dtype=np.uint8)
