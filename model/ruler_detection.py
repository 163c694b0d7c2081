"""The smallest severity that an evaluator tells from the clean video, beyond chance.

Severities are tested from the worst downwards, each at the full level, until one is not detected:
the hypotheses have an order that is fixed before the scores are seen, so the chance of even one
false detection stays at the level without any correction (Maurer, Hothorn and Lehmacher 1995; the
"minimum effective dose" of Tamhane, Hochberg and Dunnett 1996). Detected at a severity therefore
means: there and at all higher ones.

Legend: C curves, L severities with the clean one, K sources, R resamples.
"""

import math
from dataclasses import dataclass

import numpy as np

from model.bootstrap import MIN_GROUPS, Floats, resample_groups
from model.paired import paired_test, smallest_p
from model.ruler import Curves, differences
from model.ruler_config import RulerConfig


@dataclass(frozen=True, slots=True)
class Detection:
    """The smallest severity that is detected.

    Attributes:
        severity: None: not even the highest.
        low: Lower end of its bootstrap interval; None without one.
        high: Upper end; None without an interval, or when it reaches "never".
        reason: Why something is None.
        p: [L - 1] one-sided p-values by severity, from the slightest; None where nothing can be
            compared. They are not corrected.
        n: [L - 1] sources compared.
    """

    severity: float | None
    low: float | None
    high: float | None
    reason: str | None
    p: tuple[float | None, ...]
    n: tuple[int, ...]


def detection(curves: Curves, config: RulerConfig) -> Detection:
    """Find the smallest severity whose scores lie below those of the clean videos.

    At each severity the mean difference of the sources is tested against 0, one-sided, by flipping
    signs (:func:`model.paired.paired_test`). The interval is that of the bootstrap over sources; in
    a resample, a t-test stands in for the flips, which would take too long.
    """
    d = differences(curves)
    p: list[float | None] = []
    n: list[int] = []
    for column in d.T:
        known = ~np.isnan(column)
        means = _means(column[known], curves.sources[known])
        n.append(len(means))
        test = paired_test(
            means, alternative="greater", permutations=config.permutations, seed=config.seed
        )
        p.append(test.p)
    place = _least([value is not None and value <= config.alpha for value in p])
    severities = curves.severities[1:]
    severity = None if place is None else float(severities[place])
    low, high, why = _interval(curves, d, config)
    reason = _reason(severity, p, n, config) or why
    return Detection(severity, low, high, reason, tuple(p), tuple(n))


def _means(values: Floats, sources: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Floats:
    """Mean of each source: several curves of one are not independent."""
    _, place = np.unique(sources, return_inverse=True)
    means: Floats = np.bincount(place, values) / np.bincount(place)
    return means


def _least(detected: list[bool]) -> int | None:
    """Return the first place of the run of detected ones that ends at the last, None without."""
    place = None
    for i in range(len(detected) - 1, -1, -1):
        if not detected[i]:
            break
        place = i
    return place


def _reason(
    severity: float | None, p: list[float | None], n: list[int], config: RulerConfig
) -> str | None:
    if severity is not None:
        return None
    if not n or not n[-1]:
        return "nothing to compare at the highest severity"
    if smallest_p(n[-1], config.permutations, "greater") > config.alpha:
        return f"too few sources ({n[-1]}) for a test at {config.alpha:g}"
    lower = any(value is not None and value <= config.alpha for value in p[:-1])
    return "not at the highest severity, although below it" if lower else "at no severity"


def _interval(
    curves: Curves, d: Floats, config: RulerConfig
) -> tuple[float | None, float | None, str | None]:
    from scipy.special import stdtrit

    K, L = curves.count, d.shape[1]
    known = ~np.isnan(d)
    taking_part = len(np.unique(curves.sources[known.any(1)]))
    if not config.rounds:
        return None, None, "no interval: no bootstrap resamples"
    if taking_part < MIN_GROUPS or not L:
        return None, None, f"no interval: fewer than {MIN_GROUPS} groups to resample"
    sums = np.stack([curves.by_source(np.nan_to_num(column)) for column in d.T], 1)  # [K, L]
    counts = np.stack([curves.by_source(column) for column in known.T], 1)
    here = (counts > 0).astype(np.float64)
    mean = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    found = []
    for weights in resample_groups(np.arange(K), config.rounds, config.seed):
        m = weights @ here  # [R, L] sources drawn
        first, second = weights @ mean, weights @ mean**2
        with np.errstate(divide="ignore", invalid="ignore"):
            average = first / m
            # Copies of a source must not make a resample more certain than the sources are.
            variance = np.maximum(second / m - average**2, 0) * m / np.maximum(m - 1, 1)
            t = average / np.sqrt(variance / m)
            limit = stdtrit(np.maximum(m - 1, 1), 1 - config.alpha)
        sure = (m >= 2) & (average > 0) & ((variance == 0) | (t > limit))
        # From the worst downwards, as long as all are detected.
        run = np.cumprod(sure[:, ::-1], axis=1).sum(1)
        place = L - run
        padded = np.append(curves.severities[1:], math.inf)
        found.append(padded[place])
    drawn = np.concatenate(found)
    tail = (1 - config.level) / 2
    # Severities are steps of a grid: an end is one of them, never a value between.
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    never = float(np.isinf(drawn).mean())
    why = None if math.isfinite(high) else f"not detected in {never:.0%} of the resamples"
    return _finite(float(low)), _finite(float(high)), why


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
