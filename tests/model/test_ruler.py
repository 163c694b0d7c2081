"""The ruler on score tables whose answers are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from model.ruler import (
    Curves,
    Ratio,
    drops,
    pooled,
    rank_correlations,
    severity_correlation,
    steps,
    varies,
)
from model.ruler_bootstrap import estimates, selectivity
from model.ruler_config import RulerConfig
from model.ruler_detection import detection

GRID = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
QUICK = RulerConfig(rounds=200, permutations=999)


def curves(scores: np.ndarray, sources: np.ndarray | None = None, **more: object) -> Curves:
    names = np.arange(len(scores)) if sources is None else sources
    count = int(names.max()) + 1
    return Curves.of(GRID[: scores.shape[1]], scores, names, count, **more)


def perfect(n: int = 8) -> np.ndarray:
    return 4.5 - 3 * GRID + np.linspace(-0.3, 0.3, n)[:, None]


def test_a_perfect_evaluator_falls_at_every_step() -> None:
    found = curves(perfect())
    assert steps(found).falls.value == 1
    assert steps(found).ties.value == 0
    assert steps(found).falls.out_of.sum() == 8 * 5
    assert severity_correlation(found).value == 1
    assert drops(found).drop.value == pytest.approx(3)
    # 3 points over the severities .2 to 1: on average 3 x 0.6.
    assert drops(found).drop_all.value == pytest.approx(1.8)
    assert detection(found, QUICK).severity == 0.2


def test_an_evaluator_that_runs_against_severity_is_told_so() -> None:
    found = curves(-perfect())
    assert steps(found).falls.value == 0
    assert severity_correlation(found).value == -1
    assert drops(found).drop.value == pytest.approx(-3)
    assert drops(found).change.value == pytest.approx(3)
    assert detection(found, QUICK).severity is None


def test_a_constant_evaluator_only_ties() -> None:
    found = curves(np.full((8, 6), 3.0))
    assert steps(found).falls.value == 0
    assert steps(found).ties.value == 1
    assert severity_correlation(found).value == 0
    assert not varies(found)
    assert detection(found, QUICK).severity is None


def test_a_random_evaluator_falls_at_half_of_the_steps() -> None:
    scores = np.random.default_rng(0).normal(size=(2000, 6))
    found = curves(scores)
    assert steps(found).falls.value == pytest.approx(0.5, abs=0.02)
    assert severity_correlation(found).value == pytest.approx(0, abs=0.03)


def test_rounding_is_no_fall_and_a_tolerance_widens_ties() -> None:
    scores = perfect(4)
    noise = np.float64(np.float32(1e-7)) * np.arange(6)
    assert steps(curves(np.full((4, 6), 3.0) - noise)).falls.value == 0
    assert steps(curves(scores), 0.59).falls.value == 1
    assert steps(curves(scores), 0.61).falls.value == 0
    assert steps(curves(scores), 0.61).ties.value == 1


def test_a_step_leads_to_the_next_severity_that_the_corpus_has() -> None:
    scores = np.array([[5, 4, np.nan, 3, 3.5, np.nan]])
    # Nothing listed at .4: 0 -> .2 -> .6 -> .8, of which two fall; 1.0 is listed without a score.
    found = curves(scores, listed=np.array([[1, 1, 0, 1, 1, 1]], bool))
    counted = steps(found)
    assert counted.falls.found.sum() == 2
    assert counted.falls.out_of.sum() == 3
    assert counted.missing == 1
    assert found.missing == 1
    # Were it listed, both of its steps would be without judgement.
    assert steps(curves(scores, listed=np.ones((1, 6), bool))).falls.out_of.sum() == 2
    assert steps(curves(scores, listed=np.ones((1, 6), bool))).missing == 3


def test_no_step_leads_to_the_same_damage() -> None:
    scores = np.array([[5, 4, 4, 3, 3, 2.0]])
    same = np.array([0, 0, 1, 0, 0, 0], bool)
    assert steps(curves(scores)).falls.value == 3 / 5
    assert steps(curves(scores, same=same)).falls.value == 3 / 4


def test_without_the_clean_score_there_is_no_drop_and_no_correlation() -> None:
    scores = perfect(2)
    scores[0, 0] = np.nan
    found = curves(scores)
    assert severity_correlation(found).sources == 1
    assert drops(found).drop.sources == 1
    assert steps(curves(scores, listed=np.ones((2, 6), bool))).missing == 1


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_correlation_is_scipys(missing: float) -> None:
    rng = np.random.default_rng(1)
    scores = np.round(rng.normal(size=(60, 6)) - GRID, 1)  # with ties
    scores[:, 1:][rng.random((60, 5)) < missing] = np.nan
    found = rank_correlations(curves(scores))
    for row, rho in zip(scores, found, strict=True):
        known = ~np.isnan(row)
        if known.sum() < 3:
            assert np.isnan(rho)
        elif np.ptp(row[known]) == 0:
            assert rho == 0
        else:
            assert rho == pytest.approx(spearmanr(GRID[known], -row[known]).statistic)


def test_the_drop_is_that_of_the_highest_severity_of_each_curve() -> None:
    scores = np.array([[5, 4, np.nan], [5, np.nan, 2.0], [5, 4, np.nan]])
    listed = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)
    found = drops(curves(scores, listed=listed))
    # The third has no score at its highest severity and takes no part.
    assert found.drop.value == pytest.approx((1 + 3) / 2)
    assert found.drop_all.value == pytest.approx((1 + 3 + 1) / 3)


def test_absolute_changes_do_not_cancel() -> None:
    found = drops(curves(np.array([[3.0, 4.0], [3.0, 2.0]])))
    assert found.drop.value == 0
    assert found.change.value == 1


def test_curves_of_one_source_are_added_up() -> None:
    scores = np.array([[3.0, 2.0], [3.0, 4.0], [3.0, 1.0]])
    found = curves(scores, np.array([0, 0, 1]))
    falls = steps(found).falls
    np.testing.assert_array_equal(falls.found, [1, 1])
    np.testing.assert_array_equal(falls.out_of, [2, 1])
    both = pooled([falls, falls], 2)
    assert both.value == falls.value
    assert pooled([], 2).value != pooled([], 2).value  # undefined


def test_wrong_shapes_and_severities_are_refused() -> None:
    good, name = np.zeros((1, 3)), np.array([0])
    with pytest.raises(ValueError, match="rise from 0"):
        Curves.of(np.array([0.2, 0.4, 0.6]), good, name, 1)
    with pytest.raises(ValueError, match="rise from 0"):
        Curves.of(np.array([0, 0.4, 0.4]), good, name, 1)
    with pytest.raises(ValueError, match="severities"):
        Curves.of(np.array([0, 0.4]), good, name, 1)
    with pytest.raises(ValueError, match="infinite"):
        Curves.of(np.array([0, 0.4, 0.5]), good + np.inf, name, 1)


def test_a_planted_selectivity_is_found() -> None:
    rng = np.random.default_rng(2)
    harmed = drops(curves(5 - 3 * GRID + rng.normal(size=(40, 1)))).drop
    # Unharmed: half go up by 1, half go down: no mean drop, but a change of 1.
    sign = np.where(np.arange(40) % 2, 1.0, -1.0)[:, None]
    change = drops(curves(4 + sign * GRID)).change
    falls, stays = estimates([harmed, change], QUICK)
    told = selectivity(falls, stays, QUICK).told(0.95)
    assert told.value == pytest.approx(3)
    assert told.low == pytest.approx(3)
    assert told.high == pytest.approx(3)


def test_selectivity_without_a_denominator_is_limited_and_says_so() -> None:
    drop, none = Ratio(np.full(6, 2.0), np.ones(6)), Ratio(np.zeros(6), np.ones(6))
    nothing = Ratio(np.zeros(6), np.zeros(6))
    a, b, c = estimates([drop, none, nothing], QUICK)
    told = selectivity(a, b, QUICK).told(0.95)
    assert (told.value, told.low, told.high) == (100, 100, 100)
    assert "limited to 100" in told.reason
    assert selectivity(b, b, QUICK).told(0.95).reason == "neither harmed nor unharmed scores change"
    assert selectivity(a, c, QUICK).told(0.95).reason == "no unharmed score"
    assert selectivity(c, a, QUICK).told(0.95).reason == "no harmed score"
    rising = selectivity(estimates([Ratio(-drop.found, drop.out_of)], QUICK)[0], b, QUICK)
    assert rising.value == -100


def test_the_interval_of_the_rate_covers_the_truth() -> None:
    truth, covered = 0.8, 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        # A source's steps hang together: its own rate is drawn around the truth.
        rate = rng.beta(8, 2, size=(40, 1))
        falls = (rng.random((40, 5)) < rate).sum(1).astype(float)
        told = estimates([Ratio(falls, np.full(40, 5.0))], QUICK)[0].told(0.95)
        covered += told.low <= truth <= told.high
    assert 0.88 <= covered / 150 <= 0.99


def test_few_sources_have_no_interval_and_blocks_change_nothing() -> None:
    four = estimates([Ratio(np.ones(4), np.ones(4))], QUICK)[0].told(0.95)
    assert four.value == 1
    assert four.low is None
    assert "fewer than 5" in four.reason
    rng = np.random.default_rng(3)
    ratios = [Ratio(rng.random(9), np.ones(9)) for _ in range(3)]
    alone = [estimates([r], QUICK)[0].draws for r in ratios]
    np.testing.assert_allclose([e.draws for e in estimates(ratios, QUICK)], alone)
    assert estimates([], QUICK) == []
    assert estimates(ratios, RulerConfig(rounds=0))[0].told(0.95).low is None


def test_a_resample_without_the_sources_of_a_figure_leaves_it_undefined() -> None:
    alone = np.eye(6)[0]
    found = estimates([Ratio(alone, alone)], QUICK)[0]
    # The one source is missed with probability (5/6)^6 = 0.33, and else the ratio is 1.
    assert np.isnan(found.draws).mean() == pytest.approx(0.33, abs=0.12)
    assert (found.draws[~np.isnan(found.draws)] == 1).all()


def noisy(effect: np.ndarray, n: int, seed: int) -> Curves:
    """Scores whose differences from clean are ``effect`` plus noise of deviation 1."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(3, 1, (n, 1))
    return curves(np.hstack([clean, clean - effect + rng.normal(size=(n, len(effect)))]))


def test_what_is_not_there_is_detected_as_seldom_as_promised() -> None:
    # The slightest two severities do nothing: the rest is seen.
    effect = np.array([0, 0, 1, 2, 3.0])
    false = sum(detection(noisy(effect, 30, s), QUICK).severity <= 0.4 for s in range(150))
    assert false / 150 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    nothing = [detection(noisy(np.zeros(5), 12, s), QUICK).severity for s in range(150)]
    share = sum(found is not None for found in nothing) / 150
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_the_smallest_severity_and_its_interval() -> None:
    found = detection(noisy(np.array([0, 0.1, 1, 2, 3.0]), 40, 0), QUICK)
    assert found.severity in (0.4, 0.6)
    assert found.low <= found.severity <= found.high
    assert found.p[-1] == pytest.approx(1 / 1000)  # the least that 999 flips can give
    assert found.n == (40,) * 5
    assert found.reason is None


def test_detection_says_why_it_has_nothing() -> None:
    scores = perfect(4)
    few = detection(curves(scores), QUICK)
    assert few.severity is None
    assert "too few sources (4)" in few.reason
    scores = perfect(8)
    scores[:, 5] = scores[:, 0]
    odd = detection(curves(scores), QUICK)
    assert odd.severity is None
    assert odd.reason == "not at the highest severity, although below it"
    scores[:, 5] = np.nan
    none = detection(curves(scores, listed=np.ones_like(scores, bool)), QUICK)
    assert none.reason == "nothing to compare at the highest severity"
    faint = detection(noisy(np.array([0, 0, 0, 0, 0.35]), 30, 5), QUICK)
    assert faint.high is None
    assert "resamples" in faint.reason


def test_several_curves_of_a_source_count_once_in_the_test() -> None:
    scores = np.repeat(perfect(5), 10, axis=0)
    found = detection(curves(scores, np.repeat(np.arange(5), 10)), QUICK)
    assert found.n == (5,) * 5
    assert found.p[-1] == 1 / 2**5
