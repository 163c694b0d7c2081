"""Pairwise ranking loss: of two videos, the one with the better label should score higher.

``hinge`` is the margin ranking loss with a margin proportional to the difference of the labels;
``logistic`` is RankNet's cross-entropy (Burges et al., Learning to Rank using Gradient Descent,
ICML 2005, section 3) with the better one known for certain.

Legend: B clips, N tasks.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.batch import ClipTargets
from model.loss_config import RankingConfig
from model.losses import full_precision


def pair_weights(targets: ClipTargets, least_difference: float) -> Tensor:
    """Return what each ordered pair of clips counts for in each task.

    A pair (i, j) counts where both labels are valid, the clips come from different videos and
    label i is better than label j by more than ``least_difference`` score points. It counts the
    product of both label weights, so that two videos count the same however many clips they have.

    Returns:
        [B, B, N] float32 (float64 for weights in float64), 0 where there is no pair.
    """
    values, weight = full_precision(targets.values), full_precision(targets.weight)
    better = values[:, None] - values[None, :] > least_difference  # false for NaN
    valid = targets.valid[:, None] & targets.valid[None, :]
    foreign = targets.group[:, None] != targets.group[None, :]
    return torch.where(better & valid & foreign[..., None], weight[:, None] * weight[None, :], 0.0)


def ranking_loss(scores: Tensor, targets: ClipTargets, config: RankingConfig) -> Tensor:
    """Compute the mean ranking loss over all pairs of all tasks.

    Per pair (i better than j, d = s_i - s_j): ``hinge`` max(0, margin (y_i - y_j) - d),
    ``logistic`` log(1 + exp(-d / scale)); pairs are weighted as :func:`pair_weights` says.

    Args:
        scores: [B, N] predicted scores.
        targets: Labels; scores without a partner get a gradient of exactly zero.
        config: Its ``weight`` is not applied here.

    Returns:
        [] the mean; 0 with a gradient of 0 where there is no pair.
    """
    scores = full_precision(scores)
    weight = pair_weights(targets, config.least_difference).to(scores.dtype)
    pair = weight > 0
    lead = torch.where(pair, scores[:, None] - scores[None, :], 0.0)  # [B, B, N]
    if config.kind == "hinge":
        values = targets.values.to(scores.dtype)
        gap = torch.where(pair, values[:, None] - values[None, :], 0.0)
        cost = F.relu(config.margin * gap - lead)
    else:
        cost = F.softplus(-lead / config.scale)
    count = weight.sum()
    return (weight * cost).sum() / torch.where(count > 0, count, 1.0)
