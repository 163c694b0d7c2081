"""What a program or a function says of a video, as scores; what cannot be read is a failure."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from model.tasks import TASKS
from pipelines.benchmarking.evaluation import SINGLE
from pipelines.uris import display_text, strip_text

NAMES: Final = (*TASKS, SINGLE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)")

Answer = dict[str, float]  # task, or ``score`` -> value


class JudgeError(Exception):
    """An evaluator gave no score for a video; becomes a row of the failure table.

    Args:
        reason: Short class for counting: ``exit_status``, ``timeout``, ``crashed``, ``error``,
            ``garbage``, or that of the video's own fault.
        message: What happened, for a person; addresses in it lose their credentials.
        transient: Another run may have more luck, as when a storage did not answer.
    """

    def __init__(self, reason: str, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = strip_text(message)
        self.transient = transient


def answer_of(value: Any) -> Answer:
    """Take a number, or a mapping of task names (or ``score``) to numbers.

    Other keys of a mapping are left alone; a task without a finite number is left out.

    Raises:
        JudgeError: ``garbage``: there is no number in it.
    """
    if isinstance(value, Mapping):
        found = {name: _number(value[name]) for name in NAMES if name in value}
        if not found:
            keys = ", ".join(display_text(str(key), 30) for key in list(value)[:8])
            raise JudgeError(
                "garbage", f"names neither a task nor {SINGLE!r} (its keys: {keys or 'none'})"
            )
        known = {name: number for name, number in found.items() if number is not None}
        if not known:
            raise JudgeError("garbage", "no score in it is a finite number")
        return known
    number = _number(value)
    if number is None:
        raise JudgeError("garbage", f"is not a finite number: {display_text(repr(value), 80)}")
    return {SINGLE: number}


def answer_in(text: str) -> Answer:
    """Read the output of a program: JSON, or JSON in its last line, or else its last number.

    Raises:
        JudgeError: ``garbage``.
    """
    body = text.strip()
    for part in (body, body.rpartition("\n")[2]):
        try:
            value = json.loads(part)
        except ValueError:
            continue
        if isinstance(value, dict | int | float) and not isinstance(value, bool):
            return answer_of(value)
    numbers = _NUMBER.findall(body)
    if not numbers:
        end = strip_text(body)[-80:] or "(nothing)"  # what is cut could not be stripped any more
        raise JudgeError("garbage", f"printed no number: {display_text(end)}")
    return answer_of(float(numbers[-1]))


def _number(value: Any) -> float | None:
    if isinstance(value, str | bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
