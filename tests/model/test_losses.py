import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error
from torch import Tensor

from model.batch import ClipTargets
from model.loss_config import LossConfig
from model.losses import label_weight, task_loss_sums
from model.tasks import TASKS

N = len(TASKS)


def some_targets(clips: int = 24, seed: int = 0, dtype: torch.dtype = torch.float64) -> ClipTargets:
    rng = torch.Generator().manual_seed(seed)
    values = 1 + 4 * torch.rand(clips, N, generator=rng, dtype=dtype)
    valid = torch.rand(clips, N, generator=rng) < 0.7
    valid[:, 2] = False  # a task without a label
    values = torch.where(valid, values, torch.nan)
    weight = 0.2 + torch.rand(clips, N, generator=rng, dtype=dtype)
    return ClipTargets(values, valid, weight, torch.arange(clips))


def some_scores(clips: int = 24, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    scores = 1 + 4 * torch.rand(clips, N, generator=rng, dtype=dtype)
    return scores.requires_grad_()


@pytest.mark.parametrize("l1", [0.0, 0.1, 2.0])
def test_agrees_with_scikit_learn_on_the_valid_labels(l1):
    targets, scores = some_targets(), some_scores()
    means = task_loss_sums(scores, targets, LossConfig(l1=l1)) / label_weight(targets)
    for task in (0, 1, 3, 4):
        at = targets.valid[:, task].numpy()
        y, s, w = (
            x.detach()[:, task].numpy()[at] for x in (targets.values, scores, targets.weight)
        )
        expected = mean_squared_error(y, s, sample_weight=w)
        expected += l1 * mean_absolute_error(y, s, sample_weight=w)
        assert float(means[task].detach()) == pytest.approx(expected, rel=1e-12)


def test_a_task_without_labels_sums_to_zero():
    targets = some_targets()
    assert task_loss_sums(some_scores(), targets, LossConfig())[2] == 0
    assert label_weight(targets)[2] == 0


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -1.0])
def test_gradients_of_missing_labels_are_exactly_zero(garbage):
    targets, scores = some_targets(), some_scores()
    values = torch.where(targets.valid, targets.values, garbage)
    targets = ClipTargets(values, targets.valid, targets.weight, targets.group)
    means = torch.tensor([4.7, 3.0, torch.nan, 2.0, 3.0])  # no mean for the task without labels
    config = LossConfig(label_smoothing=0.1)
    task_loss_sums(scores, targets, config, means).sum().backward()
    assert scores.grad is not None
    assert torch.equal(
        scores.grad[~targets.valid], torch.zeros(int((~targets.valid).sum())).double()
    )
    assert (scores.grad[targets.valid] != 0).all()


def test_a_score_that_is_not_finite_under_a_missing_label_harms_nothing():
    targets = some_targets()
    scores = torch.where(targets.valid, some_scores().detach(), torch.nan).requires_grad_()
    sums = task_loss_sums(scores, targets, LossConfig())
    sums.sum().backward()
    assert sums.isfinite().all()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_label_smoothing_moves_labels_towards_the_training_mean():
    targets, scores = some_targets(), some_scores()
    means = torch.tensor([4.7, 3.0, 3.5, 2.0, 3.0], dtype=torch.float64)
    smooth = task_loss_sums(scores, targets, LossConfig(label_smoothing=0.2), means)
    moved = ClipTargets(
        targets.values + 0.2 * (means - targets.values),
        targets.valid,
        targets.weight,
        targets.group,
    )
    expected = task_loss_sums(scores, moved, LossConfig())
    torch.testing.assert_close(smooth, expected, rtol=1e-12, atol=0)


def test_label_smoothing_without_means_is_refused():
    with pytest.raises(ValueError, match="training mean"):
        task_loss_sums(some_scores(), some_targets(), LossConfig(label_smoothing=0.1))


def test_gradcheck():
    targets = some_targets(6)
    assert torch.autograd.gradcheck(
        lambda s: task_loss_sums(s, targets, LossConfig()), [some_scores(6)]
    )


def test_parts_of_a_batch_add_up_to_the_whole():
    targets, scores = some_targets(), some_scores()
    whole = task_loss_sums(scores, targets, LossConfig())
    parts = torch.zeros_like(whole)
    for at in (slice(0, 3), slice(3, 17), slice(17, 24)):
        part = ClipTargets(
            targets.values[at], targets.valid[at], targets.weight[at], targets.group[at]
        )
        parts = parts + task_loss_sums(scores[at], part, LossConfig())
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_scores_are_summed_in_single_precision(half):
    clips = 4096  # bf16 cannot count beyond 256
    scores = torch.full((clips, N), 3.0, dtype=half)
    targets = ClipTargets(
        torch.full((clips, N), 2.0),
        torch.ones(clips, N, dtype=torch.bool),
        torch.ones(clips, N),
        torch.arange(clips),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = task_loss_sums(scores, targets, LossConfig(l1=0.0))
    assert sums.dtype == torch.float32
    np.testing.assert_array_equal(sums.numpy(), np.full(N, clips))
