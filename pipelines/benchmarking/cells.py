"""From variants and scores to curves: one cell for each artefact and task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.benchmarking.evaluation import Evaluation
from pipelines.benchmarking.plan import CLEAN, COMBINATION, PlannedArtefact, relation
from pipelines.benchmarking.variants import Corpus, Variant

if TYPE_CHECKING:
    from model.bootstrap import Floats
    from model.ruler import Bools, Curves

DIGITS = 6  # of severities: those that agree so far are one


@dataclass(frozen=True, eq=False)
class Cell:
    """The scores of one artefact in one task.

    Attributes:
        type: Of the artefact, or ``combination``.
        task: One of the five, or ``score``.
        relation: What should happen, see :func:`pipelines.benchmarking.plan.relation`.
        group: Of the artefact; None for combinations.
        title: The artefact in words.
        points: That severity 1 takes off by the plan; None where there is no such figure.
        held_out: The artefact was no part of training.
        blind: Why the evaluator cannot see it, as declared before training.
        curves: The scores.
    """

    type: str
    task: str
    relation: str
    group: str | None
    title: str
    points: float | None
    held_out: bool
    blind: str | None
    curves: "Curves"


def make_cells(corpus: Corpus, found: Evaluation, tasks: Sequence[str]) -> list[Cell]:
    """Lay the scores out as curves, artefact by artefact in the order of the plan.

    Variants whose source has no clean video are left out. Combinations have no severity: each is
    one step from the clean video, and a cell holds those that should do the same to the task.
    """
    sources = {name: place for place, name in enumerate(sorted(corpus.clean))}
    by_type: dict[str, list[Variant]] = {}
    for variant in corpus.variants:
        if variant.type != CLEAN and variant.source in sources:
            by_type.setdefault(variant.type, []).append(variant)
    cells = []
    for kind, planned in corpus.plan.artefacts.items():
        variants = by_type.get(kind)
        if not variants:
            continue
        grid = _Grid(variants, corpus.clean, sources)
        same = _plateaus(planned, grid.severities)
        cells += [
            Cell(
                type=kind,
                task=task,
                relation=relation(planned, task, found.speaks_for),
                group=planned.group,
                title=planned.title,
                points=planned.points(task),
                held_out=planned.held_out,
                blind=planned.blind_in(task) if found.blind else None,
                curves=grid.curves(found.scores, task, same),
            )
            for task in tasks
        ]
    cells += _combined(corpus, found, tasks, by_type.get(COMBINATION, []), sources)
    return cells


def _combined(
    corpus: Corpus,
    found: Evaluation,
    tasks: Sequence[str],
    variants: list[Variant],
    sources: Mapping[str, int],
) -> list[Cell]:
    cells = []
    for task in tasks:
        sorted_out: dict[str, list[Variant]] = {}
        for variant in variants:
            parts = {
                relation(corpus.plan.artefacts[part], task, found.speaks_for)
                for part in variant.parts
            }
            worst = next(name for name in ("harmed", "follows", "unharmed") if name in parts)
            sorted_out.setdefault(worst, []).append(variant)
        for name, chosen in sorted_out.items():
            grid = _Grid(chosen, corpus.clean, sources)
            curves = grid.curves(found.scores, task, np.zeros(len(grid.severities), bool))
            cells.append(
                Cell(COMBINATION, task, name, None, "combinations", None, False, None, curves)
            )
    return cells


class _Grid:
    """Where each variant of an artefact stands: its curve and its severity."""

    def __init__(
        self,
        variants: Sequence[Variant],
        clean: Mapping[str, Variant],
        sources: Mapping[str, int],
    ) -> None:
        # A combination is a curve of its own, with one step.
        levels = [1.0 if v.severity is None else round(v.severity, DIGITS) for v in variants]
        self.severities = np.array([0.0, *sorted(set(levels))])
        column = {level: place for place, level in enumerate(self.severities.tolist())}
        curve: dict[tuple[str, int | str], int] = {}
        self._at: list[tuple[int, int, str]] = []
        self._sources: list[int] = []
        for v, level in zip(variants, levels, strict=True):
            key = (v.source, v.video_id if v.severity is None else v.seed)
            if key not in curve:
                curve[key] = len(curve)
                self._sources.append(sources[v.source])
                self._at.append((curve[key], 0, clean[v.source].video_id))
            self._at.append((curve[key], column[level], v.video_id))
        self._count = len(sources)

    def curves(
        self, scores: Mapping[str, Mapping[str, float]], task: str, same: "Bools"
    ) -> "Curves":
        """Return the curves of a task."""
        from model.ruler import Curves

        shape = (len(self._sources), len(self.severities))
        values, listed = np.full(shape, np.nan), np.zeros(shape, bool)
        for row, column, name in self._at:
            listed[row, column] = True
            values[row, column] = scores.get(name, {}).get(task, np.nan)
        return Curves.of(
            self.severities,
            values,
            np.array(self._sources, np.int64),
            self._count,
            listed=listed,
            same=same,
        )


def _plateaus(planned: PlannedArtefact, severities: "Floats") -> "Bools":
    """Say at which severities the damage is that of the severity before, [L]."""
    known = severities.tolist()
    same = [
        place > 1 and planned.same_damage(known[place - 1], severity)
        for place, severity in enumerate(known)
    ]
    return np.array(same, bool)
