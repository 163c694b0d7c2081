"""What an evaluator said of the variants, whoever it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SINGLE = "score"  # the column of an evaluator that gives one number


@dataclass(frozen=True, slots=True)
class Miss:
    """A video without any score.

    Attributes:
        video_id: Its id.
        reason: Short class for counting.
        message: What was wrong.
    """

    video_id: str
    reason: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """The scores of an evaluator.

    Attributes:
        name: For tables and reports; external text.
        kind: ``checkpoint``, ``scores``, ``command``, ``callable`` or ``peer``.
        tasks: Columns: some of the five tasks, or ``score``.
        scores: Video -> task -> score, higher is better; what is missing has no key.
        misses: Videos that failed.
        speaks_for: Tasks and groups of artefacts that ``score`` stands for.
        blind: The blindness declared in the plan is this evaluator's.
        demonstration: Scores come from weights for demonstrations.
        facts: Where they come from, for the report.
    """

    name: str
    kind: str
    tasks: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]]
    misses: list[Miss] = field(default_factory=list)
    speaks_for: tuple[str, ...] = ("overall",)
    blind: bool = False
    demonstration: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
