"""Times, scores and names of a scored corpus in words, the same in the page and in Markdown."""

from collections.abc import Mapping
from typing import Any, Final

from actors.findings_sync import LEAST_CONFIDENCE
from actors.types import DEMONSTRATION_WEIGHTS, FPS
from model.tasks import TASKS, Task
from pipelines.report.html import DASH, MINUS, Html, finite, isolated, name_of, number
from pipelines.report.notes import interval
from pipelines.scoring.pairing import UNKNOWN

ORDER: Final[tuple[Task, ...]] = ("overall", *(task for task in TASKS if task != "overall"))
NO_REASON = "no reason was given"
SEEDED_SYNC = f"withheld: features of {DEMONSTRATION_WEIGHTS}"


def clock(seconds: float) -> str:
    """Write an instant: 2.1, above a minute 1:02.1."""
    tenths = round(max(seconds, 0.0) * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes}:{rest / 10:04.1f}" if minutes else f"{rest / 10:.1f}"


def span(start: object, end: object) -> str:
    """Write a stretch of a video: ``2.1 - 3.4 s``; the whole video when it has no ends."""
    a, b = finite(start), finite(end)
    if a is None or b is None:
        return "whole video"
    unit = "" if ":" in clock(b) else " s"
    return f"{clock(a)}{DASH}{clock(b)}{unit}"


def duration(seconds: float | None) -> str:
    """Write a length of time in the units that fit."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:,.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:,.1f} min"
    return f"{seconds / 3600:,.1f} h"


def score(values: Mapping[str, Any], task: str, digits: int = 2) -> str:
    """Write a score with its interval, or why there is none."""
    value = finite(values.get(task))
    if value is None:
        return f"none: {values.get(f'{task}_reason') or NO_REASON}"
    low, high = finite(values.get(f"{task}_low")), finite(values.get(f"{task}_high"))
    bounds = "" if low is None or high is None else f" {interval(low, high, digits)}"
    return f"{number(value, digits)}{bounds}"


def signed(value: float, digits: int = 2) -> str:
    """Write a difference with its sign."""
    text = number(value, digits)
    return text if text.startswith(MINUS) or not text.strip("0.,") else f"+{text}"


def p_value(value: object) -> str:
    """Write a p-value; very small ones as a bound."""
    p = finite(value)
    if p is None:
        return "undefined"
    return "< 0.001" if p < 0.001 else number(p, 3)


def offset(frames: float | None) -> str:
    """Write how far sound and picture are apart."""
    if frames is None:
        return "offset unknown"
    ms = 1000 * frames / FPS
    if abs(ms) < 0.5:
        return "sound and picture together"
    return f"sound {'leads' if ms > 0 else 'lags'} by {number(abs(ms), 0)} ms"


def known(name: object, limit: int = 80) -> str:
    """Show a generator or speaker, which may be unknown."""
    return UNKNOWN if name is None or name == "" else name_of(name, limit)


def named(name: object, limit: int = 80) -> Html:
    """Show a generator or speaker inside a sentence of the page, as :func:`known` does in text."""
    return isolated(known(name, limit), limit)


def doubt(confidence: object, *, seeded: bool = False) -> str | None:
    """Say why an offset of SyncNet is not to be trusted; None when it is.

    Args:
        confidence: LSE-C.
        seeded: It comes from weights for demonstrations.
    """
    if seeded:
        return SEEDED_SYNC
    value = finite(confidence)
    if value is None:
        return "not trusted: LSE-C is unknown"
    if value < LEAST_CONFIDENCE:
        return f"not trusted: LSE-C below {LEAST_CONFIDENCE:g}"
    return None


def share(part: float, whole: float) -> str:
    """Write a share in percent."""
    return "undefined" if not whole else f"{100 * part / whole:.1f} %"
