"""The four-parameter logistic mapping of predictions onto labels (VQEG).

    f(x) = b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))

fitted by least squares from VQEG's start [max y, min y, mean x, 0.5] or a better one (VQEG, "Final
report on the validation of objective models of video quality assessment, phase II", 2003). It is
monotone by its form; nothing else makes it so. b3 and |b4| are kept where they can be told from
data: the curve's middle at most 10 ranges of the predictions outside them, its width between 1/1000
of the range (a step) and 10 ranges (a straight line to 1 part in 4000). Without limits a straight
relation has no best fit, only ever larger parameters.

A mapping with b1 < b2 falls: it would turn predictions that run against the labels into good ones,
so it is found and reported, never used.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PARAMETERS = 4
_START_WIDTH = 0.5  # on the scale of scores
_WIDTHS = (1e-3, 10.0)  # limits of |b4| in ranges of the predictions
_AWAY = 10.0  # how far outside of the predictions b3 may lie, in ranges of them
_OUTSIDE = np.array([0.2, 1.0, 4.0])  # of the grid of starts, in ranges
_GRID_WIDTHS = np.array([0.004, 0.015, 0.05, 0.1, 0.2, 0.4, 1.0, 3.0])
_ROUNDS = 200
_DAMPING, _MIN_DAMPING, _MAX_DAMPING = 1e-3, 1e-9, 1e10  # of Levenberg-Marquardt
_TOLERANCE = 1e-9  # relative fall of the squared error that ends a fit
_STILL = 1e-10  # a step that ends a fit
_FLAT = 1e-9  # variance of a curve over its mean square that counts as none
_TINY = 1e-100
_EXACT = 1e-12  # share of the variance left over that counts as none


@dataclass(frozen=True, slots=True)
class Logistic:
    """Parameters of the mapping; b4 > 0.

    Attributes:
        b1: Value far to the right.
        b2: Value far to the left.
        b3: Where it is halfway, on the scale of the predictions.
        b4: Width, on the same scale.
    """

    b1: float
    b2: float
    b3: float
    b4: float

    def __call__(self, x: Floats) -> Floats:
        """Map predictions of any shape."""
        from scipy.special import expit

        mapped: Floats = self.b2 + (self.b1 - self.b2) * expit((x - self.b3) / self.b4)
        return mapped

    @property
    def rising(self) -> bool:
        """Higher predictions are mapped to higher scores."""
        return self.b1 > self.b2


def fit_logistic(x: Floats, y: Floats) -> Logistic | None:
    """Fit the mapping by least squares.

    Args:
        x: [n] predictions, not all equal, n >= 5.
        y: [n] labels.

    Returns:
        The mapping, rising or falling; None when the search did not end.
    """
    at, best, converged = _search(x, y, np.ones((1, len(x))))
    if not converged[0]:
        return None
    b3, b4, slope = float(at[0, 0]), float(np.exp(at[0, 1])), float(best.slope[0])
    b2 = float(y.mean() - slope * best.mean[0])
    return Logistic(b2 + slope, b2, b3, b4)


def _limits(x: Floats) -> tuple[Floats, Floats]:
    """Limits of (b3, log b4)."""
    first, last = float(x.min()), float(x.max())
    span = last - first
    narrow, wide = (float(np.log(width * span)) for width in _WIDTHS)
    away = _AWAY * span
    return np.array([first - away, narrow]), np.array([last + away, wide])


def _starts(x: Floats) -> Floats:
    """Starts (b3, log b4), [K, 2]: VQEG's, and a grid around the predictions."""
    low, high = _limits(x)
    span = float(np.ptp(x))
    middles = np.concatenate(
        [
            np.quantile(x, np.linspace(0.05, 0.95, 13)),
            x.min() - span * _OUTSIDE,
            x.max() + span * _OUTSIDE,
        ]
    )
    widths = np.log(span * _GRID_WIDTHS)
    grid = np.stack(np.meshgrid(middles, widths), axis=-1).reshape(-1, 2)
    starts = np.concatenate([[[x.mean(), np.log(_START_WIDTH)]], grid])
    limited: Floats = np.clip(starts, low, high)
    return limited


def _best_starts(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return for each of R resamples the start that leaves the least error, [R, 2]."""
    from scipy.special import expit

    starts = _starts(x)
    # The curves of the starts are the same in all resamples: their moments are one product.
    curves = expit((x[:, None] - starts[:, 0]) / np.exp(starts[:, 1]))  # [n, K]
    n = weights.sum(1)[:, None]
    mean, square, product = np.split(
        weights @ np.concatenate([curves, curves**2, curves * y[:, None]], axis=1) / n, 3, axis=1
    )
    variance = square - mean**2
    covariance = product - mean * (weights @ y / n[:, 0])[:, None]
    flat = variance <= _FLAT * square + _FLAT**3
    explained = np.where(flat, 0.0, covariance**2 / np.where(flat, 1.0, variance))  # [R, K]
    best: Floats = starts[explained.argmax(1)]
    return best


@dataclass(frozen=True, slots=True)
class MappedFits:
    """What the mapping, fitted to each of R resamples, gives.

    Attributes:
        plcc: [R] Pearson correlation of mapped predictions and labels, negative where the best
            mapping falls.
        rmse: [R] root mean squared error after the mapping.
        converged: [R] bool, the fit ended.
    """

    plcc: Floats
    rmse: Floats
    converged: NDArray[np.bool_]


def fit_resamples(x: Floats, y: Floats, weights: Floats) -> MappedFits:
    """Fit the mapping to many resamples at once.

    Args:
        x: [n] predictions.
        y: [n] labels.
        weights: [R, n] how often a pair was drawn; both its predictions and its labels vary.
    """
    _, best, converged = _search(x, y, weights)
    r = np.sqrt(np.clip(1 - best.cost / best.total, 0, 1))
    return MappedFits(np.where(best.slope > 0, r, -r), np.sqrt(best.cost), converged)


def _search(
    x: Floats, y: Floats, weights: Floats
) -> tuple[Floats, "_Projected", NDArray[np.bool_]]:
    """Find (b3, log b4) [R, 2] of R resamples side by side.

    b1 and b2 enter linearly, so for given b3 and b4 they follow from a regression; b3 and log b4
    are found by Levenberg-Marquardt on what the regression leaves (variable projection: Golub and
    Pereyra 1973, with Kaufman's 1975 Jacobian), from the best of several starts: the error has
    more than one valley, and from one start it is chance in which of them a resample ends.
    """
    low, high = _limits(x)
    y = y - y.mean()  # so that variances do not come from differences of large numbers
    at = _best_starts(x, y, weights)
    damping = np.full(len(at), _DAMPING)
    converged = np.zeros(len(at), bool)
    best = _project(x, y, weights, at)
    for _ in range(_ROUNDS):
        rows = np.flatnonzero(~converged)
        if not len(rows):
            break
        here, old = at[rows], best.take(rows)
        trial = np.clip(here + old.step(damping[rows], here <= low, here >= high), low, high)
        new = _project(x, y, weights[rows], trial)
        better = new.cost <= old.cost
        gain = np.where(better, old.cost - new.cost, np.inf)
        small = gain <= _TOLERANCE * old.cost
        exact = better & (new.cost <= _EXACT * new.total)
        stuck = (np.abs(trial - here).max(1) <= _STILL) | (damping[rows] > _MAX_DAMPING)
        at[rows[better]] = trial[better]
        best.put(rows[better], new.take(better))
        damping[rows] = np.maximum(damping[rows] * np.where(better, 0.1, 10), _MIN_DAMPING)
        converged[rows] = small | exact | stuck
    return at, best, converged


@dataclass(slots=True)
class _Projected:
    """The regression of y on the logistic at (b3, log b4), and its Gauss-Newton system.

    All [R]; g (against the gradient) and h make the step of (b3, log b4), after the regression.
    """

    cost: Floats  # mean squared residual
    total: Floats  # variance of y
    slope: Floats  # b1 - b2
    mean: Floats  # of the logistic
    g3: Floats
    g4: Floats
    h33: Floats
    h34: Floats
    h44: Floats

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "_Projected":
        return _Projected(*(getattr(self, name)[rows] for name in self.__slots__))

    def put(self, rows: NDArray[np.int64], other: "_Projected") -> None:
        for name in self.__slots__:
            getattr(self, name)[rows] = getattr(other, name)

    def step(
        self, damping: Floats, lowest: NDArray[np.bool_], highest: NDArray[np.bool_]
    ) -> Floats:
        """Return the damped step [R, 2].

        A parameter at its limit (``lowest``, ``highest``: [R, 2]) that would go beyond it stays,
        and the other one moves alone.
        """
        g = np.stack([self.g3, self.g4], axis=1)
        free = ~((lowest & (g < 0)) | (highest & (g > 0)))
        g = np.where(free, g, 0.0)
        h34 = np.where(free.all(1), self.h34, 0.0)
        # A parameter without influence has neither gradient nor curvature, and stays.
        a = np.maximum(self.h33 * (1 + damping), _TINY)
        b = np.maximum(self.h44 * (1 + damping), _TINY)
        det = np.maximum(a * b - h34**2, 1e-12 * a * b)
        d3 = (b * g[:, 0] - h34 * g[:, 1]) / det
        d4 = (a * g[:, 1] - h34 * g[:, 0]) / det
        # Beyond a factor of e^2 the curve is another one and its slopes here say nothing of it.
        return np.stack([d3, np.clip(d4, -2, 2)], axis=1)


def _project(x: Floats, y: Floats, weights: Floats, at: Floats) -> _Projected:
    from scipy.special import expit

    width = np.exp(at[:, 1])
    u = (x - at[:, :1]) / width[:, None]  # [R, n]
    s = expit(u)
    d = s * (1 - s)  # -width * ds/db3
    e = d * u  # -ds/dlog b4
    n = weights.sum(1)
    ws, wd, we = weights * s, weights * d, weights * e

    def dot(a: Floats, b: Floats) -> Floats:
        mean: Floats = np.einsum("rn,rn->r", a, b) / n
        return mean

    ms, md, me, my = ws.sum(1) / n, wd.sum(1) / n, we.sum(1) / n, weights @ y / n
    total = weights @ (y * y) / n - my**2
    ss, sd, se = dot(ws, s) - ms**2, dot(ws, d) - ms * md, dot(ws, e) - ms * me
    dd, de, ee = dot(wd, d) - md**2, dot(wd, e) - md * me, dot(we, e) - me**2
    sy, dy, ey = ws @ y / n - ms * my, wd @ y / n - md * my, we @ y / n - me * my
    # All pairs on one end of the curve: it is flat there, and what is left of it is rounding.
    flat = ss <= _FLAT * (ss + ms**2) + _FLAT**3
    ss = np.where(flat, 1.0, ss)
    slope = np.where(flat, 0.0, sy / ss)
    # What remains after regressing on (1, s).
    dd, de, ee = dd - sd * sd / ss, de - sd * se / ss, ee - se * se / ss
    dy, ey = dy - sd * slope, ey - se * slope
    c3, c4 = -slope / width, -slope
    return _Projected(
        cost=np.maximum(total - slope * sy, 0.0),
        total=total,
        slope=slope,
        mean=ms,
        g3=c3 * dy,
        g4=c4 * ey,
        h33=c3 * c3 * dd,
        h34=c3 * c4 * de,
        h44=c4 * c4 * ee,
    )
