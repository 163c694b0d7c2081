"""A file object -> frames on a 25 fps grid by time stamps, and sound on the same clock.

Nothing is copied to disk: FFmpeg (PyAV) reads the file object. Frames stream with one of
lookahead, so memory does not grow with the video; only frames that something needs become RGB. The sound is decoded
in the same pass as the picture and kept at 16 kHz mono (64 kB a second).
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, Literal

from pydantic import Field, field_validator

from actors.container import Source, open_container, packets, picture_stream, sound_stream
from actors.errors import VideoError
from actors.picture import Converter, is_black, too_large
from actors.sound import SoundTrack, to_mono
from actors.types import FPS, U8, Frame, MediaInfo, Sound
from model.config import Config

WHOLE_SYNC_FRAMES = 60 * FPS  # `whole`: SyncNet reads at most the first 60 s
# Containers that count in milliseconds round a picture's time and its duration by up to one each.
ROUNDING = Fraction(2, 1000)
BACKWARDS_S = 1.0  # a step back of time stamps beyond this is no rounding and no reordering


class DecodeConfig(Config):
    """How videos are decoded and cut into clips.

    Policy `windows` takes, for each 1/25 s of a 6 s clip, the frame nearest in time. Policy `whole` is
    the paper's rule and only there to reproduce it: every Δ-th source frame, Δ = max(1, round(fps / 25)), thinned evenly
    to 150 for the whole video. Its known flaws: 30 fps gives Δ = 1, so picture and sound drift
    apart, and a long video is thinned so far that the motion of the lips is lost.
    """

    policy: Literal["windows", "whole"] = "windows"
    """Sampling policy."""
    hop_s: float = 6.0
    """Seconds from the start of one clip to the next (`windows`); a multiple of 0.04 s. Less than 6 makes
    clips overlap, more leaves gaps."""
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


@dataclass(frozen=True, slots=True)
class _Picture:
    """One source picture in presentation order."""

    time: Fraction  # seconds on the stream's clock
    frame: Any  # av.VideoFrame, None when it could not be decoded
    length: Fraction | None  # seconds, when the file says


class VideoReader:
    """Reads one video; a context manager.

    Args:
        file: Seekable binary file object; it is not closed.
        config: Policy and limits.
        name: What ``repr`` shows; never used to open anything.
        on_progress: Called for each packet and each read of the file, so that a supervisor sees life.

    Entering raises VideoError: ``empty``, ``not_a_video``, ``playlist``, ``unreadable``, ``no_video_stream``,
    ``unsupported_codec``, ``encrypted``, ``too_many_streams``, ``too_large``, ``too_long``, ``no_frames``,
    ``read_failed``.

    Attributes:
        info: What the container says; the size is that of the frames.
        broken_frames: Source pictures that could not be decoded, in the latest pass.
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
        self._pictures: Iterator[_Picture] | None = None  # opened, and only the first one taken
        self._first: _Picture
        self._converter: Converter
        self._track: SoundTrack | None = None
        self._duration: Fraction | None = None
        self.broken_frames = 0
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
        """Seconds of picture that could really be decoded: known after a full pass of :meth:`frames`."""
        return float(self._known_duration())

    def _known_duration(self) -> Fraction:
        if self._duration is None:
            raise RuntimeError("the duration is known after a full pass of frames()")
        return self._duration

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
        import av

        self.close()
        config = self._config
        self._container = open_container(
            self._source, max_pixels=config.max_pixels, max_streams=config.max_streams
        )
        stream = picture_stream(self._container)
        context = stream.codec_context
        if context.width * context.height > config.max_pixels:
            raise too_large(context.width, context.height, config.max_pixels)
        context.thread_type = av.codec.context.ThreadType.SLICE
        context.thread_count = config.ffmpeg_threads
        context.options = {"max_pixels": str(config.max_pixels)}
        length = _header_seconds(self._container, stream)
        if length > config.max_duration_s:
            raise _too_long(length, config.max_duration_s)
        sound = sound_stream(self._container)
        if with_sound:
            self._track = None if sound is None else SoundTrack(config.max_duration_s)
        rate = stream.average_rate or stream.guessed_rate or Fraction(FPS)
        self.broken_frames = 0
        pictures = self._decode(stream, sound if with_sound else None, 1 / Fraction(rate))
        first = next(pictures, None)
        if first is None:
            raise VideoError(
                "decode",
                "no_frames",
                "No picture of the video could be decoded: it is damaged, or cut off after its header.",
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

    # --- pictures and sound out of the file

    def _decode(self, stream: Any, sound: Any | None, nominal: Fraction) -> Iterator[_Picture]:
        """Yield the pictures in strictly increasing time, and collect the sound on the way.

        The first one is decoded. A picture that cannot be decoded keeps its place; at the end of the file such
        pictures are only counted, so that a cut-off file ends where its picture does.
        """
        import av

        context = stream.codec_context
        clock = _Clock(
            stream.time_base, nominal, in_file_order=self._container.format.name == "avi"
        )
        lost: list[Fraction] = []  # times of pictures that could not be decoded
        last: _Picture | None = None

        def place(frames: list[Any]) -> Iterator[_Picture]:
            nonlocal last
            for frame in frames:
                picture = clock.picture(frame, last)
                if last is not None and picture.time <= last.time:
                    if last.time - picture.time > BACKWARDS_S:
                        raise _backwards(last.time, picture.time)
                    continue
                while lost and lost[0] < picture.time:
                    time = heapq.heappop(lost)
                    if last is not None and time > last.time:
                        last = _Picture(time, None, None)
                        yield last
                while lost and lost[0] == picture.time:
                    heapq.heappop(lost)  # the decoder complained, yet delivered
                    self.broken_frames -= 1
                if picture.frame is None:
                    self.broken_frames += 1
                    if last is None:
                        continue
                last = picture
                yield picture

        streams = [stream] if sound is None else [stream, sound]
        for packet in packets(self._container, self._source, streams):
            self._on_progress()
            if sound is not None and packet.stream_index == sound.index:
                self._hear(packet)
                continue
            time = clock.packet(packet)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.broken_frames += 1
                if time is not None:
                    heapq.heappush(lost, time)
                continue
            yield from place(frames)
        try:
            frames = context.decode(None)
        except av.FFmpegError:
            frames = []
        yield from place(frames)
        if sound is not None:
            self._hear(None, sound)

    def _hear(self, packet: Any, stream: Any = None) -> None:
        """Decode a packet of sound, or flush the decoder of ``stream``."""
        import av

        assert self._track is not None
        stream = packet.stream if stream is None else stream
        try:
            frames = stream.codec_context.decode(packet)
            blocks = [(f, f.to_ndarray()) for f in frames]
        except (av.FFmpegError, ValueError):
            return  # a damaged packet stays silent: the next one's time stamp tells how long
        for frame, samples in blocks:
            mono = to_mono(samples, frame.layout.nb_channels, planar=frame.format.is_planar)
            time = None if frame.pts is None else frame.pts * stream.time_base
            self._track.add(mono, frame.sample_rate, time)

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
            self.broken_frames += 1
            return None


class _Clock:
    """Times the pictures of one stream, in seconds on the stream's clock.

    Args:
        base: Seconds of one tick.
        nominal: Seconds of a picture when the file does not say.
        in_file_order: The container (AVI) stores no presentation times: what FFmpeg makes up is wrong
            when pictures are reordered. Then the times of the packets are dealt out to the pictures in order.
    """

    def __init__(self, base: Fraction, nominal: Fraction, *, in_file_order: bool) -> None:
        self._base = base
        self._nominal = nominal
        self._in_file_order = in_file_order
        self._first: int | None = None  # dts of the first packet
        self._delay: int | None = None  # ticks by which the decoder delivers later

    def packet(self, packet: Any) -> Fraction | None:
        """Return when the picture in ``packet`` is shown; None when the file does not say."""
        if self._first is None:
            self._first = packet.dts
        stamp = packet.dts if self._in_file_order or packet.pts is None else packet.pts
        return None if stamp is None else stamp * self._base

    def picture(self, frame: Any, last: _Picture | None) -> _Picture:
        """Time a decoded picture; without a time stamp it follows the last one."""
        stamp = frame.pts
        if self._in_file_order or stamp is None:
            stamp = frame.dts
            if stamp is not None and self._first is not None:
                if self._delay is None:
                    self._delay = stamp - self._first
                stamp -= self._delay
        if stamp is not None:
            time = stamp * self._base
        elif last is not None:
            time = last.time + (last.length or self._nominal)
        else:
            time = Fraction(0)
        length = frame.duration * self._base if frame.duration else self._nominal
        return _Picture(time, None if frame.is_corrupt else frame, length)


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
        f"The video lasts {seconds:.1f} s, more than the limit of {limit:g} s (decode.max_duration_s).",
    )


def _backwards(last: Fraction, now: Fraction) -> VideoError:
    return VideoError(
        "decode",
        "timestamps",
        f"The time stamps of the pictures jump back from {float(last):.2f} s to {float(now):.2f} s: the file was "
        "probably joined from several; render or remux it as one.",
    )
