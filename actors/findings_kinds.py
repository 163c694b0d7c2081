"""The kinds of findings, their words and severities: one table (docs/findings.md explains it)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong in a stretch of a video.

    Attributes:
        kind: A key of :data:`KINDS`.
        start_s: Start in the video, seconds.
        end_s: End in the video, seconds.
        value: The measure that says so, in the unit of its kind.
        severity: 0 (just past the threshold would be about 0.2) to 1.
        text: In words, with the value, without the times.
    """

    kind: str
    start_s: float
    end_s: float
    value: float
    severity: float
    text: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Attributes:
        doc: What it means, with the unit of its value.
        mild: Value of severity 0.2, about the threshold.
        grave: Value of severity 1; smaller than ``mild`` where low values are bad.
        say: Value -> words; None where the detector words the finding itself.
        merge: Value of adjoining findings: ``sum`` of lengths, or ``mean`` over time.
    """

    doc: str
    mild: float
    grave: float
    say: Callable[[float], str] | None
    merge: Literal["sum", "mean"] = "mean"


def seconds(value: float) -> str:
    """Seconds in words: one decimal, two below one second."""
    return f"{value:.1f} s" if value >= 0.95 else f"{value:.2f} s"


def per_cent(share: float) -> str:
    """A share in words; below 10 % with one decimal."""
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


TABLE: Final[dict[str, Kind]] = {
    "av_offset": Kind(
        "sound and lips apart; seconds, positive: the sound leads the picture", 0.08, 0.4, None
    ),
    "mouth_frozen": Kind(
        "the mouth stands still while somebody speaks; seconds",
        0.6,
        3.0,
        lambda v: f"mouth frozen for {seconds(v)} while the speech goes on",
        "sum",
    ),
    "picture_frozen": Kind(
        "the whole picture stands still; seconds",
        0.2,
        2.0,
        lambda v: f"picture frozen for {seconds(v)}",
        "sum",
    ),
    "no_picture": Kind(
        "frames that are black or cannot be decoded; seconds",
        0.1,
        1.0,
        lambda v: f"no picture for {seconds(v)} (black or broken frames)",
        "sum",
    ),
    "duplicated_frames": Kind(
        "frames that repeat the one before, singly; share",
        0.1,
        0.6,
        lambda v: f"{per_cent(v)} of the frames repeat the one before",
    ),
    "blur": Kind("the face is blurred; its sharpness, levels squared", 10.0, 3.0, None),
    "blockiness": Kind(
        "steps on the 8x8 grid of a codec; ratio to the gradient elsewhere, 1 without",
        1.5,
        3.0,
        lambda v: f"blocks of the codec stand out (steps {v:.1f} times the gradient elsewhere)",
    ),
    "flicker": Kind(
        "brightness or colour jumps from frame to frame; levels",
        0.5,
        4.0,
        lambda v: f"light or colour flickers by {v:.1f} levels from frame to frame",
    ),
    "no_face": Kind(
        "no face is found; seconds",
        0.2,
        2.0,
        lambda v: f"no face for {seconds(v)}",
        "sum",
    ),
    "face_jerky": Kind(
        "the head trembles; eye distances from frame to frame, beyond smooth motion",
        0.01,
        0.04,
        lambda v: f"head trembles by {per_cent(v)} of the eye distance from frame to frame",
    ),
    "no_sound": Kind(
        "no sound, or digital silence; seconds",
        0.5,
        3.0,
        lambda v: f"no sound for {seconds(v)}",
        "sum",
    ),
    "low_level": Kind(
        "the voice is very quiet; LUFS",
        -42.0,
        -60.0,
        lambda v: f"sound very quiet ({v:.0f} LUFS)",
    ),
    "clipping": Kind(
        "samples in flat tops; share", 0.008, 0.08, lambda v: f"clipping {per_cent(v)}"
    ),
    "dropout": Kind(
        "the sound breaks off within speech; seconds lost",
        0.03,
        0.6,
        lambda v: f"sound breaks off, {seconds(v)} lost",
        "sum",
    ),
    "noise": Kind(
        "noise beside the speech; signal-to-noise ratio, dB",
        16.0,
        0.0,
        lambda v: f"noisy sound (speech {v:.0f} dB above the noise)",
    ),
    "band_limited": Kind(
        "high frequencies are missing; Hz", 4000.0, 1000.0, lambda v: f"sound ends at {v:.0f} Hz"
    ),
}

KINDS: Final[dict[str, str]] = {name: kind.doc for name, kind in TABLE.items()}


def grade_of(kind: str, value: float) -> float:
    """Severity of a value: 0.2 at the kind's ``mild``, 1 at its ``grave``, linear between."""
    entry = TABLE[kind]
    part = (abs(value) if kind == "av_offset" else value) - entry.mild
    return min(1.0, max(0.05, 0.2 + 0.8 * part / (entry.grave - entry.mild)))


def finding(
    kind: str,
    span: tuple[float, float],
    value: float,
    text: str | None = None,
    *,
    severity: float | None = None,
) -> Finding:
    """Make a finding.

    Args:
        kind: A key of :data:`KINDS`.
        span: Start and end in the video, seconds.
        value: In the unit of the kind.
        text: Only where the value alone does not word it.
        severity: Only where the value alone does not tell it.
    """
    say = TABLE[kind].say
    if text is None:
        if say is None:
            raise ValueError(f"{kind}: the detector words it")
        text = say(value)
    grade = grade_of(kind, value) if severity is None else severity
    return Finding(kind, float(span[0]), float(span[1]), float(value), float(grade), text)
