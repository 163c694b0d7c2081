"""Permutation tests, intervals and Holm's correction against SciPy, enumeration and simulation."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from model.bootstrap import MIN_GROUPS
from model.paired import (
    MAX_CLUSTERS,
    Alternative,
    holm,
    mean_interval,
    paired_test,
    smallest_p,
)
from model.unpaired import difference_interval, unpaired_test

ALTERNATIVES: tuple[Alternative, ...] = ("two-sided", "less", "greater")


def binomial_bounds(n: int, rate: float) -> tuple[float, float]:
    """Where a rate seen in n trials lies in all but one of 1,000 cases."""
    low, high = stats.binom.interval(0.999, n, rate)
    return low / n, high / n


# --- the paired test


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize(("n", "delta"), [(2, 0.0), (5, 0.3), (11, -0.2)])
def test_enumeration_agrees_with_scipy(alternative: Alternative, n: int, delta: float) -> None:
    d = np.random.default_rng(n).normal(0.3, 1, n)
    ours = paired_test(d, delta=delta, alternative=alternative)
    theirs = stats.permutation_test(
        (d - delta,),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        alternative=alternative,
        n_resamples=10_000,
    )
    assert ours.method == "exact"
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-12)
    assert ours.difference == pytest.approx(d.mean())


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_of_signed_ranks_it_is_wilcoxons_test(alternative: Alternative) -> None:
    signs = np.random.default_rng(3).choice([-1, 1], 12, p=[0.3, 0.7])
    d = signs * np.arange(1, 13)
    expected = stats.wilcoxon(d, alternative=alternative, method="exact").pvalue
    assert paired_test(d, alternative=alternative).p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_with_many_normal_pairs_it_is_the_paired_t_test(shift: float) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(0, 1, 300)
    b = a + rng.normal(shift, 1, 300)
    test = paired_test(b - a)
    assert test.method == "monte carlo"
    assert test.p == pytest.approx(stats.ttest_rel(b, a).pvalue, abs=0.015)


def test_clusters_are_flipped_together() -> None:
    rng = np.random.default_rng(5)
    clusters = np.array(["c", "a", "b", "a", "d", "e", "c", "a", "e"])
    d = rng.normal(0.4, 1, len(clusters))
    names = np.unique(clusters)
    means = [
        abs((d * np.array([dict(zip(names, s, strict=True))[c] for c in clusters])).mean())
        for s in product([-1, 1], repeat=len(names))
    ]
    expected = np.mean(np.array(means) >= abs(d.mean()) - 1e-12)
    test = paired_test(d, clusters)
    assert (test.n, test.clusters, test.least_p) == (9, 5, 2 / 2**5)
    assert test.p == pytest.approx(expected)
    order = rng.permutation(len(d))
    assert paired_test(d[order], clusters[order]).p == test.p


def test_drawn_flips_estimate_the_enumerated_p() -> None:
    d = np.random.default_rng(7).normal(0.5, 1, 16)
    exact = paired_test(d, permutations=2**16).p
    drawn = paired_test(d, permutations=9_999, seed=4)
    assert exact is not None
    assert drawn.method == "monte carlo"
    assert drawn.p == pytest.approx(exact, abs=4 * np.sqrt(exact / 9_999))
    assert drawn.p == paired_test(d, permutations=9_999, seed=4).p
    assert len({paired_test(d, permutations=9_999, seed=seed).p for seed in range(5)}) > 1


def test_drawn_p_is_never_zero() -> None:
    test = paired_test(np.arange(1.0, 41.0), permutations=999)
    assert test.p == test.least_p == 1 / 1000


def test_rounding_of_float32_makes_no_difference() -> None:
    """Equal scores in float32 must tie in every flip, and noise below it is no difference."""
    exact = np.array([0.1, 0.1, 0.2, -0.3, 0.1, 0.2])
    rounded = (np.float32(3.3) + exact.astype(np.float32)) - np.float32(3.3)
    assert paired_test(rounded).p == paired_test(exact).p
    noise = paired_test(np.full(20, 1e-7))
    assert (noise.p, noise.reason) == (1.0, "every difference is 0")


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize(
    ("d", "clusters", "p", "reason"),
    [
        ([], None, None, "nothing to compare"),
        ([0.7], None, 1.0, "one cluster: there is nothing to flip"),
        ([0.7, 0.9], ["a", "a"], 1.0, "one cluster: there is nothing to flip"),
        ([0.0, 0.0, 0.0], None, 1.0, "every difference is 0"),
    ],
)
def test_what_cannot_be_tested_says_why(
    d: list[float], clusters: list[str] | None, p: float | None, reason: str, alternative: Any
) -> None:
    test = paired_test(d, clusters, alternative=alternative)
    assert (test.p, test.reason) == (p, reason)


def test_equal_differences_that_are_not_delta_are_tested() -> None:
    assert paired_test([0.5] * 6).p == 2 / 2**6
    assert paired_test([0.5] * 6, delta=0.5).p == 1


def test_missing_values_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        paired_test([0.1, np.nan])
    with pytest.raises(ValueError, match="2 values have 1 clusters"):
        paired_test([0.1, 0.2], ["a"])


def clustered(
    rng: np.random.Generator, clusters: int, each: int, mean: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Differences of videos of speakers: what a speaker adds is as large as the rest."""
    speaker = np.repeat(np.arange(clusters), each)
    return mean + rng.normal(0, 1, clusters)[speaker] + rng.normal(0, 1, len(speaker)), speaker


def test_false_alarms_are_at_the_nominal_level() -> None:
    rng = np.random.default_rng(11)
    alarms = {"enumerated": 0, "drawn": 0, "one-sided": 0, "better": 0, "clusters ignored": 0}
    for night in range(1000):
        d, speaker = clustered(rng, 12, 4)
        alarms["enumerated"] += paired_test(d, speaker, permutations=4095).p <= 0.05
        alarms["drawn"] += paired_test(d, speaker, permutations=499, seed=night).p <= 0.05
        less: dict[str, Any] = {"alternative": "less", "permutations": 499, "seed": night}
        alarms["one-sided"] += paired_test(d - 0.2, speaker, delta=-0.2, **less).p <= 0.05
        alarms["better"] += paired_test(d + 0.5, speaker, **less).p <= 0.05
        alarms["clusters ignored"] += paired_test(d, permutations=499, seed=night).p <= 0.05
    low, high = binomial_bounds(1000, 0.05)
    for name in ("enumerated", "drawn", "one-sided"):
        assert low <= alarms[name] / 1000 <= high, (name, alarms)
    assert alarms["better"] / 1000 < low
    assert alarms["clusters ignored"] / 1000 > 2 * high, "or these data do not need clusters"


def test_skewed_differences_keep_the_level_with_many_clusters() -> None:
    rng = np.random.default_rng(12)
    d = rng.lognormal(0, 0.7, (1000, 100)) - np.exp(0.7**2 / 2)
    rate = np.mean(
        [paired_test(row, permutations=499, seed=i).p <= 0.05 for i, row in enumerate(d)]
    )
    low, high = binomial_bounds(1000, 0.05)
    assert low <= rate <= high + 0.02


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(13)
    found = [
        paired_test(*clustered(rng, 30, 4, mean=-0.9), alternative="less", permutations=999).p
        for _ in range(100)
    ]
    assert np.mean(np.array(found) <= 0.05) > 0.95


def test_more_clusters_than_are_flipped_are_merged() -> None:
    rng = np.random.default_rng(14)
    d = rng.normal(0.015, 1, 3 * MAX_CLUSTERS + 17)
    test = paired_test(d)
    assert (test.n, test.clusters) == (len(d), len(d))
    assert test.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.05)
    interval = mean_interval(d, rounds=500)
    half = 1.96 * d.std() / np.sqrt(len(d))
    assert (interval.low, interval.high) == pytest.approx(
        (d.mean() - half, d.mean() + half), abs=0.15 * half
    )


# --- intervals


def test_the_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(15).lognormal(0, 0.5, 60)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = mean_interval(values, rounds=20_000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_the_interval_covers_when_clusters_are_known() -> None:
    rng = np.random.default_rng(16)
    hits, blind = 0, 0
    for _ in range(600):
        d, speaker = clustered(rng, 40, 5, mean=0.3)
        with_clusters = mean_interval(d, speaker, rounds=300)
        without = mean_interval(d, rounds=300)
        assert with_clusters.low is not None
        assert with_clusters.high is not None
        assert without.low is not None
        assert without.high is not None
        hits += with_clusters.low <= 0.3 <= with_clusters.high
        blind += without.low <= 0.3 <= without.high
    assert 0.91 <= hits / 600 <= 0.98
    assert blind / 600 < 0.85


def test_few_clusters_have_no_interval() -> None:
    d = np.arange(20.0)
    four = mean_interval(d, np.arange(20) % (MIN_GROUPS - 1))
    assert (four.low, four.high) == (None, None)
    assert four.reason == f"no interval: fewer than {MIN_GROUPS} groups to resample"
    assert mean_interval([]).reason == four.reason
    assert mean_interval(d, np.arange(20) % MIN_GROUPS).low is not None
    assert mean_interval(d, rounds=0).reason == "no interval: no bootstrap resamples"


def test_the_interval_of_a_difference_of_samples() -> None:
    rng = np.random.default_rng(17)
    a, b = rng.normal(1, 1, 200), rng.normal(0, 2, 300)
    half = 1.96 * np.sqrt(a.var() / 200 + b.var() / 300)
    found = difference_interval(a, b, rounds=4000)
    expected = a.mean() - b.mean() - half, a.mean() - b.mean() + half
    assert (found.low, found.high) == pytest.approx(expected, abs=0.1 * half)
    assert difference_interval(a, b[:4]).low is None


# --- samples that share nothing


def test_the_unpaired_test_agrees_with_enumeration() -> None:
    rng = np.random.default_rng(18)
    a, b = rng.normal(0, 1, 6), rng.normal(1, 2, 7)
    expected = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.abs(stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic),
        permutation_type="independent",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    test = unpaired_test(a, b)
    assert test.difference == pytest.approx(a.mean() - b.mean())
    assert test.p == pytest.approx(expected, abs=4 * np.sqrt(expected / 9_999))


def test_the_unpaired_test_keeps_its_level_for_unequal_spreads() -> None:
    rng = np.random.default_rng(19)
    p = [
        unpaired_test(rng.normal(0, 3, 20), rng.normal(0, 1, 60), permutations=199, seed=i).p
        for i in range(1000)
    ]
    low, high = binomial_bounds(1000, 0.05)
    assert low <= np.mean(np.array(p) <= 0.05) <= high


def test_large_samples_use_welchs_test() -> None:
    rng = np.random.default_rng(20)
    a, b = rng.normal(0, 1, MAX_CLUSTERS), rng.normal(0.05, 2, 900)
    test = unpaired_test(a, b)
    assert test.method == "welch"
    assert test.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


@pytest.mark.parametrize(
    ("a", "b", "p", "reason"),
    [
        ([], [1.0], None, "nothing to compare"),
        ([1.0], [2.0], 1.0, "one value each: there is nothing to permute"),
        ([3.0, 3.0], [3.0], 1.0, "all values are equal"),
    ],
)
def test_samples_that_cannot_be_compared_say_why(
    a: list[float], b: list[float], p: float | None, reason: str
) -> None:
    test = unpaired_test(a, b)
    assert (test.p, test.reason) == (p, reason)


def test_constant_samples_that_differ_are_told_apart() -> None:
    p = unpaired_test([1.0] * 8, [2.0] * 8).p
    assert p is not None
    assert p < 0.01  # 2 of 12,870 divisions
    single = unpaired_test([9.0], list(np.random.default_rng(0).normal(0, 1, 50)), permutations=999)
    assert single.p == pytest.approx(1 / 51, abs=0.02)


# --- Holm


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.04, None, 0.03]) == [None, 0.06, None, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(21)
    for _ in range(100):
        p = (rng.random(rng.integers(1, 9)) ** 3).tolist()
        rejected = set[int]()
        for step, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (len(p) - step):
                break
            rejected.add(int(i))
        assert {i for i, q in enumerate(holm(p)) if q is not None and q <= 0.05} == rejected


def test_what_was_drawn_before_gives_the_same_p_values(monkeypatch: pytest.MonkeyPatch) -> None:
    from model import paired, unpaired

    rng = np.random.default_rng(30)
    a, b, d = rng.normal(0, 1, 30), rng.normal(0.5, 1, 41), rng.normal(0.2, 1, 25)

    def tests() -> list[object]:
        return [
            unpaired_test(a, b), unpaired_test(a, b, seed=1), unpaired_test(b, a),
            paired_test(d), paired_test(d, seed=1), paired_test(d[:17], permutations=999),
        ]  # fmt: skip

    kept = [tests(), tests()]
    assert unpaired._kept_samples.cache_info().hits
    assert paired._kept_flips.cache_info().hits
    monkeypatch.setattr(paired, "KEPT_BYTES", 0)
    monkeypatch.setattr(unpaired, "KEPT_BYTES", 0)
    assert kept == [tests(), tests()]


def test_the_smallest_p_is_what_the_most_extreme_data_give() -> None:
    for k in (2, 5, 9):
        d = np.ones(k)
        assert paired_test(d).p == smallest_p(k, 9_999)
        assert paired_test(d, alternative="greater").p == smallest_p(k, 9_999, "greater")
    assert paired_test(np.ones(40), permutations=99).p == smallest_p(40, 99) == 0.01
    # 3 and 3: the division that was seen and its exchange, of 20.
    test = unpaired_test([1.0, 1.1, 1.2], [3.0, 3.1, 3.2])
    assert test.least_p == 2 / 20
    assert test.p == pytest.approx(0.1, abs=0.012)
    assert unpaired_test([1.0, 1.1], [3.0, 3.1, 3.2]).least_p == 1 / 10
