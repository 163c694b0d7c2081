import numpy as np
import pytest

from model.geometry import (
    ARCFACE_112,
    CROP_SIZE,
    FACE_TEMPLATE,
    LIPS_TEMPLATE,
    apply,
    invert,
    scale_of,
    umeyama,
)


def similarity(scale, degrees, tx, ty):
    angle = np.deg2rad(degrees)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, tx], [s, c, ty]])


@pytest.mark.parametrize(
    ("scale", "degrees"), [(1.0, 0), (0.3, 25), (4.2, -80), (1.5, 179), (1e-2, 90)]
)
def test_recovers_an_exact_similarity(scale, degrees):
    truth = similarity(scale, degrees, 12.5, -330.0)
    points = np.random.default_rng(1).normal(100, 40, (5, 2))
    found = umeyama(points, apply(truth, points))
    np.testing.assert_allclose(found, truth, atol=1e-9)
    assert scale_of(found) == pytest.approx(scale)


def test_agrees_with_linear_least_squares_on_noisy_points():
    """A similarity is linear in (a, b, tx, ty): an ordinary least-squares problem."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        source = rng.normal(0, 50, (5, 2))
        target = apply(similarity(rng.uniform(0.2, 3), rng.uniform(-60, 60), 10, 20), source)
        target += rng.normal(0, 3, (5, 2))
        x, y = source.T
        zero, one = np.zeros(5), np.ones(5)
        rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
        (a, b, tx, ty), *_ = np.linalg.lstsq(rows, target.T.reshape(-1), rcond=None)
        np.testing.assert_allclose(
            umeyama(source, target), [[a, -b, tx], [b, a, ty]], rtol=1e-8, atol=1e-8
        )


def test_never_reflects():
    points = np.array([[0.0, 0], [4, 0], [4, 2], [0, 2]])
    mirrored = points * [-1, 1]
    assert np.linalg.det(umeyama(points, mirrored)[:, :2]) >= 0


def test_inverse_undoes():
    matrix = similarity(1.7, 33, 5, -6)
    points = np.random.default_rng(3).normal(size=(7, 2))
    np.testing.assert_allclose(apply(invert(matrix), apply(matrix, points)), points, atol=1e-12)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.ones((5, 2)), "all equal"),
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((1, 2)), "N >= 2"),
        (np.zeros((5, 3)), "N >= 2"),
    ],
)
def test_undetermined_transforms_are_errors(source, message):
    with pytest.raises(ValueError, match=message):
        umeyama(source, np.zeros_like(source))


def test_a_transform_of_scale_zero_has_no_inverse():
    with pytest.raises(ValueError, match="no inverse"):
        invert(np.zeros((2, 3)))


def test_templates_keep_the_reference_proportions():
    for template in (FACE_TEMPLATE, LIPS_TEMPLATE):
        fit = umeyama(ARCFACE_112, template)
        np.testing.assert_allclose(apply(fit, ARCFACE_112), template, atol=1e-9)
        assert fit[1, 0] == pytest.approx(0, abs=1e-12)  # no rotation


def test_templates_leave_room_for_the_chin_and_centre_the_mouth():
    eyes, mouth = FACE_TEMPLATE[:2, 1].mean(), FACE_TEMPLATE[3:, 1].mean()
    assert ((FACE_TEMPLATE > 0) & (FACE_TEMPLATE < CROP_SIZE)).all()
    # The chin lies about 0.65 eye-mouth distances below the mouth; an open jaw adds about a third.
    assert mouth + (0.65 + 0.3) * (mouth - eyes) < CROP_SIZE
    np.testing.assert_allclose(LIPS_TEMPLATE[3:].mean(axis=0), [112, 112])
