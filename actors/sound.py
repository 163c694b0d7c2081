"""Decoded sound of any rate and layout -> 16 kHz mono on the picture's clock."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.types import F32, SAMPLE_RATE, Sound

GAP_S = 0.05  # a time stamp further than this from where the samples say is believed at once
DRIFT_S = 0.02  # half a frame: believed when it lasts
DRIFT_FOR_S = 1.0


def to_mono(samples: NDArray[Any], channels: int, *, planar: bool) -> F32:
    """Mix the channels of a block (mean), scaled to [-1, 1].

    Args:
        samples: [channels, n] when planar, otherwise [1, n * channels]; uint8 (offset 128), int16,
            int32, int64, or float, whose values beyond 1 are clipped as any player does.
        channels: Number of channels.
        planar: The layout of ``samples``.

    Returns:
        [n] float32.
    """
    block = samples if planar else samples.reshape(-1, channels).T
    if block.dtype == np.uint8:
        block = block.astype(np.float32) / 128.0 - 1.0
    elif np.issubdtype(block.dtype, np.integer):
        full = -float(np.iinfo(block.dtype).min)
        block = (block.astype(np.float64) / full).astype(np.float32)
    else:
        # A damaged stream may decode to NaN or infinity, which would spread through all features.
        block = np.nan_to_num(block.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    mono: F32 = np.clip(block.mean(axis=0, dtype=np.float32), -1.0, 1.0)
    return mono


@dataclass(slots=True)
class _Segment:
    """Sound without a gap, at one rate."""

    start: Fraction  # seconds on the stream's clock
    rate: int
    resampler: Any  # None when the rate is right already
    heard: int = 0  # samples at the source's rate
    parts: list[F32] = field(default_factory=list)

    @property
    def end(self) -> Fraction:
        return self.start + Fraction(self.heard, self.rate)

    def add(self, mono: F32) -> None:
        self.heard += len(mono)
        self.parts.append(mono if self.resampler is None else self.resampler.resample_chunk(mono))

    def finish(self) -> None:
        if self.resampler is not None:
            self.parts.append(self.resampler.resample_chunk(np.zeros(0, np.float32), last=True))
            self.resampler = None


class SoundTrack:
    """Collects blocks of sound, resampling as they come, and lays them on the picture's clock.

    Blocks normally follow each other without a seam, whatever the rounding of their time stamps. A
    time stamp that is off by more than 50 ms, or by more than half a frame for a second, begins a
    new segment at its own time: a gap stays silent, an overlap is overwritten by what comes later.

    Args:
        max_seconds: Sound beyond so much is not kept.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_samples = int(max_seconds * SAMPLE_RATE)
        self._kept = 0.0
        self._segments: list[_Segment] = []
        self._off = Fraction(0)  # for how long the time stamps have been off by more than DRIFT_S

    def add(self, mono: F32, rate: int, time: Fraction | None) -> None:
        """Append a block that begins at ``time`` seconds on the stream's clock (None: unknown)."""
        if len(mono) == 0 or self._kept > self._max_samples:
            return
        self._kept += len(mono) * SAMPLE_RATE / rate
        segment = self._segments[-1] if self._segments else None
        if segment is None or segment.rate != rate or self._jumped(segment, time, len(mono)):
            start = time
            if start is None:
                start = Fraction(0) if segment is None else segment.end
            segment = self._begin(start, rate)
        segment.add(mono)

    def _jumped(self, segment: _Segment, time: Fraction | None, length: int) -> bool:
        error = abs(time - segment.end) if time is not None else Fraction(0)
        self._off = self._off + Fraction(length, segment.rate) if error > DRIFT_S else Fraction(0)
        return error > GAP_S or self._off > DRIFT_FOR_S

    def _begin(self, start: Fraction, rate: int) -> _Segment:
        import soxr

        if self._segments:
            self._segments[-1].finish()
        resampler = None
        if rate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        self._off = Fraction(0)
        self._segments.append(_Segment(start, rate, resampler))
        return self._segments[-1]

    def render(self, origin: Fraction, duration: Fraction) -> Sound | None:
        """Return ``duration`` seconds of sound from ``origin`` (seconds on the stream's clock).

        None when the file has no sound in that time.
        """
        total = round(duration * SAMPLE_RATE)
        samples = np.zeros(total, np.float32)
        first, last = total, 0
        for segment in self._segments:
            segment.finish()
            at = round((segment.start - origin) * SAMPLE_RATE)
            for part in segment.parts:
                begin, end = max(at, 0), min(at + len(part), total)
                if begin < end:
                    samples[begin:end] = part[begin - at : end - at]
                    first, last = min(first, begin), max(last, end)
                at += len(part)
        if first >= last:
            return None
        # The resampler's filter may overshoot full scale.
        np.clip(samples, -1.0, 1.0, out=samples)
        return Sound(samples, first / SAMPLE_RATE, last / SAMPLE_RATE)
