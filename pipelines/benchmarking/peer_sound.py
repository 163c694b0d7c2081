"""Peers that judge sound; 16 kHz mono as our own extraction hears it. Higher is better."""

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from actors.types import F32, SAMPLE_RATE

if TYPE_CHECKING:
    from typing import Any

_LEAST_S = 1.0  # of sound


def pesq(video: str, clean: str) -> float:
    """Wide-band PESQ against the clean sound (package ``pesq``).

    Raises:
        ValueError: There is no sound, or too little speech in it.
    """
    library: Any = importlib.import_module("pesq")
    reference, degraded = _both(clean, video)
    try:
        return float(library.pesq(SAMPLE_RATE, reference, degraded, "wb"))
    except library.PesqError as error:
        said = error.args[0] if error.args else error
        text = said.decode() if isinstance(said, bytes) else said
        raise ValueError(f"PESQ: {text}") from None


def stoi(video: str, clean: str) -> float:
    """Short-time objective intelligibility against the clean sound (package ``pystoi``)."""
    library: Any = importlib.import_module("pystoi")
    reference, degraded = _both(clean, video)
    return float(library.stoi(reference, degraded, SAMPLE_RATE, extended=False))


def dnsmos(video: str) -> float:
    """Overall quality of P.835 by DNSMOS (packages ``speechmos``, ``onnxruntime``)."""
    library: Any = importlib.import_module("speechmos.dnsmos")
    return float(library.run(sound_of(video), SAMPLE_RATE)["ovrl_mos"])


def _both(clean: str, video: str) -> tuple[F32, F32]:
    reference, degraded = sound_of(clean), sound_of(video)
    if not reference.any():
        raise ValueError("the clean video is silent")
    n = min(len(reference), len(degraded))
    return reference[:n], degraded[:n]


@functools.lru_cache(maxsize=2)
def _read(path: str, _stamp: tuple[int, int]) -> F32:
    from actors.decode import DecodeConfig, VideoReader

    with Path(path).open("rb") as file, VideoReader(file, DecodeConfig(), "video") as reader:
        for _ in reader.frames():  # the picture's length bounds the sound's
            pass
        sound = reader.sound()
    if sound is None or len(sound.samples) < _LEAST_S * SAMPLE_RATE:
        raise ValueError("the video has no sound")
    return sound.samples


def sound_of(path: str) -> F32:
    """Return the sound of a video, [n] 16 kHz mono; the latest two are kept.

    Raises:
        ValueError: It has none.
    """
    # The clean video of several variants is decoded once; paths of made ones may come again.
    state = Path(path).stat()
    return _read(path, (state.st_ino, state.st_mtime_ns))
