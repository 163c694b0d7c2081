"""Losses of the single tasks (SPEC section 7), as sums that the caller divides.

One optimisation step may see its clips in parts: several ranks, several micro-batches. A mean over
a part would count a label more where labels are few. So sums are returned, and the caller divides
by the weights of the whole step; the parts then add up to exactly what one large batch gives.

Legend: B clips, N = 5 tasks in the order of :data:`model.tasks.TASKS`.
"""

import torch
from torch import Tensor

from model.batch import ClipTargets
from model.loss_config import LossConfig


def full_precision(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or unchanged in float64: half precision is too coarse for sums."""
    return x if x.dtype == torch.float64 else x.float()


def task_loss_sums(
    scores: Tensor, targets: ClipTargets, config: LossConfig, means: Tensor | None = None
) -> Tensor:
    """Sum each task's loss over its labels.

    Per label weight x ((s - y')^2 + l1 |s - y'|) with y' = (1 - e) y + e mean, in score points.

    Args:
        scores: [B, N] predicted scores, of any floating type.
        targets: Labels. Values that are not valid take no part, NaN included, and give a gradient
            of exactly zero.
        config: ``l1`` and ``label_smoothing`` are read.
        means: [N] mean label of each task on the training split; needed with label smoothing.

    Returns:
        [N] sums, float32 (float64 for scores in float64); 0 for a task without a valid label.

    Raises:
        ValueError: Label smoothing is on and ``means`` is None.
    """
    scores = full_precision(scores)
    values = targets.values.to(scores.dtype)
    if config.label_smoothing > 0:
        if means is None:
            raise ValueError("label smoothing needs the training mean of each task")
        e = config.label_smoothing
        values = (1 - e) * values + e * means.to(values)
    # Selected, not multiplied: 0 x NaN is NaN, in the value and in the gradient.
    error = torch.where(targets.valid, scores - values, 0.0)  # [B, N]
    weight = torch.where(targets.valid, targets.weight.to(scores.dtype), 0.0)
    return (weight * (error.square() + config.l1 * error.abs())).sum(dim=0)


def label_weight(targets: ClipTargets) -> Tensor:
    """Sum the weights of each task's valid labels: what :func:`task_loss_sums` is divided by.

    Returns:
        [N] float32 (float64 for weights in float64); 0 for a task without a valid label.
    """
    return torch.where(targets.valid, full_precision(targets.weight), 0.0).sum(dim=0)
