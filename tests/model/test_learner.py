"""The optimisation step: the same on any number of ranks, masked, watched, resumable."""

import json
import math
import threading
from typing import Any

import pytest
import torch

from model.alignment import AlignmentLoss
from model.batch import ClipBatch, ClipTargets
from model.evaluator import build_evaluator
from model.evaluator_config import EvaluatorConfig
from model.learner import Learner, StepResult, choose_precision
from model.loss_config import LossConfig, WeightingConfig
from model.ranks import Ranks
from model.tasks import TASKS
from model.training_config import TrainingConfig
from model.weighting import build_weighting
from tests.model.learning import SMALL, WIDTHS, as_ranks, clips, part

ALONE = Ranks()
DRAWING = threading.Lock()  # ranks that are threads share torch's generator
UNCOUPLED = LossConfig.model_validate({"consistency": {"mode": "std", "weight": 0.1}})
EVERYTHING = LossConfig.model_validate(
    {
        "label_smoothing": 0.1,
        "consistency": {"mode": "corr", "weight": 0.1},
        "ranking": {"weight": 0.2},
        "alignment": {"weight": 0.1, "width": 8, "shift": 2},
    }
)


def learner(
    ranks: Ranks = ALONE,
    *,
    loss: LossConfig = UNCOUPLED,
    weighting: str = "fixed",
    evaluator: EvaluatorConfig = SMALL,
    **training: Any,
) -> Learner:
    with DRAWING:
        torch.manual_seed(1 + ranks.rank)  # ranks start apart: rank 0's weights must be shared
        align = AlignmentLoss(evaluator.width, loss.alignment) if loss.alignment.weight else None
        network = build_evaluator(evaluator, WIDTHS)
    config = TrainingConfig.model_validate({"learning_rate": 3e-3, **training})
    return Learner(
        network,
        build_weighting(WeightingConfig.model_validate({"kind": weighting})),
        align,
        loss=loss,
        config=config,
        total_steps=40,
        means=torch.full((len(TASKS),), 3.0),
        ranks=ranks,
    )


def steps(count: int = 20, missing: float = 0.3) -> list[tuple[ClipBatch, ClipTargets]]:
    made = []
    for step in range(count):
        batch, targets = clips(16, seed=step, missing=missing)
        # The second half has far fewer labels than the first, one task none at all.
        valid = targets.valid.clone()
        valid[8:, 0] = False
        valid[9:, 1] = False
        if step % 3 == 0:
            valid[:, 4] = False
        made.append((batch, ClipTargets(targets.values, valid, targets.weight, targets.group)))
    return made


def curve(results: list[StepResult]) -> torch.Tensor:
    return torch.stack([torch.cat([r.losses, torch.tensor([r.total])]) for r in results])


@pytest.mark.parametrize("weighting", ["fixed", "learned", "uncertainty", "gradnorm"])
def test_ranks_and_accumulation_take_the_same_steps(weighting: str) -> None:
    data = steps()

    def one_piece(ranks: Ranks) -> list[StepResult]:
        student = learner(ranks, weighting=weighting)
        return [student.step([item]) for item in data]

    def two_pieces(ranks: Ranks) -> list[StepResult]:
        student = learner(ranks, weighting=weighting)
        halves = (slice(0, 8), slice(8, 16))
        return [student.step([part(*item, rows) for rows in halves]) for item in data]

    def own_half(ranks: Ranks) -> list[StepResult]:
        student = learner(ranks, weighting=weighting)
        rows = slice(8 * ranks.rank, 8 * ranks.rank + 8)
        return [student.step([part(*item, rows)], offset=8 * ranks.rank, size=16) for item in data]

    whole = curve(one_piece(ALONE))
    accumulated = curve(two_pieces(ALONE))
    first, second = as_ranks(2, own_half)
    assert whole[0, :4].isfinite().all()
    assert whole[0, 4].isnan()  # undefined, not 0
    still = learner(learning_rate=1e-9, head_learning_rate=1e-9, weighting=weighting)
    unmoved = curve([still.step([item]) for item in data])
    assert (unmoved - whole)[-5:, :4].abs().max() > 0.05  # the steps above did something
    for other in (accumulated, curve(first), curve(second)):
        torch.testing.assert_close(other, whole, atol=1e-4, rtol=0, equal_nan=True)


def test_averaging_over_ranks_would_not_do() -> None:
    """The labels above are uneven enough for a mean of means to differ: the test can fail."""
    batch, targets = steps(1)[0]
    halves = [part(batch, targets, rows) for rows in (slice(0, 8), slice(8, 16))]
    whole = learner().step([(batch, targets)]).losses
    means = torch.stack([learner().step([half]).losses for half in halves]).nanmean(0)
    assert (whole - means).abs()[:4].max() > 1e-2


def test_a_rank_without_clips_takes_part() -> None:
    data = steps(4)

    def work(ranks: Ranks) -> list[StepResult]:
        student = learner(ranks)
        own = [[item] if ranks.rank == 0 else [] for item in data]
        return [student.step(micros, size=16) for micros in own]

    alone = curve(work(ALONE))
    for other in as_ranks(2, work):
        torch.testing.assert_close(curve(other), alone, atol=1e-5, rtol=0, equal_nan=True)


def test_a_step_without_any_label_changes_nothing() -> None:
    batch, targets = clips(4)
    none = ClipTargets(
        targets.values, torch.zeros_like(targets.valid), targets.weight, targets.group
    )
    loss = LossConfig.model_validate({"consistency": {"weight": 0}})
    student = learner(loss=loss)
    before = {k: v.clone() for k, v in student.evaluator.state_dict().items()}
    result = student.step([(batch, none)])
    assert result.losses.isnan().all()
    assert all(torch.equal(v, before[k]) for k, v in student.evaluator.state_dict().items())


def test_missing_labels_leave_the_head_alone() -> None:
    batch, targets = clips(8, missing=0)
    valid = targets.valid.clone()
    valid[:, TASKS.index("expression")] = False
    student = learner(
        weight_decay=0.0, loss=LossConfig.model_validate({"consistency": {"weight": 0}})
    )
    student.step([(batch, ClipTargets(targets.values, valid, targets.weight, targets.group))])
    grads = {
        task: [p.grad for p in student.evaluator.head_parameters(task) if p.grad is not None]
        for task in TASKS
    }
    assert all(float(g.abs().max()) == 0 for g in grads["expression"])
    assert any(float(g.abs().max()) > 0 for g in grads["overall"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("weighting", ["uncertainty", "gradnorm"])
def test_a_restored_learner_goes_on_as_if_nothing_had_happened(
    weighting: str, precision: str
) -> None:
    busy = SMALL.model_copy(update={"dropout": 0.2, "modality_dropout": 0.2})
    data = steps(12)

    def fresh() -> Learner:
        return learner(
            loss=EVERYTHING, weighting=weighting, evaluator=busy, ema=0.9, precision=precision
        )

    undisturbed = fresh()
    expected = [undisturbed.step([item]) for item in data]
    first = fresh()
    for item in data[:5]:
        first.step([item])
    tensors, values = first.state()
    second = fresh()
    second.restore(tensors, json.loads(json.dumps(values)))
    torch.manual_seed(999)  # whatever the new process has drawn meanwhile
    got = [second.step([item]) for item in data[5:]]
    assert torch.equal(curve(got).nan_to_num(), curve(expected[5:]).nan_to_num())
    assert [r.coupled for r in got] == [r.coupled for r in expected[5:]]
    for name, value in undisturbed.judged_weights().items():
        assert torch.equal(value, second.judged_weights()[name]), name


def test_everything_switched_on_learns() -> None:
    batch, targets = clips(32, missing=0.2)
    rate = {"learning_rate": 1e-2, "head_learning_rate": 1e-2}
    student = learner(loss=EVERYTHING, weighting="uncertainty", clip_norm=1.0, **rate)
    results = [student.step([(batch, targets)]) for _ in range(40)]
    assert set(results[0].coupled) == {"consistency", "ranking", "alignment"}
    assert results[-1].losses.mean() < 0.6 * results[0].losses.mean()


def test_uncertainty_finds_the_noise_with_the_default_rates() -> None:
    """Through the whole step, schedule included: exp(s / 2) is the deviation of the labels."""
    noise = torch.tensor([0.1, 0.6, 0.2, 0.45, 0.3])
    generator = torch.Generator().manual_seed(0)
    count, size, total = 800, 32, 800
    values = torch.randn(count, 1, 3, generator=generator)
    means = 3 + 0.5 * torch.tanh(values[:, 0, :1])
    labels = means + noise * torch.randn(count, 5, generator=generator)
    mask = torch.ones(count, 1, dtype=torch.bool)
    tiny = EvaluatorConfig(
        width=8, layers=1, heads=1, feedforward=8, dropout=0.0, streams=("action_units",)
    )
    torch.manual_seed(0)
    student = Learner(
        build_evaluator(tiny, WIDTHS),
        build_weighting(WeightingConfig.model_validate({"kind": "uncertainty"})),
        None,
        loss=LossConfig.model_validate({"l1": 0, "consistency": {"weight": 0}}),
        config=TrainingConfig(learning_rate=3e-3, head_learning_rate=3e-3),
        total_steps=total,
        means=torch.full((5,), 3.0),
    )
    for _ in range(total):
        i = torch.randint(count, (size,), generator=generator)
        targets = ClipTargets(
            labels[i], torch.ones(size, 5, dtype=torch.bool), torch.ones(size, 5), i
        )
        batch = ClipBatch({"action_units": values[i]}, {"action_units": mask[i]}, mask[i])
        student.step([(batch, targets)])
    found = (1 / student.weighting.weights()).sqrt()
    assert found.argsort().tolist() == noise.argsort().tolist()
    torch.testing.assert_close(found, noise, rtol=0.2, atol=0)


def test_gradients_that_are_never_finite_are_no_overflow() -> None:
    batch, targets = clips(8, missing=0)
    student = learner(
        precision="fp16", loss=LossConfig.model_validate({"consistency": {"weight": 0}})
    )
    student.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    first = student.evaluator.trunk_parameters()[0]
    first.register_hook(lambda grad: grad * torch.nan)
    results = [student.step([(batch, targets)]) for _ in range(3)]
    assert [r.overflow for r in results] == [True, False, False]  # the scale is 2, 1, 0.5
    assert student.not_finite == 2
    assert results[1].culprits == tuple(range(8))


def test_a_state_of_another_number_format_is_refused() -> None:
    tensors, values = learner(precision="bf16").state()
    with pytest.raises(ValueError, match="began in bf16"):
        learner(precision="fp32").restore(tensors, values)


def test_fp16_scales_its_loss_and_skips_an_overflow() -> None:
    batch, targets = clips(8, missing=0)
    student = learner(precision="fp16")
    student.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # beyond what fp16 holds
    before = {k: v.clone() for k, v in student.evaluator.state_dict().items()}
    result = student.step([(batch, targets)])
    assert (result.taken, result.overflow, result.culprits) == (False, True, ())
    assert all(torch.equal(v, before[k]) for k, v in student.evaluator.state_dict().items())
    assert student.scaler.get_scale() == 2.0**126
    student.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    assert student.step([(batch, targets)]).taken


def test_the_clip_behind_a_nan_is_named_and_the_step_left_out() -> None:
    batch, targets = clips(8, missing=0)
    batch.streams["visual"][5, 0, 0] = math.nan  # a real frame
    student = learner()
    before = {k: v.clone() for k, v in student.evaluator.state_dict().items()}
    halves = [part(batch, targets, rows) for rows in (slice(0, 4), slice(4, 8))]
    result = student.step(halves)
    assert (result.taken, result.overflow, result.culprits) == (False, False, (5,))
    assert student.not_finite == 1
    assert all(torch.equal(v, before[k]) for k, v in student.evaluator.state_dict().items())

    def work(ranks: Ranks) -> StepResult:
        return learner(ranks).step([halves[ranks.rank]], offset=4 * ranks.rank, size=8)

    assert [r.culprits for r in as_ranks(2, work)] == [(5,), (5,)]


def test_an_exploding_gradient_is_reported_and_clipped() -> None:
    student = learner(explosion_factor=5.0, clip_norm=0.5)
    batch, targets = clips(8, missing=0)
    assert not any(student.step([(batch, targets)]).explosion for _ in range(25))
    huge = ClipTargets(targets.values * 1e4, targets.valid, targets.weight, targets.group)
    before = torch.cat([p.detach().flatten().clone() for p in student.evaluator.parameters()])
    result = student.step([(batch, huge)])
    assert result.explosion
    assert result.grad_norm > 0.5
    norm = torch.cat([p.grad.flatten() for p in student.evaluator.parameters()]).norm()  # type: ignore[union-attr]
    assert float(norm) == pytest.approx(0.5, rel=1e-4)
    after = torch.cat([p.detach().flatten() for p in student.evaluator.parameters()])
    assert float((after - before).abs().max()) < 0.02  # Adam's step is bounded by the rate


def test_every_part_has_its_own_learning_rate() -> None:
    student = learner(
        learning_rate=1e-3,
        head_learning_rate=2e-3,
        head_learning_rates={"overall": 5e-3},
        schedule={"warmup_steps": 4, "floor": 0.0},
    )
    result = student.step([clips(4)])
    factor = 1 / 5  # the first of four steps of warm-up
    assert result.learning_rates["trunk"] == pytest.approx(1e-3 * factor)
    assert result.learning_rates["overall"] == pytest.approx(5e-3 * factor)
    assert result.learning_rates["expression"] == pytest.approx(2e-3 * factor)
    parts = {id(p): g for g in student.optimizer.param_groups for p in g["params"]}
    assert {id(p) for p in student.evaluator.parameters()} <= set(parts)
    for parameter in student.evaluator.parameters():
        group = parts[id(parameter)]
        assert (group["weight_decay"] > 0) == (parameter.ndim >= 2)


def test_the_moving_average_is_what_is_judged() -> None:
    batch, targets = clips(8, missing=0)
    student = learner(ema=0.5)
    average = {k: v.clone() for k, v in student.evaluator.state_dict().items()}
    for update in range(1, 4):
        student.step([(batch, targets)])
        decay = min(0.5, (1 + update) / (10 + update))
        for name, value in student.evaluator.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value
    for name, value in student.judged_weights().items():
        torch.testing.assert_close(value, average[name])
    judged = student.predict(batch).scores
    student.adopt(average)
    torch.testing.assert_close(student.predict(batch).scores, judged)


def test_auto_precision_is_single_on_a_cpu() -> None:
    assert choose_precision("auto", torch.device("cpu")) == "fp32"
    assert choose_precision("bf16", torch.device("cpu")) == "bf16"
