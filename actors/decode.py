"""A file object -> frames on a 25 fps grid by time stamps, and sound on the same clock.

Nothing is copied to disk: FFmpeg (PyAV) reads the file object. Frames stream with one of
lookahead, so memory does not grow with the video; only frames that something needs become RGB. The
sound is decoded in the same pass as the picture and kept at 16 kHz mono (64 kB a second).
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, Literal, Protocol

from pydantic import Field, field_validator

from actors.container import Source, open_container, packets, sound_stream
from actors.errors import VideoError
from actors.picture import Converter, is_black, limited_stream, too_large
from actors.sound import SoundTrack
from actors.streams import Picture, PictureStream
from actors.types import FPS, U8, Frame, MediaInfo, Sound
from model.config import Config

VERSION = "1"  # raise when frames, sound or clips change
WHOLE_SYNC_FRAMES = 60 * FPS  # `whole`: SyncNet reads at most the first 60 s
# Containers that count in milliseconds round a picture's time and its duration by up to one each.
ROUNDING = Fraction(2, 1000)


class DecodeConfig(Config):
    """How videos are decoded and cut into clips.

    Policy `windows` takes, for each 1/25 s of a 6 s clip, the frame nearest in time. Policy `whole`
    is the paper's rule and only there to reproduce it: every Δ-th source frame,
    Δ = max(1, round(fps / 25)), thinned evenly to 150 for the whole video. Its known flaws: 30 fps
    gives Δ = 1, so picture and sound drift apart, and a long video is thinned so far that the
    motion of the lips is lost.
    """

    policy: Literal["windows", "whole"] = "windows"
    """Sampling policy."""
    hop_s: float = 6.0
    """Seconds from the start of one clip to the next (`windows`); a multiple of 0.04 s. Less than 6
    makes clips overlap, more leaves gaps."""
    max_pixels: int = Field(default=9_200_000, gt=0)
    """Most pixels of a picture; the default admits 4096x2160."""
    max_duration_s: float = Field(default=3600.0, gt=0)
    """Longest video in seconds."""
    max_streams: int = Field(default=16, gt=0)
    """Most streams in a file."""
    ffmpeg_threads: int = Field(default=1, ge=1)
    """Threads of the video decoder. Never FFmpeg's automatic choice, which takes every core."""

    @field_validator("hop_s")
    @classmethod
    def _on_the_grid(cls, value: float) -> float:
        frames = value * FPS
        if not (math.isfinite(value) and frames > 0.5 and abs(frames - round(frames)) < 1e-6):
            raise ValueError(
                f"hop_s must be a positive multiple of {1 / FPS} s (one frame at {FPS} fps), "
                f"not {value}"
            )
        return round(frames) / FPS


class Reader(Protocol):
    """What the first half of extraction reads: a video file, or one that is damaged on the way."""

    info: MediaInfo
    black_frames: int

    def __enter__(self) -> Any:
        """Open it. Raises VideoError."""
        ...

    def close(self) -> None:
        """Free its memory."""
        ...

    @property
    def duration_s(self) -> float:
        """Seconds of picture: known after a pass of :meth:`frames`."""
        ...

    @property
    def broken_frames(self) -> int:
        """Source pictures that could not be decoded, in the latest pass."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield the frames from the start; may be called again."""
        ...

    def sound(self) -> Sound | None:
        """Return the sound on the picture's clock."""
        ...


class VideoReader:
    """Reads one video; a context manager.

    Args:
        file: Seekable binary file object; it is not closed.
        config: Policy and limits.
        name: What ``repr`` shows; never used to open anything.
        on_progress: Called for each packet and each read of the file: a supervisor sees life.

    Entering raises VideoError: ``empty``, ``not_a_video``, ``playlist``, ``unreadable``,
    ``no_video_stream``, ``unsupported_codec``, ``encrypted``, ``too_many_streams``, ``too_large``,
    ``too_long``, ``no_frames``, ``read_failed``.

    Attributes:
        info: What the container says; the size is that of the frames.
        black_frames: All-black frames among the yielded ones, in the latest pass.
    """

    info: MediaInfo

    def __init__(
        self,
        file: BinaryIO,
        config: DecodeConfig,
        name: str = "",
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        self._on_progress = on_progress or (lambda: None)
        self._source = Source(file, self._on_progress)
        self._config = config
        self._name = name
        self._container: Any = None
        self._stream: PictureStream
        self._pictures: Iterator[Picture] | None = None  # opened, and only the first one taken
        self._first: Picture
        self._converter: Converter
        self._track: SoundTrack | None = None
        self._duration: Fraction | None = None
        self._unconverted = 0
        self.black_frames = 0

    def __repr__(self) -> str:
        return f"VideoReader({self._name!r})"

    def __enter__(self) -> "VideoReader":
        try:
            self._open(with_sound=True)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free FFmpeg's memory; the file object stays open."""
        self._pictures = None
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def duration_s(self) -> float:
        """Seconds of picture that could really be decoded: known after a pass of :meth:`frames`."""
        return float(self._known_duration())

    def _known_duration(self) -> Fraction:
        if self._duration is None:
            raise RuntimeError("the duration is known after a full pass of frames()")
        return self._duration

    @property
    def broken_frames(self) -> int:
        """Source pictures that could not be decoded, in the latest pass."""
        return self._stream.broken + self._unconverted

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that the policy needs, from the start, in order of time.

        May be called again; each call reads the file anew.

        Raises:
            VideoError: ``too_long``, ``too_large``, ``timestamps``, ``encrypted``, ``read_failed``.
        """
        return self._timed(convert=True)

    def sound(self) -> Sound | None:
        """Return the sound on the picture's clock, None when the file has none that can be decoded.

        Decoded by the first full pass of :meth:`frames`; a pass is made when there was none.
        """
        if self._duration is None:
            for _ in self._timed(convert=False):
                pass
        if self._track is None:
            return None
        return self._track.render(self._first.time, self._known_duration())

    # --- opening

    def _open(self, *, with_sound: bool) -> None:
        self.close()
        config = self._config
        self._container = open_container(
            self._source, max_pixels=config.max_pixels, max_streams=config.max_streams
        )
        stream = limited_stream(
            self._container, max_pixels=config.max_pixels, threads=config.ffmpeg_threads
        )
        context = stream.codec_context
        length = _header_seconds(self._container, stream)
        if length > config.max_duration_s:
            raise _too_long(length, config.max_duration_s)
        sound = sound_stream(self._container)
        hear = with_sound and sound is not None
        if with_sound:
            self._track = SoundTrack(config.max_duration_s) if hear else None
        rate = stream.average_rate or stream.guessed_rate or Fraction(FPS)
        self._unconverted = 0
        self._stream = PictureStream(
            packets(self._container, self._source, [stream, sound] if hear else [stream]),
            stream,
            sound,
            self._track,
            in_file_order=self._container.format.name == "avi",
            nominal=1 / Fraction(rate),
            on_progress=self._on_progress,
        )
        pictures = iter(self._stream)
        first = next(pictures, None)
        if first is None:
            raise VideoError(
                "decode",
                "no_frames",
                "No picture of the video could be decoded: it is damaged, or cut off after its "
                "header.",
            )
        self._pictures, self._first = pictures, first
        aspect = stream.sample_aspect_ratio
        self._converter = Converter(
            first.frame, float(aspect) if aspect else None, config.max_pixels
        )
        width, height = self._converter.size
        self.info = MediaInfo(
            duration_s=length,
            width=width,
            height=height,
            fps=float(rate),
            rotation=self._converter.rotation,
            container=self._container.format.name,
            video_codec=context.name,
            audio_codec=None if sound is None else sound.codec_context.name,
            audio_rate=None if sound is None else sound.codec_context.sample_rate,
            audio_channels=None if sound is None else sound.codec_context.channels,
        )

    # --- pictures on the clock

    def _timed(self, *, convert: bool) -> Iterator[Frame]:
        if self._pictures is None:
            self._open(with_sound=self._duration is None)
        assert self._pictures is not None
        pictures, self._pictures = self._pictures, None
        self.black_frames = 0
        whole = self._config.policy == "whole"
        most = WHOLE_SYNC_FRAMES if whole else math.inf
        step = max(1, round(self.info.fps / FPS)) if whole else 0
        origin = self._first.time
        current, position, next_grid, ordinal = self._first, 0, 0, 0
        while True:
            following = next(pictures, None)
            if following is None:
                length = current.length or Fraction(1, FPS)
                duration = current.time + length - origin
                stop = max(1, math.ceil((duration - ROUNDING) * FPS))
            else:
                duration = following.time - origin
                # Half-way is nearest to both: the frame that is on screen then is taken.
                middle = (current.time + following.time) / 2 - origin
                stop = math.floor(middle * FPS) + 1
            if duration > self._config.max_duration_s:
                raise _too_long(float(duration), self._config.max_duration_s)
            stop = int(max(next_grid, min(stop, most)))
            grid = tuple(range(next_grid, stop))
            on_step = whole and position % step == 0
            if grid or on_step:
                image = self._image(current.frame) if convert else None
                black = image is not None and is_black(image)
                self.black_frames += black
                time_s = float(current.time - origin)
                yield Frame(ordinal, time_s, image, black, grid, on_step)
                ordinal += 1
            next_grid, position = stop, position + 1
            if following is None:
                break
            current = following
        self._duration = duration

    def _image(self, frame: Any) -> U8 | None:
        import av

        if frame is None:
            return None
        if frame.width * frame.height > self._config.max_pixels:
            raise too_large(frame.width, frame.height, self._config.max_pixels)
        try:
            return self._converter.convert(frame)
        except av.FFmpegError:
            self._unconverted += 1
            return None


def _header_seconds(container: Any, stream: Any) -> float:
    """Return the duration of the picture that the header gives, 0 when it gives none."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None:
        return float(container.duration) / 1e6
    return 0.0


def _too_long(seconds: float, limit: float) -> VideoError:
    return VideoError(
        "decode",
        "too_long",
        f"The video lasts {seconds:.1f} s, more than the limit of {limit:g} s "
        "(decode.max_duration_s).",
    )
