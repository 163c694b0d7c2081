"""Metrics of predictions against labels: values, intervals, and reasons where undefined.

Every metric is computed for R weighted resamples of the same n pairs at once
(:class:`model.resamples.Resamples`); the value itself is the one resample in which each pair
counts once. A metric names what must hold for it to be defined; where that fails the value is None
with the reason.

Legend: n pairs of a prediction x and a label y, R resamples.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from model.bootstrap import Floats, percentile_interval, resample_groups
from model.logistic_map import PARAMETERS
from model.metrics_config import EvaluationConfig
from model.resamples import SCORES, Bools, Pairs, Resamples, varies

SIGNS = 2**22  # numbers of one block of the matrix S of Kendall's tau

__all__ = ["METRICS", "Metric", "Pairs", "Value", "measure"]


@dataclass(frozen=True, slots=True)
class Value:
    """One metric on one set of pairs.

    Attributes:
        value: None when undefined.
        low: Lower end of the interval, None when undefined.
        high: Upper end.
        reason: Why the value or else the interval is undefined, None when both are there.
        undefined_rounds: Resamples that the interval leaves out because the metric was undefined.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str | None
    undefined_rounds: int = 0

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Return the fields for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


# --- what must hold


def _at_least(count: int) -> Callable[[Resamples], Bools]:
    return lambda s: s.distinct >= count


@dataclass(frozen=True, slots=True)
class Need:
    """A condition of a metric, held against each resample, and the reason given where it fails."""

    reason: str
    holds: Callable[[Resamples], Bools]


THREE = Need("fewer than 3 pairs", _at_least(3))
FIVE = Need(f"fewer than 5 pairs for a mapping of {PARAMETERS} parameters", _at_least(5))
LABELS = Need("labels are constant", lambda s: s.y_varies)
PREDICTIONS = Need("predictions are constant", lambda s: s.x_varies)
WHOLE_LABELS = Need("rounded labels are constant", lambda s: varies(s.whole[1] + 1.0, s.drawn))
WHOLE_PREDICTIONS = Need(
    "rounded predictions are constant", lambda s: varies(s.whole[0] + 1.0, s.drawn)
)
SPREAD = Need("rater spread unknown", lambda s: s.weights @ s.known > 0)
SPREAD_TWO = Need("rater spread known for fewer than 2 pairs", lambda s: s.drawn @ s.known >= 2)
MAPPED = Need("the logistic mapping did not converge", lambda s: s.mapped.converged)
RISING = Need(
    "the best logistic mapping falls: predictions run against the labels",
    lambda s: s.mapped.plcc > 0,
)


# --- the metrics


def _r2(s: Resamples) -> Floats:
    return 1 - s.mean(s.error**2) / s.moments[1]


def _median_error(s: Resamples) -> Floats:
    size = np.abs(s.error)
    order = np.argsort(size)
    upto = np.cumsum(s.weights[:, order], axis=1)
    lower = (upto > ((s.n - 1) // 2)[:, None]).argmax(1)
    upper = (upto > (s.n // 2)[:, None]).argmax(1)
    median: Floats = (size[order][lower] + size[order][upper]) / 2
    return median


def _pearson(s: Resamples) -> Floats:
    vx, vy, cov, _ = s.moments
    return cov / np.sqrt(vx * vy)


def _spearman(s: Resamples) -> Floats:
    a, b = s.x_ranks, s.y_ranks
    cov = np.einsum("rn,rn,rn->r", s.weights, a.ranks, b.ranks)
    rho: Floats = cov / np.sqrt(a.square * b.square)
    return rho


def _kendall(s: Resamples) -> Floats:
    """Tau-b: the concordant less the discordant pairs are the quadratic form w' S w / 2."""
    # Whole numbers below 2^24 are exact in float32, and its matrix product is twice as fast.
    weights = s.weights.astype(np.float32)
    n, twice = len(s.x), np.zeros(len(weights))
    step = max(1, SIGNS // n)
    for i in range(0, n, step):
        j = min(n, i + step)
        signs = np.sign(s.x[i:j, None] - s.x[None, i:]) * np.sign(s.y[i:j, None] - s.y[None, i:])
        reached = (weights[:, i:j] @ signs.astype(np.float32)).astype(np.float64)  # [R, n - i]
        # S is symmetric: what lies right of the block on the diagonal counts twice.
        reached[:, j - i :] *= 2
        twice += np.einsum("rn,rn->r", reached, s.weights[:, i:])
    pairs = s.n * (s.n - 1) / 2
    untied = (pairs - s.x_ranks.tied_pairs) * (pairs - s.y_ranks.tied_pairs)
    tau: Floats = twice / 2 / np.sqrt(untied)
    return tau


def _ccc(s: Resamples) -> Floats:
    vx, vy, cov, bias = s.moments
    return 2 * cov / (vx + vy + bias**2)


def _accuracy(s: Resamples) -> Floats:
    same = np.digitize(s.x, s.config.thresholds) == np.digitize(s.y, s.config.thresholds)
    return s.mean(same.astype(np.float64))


def _kappa(s: Resamples) -> Floats:
    x, y = s.whole
    cells = np.eye(SCORES**2)[x * SCORES + y]  # [n, 25]
    table = (s.weights @ cells).reshape(-1, SCORES, SCORES)
    expected = table.sum(2)[:, :, None] * table.sum(1)[:, None, :] / s.n[:, None, None]
    cost = np.subtract.outer(np.arange(SCORES), np.arange(SCORES)) ** 2.0
    kappa: Floats = 1 - (table * cost).sum((1, 2)) / (expected * cost).sum((1, 2))
    return kappa


def _rmse_star(s: Resamples) -> Floats:
    beyond = np.maximum(np.abs(s.error) - np.nan_to_num(s.margin), 0) * s.known
    total: Floats = s.weights @ beyond**2
    return np.sqrt(total / (s.weights @ s.known - 1))


def _outlier_ratio(s: Resamples) -> Floats:
    outside = (np.abs(s.error) > np.nan_to_num(s.margin)) * s.known
    ratio: Floats = s.weights @ outside / (s.weights @ s.known)
    return ratio


Better = Literal["higher", "lower", "zero"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        title: Its usual short name.
        better: Which values are better: higher, lower, or nearer to zero.
        compute: Its value in each resample, [R]; whatever where ``needs`` do not hold.
        needs: What must hold for it to be defined, first things first.
    """

    title: str
    better: Better
    compute: Callable[[Resamples], Floats]
    needs: tuple[Need, ...] = ()


_RELATION = (THREE, LABELS, PREDICTIONS)
_MAPPING = (FIVE, LABELS, PREDICTIONS, MAPPED, RISING)

METRICS: Final[dict[str, Metric]] = {
    "mse": Metric("MSE", "lower", lambda s: s.mean(s.error**2)),
    "rmse": Metric("RMSE", "lower", lambda s: np.sqrt(s.mean(s.error**2))),
    "mae": Metric("MAE", "lower", lambda s: s.mean(np.abs(s.error))),
    "median_ae": Metric("median absolute error", "lower", _median_error),
    "bias": Metric("bias", "zero", lambda s: s.mean(s.error)),
    "r2": Metric("R²", "higher", _r2, (THREE, LABELS)),
    "plcc": Metric("PLCC", "higher", _pearson, _RELATION),
    "srcc": Metric("SRCC", "higher", _spearman, _RELATION),
    "krcc": Metric("KRCC", "higher", _kendall, _RELATION),
    "ccc": Metric("CCC", "higher", _ccc, _RELATION),
    "accuracy": Metric("three-class accuracy", "higher", _accuracy),
    "kappa": Metric(
        "quadratic weighted kappa", "higher", _kappa, (THREE, WHOLE_LABELS, WHOLE_PREDICTIONS)
    ),
    "plcc_mapped": Metric(
        "PLCC after logistic mapping", "higher", lambda s: s.mapped.plcc, _MAPPING
    ),
    "rmse_mapped": Metric(
        "RMSE after logistic mapping", "lower", lambda s: s.mapped.rmse, _MAPPING
    ),
    "rmse_star": Metric("rmse*", "lower", _rmse_star, (SPREAD, SPREAD_TWO)),
    "outlier_ratio": Metric("outlier ratio", "lower", _outlier_ratio, (SPREAD,)),
}


def _compute(metric: Metric, sample: Resamples) -> Floats:
    """Return the metric in each resample, NaN where a need does not hold."""
    defined = np.ones(len(sample.weights), bool)
    for need in metric.needs:
        defined &= need.holds(sample)
        if not defined.any():
            return np.full(len(defined), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(defined, metric.compute(sample), np.nan)


def measure(
    pairs: Pairs, config: EvaluationConfig, names: Iterable[str] = tuple(METRICS)
) -> dict[str, Value]:
    """Compute metrics with their bootstrap intervals.

    Args:
        pairs: Predictions beside labels.
        config: Thresholds and bootstrap; ``rounds`` 0 leaves the intervals out.
        names: Keys of :data:`METRICS`.
    """
    if not len(pairs):
        reason = "no prediction of a labelled video" if pairs.labelled else "no valid label"
        return {name: Value(None, None, None, reason) for name in names}
    once = Resamples(pairs, np.ones((1, len(pairs))), config)
    values: dict[str, Value] = {}
    for name in names:
        value = float(_compute(METRICS[name], once)[0])
        if np.isnan(value):
            reason = next(n.reason for n in METRICS[name].needs if not n.holds(once)[0])
            values[name] = Value(None, None, None, reason)
        else:
            values[name] = Value(value, None, None, None)
    defined = [name for name, value in values.items() if value.value is not None]
    parts: dict[str, list[Floats]] = {name: [np.empty(0)] for name in defined}
    for weights in resample_groups(pairs.groups, config.rounds, config.seed):
        sample = Resamples(pairs, weights, config)
        for name in defined:
            parts[name].append(_compute(METRICS[name], sample))
    groups = int(pairs.groups.max()) + 1
    for name in defined:
        found = percentile_interval(np.concatenate(parts[name]), config.level, groups)
        values[name] = Value(
            values[name].value, found.low, found.high, found.reason, found.undefined
        )
    return values
