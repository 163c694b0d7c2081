"""Packets -> pictures in order of time, and the sound on the way."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from actors.errors import VideoError
from actors.sound import SoundTrack, to_mono

BACKWARDS_S = 1.0  # a step back of time stamps beyond this is no rounding and no reordering
BACKWARDS_PICTURES = 10  # so many in a row are no single damaged time stamp


@dataclass(frozen=True, slots=True)
class Picture:
    """One source picture in presentation order."""

    time: Fraction  # seconds on the stream's clock
    frame: Any  # av.VideoFrame, None when it could not be decoded
    length: Fraction | None  # seconds; None when unknown


class _Clock:
    """Times the pictures of one stream, in seconds on the stream's clock.

    Args:
        base: Seconds of one tick.
        nominal: Seconds of a picture when the file does not say.
        in_file_order: The container (AVI) stores no presentation times, and what FFmpeg makes up is
            wrong when pictures are reordered. Then the times of the packets are dealt out to the
            pictures in order.
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

    def picture(self, frame: Any, last: Picture | None) -> Picture:
        """Time a decoded picture; without a time stamp it follows the last one."""
        stamp = frame.pts
        if self._in_file_order:
            stamp = frame.dts
            if stamp is not None and self._first is not None:
                if self._delay is None:
                    self._delay = stamp - self._first
                stamp -= self._delay
        if stamp is None and last is None:
            stamp = frame.dts
        if stamp is not None:
            time = stamp * self._base
        elif last is not None:
            time = last.time + (last.length or self._nominal)
        else:
            time = Fraction(0)
        length = frame.duration * self._base if frame.duration else self._nominal
        return Picture(time, None if frame.is_corrupt else frame, length)


class PictureStream:
    """Iterates once over the pictures of a video, in strictly increasing time.

    The first one is decoded. Later on, a picture that cannot be decoded keeps its place; at the end
    of the file such pictures are only counted, so that a cut-off file ends where its picture does.
    A picture that is not later than the one before it is left out, and counted as broken when its
    time stamp lies far back.

    Args:
        packets: Of ``stream``, and of ``sound`` when there is a ``track``, in file order.
        stream: The ``av.VideoStream``.
        sound: The ``av.AudioStream``, or None.
        track: Takes the decoded sound; None leaves it alone.
        in_file_order: The container stores no presentation times.
        nominal: Seconds of a picture when the file does not say.
        on_progress: Called for each packet.

    Iterating raises VideoError: ``timestamps``, and what ``packets`` raises.
    """

    def __init__(
        self,
        packets: Iterator[Any],
        stream: Any,
        sound: Any | None,
        track: SoundTrack | None,
        *,
        in_file_order: bool,
        nominal: Fraction,
        on_progress: Callable[[], None],
    ) -> None:
        self._packets = packets
        self._stream = stream
        self._sound = sound
        self._track = track
        self._clock = _Clock(stream.time_base, nominal, in_file_order=in_file_order)
        self._on_progress = on_progress
        self._lost: list[Fraction] = []  # heap: times of pictures that could not be decoded
        self._last: Picture | None = None
        self._backwards = 0  # pictures in a row whose time stamps lie far back
        self.broken = 0

    def __iter__(self) -> Iterator[Picture]:
        import av

        for packet in self._packets:
            self._on_progress()
            if packet.stream_index != self._stream.index:
                self._hear(packet)
                continue
            time = self._clock.packet(packet)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.broken += 1
                if time is not None:
                    heapq.heappush(self._lost, time)
                continue
            for frame in frames:
                yield from self._place(frame)
        try:
            frames = self._stream.codec_context.decode(None)
        except av.FFmpegError:
            frames = []
        for frame in frames:
            yield from self._place(frame)
        self._hear(None)

    def _place(self, frame: Any) -> Iterator[Picture]:
        picture = self._clock.picture(frame, self._last)
        if self._last is not None and picture.time <= self._last.time:
            if self._last.time - picture.time > BACKWARDS_S:
                self.broken += 1
                self._backwards += 1
                if self._backwards > BACKWARDS_PICTURES:
                    raise _backwards(self._last.time, picture.time)
            return
        self._backwards = 0
        while self._lost and self._lost[0] < picture.time:
            time = heapq.heappop(self._lost)
            if self._last is not None and time > self._last.time:
                self._last = Picture(time, None, None)
                yield self._last
        while self._lost and self._lost[0] == picture.time:
            heapq.heappop(self._lost)  # the decoder complained, yet delivered
            self.broken -= 1
        if picture.frame is None:
            self.broken += 1
            if self._last is None:
                return
        self._last = picture
        yield picture

    def _hear(self, packet: Any | None) -> None:
        """Decode a packet of sound; None: what is left in the decoder."""
        import av

        if self._sound is None or self._track is None:
            return
        try:
            frames = self._sound.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            return  # a damaged packet stays silent: the next one's time stamp tells how long
        for frame in frames:
            channels = frame.layout.nb_channels
            mono = to_mono(frame.to_ndarray(), channels, planar=frame.format.is_planar)
            time = None if frame.pts is None else frame.pts * self._sound.time_base
            self._track.add(mono, frame.sample_rate, time)


def _backwards(last: Fraction, now: Fraction) -> VideoError:
    return VideoError(
        "decode",
        "timestamps",
        f"The time stamps of the pictures jump back from {float(last):.2f} s to "
        f"{float(now):.2f} s: the file was probably joined from several; render or remux it as "
        "one.",
    )
