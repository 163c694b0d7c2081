"""Faults of known kind, size and place, injected into clean videos.

Each injector is a pure function of pictures or samples; ``tests/actors/test_faults.py`` holds every
one against a measure of its own. Pictures are RGB [H, W, 3] uint8 with one timestamp each, sound is
[n] at 16 kHz mono in [-1, 1] from the instant of the first picture. Spans are seconds of the video,
[start, end). Where the demo corpus has the same damage (``actors/demo/damage.py``) it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.demo.damage import QUIETEST_SNR_DB, SNR_RANGE_DB, Damage, damaged_sound
from actors.demo.face import Face
from actors.demo.motion import poses
from actors.demo.render import SPEAKERS, VideoSpec, utterance
from actors.types import F32, FPS, SAMPLE_RATE, U8
from tests.media import write_video

FRAME = SAMPLE_RATE // FPS
Span = tuple[float, float]
F64 = NDArray[np.float64]

# Face Mesh points that speech hardly moves: eye corners, bridge and wings of the nose, temples.
STEADY = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 98, 327, 127, 356)
NOSE_BASE, CHIN, LIPS = 2, 152, (13, 14)
EYE_CORNERS = (33, 263)


@dataclass(frozen=True)
class Media:
    """A video in memory."""

    images: list[U8]
    times: list[float]  # seconds, the first picture at 0
    sound: F32 | None

    @property
    def seconds(self) -> float:
        """Length of the picture."""
        return self.times[-1] + (self.times[-1] - self.times[0]) / (len(self.times) - 1)

    def inside(self, span: Span) -> range:
        """Numbers of the pictures shown from the start of ``span`` to before its end."""
        first, last = np.searchsorted(np.array(self.times) + 1e-6, span)
        return range(int(first), int(last))


# --- reading and writing


def read_media(path: Path, start_s: float = 0.0, end_s: float = 1e9, max_side: int = 720) -> Media:
    """Read a piece of a video, scaled down to ``max_side`` pixels where it is larger."""
    import av

    images: list[U8] = []
    times: list[float] = []
    parts: list[F32] = []
    first_picture: float | None = None
    first_sound: float | None = None
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        for frame in container.decode():
            at = float(frame.time or 0.0)
            if isinstance(frame, av.AudioFrame):
                first_sound = at if first_sound is None else first_sound
                parts += [f.to_ndarray().ravel() for f in resampler.resample(frame)]
                continue
            first_picture = at if first_picture is None else first_picture
            if start_s <= at - first_picture < end_s:
                images.append(_scaled(frame.to_ndarray(format="rgb24"), max_side))
                times.append(at)
        if parts:
            parts += [f.to_ndarray().ravel() for f in resampler.resample(None)]
    media = Media(images, [t - times[0] for t in times], None)
    if not parts:
        return media
    sound = np.zeros(round(media.seconds * SAMPLE_RATE), np.float32)
    skip = round(
        (times[0] - (first_sound or 0.0)) * SAMPLE_RATE
    )  # sound before the first picture kept
    piece = np.concatenate(parts)[max(0, skip) :][: len(sound) - max(0, -skip)]
    sound[max(0, -skip) :][: len(piece)] = piece
    return replace(media, sound=sound)


def _scaled(image: U8, max_side: int) -> U8:
    import cv2

    scale = max_side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (round(n * scale / 2) * 2 for n in image.shape[:2])
    smaller: U8 = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return smaller


def write_media(path: Path, media: Media, *, sound_codec: str = "pcm_s16le") -> Path:
    """Write a video nearly without loss (x264 CRF 12), its sound exact by default."""
    return write_video(
        path,
        media.images,
        times=media.times,
        codec_options={"crf": "12", "preset": "veryfast", "threads": "1"},
        audio=media.sound,
        audio_codec=sound_codec,
        fps=len(media.times) / media.seconds,
    )


# --- sound


def offset_sound(samples: F32, frames: int, seed: int = 0) -> F32:
    """Play the sound ``frames`` of 40 ms earlier (> 0: it leads the picture; < 0: it lags).

    The gap holds noise as loud as the quietest tenth of a second.
    """
    lead = frames * FRAME
    tenths = samples[: len(samples) // 1600 * 1600].reshape(-1, 1600)
    levels = tenths.std(axis=1)
    quiet = float(levels[levels > 0].min(initial=1e-3))
    noise = np.random.default_rng([seed, 0x0FF5E7]).standard_normal(len(samples))
    moved = (quiet * noise).astype(np.float32)
    kept = len(samples) - abs(lead)
    if lead >= 0:
        moved[:kept] = samples[lead:]
    else:
        moved[-lead:] = samples[:kept]
    return moved


def clip_sound(samples: F32, share: float) -> F32:
    """Turn the sound up until ``share`` of its samples lie at the limit of ±1."""
    limit = float(np.quantile(np.abs(samples), 1 - share))
    clipped: F32 = np.clip(samples / limit, -1.0, 1.0).astype(np.float32)
    return clipped


def drop_sound(samples: F32, span: Span, seed: int = 0, gaps: int = 6) -> tuple[F32, list[Span]]:
    """Replace ``gaps`` pieces of 20 to 200 ms in ``span`` by digital silence.

    They lie where somebody speaks and at least 60 ms apart.

    Returns:
        The sound and the gaps; fewer than asked for where speech has no room for more.
    """
    rng = np.random.default_rng([seed, 0xD20F])
    broken = samples.copy()
    speaking = np.repeat(speech_hops(samples), 160)
    made: list[Span] = []
    for _ in range(400):
        if len(made) == gaps:
            break
        length = round(rng.uniform(0.02, 0.2) * SAMPLE_RATE)
        first = round(rng.uniform(*span) * SAMPLE_RATE)
        at = slice(first, first + length)
        start, end = first / SAMPLE_RATE, (first + length) / SAMPLE_RATE
        free = all(end + 0.06 < a or start - 0.06 > b for a, b in made)
        if end <= span[1] and free and speaking[at].all():
            broken[at] = 0.0
            made.append((start, end))
    return broken, sorted(made)


def add_noise(samples: F32, snr_db: float, seed: int = 0) -> F32:
    """Add white noise; the mean powers of sound and noise have this ratio, 5 to 35 dB."""
    severity = (QUIETEST_SNR_DB - snr_db) / SNR_RANGE_DB
    return damaged_sound(samples, Damage("noise", severity), seed)


def speech_hops(samples: F32) -> NDArray[np.bool_]:
    """Where somebody speaks, a value each 10 ms: within 25 dB of the loud parts, gaps closed."""
    from scipy.ndimage import binary_closing, binary_opening

    power = np.square(samples[: len(samples) // 160 * 160].astype(np.float64)).reshape(-1, 160)
    level = 10 * np.log10(power.mean(axis=1) + 1e-9)
    loud = level > np.percentile(level, 95) - 25
    closed = binary_closing(np.pad(loud, 20), np.ones(9))
    return np.asarray(binary_opening(closed, np.ones(5))[20:-20])


# --- picture


def freeze_picture(media: Media, span: Span) -> Media:
    """Show the first picture of ``span`` throughout it; the sound goes on."""
    held = media.inside(span)
    images = list(media.images)
    for i in held:
        images[i] = images[held.start]
    return replace(media, images=images)


def blur_picture(media: Media, sigma: float, span: Span | None = None) -> Media:
    """Blur whole pictures by a Gaussian of ``sigma`` pixels, all of them or those of a span."""
    import cv2

    chosen = _chosen(media, span)
    made = [cv2.GaussianBlur(media.images[i], (0, 0), sigma) for i in chosen]
    return _replaced(media, chosen, made)


def blur_face(media: Media, points: F64, sigma: float, span: Span | None = None) -> Media:
    """Blur the face alone, with a soft edge.

    Args:
        media: The video.
        points: [n, 468, 2] Face Mesh in pixels, one a picture.
        sigma: Standard deviation, pixels.
        span: Seconds; None is the whole video.
    """
    import cv2

    chosen = _chosen(media, span)
    made = []
    for i in chosen:
        image = media.images[i]
        mask = np.zeros(image.shape[:2], np.float32)
        hull = cv2.convexHull(points[i].astype(np.float32)).round().astype(np.int32)
        cv2.fillConvexPoly(mask, hull, 1.0)
        made.append(_blend(image, cv2.GaussianBlur(image, (0, 0), sigma), mask, sigma))
    return _replaced(media, chosen, made)


def freeze_mouth(media: Media, points: F64, span: Span) -> Media:
    """Hold the lower face as it is at the start of ``span``, moving with the head.

    The patch (nose base to chin) follows the steady points of the face by an affine map, so that it
    narrows as the head turns, and is laid over each picture with a soft edge.

    Args:
        media: The video.
        points: [n, 468, 2] Face Mesh in pixels, one a picture.
        span: Seconds.
    """
    import cv2
    from scipy.signal import savgol_filter

    held = media.inside(span)
    first, at = media.images[held.start], points[held.start]
    eyes = float(np.linalg.norm(at[EYE_CORNERS[0]] - at[EYE_CORNERS[1]]))
    top, bottom = at[NOSE_BASE], at[CHIN]
    down = bottom - top
    centre = (top + bottom) / 2
    axes = (0.55 * eyes, 0.52 * float(np.linalg.norm(down)))
    angle = float(np.degrees(np.arctan2(down[1], down[0]))) - 90
    mask = np.zeros(first.shape[:2], np.float32)
    cv2.ellipse(mask, (tuple(centre), tuple(2 * a for a in axes), angle), 1.0, -1)
    made = []
    # The mesh trembles a little, which must not make the mouth tremble.
    steady = savgol_filter(points[:, STEADY], 7, 2, axis=0)
    for i in held:
        here = np.c_[steady[held.start], np.ones(len(STEADY))]
        moved = np.linalg.lstsq(here, steady[i], rcond=None)[0].T
        size = first.shape[1::-1]
        patch = cv2.warpAffine(first, moved, size, flags=cv2.INTER_CUBIC)
        place = cv2.warpAffine(mask, moved, size)
        made.append(_blend(media.images[i], patch, place, eyes / 25))
    return _replaced(media, held, made)


def flicker(media: Media, strength: float, span: Span | None = None, seed: int = 0) -> Media:
    """Vary the light from picture to picture: a gain uniform in 1 ± ``strength`` for each."""
    chosen = _chosen(media, span)
    gains = np.random.default_rng([seed, 0xF11C]).uniform(1 - strength, 1 + strength, len(chosen))
    made = [
        np.clip(np.rint(media.images[i] * gain), 0, 255).astype(np.uint8)
        for i, gain in zip(chosen, gains, strict=True)
    ]
    return _replaced(media, chosen, made)


def demo_frozen_mouth(spec: VideoSpec, media: Media, span: Span) -> Media:
    """Hold the lips of a demo video's face in ``span``, where it is drawn anew."""
    moves = poses(utterance(spec), spec.seed)
    face, held = Face(SPEAKERS[spec.speaker].look), media.inside(span)
    lips = moves[held.start]
    made = [
        face.draw(replace(moves[i], opening=lips.opening, width=lips.width, rounding=lips.rounding))
        for i in held
    ]
    return _replaced(media, held, made)


def _chosen(media: Media, span: Span | None) -> range:
    return range(len(media.images)) if span is None else media.inside(span)


def _replaced(media: Media, chosen: range, images: Sequence[U8]) -> Media:
    result = list(media.images)
    result[chosen.start : chosen.stop] = images
    return replace(media, images=result)


def _blend(image: U8, other: Any, mask: F32, soft: float) -> U8:
    import cv2

    weight = cv2.GaussianBlur(mask, (0, 0), max(1.0, soft))[..., None]
    mixed: U8 = np.rint(image + weight * (other.astype(np.float32) - image)).astype(np.uint8)
    return mixed
