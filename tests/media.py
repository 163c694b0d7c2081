"""Videos for tests, ordinary and odd ones, written with PyAV."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

TICKS = 90_000  # of the written streams, unless the codec cannot


def write_video(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    *,
    fps: float | Fraction = 25,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    codec_options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    audio: NDArray[Any] | None = None,
    audio_rate: int = 16_000,
    audio_codec: str = "aac",
    audio_start_s: float = 0.0,
    rotation: int = 0,
    flip: bool = False,
    pixel_aspect: Fraction | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    tune: Callable[[Any], None] | None = None,
) -> Path:
    """Write a video and return its path.

    Args:
        path: Target; the suffix decides the container unless ``container`` names it.
        images: RGB pictures [H, W, 3] of one size.
        fps: Constant rate, when ``times`` is None.
        times: Seconds at which each picture begins; any spacing. The last lasts 1 / fps.
        codec: Encoder of the picture.
        codec_options: Its options.
        pix_fmt: What is encoded.
        audio: [n] or [channels, n] floats in [-1, 1]; None writes no sound stream.
        audio_rate: Samples a second.
        audio_codec: Encoder of the sound.
        audio_start_s: When the sound begins.
        rotation: Degrees counter-clockwise that a player shall turn the stored picture.
        flip: Mirror horizontally, too.
        pixel_aspect: Width / height of a pixel.
        container: FFmpeg's name of the format.
        container_options: Options of the muxer.
        tune: Called with the codec context of the picture before anything is encoded.
    """
    images = iter(images)
    first = next(images)
    height, width = first.shape[:2]
    frame_length = 1 / Fraction(fps).limit_denominator(100_000)
    with av.open(str(path), "w", format=container, options=container_options or {}) as out:
        rate = Fraction(fps).limit_denominator(100_000)
        stream = out.add_stream(codec, rate=rate, options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        # Neither of these knows other rates than a constant one.
        constant_only = codec in ("mpeg4", "mpeg2video", "wmv2") or path.suffix == ".avi"
        base = frame_length if constant_only else Fraction(1, TICKS)
        stream.codec_context.time_base = base
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation or flip:
            stream.set_display_rotation(rotation, hflip=flip)
        if tune is not None:
            tune(stream.codec_context)
        sound = None
        if audio is not None:
            audio = np.atleast_2d(np.asarray(audio, np.float32))
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[audio.shape[0]]
            sound = out.add_stream(audio_codec, rate=audio_rate, layout=layout)
            sound.bit_rate = 96_000
        lengths: dict[int, int] = {}
        packets = []
        index = 0
        starts = None if times is None else [round(t / base) for t in times]
        image: NDArray[np.uint8] | None = first
        while image is not None:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base = base
            if starts is None:
                frame.pts = round(index * frame_length / base)
                lengths[frame.pts] = round((index + 1) * frame_length / base) - frame.pts
            else:
                frame.pts = starts[index]
                later = starts[index + 1] if index + 1 < len(starts) else None
                last = round(frame_length / base)
                lengths[frame.pts] = last if later is None else later - frame.pts
            packets += stream.encode(frame)
            index += 1
            image = next(images, None)
        packets += stream.encode(None)
        for packet in packets:
            packet.duration = lengths.get(packet.pts, 0)
        if sound is not None:
            packets += _encode_sound(sound, audio, audio_rate, audio_start_s)
        packets.sort(key=lambda p: (p.dts if p.dts is not None else 0) * p.time_base)
        for packet in packets:
            out.mux(packet)
    return path


def _encode_sound(sound: Any, audio: NDArray[Any], rate: int, start_s: float) -> list[Any]:
    context = sound.codec_context
    planar = context.format.is_planar
    start = round(start_s * rate)
    block = 1024
    packets = []
    for at in range(0, audio.shape[1], block):
        part = audio[:, at : at + block]
        if context.format.name.startswith("s16"):
            part = np.clip(np.rint(part * 32768), -32768, 32767).astype(np.int16)
        elif context.format.name == "u8":
            part = np.clip(np.rint(part * 128 + 128), 0, 255).astype(np.uint8)
        if not planar:
            part = part.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(part), format=context.format.name, layout=context.layout.name
        )
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = start + at
        packets += sound.encode(frame)
    return packets + sound.encode(None)


def noise_images(
    count: int, size: tuple[int, int] = (64, 48), seed: int = 0
) -> Iterable[NDArray[np.uint8]]:
    """Yield ``count`` random pictures of ``size`` (width, height), each unlike the others."""
    rng = np.random.default_rng(seed)
    width, height = size
    for _ in range(count):
        coarse = rng.integers(40, 220, (height // 8, width // 8, 3), dtype=np.uint8)
        yield coarse.repeat(8, axis=0).repeat(8, axis=1)


def counting_images(count: int, size: tuple[int, int] = (128, 32)) -> Iterable[NDArray[np.uint8]]:
    """Yield pictures that carry their number in 8 black-or-white bars; see :func:`read_count`."""
    width, height = size
    for number in range(count):
        bits = [(number >> k) & 1 for k in range(8)]
        row = np.repeat(np.array(bits, np.uint8) * 200 + 30, width // 8)
        yield np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def read_count(image: NDArray[np.uint8]) -> int:
    """Read the number out of a picture of :func:`counting_images`."""
    bars = image.mean(axis=(0, 2)).reshape(8, -1).mean(axis=1)
    return int(sum((level > 128) << k for k, level in enumerate(bars)))


@dataclass(frozen=True)
class FlashBeep:
    """A video with white flashes and beeps at the same instants."""

    path: Path
    instants: list[float]  # seconds after the first picture
    times: list[float]  # of all pictures


def beep(rate: int, frequency: float = 1000.0, length_s: float = 0.04) -> NDArray[np.float32]:
    """Return a tone burst under a Hann window."""
    n = round(rate * length_s)
    tone = np.sin(2 * np.pi * frequency * np.arange(n) / rate) * np.hanning(n)
    return (0.8 * tone).astype(np.float32)


def flash_beep_video(
    path: Path,
    *,
    seconds: float = 4.0,
    fps: float | Fraction = 25,
    times: Sequence[float] | None = None,
    every_s: float = 0.9,
    audio_rate: int = 16_000,
    channels: int = 1,
    delay_s: float = 0.0,
    first_picture_s: float = 0.0,
    **options: Any,
) -> FlashBeep:
    """Write a video whose flashes (0.04 s or one picture) begin with a beep.

    Args:
        path: Target.
        seconds: Length of the sound, and of the picture unless ``times`` is given.
        fps: Rate of the picture.
        times: When each picture begins, relative to the first one.
        every_s: Seconds between flashes, about: a flash is at the next picture.
        audio_rate: Samples a second.
        channels: All with the same sound.
        delay_s: How much later than the flashes the beeps are.
        first_picture_s: When the picture begins, while the sound begins at 0.
        **options: For :func:`write_video`.
    """
    rate = Fraction(fps).limit_denominator(100_000)
    if times is None:
        times = [float(i / rate) for i in range(int(seconds * rate))]
    wanted = np.arange(every_s / 2, times[-1] - 0.2, every_s)
    flashes = sorted({int(np.searchsorted(times, t)) for t in wanted})
    instants = [times[i] for i in flashes]
    sound = np.zeros(round((seconds + first_picture_s) * audio_rate), np.float32)
    burst = beep(audio_rate)
    for instant in instants:
        at = round((instant + delay_s + first_picture_s) * audio_rate)
        part = burst[: max(0, len(sound) - at)]
        sound[at : at + len(part)] += part
    at_times = np.asarray(times)
    lit = np.zeros(len(times), bool)
    for instant in instants:  # long enough to be on the 25 fps grid, whatever the rate
        lit |= (at_times >= instant - 1e-6) & (at_times < instant + 0.04 - 1e-6)
    grey = np.full((48, 64, 3), 60, np.uint8)
    white = np.full((48, 64, 3), 235, np.uint8)
    write_video(
        path,
        (white if lit[i] else grey for i in range(len(times))),
        fps=fps,
        times=[t + first_picture_s for t in times],
        audio=np.tile(sound, (channels, 1)),
        audio_rate=audio_rate,
        **options,
    )
    return FlashBeep(path, instants, list(times))


def cover_art_audio(path: Path) -> Path:
    """Write an MP4 with sound, whose only picture is cover art."""
    image = next(iter(noise_images(1)))
    with av.open(str(path), "w", format="mp4") as out:
        art = out.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        sound = out.add_stream("aac", rate=16_000, layout="mono")
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        picture.pts = 0
        packets = art.encode(picture) + art.encode(None)
        packets += _encode_sound(sound, np.zeros((1, 32_000), np.float32), 16_000, 0.0)
        for packet in packets:
            out.mux(packet)
    return path


def external_reference_movie(path: Path, target: Path) -> Path:
    """Write a QuickTime movie whose picture data is to be read from ``target`` (an alias)."""
    plain = write_video(path, noise_images(30), container="mov").read_bytes()
    name = str(target).encode()
    folder, _, leaf = name.rpartition(b"/")
    alias = bytes(10) + bytes([0]) + bytes(27) + bytes(12)
    alias += bytes([len(leaf)]) + leaf.ljust(63, b"\0") + bytes(16)
    alias += (1).to_bytes(2, "big") + (1).to_bytes(2, "big") + bytes(16)
    for kind, text in ((2, name.replace(b"/", b":")), (0, folder), (18, name)):
        padded = text + bytes(len(text) % 2)
        alias += kind.to_bytes(2, "big") + len(text).to_bytes(2, "big") + padded
    alias += (0xFFFF).to_bytes(2, "big") + bytes(2)
    entry = b"alis" + bytes(4) + alias
    entry = (len(entry) + 4).to_bytes(4, "big") + entry
    dref = bytes(4) + (1).to_bytes(4, "big") + entry

    def rewrite(data: bytes) -> bytes:
        out, at = b"", 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            kind, body = data[at + 4 : at + 8], data[at + 8 : at + size]
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                body = rewrite(body)
            elif kind == b"dref":
                body = dref
            out += (len(body) + 8).to_bytes(4, "big") + kind + body
            at += size
        return out

    path.write_bytes(rewrite(plain))  # the index stands at the end, so no offset changes
    return path
