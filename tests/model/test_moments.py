"""Moments of streamed rows against two-pass sums in extended precision."""

import pickle

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from model.moments import BLOCK_ROWS, ColumnMoments, Moments
from model.principal_components import principal_components, scales


def _rows(count: int, width: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, width)) @ rng.standard_normal((width, width))
    return rows * 10.0 ** np.linspace(4, -4, width) + rng.normal(0, 5, width)


def _exact(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    long = rows.astype(np.longdouble)
    mean = long.mean(axis=0)
    return mean.astype(float), ((long - mean).T @ (long - mean)).astype(float)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_moments_agree_however_the_rows_are_cut(full: bool, pieces: int) -> None:
    rows = _rows(2 * BLOCK_ROWS + 333)
    mean, scatter = _exact(rows)
    parts = []
    for piece in np.array_split(rows, pieces):
        part = Moments(rows.shape[1], full=full)
        for some in np.array_split(piece, [1, 1, 150, 2000]):  # an empty one among them
            part.add(some)
        parts.append(pickle.loads(pickle.dumps(part)))
    total = Moments(rows.shape[1], full=full)
    for part in parts:
        total.merge(part)
    assert total.count == len(rows)
    np.testing.assert_allclose(total.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(total.variance, np.diag(scatter) / len(rows), rtol=1e-12)
    if full:
        # Against the spread of the two dimensions: a product may well be near 0.
        spread = np.sqrt(np.outer(np.diag(scatter), np.diag(scatter)))
        gap = np.abs(total.scatter() - scatter) / spread
        assert gap.max() < 1e-6
        assert np.diag(gap).max() < 1e-12


def test_a_small_spread_beside_a_large_mean_that_drifts_is_kept() -> None:
    rng = np.random.default_rng(1)
    blocks = [level + rng.normal(0, 1e-4, (700, 3)) for level in (1e4, 1e4, -1e4, 0.0)]
    mean, scatter = _exact(np.concatenate(blocks))
    moments = Moments(3)
    for block in blocks:
        moments.add(block)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(np.diag(moments.scatter()), np.diag(scatter), rtol=1e-10)
    np.testing.assert_allclose(moments.scatter(), scatter, rtol=1e-10)
    alone = Moments(3)
    alone.add(blocks[0])
    np.testing.assert_allclose(alone.variance, blocks[0].var(axis=0), rtol=1e-6)


def test_products_of_very_small_and_very_large_features_are_kept() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((3000, 1)) + 0.5 * rng.standard_normal((3000, 4))
    moments = Moments(4)
    # The first block has a spread of its own.
    scale = np.array([1e-30, 1e-4, 1e4, 1e30])
    rows[:BLOCK_ROWS] *= [1, 1e-3, 1e3, 1]
    for piece in np.array_split(rows * scale, 9):
        moments.add(piece)
    spread = np.sqrt(moments.variance * len(rows))
    want = np.corrcoef(rows.T)
    np.testing.assert_allclose(moments.scatter() / np.outer(spread, spread), want, atol=1e-10)


def test_axes_of_a_steep_spectrum_are_exact() -> None:
    """As landmarks have it: nearly everything in a few directions, the asked ones far below."""
    rng = np.random.default_rng(9)
    turn = np.linalg.qr(rng.standard_normal((120, 120)))[0]
    rows = (rng.standard_normal((6000, 120)) * np.geomspace(1, 1e-4, 120)) @ turn.T + 0.5
    rows = rows.astype(np.float32)
    parts = []
    for share in np.array_split(rows, 7):
        part = Moments(120)
        part.add(share)
        parts.append(part)
    for part in parts[1:]:
        parts[0].merge(part)
    found = principal_components(parts[0], 50)
    want = PCA(50, svd_solver="full").fit(StandardScaler().fit_transform(rows.astype(np.float64)))
    np.testing.assert_allclose(found.variance, want.explained_variance_, rtol=1e-6)
    assert subspace_angles(found.axes.T, want.components_.T).max() < 1e-4


@pytest.mark.parametrize("value", [0.0, 3.7, 0.1, 1e4 / 3, -1e-4 / 7])
def test_a_constant_dimension_has_exactly_no_variance(value: float) -> None:
    total = Moments(2)
    for seed in range(5):
        part = Moments(2)
        part.add(np.column_stack([np.full(777, value), _rows(777, 1, seed)[:, 0]]))
        total.merge(part)
    assert total.variance[0] == 0
    assert total.mean[0] == value
    assert (total.scatter()[0] == 0).all()
    assert scales(total.variance)[0] == 1


def test_merging_leaves_the_other_as_it_was_and_nothing_adds_nothing() -> None:
    a, b, empty = Moments(4), Moments(4), Moments(4)
    a.add(_rows(10, 4))
    empty.merge(Moments(4))
    assert empty.count == 0
    assert (empty.variance == 0).all()
    b.merge(a)
    b.merge(a)
    b.merge(empty)
    assert (a.count, b.count) == (10, 20)
    np.testing.assert_allclose(b.variance, a.variance, rtol=1e-12)


def test_what_does_not_fit_is_refused() -> None:
    moments = Moments(3)
    with pytest.raises(ValueError, match="width 3"):
        moments.add(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="cannot be merged"):
        moments.merge(Moments(3, full=False))
    with pytest.raises(ValueError, match="only variances"):
        Moments(3, full=False).scatter()


def test_columns_may_lack_different_rows() -> None:
    rows = _rows(500, 6)
    rows[np.random.default_rng(2).random(rows.shape) < 0.4] = np.nan
    rows[:, 3] = np.nan
    rows[::2, 4] = np.inf
    rows[:, 5] = np.where(np.isnan(rows[:, 5]), np.nan, 3.7)
    total = ColumnMoments(6)
    for piece in np.array_split(rows, [3, 3, 200]):
        part = ColumnMoments(6)
        part.add(piece)
        total.merge(part)
    for column in range(6):
        values = rows[np.isfinite(rows[:, column]), column]
        assert total.count[column] == len(values)
        if len(values):
            assert total.mean[column] == pytest.approx(values.mean(), rel=1e-12)
            assert total.variance[column] == pytest.approx(values.var(), rel=1e-10, abs=1e-25)
    assert total.variance[5] == 0
    assert total.variance[3] == 0


def test_components_agree_with_the_singular_values_of_the_z_scores() -> None:
    rows = _rows(900)
    rows[:, 5] = 2.0
    moments = Moments(rows.shape[1])
    moments.add(rows)
    found = principal_components(moments, 4)
    z = (rows - rows.mean(axis=0)) / np.where(rows.std(axis=0) > 1e-9, rows.std(axis=0), 1)
    _, singular, axes = np.linalg.svd(z, full_matrices=False)
    np.testing.assert_allclose(found.variance, singular[:4] ** 2 / 899, rtol=1e-6)
    np.testing.assert_allclose(found.ratio, (singular**2 / (singular**2).sum())[:4], rtol=1e-6)
    np.testing.assert_allclose(np.abs(found.axes @ axes[:4].T), np.eye(4), atol=1e-5)
    assert (found.axes.max(axis=1) >= -found.axes.min(axis=1)).all()  # the sign rule


def test_more_components_than_rows_or_dimensions_are_refused() -> None:
    moments = Moments(12)
    moments.add(_rows(5))
    with pytest.raises(ValueError, match=r"6 principal components.* 5 rows of 12 dimensions"):
        principal_components(moments, 6)
