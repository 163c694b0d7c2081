"""Principal components of standardised features, from their moments."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.moments import Moments

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Components:
    """A principal subspace.

    Attributes:
        axes: [K, D] orthonormal rows, by falling variance; the loading of largest magnitude of
            each is positive.
        variance: [K] variance along each (divisor n - 1).
        total: Variance of all D dimensions together.
    """

    axes: F64
    variance: F64
    total: float

    @property
    def ratio(self) -> F64:
        """Share of the variance that each component explains [K]; zeros without variance."""
        result: F64 = self.variance / self.total if self.total else np.zeros_like(self.variance)
        return result


def scales(variance: F64) -> F64:
    """Return what a z-score divides by [D]: the standard deviation, 1 where there is none."""
    result: F64 = np.where(variance > 0, np.sqrt(variance), 1.0)
    return result


def principal_components(moments: Moments, count: int) -> Components:
    """Return the first ``count`` components of the z-scores of the rows behind ``moments``.

    The standard deviations are those of the population, the variances of the components have the
    divisor n - 1, as with scikit-learn's StandardScaler and PCA.

    Raises:
        ValueError: There are fewer rows or dimensions than components.
    """
    if count > min(moments.count, moments.width):
        raise ValueError(
            f"{count} principal components need at least as many rows and dimensions: there are "
            f"{moments.count} rows of {moments.width} dimensions"
        )
    from scipy.linalg import eigh

    scale = scales(moments.variance)
    covariance = moments.scatter()
    covariance /= scale
    covariance /= scale[:, None]
    covariance /= max(moments.count - 1, 1)
    total = float(np.trace(covariance))
    last = moments.width - 1
    values, vectors = eigh(
        covariance, subset_by_index=[last - count + 1, last], overwrite_a=True, check_finite=False
    )
    axes = vectors[:, ::-1].T
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.where(axes[np.arange(count), largest] < 0, -1.0, 1.0)[:, None]
    return Components(np.ascontiguousarray(axes), np.maximum(values[::-1], 0.0), total)
