"""What is done to a video, as a value: a chain of steps, its text, and the scores that follow.

The text travels in manifests and tables; together with the versions of the artefacts it decides the
version of a video, so that a changed artefact makes its videos new.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from actors.artefacts.artefact import Artefact
from actors.artefacts.registry import ARTEFACTS
from model.tasks import LOW, TASKS, Task

CLEAN_SCORE: Final = 4.5
_PARTS: Final[tuple[Task, ...]] = tuple(task for task in TASKS if task != "overall")
_KEYS: Final = frozenset({"type", "severity", "seed", "donor", "donor_version"})


@dataclass(frozen=True, slots=True)
class Step:
    """One artefact at one severity.

    Attributes:
        type: Of the artefact.
        severity: In [0, 1].
        seed: 0 or more.
        donor: URI of the video whose sound an artefact takes, for those that need one.
        donor_version: What changes when the donor's content does; empty where it is unknown.

    Raises:
        ValueError: Unknown type, a value out of its range, a donor missing or not needed.
    """

    type: str
    severity: float
    seed: int = 0
    donor: str | None = None
    donor_version: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.type, str) or self.type not in ARTEFACTS:
            raise ValueError(f"unknown artefact {self.type!r}: known are {', '.join(ARTEFACTS)}")
        number = isinstance(self.severity, int | float) and not isinstance(self.severity, bool)
        if not number or not 0.0 <= self.severity <= 1.0:
            raise ValueError(f"{self.type}: a severity lies in [0, 1], not {self.severity!r}")
        object.__setattr__(self, "severity", float(self.severity))  # 1 and 1.0 are one chain
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"{self.type}: a seed is a whole number of 0 or more")
        if self.artefact.needs_donor:
            if not isinstance(self.donor, str) or not self.donor:
                raise ValueError(f"{self.type}: needs the URI of a donor")
        elif self.donor is not None:
            raise ValueError(f"{self.type}: takes no donor")
        if not isinstance(self.donor_version, str) or (self.donor_version and not self.donor):
            raise ValueError(f"{self.type}: a donor_version is a text, and stands beside a donor")

    @property
    def artefact(self) -> Artefact:
        """The artefact itself."""
        return ARTEFACTS[self.type]


Chain = tuple[Step, ...]


def chain_text(chain: Iterable[Step]) -> str:
    """Write a chain as JSON, always in the same way; an empty chain is ``[]``.

    It is ASCII: names of files that are not UTF-8 travel, too.
    """
    steps = []
    for step in chain:
        values: dict[str, Any] = {
            "type": step.type,
            "severity": step.severity,
            "seed": step.seed,
        }
        if step.donor is not None:
            values["donor"] = step.donor
        if step.donor_version:
            values["donor_version"] = step.donor_version
        steps.append(values)
    return json.dumps(steps, separators=(",", ":"))


def parse_chain(text: str) -> Chain:
    """Read what :func:`chain_text` wrote, or a person did.

    Raises:
        ValueError: It is no such text; says what is wrong.
    """
    try:
        steps = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ValueError("expected a JSON list of objects with type and severity")
    chain = []
    for step in steps:
        unknown = sorted(step.keys() - _KEYS)
        missing = sorted({"type", "severity"} - step.keys())
        if unknown or missing:
            wrong = [f"{key!r} is missing" for key in missing]
            wrong += [f"{key!r} is unknown" for key in unknown]
            raise ValueError(f"a step of the chain: {', '.join(wrong)}")
        chain.append(Step(**step))
    return tuple(chain)


def chain_digest(chain: Chain) -> str:
    """Return what changes when the chain, or what an artefact of it does, changes."""
    made_by = ",".join(f"{step.type}={step.artefact.version}" for step in chain)
    return blake2b(f"{made_by} {chain_text(chain)}".encode(), digest_size=8).hexdigest()


def target_scores(chain: Iterable[Step]) -> dict[Task, float]:
    """Return the scores that a clean video deserves after a chain.

    One artefact takes ``severity x harm`` points off a task. Several of them multiply what is left
    of the way down to the lowest score, so that no score falls below it. ``overall`` is half the
    worst and half the mean of the other four.
    """
    best = CLEAN_SCORE - LOW
    left = dict.fromkeys(_PARTS, 1.0)
    for step in chain:
        for task, points in step.artefact.harms.items():
            left[task] *= 1.0 - step.severity * points / best
    scores = {task: LOW + best * share for task, share in left.items()}
    parts = list(scores.values())
    scores["overall"] = (min(parts) + sum(parts) / len(parts)) / 2
    return scores
