"""Split-conformal prediction from absolute residuals, exact for finite samples.

Given n residuals of calibration and one of the future that are exchangeable, the future one is at
most the k-th smallest with a probability of at least k / (n + 1), and of exactly that when there
are no ties. With k = ceil((n + 1) level) that is at least ``level`` and less than
``level + 1 / (n + 1)``. When k exceeds n there is no such residual: nothing but the whole scale
keeps the promise. Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005);
Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 2018, section 2.2.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def _exact(level: float) -> Fraction:
    if not 0 < level < 1:
        raise ValueError(f"a level of coverage lies between 0 and 1, not at {level}")
    # The decimal that was meant: 0.9 as a binary fraction would make rank 10 of 9 now and then.
    return Fraction(str(float(level)))


def conformal_rank(count: int, level: float) -> int:
    """Return k = ceil((n + 1) level); above n when n residuals are too few.

    Raises:
        ValueError: ``level`` is not in (0, 1).
    """
    return math.ceil((count + 1) * _exact(level))


def least_count(level: float) -> int:
    """Return the smallest n that supports a level: 9 for 0.9, 19 for 0.95, 99 for 0.99.

    Raises:
        ValueError: ``level`` is not in (0, 1).
    """
    exact = _exact(level)
    return math.ceil(exact / (1 - exact))


def conformal_quantile(ascending: Floats, level: float) -> float:
    """Return the k-th smallest of [n] values, infinity when n is too small, NaN when it is 0.

    Args:
        ascending: [n] values, sorted.
        level: Coverage in (0, 1).

    Raises:
        ValueError: ``level`` is not in (0, 1).
    """
    rank = conformal_rank(len(ascending), level)
    if not len(ascending):
        return math.nan
    return float(ascending[rank - 1]) if rank <= len(ascending) else math.inf


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often intervals hold the label.

    Attributes:
        count: Labels that have an interval.
        covered: Of them inside it, ends included.
        share: ``covered / count``; None without any.
        low: The exact (Clopper-Pearson) 95 % interval of the share, for independent videos.
        high: Its upper end.
        width: Mean width of the intervals.
    """

    count: int
    covered: int
    share: float | None
    low: float | None
    high: float | None
    width: float | None


def coverage(low: Floats, high: Floats, labels: Floats) -> Coverage:
    """Hold [V] intervals against [V] labels; where one of them is NaN does not count."""
    known = ~(np.isnan(low) | np.isnan(high) | np.isnan(labels))
    count = int(known.sum())
    if not count:
        return Coverage(0, 0, None, None, None, None)
    inside = (low[known] <= labels[known]) & (labels[known] <= high[known])
    covered = int(inside.sum())
    bounds = _clopper_pearson(covered, count)
    return Coverage(
        count, covered, covered / count, *bounds, float((high[known] - low[known]).mean())
    )


def _clopper_pearson(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.isf(tail, hits + 1, count - hits)) if hits < count else 1.0
    return low, high
