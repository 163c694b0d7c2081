import pytest
import torch
from torch import nn

from model.loss_config import WeightingConfig
from model.tasks import TASKS
from model.weighting import GradNormWeighting, build_weighting

N = len(TASKS)
ALL = torch.ones(N, dtype=torch.bool)


def gradnorm(**section: float) -> GradNormWeighting:
    weighting = build_weighting(
        WeightingConfig.model_validate({"kind": "gradnorm", "gradnorm": section})
    )
    assert isinstance(weighting, GradNormWeighting)
    return weighting


def test_first_step_follows_the_gradient_of_the_papers_loss():
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


def test_with_alpha_0_makes_all_gradient_norms_equal():
    norms = torch.tensor([0.01, 0.3, 1.0, 5.0, 40.0])
    weighting = gradnorm(alpha=0.0)
    for _ in range(800):
        weighting.update(norms, torch.ones(N), ALL)
    expected = (1 / norms) / (1 / norms).sum() * N
    torch.testing.assert_close(weighting.weights(), expected, rtol=0.1, atol=0)
    assert weighting.weights().sum().item() == pytest.approx(N, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.12, 1.0, 1.5])
def test_brings_gradient_norms_to_their_targets(alpha):
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


def test_leaves_tasks_that_take_no_part_as_they_are():
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


def test_remembers_the_first_loss_of_a_task_that_comes_late():
    weighting = gradnorm()
    early = torch.tensor([True, True, True, True, False])
    weighting.update(torch.ones(N), torch.full((N,), 4.0), early)
    weighting.update(torch.ones(N), torch.full((N,), 2.0), ALL)
    weighting.update(torch.ones(N), torch.full((N,), 1.0), ALL)
    assert weighting.first_loss.tolist() == [4.0, 4.0, 4.0, 4.0, 2.0]


def test_survives_a_task_that_is_always_right_and_one_alone():
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


def test_goes_on_from_its_state():
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
