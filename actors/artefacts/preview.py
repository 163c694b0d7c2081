"""Small films and pictures of variants, for people to look at and listen to in a browser."""

import io
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.lossless import LosslessWriter
from actors.artefacts.source import DamagedReader
from actors.artefacts.x264 import x264_options
from actors.decode import DecodeConfig, VideoReader
from actors.errors import VideoError
from actors.types import FPS, SAMPLE_RATE, U8, Sound

SECONDS: Final = 3.0
WIDTH: Final = 240  # pixels, at most
HEIGHT: Final = 320
_TICKS: Final = 90_000  # a second
_CRF: Final = 23
_LIMITS: Final = ("vbv-maxrate=1000", "vbv-bufsize=1000")  # kbit/s, kbit: noise costs much
_SOUND_RATE: Final = 48_000  # what AAC adds in front lasts 21 ms here, and 64 ms at 16 kHz
_SOUND_BITS: Final = 48_000  # a second
_BLOCK: Final = 1024  # samples a packet of AAC
_QUALITY: Final = 80  # of JPEG
_BT601: Final = 6  # in FFmpeg's lists of colour spaces, primaries and transfer functions
_LIMITED: Final = 1  # FFmpeg's range 16..235
_DETAIL: Final = (120, 240)  # height and width of a detail, pixels
_SPECTRUM: Final = (72, 240)  # height and width of a spectrogram, pixels
_WINDOW: Final = 512  # samples, 32 ms
_FLOOR_DB: Final = -75.0  # below full scale: black


def excerpt(file: BinaryIO, config: DecodeConfig, name: str, seconds: float = SECONDS) -> bytes:
    """Return the beginning of a video as a video of its own, without loss.

    Args:
        file: Seekable binary file object; it is not closed.
        config: Settings of decoding, policy ``windows``.
        name: For messages.
        seconds: Of it, at most.

    Returns:
        A QuickTime file as :class:`actors.artefacts.lossless.LosslessWriter` writes it.

    Raises:
        VideoError: It cannot be decoded; ``broken_source``: a picture of the beginning cannot.
    """
    made = io.BytesIO()
    with VideoReader(file, config, name) as reader:
        frames = takewhile(lambda frame: frame.time_s < seconds, reader.frames())
        times = [frame.time_s for frame in frames]
        whole = reader.sound()  # reads to the end, without converting pictures
        length = min(seconds, reader.duration_s)
        size = (reader.info.height, reader.info.width)
        with LosslessWriter(made, size, times, length, _beginning(whole, length)) as writer:
            # Decoded again: pictures of a large video are too many to be kept.
            for frame in islice(reader.frames(), len(times)):
                if frame.image is None:
                    raise VideoError(
                        "decode",
                        "broken_source",
                        f"The picture at {frame.time_s:.2f} s cannot be decoded.",
                    )
                writer.write(frame.image)
    return made.getvalue()


def _beginning(sound: Sound | None, length: float) -> Sound | None:
    if sound is None or sound.start_s >= length:
        return None
    samples = sound.samples[: math.floor(length * SAMPLE_RATE)]
    return Sound(samples, sound.start_s, min(sound.end_s, len(samples) / SAMPLE_RATE))


def small_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of a preview: even, at most 320 x 240, hardly distorted."""
    scale = min(1.0, WIDTH / width, HEIGHT / height)
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


@dataclass(frozen=True, slots=True)
class Views:
    """The pictures of a variant, for people.

    Attributes:
        small: RGB [h, w, 3] in the size of :func:`small_size`.
        details: The middle of each at its own size, RGB [<= 120, <= 240, 3]: scaling down hides
            fine damage. Empty where pictures are not scaled down.
    """

    small: list[U8]
    details: list[U8]


def views(reader: DamagedReader) -> Views:
    """Return all pictures of a variant.

    Raises:
        VideoError: The chain cannot be done to the source.
    """
    import cv2

    height, width = small_size(reader.info.height, reader.info.width)
    large = (height, width) != (reader.info.height, reader.info.width)
    made = Views([], [])
    for frame in reader.frames():
        assert frame.image is not None  # sources with broken pictures are refused
        shrunk = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
        made.small.append(np.asarray(shrunk, np.uint8))
        if large:
            made.details.append(_middle(frame.image).copy())
    return made


def _middle(picture: U8) -> U8:
    height, width = (min(most, side) for most, side in zip(_DETAIL, picture.shape, strict=False))
    # Faces are a little above the middle.
    top = round(0.45 * (picture.shape[0] - height))
    left = (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def telling_moment(clean: Sequence[U8], variants: Sequence[Sequence[U8]]) -> int:
    """Return the place of the picture that shows the damage best; the middle one where none does.

    Args:
        clean: Pictures.
        variants: The same, damaged: at one severity or several, which count alike.
    """
    total = np.zeros(len(clean))
    for damaged in variants:
        pairs = zip(clean, damaged, strict=True)
        changes = np.array([np.abs(one.astype(np.int16) - other).mean() for one, other in pairs])
        total += changes / max(float(changes.max()), 1e-9)
    return int(total.argmax()) if total.any() else len(clean) // 2


def still(picture: U8) -> bytes:
    """Return a picture [H, W, 3] as JPEG."""
    import cv2

    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    if not done:
        raise ValueError("the picture cannot be written as JPEG")
    return bytes(data)


def spectrogram(sound: Sound) -> U8:
    """Draw what is heard: time to the right, 0 to 8 kHz upwards, -75 to 0 dB of full scale.

    Returns:
        RGB [72, 240, 3].
    """
    import cv2

    padded = np.pad(sound.samples, _WINDOW // 2)
    height, width = _SPECTRUM
    # Twice as many columns as pixels: what lies between two pixels' windows is seen as well.
    starts = np.linspace(0, len(padded) - _WINDOW, 2 * width).astype(np.intp)
    parts = padded[starts[:, None] + np.arange(_WINDOW)] * np.hanning(_WINDOW)
    magnitude = np.abs(np.fft.rfft(parts)) * (2 / np.hanning(_WINDOW).sum())
    decibel = 20 * np.log10(np.maximum(magnitude, 1e-9)).T[::-1]  # [257, 480], high ones on top
    grey = np.clip(255 * (1 - decibel / _FLOOR_DB), 0, 255).astype(np.uint8)
    drawn = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    coloured = cv2.applyColorMap(drawn, cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB), np.uint8)


def film(
    pictures: Sequence[U8], times: NDArray[np.float64], duration_s: float, sound: Sound | None
) -> bytes:
    """Write an MP4 that browsers play: H.264 and AAC. Equal input, equal bytes.

    Args:
        pictures: RGB [H, W, 3], even sides.
        times: [n] when each begins, seconds, ascending from 0.
        duration_s: Seconds from the first picture to the end of the last.
        sound: On the picture's clock; None writes no sound stream.

    Returns:
        The file, with its index in front of the data.
    """
    # FFmpeg opens the file a second time to move the index, so it must have a name.
    with tempfile.TemporaryDirectory(prefix="talkmos-") as folder:
        path = Path(folder) / "film.mp4"
        _write(path, pictures, times, duration_s, sound)
        return path.read_bytes()


def _write(
    path: Path,
    pictures: Sequence[U8],
    times: NDArray[np.float64],
    duration_s: float,
    sound: Sound | None,
) -> None:
    import av

    options = {"movflags": "+faststart", "fflags": "bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        ticks = np.rint(np.append(times, duration_s) * _TICKS).astype(np.int64).tolist()
        video = _video_stream(container, pictures[0].shape[:2])
        lengths = dict(zip(ticks, np.diff(ticks).tolist(), strict=False))
        hearing = None if sound is None else _Hearing(container, sound)
        packets: list[Any] = []
        for picture, at in zip(pictures, ticks, strict=False):
            image = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="itu601", dst_color_range="MPEG"
            )
            image.pts, image.time_base = at, video.codec_context.time_base
            packets += video.encode(image)
        packets += video.encode(None)
        for packet in packets:
            if hearing is not None:
                hearing.until(packet.pts / _TICKS)
            packet.duration = lengths[packet.pts]
            container.mux(packet)
        if hearing is not None:
            hearing.until(math.inf)


def _video_stream(container: Any, size: tuple[int, int]) -> Any:
    # Without B-frames no picture needs a time before 0, so no player has to shift the streams.
    options = {"crf": str(_CRF), "preset": "medium", **x264_options("bframes=0", *_LIMITS)}
    stream = container.add_stream("libx264", rate=FPS, options=options)
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, _TICKS)
    context.thread_count = 1
    context.colorspace = context.color_primaries = context.color_trc = _BT601
    context.color_range = _LIMITED
    return stream


class _Hearing:
    """Writes the sound as far as the picture has come."""

    def __init__(self, container: Any, sound: Sound) -> None:
        import soxr

        self._container = container
        self._stream = container.add_stream("aac", rate=_SOUND_RATE, layout="mono")
        self._stream.bit_rate = _SOUND_BITS
        played = soxr.resample(sound.samples, SAMPLE_RATE, _SOUND_RATE, "HQ")
        self._samples = np.clip(played, -1.0, 1.0).astype(np.float32)
        self._packets = self._encoded()
        self._next: Any = next(self._packets, None)

    def until(self, seconds: float) -> None:
        """Write what begins before an instant."""
        while self._next is not None and self._next.pts < seconds * _SOUND_RATE:
            self._container.mux(self._next)
            self._next = next(self._packets, None)

    def _encoded(self) -> Iterator[Any]:
        import av

        for first in range(0, len(self._samples), _BLOCK):
            part = self._samples[None, first : first + _BLOCK]
            piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", "mono")
            piece.sample_rate, piece.pts = _SOUND_RATE, first
            yield from self._stream.encode(piece)
        yield from self._stream.encode(None)
