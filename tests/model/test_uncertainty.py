"""Calibrated intervals: exact ranks, coverage over repeated splits, groups, silent videos."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from model.calibration import Calibration
from model.conformal import conformal_quantile, conformal_rank, coverage, least_count
from model.tasks import NEED_SOUND, TASKS
from model.uncertainty import Uncertainty

N = len(TASKS)
PICTURE = [i for i, task in enumerate(TASKS) if task not in NEED_SOUND]
SOUND = [i for i, task in enumerate(TASKS) if task in NEED_SOUND]


def uncertainty(residuals, groups=None, silent=None, silent_groups=None, min_group=20):
    """Of [V, N] residuals; those without sound are the same unless they are given."""
    if silent is None:
        silent = np.array(residuals)
        silent[:, SOUND] = np.nan
    calibration = Calibration.of(
        residuals,
        groups or [None] * len(residuals),
        silent,
        silent_groups or [None] * len(silent),
        min_group,
    )
    return Uncertainty(calibration, "not of interest")


def test_ranks_are_exact_whatever_the_level_is_as_a_float():
    for thousandths in range(1, 1000, 7):
        level = thousandths / 1000
        need = next(n for n in range(1, 2000) if thousandths * (n + 1) <= 1000 * n)
        assert least_count(level) == need
        for count in (1, 8, 9, 10, 19, 99, 100, 333, 999):
            # The least k with k / (n + 1) >= level, in whole numbers.
            wanted = -(-(count + 1) * thousandths // 1000)
            assert conformal_rank(count, level) == wanted
            found = conformal_quantile(np.arange(1.0, count + 1), level)
            assert found == (wanted if wanted <= count else math.inf)
    assert [least_count(level) for level in (0.8, 0.9, 0.95, 0.99)] == [4, 9, 19, 99]
    assert math.isnan(conformal_quantile(np.empty(0), 0.9))


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.5, math.nan])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        uncertainty(np.ones((30, N))).interval(np.ones((0, N)), [], np.zeros(0, bool), level)


def split_coverage(rng, calibrate, level, *, test=40, ties=False):
    """Coverage [N] of one random split of a problem with skewed errors that grow with the label."""
    labels = rng.uniform(1, 5, (calibrate + test, N))
    errors = 0.4 * labels / 3 * (rng.gamma(2, 1, labels.shape) - 1.5)
    scores = np.clip(labels + errors, 1, 5)
    if ties:
        labels = labels.round()
    own = uncertainty(np.abs(scores - labels)[:calibrate])
    low, high = own.interval(scores[calibrate:], [None] * test, np.zeros(test, bool), level)
    assert ((low >= 1) & (low <= high) & (high <= 5)).all()
    truth = labels[calibrate:]
    return ((low <= truth) & (truth <= high)).mean(axis=0)


@pytest.mark.parametrize("count", [9, 19, 49, 199])
def test_ninety_per_cent_are_covered_over_a_thousand_splits(count):
    rng = np.random.default_rng(count)
    shares = [split_coverage(rng, count, 0.9) for _ in range(1000)]
    np.testing.assert_allclose(np.mean(shares, axis=0), 0.9, atol=0.02)


@pytest.mark.parametrize(("count", "level"), [(12, 0.9), (25, 0.9), (30, 0.8), (60, 0.95)])
def test_coverage_of_any_number_of_videos_is_the_rank_s(count, level):
    rng = np.random.default_rng(count)
    shares = [split_coverage(rng, count, level) for _ in range(300)]
    wanted = math.ceil(round((count + 1) * level, 9)) / (count + 1)
    assert level <= wanted < level + 1 / (count + 1)
    np.testing.assert_allclose(np.mean(shares, axis=0), wanted, atol=0.015)


def test_labels_that_repeat_are_covered_at_least_as_often():
    rng = np.random.default_rng(3)
    shares = [split_coverage(rng, 49, 0.9, ties=True) for _ in range(300)]
    assert (np.mean(shares, axis=0) > 0.88).all()


def test_too_few_videos_give_the_whole_scale_and_it_is_said():
    residuals = np.full((9, N), 0.1)
    residuals[0, 4] = np.nan  # 8 labels of overall
    residuals[:, 1] = np.nan  # none of expression
    own = uncertainty(residuals)
    low, high = own.interval(np.full((1, N), 3.0), [None], np.array([False]), 0.9)
    np.testing.assert_allclose(low[0], [2.9, np.nan, 2.9, 2.9, 1.0])
    np.testing.assert_allclose(high[0], [3.1, np.nan, 3.1, 3.1, 5.0])
    said = "\n".join(own.notes(0.9))
    assert "overall: the intervals of videos with sound span the whole scale: 8 " in said
    assert "expression: the intervals of videos without sound are missing: 0 " in said
    assert "takes 9" in said
    assert "lip_sync" not in said
    assert sum("span the whole scale" in note for note in own.notes(0.95)) == 4 + 2
    low, high = own.interval(np.full((1, N), 3.0), [None], np.array([False]), 0.5)
    assert (high - low)[0, 4] == pytest.approx(0.2)


def test_no_score_no_interval_and_scores_off_the_scale_stay_on_it():
    own = uncertainty(np.full((20, N), 0.25))
    scores = np.array([[np.nan, 3, 0.5, 5.5, 4.9]])
    low, high = own.interval(scores.astype(np.float32), ["unknown"], np.array([False]))
    np.testing.assert_allclose(low[0], [np.nan, 2.75, 1.0, 5.0, 4.65], atol=1e-6)
    np.testing.assert_allclose(high[0], [np.nan, 3.25, 1.0, 5.0, 5.0], atol=1e-6)
    with pytest.raises(ValueError, match="2 groups"):
        own.interval(scores, ["a", "b"], np.array([False]))


def test_generators_that_differ_are_covered_each_only_with_intervals_of_their_own():
    rng = np.random.default_rng(0)
    covered = {True: [], False: []}
    for _ in range(400):
        names = np.repeat(["quiet", "noisy"], 60)
        spread = np.where(names == "noisy", 0.7, 0.2)[:, None]
        residuals = np.abs(spread * rng.standard_normal((120, N)))
        calibrated = np.tile([True, False], 60)
        own = uncertainty(residuals[calibrated], names[calibrated].tolist())
        truth = residuals[~calibrated]
        for grouped, shares in covered.items():
            groups = names[~calibrated].tolist() if grouped else [None] * 60
            _, high = own.interval(np.full((60, N), 3.0), groups, np.zeros(60, bool))
            hit = truth <= high - 3
            shares.append(hit.reshape(2, 30, N).mean(axis=(1, 2)))
    pooled, grouped = np.mean(covered[False], axis=0), np.mean(covered[True], axis=0)
    assert pooled[0] > 0.98
    assert pooled[1] < 0.85
    assert pooled.mean() == pytest.approx(0.9, abs=0.02)
    # 30 videos each: rank 28 of 31
    np.testing.assert_allclose(grouped, 28 / 31, atol=0.02)


def test_a_small_generator_gets_the_interval_of_all():
    rng = np.random.default_rng(1)
    residuals = rng.uniform(0, 0.3, (200, N))
    names = ["small"] * 19 + ["large"] * 60 + [None] * 121
    residuals[19:79] += 1
    own = uncertainty(residuals, names)

    def widths(group, level):
        low, high = own.interval(np.full((1, N), 3.0), [group], np.array([False]), level)
        return (high - low)[0]

    for group in ("small", "never seen", ""):
        np.testing.assert_array_equal(widths(group, 0.9), widths(None, 0.9))
    # By hand: rank 55 of the 60 residuals.
    np.testing.assert_allclose(widths("large", 0.9), 2 * np.sort(residuals[19:79], axis=0)[54])
    # 60 do not support 99 %, 200 do.
    np.testing.assert_array_equal(widths("large", 0.99), widths(None, 0.99))
    assert own.calibration.groups(0.9) == {"large": list(TASKS)}
    assert own.calibration.groups(0.99) == {}
    # A generator may have enough labels of one task only.
    residuals[19:60, 4] = np.nan
    assert uncertainty(residuals, names).calibration.groups(0.9) == {"large": list(TASKS[:4])}


def test_silent_videos_have_wider_intervals_never_narrower_ones():
    rng = np.random.default_rng(2)
    residuals = rng.uniform(0, 1, (100, N))
    silent = rng.uniform(0, 1, (100, N))
    silent[:, 1] += 0.6  # harder without sound
    silent[:, 3] *= 0.1  # as if it were easier
    silent[:, SOUND] = np.nan
    own = uncertainty(residuals, silent=silent)
    scores = np.full((2, N), 3.0)
    low, high = own.interval(scores, [None, None], np.array([False, True]))
    width = high - low
    assert width[1, 1] > width[0, 1] + 1
    np.testing.assert_allclose(width[1, 1], 2 * np.sort(silent[:, 1])[90])
    assert width[1, 3] == width[0, 3]
    assert (width[1, PICTURE] >= width[0, PICTURE]).all()
    assert np.isnan(width[1, SOUND]).all()
    assert not np.isnan(width[0]).any()


def test_a_silent_video_of_a_generator_is_no_surer_than_one_with_sound():
    rng = np.random.default_rng(4)
    residuals = rng.uniform(0, 0.2, (80, N))
    residuals[:40] += 1.0
    names = ["noisy"] * 40 + ["quiet"] * 40
    silent = rng.uniform(0, 0.2, (10, N))  # few, and of no generator
    own = uncertainty(residuals, names, silent=silent)
    low, high = own.interval(
        np.full((3, N), 3.0), ["noisy", "noisy", "quiet"], np.array([False, True, True])
    )
    width = (high - low)[:, PICTURE]
    np.testing.assert_array_equal(width[0], width[1])
    assert (width[2] < width[1]).all()
    only = uncertainty(np.empty((0, N)), silent=silent)  # every validation video is silent
    low, high = only.interval(np.full((2, N), 3.0), [None, None], np.array([False, True]))
    assert np.isnan(low[0]).all()
    assert ((high - low)[1, PICTURE] < 0.5).all()


def test_coverage_is_counted_with_its_exact_interval():
    low = np.array([1.0, 2.0, np.nan, 2.0, 3.0, 1.0])
    high = np.array([2.0, 3.0, np.nan, 4.0, 5.0, 5.0])
    labels = np.array([2.0, 3.5, 3.0, np.nan, 3.0, 4.0])
    found = coverage(low, high, labels)
    assert (found.count, found.covered, found.share) == (4, 3, 0.75)
    wanted = binomtest(3, 4).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.width == pytest.approx((1 + 1 + 2 + 4) / 4)
    whole = coverage(low[:1], high[:1], labels[:1])
    assert (whole.low, whole.high) == (pytest.approx(0.025), 1.0)
    none = coverage(low[:1], high[:1], labels[:1] + 2)
    assert (none.low, none.high) == (0.0, pytest.approx(0.975))
    nothing = coverage(low[2:3], high[2:3], labels[2:3])
    assert (nothing.count, nothing.share, nothing.width) == (0, None, None)
