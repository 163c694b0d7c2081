"""Do two conditions differ in the mean? Permutation tests and intervals for clustered scores.

The paired test flips signs (Fisher 1935; Good 2005, section 3.2.1): when the differences are
symmetric about ``delta``, each cluster's sum of (difference - delta) is as likely with the other
sign, whatever the spread of the clusters, so the p-value is exact. Flipping signs of the mean and
of its t-statistic give the same p-value, because the sum of squares does not change; so with many
clusters the level also holds for skewed differences (Janssen 1999).

Differences of one cluster (a speaker, a prompt) are flipped and resampled together, because they
are not independent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.bootstrap import (
    BLOCK,
    Floats,
    Interval,
    percentile_interval,
    resample_groups,
)

Alternative = Literal["two-sided", "less", "greater"]
Names = Sequence[str] | NDArray[np.str_] | NDArray[np.int64]
Method = Literal["exact", "monte carlo", "welch"]

# More clusters than this are merged at random into so many: flipping merged clusters is a subgroup
# of all flips, so the test keeps its level, and time and memory stop growing.
MAX_CLUSTERS = 4096
# Scores are stored in float32: what differs by less than this is equal.
RESOLUTION = 1e-6
TIE = 1e-9  # rounding of sums, relative to the sum of the absolute values
_EXACT_BITS = 24  # more clusters are never enumerated: memory
KEPT_BYTES = 2**22  # of drawn permutations, a bit each, that are kept for the next test
_CACHED = 2**23  # weights of resamples that are kept for the next call, 16 MiB


@dataclass(frozen=True, slots=True)
class MeanTest:
    """A test of a mean difference.

    Attributes:
        n: Differences (paired), or values of both samples (unpaired).
        clusters: Independent clusters among them.
        difference: Their mean, or the difference of the means; None without values.
        p: In (0, 1]; None where no test is possible.
        least_p: The smallest p-value that so many clusters and permutations can give.
        method: ``exact``: all permutations; ``monte carlo``: some; ``welch``: t-test.
        reason: Why there is no p-value or why it says nothing; None otherwise.
    """

    n: int
    clusters: int
    difference: float | None
    p: float | None
    least_p: float | None
    method: Method
    reason: str | None = None


def paired_test(
    differences: ArrayLike,
    clusters: Names | None = None,
    *,
    delta: float = 0.0,
    alternative: Alternative = "two-sided",
    permutations: int = 9_999,
    seed: int = 0,
) -> MeanTest:
    """Test H0: the mean difference is ``delta``, by flipping the signs of clusters.

    All 2^k flips of k clusters are enumerated when they are at most ``permutations`` + 1; else so
    many are drawn and p = (b + 1) / (permutations + 1), b those at least as extreme as what was
    seen (Phipson and Smyth 2010), which never is 0.

    Args:
        differences: [n] finite.
        clusters: [n] names or numbers of what is flipped together; None: each difference alone.
        delta: Mean difference under H0, in the unit of the differences.
        alternative: H1: the mean is not ``delta``, or is ``less`` or ``greater``. A one-sided test
            holds its level for every mean on the other side as well.
        permutations: Most flips.
        seed: Of the drawn flips.

    Returns:
        The test. p is None without differences; 1 with a reason when there is one cluster, or when
        every difference is ``delta``.

    Raises:
        ValueError: A difference is not finite, or the lengths differ.
    """
    d, groups = checked(differences, clusters)
    if not len(d):
        return MeanTest(0, 0, None, None, None, "exact", "nothing to compare")
    # Rounded, so that differences that are equal but for float32 stay equal in every flip.
    shifted = np.round((d - delta) / RESOLUTION) * RESOLUTION
    mean = float(d.mean())
    k = int(groups.max()) + 1
    sums = _merged(_sums(groups, shifted), seed)
    exact = _enumerable(len(sums), permutations)
    least = smallest_p(len(sums), permutations, alternative)
    method: Method = "exact" if exact else "monte carlo"
    if k == 1:
        return MeanTest(len(d), k, mean, 1.0, 1.0, method, "one cluster: there is nothing to flip")
    if not sums.any():
        return MeanTest(len(d), k, mean, 1.0, least, method, f"every difference is {delta:g}")
    flips = _all_flips(len(sums)) if exact else _drawn_flips(len(sums), permutations, seed)
    seen, slack = float(sums.sum()), TIE * float(np.abs(sums).sum())
    extreme = total = 0
    for flip in flips:
        found = 2 * (flip @ sums) - seen
        extreme += int(_extreme(found, seen, slack, alternative).sum())
        total += len(found)
    p = extreme / total if exact else (extreme + 1) / (total + 1)
    return MeanTest(len(d), k, mean, p, least, method)


def smallest_p(clusters: int, permutations: int, alternative: Alternative = "two-sided") -> float:
    """Return the smallest p-value that :func:`paired_test` can give, in (0, 1]."""
    if _enumerable(clusters, permutations):
        return min(1.0, (2 if alternative == "two-sided" else 1) * 2.0**-clusters)
    return 1 / (permutations + 1)


def _enumerable(clusters: int, permutations: int) -> bool:
    return clusters < _EXACT_BITS and 2**clusters <= permutations + 1


def mean_interval(
    values: ArrayLike,
    clusters: Names | None = None,
    *,
    level: float = 0.95,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a mean; clusters are drawn together.

    Args:
        values: [n] finite.
        clusters: [n] names or numbers of what is drawn together; None: each value alone.
        level: Coverage, a share.
        rounds: Resamples.
        seed: Of the resamples.

    Returns:
        The interval; undefined, with its reason, with fewer than
        :data:`model.bootstrap.MIN_GROUPS` clusters.
    """
    means, k = resampled_means(values, clusters, rounds, seed)
    return percentile_interval(means, level, k)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number (Holm 1979); None stays None and does not count.

    Rejecting where the corrected value is at most alpha keeps the chance of even one false
    rejection at alpha, whatever the dependence.
    """
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, i) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(known) - rank)))
        corrected[i] = highest
    return corrected


def checked(values: ArrayLike, clusters: Names | None) -> tuple[Floats, NDArray[np.int64]]:
    """Return values as float64 and the numbers of their clusters from 0.

    Raises:
        ValueError: A value is not finite, or the lengths differ.
    """
    v = np.asarray(values, np.float64)
    if not np.isfinite(v).all():
        raise ValueError("a value is not finite; leave missing ones out")
    if clusters is None:
        return v, np.arange(len(v))
    if len(clusters) != len(v):
        raise ValueError(f"{len(v)} values have {len(clusters)} clusters")
    return v, np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)


def _sums(groups: NDArray[np.int64], values: Floats) -> Floats:
    return np.bincount(groups, values).astype(np.float64)


def _merged(sums: Floats, seed: int) -> Floats:
    """Add the sums of [k] clusters up to at most MAX_CLUSTERS at random."""
    k = len(sums)
    if k <= MAX_CLUSTERS:
        return sums
    place = np.random.default_rng([seed, k]).permutation(k) % MAX_CLUSTERS
    return _sums(place, sums)


def _extreme(
    found: Floats, seen: float, slack: float, alternative: Alternative
) -> NDArray[np.bool_]:
    if alternative == "less":
        result = found <= seen + slack
    elif alternative == "greater":
        result = found >= seen - slack
    else:
        result = np.abs(found) >= abs(seen) - slack
    extreme: NDArray[np.bool_] = result
    return extreme


@lru_cache(maxsize=2)
def _patterns(k: int) -> NDArray[np.uint8]:
    numbers = np.arange(2**k, dtype=np.int64)[:, None]
    return ((numbers >> np.arange(k)) & 1).astype(np.uint8)


def _all_flips(k: int) -> Iterator[Floats]:
    """Yield all patterns of k clusters, 1 where the sign stays, in blocks of rows."""
    patterns, rows = _patterns(k), max(1, BLOCK // k)
    for start in range(0, len(patterns), rows):
        yield patterns[start : start + rows].astype(np.float64)


def _drawn_flips(k: int, rounds: int, seed: int) -> Iterator[Floats]:
    small = rounds * -(-k // 8) <= KEPT_BYTES
    blocks = _kept_flips(k, rounds, seed) if small else _raw_flips(k, rounds, seed)
    for raw in blocks:
        yield np.unpackbits(raw, axis=1, count=k).astype(np.float64)


@lru_cache(maxsize=4)
def _kept_flips(k: int, rounds: int, seed: int) -> tuple[NDArray[np.uint8], ...]:
    # Tests of a leaderboard mostly have the same units: one drawing serves them all.
    return tuple(_raw_flips(k, rounds, seed))


def _raw_flips(k: int, rounds: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // k)
    for start in range(0, rounds, rows):
        yield rng.integers(256, size=(min(rows, rounds - start), -(-k // 8)), dtype=np.uint8)


def resampled_means(
    values: ArrayLike, clusters: Names | None, rounds: int, seed: int
) -> tuple[Floats, int]:
    """Return the means of ``rounds`` resamples, NaN without values, and the number of clusters."""
    v, groups = checked(values, clusters)
    if not len(v):
        return np.full(rounds, np.nan), 0
    sums = _merged(_sums(groups, v), seed)
    counts = _merged(_sums(groups, np.ones(len(v))), seed)
    means = [(w @ sums) / (w @ counts) for w in _weights(len(sums), rounds, seed)]
    return (np.concatenate(means) if means else np.zeros(0)), int(groups.max()) + 1


def _weights(k: int, rounds: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each of k clusters is drawn, [R, k] in blocks."""
    if k * rounds <= _CACHED:
        yield _kept_weights(k, rounds, seed).astype(np.float64)
    else:
        yield from resample_groups(np.arange(k), rounds, seed)


@lru_cache(maxsize=4)
def _kept_weights(k: int, rounds: int, seed: int) -> NDArray[np.uint16]:
    # Generators of a leaderboard mostly have the same units: drawing them once is most of the work.
    blocks = list(resample_groups(np.arange(k), rounds, seed))
    kept = np.concatenate(blocks) if blocks else np.zeros((0, k))
    return kept.astype(np.uint16)
