"""Count, mean and second moments of streamed rows, merged exactly.

Blocks are centred on their own mean before they are multiplied and joined by the pairwise update
of Chan, Golub and LeVeque (1979), so that a small variance beside a large mean or beside a feature
of another scale is not lost. Everything is float64: with products in float32 the axes of features
whose spectrum decays steeply, such as landmarks, are off by 1e-2. Memory depends on the width only.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

BLOCK_ROWS: Final = 2048
PIECE_VALUES: Final = 2**18  # worked on at a time: stays in the cache


class Moments:
    """Moments of rows [n, D].

    Attributes:
        width: D.
        full: Whether products of different dimensions are kept; variances alone otherwise.
    """

    def __init__(self, width: int, *, full: bool = True) -> None:
        self.width = width
        self.full = full
        self._count = 0
        self._mean = np.zeros(width)
        self._squares = np.zeros(width)  # sums of squared deviations
        # Products of deviations, of which the lower triangle off the diagonal counts. Fortran
        # order, as BLAS has it.
        self._products = np.zeros((width, width) if full else (0, 0), order="F")
        # Rows that were not joined yet, relative to the first of them, and their sums.
        self._block = np.empty((0, width))
        self._filled = 0
        self._origin = np.zeros(width)
        self._sums = np.zeros((2, width))  # of values, of squares

    def __getstate__(self) -> dict[str, Any]:
        self._flush()
        return {**self.__dict__, "_block": np.empty((0, self.width))}

    def add(self, rows: NDArray[np.floating[Any]]) -> None:
        """Take in rows [n, D], all values finite.

        Raises:
            ValueError: The width differs.
        """
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(f"expected rows of width {self.width}, got shape {rows.shape}")
        if not len(self._block):
            self._block = np.empty((BLOCK_ROWS, self.width))
        piece = max(1, PIECE_VALUES // self.width)
        at = 0
        while at < len(rows):
            take = min(len(rows) - at, BLOCK_ROWS - self._filled, piece)
            self._fill(rows[at : at + take])
            at += take
            if self._filled == BLOCK_ROWS:
                self._flush()

    def _fill(self, rows: NDArray[np.floating[Any]]) -> None:
        if not self._filled:
            # Relative to a row a constant dimension is exactly 0, and so is its variance. As the
            # row is one of those summed up, taking off the mean later costs at most a factor
            # BLOCK_ROWS of the precision of float64.
            self._origin = rows[0].astype(np.float64)
            self._sums[:] = 0.0
        place = self._block[self._filled : self._filled + len(rows)]
        np.subtract(rows, self._origin, out=place)
        self._sums[0] += place.sum(axis=0)
        self._sums[1] += np.einsum("nd,nd->d", place, place)
        self._filled += len(rows)

    def _flush(self) -> None:
        """Join the rows of the block to the rest."""
        if not self._filled:
            return
        n, self._filled = self._filled, 0
        mean = self._sums[0] / n
        squares = np.maximum(self._sums[1] - n * mean**2, 0.0)
        if self.full:
            self._multiply(self._block[:n], mean)
        self._join(n, self._origin + mean, squares)

    def _multiply(self, rows: F64, mean: F64) -> None:
        """Add the products of rows around their mean; ``rows`` are changed."""
        from scipy.linalg.blas import dsyrk

        piece = max(1, PIECE_VALUES // self.width)
        for start in range(0, len(rows), piece):
            rows[start : start + piece] -= mean
        self._products = dsyrk(1.0, rows.T, beta=1.0, c=self._products, lower=1, overwrite_c=1)

    def _join(self, count: int, mean: F64, squares: F64) -> None:
        """Pairwise update by ``count`` rows whose products were already added."""
        total = self._count + count
        step = mean - self._mean if self._count else np.zeros(self.width)
        weight = self._count * count / total
        self._squares = self._squares + squares + weight * step**2
        if self.full and step.any():
            from scipy.linalg.blas import dsyr

            self._products = dsyr(weight, step, lower=1, a=self._products, overwrite_a=1)
        self._mean = self._mean + step * (count / total) if self._count else mean
        self._count = total

    def merge(self, other: "Moments") -> None:
        """Take in all rows of ``other``, which keeps its own.

        Raises:
            ValueError: Width or kind differs.
        """
        if (self.width, self.full) != (other.width, other.full):
            raise ValueError("moments of different widths or kinds cannot be merged")
        self._flush()
        other._flush()
        if not other._count:
            return
        if self.full:
            self._products += other._products
        self._join(other._count, other._mean, other._squares)

    @property
    def count(self) -> int:
        """Rows taken in."""
        return self._count + self._filled

    @property
    def mean(self) -> F64:
        """Mean [D]; zeros without rows."""
        self._flush()
        return self._mean

    @property
    def variance(self) -> F64:
        """Population variance (divisor n) [D]; exactly 0 for a constant dimension."""
        self._flush()
        result: F64 = self._squares / max(self._count, 1)
        return result

    def scatter(self) -> F64:
        """Sum of centred products [D, D], symmetric.

        Raises:
            ValueError: Only variances were kept.
        """
        if not self.full:
            raise ValueError("only variances were kept")
        self._flush()
        lower = np.tril(self._products, -1)
        result: F64 = lower + lower.T
        np.fill_diagonal(result, self._squares)
        return result


class ColumnMoments:
    """Mean and variance of each column over its finite values: columns may lack different rows."""

    def __init__(self, width: int) -> None:
        self.count = np.zeros(width, np.int64)
        self.mean = np.zeros(width)
        self._m2 = np.zeros(width)

    def add(self, rows: NDArray[np.floating[Any]]) -> None:
        """Take in rows [n, D]; NaN and infinite values are left out."""
        values = rows.astype(np.float64)
        finite = np.isfinite(values)
        count = finite.sum(axis=0)
        # Relative to a value of the column, so that a constant one has exactly no variance.
        first = values[finite.argmax(axis=0), np.arange(values.shape[1])] if len(rows) else 0.0
        origin = np.where(count > 0, first, 0.0)
        values = np.where(finite, values - origin, 0.0)
        shift = values.sum(axis=0) / np.maximum(count, 1)
        m2 = np.where(finite, values - shift, 0.0)
        self._join(count, origin + shift, (m2**2).sum(axis=0))

    def merge(self, other: "ColumnMoments") -> None:
        """Take in all values of ``other``."""
        self._join(other.count, other.mean, other._m2)

    def _join(self, count: NDArray[np.int64], mean: F64, m2: F64) -> None:
        total = np.maximum(self.count + count, 1)
        step = np.where(self.count > 0, mean - self.mean, 0.0)
        self._m2 = self._m2 + m2 + step**2 * (self.count * (count / total))
        self.mean = np.where(self.count > 0, self.mean + step * (count / total), mean)
        self.count = self.count + count

    @property
    def variance(self) -> F64:
        """Population variance [D]; 0 without values."""
        result: F64 = self._m2 / np.maximum(self.count, 1)
        return result
