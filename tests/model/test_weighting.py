import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from model.batch import ClipTargets
from model.loss_config import LossConfig, WeightingConfig
from model.losses import label_weight, task_loss_sums
from model.tasks import TASKS
from model.weighting import GradNormWeighting, UncertaintyWeighting, build_weighting

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


# --- gradnorm


def gradnorm(**section: float) -> GradNormWeighting:
    weighting = build_weighting(config("gradnorm", **section))
    assert isinstance(weighting, GradNormWeighting)
    return weighting


def test_gradnorm_first_step_follows_the_gradient_of_the_papers_loss():
    norms = torch.tensor([1.0, 2.0, 4.0, 8.0, 0.1])
    first = torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0])
    later = torch.tensor([0.5, 0.9, 0.4, 1.0, 3.0])
    weighting = gradnorm(alpha=1.5, learning_rate=1e-3)
    weighting.first_loss.copy_(first)
    # L_grad by autograd, with the target held constant as the paper says.
    w = torch.ones(N, requires_grad=True)
    rate = (later / first) / (later / first).mean()
    target = (w * norms).mean().detach() * rate**1.5
    torch.testing.assert_close(weighting.targets(norms, later, ALL), target)
    (w * norms - target).abs().sum().backward()
    assert w.grad is not None
    weighting.update(norms, later, ALL)
    # Adam's first step has the size of the learning rate; then the sum is restored.
    expected = torch.exp(-1e-3 * w.grad.sign())
    expected = expected * N / expected.sum()
    torch.testing.assert_close(weighting.weights(), expected, rtol=1e-5, atol=0)


def test_gradnorm_with_alpha_0_makes_all_gradient_norms_equal():
    norms = torch.tensor([0.01, 0.3, 1.0, 5.0, 40.0])
    weighting = gradnorm(alpha=0.0)
    for _ in range(800):
        weighting.update(norms, torch.ones(N), ALL)
    expected = (1 / norms) / (1 / norms).sum() * N
    torch.testing.assert_close(weighting.weights(), expected, rtol=0.1, atol=0)
    assert weighting.weights().sum().item() == pytest.approx(N, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.12, 1.0, 1.5])
def test_gradnorm_brings_gradient_norms_to_their_targets(alpha):
    # The paper's toy problem (section 4): tasks that differ only in scale, after a shared layer.
    rng = torch.Generator().manual_seed(1)
    scales = torch.tensor([0.5, 1.0, 1.5, 2.0, 3.0])
    x = torch.randn(256, 10, generator=rng)
    base = torch.randn(10, 8, generator=rng)
    own = 0.35 * torch.randn(N, 10, 8, generator=rng)
    goals = torch.tanh(x @ (base + own)).sum(dim=2).T * scales  # [256, N]
    torch.manual_seed(0)
    shared = nn.Linear(10, 16)
    heads = nn.Linear(16, N)
    weighting = gradnorm(alpha=alpha)
    optimizer = torch.optim.Adam([*shared.parameters(), *heads.parameters()], lr=0.01)
    relative = []
    for step in range(300):
        losses = (heads(torch.tanh(shared(x))) - goals).square().mean(dim=0)
        grads = [torch.autograd.grad(loss, shared.weight, retain_graph=True) for loss in losses]
        norms = torch.stack([grad.norm() for (grad,) in grads])
        optimizer.zero_grad()
        weighting.combine(losses, ALL).backward()
        optimizer.step()
        weighting.update(norms, losses.detach(), ALL)
        if step == 0:
            start = norms / norms.mean()
        if step >= 200:
            targets = weighting.targets(norms, losses.detach(), ALL)
            relative.append(weighting.weights() * norms / targets)
    assert (start - 1).abs().max() > 0.5  # they started far apart
    assert (torch.stack(relative) - 1).abs().max() < 0.25
    assert weighting.weights().sum().item() == pytest.approx(N, rel=1e-4)


def test_gradnorm_leaves_tasks_that_take_no_part_as_they_are():
    weighting = gradnorm()
    for _ in range(20):
        weighting.update(torch.arange(1.0, 6.0), torch.ones(N), ALL)
    before = weighting.weights()
    active = torch.tensor([True, True, True, True, False])
    norms = torch.tensor([1.0, torch.nan, 3.0, 4.0, 5.0])
    for _ in range(20):
        weighting.update(norms, torch.tensor([1.0, 1.0, 1.0, torch.inf, 1.0]), active)
    after = weighting.weights()
    assert torch.equal(after[[1, 3, 4]], before[[1, 3, 4]])
    assert (after[[0, 2]] != before[[0, 2]]).all()
    assert after.sum().item() == pytest.approx(N, rel=1e-5)


def test_gradnorm_remembers_the_first_loss_of_a_task_that_comes_late():
    weighting = gradnorm()
    early = torch.tensor([True, True, True, True, False])
    weighting.update(torch.ones(N), torch.full((N,), 4.0), early)
    weighting.update(torch.ones(N), torch.full((N,), 2.0), ALL)
    weighting.update(torch.ones(N), torch.full((N,), 1.0), ALL)
    assert weighting.first_loss.tolist() == [4.0, 4.0, 4.0, 4.0, 2.0]


def test_gradnorm_survives_a_task_that_is_always_right_and_one_alone():
    weighting = gradnorm()
    losses = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0])
    for _ in range(50):
        weighting.update(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]), losses, ALL)
    assert weighting.weights()[0] == 1
    alone = torch.tensor([True, False, False, False, False])
    before = weighting.weights()
    weighting.update(torch.rand(N), torch.rand(N), alone)
    weighting.update(torch.rand(N), torch.rand(N), ~ALL)
    torch.testing.assert_close(weighting.weights(), before)


def test_gradnorm_goes_on_from_its_state():
    rng = torch.Generator().manual_seed(2)
    steps = [(torch.rand(N, generator=rng), torch.rand(N, generator=rng)) for _ in range(20)]
    undisturbed, killed = gradnorm(), gradnorm()
    for norms, losses in steps:
        undisturbed.update(norms, losses, ALL)
    for norms, losses in steps[:9]:
        killed.update(norms, losses, ALL)
    resumed = gradnorm()
    resumed.load_state_dict(killed.state_dict())
    for norms, losses in steps[9:]:
        resumed.update(norms, losses, ALL)
    assert torch.equal(resumed.weights(), undisturbed.weights())
    assert (undisturbed.weights() != 1).all()
