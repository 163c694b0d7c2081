"""What a checkpoint knows of its own errors: calibrated intervals, and what is foreign to it.

Intervals are split-conformal (:mod:`model.conformal`), calibrated on the validation videos;
novelty is :mod:`model.novelty`. docs/uncertainty.md says what is promised and what is not.

Legend: V videos, N = 5 tasks in the order of :data:`model.tasks.TASKS`, C clips, D width of the
embedding. A missing number is NaN.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.calibration import Calibration, Cell
from model.conformal import least_count
from model.novelty import EmbeddingFit, Novelty
from model.tasks import HIGH, LOW, NEED_SOUND, TASKS

FORMAT: Final = 1
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Intervals and novelty.

    Attributes:
        calibration: What intervals come from.
        novelty: What distances come from, or the reason why there are none.
    """

    calibration: Calibration
    novelty: Novelty | str

    # --- intervals

    def interval(
        self,
        scores: NDArray[np.floating],
        groups: Sequence[str | None],
        silent: NDArray[np.bool_],
        level: float = 0.9,
    ) -> tuple[Floats, Floats]:
        """Return the ends [V, N], [V, N] of the intervals of the scores of videos, within [1, 5].

        Args:
            scores: [V, N], NaN where there is none.
            groups: V generators; one that calibration does not know counts as None.
            silent: [V] no clip of the video has sound.
            level: Share of videos that the intervals should cover, in (0, 1).

        Returns:
            NaN where there is no score, or no residual of the task. [1, 5] where the residuals are
            too few for the level (:meth:`notes` says so).

        Raises:
            ValueError: The level is not in (0, 1), or the shapes differ.
        """
        scores = np.asarray(scores, np.float64)
        if scores.shape != (len(groups), len(TASKS)) or np.shape(silent) != (len(groups),):
            raise ValueError(
                f"scores {scores.shape}, {len(groups)} groups, silent {np.shape(silent)}"
            )
        least_count(level)  # checks it, also when there is no video
        cells: list[Cell] = [(bool(s), g) for s, g in zip(silent, groups, strict=True)]
        widths = {
            cell: [self.calibration.half_width(cell, t, level) for t in range(len(TASKS))]
            for cell in set(cells)
        }
        half = np.array([widths[cell] for cell in cells], np.float64).reshape(scores.shape)
        # Both ends at both bounds: a head without an activation may leave the scale.
        return np.clip(scores - half, LOW, HIGH), np.clip(scores + half, LOW, HIGH)

    def notes(self, level: float) -> list[str]:
        """Say what is not known: tasks whose intervals are the whole scale or missing; novelty."""
        need, notes = least_count(level), []
        for silent, videos in ((False, "videos with sound"), (True, "videos without sound")):
            counts = map(len, self.calibration.cells[silent, None])
            for task, count in zip(TASKS, counts, strict=True):
                if count < need and not (silent and task in NEED_SOUND):
                    outcome = "span the whole scale" if count else "are missing"
                    notes.append(
                        f"{task}: the intervals of {videos} {outcome}: {count} validation videos "
                        f"have a label, and {100 * level:g} % coverage takes {need}"
                    )
        if isinstance(self.novelty, str):
            notes.append(f"novelty is unknown: {self.novelty}")
        return notes

    # --- novelty

    def distance(
        self, embedding: NDArray[np.floating], silent: NDArray[np.bool_] | None = None
    ) -> Floats:
        """Return how far clips are from those of training [C]; above 1: beyond the threshold.

        Args:
            embedding: [C, D] fused embeddings.
            silent: [C] the clip has no sound: it is held against the threshold of clips whose
                sound was masked. Default: against that of clips as they are.

        Returns:
            NaN throughout when novelty is unknown, and where an embedding is not finite.

        Raises:
            ValueError: The embeddings have another width.
        """
        if isinstance(self.novelty, str):
            return np.full(len(embedding), np.nan)
        return self.novelty.distance(embedding, silent)

    @property
    def width(self) -> int | None:
        """D; None when novelty is unknown."""
        return None if isinstance(self.novelty, str) else len(self.novelty.fit.mean)

    # --- storing

    def to_arrays(self) -> dict[str, Floats]:
        """Return all arrays in float64."""
        arrays = {"residuals": self.calibration.residuals()}
        if not isinstance(self.novelty, str):
            arrays["novelty.mean"] = self.novelty.fit.mean
            arrays["novelty.whitening"] = self.novelty.fit.whitening
        return arrays

    def to_json(self) -> dict[str, Any]:
        """Return everything else, as JSON types."""
        novelty: dict[str, Any] = {"unknown": self.novelty}
        if not isinstance(self.novelty, str):
            novelty = {
                "threshold": self.novelty.threshold,
                "silent_threshold": self.novelty.silent_threshold,
                "quantile": self.novelty.quantile,
                "calibrated_on": self.novelty.calibrated_on,
                "clips": self.novelty.fit.clips,
                "shrinkage": self.novelty.fit.shrinkage,
            }
        return {"format": FORMAT, **self.calibration.to_json(), "novelty": novelty}

    @classmethod
    def of_parts(cls, arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> "Uncertainty":
        """Put together what :meth:`to_arrays` and :meth:`to_json` took apart.

        Raises:
            ValueError: Something is missing, unknown, of another shape or impossible.
        """
        try:
            if facts["format"] != FORMAT:
                raise ValueError(f"uncertainty: format {facts['format']!r}, expected {FORMAT}")
            calibration = Calibration.of_parts(arrays["residuals"], facts)
            novelty = _novelty(arrays, facts["novelty"])
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"uncertainty: its description is incomplete: {error}") from None
        result = cls(calibration, novelty)
        if unknown := set(arrays) - set(result.to_arrays()):
            raise ValueError(f"uncertainty: undescribed arrays {', '.join(sorted(unknown))}")
        return result


def _novelty(arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> Novelty | str:
    if "unknown" in facts:
        return str(facts["unknown"])
    mean, whitening = arrays["novelty.mean"], arrays["novelty.whitening"]
    if mean.ndim != 1 or whitening.shape != (len(mean), len(mean)):
        raise ValueError(f"uncertainty.novelty: shapes {mean.shape} and {whitening.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(whitening).all()):
        raise ValueError("uncertainty.novelty: values that are not finite")
    names = ("threshold", "silent_threshold", "quantile", "shrinkage")
    threshold, silent_threshold, quantile, shrinkage = (float(facts[name]) for name in names)
    positive = all(0 < x < math.inf for x in (threshold, silent_threshold, shrinkage))
    if not positive or not 0 < quantile < 1:
        raise ValueError("uncertainty.novelty: impossible thresholds")
    fit = EmbeddingFit(mean, whitening, int(facts["clips"]), shrinkage)
    return Novelty(fit, threshold, silent_threshold, quantile, int(facts["calibrated_on"]))
