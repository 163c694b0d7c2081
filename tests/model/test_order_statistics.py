"""Exact quantiles by counting, against numpy's over the same values."""

import pickle
import warnings

import numpy as np
import pytest

from model.order_statistics import Counter, QuantileSearch, quantiles

WHICH = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


def _rows(count: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Columns of every kind: scales, ties, signs, zeros, extremes, holes."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 14))
    rows[:, 0] *= 1e4
    rows[:, 1] *= 1e-4
    rows[:, 2] = 3.7
    rows[:, 3] = np.maximum(rows[:, 3], 0)  # as after a ReLU
    rows[:, 4] = np.round(rows[:, 4])
    rows[:, 5] = rng.choice([0.0, -0.0], count)
    rows[:, 6] = rng.choice([np.finfo(dtype).max, np.finfo(dtype).min, 0], count)
    rows[:, 7] = rng.choice([1, -1], count) * float(np.finfo(dtype).smallest_subnormal)
    rows = rows.astype(dtype)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[:, 8] = np.nan
    rows[:, 9] = rng.choice([np.inf, -np.inf, np.nan, -np.nan, 2.0], count)
    return rows


def _reference(rows: np.ndarray) -> np.ndarray:
    values = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of NaN alone
        return np.nanquantile(values, WHICH, axis=0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 1001, 5000])
def test_quantiles_are_numpys(dtype: str, count: int) -> None:
    rows = _rows(count, dtype, count)
    np.testing.assert_allclose(quantiles(rows, WHICH), _reference(rows), rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_median_of_an_even_count_is_the_mean_of_the_middle_two(dtype: str) -> None:
    rows = np.array([[1.0], [-3.0], [2.0], [1000.0]], dtype)
    assert quantiles(rows)[0, 0] == 1.5
    assert quantiles(rows[:2])[0, 0] == -1.0


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_counts_made_apart_and_merged_in_any_order_give_the_same(pieces: int) -> None:
    rows = _rows(4321, "float32")
    search = QuantileSearch("float32", rows.shape[1], WHICH)
    passes = 0
    while (request := search.request()) is not None:
        passes += 1
        parts = []
        for piece in np.array_split(rows, pieces):
            counter = Counter(pickle.loads(pickle.dumps(request)))
            counter.add(piece)
            parts.append(counter)
        total = Counter(request)
        for part in reversed(parts):
            total.merge(part)
        search.update(total)
    assert passes == 3
    np.testing.assert_array_equal(search.valid, np.isfinite(rows).sum(axis=0))
    np.testing.assert_allclose(search.result(), _reference(rows), rtol=1e-15)


def test_memory_of_the_counts_does_not_depend_on_the_rows() -> None:
    request = QuantileSearch("float16", 5).request()
    assert request is not None
    counter = Counter(request)
    before = len(pickle.dumps(counter))
    counter.add(np.random.default_rng(0).standard_normal((50_000, 5)).astype(np.float16))
    assert len(pickle.dumps(counter)) == before
    assert sum(c.sum() for c in counter.counts) == 250_000


def test_wrong_use_is_refused() -> None:
    search = QuantileSearch("float16", 3)
    with pytest.raises(ValueError, match="not over"):
        search.result()
    with pytest.raises(ValueError, match="nothing has been counted"):
        _ = search.valid
    request = search.request()
    assert request is not None
    with pytest.raises(ValueError, match="float16 rows of width 3"):
        Counter(request).add(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="float16 and float32"):
        QuantileSearch("float64", 3)
    other = QuantileSearch("float16", 4).request()
    assert other is not None
    with pytest.raises(ValueError, match="another request"):
        search.update(Counter(other))
