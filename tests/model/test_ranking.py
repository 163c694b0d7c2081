import itertools
import math

import pytest
import torch

from model.batch import ClipTargets
from model.loss_config import RankingConfig
from model.ranking import pair_weights, ranking_loss

KINDS = ["hinge", "logistic"]


def some_targets(clips: int = 10, tasks: int = 5) -> ClipTargets:
    rng = torch.Generator().manual_seed(3)
    values = 1 + 4 * torch.rand(clips, tasks, generator=rng, dtype=torch.float64)
    valid = torch.rand(clips, tasks, generator=rng) < 0.7
    weight = 0.2 + torch.rand(clips, tasks, generator=rng, dtype=torch.float64)
    group = torch.arange(clips) // 2  # two clips a video
    return ClipTargets(torch.where(valid, values, torch.nan), valid, weight, group)


def some_scores(clips: int = 10, tasks: int = 5) -> torch.Tensor:
    rng = torch.Generator().manual_seed(4)
    scores = 1 + 4 * torch.rand(clips, tasks, generator=rng, dtype=torch.float64)
    return scores.requires_grad_()


def one_by_one(scores, targets, config):
    """The definition, pair by pair."""
    total = count = 0.0
    clips, tasks = scores.shape
    for i, j, t in itertools.product(range(clips), range(clips), range(tasks)):
        if not (targets.valid[i, t] and targets.valid[j, t]):
            continue
        gap = float(targets.values[i, t] - targets.values[j, t])
        if targets.group[i] == targets.group[j] or gap <= config.least_difference:
            continue
        lead = float(scores[i, t] - scores[j, t])
        weight = float(targets.weight[i, t] * targets.weight[j, t])
        if config.kind == "hinge":
            cost = max(0.0, config.margin * gap - lead)
        else:
            cost = math.log1p(math.exp(-lead / config.scale))
        total += weight * cost
        count += weight
    return total / count


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_definition_pair_by_pair(kind):
    config = RankingConfig(kind=kind, least_difference=0.4)
    scores, targets = some_scores(), some_targets()
    expected = one_by_one(scores.detach(), targets, config)
    assert ranking_loss(scores, targets, config).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    targets, config = some_targets(6), RankingConfig(kind=kind)
    assert torch.autograd.gradcheck(lambda s: ranking_loss(s, targets, config), [some_scores(6)])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_missing_labels_are_exactly_zero(kind):
    scores, targets = some_scores(), some_targets()
    ranking_loss(scores, targets, RankingConfig(kind=kind)).backward()
    assert scores.grad is not None
    assert (scores.grad[~targets.valid] == 0).all()
    assert scores.grad.abs().sum() > 0


def test_a_score_that_is_not_finite_under_a_missing_label_harms_nothing():
    targets = some_targets()
    clean = some_scores().detach()
    scores = torch.where(targets.valid, clean, torch.nan).requires_grad_()
    value = ranking_loss(scores, targets, RankingConfig())
    value.backward()
    assert value.item() == ranking_loss(clean, targets, RankingConfig()).item()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_clips_of_one_video_are_never_a_pair():
    targets = some_targets()
    same = targets.group[:, None] == targets.group[None, :]
    weights = pair_weights(targets, 0.0)
    assert (weights[same] == 0).all()
    assert (weights[~same] > 0).any()


def test_a_video_counts_the_same_however_many_clips_it_has():
    values = torch.tensor([[4.0], [2.0], [1.0]], dtype=torch.float64)
    scores = torch.tensor([[2.0], [3.0], [2.5]], dtype=torch.float64)
    one = ClipTargets(
        values, torch.ones(3, 1, dtype=torch.bool), torch.ones(3, 1).double(), torch.arange(3)
    )
    again = torch.tensor([0, 0, 0, 0, 1, 2])  # the first video cut into four clips
    share = torch.tensor([0.25] * 4 + [1.0, 1.0], dtype=torch.float64)[:, None]
    many = ClipTargets(values[again], torch.ones(6, 1, dtype=torch.bool), share, again)
    config = RankingConfig()
    torch.testing.assert_close(
        ranking_loss(scores[again], many, config), ranking_loss(scores, one, config)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_pair_gives_zero_without_gradient(kind):
    scores = some_scores()
    targets = some_targets()
    alike = ClipTargets(
        torch.full_like(targets.values, 4.763), targets.valid, targets.weight, targets.group
    )
    value = ranking_loss(scores, alike, RankingConfig(kind=kind))
    value.backward()
    assert value == 0
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_hinge_is_zero_for_the_labels_themselves_and_not_for_their_reverse():
    targets = some_targets()
    labels = torch.where(targets.valid, targets.values, 3.0)
    assert ranking_loss(labels, targets, RankingConfig()) == 0
    assert ranking_loss(6 - labels, targets, RankingConfig()) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_descent_puts_the_pairs_in_order(kind):
    targets, config = some_targets(), RankingConfig(kind=kind)
    scores = some_scores()
    optimizer = torch.optim.Adam([scores], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        ranking_loss(scores, targets, config).backward()
        optimizer.step()
    pairs = pair_weights(targets, config.least_difference) > 0
    assert ((scores[:, None] - scores[None, :])[pairs] > 0).all()
