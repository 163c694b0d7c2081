import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from model.batch import ClipTargets
from model.loss_config import LossConfig, WeightingConfig
from model.losses import label_weight, task_loss_sums
from model.tasks import TASKS
from model.weighting import UncertaintyWeighting, build_weighting

N = len(TASKS)
ALL = torch.ones(N, dtype=torch.bool)
KINDS = ["fixed", "learned", "uncertainty", "gradnorm"]
PLAIN = LossConfig(l1=0.0)


def config(kind: str, **section: object) -> WeightingConfig:
    return WeightingConfig.model_validate({"kind": kind, kind: section})


def linear_problem(noise: list[float], clips: int, seed: int = 0) -> tuple[Tensor, ClipTargets]:
    """Five linear rules of four inputs, each with its own noise."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(clips, 4, generator=rng)
    y = 3 + x @ torch.randn(4, N, generator=rng) * 0.3
    y = y + torch.randn(clips, N, generator=rng) * torch.tensor(noise)
    valid = torch.rand(clips, N, generator=rng) < 0.8
    y = torch.where(valid, y, torch.nan)
    return x, ClipTargets(y, valid, torch.ones(clips, N), torch.arange(clips))


def part_of(targets: ClipTargets, at: slice) -> ClipTargets:
    return ClipTargets(targets.values[at], targets.valid[at], targets.weight[at], targets.group[at])


# --- what every weighting keeps to


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_what_multiplies_the_losses(kind):
    weighting = build_weighting(config(kind))
    for parameter in weighting.parameters():
        nn.init.uniform_(parameter, -1, 1)
    losses = torch.rand(N, requires_grad=True)
    weighting.combine(losses, ALL).backward()
    torch.testing.assert_close(losses.grad, weighting.weights())
    assert not weighting.weights().requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_inactive_tasks_add_nothing_and_get_no_gradient(kind):
    weighting = build_weighting(config(kind))
    active = torch.tensor([True, False, True, False, True])
    losses = torch.tensor([0.5, torch.nan, 1.0, 7.0, 2.0], requires_grad=True)
    total = weighting.combine(losses, active)
    total.backward()
    assert total.isfinite()
    gradients = [losses.grad, *(p.grad for p in weighting.parameters())]
    for gradient in gradients:
        assert gradient is not None
        assert torch.equal(gradient[~active], torch.zeros(2))
        if gradient is losses.grad:
            assert (gradient[active] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_and_micro_batches_add_up_to_one_batch(kind):
    x, targets = linear_problem([0.5] * N, 40)
    valid = targets.valid.clone()
    valid[:10, 0] = False  # the parts hold different numbers of labels
    valid[:, 3] = False  # and one task has none at all
    targets = ClipTargets(targets.values, valid, targets.weight, targets.group)
    count = label_weight(targets)
    active = count > 0

    def gradients(cuts: list[slice]) -> list[Tensor]:
        torch.manual_seed(0)
        model, weighting = nn.Linear(4, N), build_weighting(config(kind))
        for parameter in weighting.parameters():
            nn.init.uniform_(parameter, -1, 1)
        total = torch.zeros(())
        for at in cuts:
            sums = task_loss_sums(model(x[at]), part_of(targets, at), LossConfig())
            part = weighting.combine(sums / count.clamp(min=1), active, 1 / len(cuts))
            part.backward()
            total += part.detach()
        trained = [*model.parameters(), *weighting.parameters()]
        return [total, *(p.grad for p in trained if p.grad is not None)]

    whole = gradients([slice(0, 40)])
    parts = gradients([slice(0, 5), slice(5, 10), slice(10, 32), slice(32, 40)])
    assert len(whole) == len(parts) >= 3
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_main_optimisers_parameters_are_parameters(kind):
    weighting = build_weighting(config(kind))
    assert sum(p.numel() for p in weighting.parameters()) == (
        N if kind in ("learned", "uncertainty") else 0
    )
    assert weighting.needs_gradient_norms == (kind == "gradnorm")


# --- fixed


def test_fixed_are_the_weights_by_name():
    weighting = build_weighting(config("fixed", overall=2.0, lip_sync=0.0))
    assert weighting.weights().tolist() == [0, 1, 1, 1, 2]
    weighting.update(torch.rand(N), torch.rand(N), ALL)
    assert weighting.weights().tolist() == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    "wrong",
    [{"overal": 1.0}, {"overall": -1.0}, {"overall": math.nan}, dict.fromkeys(TASKS, 0.0)],
)
def test_senseless_fixed_weights_are_refused(wrong):
    with pytest.raises(ValidationError):
        config("fixed", **wrong)


# --- learned


def test_learned_weights_stay_within_their_bounds_whatever_the_losses():
    eps = 0.05
    weighting = build_weighting(config("learned", eps=eps))
    torch.testing.assert_close(weighting.weights(), torch.full((N,), 0.5 + eps))
    optimizer = torch.optim.AdamW(weighting.parameters(), lr=0.3, weight_decay=0.0)
    losses = torch.tensor([1e-3, 0.5, 1.0, 30.0, -5.0])  # a negative one drives its weight up
    for _ in range(200):
        optimizer.zero_grad()
        weighting.combine(losses, ALL).backward()
        optimizer.step()
        weights = weighting.weights()
        assert ((weights >= eps) & (weights <= 1 + eps)).all()
    assert weights[3] < eps + 0.01
    assert weights[4] > 1 + eps - 0.01


def test_learned_weights_follow_the_gradient_of_the_papers_formula():
    weighting = build_weighting(config("learned"))
    losses = torch.tensor([0.1, 0.2, 0.4, 0.8, 1.6])
    weighting.combine(losses, ALL).backward()
    (logit,) = weighting.parameters()
    torch.testing.assert_close(logit.grad, 0.25 * losses)  # sigmoid'(0) = 1/4


# --- uncertainty


def test_uncertainty_recovers_the_planted_noise():
    noise = [0.1, 0.9, 0.2, 0.6, 0.35]
    x, targets = linear_problem(noise, 3000)
    count = label_weight(targets)
    torch.manual_seed(0)
    model, weighting = nn.Linear(4, N), build_weighting(config("uncertainty"))
    assert isinstance(weighting, UncertaintyWeighting)
    optimizer = torch.optim.Adam([*model.parameters(), *weighting.parameters()], lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        losses = task_loss_sums(model(x), targets, PLAIN) / count
        weighting.combine(losses, ALL).backward()
        optimizer.step()
    found = torch.exp(weighting.log_variance.detach() / 2)
    assert found.argsort().tolist() == torch.tensor(noise).argsort().tolist()
    torch.testing.assert_close(found, torch.tensor(noise), rtol=0.2, atol=0)
    torch.testing.assert_close(weighting.weights(), found**-2, rtol=1e-5, atol=0)


def test_uncertainty_is_the_formula_and_is_least_at_log_loss():
    weighting = build_weighting(config("uncertainty")).double()
    assert isinstance(weighting, UncertaintyWeighting)
    losses = torch.tensor([0.1, 0.2, 0.4, 0.8, 1.6], dtype=torch.float64)
    s = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    weighting.log_variance.data = s
    expected = sum(math.exp(-a) * b + a for a, b in zip(s.tolist(), losses.tolist(), strict=True))
    assert weighting.combine(losses, ALL).item() == pytest.approx(expected, rel=1e-12)
    weighting.log_variance.data = losses.log()
    weighting.combine(losses, ALL).backward()
    gradient = weighting.log_variance.grad
    assert gradient is not None
    assert gradient.abs().max() < 1e-12


def test_uncertainty_stays_in_bounds_and_comes_back_from_them():
    weighting = build_weighting(config("uncertainty", lowest=-2.0, highest=1.0))
    low, high = math.exp(-1.0), math.exp(2.0)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.2)

    def train(losses: Tensor) -> None:
        for _ in range(100):
            optimizer.zero_grad()
            weighting.combine(losses, ALL).backward()
            optimizer.step()
            weights = weighting.weights()
            assert ((weights >= low * 0.9999) & (weights <= high * 1.0001)).all()

    train(torch.tensor([0.0, 1e-6, 0.5, 1e3, 1e6]))  # the first: a task without variance
    assert weighting.weights()[:2].tolist() == pytest.approx([high] * 2, rel=1e-3)
    assert weighting.weights()[3:].tolist() == pytest.approx([low] * 2, rel=1e-3)
    train(torch.full((N,), 0.5))
    assert weighting.weights().tolist() == pytest.approx([2.0] * N, rel=1e-3)


@pytest.mark.parametrize("wrong", [{"lowest": 1.0}, {"highest": -1.0}, {"lowest": 0, "highest": 0}])
def test_senseless_bounds_are_refused(wrong):
    with pytest.raises(ValidationError):
        config("uncertainty", **wrong)
