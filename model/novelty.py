"""How far a clip is from those of training: Mahalanobis distance of the fused embedding.

The covariance is shrunk towards a multiple of the identity by the rule of Ledoit and Wolf, "A
well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Analysis 88
(2004), so it can be inverted with fewer clips than dimensions. Everything the rule needs is a sum
over clips, added up once and merged between processes. The use of the distance: Lee et al., "A
Simple Unified Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018 (here without
classes).

Legend: B, C clips, D width of the embedding.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.conformal import conformal_rank

Floats = NDArray[np.float64]

# Deviations below this part of the size of the values are rounding errors, no directions.
_RESOLUTION: Final = 1e-6
# Least part of the identity in the covariance. The embeddings of a clip in bfloat16 and in float32
# differ by some thousandths: along directions in which training hardly varies, that is not novelty.
MIN_SHRINKAGE: Final = 1e-4
LEAST_CLIPS: Final = 20  # of validation: with fewer, more than one in 20 would be called novel


class EmbeddingSums:
    """Sums over embeddings, about a fixed centre so that little cancels.

    Args:
        centre: [D] somewhere among the embeddings, the same for all that are merged.
    """

    def __init__(self, centre: NDArray[np.floating]) -> None:
        self.centre = np.array(centre, np.float64)
        width = len(self.centre)
        self._shapes = ((), (width,), (width, width), (width,), ())
        # With y an embedding without the centre and q = |y|^2, the sums of:
        # 1, y, y y', q y, q^2
        self._sums = [np.zeros(shape) for shape in self._shapes]

    @property
    def count(self) -> int:
        """Embeddings added."""
        return round(float(self._sums[0]))

    def add(self, embedding: NDArray[np.floating]) -> None:
        """Add embeddings [B, D]; those with values that are not finite are left out."""
        y = np.asarray(embedding, np.float64) - self.centre
        y = y[np.isfinite(y).all(axis=1)]
        q = (y * y).sum(axis=1)
        parts = (float(len(y)), y.sum(axis=0), y.T @ y, q @ y, (q * q).sum())
        for total, part in zip(self._sums, parts, strict=True):
            np.add(total, part, out=total)

    def vector(self) -> Floats:
        """Return all sums as one vector, which may be added to those of others."""
        return np.concatenate([total.reshape(-1) for total in self._sums])

    @classmethod
    def of_vector(cls, centre: NDArray[np.floating], vector: Floats) -> "EmbeddingSums":
        """Put together what :meth:`vector` took apart."""
        result = cls(centre)
        ends = np.cumsum([total.size for total in result._sums])
        parts = np.split(vector, ends[:-1])
        result._sums = [p.reshape(s).copy() for p, s in zip(parts, result._shapes, strict=True)]
        return result

    def covariance(self) -> tuple[Floats, Floats, float]:
        """Return mean [D], covariance [D, D] (divisor n), and Ledoit and Wolf's shrinkage.

        The shrinkage lies in [0, 1]: 1 is a multiple of the identity.

        Raises:
            ValueError: There is no embedding.
        """
        if not self.count:
            raise ValueError("there are no embeddings")
        count, first, second, third, fourth = self._sums
        n = float(count)
        mean = first / n
        size = float(mean @ mean)
        covariance = second / n - np.outer(mean, mean)
        covariance = (covariance + covariance.T) / 2
        # Sum of |y - mean|^4, from the sums about the centre.
        powers = float(
            fourth
            + 4 * mean @ second @ mean
            + 2 * size * np.trace(second)
            - 4 * mean @ third
            - 3 * n * size**2
        )
        width = len(mean)
        square = float((covariance**2).sum())
        scale = float(np.trace(covariance)) / width
        distance = (square - width * scale**2) / width
        error = min(max((powers / n - square) / (width * n), 0.0), distance)
        return self.centre + mean, covariance, error / distance if error > 0 else 0.0


@dataclass(frozen=True, slots=True)
class EmbeddingFit:
    """Where the embeddings of training lie.

    Attributes:
        mean: [D].
        whitening: [D, D] lower triangular; its product with a deviation from the mean has the
            Mahalanobis distance as its length.
        clips: Clips that it was fitted on.
        shrinkage: Part of the identity in the covariance.
    """

    mean: Floats
    whitening: Floats
    clips: int
    shrinkage: float

    @classmethod
    def of(cls, sums: EmbeddingSums) -> "EmbeddingFit | None":
        """Fit the sums of the training clips; None when they do not vary or are fewer than two."""
        if sums.count < 2:
            return None
        mean, covariance, shrinkage = sums.covariance()
        width = len(mean)
        scale = float(np.trace(covariance)) / width
        if not np.isfinite(scale) or scale <= _RESOLUTION**2 * float(mean @ mean) / width:
            return None
        shrinkage = max(shrinkage, MIN_SHRINKAGE)
        shrunk = (1 - shrinkage) * covariance + shrinkage * scale * np.eye(width)
        whitening = np.tril(np.linalg.inv(np.linalg.cholesky(shrunk)))
        return cls(mean, whitening, sums.count, shrinkage)

    def distance(self, embedding: NDArray[np.floating]) -> Floats:
        """Return the Mahalanobis distances [C] of embeddings [C, D]; NaN where one is not finite.

        Raises:
            ValueError: The embeddings have another width.
        """
        x = np.asarray(embedding, np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"embeddings of shape {x.shape}, but fitted on (C, {len(self.mean)})")
        finite = np.isfinite(x).all(axis=1)
        result = np.full(len(x), np.nan)
        white = (x[finite] - self.mean) @ self.whitening.T
        result[finite] = np.sqrt((white * white).sum(axis=1))
        return result


@dataclass(frozen=True, slots=True)
class Novelty:
    """A fit and the distances beyond which a clip counts as novel.

    Attributes:
        fit: Where the embeddings of training lie.
        threshold: Distance of clips with sound.
        silent_threshold: Distance of clips without sound; not below ``threshold``.
        quantile: Share of exchangeable clips that should lie below.
        calibrated_on: Validation clips that the thresholds come from. With fewer than the quantile
            asks for, they are the largest distance, and of exchangeable clips up to
            1 / (calibrated_on + 1) lies above.
    """

    fit: EmbeddingFit
    threshold: float
    silent_threshold: float
    quantile: float
    calibrated_on: int

    @classmethod
    def of(
        cls, fit: EmbeddingFit | None, distances: Floats, silent: Floats, quantile: float
    ) -> "Novelty | str":
        """Choose the thresholds.

        Args:
            fit: Of the training clips.
            distances: [C] of the validation clips.
            silent: [S] of the validation clips without their sound.
            quantile: Share of exchangeable clips that should lie below the threshold.

        Returns:
            The result, or the reason why there is none.
        """
        if fit is None:
            return "the embeddings of the training clips do not vary"
        known = np.sort(distances[np.isfinite(distances)])
        if len(known) < LEAST_CLIPS:
            return f"{len(known)} validation clips are fewer than {LEAST_CLIPS}"
        threshold = _threshold(known, quantile)
        if threshold <= 0:
            return "the embeddings of the validation clips do not vary"
        quiet = np.sort(silent[np.isfinite(silent)])
        above = _threshold(quiet, quantile) if len(quiet) >= LEAST_CLIPS else threshold
        return cls(fit, threshold, max(above, threshold), quantile, len(known))

    @property
    def expected_share(self) -> float:
        """Largest share of exchangeable clips with sound that lies above the threshold."""
        rank = min(conformal_rank(self.calibrated_on, self.quantile), self.calibrated_on)
        return 1 - rank / (self.calibrated_on + 1)

    def distance(
        self, embedding: NDArray[np.floating], silent: NDArray[np.bool_] | None = None
    ) -> Floats:
        """Return the distances [C] of embeddings [C, D] in units of the threshold.

        Args:
            embedding: Fused embeddings.
            silent: [C] the clip has no sound; default: all have.

        Raises:
            ValueError: The embeddings have another width.
        """
        found = self.fit.distance(embedding)
        if silent is None:
            return found / self.threshold
        return found / np.where(silent, self.silent_threshold, self.threshold)


def _threshold(ascending: Floats, quantile: float) -> float:
    rank = min(conformal_rank(len(ascending), quantile), len(ascending))
    return float(ascending[rank - 1])
