"""Pairs of prediction and label, and their weighted statistics in many resamples at once.

Legend: n pairs of a prediction x and a label y, R resamples.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.bootstrap import Floats
from model.logistic_map import PARAMETERS, MappedFits, fit_resamples
from model.metrics_config import EvaluationConfig
from model.tasks import HIGH, LOW

Bools = NDArray[np.bool_]

# Averaged float32 scores of a model that always says the same differ in their last digits; a
# correlation with such rounding errors means nothing. Relative to the size of the values.
CONSTANT = 1e-6
RATER_COVERAGE = 0.95  # of the labels' own confidence intervals (ITU-T P.1401)
SCORES: Final = round(HIGH - LOW) + 1  # whole scores


@dataclass(frozen=True, slots=True)
class Pairs:
    """Predictions beside labels, only where both exist. Make it with :meth:`of`.

    Attributes:
        x: [n] predictions.
        y: [n] labels.
        margin: [n] half width of the label's own 95 % confidence interval; NaN where unknown.
        groups: [n] numbers of the groups from 0 without gaps.
        labelled: Labels there were, with or without a prediction.
    """

    x: Floats
    y: Floats
    margin: Floats
    groups: NDArray[np.int64]
    labelled: int

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(
        cls,
        predictions: Floats,
        labels: Floats,
        groups: NDArray[np.int64] | None = None,
        std: Floats | None = None,
        raters: Floats | None = None,
    ) -> "Pairs":
        """Pair m predictions with m labels; NaN is missing in each argument.

        Args:
            predictions: [m].
            labels: [m].
            groups: [m] what is resampled together; default: each pair alone.
            std: [m] standard deviation of the raters' scores (divisor raters - 1).
            raters: [m] number of raters; at least 2 where the spread is to count.

        Raises:
            ValueError: An infinite prediction or label.
        """
        x = np.asarray(predictions, np.float64)
        y = np.asarray(labels, np.float64)
        if np.isinf(x).any() or np.isinf(y).any():
            raise ValueError("a prediction or label is infinite; missing ones are NaN")
        keep = ~(np.isnan(x) | np.isnan(y))
        names = np.arange(len(x)) if groups is None else np.asarray(groups)
        margin = rater_margin(std, raters) if std is not None and raters is not None else None
        return cls(
            x[keep],
            y[keep],
            np.full(int(keep.sum()), np.nan) if margin is None else margin[keep],
            np.unique(names[keep], return_inverse=True)[1].astype(np.int64),
            int((~np.isnan(y)).sum()),
        )


def rater_margin(std: Floats, raters: Floats) -> Floats:
    """Half width of the confidence interval of mean opinion scores (ITU-T P.1401, 7.4).

    t(0.975, M - 1) * s / sqrt(M) of M raters; NaN where s is missing or M < 2.
    """
    from scipy.special import stdtrit

    s, M = np.asarray(std, np.float64), np.asarray(raters, np.float64)
    known = np.isfinite(s) & (s >= 0) & np.isfinite(M) & (M >= 2)
    M = np.where(known, M, 2)
    t = stdtrit(M - 1, (1 + RATER_COVERAGE) / 2)
    margin: Floats = np.where(known, t * s / np.sqrt(M), np.nan)
    return margin


def varies(values: Floats, drawn: Bools) -> Bools:
    """Say in which resamples [R] the drawn ones [R, n] of [n] values differ beyond rounding."""
    high = np.where(drawn, values, -np.inf).max(1, initial=-np.inf)
    low = np.where(drawn, values, np.inf).min(1, initial=np.inf)
    differ: Bools = (high - low) > CONSTANT * float(np.abs(values).max(initial=0.0))
    return differ


class _Ranks:
    """Ties and mid-ranks of one variable in each resample."""

    def __init__(self, values: Floats, weights: Floats) -> None:
        order = np.argsort(values, kind="stable")
        changed = np.flatnonzero(np.diff(values[order])) + 1
        starts = np.concatenate([[0], changed])
        place = np.empty(len(values), np.int64)
        place[order] = np.repeat(
            np.arange(len(starts)), np.diff(np.concatenate([starts, [len(values)]]))
        )
        self.counts = np.add.reduceat(weights[:, order], starts, axis=1)  # [R, distinct values]
        ranks = np.cumsum(self.counts, axis=1) - (self.counts - 1) / 2
        ranks -= (weights.sum(1, keepdims=True) + 1) / 2
        self.square = (self.counts * ranks**2).sum(1)
        self.ranks = ranks[:, place]  # [R, n] less their mean

    @property
    def tied_pairs(self) -> Floats:
        tied: Floats = (self.counts * (self.counts - 1) / 2).sum(1)
        return tied


class Resamples:
    """Weighted statistics of R resamples of the same pairs."""

    def __init__(self, pairs: Pairs, weights: Floats, config: EvaluationConfig) -> None:
        self.x, self.y, self.margin = pairs.x, pairs.y, pairs.margin
        self.error = pairs.x - pairs.y
        self.weights = weights  # [R, n] whole numbers
        self.drawn = weights > 0
        self.n = weights.sum(1)
        self.distinct = self.drawn.sum(1)
        self.config = config

    def mean(self, values: Floats) -> Floats:
        """Mean of [n] values in each resample, [R]."""
        mean: Floats = self.weights @ values / self.n
        return mean

    @cached_property
    def moments(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Variances of x and y, their covariance, and the difference of their means."""
        # Centred first, so that nothing is lost in differences of large numbers.
        x, y = self.x - self.x.mean(), self.y - self.y.mean()
        mx, my = self.mean(x), self.mean(y)
        bias = mx - my + self.x.mean() - self.y.mean()
        return (
            self.mean(x * x) - mx**2,
            self.mean(y * y) - my**2,
            self.mean(x * y) - mx * my,
            bias,
        )

    @cached_property
    def x_varies(self) -> Bools:
        """The drawn predictions are not all the same, [R]."""
        return varies(self.x, self.drawn)

    @cached_property
    def y_varies(self) -> Bools:
        """The drawn labels are not all the same, [R]."""
        return varies(self.y, self.drawn)

    @cached_property
    def x_ranks(self) -> _Ranks:
        """Ranks of the predictions."""
        return _Ranks(self.x, self.weights)

    @cached_property
    def y_ranks(self) -> _Ranks:
        """Ranks of the labels."""
        return _Ranks(self.y, self.weights)

    @cached_property
    def whole(self) -> NDArray[np.int64]:
        """Predictions and labels rounded half up to whole scores, from 0, [2, n]."""
        rounded = np.clip(np.floor(np.stack([self.x, self.y]) + 0.5), LOW, HIGH) - LOW
        return rounded.astype(np.int64)

    @cached_property
    def known(self) -> Floats:
        """Pairs whose rater spread is known, [n] 0 or 1."""
        return (~np.isnan(self.margin)).astype(np.float64)

    @cached_property
    def mapped(self) -> MappedFits:
        """The logistic mapping fitted in each resample; only where both variables vary."""
        R = len(self.weights)
        fits = MappedFits(np.full(R, np.nan), np.full(R, np.nan), np.zeros(R, bool))
        rows = np.flatnonzero(self.x_varies & self.y_varies & (self.distinct > PARAMETERS))
        if len(rows):
            found = fit_resamples(self.x, self.y, self.weights[rows])
            fits.plcc[rows], fits.rmse[rows] = found.plcc, found.rmse
            fits.converged[rows] = found.converged
        return fits
