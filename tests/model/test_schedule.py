import itertools

import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LinearLR, SequentialLR

from model.schedule import ScheduleConfig, lr_factor


def torch_factors(
    warmup: int, first: int, multiplier: int, floor: float, steps: int
) -> list[float]:
    """The same course from torch's own schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cosine = CosineAnnealingWarmRestarts(optimizer, T_0=first, T_mult=multiplier, eta_min=floor)
    scheduler: torch.optim.lr_scheduler.LRScheduler = cosine
    if warmup:
        rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        scheduler = SequentialLR(optimizer, [rise, cosine], milestones=[warmup])
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.parametrize(
    ("warmup", "first", "multiplier", "restarts"),
    [(0, 40, 1, 0), (0, 10, 1, 3), (7, 11, 1, 2), (5, 10, 2, 2), (3, 7, 3, 3)],
)
@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_agrees_with_torch(warmup, first, multiplier, restarts, floor):
    total = warmup + first * sum(multiplier**i for i in range(restarts + 1))
    config = ScheduleConfig(
        warmup_steps=warmup, restarts=restarts, period_multiplier=multiplier, floor=floor
    )
    ours = [lr_factor(step, total, config) for step in range(total)]
    assert ours == pytest.approx(torch_factors(warmup, first, multiplier, floor, total), abs=1e-9)


@pytest.mark.parametrize("total", [1, 2, 3, 10, 97, 1000])
@pytest.mark.parametrize("restarts", [0, 1, 5])
@pytest.mark.parametrize("multiplier", [1.0, 1.7])
def test_stays_in_bounds_for_any_length(total, restarts, multiplier):
    config = ScheduleConfig(restarts=restarts, period_multiplier=multiplier, floor=0.02)
    factors = [lr_factor(step, total, config) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert all(factor >= 0.02 for factor in factors[config.warmup(total) :])
    assert lr_factor(total, total, config) == lr_factor(10 * total, total, config) == 0.02


def test_rises_linearly_up_to_the_full_rate():
    config = ScheduleConfig(warmup_share=0.1)
    factors = [lr_factor(step, 100, config) for step in range(12)]
    steps = [b - a for a, b in itertools.pairwise(factors[:11])]
    assert steps == pytest.approx([1 / 11] * 10)
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1.0
    assert factors[11] < 1.0


def test_restarts_as_often_as_asked_even_where_periods_are_no_whole_steps():
    config = ScheduleConfig(warmup_share=0.0, restarts=6, period_multiplier=1.3)
    factors = [lr_factor(step, 1001, config) for step in range(1001)]
    jumps = sum(b > a for a, b in itertools.pairwise(factors))
    assert jumps == 6


def test_steps_go_before_the_share():
    config = ScheduleConfig(warmup_share=0.5, warmup_steps=2)
    assert config.warmup(100) == 2
    assert lr_factor(2, 100, config) == 1.0


def test_a_warm_up_longer_than_the_run_only_rises():
    config = ScheduleConfig(warmup_steps=500)
    factors = [lr_factor(step, 10, config) for step in range(10)]
    assert factors == sorted(factors)


@pytest.mark.parametrize(("step", "total"), [(-1, 10), (0, 0)])
def test_impossible_steps_are_refused(step, total):
    with pytest.raises(ValueError, match="no such step"):
        lr_factor(step, total, ScheduleConfig())


def test_periods_that_explode_are_refused():
    with pytest.raises(ValidationError, match="million times"):
        ScheduleConfig(restarts=30, period_multiplier=2.0)


def test_a_restart_is_not_missed_by_rounding():
    # 42 steps in two periods of 15 and 27; in floating point the first ends just after 15.
    config = ScheduleConfig(warmup_steps=0, restarts=1, period_multiplier=1.8)
    assert 42 / (1 + 1.8) > 15
    assert lr_factor(15, 42, config) == 1.0
