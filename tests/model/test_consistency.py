import numpy as np
import pytest
import torch

from model.consistency import consistency_loss, correlation_gap, deviation_across_tasks


def some_scores(clips: int = 12, tasks: int = 5, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    common = torch.randn(clips, 1, generator=rng, dtype=torch.float64)
    own = torch.randn(clips, tasks, generator=rng, dtype=torch.float64)
    return (3 + 0.5 * common + 0.3 * own).requires_grad_()


def mean_pairwise_correlation(scores: np.ndarray) -> float:
    matrix = np.corrcoef(scores.T)
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


def test_std_is_the_sum_over_clips_of_the_deviation_across_tasks():
    scores = some_scores()
    expected = scores.detach().numpy().std(axis=1, ddof=1).sum()
    assert consistency_loss(scores, "std").item() == pytest.approx(expected, rel=1e-12)


def test_corr_is_one_minus_the_mean_correlation_of_two_tasks():
    scores = some_scores()
    expected = 1 - mean_pairwise_correlation(scores.detach().numpy())
    assert consistency_loss(scores, "corr").item() == pytest.approx(expected, rel=1e-12)


def test_cov_is_the_trace_of_the_batch_covariance():
    scores = some_scores()
    expected = np.trace(np.cov(scores.detach().numpy().T))
    assert consistency_loss(scores, "cov").item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", ["std", "corr", "cov"])
def test_gradcheck(mode):
    assert torch.autograd.gradcheck(lambda s: consistency_loss(s, mode), [some_scores(7)])


def test_std_has_a_gradient_of_zero_where_all_tasks_agree():
    scores = torch.tensor([[3.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]], requires_grad=True)
    deviation_across_tasks(scores).sum().backward()
    assert scores.grad is not None
    assert torch.equal(scores.grad[0], torch.zeros(5))
    assert scores.grad[1].abs().sum() > 0


def test_parts_of_a_batch_add_up_under_std():
    scores = some_scores()
    parts = consistency_loss(scores[:5], "std") + consistency_loss(scores[5:], "std")
    torch.testing.assert_close(parts, consistency_loss(scores, "std"), rtol=1e-12, atol=0)


def test_corr_leaves_out_tasks_without_variance():
    scores = some_scores().detach()
    scores[:, 0] = 4.763 + 1e-5 * scores[:, 0]  # spread far below LEAST_DEVIATION
    scores[:, 3] = 2.0
    scores.requires_grad_()
    value = correlation_gap(scores)
    value.backward()
    kept = scores.detach().numpy()[:, [1, 2, 4]]
    assert value.item() == pytest.approx(1 - mean_pairwise_correlation(kept), rel=1e-12)
    assert scores.grad is not None
    assert torch.equal(scores.grad[:, [0, 3]], torch.zeros(12, 2).double())
    assert (scores.grad[:, [1, 2, 4]] != 0).all()


@pytest.mark.parametrize("varying", [0, 1])
def test_corr_is_zero_without_gradient_when_fewer_than_two_tasks_vary(varying):
    scores = torch.full((6, 5), 3.0)
    scores[:, :varying] = torch.linspace(1, 5, 6)[:, None]
    scores.requires_grad_()
    value = consistency_loss(scores, "corr")
    value.backward()
    assert value == 0
    assert scores.grad is not None
    assert torch.equal(scores.grad, torch.zeros(6, 5))


@pytest.mark.parametrize(("mode", "clips"), [("corr", 2), ("corr", 1), ("cov", 1)])
def test_too_few_clips_give_zero_without_gradient(mode, clips):
    scores = some_scores(clips)
    value = consistency_loss(scores, mode)
    value.backward()
    assert value == 0
    assert scores.grad is not None
    assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_corr_spans_from_agreement_to_opposition():
    line = torch.linspace(1, 5, 9)
    assert correlation_gap(line[:, None].repeat(1, 5)).item() == pytest.approx(0, abs=1e-6)
    assert correlation_gap(torch.stack([line, 6 - line], 1)).item() == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("mode", ["std", "corr"])
def test_descent_makes_the_tasks_agree(mode):
    scores = some_scores().detach().requires_grad_()
    before = mean_pairwise_correlation(scores.detach().numpy())
    optimizer = torch.optim.SGD([scores], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        consistency_loss(scores, mode).backward()
        optimizer.step()
    assert mean_pairwise_correlation(scores.detach().numpy()) > (1 + before) / 2


def test_half_precision_scores_give_single_precision():
    scores = some_scores().detach().to(torch.bfloat16)
    for mode in ("std", "corr", "cov"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = consistency_loss(scores, mode)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, consistency_loss(scores.float(), mode), rtol=1e-6, atol=0)
