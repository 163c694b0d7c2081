"""What the best weights say in the end: scores, and where the embeddings of the clips lie.

Every rank judges its share of the clips once; what calibration needs of their embeddings is added
up on the way, so embeddings (D numbers a clip) are never gathered.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.novelty import EmbeddingFit, EmbeddingSums
from pipelines.training.task import ClipLabels

if TYPE_CHECKING:
    from model.learner import Learner

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """Judgements with the best epoch's weights; the same on every rank.

    Attributes:
        scores: [C, N] scores of every clip.
        silent_scores: [S, N] scores of the validation clips with sound, their sound masked.
        fit: Where the embeddings of the training clips lie; None when they do not vary.
        distances: [v] Mahalanobis distances of the validation clips to it; empty without a fit.
        silent_distances: [S] the same with their sound masked.
    """

    scores: NDArray[np.float32]
    silent_scores: NDArray[np.float32]
    fit: EmbeddingFit | None
    distances: Floats
    silent_distances: Floats


class EmbeddingWatch:
    """Hears the embeddings of one rank's clips while they are judged.

    Args:
        labels: Of the C clips; further ones are validation clips whose sound is masked.
        total: C and the further ones.
        centre: [D] about which sums are taken, the same on all ranks.
        learner: Whose ranks and device are used to add up.
    """

    def __init__(self, labels: ClipLabels, total: int, centre: Floats, learner: "Learner") -> None:
        self._learner = learner
        self._count = len(labels.values)
        self._train = np.zeros(total, np.bool_)
        self._train[labels.of("train")] = True
        # Place of a clip among those whose distance is wanted, -1 for the others.
        wanted = np.concatenate([labels.of("val"), np.arange(self._count, total)])
        self._place = np.full(total, -1)
        self._place[wanted] = np.arange(len(wanted))
        self._wanted, self._silent = len(wanted), total - self._count
        self._sums = EmbeddingSums(centre)
        self._kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []

    def hear(self, clips: NDArray[np.int64], embedding: NDArray[np.float32]) -> None:
        """Take note of the embeddings [n, D] of clips, by number."""
        self._sums.add(embedding[self._train[clips]])
        places = self._place[clips]
        if (places >= 0).any():
            self._kept.append((places[places >= 0], embedding[places >= 0]))

    def verdict(self, scores: NDArray[np.float32]) -> Verdict:
        """Put together what all ranks heard."""
        vector = self._together(self._sums.vector())
        fit = EmbeddingFit.of(EmbeddingSums.of_vector(self._sums.centre, vector))
        distances = np.zeros(self._wanted)
        if fit is not None:
            for places, embedding in self._kept:
                distances[places] = fit.distance(embedding)
            distances = self._together(distances)
        split = self._wanted - self._silent
        return Verdict(
            scores[: self._count],
            scores[self._count :],
            fit,
            distances[:split] if fit is not None else np.empty(0),
            distances[split:] if fit is not None else np.empty(0),
        )

    def _together(self, values: Floats) -> Floats:
        return together(self._learner, values)


def together(learner: "Learner", values: Floats) -> Floats:
    """Add up an array of each rank."""
    import torch

    tensor = torch.from_numpy(values.copy()).to(learner.device)
    learner.ranks.add_up(tensor)
    return np.asarray(tensor.cpu().numpy(), np.float64)
