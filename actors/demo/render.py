"""From a specification to a video file: H.264 at 25 fps and AAC, in mp4."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from actors.demo.damage import VERSION as DAMAGE_VERSION
from actors.demo.damage import Damage, damaged_frames, damaged_poses, damaged_sound
from actors.demo.face import Face
from actors.demo.looks import Look
from actors.demo.motion import poses
from actors.demo.voice import Utterance, Voice, speak
from actors.types import F32, FPS, SAMPLE_RATE, U8

VERSION = 1  # raise it when the same specification renders differently
_TAG = "talkmos-demo "


@dataclass(frozen=True, slots=True)
class Speaker:
    """A face and a voice."""

    look: Look
    voice: Voice


SPEAKERS: dict[str, Speaker] = {
    "ada": Speaker(Look(), Voice(f0_hz=185, formants=1.12, rate=4.0)),
    "bruno": Speaker(
        Look(width=0.05, length=0.02, jaw=0.08, nose=0.14, eyes=-0.06, mirrored=True,
             skin=(0.80, 0.70, 0.64), hair=(0.36, 0.32, 0.34), background=(0.74, 0.86, 1.0)),
        Voice(f0_hz=105, formants=0.95, rate=3.7, breath=0.03),
    ),
    "chen": Speaker(
        Look(width=0.03, length=-0.06, jaw=-0.06, nose=-0.08, eyes=0.08,
             skin=(1.0, 0.96, 0.86), hair=(0.25, 0.23, 0.25), background=(0.95, 0.88, 0.72)),
        Voice(f0_hz=210, formants=1.18, rate=4.6, breath=0.08),
    ),
    "dara": Speaker(
        Look(width=-0.05, length=0.03, jaw=-0.05, nose=0.05, eyes=0.06, mirrored=True,
             skin=(0.72, 0.57, 0.48), hair=(0.30, 0.26, 0.28), background=(0.72, 0.92, 0.78)),
        Voice(f0_hz=165, formants=1.08, rate=3.4),
    ),
    "elio": Speaker(
        Look(width=-0.03, length=0.04, jaw=0.11, nose=0.10, eyes=-0.04,
             skin=(0.94, 0.82, 0.74), hair=(0.80, 0.46, 0.28), background=(0.58, 0.62, 0.72)),
        Voice(f0_hz=125, formants=1.0, rate=4.2, breath=0.05),
    ),
    "fay": Speaker(
        Look(width=0.07, length=-0.02, jaw=0.02, nose=-0.1, eyes=0.1, mirrored=True,
             skin=(1.02, 0.94, 0.92), hair=(1.12, 1.14, 1.22), background=(0.98, 0.80, 0.84)),
        Voice(f0_hz=195, formants=1.15, rate=3.9, breath=0.12),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """All that decides a demo video.

    ``generator`` and ``speaker`` are the folder and a key of ``SPEAKERS``, ``number`` counts the
    speaker's videos from 1, ``seconds`` is a multiple of 1/25 and at least 1. Without its
    ``damage`` a specification gives the clean video of the same utterance.
    """

    generator: str
    speaker: str
    number: int
    seconds: float
    seed: int
    damage: Damage | None = None

    @property
    def video_id(self) -> str:
        """Path of the video in the corpus, without its suffix."""
        return f"{self.generator}/{self.speaker}-{self.number}"

    @property
    def frames(self) -> int:
        """Number of pictures."""
        return round(self.seconds * FPS)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; ``damage`` only where there is some."""
        fields = asdict(self)
        if self.damage is None:
            del fields["damage"]
        return fields

    @property
    def digest(self) -> str:
        """Name of the content: equal digests are equal videos."""
        parts = {
            "version": VERSION,
            "spec": self.as_dict(),
            "who": asdict(SPEAKERS[self.speaker]),
        }
        if self.damage:
            parts["damage_version"] = DAMAGE_VERSION
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def utterance(spec: VideoSpec) -> Utterance:
    """Return what the video says, and with which mouth, before any damage."""
    return speak(SPEAKERS[spec.speaker].voice, spec.seconds, spec.seed)


@lru_cache(maxsize=len(SPEAKERS))
def _face(speaker: str) -> Face:
    """Painted once in a process: that costs as much as 15 frames."""
    return Face(SPEAKERS[speaker].look)


def pictures(spec: VideoSpec, said: Utterance) -> Iterator[U8]:
    """Yield the frames, damaged where the specification says so: RGB [320, 320, 3]."""
    face = _face(spec.speaker)
    moves = poses(said, spec.seed)
    if spec.damage is None:
        yield from map(face.draw, moves)
        return
    moves = damaged_poses(moves, spec.damage)
    yield from damaged_frames(map(face.draw, moves), spec.damage)


def waveform(spec: VideoSpec, said: Utterance) -> F32:
    """Return the samples, damaged where the specification says so: [n] at 16 kHz in [-1, 1]."""
    if spec.damage is None:
        return said.samples
    return damaged_sound(said.samples, spec.damage, spec.seed)


def render(spec: VideoSpec, path: Path) -> None:
    """Write the video to ``path``. It appears there whole or not at all."""
    said = utterance(spec)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        encode(
            partial,
            pictures(spec, said),
            waveform(spec, said),
            comment=_TAG + spec.digest,
            avx512=spec.damage is None,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def encode(
    path: Path, frames: Iterable[U8], samples: F32, *, comment: str = "", avx512: bool = True
) -> None:
    """Write frames at 25 fps and sound at 16 kHz mono as mp4 (x264 CRF 20, AAC 64 kbit/s).

    Args:
        path: Where to write; an existing file is replaced.
        frames: RGB [H, W, 3], even sides.
        samples: [n] in [-1, 1]; sample 0 sounds at the instant of the first frame.
        comment: Kept in the container's metadata.
        avx512: Whether x264 may use AVX-512. Without it the file is the same on every x86 processor
            and in every run; clean videos keep it, since some would become other bytes than before.
    """
    import av

    # One thread: the encoder's result must not depend on the machine's number of cores.
    options = {"crf": "20", "preset": "fast", "threads": "1"}
    if not avx512 and platform.machine().lower() in ("x86_64", "amd64"):
        # Where the whole picture jumps, x264's AVX-512 code gives other bytes each time. Every x86
        # processor that NumPy runs on has SSE 4.2, which is as fast here.
        options["x264-params"] = "asm=sse4.2"
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata["comment"] = comment
        video = container.add_stream("libx264", rate=FPS, options=options)
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        sound.bit_rate = 64_000
        written = 0
        for count, picture in enumerate(frames, start=1):
            if count == 1:
                video.height, video.width = picture.shape[:2]
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(video.encode(image))
            # Sound keeps pace with the picture, so the file is interleaved.
            until = min(count * SAMPLE_RATE // FPS, len(samples))
            piece = av.AudioFrame.from_ndarray(samples[None, written:until], "fltp", "mono")
            piece.sample_rate, piece.pts = SAMPLE_RATE, written
            container.mux(sound.encode(piece))
            written = until
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def digest_of(path: Path) -> str | None:
    """Return the digest that :func:`render` left in a file; None when the file is not ours."""
    import av

    try:
        with av.open(str(path)) as container:
            comment = container.metadata.get("comment", "")
    except (av.FFmpegError, OSError):
        return None
    return comment.removeprefix(_TAG) if comment.startswith(_TAG) else None
