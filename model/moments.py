"""Count, mean and second moments of streamed rows, merged exactly (float64).

Blocks are centred on their own mean before they are multiplied and joined by the pairwise update
of Chan, Golub and LeVeque (1979), so that a small variance beside a large mean or beside a feature
of another scale is not lost. Memory depends on the width only.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

BLOCK_ROWS: Final = 2048


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
        # Full: the lower triangle counts. Fortran order, so that BLAS updates it in place.
        self._m2 = np.zeros((width, width) if full else width, order="F")
        self._block: F64 | None = None  # [BLOCK_ROWS + 1, D]: one row to spare for the update
        self._filled = 0

    def __getstate__(self) -> dict[str, Any]:
        self._flush()
        return {**self.__dict__, "_block": None}

    def add(self, rows: NDArray[np.floating[Any]]) -> None:
        """Take in rows [n, D], all values finite.

        Raises:
            ValueError: The width differs.
        """
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(f"expected rows of width {self.width}, got shape {rows.shape}")
        if self._block is None:
            self._block = np.empty((BLOCK_ROWS + 1, self.width))
        at = 0
        while at < len(rows):
            take = min(len(rows) - at, BLOCK_ROWS - self._filled)
            self._block[self._filled : self._filled + take] = rows[at : at + take]
            self._filled += take
            at += take
            if self._filled == BLOCK_ROWS:
                self._flush()

    def _flush(self) -> None:
        """Join the rows of the block to the rest."""
        if not self._filled:
            return
        assert self._block is not None
        n, self._filled = self._filled, 0
        rows = self._block[:n]
        # Relative to its first row a constant dimension is exactly 0, and so is its variance.
        origin = rows[0].copy()
        rows -= origin
        mean = rows.mean(axis=0)
        rows -= mean
        mean += origin
        total = self._count + n
        step = mean - self._mean if self._count else np.zeros(self.width)
        # The pairwise update is one more row of the product.
        self._block[n] = step * np.sqrt(self._count * n / total)
        joined = self._block[: n + 1]
        if self.full:
            from scipy.linalg.blas import dsyrk

            self._m2 = dsyrk(1.0, joined.T, beta=1.0, c=self._m2, lower=1, overwrite_c=1)
        else:
            self._m2 += np.einsum("nd,nd->d", joined, joined)
        self._mean = mean if not self._count else self._mean + step * (n / total)
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
        if not self._count:
            self._count, self._mean = other._count, other._mean.copy()
            self._m2 = other._m2.copy(order="F")
            return
        total = self._count + other._count
        step = other._mean - self._mean
        weight = self._count * other._count / total
        self._m2 += other._m2
        if self.full:
            self._m2 += np.outer(step * weight, step)
        else:
            self._m2 += weight * step**2
        self._mean = self._mean + step * (other._count / total)
        self._count = total

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
        diagonal = np.diagonal(self._m2) if self.full else self._m2
        result: F64 = diagonal / max(self._count, 1)
        return result

    def scatter(self) -> F64:
        """Sum of centred products [D, D], symmetric.

        Raises:
            ValueError: Only variances were kept.
        """
        if not self.full:
            raise ValueError("only variances were kept")
        self._flush()
        lower = np.tril(self._m2)
        result: F64 = lower + np.tril(lower, -1).T
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
