"""The ruler: how an evaluator's scores follow damage of known severity.

A *curve* is one clean video, one kind of damage with one seed, and its severities: clean (severity
0) first, then the variants from the slightest to the worst. Everything measured on a curve becomes
two numbers of its source, what was found and what it is divided by, so that curves, artefacts and
groups add up, and a bootstrap over sources is a product of matrices
(:mod:`model.ruler_bootstrap`). Definitions: ``docs/benchmark.md``.

Legend: C curves, L severities with the clean one, K sources of the whole corpus.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.resamples import CONSTANT

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
MIN_POINTS: Final = 3  # of a curve for a rank correlation: two always agree or disagree fully


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The scores of one artefact in one task. Make it with :meth:`of`.

    Attributes:
        severities: [L] ascending; the first is 0, the clean video.
        scores: [C, L] higher is better; NaN where there is no score.
        listed: [C, L] the corpus has such a variant, with or without a score.
        same: [L] the damage is that of the severity before (a plateau): no step leads here.
        sources: [C] number of the curve's source, from 0.
        count: Sources of the whole corpus, K.
    """

    severities: Floats
    scores: Floats
    listed: Bools
    same: Bools
    sources: NDArray[np.int64]
    count: int

    @classmethod
    def of(
        cls,
        severities: Floats,
        scores: Floats,
        sources: NDArray[np.int64],
        count: int,
        *,
        listed: Bools | None = None,
        same: Bools | None = None,
    ) -> "Curves":
        """Check shapes, and round scores to one part in a million of the largest.

        Rounding errors of averaged float32 scores are no differences
        (:data:`model.resamples.CONSTANT`).

        Args:
            severities: [L].
            scores: [C, L].
            sources: [C].
            count: K.
            listed: [C, L]; None: where there is a score.
            same: [L]; None: nowhere.

        Raises:
            ValueError: Shapes do not fit, severities do not rise from 0, a score is infinite.
        """
        x, s = np.asarray(severities, np.float64), np.asarray(scores, np.float64)
        C, L = s.shape
        if x.shape != (L,) or len(sources) != C:
            raise ValueError(f"{C} curves of {L} scores have {x.shape} severities")
        if not L or x[0] != 0 or (np.diff(x) <= 0).any():
            raise ValueError("severities must rise from 0, the clean video")
        if np.isinf(s).any():
            raise ValueError("a score is infinite; missing ones are NaN")
        unit = CONSTANT * float(np.abs(s[~np.isnan(s)]).max(initial=0.0))
        if unit:
            s = np.round(s / unit) * unit
        known = ~np.isnan(s)
        return cls(
            x,
            s,
            known if listed is None else np.asarray(listed, bool) | known,
            np.zeros(L, bool) if same is None else np.asarray(same, bool),
            np.asarray(sources, np.int64),
            count,
        )

    @property
    def missing(self) -> int:
        """Variants, without the clean videos, that have no score."""
        return int((self.listed & np.isnan(self.scores))[:, 1:].sum())

    def by_source(self, found: Floats | Bools) -> Floats:
        """Add [C] values up by source, [K]; NaN counts 0."""
        values = np.nan_to_num(np.asarray(found, np.float64))
        return np.bincount(self.sources, values, self.count).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """What was found over what it is divided by, source by source.

    Attributes:
        found: [K].
        out_of: [K] 0 or more; a source with 0 takes no part.
    """

    found: Floats
    out_of: Floats

    @property
    def value(self) -> float:
        """The ratio of the sums, NaN when there is nothing to divide by."""
        total = float(self.out_of.sum())
        return float(self.found.sum()) / total if total else float("nan")

    @property
    def sources(self) -> int:
        """Sources that take part."""
        return int((self.out_of > 0).sum())


def pooled(ratios: Iterable[Ratio], count: int) -> Ratio:
    """Add ratios up: every step, curve or difference counts once, wherever it comes from.

    Args:
        ratios: Of the same K sources; may be none.
        count: K.
    """
    found, out_of = np.zeros(count), np.zeros(count)
    for ratio in ratios:
        found = found + ratio.found
        out_of = out_of + ratio.out_of
    return Ratio(found, out_of)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What happened between neighbouring severities.

    Attributes:
        falls: Steps at which the score fell, over steps.
        ties: Steps at which it stayed, over steps.
        missing: Steps that cannot be judged because a score is missing.
    """

    falls: Ratio
    ties: Ratio
    missing: int


def steps(curves: Curves, tolerance: float = 0.0) -> Steps:
    """Count the steps from one severity to the next at which the score falls.

    A step leads from a variant to the next more severe one that the corpus has of the same curve;
    the first from the clean video. It *falls* when the score is lower by more than ``tolerance``,
    and is a *tie* when the scores differ by no more than that. Where the damage is the same at
    both severities there is no step.

    Args:
        curves: Of one artefact in one task.
        tolerance: In points, 0 or more.
    """
    C, L = curves.scores.shape
    falls, ties, total = np.zeros(C), np.zeros(C), np.zeros(C)
    missing = 0
    last, known = curves.scores[:, 0].copy(), curves.listed[:, 0].copy()
    for place in range(1, L):
        here, now = curves.listed[:, place], curves.scores[:, place]
        step = here & known & (not curves.same[place])
        both = step & ~np.isnan(now) & ~np.isnan(last)
        missing += int((step & ~both).sum())
        lower = np.subtract(last, now, where=both, out=np.zeros(C))
        total += both
        falls += both & (lower > tolerance)
        ties += both & (np.abs(lower) <= tolerance)
        last, known = np.where(here, now, last), known | here
    out_of = curves.by_source(total)
    return Steps(
        Ratio(curves.by_source(falls), out_of), Ratio(curves.by_source(ties), out_of), missing
    )


def rank_correlations(curves: Curves) -> Floats:
    """Spearman's correlation of severity with the falling score, of each curve, [C].

    Pearson's correlation of mid-ranks (Kendall and Gibbons 1990, chapter 3), the clean video
    included. A score that does not change along the curve says nothing about severity: 0. NaN with
    fewer than :data:`MIN_POINTS` scores, or without that of the clean video.
    """
    s, known = curves.scores, ~np.isnan(curves.scores)
    worse = _ranks(-s, known)
    severe = _ranks(np.broadcast_to(curves.severities, s.shape), known)
    n = known.sum(1)
    middle = (n + 1) / 2
    a = np.where(known, worse - middle[:, None], 0.0)
    b = np.where(known, severe - middle[:, None], 0.0)
    spread = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    rho = np.divide((a * b).sum(1), spread, out=np.zeros(len(s)), where=spread > 0)
    return np.where((n >= MIN_POINTS) & known[:, 0], rho, np.nan)


def _ranks(values: Floats, known: Bools) -> Floats:
    """Mid-ranks from 1 of the known values of each row, [C, L]."""
    v = np.where(known, values, np.inf)
    pairs = known[:, None, :] & known[:, :, None]
    below = ((v[:, None, :] < v[:, :, None]) & pairs).sum(2)
    equal = ((v[:, None, :] == v[:, :, None]) & pairs).sum(2)
    ranks: Floats = below + (equal + 1) / 2
    return ranks


def severity_correlation(curves: Curves) -> Ratio:
    """Sum of :func:`rank_correlations` over the curves that have one."""
    rho = rank_correlations(curves)
    return Ratio(curves.by_source(rho), curves.by_source(~np.isnan(rho)))


def varies(curves: Curves) -> bool:
    """Say whether the score changes along at least one curve."""
    s = curves.scores
    if not (~np.isnan(s)).any():
        return False
    high = np.where(np.isnan(s), -np.inf, s).max(1)
    low = np.where(np.isnan(s), np.inf, s).min(1)
    return bool((high > low).any())


def differences(curves: Curves) -> Floats:
    """How far each variant's score is below that of its clean video, [C, L - 1]; NaN unknown."""
    drop: Floats = curves.scores[:, :1] - curves.scores[:, 1:]
    return drop


@dataclass(frozen=True, slots=True, eq=False)
class Drops:
    """Differences from the clean video, in points.

    Attributes:
        drop: Clean less the most severe variant of each curve; above 0: the score fell.
        drop_all: Clean less each variant.
        change: Absolute value of the first.
        change_all: Absolute value of the second.
    """

    drop: Ratio
    drop_all: Ratio
    change: Ratio
    change_all: Ratio


def drops(curves: Curves) -> Drops:
    """Measure how far scores lie below those of the clean videos.

    The most severe variant of a curve is the one with the highest severity that the corpus lists;
    a curve without its score takes no part in ``drop``.
    """
    d = differences(curves)
    listed = curves.listed[:, 1:]
    L = d.shape[1]
    top = np.where(listed.any(1), L - 1 - listed[:, ::-1].argmax(1), -1) if L else np.zeros(0)
    rows = np.arange(len(d))
    worst = (
        np.where(top >= 0, d[rows, np.maximum(top, 0)], np.nan) if L else np.full(len(d), np.nan)
    )
    known, any_known = ~np.isnan(d), ~np.isnan(worst)
    one, all_ = curves.by_source(any_known), curves.by_source(known.sum(1))

    def summed(values: Floats) -> Floats:
        return curves.by_source(np.nan_to_num(values).sum(1))

    return Drops(
        Ratio(curves.by_source(worst), one),
        Ratio(summed(d), all_),
        Ratio(curves.by_source(np.abs(worst)), one),
        Ratio(summed(np.abs(d)), all_),
    )
