"""Bootstrap by group: percentile intervals of any statistic of weighted pairs.

Videos of one group (a speaker, or the video itself) are drawn together, because they are not
independent: intervals that ignore this are too narrow (Davison and Hinkley 1997, section 3.8;
Efron and Tibshirani 1993, chapter 13 for the percentile interval).

A resample is a row of whole-number weights, how often each pair was drawn, so that a statistic is
computed for many resamples at once by matrix products.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Resampling fewer groups than this says next to nothing about the spread: three groups have only
# ten different resamples.
MIN_GROUPS = 5
# Numbers of one block of weights: 16 MiB in float64.
BLOCK = 2**21


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval.

    Attributes:
        low: Lower end, None when undefined.
        high: Upper end, None when undefined.
        undefined: Resamples in which the statistic was undefined; the percentiles are of the
            others.
        reason: Why there is no interval, None when there is one.
    """

    low: float | None
    high: float | None
    undefined: int
    reason: str | None


def number_groups(keys: NDArray[np.str_] | list[str]) -> NDArray[np.int64]:
    """Number the groups of n rows from 0 in the order of their names, whatever the row order."""
    return np.unique(np.asarray(keys, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def resample_groups(
    groups: NDArray[np.int64], rounds: int, seed: int, block: int = BLOCK
) -> Iterator[Floats]:
    """Yield the weights of ``rounds`` resamples in blocks of rows, [R, n] float64.

    As many groups are drawn with replacement as there are; the weight of a row is how often its
    group was drawn. The draws depend on the seed and the number of groups alone, not on ``block``
    or on the number of rows.

    Args:
        groups: [n] numbers from 0 without gaps.
        rounds: Resamples.
        seed: Seed of the generator.
        block: Numbers in one block of weights.
    """
    rng = np.random.default_rng(seed)
    size = int(groups.max()) + 1
    rows = max(1, block // len(groups))
    for start in range(0, rounds, rows):
        counts = [
            np.bincount(rng.integers(size, size=size), minlength=size)
            for _ in range(min(rows, rounds - start))
        ]
        yield np.stack(counts).astype(np.float64)[:, groups]


def percentile_interval(values: Floats, level: float, groups: int) -> Interval:
    """Turn the statistic of R resamples into an interval.

    The ends are the (1 - level) / 2 and (1 + level) / 2 quantiles (linear between order
    statistics) of the resamples in which the statistic is defined.

    Args:
        values: [R], NaN where undefined.
        level: Coverage, a share.
        groups: Groups that were resampled.

    Returns:
        The interval; undefined without resamples, with fewer than :data:`MIN_GROUPS` groups, and
        when the statistic was undefined in more than half of the resamples.
    """
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if not len(values):
        return Interval(None, None, 0, "no interval: no bootstrap resamples")
    if groups < MIN_GROUPS:
        return Interval(
            None, None, undefined, f"no interval: fewer than {MIN_GROUPS} groups to resample"
        )
    if 2 * undefined > len(values):
        return Interval(
            None, None, undefined, "no interval: undefined in more than half of the resamples"
        )
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), undefined, None)
