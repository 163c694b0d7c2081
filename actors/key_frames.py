"""A few small pictures of a video, as JPEG, for people to look at."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from actors.container import Source, open_container, packets
from actors.decode import DecodeConfig
from actors.errors import VideoError
from actors.picture import Converter, limited_stream, too_large
from actors.streams import Picture, PictureStream
from actors.types import FPS, U8, Timings

WIDTH = 320  # pixels
QUALITY = 80  # of the JPEG, 0 to 100
SECONDS = 15.0
_SEEK_AHEAD_S = 3.0  # nearer pictures are decoded on the way: a seek goes back to a key frame


@dataclass(frozen=True, slots=True)
class Still:
    """A picture of a video.

    Attributes:
        time_s: When it was asked for, in seconds after the video's first picture.
        jpeg: The picture, empty when there is none.
        reason: Why there is none, in words; empty when there is one.
    """

    time_s: float
    jpeg: bytes = b""
    reason: str = ""


def stills(
    file: BinaryIO,
    times: Sequence[float],
    *,
    width: int = WIDTH,
    seconds: float = SECONDS,
    config: DecodeConfig | None = None,
) -> list[Still]:
    """Decode the pictures nearest to some instants.

    A video that cannot be read gives reasons, no exception. Beyond the end the last picture stands
    in. Long videos are sought through, unless their container has no reliable times (AVI).

    Args:
        file: Seekable binary file object; it is not closed.
        times: Seconds after the first picture, the clock of clips and findings; any order.
        width: Pixels of the pictures; smaller ones are not enlarged. Upright ones (taller than
            wide) get this height instead.
        seconds: Time after which what is missing is given up. A decoder that hangs inside one
            packet is not interrupted: see ``pipelines.scoring.key_frames``.
        config: Limits and threads of decoding.

    Returns:
        One still a time, in the order of ``times``.
    """
    import av

    limits = config or DecodeConfig()
    found: dict[float, bytes] = {}
    reason = "no picture could be decoded there"
    try:
        with _Reader(file, limits, time.monotonic() + seconds) as reader:
            for at in sorted(set(times)):
                image = reader.nearest(at)
                if image is not None:
                    found[at] = _jpeg(image, width)
    except VideoError as error:
        reason = error.message
    except (av.FFmpegError, ValueError, MemoryError) as error:
        reason = f"decoding failed ({type(error).__name__}: {error})"
    return [Still(at, found[at]) if at in found else Still(at, b"", reason) for at in times]


def variant_stills(
    uri: str,
    artefacts: str,
    times: Sequence[float],
    open_file: Callable[[str], BinaryIO],
    *,
    width: int = WIDTH,
) -> list[Still]:
    """Return pictures of a virtual variant, which is made from its start for that.

    Args:
        uri: Of the source.
        artefacts: The chain, as text.
        times: Seconds after the first picture, any order.
        open_file: Opens the source.
        width: See :func:`stills`.

    Returns:
        One still a time, in the order of ``times``; reasons where the variant cannot be made.
    """
    import av

    from actors.artefacts.chain import parse_chain
    from actors.artefacts.studio import Studio
    from actors.features import FeaturesConfig, PrepareConfig

    studio = Studio(FeaturesConfig(prepare=PrepareConfig(source_mib=256)), open_file)
    found: dict[float, bytes] = {}
    try:
        reader = studio.read(uri, uri, parse_chain(artefacts), Timings())
        nearest: dict[int, list[float]] = {}
        for at in set(times):
            nearest.setdefault(int(np.argmin(np.abs(reader.times - at))), []).append(at)
        for number, frame in enumerate(reader.frames()):
            for at in nearest.get(number, ()):
                assert frame.image is not None  # sources with broken pictures are refused
                found[at] = _jpeg(frame.image, width)
    except VideoError as error:
        return [Still(at, b"", error.message) for at in times]
    except (av.FFmpegError, ValueError, MemoryError) as error:
        reason = f"it cannot be made ({type(error).__name__}: {error})"
        return [Still(at, b"", reason) for at in times]
    finally:
        studio.close()
    return [Still(at, found[at]) for at in times]


class _Reader:
    """Finds pictures by time, going forwards; a context manager."""

    def __init__(self, file: BinaryIO, limits: DecodeConfig, deadline: float) -> None:
        self._deadline = deadline
        self._limits = limits
        self._source = Source(file, self._tick)
        self._container: Any = None
        self._pictures: Iterator[Picture]
        self._last: Picture | None = None  # the latest one that could be decoded
        self._next: Picture | None = None  # the one after it

    def __enter__(self) -> "_Reader":
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _tick(self) -> None:
        if time.monotonic() > self._deadline:
            raise VideoError("decode", "too_slow", "Decoding took too long for a picture here.")

    def _open(self) -> None:
        self._close()
        limits = self._limits
        self._container = open_container(
            self._source, max_pixels=limits.max_pixels, max_streams=limits.max_streams
        )
        stream = limited_stream(
            self._container, max_pixels=limits.max_pixels, threads=limits.ffmpeg_threads
        )
        self._stream = stream
        self._avi = self._container.format.name == "avi"
        self._read_on()
        first = next(self._pictures, None)
        if first is None:
            raise VideoError("decode", "no_frames", "No picture of the video could be decoded.")
        self._origin = first.time
        aspect = stream.sample_aspect_ratio
        self._converter = Converter(
            first.frame, float(aspect) if aspect else None, limits.max_pixels
        )
        self._last, self._next = first, self._following()

    def _read_on(self) -> None:
        """Decode from where the container stands."""
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(FPS)
        self._pictures = iter(
            PictureStream(
                packets(self._container, self._source, [self._stream]),
                self._stream,
                None,
                None,
                in_file_order=self._avi,
                nominal=1 / Fraction(rate),
                on_progress=self._tick,
            )
        )

    def _following(self) -> Picture | None:
        """Take the next picture that could be decoded."""
        return next((picture for picture in self._pictures if picture.frame is not None), None)

    def nearest(self, seconds: float) -> U8 | None:
        """Return the picture nearest to ``seconds``, not before those asked for earlier."""
        target = self._origin + Fraction(max(seconds, 0.0)).limit_denominator(100_000)
        if self._next is not None and target > self._next.time + Fraction(_SEEK_AHEAD_S):
            self._seek(target)
        while self._next is not None and self._next.time <= target:
            self._last, self._next = self._next, self._following()
        chosen = self._last
        if (
            chosen is not None
            and self._next is not None
            and self._next.time - target < target - chosen.time
        ):
            chosen = self._next
        if chosen is None:
            return None
        if chosen.frame.width * chosen.frame.height > self._limits.max_pixels:
            raise too_large(chosen.frame.width, chosen.frame.height, self._limits.max_pixels)
        return self._converter.convert(chosen.frame)

    def _seek(self, target: Fraction) -> None:
        """Go to the key frame before ``target``; where that fails, read on from the start."""
        import av

        if self._avi:
            return
        try:
            offset = int(target / self._stream.time_base)
            self._container.seek(offset, backward=True, stream=self._stream)
            self._source.check("decode")
            self._read_on()
            first = self._following()
        except av.FFmpegError:
            first = None
        if first is None or first.time > target:
            # An index that misleads: the file may still be fine when read in order.
            self._open()
            return
        self._last, self._next = first, self._following()


def _jpeg(image: U8, width: int) -> bytes:
    import cv2

    height_of, width_of = image.shape[:2]
    scale = min(1.0, width / max(height_of, width_of))
    if scale < 1:
        size = (max(1, round(width_of * scale)), max(1, round(height_of * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    if not done:
        raise ValueError("the picture cannot be written as JPEG")
    return bytes(data)
