"""Novelty against scikit-learn and by simulation; storing and refusing uncertainty."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from model.calibration import Calibration
from model.novelty import MIN_SHRINKAGE, EmbeddingFit, EmbeddingSums, Novelty
from model.tasks import TASKS
from model.uncertainty import Uncertainty

N = len(TASKS)


def embeddings(count, width, seed=0, offset=0.0):
    """Correlated, with spreads over two orders of magnitude, far from 0 if asked for."""
    rng = np.random.default_rng([seed, count])
    mixing = np.random.default_rng(width).standard_normal((width, width))
    mixing *= np.logspace(0, -2, width)
    return rng.standard_normal((count, width)) @ mixing + offset


def sums_of(x, batch=16, centre=None):
    sums = EmbeddingSums(x[:batch].mean(axis=0) if centre is None else centre)
    for start in range(0, len(x), batch):
        sums.add(x[start : start + batch])
    return sums


@pytest.mark.parametrize(
    ("count", "width", "offset"),
    [(500, 8, 0), (40, 64, 0), (5, 32, 3), (2, 4, 0), (200, 16, 1000), (64, 1, 2)],
)
def test_mean_covariance_and_shrinkage_are_scikit_learn_s(count, width, offset):
    x = embeddings(count, width, offset=offset)
    mean, covariance, shrinkage = sums_of(x).covariance()
    wanted = LedoitWolf().fit(x)
    np.testing.assert_allclose(mean, wanted.location_, rtol=1e-9)
    assert shrinkage == pytest.approx(wanted.shrinkage_, rel=1e-6, abs=1e-9)
    scale = np.trace(covariance) / width
    shrunk = (1 - shrinkage) * covariance + shrinkage * scale * np.eye(width)
    np.testing.assert_allclose(shrunk, wanted.covariance_, rtol=1e-6, atol=1e-9 * scale)


def test_distances_are_scikit_learn_s_also_with_fewer_clips_than_dimensions():
    for count, width in ((300, 12), (20, 48)):
        x, other = embeddings(count, width), embeddings(50, width, seed=1)
        fit = EmbeddingFit.of(sums_of(x))
        wanted = LedoitWolf().fit(x)
        assert fit.shrinkage == pytest.approx(wanted.shrinkage_)
        assert fit.shrinkage > MIN_SHRINKAGE
        np.testing.assert_allclose(fit.distance(other) ** 2, wanted.mahalanobis(other), rtol=1e-6)


def test_sums_of_several_processes_are_those_of_one():
    x = embeddings(90, 6, offset=5)
    centre = np.full(6, 4.0)
    parts = [sums_of(x[a:b], 7, centre).vector() for a, b in ((0, 10), (10, 10), (10, 90))]
    merged = EmbeddingSums.of_vector(centre, np.sum(parts, axis=0))
    assert merged.count == 90
    for one, other in zip(merged.covariance(), sums_of(x).covariance(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_values_that_are_not_finite_are_left_out_and_have_no_distance():
    x = embeddings(60, 4)
    broken = np.insert(x, 3, [np.nan, 0, 0, 0], axis=0)
    broken[10, 2] = np.inf
    clean = np.delete(broken, [3, 10], axis=0)
    sums = EmbeddingSums(np.zeros(4))
    sums.add(broken)
    fit = EmbeddingFit.of(sums)
    assert fit.clips == len(clean)
    np.testing.assert_allclose(fit.mean, clean.mean(axis=0))
    assert np.flatnonzero(np.isnan(fit.distance(broken))).tolist() == [3, 10]


def novelty_of(train, val, silent=None, quantile=0.99):
    fit = EmbeddingFit.of(sums_of(train))
    silent = np.empty((0, train.shape[1])) if silent is None else silent
    return Novelty.of(fit, fit.distance(val), fit.distance(silent), quantile)


@pytest.mark.parametrize(("validation", "share"), [(199, 0.01), (999, 0.01), (49, 0.02)])
def test_exchangeable_clips_are_flagged_as_often_as_said_and_far_ones_always(validation, share):
    flagged = []
    for seed in range(150):
        train, rest = embeddings(120, 10, seed), embeddings(validation + 300, 10, seed + 1000)
        own = novelty_of(train, rest[:validation])
        flagged.append((own.distance(rest[validation:]) > 1).mean())
    assert own.expected_share == pytest.approx(share)
    assert np.mean(flagged) == pytest.approx(share, abs=0.003)
    # Ten times the largest standard deviation, in any direction.
    spreads, axes = np.linalg.eigh(np.cov(train.T))
    away = 10 * np.sqrt(spreads.max()) * axes.T
    assert (own.distance(train.mean(axis=0) + away) > 1).all()
    assert (own.distance(train.mean(axis=0) - away) > 1).all()


def test_the_threshold_is_the_rank_of_the_quantile():
    train, val = embeddings(50, 3), embeddings(40, 3, seed=1)
    fit = EmbeddingFit.of(sums_of(train))
    wanted = np.sort(fit.distance(val))[37 - 1]  # ceil(41 x 0.9)
    own = novelty_of(train, val, quantile=0.9)
    assert own.threshold == wanted
    assert own.distance(val)[np.argsort(fit.distance(val))[36]] == 1.0
    assert own.expected_share == pytest.approx(1 - 37 / 41)


def test_silent_clips_have_a_threshold_of_their_own_not_below_the_other():
    train, val = embeddings(80, 5), embeddings(40, 5, seed=1)
    own = novelty_of(train, val, silent=val + 0.8)
    assert own.silent_threshold > own.threshold
    some = val[:2] + 0.8
    sound, silent = own.distance(some), own.distance(some, np.array([False, True]))
    assert silent[0] == sound[0]
    assert silent[1] == pytest.approx(sound[1] * own.threshold / own.silent_threshold)
    assert novelty_of(train, val, silent=val * 0.1).silent_threshold == own.threshold
    assert novelty_of(train, val, silent=val[:19] + 5).silent_threshold == own.threshold


@pytest.mark.parametrize(
    ("train", "val", "says"),
    [
        (np.full((30, 4), 0.3), embeddings(30, 4), "training clips do not vary"),
        (embeddings(1, 4), embeddings(30, 4), "training clips do not vary"),
        (np.empty((0, 4)), embeddings(30, 4), "training clips do not vary"),
        (embeddings(30, 4), embeddings(19, 4, seed=1), "19 validation clips are fewer than 20"),
    ],
)
def test_what_cannot_be_known_is_unknown_with_its_reason(train, val, says):
    fit = EmbeddingFit.of(sums_of(train, centre=np.zeros(4)))
    distances = np.empty(0) if fit is None else fit.distance(val)
    own = Uncertainty(calibration(), Novelty.of(fit, distances, np.empty(0), 0.99))
    assert says in own.novelty
    assert f"novelty is unknown: {own.novelty}" in own.notes(0.5)
    assert np.isnan(own.distance(val)).all()
    assert own.width is None


def test_a_constant_up_to_rounding_is_a_constant():
    rng = np.random.default_rng(0)
    x = np.float32(0.7) + np.float32(1e-7) * rng.standard_normal((50, 6)).astype(np.float32)
    assert EmbeddingFit.of(sums_of(x)) is None
    x[:, 2] = rng.standard_normal(50)  # one direction is enough
    fit = EmbeddingFit.of(sums_of(x))
    assert np.isfinite(fit.distance(x)).all()


def test_validation_clips_at_the_mean_give_no_threshold():
    fit = EmbeddingFit.of(sums_of(embeddings(30, 4)))
    assert "do not vary" in Novelty.of(fit, np.zeros(30), np.empty(0), 0.99)


def test_embeddings_of_another_width_are_refused():
    own = novelty_of(embeddings(30, 4), embeddings(30, 4, seed=1))
    with pytest.raises(ValueError, match="fitted on"):
        own.distance(np.zeros((2, 5)))


# --- storing


def calibration():
    rng = np.random.default_rng(0)
    residuals = rng.uniform(0, 2, (50, N))
    residuals[rng.random((50, N)) < 0.2] = np.nan
    names = ["a"] * 28 + ["ä / <b>"] * 20 + [None] * 2
    return Calibration.of(residuals, names, residuals[:30] + 0.5, names[:30], 10)


def stored(known=True):
    novelty = "why not"
    if known:
        novelty = novelty_of(embeddings(40, 4), embeddings(30, 4, seed=1))
    return Uncertainty(calibration(), novelty)


@pytest.mark.parametrize("known", [True, False])
def test_what_is_stored_comes_back(known):
    own = stored(known)
    again = Uncertainty.of_parts(own.to_arrays(), own.to_json())
    scores = np.random.default_rng(1).uniform(1, 5, (8, N))
    groups, silent = ["a", "ä / <b>", None, "new"] * 2, np.arange(8) > 3
    for level in (0.5, 0.9, 0.95):
        for one, other in zip(
            again.interval(scores, groups, silent, level),
            own.interval(scores, groups, silent, level),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
        assert again.notes(level) == own.notes(level)
    x = embeddings(5, 4, seed=2)
    np.testing.assert_array_equal(again.distance(x, silent[:5]), own.distance(x, silent[:5]))
    assert again.to_json() == own.to_json()


def scaled(name, factor):
    return lambda arrays, facts: arrays.update({name: arrays[name] * factor})


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda a, f: f.update(format=2), "format 2, expected 1"),
        (lambda a, f: f.pop("format"), "incomplete"),
        (lambda a, f: f.pop("cells"), "incomplete"),
        (lambda a, f: f.update(cells=[1]), "incomplete"),
        (lambda a, f: f["cells"].pop(), "residuals: .* are described"),
        (lambda a, f: f["cells"][0].update(silent=1), "described in another way"),
        (lambda a, f: f["cells"][0].update(group="x"), "cell of all videos is missing"),
        (lambda a, f: f["cells"][0].update(counts=[3]), "wrong counts"),
        (lambda a, f: f["cells"].append(f["cells"][0]), "a cell twice"),
        (lambda a, f: f.update(min_group=None), "incomplete"),
        (lambda a, f: a.pop("residuals"), "incomplete"),
        (lambda a, f: a.update(residuals=a["residuals"][::-1]), "not in order"),
        (scaled("residuals", -1), "negative"),
        (scaled("residuals", np.nan), "not finite"),
        (scaled("novelty.mean", np.inf), "not finite"),
        (lambda a, f: a.pop("novelty.whitening"), "incomplete"),
        (lambda a, f: a.update({"novelty.mean": np.zeros(3)}), "shapes"),
        (lambda a, f: a.update(more=np.zeros(3)), "undescribed arrays more"),
        (lambda a, f: f["novelty"].update(threshold=0), "impossible thresholds"),
        (lambda a, f: f["novelty"].update(quantile=1), "impossible thresholds"),
        (lambda a, f: f.update(novelty={"unknown": "no"}), "undescribed arrays novelty.mean"),
        (lambda a, f: f.update(novelty=None), "incomplete"),
    ],
)
def test_parts_that_do_not_fit_are_refused(harm, says):
    own = stored()
    arrays, facts = own.to_arrays(), own.to_json()
    harm(arrays, facts)
    with pytest.raises(ValueError, match=says):
        Uncertainty.of_parts(arrays, facts)
