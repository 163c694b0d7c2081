"""The logistic mapping against planted parameters and against SciPy's least squares."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from model.logistic_map import Logistic, fit_logistic, fit_resamples

PLANTED = Logistic(4.7, 1.3, 3.1, 0.4)


def vqeg(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4)))


def noisy(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 5, count)
    return x, vqeg(x, 4.7, 1.3, 3.1, 0.4) + rng.normal(0, noise, count)


def test_planted_parameters_are_recovered() -> None:
    found = fit_logistic(*noisy(200, 0.0))
    assert found is not None
    np.testing.assert_allclose(
        [found.b1, found.b2, found.b3, found.b4], [4.7, 1.3, 3.1, 0.4], rtol=1e-5
    )
    x = np.linspace(0, 6, 50)
    np.testing.assert_allclose(found(x), vqeg(x, 4.7, 1.3, 3.1, 0.4), atol=1e-5)
    assert found.rising


@pytest.mark.parametrize("seed", range(5))
def test_it_is_scipys_least_squares_fit(seed: int) -> None:
    x, y = noisy(80, 0.4, seed)
    expected, _ = curve_fit(vqeg, x, y, p0=[y.max(), y.min(), x.mean(), 0.5])
    found = fit_logistic(x, y)
    assert found is not None
    got = [found.b1, found.b2, found.b3, found.b4]
    np.testing.assert_allclose(got, [*expected[:3], abs(expected[3])], rtol=2e-4)


def test_each_resample_is_fitted_as_if_it_were_alone() -> None:
    x, y = noisy(60, 0.4)
    rng = np.random.default_rng(1)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=12).astype(float)
    start = fit_logistic(x, y)
    assert start is not None
    found = fit_resamples(x, y, weights)
    assert found.converged.all()
    for r, w in enumerate(weights.astype(int)):
        rx, ry = np.repeat(x, w), np.repeat(y, w)
        b, _ = curve_fit(vqeg, rx, ry, p0=[start.b1, start.b2, start.b3, start.b4], maxfev=5000)
        mapped = vqeg(rx, *b)
        assert found.rmse[r] == pytest.approx(np.sqrt(np.mean((mapped - ry) ** 2)), rel=1e-6)
        assert found.plcc[r] == pytest.approx(np.corrcoef(mapped, ry)[0, 1], rel=1e-6)


def test_a_straight_relation_is_fitted_although_it_is_no_logistic() -> None:
    x = np.linspace(1.2, 4.8, 50)
    found = fit_logistic(x, x)
    assert found is not None
    np.testing.assert_allclose(found(x), x, atol=1e-3)


def test_predictions_on_a_narrow_range_are_stretched() -> None:
    x, y = noisy(100, 0.0)
    found = fit_logistic(3 + x / 1000, y)
    assert found is not None
    np.testing.assert_allclose(found(3 + x / 1000), y, atol=1e-4)


def test_a_step_is_fitted_by_a_step() -> None:
    x = np.linspace(1, 5, 41)
    y = np.where(x < 2.95, 1.5, 4.5)
    found = fit_logistic(x, y)
    assert found is not None
    np.testing.assert_allclose(found(x), y, atol=1e-3)


def test_a_falling_relation_gives_a_falling_mapping() -> None:
    x, y = noisy(80, 0.2)
    found = fit_logistic(x, 6 - y)
    assert found is not None
    assert not found.rising
    resampled = fit_resamples(x, 6 - y, np.ones((1, 80)))
    assert resampled.plcc[0] < -0.9


@pytest.mark.parametrize("seed", range(10))
def test_the_mapping_rises_throughout_or_falls_throughout(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 5, 30)
    found = fit_logistic(x, rng.uniform(1, 5, 30))  # no relation at all
    if found is not None:
        steps = np.diff(found(np.linspace(1, 5, 200)))
        assert (steps >= 0).all() if found.rising else (steps <= 0).all()
