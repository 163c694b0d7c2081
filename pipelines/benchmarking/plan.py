"""What the corpus of variants says of its artefacts: ``plan.json``, beside the manifest."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.artefacts.artefact import GROUPS, Group
from model.tasks import TASKS, Task
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.storage import Store
from pipelines.uris import display_text

NAME = "plan.json"
COMBINATION = "combination"
CLEAN = "clean"


class PlannedArtefact(BaseModel):
    """One artefact of the corpus; keys that the ruler has no use for are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    group: Group = Field(description="sound, sync, picture or face")
    title: str = Field(description="in words")
    harms: dict[Task, float] = Field(description="task -> points that severity 1 takes off")
    held_out: bool = Field(False, description="stays out of training")
    blind: str | dict[Task, str] | None = Field(
        None, description="why evaluators cannot see it, declared before training; or task -> why"
    )

    measures: dict[str, dict[str, float | None]] = Field(
        {}, description="severity -> the damage in physical units"
    )

    def same_damage(self, severity: float, other: float) -> bool:
        """Say whether two severities are known to do the same.

        An artefact that goes in whole frames has such plateaus; no score need change there.
        """
        one, two = (self.measures.get(f"{value:g}") for value in (severity, other))
        return one is not None and one == two

    def points(self, task: str) -> float | None:
        """Return the points that severity 1 takes off a task, None when it takes none."""
        return next((points for name, points in self.harms.items() if name == task), None)

    def blind_in(self, task: str) -> str | None:
        """Return why it cannot be seen in a task, None when it should be."""
        if isinstance(self.blind, dict):
            return next((why for name, why in self.blind.items() if name == task), None)
        return self.blind or None


class Plan(BaseModel):
    """The plan of a corpus."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seed: int = Field(0, description="decides everything random")
    severities: tuple[float, ...] = Field((), description="the grid, in (0, 1]")
    artefacts: dict[str, PlannedArtefact] = Field(description="by type, in the order of reports")


def read_plan(store: Store) -> Plan:
    """Read the plan of a corpus.

    Raises:
        BenchmarkInputError: It is missing or damaged.
        StorageError: It cannot be read.
    """
    where = store.display(NAME)
    if not store.exists(NAME):
        raise BenchmarkInputError(
            f"{where} does not exist: --corpus is the output folder of jobs/degrade.py"
        )
    try:
        values: Any = json.loads(store.read_bytes(NAME))
    except ValueError as error:
        raise BenchmarkInputError(f"{where} is not JSON: {error}") from None
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(display_text(str(part), 40) for part in problem['loc'])}: "
            f"{problem['msg']}"
            for problem in error.errors()[:10]
        ]
        raise BenchmarkInputError("\n".join([f"{where} is no plan:", *lines])) from None


def relation(planned: PlannedArtefact, task: str, speaks_for: tuple[str, ...]) -> str:
    """Say what should happen to a score.

    Args:
        planned: The artefact.
        task: One of the five, or ``score``: the only figure of an evaluator.
        speaks_for: Tasks and groups that ``score`` stands for; ``overall`` stands for all.

    Returns:
        ``harmed``: it should fall; ``follows``: ``overall``, which falls with the others;
        ``unharmed``: it should stay.
    """
    if task in TASKS:
        if task == "overall":
            return "follows" if planned.harms else "unharmed"
        return "harmed" if task in planned.harms else "unharmed"
    mine = {*planned.harms, planned.group, *(("overall",) if planned.harms else ())}
    return "harmed" if mine.intersection(speaks_for) else "unharmed"


def check_claims(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check what an evaluator is said to speak for.

    Raises:
        BenchmarkInputError: A name is neither a task nor a group.
    """
    known = (*TASKS, *GROUPS)
    for name in names:
        if name not in known:
            raise BenchmarkInputError(
                f"--speaks-for {display_text(name, 40)}: known are the tasks {', '.join(TASKS)} "
                f"and the groups of artefacts {', '.join(GROUPS)}"
            )
    return names
