"""Do two independent samples differ in the mean? What is left when nothing can be paired."""

from collections.abc import Iterator
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.bootstrap import BLOCK, Floats, Interval, percentile_interval
from model.paired import (
    KEPT_BYTES,
    MAX_CLUSTERS,
    RESOLUTION,
    TIE,
    MeanTest,
    checked,
    resampled_means,
)


def unpaired_test(
    a: ArrayLike, b: ArrayLike, *, permutations: int = 9_999, seed: int = 0
) -> MeanTest:
    """Test H0: two independent samples have the same mean, two-sided.

    Permutes who belongs to which sample and compares Welch's t, which keeps the level for unequal
    spreads with many values, and exactly when the distributions are equal (Janssen 1997; Chung and
    Romano 2013). Samples of together more than :data:`model.paired.MAX_CLUSTERS` values are
    compared with the t-distribution instead.

    Args:
        a: [n] finite independent values.
        b: [m] the same of the other sample.
        permutations: Drawn; p = (b + 1) / (permutations + 1).
        seed: Of the drawn permutations.

    Returns:
        The test of mean(a) - mean(b). p is None when a sample is empty; 1 with a reason when there
        are two values, or all are equal.
    """
    x, y = checked(a, None)[0], checked(b, None)[0]
    n, m = len(x), len(y)
    if not n or not m:
        return MeanTest(n + m, n + m, None, None, None, "monte carlo", "nothing to compare")
    difference = float(x.mean() - y.mean())
    pooled = np.round(np.concatenate([x, y]) / RESOLUTION) * RESOLUTION
    pooled -= pooled.mean()
    # Of two samples of one size, the exchanged division is as extreme.
    least = max(1 / (permutations + 1), (2 if n == m else 1) / comb(n + m, n))
    if n + m == 2:
        reason = "one value each: there is nothing to permute"
        return MeanTest(2, 2, difference, 1.0, 1.0, "monte carlo", reason)
    if float(np.ptp(pooled)) < RESOLUTION:
        reason = "all values are equal"
        return MeanTest(n + m, n + m, difference, 1.0, least, "monte carlo", reason)
    if n + m > MAX_CLUSTERS and min(n, m) > 1:
        return MeanTest(n + m, n + m, difference, _welch_p(x, y), 0.0, "welch")
    seen = float(_welch_t(pooled, np.r_[np.ones(n), np.zeros(m)][None])[0])
    extreme = 0
    for first in _drawn_samples(n, m, permutations, seed):
        found = np.abs(_welch_t(pooled, first))
        extreme += int((found >= abs(seen) * (1 - TIE)).sum())
    p = (extreme + 1) / (permutations + 1)
    return MeanTest(n + m, n + m, difference, p, least, "monte carlo")


def difference_interval(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, rounds: int = 1000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of mean(a) - mean(b) of two independent samples."""
    first, n = resampled_means(a, None, rounds, seed)
    second, m = resampled_means(b, None, rounds, seed + 1)
    return percentile_interval(first - second, level, min(n, m))


def _drawn_samples(n: int, m: int, rounds: int, seed: int) -> Iterator[Floats]:
    """Yield who is in the first of two samples of n and m, [R, n + m] of 0 and 1, in blocks."""
    small = rounds * -(-(n + m) // 8) <= KEPT_BYTES
    for packed in _kept_samples(n, m, rounds, seed) if small else _packed(n, m, rounds, seed):
        yield np.unpackbits(packed, axis=1, count=n + m).astype(np.float64)


@lru_cache(maxsize=16)
def _kept_samples(n: int, m: int, rounds: int, seed: int) -> tuple[NDArray[np.uint8], ...]:
    # The tasks of two generators mostly have the same sizes: drawing is most of the work.
    return tuple(_packed(n, m, rounds, seed))


def _packed(n: int, m: int, rounds: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    start = np.r_[np.ones(n), np.zeros(m)]
    rows = max(1, BLOCK // (n + m))
    for done in range(0, rounds, rows):
        drawn = rng.permuted(np.tile(start, (min(rows, rounds - done), 1)), axis=1)
        yield np.packbits(drawn.astype(np.uint8), axis=1)


def _welch_t(pooled: Floats, first: Floats) -> Floats:
    """Welch's t of [R, N] divisions of N values; a sample of one value borrows the other's spread.

    Where both samples are constant but differ, t is infinite.
    """
    n = first[0].sum()
    m = len(pooled) - n
    total, square = pooled.sum(), (pooled**2).sum()
    sum_x, square_x = first @ pooled, first @ pooled**2
    mean_x, mean_y = sum_x / n, (total - sum_x) / m
    within_x = np.maximum(square_x - n * mean_x**2, 0)
    within_y = np.maximum(square - square_x - m * mean_y**2, 0)
    if min(n, m) > 1:
        variance = within_x / (n - 1) / n + within_y / (m - 1) / m
    else:
        variance = (within_x + within_y) / (n + m - 2) * (1 / n + 1 / m)
    difference = mean_x - mean_y
    floor = (TIE * np.abs(pooled).max()) ** 2
    t: Floats = np.where(
        variance > floor,
        difference / np.sqrt(np.maximum(variance, floor)),
        np.where(np.abs(difference) > RESOLUTION, np.copysign(np.inf, difference), 0.0),
    )
    return t


def _welch_p(x: Floats, y: Floats) -> float:
    from scipy.special import stdtr

    a, b = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if a + b == 0:
        return 1.0 if x.mean() == y.mean() else float(np.finfo(float).tiny)
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    p = 2 * float(stdtr(freedom, -abs(x.mean() - y.mean()) / np.sqrt(a + b)))
    return max(p, float(np.finfo(float).tiny))
