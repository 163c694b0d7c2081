"""Intervals: coverage on simulated data, and what grouping must and must not change."""

import numpy as np
import pytest

from model.bootstrap import MIN_GROUPS, number_groups, percentile_interval, resample_groups
from model.metrics import METRICS, Pairs, measure
from model.metrics_config import EvaluationConfig

QUICK = EvaluationConfig(rounds=300)


def related(n: int, seed: int, r: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, n))
    return 3 + x, 3 + r * x + np.sqrt(1 - r * r) * noise


def test_a_resample_draws_whole_groups_and_as_many_as_there_are() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2, 3])
    weights = np.concatenate(list(resample_groups(groups, 500, seed=3)))
    assert weights.shape == (500, 7)
    first = [0, 2, 3, 6]  # a row of each group
    np.testing.assert_array_equal(weights, weights[:, first][:, groups])
    np.testing.assert_array_equal(weights[:, first].sum(1), 4)
    # Each count is binomial(4, 1/4): mean 1, variance 3/4.
    np.testing.assert_allclose(weights[:, first].mean(0), 1, atol=0.15)
    np.testing.assert_allclose(weights[:, first].var(0), 0.75, atol=0.2)


def test_the_draws_do_not_depend_on_blocks_and_do_depend_on_the_seed() -> None:
    groups = np.arange(9)
    whole = np.concatenate(list(resample_groups(groups, 50, seed=1)))
    pieces = list(resample_groups(groups, 50, seed=1, block=30))
    assert [len(piece) for piece in pieces] == [3] * 16 + [2]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))
    other = np.concatenate(list(resample_groups(groups, 50, seed=2)))
    assert (whole != other).any()


def test_the_interval_of_the_mean_error_covers_the_truth() -> None:
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(1, 5, 60) + 0.3, np.zeros(60)
        found = measure(Pairs.of(x, y), QUICK, ("bias",))["bias"]
        covered += found.low <= 3.3 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_interval_of_the_correlation_covers_the_truth() -> None:
    covered = 0
    for seed in range(300):
        found = measure(Pairs.of(*related(60, seed)), QUICK, ("plcc",))["plcc"]
        covered += found.low <= 0.6 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_grouped_interval_covers_where_the_naive_one_does_not() -> None:
    grouped = naive = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(30), 5)
        x = rng.normal(size=30)[groups] + 0.1 * rng.normal(size=150)  # a group is nearly one value
        zero = np.zeros(150)
        a = measure(Pairs.of(x, zero, groups), QUICK, ("bias",))["bias"]
        b = measure(Pairs.of(x, zero), QUICK, ("bias",))["bias"]
        grouped += a.low <= 0 <= a.high
        naive += b.low <= 0 <= b.high
        assert a.high - a.low > 1.5 * (b.high - b.low)
    assert grouped / 200 >= 0.88
    assert naive / 200 <= 0.75


def test_copies_inside_a_group_change_no_interval() -> None:
    x, y = related(40, 0)
    once = measure(Pairs.of(x, y, np.arange(40)), QUICK)
    copies = measure(Pairs.of(np.tile(x, 3), np.tile(y, 3), np.tile(np.arange(40), 3)), QUICK)
    # Kendall's tie correction and n - 1 in rmse* count pairs, so copies do count there.
    for name in METRICS.keys() - {"krcc", "rmse_star", "outlier_ratio"}:
        a, b = once[name], copies[name]
        close = 1e-4 if "mapped" in name else 1e-9
        assert [b.value, b.low, b.high] == pytest.approx([a.value, a.low, a.high], abs=close), name


def test_the_order_of_the_rows_changes_nothing() -> None:
    x, y = related(50, 0)
    names = [f"speaker {i // 5}" for i in range(50)]
    mixed = np.random.default_rng(0).permutation(50)
    a = measure(Pairs.of(x, y, number_groups(names)), QUICK)
    shuffled = number_groups([names[i] for i in mixed])
    b = measure(Pairs.of(x[mixed], y[mixed], shuffled), QUICK)
    for name, value in a.items():
        if value.value is not None:
            got = [b[name].value, b[name].low, b[name].high]
            expected = [value.value, value.low, value.high]
            # A fit of the mapping ends when it gains next to nothing, not at the last digit.
            assert got == pytest.approx(expected, abs=1e-4 if "mapped" in name else 1e-9), name


def test_a_wider_level_gives_a_wider_interval() -> None:
    x, y = related(50, 0)
    ends = {}
    for level in (0.8, 0.95):
        found = measure(Pairs.of(x, y), QUICK.model_copy(update={"level": level}), ("plcc",))
        ends[level] = (found["plcc"].low, found["plcc"].high)
    assert ends[0.95][0] < ends[0.8][0] < ends[0.8][1] < ends[0.95][1]


def test_percentiles_are_those_of_the_defined_resamples() -> None:
    values = np.concatenate([np.arange(101.0), np.full(100, np.nan)])
    found = percentile_interval(values, 0.9, groups=50)
    assert (found.low, found.high) == (pytest.approx(5), pytest.approx(95))
    assert (found.undefined, found.reason) == (100, None)
    found = percentile_interval(np.append(values, [np.nan, np.nan]), 0.9, groups=50)
    assert found.low is None
    assert found.undefined == 102
    assert found.reason == "no interval: undefined in more than half of the resamples"


def test_a_handful_of_groups_gives_no_interval() -> None:
    x, y = related(40, 0)
    few = measure(Pairs.of(x, y, np.arange(40) % (MIN_GROUPS - 1)), QUICK, ("plcc",))["plcc"]
    assert few.value is not None
    assert few.low is few.high is None
    assert few.reason == "no interval: fewer than 5 groups to resample"
    enough = measure(Pairs.of(x, y, np.arange(40) % MIN_GROUPS), QUICK, ("plcc",))["plcc"]
    assert enough.low is not None
    assert enough.reason is None


def test_without_rounds_there_is_no_interval_and_the_reason_says_so() -> None:
    found = measure(Pairs.of(*related(20, 0)), EvaluationConfig(rounds=0), ("plcc",))["plcc"]
    assert found.value is not None
    assert found.low is None
    assert found.reason == "no interval: no bootstrap resamples"
