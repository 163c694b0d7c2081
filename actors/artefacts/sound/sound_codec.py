"""Sound coded with too few bits."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.types import F32, SAMPLE_RATE
from model.tasks import Task

_MOST_BITS: Final = 64_000  # a second, as the severity approaches 0: hardly told from the original
_OCTAVES: Final = 4.0  # severity 1 is 4 kbit/s
_BLOCK: Final = 1024  # samples in a frame of AAC, and by so many its encoder is late


class SoundCodec(SoundArtefact):
    """AAC (low complexity, mono, 16 kHz) whose bit rate halves four times, from 64 to 4 kbit/s.

    Coded and decoded in memory by FFmpeg's own AAC, which every build of FFmpeg has. Its `fast`
    coder keeps to the rate down to the lowest; the default one does not go below 9 kbit/s. The
    encoder's delay is taken off, so the result is in time to the sample. Samples beyond ±1 are cut,
    as any player does. Equal bytes for one version of PyAV on one kind of processor.
    """

    type: ClassVar[str] = "sound_codec"
    title: ClassVar[str] = "low-bitrate codec"
    group: ClassVar[Group] = "sound"
    # Watery and dull with holes in the spectrum; words are understood.
    harms: ClassVar[dict[Task, float]] = {"audio_quality": 2.7}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``bitrate_kbit_s``."""
        return {"bitrate_kbit_s": _MOST_BITS * 2.0 ** (-_OCTAVES * severity) / 1000}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:  # noqa: ARG002
        """Code and decode the sound; nothing is random. See the base class."""
        bits = round(self.measures(severity)["bitrate_kbit_s"] * 1000)
        decoded = np.concatenate([np.zeros(0, np.float32), *_coded(samples, bits)])
        in_time = decoded[_BLOCK : _BLOCK + samples.size]
        result: F32 = np.clip(in_time, -1.0, 1.0)
        return result


def _coded(samples: F32, bit_rate: int) -> Iterator[F32]:
    """Yield ``samples`` [n] after coding, at least n + 1024 of them, 1024 late."""
    import av

    encoder: Any = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout, encoder.format = SAMPLE_RATE, "mono", "fltp"
    encoder.bit_rate, encoder.time_base = bit_rate, Fraction(1, SAMPLE_RATE)
    encoder.options = {"aac_coder": "fast"}
    encoder.open()
    decoder: Any = av.CodecContext.create("aac", "r")
    decoder.extradata = encoder.extradata
    # Two blocks more than the sound has push its end out of the encoder.
    padded = np.pad(samples, (0, -samples.size % _BLOCK + 2 * _BLOCK))
    for first in range(0, padded.size + 1, _BLOCK):
        block = None
        if first < padded.size:
            piece = np.ascontiguousarray(padded[None, first : first + _BLOCK], np.float32)
            block = av.AudioFrame.from_ndarray(piece, "fltp", "mono")
            block.sample_rate, block.pts = SAMPLE_RATE, first
        for packet in encoder.encode(block):
            for frame in decoder.decode(packet):
                yield frame.to_ndarray()[0].astype(np.float32)
    for frame in decoder.decode(None):
        yield frame.to_ndarray()[0].astype(np.float32)
