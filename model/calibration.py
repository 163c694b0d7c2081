"""Residuals of the validation videos, and how wide they make the interval of another video.

A video's interval comes from the videos of its kind: with sound or without, and of its generator
where there are enough of it (Mondrian conformal prediction: Vovk, Gammerman, Shafer, "Algorithmic
Learning in a Random World", 2005, section 4.5). Legend as in :mod:`model.uncertainty`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.conformal import conformal_quantile, least_count
from model.tasks import NEED_SOUND, TASKS

Floats = NDArray[np.float64]
# Videos that are calibrated together: without sound or with it, and of which generator (None: all).
Cell = tuple[bool, str | None]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Absolute residuals of the validation videos.

    Attributes:
        cells: Cell -> for each task the residuals [n] in ascending order. The cell of all videos
            with sound and that of all without are always there.
        min_group: Least number of residuals with which a generator's own are used.
    """

    cells: Mapping[Cell, tuple[Floats, ...]]
    min_group: int

    @classmethod
    def of(
        cls,
        residuals: Floats,
        groups: Sequence[str | None],
        silent_residuals: Floats,
        silent_groups: Sequence[str | None],
        min_group: int,
    ) -> "Calibration":
        """Sort residuals into cells.

        Args:
            residuals: [V, N] |score - label| of videos with sound; NaN where one is missing.
            groups: V generators; None where unknown.
            silent_residuals: [S, N] the same of videos without sound, or whose sound was masked.
            silent_groups: S generators.
            min_group: See :class:`Calibration`.
        """
        cells: dict[Cell, tuple[Floats, ...]] = {}
        for silent, values, names in (
            (False, residuals, groups),
            (True, silent_residuals, silent_groups),
        ):
            cells[silent, None] = _sorted(values)
            members: dict[str, list[int]] = {}
            for row, name in enumerate(names):
                if name is not None:
                    members.setdefault(name, []).append(row)
            for name, rows in sorted(members.items()):
                own = _sorted(values[rows])
                if max(map(len, own)) >= min_group:
                    cells[silent, name] = own
        return cls(cells, min_group)

    def half_width(self, cell: Cell, task: int, level: float) -> float:
        """Return half the width of an interval before it is cut to the scale.

        Infinite when the residuals are too few for the level, NaN when there are none. Without
        sound it is never less than with it, however few residuals say so.

        Args:
            cell: What the video is; a generator with too few videos counts as unknown.
            task: Number of the task.
            level: Coverage in (0, 1).

        Raises:
            ValueError: The level is not in (0, 1).
        """
        silent, group = cell
        if silent and TASKS[task] in NEED_SOUND:
            return math.nan
        width = self._quantile(cell, task, level)
        if silent and not math.isnan(width):
            width = float(np.fmax(width, self._quantile((False, group), task, level)))
        return width

    def _quantile(self, cell: Cell, task: int, level: float) -> float:
        own = self.cells.get(cell)
        if own is None or len(own[task]) < self.enough(level):
            own = self.cells[cell[0], None]
        return conformal_quantile(own[task], level)

    def enough(self, level: float) -> int:
        """Return the least number of residuals for an interval of a generator's own."""
        return max(self.min_group, least_count(level))

    def groups(self, level: float) -> dict[str, list[str]]:
        """Return the generators with intervals of their own -> the tasks that have them."""
        enough = self.enough(level)
        found = {
            name: [str(t) for t, own in zip(TASKS, values, strict=True) if len(own) >= enough]
            for (silent, name), values in self.cells.items()
            if name is not None and not silent
        }
        return {name: tasks for name, tasks in found.items() if tasks}

    # --- storing

    def residuals(self) -> Floats:
        """Return all residuals in one array, in the order of :meth:`to_json`."""
        return np.concatenate([values for own in self.cells.values() for values in own])

    def to_json(self) -> dict[str, Any]:
        """Return everything else, as JSON types."""
        cells = [
            {"silent": silent, "group": group, "counts": [len(values) for values in own]}
            for (silent, group), own in self.cells.items()
        ]
        return {"min_group": self.min_group, "cells": cells}

    @classmethod
    def of_parts(cls, residuals: Floats, facts: Mapping[str, Any]) -> "Calibration":
        """Put together what :meth:`residuals` and :meth:`to_json` took apart.

        Raises:
            ValueError: The parts do not fit each other, or cannot be residuals.
            KeyError, TypeError: Something is missing or of another kind.
        """
        cells: dict[Cell, tuple[Floats, ...]] = {}
        start = 0
        for entry in facts["cells"]:
            silent, group = entry["silent"], entry["group"]
            counts = [int(n) for n in entry["counts"]]
            if not isinstance(silent, bool) or not (group is None or isinstance(group, str)):
                raise ValueError("uncertainty.cells: a cell is described in another way")
            if len(counts) != len(TASKS) or min(counts) < 0 or (silent, group) in cells:
                raise ValueError("uncertainty.cells: wrong counts, or a cell twice")
            ends = start + np.cumsum([0, *counts])
            cells[silent, group] = tuple(residuals[a:b] for a, b in pairwise(ends))
            start = int(ends[-1])
        if residuals.shape != (start,):
            raise ValueError(f"uncertainty.residuals: {residuals.shape}, but {start} are described")
        if not ((residuals >= 0) & np.isfinite(residuals)).all():
            raise ValueError("uncertainty.residuals: values that are negative or not finite")
        if any((np.diff(values) < 0).any() for own in cells.values() for values in own):
            raise ValueError("uncertainty.residuals: they are not in order")
        if not {(False, None), (True, None)} <= set(cells):
            raise ValueError("uncertainty.cells: a cell of all videos is missing")
        return cls(cells, int(facts["min_group"]))


def _sorted(values: Floats) -> tuple[Floats, ...]:
    values = np.asarray(values, np.float64).reshape(-1, len(TASKS))
    return tuple(np.sort(column[~np.isnan(column)]) for column in values.T)
