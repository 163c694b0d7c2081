"""Every metric against SciPy, scikit-learn or its definition; where they are undefined."""

import itertools
import json

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from pydantic import ValidationError
from scipy.optimize import minimize
from scipy.special import expit

from model.bootstrap import resample_groups
from model.metrics import METRICS, Pairs, Value, measure
from model.metrics_config import EvaluationConfig
from model.resamples import Resamples, rater_margin
from tests.support import ROOT

POINT = EvaluationConfig(rounds=0)
Arrays = tuple[np.ndarray, np.ndarray]


def scores(n: int, seed: int, *, ties: bool) -> Arrays:
    """Predictions and labels on [1, 5]; with ties both are on a grid of quarters."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(3, 1, n)
    x, y = (np.clip(quality + rng.normal(0, s, n), 1, 5) for s in (0.6, 0.5))
    return (np.round(x * 4) / 4, np.round(y * 4) / 4) if ties else (x, y)


def rounded(x: np.ndarray) -> np.ndarray:
    return np.array([int(v + 0.5) for v in x])  # half up


def mapped(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least-squares logistic by brute force and a simplex, inside the stated limits."""
    span = np.ptp(x)
    limits = [
        (x.min() - 10 * span, x.max() + 10 * span),
        (np.log(span / 1000), np.log(span * 10)),
    ]

    def curve(b: np.ndarray) -> np.ndarray:
        basis = np.stack([np.ones_like(x), expit((x - b[0]) / np.exp(b[1]))], axis=1)
        return basis @ np.linalg.lstsq(basis, y, rcond=1e-9)[0]

    def error(b: np.ndarray) -> float:
        return float(np.mean((curve(b) - y) ** 2))

    middles = [*np.quantile(x, np.linspace(0, 1, 12)), x.min() - span, x.max() + span]
    grid = itertools.product(middles, np.log(span * np.geomspace(0.005, 3, 8)))
    start = min((np.array(b) for b in grid), key=error)
    tight = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 2000}
    found = minimize(error, start, method="Nelder-Mead", bounds=limits, options=tight)
    return curve(found.x)


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's definition: how far from the line of identity, against independence."""
    distance = np.mean((x - y) ** 2)
    independent = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return 1 - distance / independent


def three(x: np.ndarray) -> list[str]:
    return ["bad" if v < 2.33 else "fair" if v < 3.67 else "good" for v in x]


REFERENCES = {
    "mse": lambda x, y: sk.mean_squared_error(y, x),
    "rmse": lambda x, y: sk.root_mean_squared_error(y, x),
    "mae": lambda x, y: sk.mean_absolute_error(y, x),
    "median_ae": lambda x, y: sk.median_absolute_error(y, x),
    "bias": lambda x, y: np.mean(x) - np.mean(y),
    "r2": lambda x, y: sk.r2_score(y, x),
    "plcc": lambda x, y: scipy.stats.pearsonr(x, y).statistic,
    "srcc": lambda x, y: scipy.stats.spearmanr(x, y).statistic,
    "krcc": lambda x, y: scipy.stats.kendalltau(x, y, variant="b").statistic,
    "ccc": ccc,
    "accuracy": lambda x, y: sk.accuracy_score(three(y), three(x)),
    "kappa": lambda x, y: sk.cohen_kappa_score(rounded(x), rounded(y), weights="quadratic"),
    "plcc_mapped": lambda x, y: scipy.stats.pearsonr(mapped(x, y), y).statistic,
    "rmse_mapped": lambda x, y: sk.root_mean_squared_error(y, mapped(x, y)),
}


def test_every_metric_has_a_reference_here() -> None:
    assert METRICS.keys() - REFERENCES.keys() == {"rmse_star", "outlier_ratio"}  # tested below


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "seed"), [(12, 0), (57, 1), (400, 2)])
def test_values_are_those_of_the_references(n: int, seed: int, ties: bool) -> None:
    x, y = scores(n, seed, ties=ties)
    found = measure(Pairs.of(x, y), POINT)
    for name, reference in REFERENCES.items():
        tolerance = 1e-5 if "mapped" in name else 1e-11
        assert found[name].value == pytest.approx(reference(x, y), rel=tolerance), name


@pytest.mark.parametrize("ties", [False, True])
def test_a_resample_counts_each_pair_as_often_as_it_was_drawn(ties: bool) -> None:
    x, y = scores(40, 5, ties=ties)
    pairs = Pairs.of(x, y)
    weights = next(resample_groups(pairs.groups, 6, seed=4))
    sample = Resamples(pairs, weights, POINT)
    for name in REFERENCES.keys() - {"plcc_mapped", "rmse_mapped"}:  # in test_logistic_map.py
        got = METRICS[name].compute(sample)
        for r, w in enumerate(weights.astype(int)):
            expected = REFERENCES[name](np.repeat(x, w), np.repeat(y, w))
            assert got[r] == pytest.approx(expected, rel=1e-11), name


def test_kendall_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = scores(300, 3, ties=True)
    monkeypatch.setattr("model.metrics.SIGNS", 300 * 7)  # 43 blocks, the last one smaller
    found = measure(Pairs.of(x, y), POINT, ("krcc",))["krcc"].value
    assert found == pytest.approx(scipy.stats.kendalltau(x, y).statistic, rel=1e-12)


# --- rmse* and outlier ratio: ITU-T P.1401


def test_the_margin_of_a_label_is_its_confidence_interval() -> None:
    votes = np.array([3.0, 4, 4, 5, 2, 4, 3, 5])
    low, high = scipy.stats.t.interval(
        0.95, len(votes) - 1, loc=votes.mean(), scale=scipy.stats.sem(votes)
    )
    margin = rater_margin(np.array([votes.std(ddof=1)]), np.array([8.0]))
    assert margin[0] == pytest.approx((high - low) / 2, rel=1e-9)


def test_rmse_star_and_outlier_ratio_by_hand() -> None:
    # 4 raters: t(0.975, 3) = 3.18245; margins 3.18245 * std / 2.
    t = 3.182446305284263
    std = np.array([0.2, 0.4, 0.0, 1.0])  # margins 0.318245, 0.636489, 0, 1.591223
    x, y = np.array([3.0, 3.0, 3.0, 3.0]), np.array([3.5, 3.5, 2.9, 1.0])
    beyond = [0.5 - 0.1 * t, 0.0, 0.1, 2.0 - 0.5 * t]
    expected = np.sqrt(sum(v * v for v in beyond) / (4 - 1))
    found = measure(Pairs.of(x, y, std=std, raters=np.full(4, 4.0)), POINT)
    assert found["rmse_star"].value == pytest.approx(expected, rel=1e-9)
    assert found["outlier_ratio"].value == 3 / 4


def test_only_pairs_with_known_spread_count_there() -> None:
    rng = np.random.default_rng(0)
    x, y = scores(30, 0, ties=False)
    std, raters = rng.uniform(0.3, 1, 30), np.full(30, 12.0)
    std[:5], raters[5:9], raters[9] = np.nan, np.nan, 1.0
    some = measure(Pairs.of(x, y, std=std, raters=raters), POINT)
    alone = measure(Pairs.of(x[10:], y[10:], std=std[10:], raters=raters[10:]), POINT)
    for name in ("rmse_star", "outlier_ratio"):
        assert some[name].value == pytest.approx(alone[name].value, rel=1e-12)
    assert some["mae"].value != pytest.approx(alone["mae"].value)


def test_generous_raters_forgive_everything() -> None:
    x, y = scores(30, 0, ties=False)
    found = measure(Pairs.of(x, y, std=np.full(30, 9.0), raters=np.full(30, 2.0)), POINT)
    assert found["rmse_star"].value == found["outlier_ratio"].value == 0


# --- where a metric is undefined

RELATIONS = {"plcc", "srcc", "krcc", "ccc", "plcc_mapped", "rmse_mapped"}
ERRORS = {"mse", "rmse", "mae", "median_ae", "bias", "accuracy"}
SPREAD = {"rmse_star", "outlier_ratio"}


def reasons(x: object, y: object) -> dict[str, str | None]:
    found = measure(Pairs.of(np.asarray(x, float), np.asarray(y, float)), EvaluationConfig())
    for value in found.values():
        assert (value.value is None) <= (value.low is None)
        numbers = [v for v in (value.value, value.low, value.high) if v is not None]
        assert np.isfinite(numbers).all()
    json.dumps({name: v.to_dict() for name, v in found.items()}, allow_nan=False)
    return {name: v.reason for name, v in found.items() if v.value is None}


def test_constant_labels() -> None:
    x, _ = scores(30, 0, ties=False)
    found = reasons(x, np.full(30, 4.763))
    assert found.keys() == RELATIONS | SPREAD | {"r2", "kappa"}
    assert {found[name] for name in RELATIONS | {"r2"}} == {"labels are constant"}
    assert found["kappa"] == "rounded labels are constant"


@pytest.mark.parametrize("rounding", [0.0, 4e-7])
def test_constant_predictions(rounding: float) -> None:
    _, y = scores(30, 0, ties=False)
    # A model that always says the same differs by float32 rounding.
    x = 4.7 + rounding * np.random.default_rng(0).choice([-1, 0, 1], 30)
    found = reasons(x, y)
    assert found.keys() == RELATIONS | SPREAD | {"kappa"}
    assert {found[name] for name in RELATIONS} == {"predictions are constant"}
    assert found["kappa"] == "rounded predictions are constant"


def test_labels_that_hardly_vary_are_not_constant() -> None:
    x, y = scores(60, 0, ties=False)
    found = measure(Pairs.of(x, 4.763 + y / 1000), POINT)
    expected = scipy.stats.pearsonr(x, y).statistic
    assert found["plcc"].value == pytest.approx(expected, rel=1e-9)
    assert found["kappa"].reason == "rounded labels are constant"


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_rows(n: int) -> None:
    found = reasons([2.0, 4.0][:n], [2.5, 3.0][:n])
    assert found.keys() == METRICS.keys() - ERRORS
    assert {found[name] for name in ("r2", "plcc", "srcc", "krcc", "ccc", "kappa")} == {
        "fewer than 3 pairs"
    }
    assert found["plcc_mapped"] == "fewer than 5 pairs for a mapping of 4 parameters"


@pytest.mark.parametrize("n", [0, 4])
def test_no_valid_label(n: int) -> None:
    found = reasons(np.full(n, 3.0), np.full(n, np.nan))
    assert found.keys() == METRICS.keys()
    assert set(found.values()) == {"no valid label"}


def test_labels_without_predictions() -> None:
    found = reasons(np.full(4, np.nan), np.full(4, 3.0))
    assert set(found.values()) == {"no prediction of a labelled video"}


def test_no_rater_spread() -> None:
    x, y = scores(10, 0, ties=False)
    found = reasons(x, y)
    assert found == dict.fromkeys(SPREAD, "rater spread unknown")
    one = np.where(np.arange(10) == 3, 0.5, np.nan)
    values = measure(Pairs.of(x, y, std=one, raters=np.full(10, 9.0)), POINT)
    assert values["rmse_star"].reason == "rater spread known for fewer than 2 pairs"
    assert values["outlier_ratio"].value in (0.0, 1.0)


def test_predictions_that_run_against_the_labels_are_not_mapped_into_good_ones() -> None:
    x, y = scores(60, 0, ties=False)
    found = measure(Pairs.of(6 - x, y), EvaluationConfig(rounds=100))
    assert found["plcc"].value < -0.7
    assert found["plcc_mapped"].value is None
    assert found["plcc_mapped"].reason.startswith("the best logistic mapping falls")
    assert found["rmse_mapped"].value is None


def test_resamples_in_which_a_metric_is_undefined_are_counted() -> None:
    x, _ = scores(40, 0, ties=False)
    y = np.where(np.arange(40) < 2, 2.0, 4.0)  # (38/40)^40 = 13 % of the resamples miss both
    found = measure(Pairs.of(x, y), EvaluationConfig())["plcc"]
    assert 90 <= found.undefined_rounds <= 170
    assert found.low is not None
    y = np.where(np.arange(40) < 1, 2.0, 4.0)  # 36 % miss the only other one
    found = measure(Pairs.of(x, y), EvaluationConfig())["plcc"]
    assert 300 <= found.undefined_rounds <= 430


def test_missing_values_are_left_out() -> None:
    x, y = scores(50, 0, ties=False)
    gaps_x, gaps_y = x.copy(), y.copy()
    gaps_x[::7], gaps_y[::5] = np.nan, np.nan
    keep = np.isfinite(gaps_x + gaps_y)
    pairs = Pairs.of(gaps_x, gaps_y)
    assert (len(pairs), pairs.labelled) == (int(keep.sum()), 40)
    assert measure(pairs, POINT) == measure(Pairs.of(x[keep], y[keep]), POINT)


def test_an_infinite_prediction_is_an_error() -> None:
    with pytest.raises(ValueError, match="infinite"):
        Pairs.of(np.array([1.0, np.inf]), np.array([1.0, 2.0]))


# --- conventions


def test_thresholds_belong_to_the_class_that_they_begin() -> None:
    y = np.array([2.33, 2.3299, 3.67, 3.6699])
    x = np.array([3.0, 3.0, 5.0, 5.0])
    assert measure(Pairs.of(x, y), POINT, ("accuracy",))["accuracy"].value == 0.5
    moved = EvaluationConfig(rounds=0, thresholds=(2.0, 3.0))
    assert measure(Pairs.of(x, y), moved, ("accuracy",))["accuracy"].value == 0.5
    assert measure(Pairs.of(y, x), moved, ("accuracy",))["accuracy"].value == 0.5


@pytest.mark.parametrize("thresholds", [(3.0, 3.0), (4.0, 2.0), (1.0, 3.0), (2.0, 5.0)])
def test_thresholds_must_rise_inside_the_scale(thresholds: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="thresholds must rise"):
        EvaluationConfig(thresholds=thresholds)


@pytest.mark.parametrize("name", [n for n, metric in METRICS.items() if metric.better != "zero"])
def test_better_is_what_the_table_says(name: str) -> None:
    x, y = scores(80, 0, ties=False)
    spread = {"std": np.full(80, 0.4), "raters": np.full(80, 9.0)}
    blurred = np.clip(x + np.random.default_rng(1).normal(0, 0.8, 80), 1, 5)
    good = measure(Pairs.of(x, y, **spread), POINT, (name,))[name].value
    bad = measure(Pairs.of(blurred, y, **spread), POINT, (name,))[name].value
    assert good > bad if METRICS[name].better == "higher" else good < bad


def test_predictions_that_are_the_labels() -> None:
    y = scores(40, 0, ties=True)[1]
    found = measure(Pairs.of(y, y, std=np.full(40, 0.5), raters=np.full(40, 5.0)), POINT)
    for name, value in found.items():
        best = 1.0 if METRICS[name].better == "higher" else 0.0
        # The mapping is limited to what is nearly a straight line.
        assert value.value == pytest.approx(best, abs=1e-3 if "mapped" in name else 1e-12), name


def test_a_value_as_json() -> None:
    value = Value(0.5, 0.4, 0.6, None, 3)
    assert value.to_dict() == {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "reason": None,
        "undefined_rounds": 3,
    }


def test_the_manual_lists_every_metric_and_which_values_are_better() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    listed = {row[1].strip("`"): row[3] for row in rows if len(row) > 3 and row[1].startswith("`")}
    assert listed == {name: metric.better for name, metric in METRICS.items()}
