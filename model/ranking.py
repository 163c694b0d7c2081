"""Pairwise ranking loss: of two videos, the better one should score higher.

``hinge`` is the margin ranking loss with a margin proportional to the difference of the labels;
``logistic`` is RankNet's cross-entropy between the probability that the first one is better and
the evaluator's, sigmoid(d / scale) (Burges et al., Learning to Rank using Gradient Descent, ICML
2005, section 3). That probability is 1, or with ``noise`` what two labels with normal errors say
(Thurstone, A Law of Comparative Judgment, 1927, case III).

Which pairs there are: ``all`` videos whose labels differ, or, with ``source``, variants of one clip
of one clean video. Their order follows from the severities of their damage, which are known; labels
only decide, over the whole training split, which tasks a type of damage harms.

Legend: B clips, N tasks.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.batch import ClipTargets
from model.loss_config import RankingConfig
from model.losses import full_precision

_ROUNDING = 1e-6  # of severities such as 0.3 - 0.2 in float32


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
    foreign = targets.group[:, None] != targets.group[None, :]
    pair = better & _both_valid(targets) & foreign[..., None]
    return torch.where(pair, weight[:, None] * weight[None, :], 0.0)


def variant_pairs(targets: ClipTargets, config: RankingConfig) -> tuple[Tensor, Tensor]:
    """Return what each ordered pair of variants counts for in each task, and how far it is apart.

    A pair (i, j) counts where both clips show the same content with the same type of damage, or one
    of them is clean; severity i is lower by at least ``least_severity_step``; the type takes more
    than ``least_difference`` points off the task at severity 1; and both labels are valid, whatever
    they say. It counts the geometric mean of both label weights: a clip has partners only
    among the same clip of other variants, so a source counts the same however many clips it has.

    Returns:
        [B, B, N] weights, 0 where there is no pair, and [B, B, N] harm x difference of the
        severities in score points (0 without a pair); float32, float64 for such input.
    """
    weight = full_precision(targets.weight)
    known = targets.variants
    if known is None:
        nothing = weight.new_zeros(len(weight), *weight.shape)
        return nothing, nothing
    severity, harm = full_precision(known.severity), full_precision(known.harm)
    clean = severity == 0
    alike = (known.type[:, None] == known.type[None, :]) & (known.type >= 0)[:, None]
    alike = (alike | clean[:, None] | clean[None, :]) & _same_content(targets)
    step = severity[None, :] - severity[:, None]  # NaN compares false
    ordered = alike & (step >= config.least_severity_step - _ROUNDING)
    harmed = harm[None, :].expand(len(harm), -1, -1)  # of the worse one, which is damaged
    pair = ordered[..., None] & (harmed > config.least_difference) & _both_valid(targets)
    gap = torch.where(pair, harmed * step[..., None], 0.0)
    return torch.where(pair, (weight[:, None] * weight[None, :]).sqrt(), 0.0), gap


def tie_weights(targets: ClipTargets) -> Tensor:
    """Return what each pair of variants counts for in tasks that neither one's damage touches.

    Both show the same content, of any types of damage or none; weighted as in
    :func:`variant_pairs`. Each two of them are one pair, (i, j) with i < j.

    Returns:
        [B, B, N] float32 (float64 for weights in float64), 0 where there is no pair.
    """
    weight = full_precision(targets.weight)
    known = targets.variants
    if known is None:
        return weight.new_zeros(len(weight), *weight.shape)
    spared = known.harm == 0  # false for NaN
    once = torch.triu(_same_content(targets), diagonal=1)
    pair = once[..., None] & spared[:, None] & spared[None, :] & _both_valid(targets)
    return torch.where(pair, (weight[:, None] * weight[None, :]).sqrt(), 0.0)


def ranking_loss(scores: Tensor, targets: ClipTargets, config: RankingConfig) -> Tensor:
    """Compute the mean ranking loss over all pairs of all tasks.

    Per pair (i better than j, d = s_i - s_j, y the labels): ``hinge`` max(0, margin g - d) with
    g = y_i - y_j; ``logistic`` log(1 + exp(-d / scale)) + (1 - p) d / scale with p = 1, or with
    ``noise`` p = Phi(g / sqrt(error_i^2 + error_j^2 + noise^2)). With pairs ``source``, g is what
    the severities say, and ``tie_weight`` x the mean of (s_i - s_j)^2 over the pairs of
    :func:`tie_weights` is added. Pairs are weighted as :func:`pair_weights` or
    :func:`variant_pairs` says.

    Args:
        scores: [B, N] predicted scores.
        targets: Labels; scores without a partner get a gradient of exactly zero.
        config: Its ``weight`` is not applied here.

    Returns:
        [] the mean; 0 with a gradient of 0 where there is no pair.
    """
    scores = full_precision(scores)
    if config.pairs == "source":
        weight, gap = variant_pairs(targets, config)
    else:
        weight = pair_weights(targets, config.least_difference)
        values = full_precision(targets.values)
        gap = torch.where(weight > 0, values[:, None] - values[None, :], 0.0)
    weight, gap = weight.to(scores.dtype), gap.to(scores.dtype)
    lead = _leads(scores, weight)
    if config.kind == "hinge":
        cost = F.relu(config.margin * gap - lead)
    else:
        cost = F.softplus(-lead / config.scale)
        if config.noise:
            cost = cost + (1 - _certainty(gap, targets, config.noise)) * lead / config.scale
    result = _mean(weight, cost)
    if config.tie_weight:
        weight = tie_weights(targets).to(scores.dtype)
        result = result + config.tie_weight * _mean(weight, _leads(scores, weight).square())
    return result


def _both_valid(targets: ClipTargets) -> Tensor:
    return targets.valid[:, None] & targets.valid[None, :]


def _same_content(targets: ClipTargets) -> Tensor:
    assert targets.variants is not None
    content = targets.variants.content
    return (content[:, None] == content[None, :]) & (content >= 0)[:, None]


def _leads(scores: Tensor, weight: Tensor) -> Tensor:
    # Selected, not multiplied: a score that is not finite harms only pairs that it is part of.
    return torch.where(weight > 0, scores[:, None] - scores[None, :], 0.0)  # [B, B, N]


def _certainty(gap: Tensor, targets: ClipTargets, noise: float) -> Tensor:
    """Return how probable it is that the video with the better label is better, [B, B, N]."""
    variance = torch.full_like(gap, noise**2)
    if targets.error is not None:
        error = full_precision(targets.error).to(gap.dtype).nan_to_num(nan=0.0).square()
        variance = variance + error[:, None] + error[None, :]
    certainty: Tensor = torch.special.ndtr(gap / variance.sqrt())
    return certainty


def _mean(weight: Tensor, cost: Tensor) -> Tensor:
    count = weight.sum()
    return (weight * cost).sum() / torch.where(count > 0, count, 1.0)
