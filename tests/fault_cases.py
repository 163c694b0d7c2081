"""Which faults are injected where, and whether what was found is what was put.

Used by ``tests/actors/test_faults.py`` (a handful) and ``benchmarks/faults.py`` (all).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from actors.types import F32
from tests import faults
from tests.fault_bed import Injected, Source
from tests.faults import Media, Span

WHERE_S: Final = 0.5  # a border may be off by so much
COVERED: Final = 0.5  # of the shorter of injected and found span

# Fault -> the kind of finding that names it (actors/findings_kinds.py).
SOUND_FAULTS: Final = {
    **{f"offset {n:+d}": "av_offset" for n in (3, -3, 4, -4, 6, -6, 9, -9)},
    "clipped 2 %": "clipping",
    "clipped 8 %": "clipping",
    "clipped 8 %, AAC": "clipping",
    "drop-outs": "dropout",
    "noise 10 dB": "noise",
}
PICTURE_FAULTS: Final = {
    "frozen mouth": "mouth_frozen",
    "frozen picture": "picture_frozen",
    "blurred face": "blur",
    "blurred picture": "blur",
    "blurred throughout": "blur",
    "flicker": "flicker",
}
FAULTS: Final = {**SOUND_FAULTS, **PICTURE_FAULTS}
SILENT_FAULTS: Final = tuple(name for name in PICTURE_FAULTS if name != "frozen mouth")
BLUR: Final = 0.045  # standard deviation over the distance of the eyes: 2.8 pixels in the demo
FLICKER: Final = 0.04
NOISE_DB: Final = 10.0


def injected(source: Source, fault: str, round_: int = 0) -> Injected:
    """Rows of ``source`` with a fault of ``FAULTS``, in a place that names and round decide."""
    name = f"{source.name} {fault} {round_}"
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return source.bed.kept(name, lambda: _injected(source, fault, seed))


def _injected(source: Source, fault: str, seed: int) -> Injected:
    bed = source.bed
    if fault in SOUND_FAULTS:
        sound, span = _with_sound_fault(source, fault, seed)
        codec = "aac" if "AAC" in fault else "pcm_s16le"
        rows = bed.with_sound(source.prepared, sound, codec)
        return Injected(rows, span, int(fault.split()[1]) if "offset" in fault else None)
    media, span = _with_picture_fault(source, fault, seed)
    return Injected(bed.encoded(bed.prepared_media(media)), span)


def _with_sound_fault(source: Source, fault: str, seed: int) -> tuple[F32, Span | None]:
    sound = source.media.sound
    assert sound is not None
    if fault.startswith("offset"):
        return faults.offset_sound(sound, int(fault.split()[1]), seed), None
    if fault.startswith("clipped"):
        return faults.clip_sound(sound, float(fault.split()[1]) / 100), None
    if fault == "drop-outs":
        span = source.place(2.0, np.random.default_rng(seed), talking=True)
        broken, gaps = faults.drop_sound(sound, span, seed)
        return broken, (gaps[0][0], gaps[-1][1])
    return faults.add_noise(sound, NOISE_DB, seed), None


def _with_picture_fault(source: Source, fault: str, seed: int) -> tuple[Media, Span | None]:
    rng = np.random.default_rng(seed)
    media, sigma = source.media, BLUR * source.eyes
    if fault == "blurred throughout":
        return faults.blur_picture(media, sigma), None
    if fault == "frozen mouth":
        span = source.place(1.0, rng, talking=True)
        if source.spec is not None:
            return faults.demo_frozen_mouth(source.spec, media, span), span
        return faults.freeze_mouth(media, source.points, span), span
    if fault == "frozen picture":
        span = source.place(1.0, rng)
        return faults.freeze_picture(media, span), span
    if fault == "flicker":
        span = source.place(2.0, rng)
        return faults.flicker(media, FLICKER, span, seed), span
    span = source.place(1.5, rng)
    if fault == "blurred face":
        return faults.blur_face(media, source.points, sigma, span), span
    return faults.blur_picture(media, sigma, span), span


# --- judging


@dataclass(frozen=True)
class Verdict:
    """Whether a fault was named where it is."""

    named: bool  # in the right segment
    exact: bool  # and with borders within half a second
    value: float | None  # of the finding

    def __bool__(self) -> bool:
        return self.named


def judge(found: Sequence[Any], fault: str, made: Injected) -> Verdict:
    """Hold the findings of a video against the fault that was put in.

    A fault throughout is named when findings of its kind cover half of the video. A fault in a
    span is named by one that overlaps it by half of the shorter of the two and reaches no more
    than 0.5 s beyond the span or, coarser, beyond the clips that the span touches.
    """
    right = [f for f in found if f.kind == FAULTS[fault]]
    whole = made.rows[0]["start_s"], made.rows[-1]["end_s"]
    if made.span is None:
        covered = sum(_overlap((f.start_s, f.end_s), whole) for f in right)
        named = covered >= COVERED * (whole[1] - whole[0])
        best = max(right, key=lambda f: _overlap((f.start_s, f.end_s), whole), default=None)
        return Verdict(named, named, best.value if best and named else None)
    start, end = made.span
    touched = [r for r in made.rows if _overlap((r["start_s"], r["end_s"]), made.span) > 0]
    segment = touched[0]["start_s"] - WHERE_S, touched[-1]["end_s"] + WHERE_S
    near = start - WHERE_S, end + WHERE_S
    verdict = Verdict(False, False, None)
    for f in right:
        shorter = min(f.end_s - f.start_s, end - start)
        if _overlap((f.start_s, f.end_s), made.span) < COVERED * shorter:
            continue
        if near[0] <= f.start_s and f.end_s <= near[1]:
            return Verdict(True, True, f.value)
        if segment[0] <= f.start_s and f.end_s <= segment[1]:
            verdict = Verdict(True, False, f.value)
    return verdict


def _overlap(a: Span, b: Span) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
