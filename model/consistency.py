"""Consistency of the five scores (SPEC section 7): three modes, on predictions alone.

Every clip and every task counts, whether it has labels or not. ``corr`` and ``cov`` are statistics
of the batch they see: their mean over several micro-batches or ranks is not the statistic of the
whole. ``std`` is a sum over clips and splits exactly.

Legend: B clips, N tasks.
"""

import torch
from torch import Tensor

from model.loss_config import ConsistencyMode
from model.losses import full_precision

# Below this deviation over the batch (in score points) a task counts as constant: its correlation
# is rounding error, and the gradient of a correlation grows as 1 / deviation.
LEAST_DEVIATION = 1e-3
LEAST_CLIPS = 3  # the correlation over two clips is always -1 or 1


def consistency_loss(scores: Tensor, mode: ConsistencyMode) -> Tensor:
    """Compute the consistency term of a batch.

    Args:
        scores: [B, N] predicted scores.
        mode: ``std``, ``corr`` or ``cov``.

    Returns:
        [] ``std``: the sum over the clips of :func:`deviation_across_tasks`, which the caller
        divides by the clips of the whole step; ``corr``: :func:`correlation_gap`; ``cov``:
        :func:`covariance_trace`.
    """
    scores = full_precision(scores)
    if mode == "std":
        return deviation_across_tasks(scores).sum()
    return correlation_gap(scores) if mode == "corr" else covariance_trace(scores)


def deviation_across_tasks(scores: Tensor) -> Tensor:
    """Return each clip's standard deviation across its tasks.

    Args:
        scores: [B, N], N >= 2.

    Returns:
        [B] deviations (dividing by N - 1) in score points, with a gradient of 0 where all tasks
        are equal.
    """
    variance = scores.var(dim=1)
    varies = variance > 0
    # The square root has no derivative at 0; selected before and after, so that no NaN returns.
    return torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)


def correlation_gap(scores: Tensor) -> Tensor:
    """Return 1 - the mean Pearson correlation of two tasks over the batch.

    Tasks whose standard deviation over the batch is below ``LEAST_DEVIATION`` are left out: the
    mean runs over the pairs of the others.

    Args:
        scores: [B, N].

    Returns:
        [] in [0, 1 + 1 / (k - 1)] for k tasks that vary; 0 with a gradient of 0 for fewer than
        ``LEAST_CLIPS`` clips or fewer than two tasks that vary.
    """
    if len(scores) < LEAST_CLIPS:
        return (scores * 0.0).sum()
    centred = scores - scores.mean(dim=0)  # [B, N]
    variance = centred.square().mean(dim=0)  # [N]
    varies = variance >= LEAST_DEVIATION**2
    standard = torch.where(varies, centred / torch.where(varies, variance, 1.0).sqrt(), 0.0)
    k = varies.sum()
    # The entries of a correlation matrix sum to the variance of the sum of standardised tasks;
    # its diagonal sums to k.
    off_diagonal = standard.sum(dim=1).square().mean() - k
    enough = k >= 2
    return torch.where(enough, 1 - off_diagonal / torch.where(enough, k * (k - 1), 1), 0.0)


def covariance_trace(scores: Tensor) -> Tensor:
    """Return the trace of the tasks' covariance matrix over the batch.

    It is the sum of the tasks' variances over the clips, so it draws the scores of different
    clips together rather than the tasks of one clip; it is here because the method names it.

    Args:
        scores: [B, N].

    Returns:
        [] in squared score points (dividing by B - 1); 0 with a gradient of 0 for one clip.
    """
    if len(scores) < 2:
        return (scores * 0.0).sum()
    return scores.var(dim=0).sum()
