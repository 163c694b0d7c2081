"""What every rank of a training run is told: settings, labels, and where clips come from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.evaluator_config import EvaluatorConfig
from model.loss_config import LossConfig, WeightingConfig
from model.tasks import TASKS
from model.training_config import TrainingConfig
from pipelines.training.leakage import SPLITS
from pipelines.training.variants import ClipVariants

if TYPE_CHECKING:
    from model.batch import ClipBatch, ClipTargets
    from model.learner import Learner
    from model.ranks import Ranks


class Clips(Protocol):
    """Where reduced clips come from."""

    def __len__(self) -> int: ...

    def read(self, clips: NDArray[np.integer]) -> "ClipBatch":
        """Read clips by number."""


@dataclass(frozen=True)
class ClipLabels:
    """What is known of C clips, by number.

    Attributes:
        values: [C, N] label of the clip's video; NaN without one, and where a task needs sound
            and the clip has none.
        weight: [C, N] what the label counts for.
        video: [C] number of the clip's video.
        frames: [C] real frames.
        split: [C] index into SPLITS.
        error: [C, N] standard error of the label, NaN unknown; None: no label has one.
        variants: What is known of controlled damage; None: nothing.
    """

    values: NDArray[np.float32]
    weight: NDArray[np.float32]
    video: NDArray[np.int64]
    frames: NDArray[np.int32]
    split: NDArray[np.int8]
    error: NDArray[np.float32] | None = None
    variants: ClipVariants | None = None

    def of(self, split: str) -> NDArray[np.int64]:
        """Return the numbers of a split's clips."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def targets(self, clips: NDArray[np.integer]) -> "ClipTargets":
        """Return the labels of clips as tensors."""
        import torch

        from model.batch import ClipTargets

        values = self.values[clips]
        return ClipTargets(
            torch.from_numpy(values),
            torch.from_numpy(~np.isnan(values)),
            torch.from_numpy(self.weight[clips]),
            torch.from_numpy(self.video[clips]),
            None if self.error is None else torch.from_numpy(self.error[clips]),
            None if self.variants is None else self.variants.targets(clips),
        )

    def per_video(
        self, clips: NDArray[np.integer], scores: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average the scores [n, N] of labelled clips over their videos by real frames.

        Returns:
            [V, N] scores and [V, N] labels, NaN without a label.
        """
        _, video = np.unique(self.video[clips], return_inverse=True)
        values = self.values[clips].astype(np.float64)
        weight = np.where(np.isnan(values), 0.0, np.maximum(self.frames[clips], 1)[:, None])
        total, predicted, labels = (
            np.zeros((video.max(initial=-1) + 1, len(TASKS))) for _ in "123"
        )
        np.add.at(total, video, weight)
        np.add.at(predicted, video, weight * scores)
        np.add.at(labels, video, weight * np.nan_to_num(values))
        with np.errstate(invalid="ignore"):
            return predicted / total, labels / total  # all clips of a video have the same label

    def training_means(self) -> NDArray[np.float64]:
        """Return [N] mean label over the training videos; the middle of the scale without any."""
        clips = self.of("train")
        _, values = self.per_video(clips, np.zeros((len(clips), len(TASKS))))
        count = (~np.isnan(values)).sum(axis=0)
        total = np.nansum(values, axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), 3.0)


@dataclass(frozen=True)
class TrainTask:
    """What a rank needs to know.

    Attributes:
        evaluator, loss, weighting, training: Settings.
        widths: stream -> width.
        aux_width: Of the auxiliary vector, 0 without one.
        labels: Of all clips.
        monitor: Resolved: ``overall``, ``mean`` or ``loss``.
        start: Weights to begin with (fine-tuning), or None.
    """

    evaluator: EvaluatorConfig
    loss: LossConfig
    weighting: WeightingConfig
    training: TrainingConfig
    widths: dict[str, int]
    aux_width: int
    labels: ClipLabels
    monitor: str
    start: dict[str, NDArray[Any]] | None = None

    def steps_per_epoch(self, ranks: int) -> int:
        """Return how many steps the training clips make."""
        return -(-len(self.labels.of("train")) // self.clips_per_step(ranks))

    def clips_per_step(self, ranks: int) -> int:
        """Return how many clips a step holds, but for the last one of an epoch."""
        return ranks * self.training.batch_size * self.training.accumulation


def build_learner(task: TrainTask, ranks: "Ranks", device: str) -> "Learner":
    """Build the evaluator, its losses and its optimiser on a device, the same for any rank."""
    import torch

    from model.alignment import AlignmentLoss
    from model.evaluator import build_evaluator
    from model.learner import Learner
    from model.weighting import build_weighting

    torch.manual_seed(task.training.seed)
    evaluator = build_evaluator(task.evaluator, task.widths, task.aux_width)
    means = task.labels.training_means()
    if task.start is None:
        evaluator.start_at(means.tolist())
    else:
        evaluator.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in task.start.items()})
    alignment = None
    if task.loss.alignment.weight:
        alignment = AlignmentLoss(task.evaluator.width, task.loss.alignment).to(device)
    return Learner(
        evaluator.to(device),
        build_weighting(task.weighting).to(device),
        alignment,
        loss=task.loss,
        config=task.training,
        total_steps=task.training.epochs * task.steps_per_epoch(ranks.size),
        means=torch.from_numpy(means),
        ranks=ranks,
    )
