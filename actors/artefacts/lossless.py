"""Videos that give back the very pictures, time stamps and samples that were put in.

H.264 without loss in RGB and 32-bit floats in a QuickTime file. It is the one plain container that
has both any time base for the pictures and a start of the sound to the sample; Matroska counts in
milliseconds.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.x264 import x264_options
from actors.types import FPS, SAMPLE_RATE, U8, Sound

_MOST_TICKS: Final = 1_000_000  # a second; finer bases are not told from rounding
_FALLBACK_TICKS: Final = 10_000_000  # a second, where the time stamps have no common base
_LARGEST: Final = 2**31 - 1  # what a QuickTime file can count
_BLOCK: Final = 1024  # samples a packet of sound
# No loss, and no reordering, so that pictures need no time stamps before 0.
_OPTIONS: Final = {"qp": "0", "preset": "ultrafast", **x264_options("bframes=0")}


def time_base(seconds: Sequence[float | Fraction]) -> Fraction:
    """Find ticks in which all times are whole numbers.

    Times that a reader gives as floats come from a file that counts in ticks. They are the floats
    of simple fractions, and those are found again.

    Args:
        seconds: Times, 0 or more.

    Returns:
        Seconds of a tick. Where there is no common one, 0.1 microseconds.
    """
    ticks = 1
    for value in seconds:
        simple = Fraction(value).limit_denominator(_MOST_TICKS)
        if float(simple) != float(value):
            return Fraction(1, _FALLBACK_TICKS)
        ticks = math.lcm(ticks, simple.denominator)
        if ticks > _LARGEST:
            return Fraction(1, _FALLBACK_TICKS)
    return Fraction(1, ticks)


class LosslessWriter:
    """Writes one video, a context manager. Read again, it is the same; equal input, equal bytes.

    Time stamps and duration are kept exactly where they come from a file that counts in at most
    a million ticks a second (nearly all do), and to 0.05 microseconds otherwise. Pictures are
    written as they come: memory does not grow with the video.

    Args:
        file: Writable, seekable binary file object at position 0; it is not closed.
        size: Height and width of the pictures, pixels.
        times: [n] when each picture begins, seconds after the first; strictly ascending from 0. A
            reader with the policy `windows` gives back what its 25 fps grid needs of them.
        duration_s: Seconds from the first picture to the end of the last.
        sound: On the picture's clock, silent outside ``start_s`` to ``end_s``, within [-1, 1]; None
            writes no sound stream.

    Raises:
        ValueError: Times that do not ascend from 0 to below ``duration_s``; a sound that is not
            silent where it should be. On leaving: fewer pictures came than there are times.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: tuple[int, int],
        times: Sequence[float] | Sequence[Fraction] | NDArray[np.float64],
        duration_s: float | Fraction,
        sound: Sound | None,
    ) -> None:
        starts = [*(t if isinstance(t, Fraction) else float(t) for t in times), duration_s]
        self._base = time_base(starts)
        self._ticks = [round(Fraction(t) / self._base) for t in starts]
        steps = np.diff(self._ticks)
        if self._ticks[0] != 0 or len(steps) == 0 or steps.min() <= 0:
            raise ValueError("times must ascend from 0 to below the duration")
        self._lengths = dict(zip(self._ticks, steps.tolist(), strict=False))  # of the packets
        self._file, self._size = file, size
        self._count = 0
        self._container: Any = None
        self._video: Any
        self._sound: Any = None
        self._samples = np.zeros(0, np.float32)
        self._first = self._written = 0
        if sound is not None:
            self._first, stop = (round(t * SAMPLE_RATE) for t in (sound.start_s, sound.end_s))
            if sound.samples[: self._first].any() or sound.samples[stop:].any():
                raise ValueError("the sound is not silent before start_s and after end_s")
            self._samples = np.ascontiguousarray(sound.samples[self._first : stop], np.float32)

    def __enter__(self) -> Self:
        import av

        ticks = self._base.denominator
        # Where a late sound begins is counted in ticks of the movie, not in those of the sound.
        movie = math.lcm(ticks, SAMPLE_RATE)
        self._container = av.open(
            self._file,
            "w",
            format="mov",
            options={
                "fflags": "bitexact",  # neither dates nor versions
                "movie_timescale": str(movie if movie <= _LARGEST else SAMPLE_RATE),
            },
        )
        self._video = self._container.add_stream("libx264rgb", rate=FPS, options=_OPTIONS)
        self._video.height, self._video.width = self._size
        self._video.pix_fmt = "rgb24"
        self._video.codec_context.time_base = self._base
        self._video.codec_context.thread_count = 1
        if len(self._samples):
            self._sound = self._container.add_stream("pcm_f32le", rate=SAMPLE_RATE, layout="mono")
        return self

    def write(self, picture: U8) -> None:
        """Append a picture: RGB [H, W, 3]."""
        import av

        if picture.shape != (*self._size, 3) or self._count >= len(self._ticks) - 1:
            raise ValueError(f"picture {self._count} of {len(self._ticks) - 1}: {picture.shape}")
        image = av.VideoFrame.from_ndarray(picture, format="rgb24")
        image.pts, image.time_base = self._ticks[self._count], self._base
        self._count += 1
        self._mux(self._video.encode(image))
        # Sound keeps pace with the picture, so the file is interleaved.
        self._hear(math.ceil(self._ticks[self._count] * self._base * SAMPLE_RATE))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._lengths[packet.pts]
            self._container.mux(packet)

    def _hear(self, until: int) -> None:
        """Write the sound up to a sample of the picture's clock."""
        import av

        stop = min(until - self._first, len(self._samples))
        while self._written < stop:
            part = self._samples[None, self._written : min(self._written + _BLOCK, stop)]
            piece = av.AudioFrame.from_ndarray(part, "flt", "mono")
            piece.sample_rate, piece.pts = SAMPLE_RATE, self._first + self._written
            piece.time_base = Fraction(1, SAMPLE_RATE)
            self._container.mux(self._sound.encode(piece))
            self._written += part.shape[1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                if self._count != len(self._ticks) - 1:
                    raise ValueError(f"{self._count} pictures for {len(self._ticks) - 1} times")
                self._mux(self._video.encode(None))
                if self._sound is not None:
                    self._container.mux(self._sound.encode(None))
        finally:
            self._container.close()
