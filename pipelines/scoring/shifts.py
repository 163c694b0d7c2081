"""The mean change of scores between two runs, with interval and test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.bootstrap import Floats
from model.paired import holm, mean_interval, paired_test, smallest_p
from pipelines.scoring.leaderboard import LeaderboardConfig, reservation


@dataclass(frozen=True)
class Shift:
    """The mean change of one task over the videos that both runs scored in it.

    Attributes:
        n: Videos with a score in both runs.
        units: Independent units among them.
        before: Mean score in the baseline, None without videos.
        after: Mean score now.
        difference: after - before.
        low: Lower end of its bootstrap interval, None when undefined.
        high: Upper end.
        p: Of the two-sided paired test of no change.
        p_adjusted: After Holm: over the tasks for all videos, over the generators within a task.
        significant: p_adjusted <= 1 - level; None without p.
        lost: Videos with a score in the baseline only.
        gained: Videos with a score now only.
        reason: Why something is None, or why what is not significant could not have been.
    """

    n: int
    units: int
    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    significant: bool | None
    lost: int
    gained: int
    reason: str | None


def shift_of(
    before: Floats, after: Floats, units: NDArray[np.int64], config: LeaderboardConfig
) -> Shift:
    """Compare scores of the same videos, not yet corrected for other comparisons.

    Args:
        before: [n] in the baseline, NaN where there is none.
        after: [n] now.
        units: [n] numbers of what is flipped and resampled together.
        config: Level, resamples, permutations, seed.
    """
    had, has = ~np.isnan(before), ~np.isnan(after)
    both = had & has
    lost, gained = int((had & ~has).sum()), int((has & ~had).sum())
    if not both.any():
        reason = "no video has a score in both runs"
        nothing = (None,) * 8
        return Shift(0, 0, *nothing, lost, gained, reason)
    d, clusters = (after - before)[both], units[both]
    test = paired_test(d, clusters, permutations=config.permutations, seed=config.seed)
    interval = mean_interval(
        d, clusters, level=config.level, rounds=config.rounds, seed=config.seed
    )
    return Shift(
        n=test.n,
        units=test.clusters,
        before=float(before[both].mean()),
        after=float(after[both].mean()),
        difference=test.difference,
        low=interval.low,
        high=interval.high,
        p=test.p,
        p_adjusted=None,
        significant=None,
        lost=lost,
        gained=gained,
        reason="; ".join(r for r in (test.reason, interval.reason) if r) or None,
    )


def corrected(shifts: Sequence[Shift], config: LeaderboardConfig) -> list[Shift]:
    """Correct the p-values of a family by Holm's method."""
    adjusted = holm([shift.p for shift in shifts])
    alpha = 1 - config.level
    count = sum(p is not None for p in adjusted)
    found = []
    for shift, p in zip(shifts, adjusted, strict=True):
        significant, reasons = None if p is None else p <= alpha, [shift.reason]
        if significant is False and shift.units > 1:  # of one unit the test itself speaks
            least = smallest_p(shift.units, config.permutations)
            reasons.append(reservation(shift.units, least, count, config))
        reason = "; ".join(r for r in reasons if r) or None
        found.append(replace(shift, p_adjusted=p, significant=significant, reason=reason))
    return found
