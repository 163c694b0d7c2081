"""What a contact sheet shows."""

from dataclasses import dataclass, field

from pipelines.degrading.config import Side


@dataclass(frozen=True, slots=True)
class Film:
    """One variant of a few seconds.

    Attributes:
        severity: 0 for the clean one.
        mp4: It, for browsers; empty when it could not be made.
        still: A picture of it, JPEG.
        spectrum: Its sound drawn, JPEG; empty without sound.
        detail: The middle of the still in full size, JPEG; empty where the still is not smaller.
        reason: Why it could not be made, in words.
    """

    severity: float
    mp4: bytes = b""
    still: bytes = b""
    spectrum: bytes = b""
    detail: bytes = b""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One artefact.

    Attributes:
        type: Of the artefact.
        films: At ascending severities.
        clean_still: The clean picture at the instant of the others' stills, JPEG.
        clean_detail: Its middle, like theirs.
        held_out: It stays out of training.
        blind: Why an evaluator trained on this corpus cannot see it; None when it can.
    """

    type: str
    films: tuple[Film, ...]
    clean_still: bytes
    clean_detail: bytes
    held_out: bool
    blind: str | None


@dataclass(frozen=True, slots=True)
class SheetFacts:
    """A contact sheet.

    Attributes:
        source: Id of the clean video.
        speaker: Who speaks, if known.
        side: Its split.
        size: Its height and width, pixels.
        seconds: Length of the excerpt.
        clean: The excerpt itself.
        rows: In the order of the registry.
        seed: Of the plan.
        lacks: What this source has not got (``sound``, ``a face``); nothing in most sheets.
        code_version: That made it.
    """

    source: str
    speaker: str | None
    side: Side
    size: tuple[int, int]
    seconds: float
    clean: Film
    rows: tuple[SheetRow, ...]
    seed: int
    lacks: tuple[str, ...] = field(default=())
    code_version: str = ""
