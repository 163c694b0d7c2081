"""Intervals of the ruler: sources are drawn with replacement, everything else follows.

One set of draws serves all artefacts and tasks, so that a quotient of two of them is drawn with
both of its sides (a paired bootstrap).

Legend: K sources, R resamples, M ratios.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from model.bootstrap import BLOCK, Floats, percentile_interval, resample_groups
from model.metrics import Value
from model.ruler import Ratio
from model.ruler_config import RulerConfig

NOTHING: Final = "nothing to measure"


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A figure and its resamples.

    Attributes:
        value: NaN when undefined.
        draws: [R] the figure in each resample, NaN where undefined.
        sources: Sources that take part.
        reason: Why it is undefined, or how it was limited.
    """

    value: float
    draws: Floats
    sources: int
    reason: str | None = None

    def told(self, level: float) -> Value:
        """Return value, percentile interval and reason."""
        if math.isnan(self.value):
            return Value(None, None, None, self.reason or NOTHING)
        found = percentile_interval(self.draws, level, self.sources)
        return Value(
            self.value, found.low, found.high, self.reason or found.reason, found.undefined
        )


def estimates(ratios: Sequence[Ratio], config: RulerConfig) -> list[Estimate]:
    """Compute the value of each ratio and its resamples.

    Args:
        ratios: Of the same K sources.
        config: Resamples and seed.
    """
    if not ratios:
        return []
    K, M = len(ratios[0].found), len(ratios)
    draws = np.full((config.rounds, M), np.nan)
    if K:
        sums = np.stack([r.found for r in ratios] + [r.out_of for r in ratios], axis=1)  # [K, 2M]
        start = 0
        # Blocks hold weights [R, K] and their products [R, 2M].
        block = max(1, BLOCK * K // max(K, 2 * M))
        for weights in resample_groups(np.arange(K), config.rounds, config.seed, block):
            found = weights @ sums
            stop = start + len(weights)
            over, under = found[:, :M], found[:, M:]
            np.divide(over, under, out=draws[start:stop], where=under > 0)
            start = stop
    return [Estimate(r.value, draws[:, m], r.sources) for m, r in enumerate(ratios)]


def selectivity(harmed: Estimate, unharmed: Estimate, config: RulerConfig) -> Estimate:
    """Divide the drop of harmed scores by the change of unharmed ones.

    The quotient is limited to ``config.cap``: a denominator that is all but 0 would make it
    anything. With no drop and no change it is undefined.

    Args:
        harmed: Mean drop of scores that should fall.
        unharmed: Mean absolute change of scores that should stay, 0 or more.
        config: The cap.
    """
    sources = min(harmed.sources, unharmed.sources)
    draws = _quotient(harmed.draws, unharmed.draws, config.cap)
    value = float(_quotient(np.array([harmed.value]), np.array([unharmed.value]), config.cap)[0])
    reason = None
    if math.isnan(harmed.value):
        reason = "no harmed score"
    elif math.isnan(unharmed.value):
        reason = "no unharmed score"
    elif math.isnan(value):
        reason = "neither harmed nor unharmed scores change"
    elif value >= config.cap:
        reason = f"unharmed scores hardly change: limited to {config.cap:g}"
    return Estimate(value, draws, sources, reason)


def _quotient(over: Floats, under: Floats, cap: float) -> Floats:
    """Divide; limited to +-cap, NaN where both are 0."""
    nothing = (over == 0) & (under == 0)
    least = np.abs(over) / cap
    held = np.maximum(under, least)
    result = np.divide(over, held, out=np.zeros_like(over), where=held > 0)
    return np.where(nothing | np.isnan(over) | np.isnan(under), np.nan, result)
