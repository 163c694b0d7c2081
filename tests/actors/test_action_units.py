import math

import numpy as np
import pytest

from actors.action_units import (
    AU_NUMBERS,
    ActionUnits,
    ActionUnitsConfig,
    action_units,
    eye_opening,
    lip_opening,
    lip_width,
)
from actors.row import check

EPS = 1e-6


def scalar_aus(p):
    """The specification's table, one frame, point by point; ``p`` maps an index to coordinates."""

    def d(a, b):
        return math.dist(p[a], p[b])

    au = {}
    au[1] = (d(55, 168) + d(285, 168)) / 2
    au[2] = (d(46, 168) + d(276, 168)) / 2
    au[4] = d(105, 334)
    au[5] = (d(159, 145) + d(386, 374)) / 2
    au[6] = (d(145, 61) + d(374, 291)) / 2
    au[7] = 1 / (au[5] + EPS)
    au[9] = d(98, 327)
    au[10] = d(13, 1)
    au[12] = (d(61, 1) + d(291, 1)) / 2
    au[14] = 1 / (au[12] + EPS)
    au[15] = 0.8 * au[14]
    au[17] = d(14, 1)
    au[20] = d(61, 291)
    au[23] = 1 / (d(13, 14) + EPS)
    au[25] = d(13, 14)
    au[26] = 1.2 * au[25]
    au[28] = 1 / (au[20] + EPS)
    return [au[number] for number in sorted(au)]


@pytest.fixture
def faces():
    rng = np.random.default_rng(0)
    points = rng.uniform(0.2, 0.8, (6, 468, 3)).astype(np.float32)
    return points.reshape(6, 1404)


def everywhere(landmarks):
    return np.ones(len(landmarks), np.bool_)


def test_order_of_the_units():
    assert AU_NUMBERS == (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28)


def test_interocular_agrees_with_a_scalar_loop(faces):
    height, width = 720, 1280
    truth = []
    for frame in faces.reshape(6, 468, 3):
        pixels = [(float(x) * width, float(y) * height) for x, y, _ in frame]
        unit = math.dist(pixels[33], pixels[263])
        truth.append(scalar_aus([(x / unit, y / unit) for x, y in pixels]))
    found = action_units(faces, everywhere(faces), (height, width))
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_paper_mode_agrees_with_a_scalar_loop(faces):
    truth = []
    for frame in faces.reshape(6, 468, 3):
        values = scalar_aus([tuple(float(v) for v in point) for point in frame])
        truth.append([v / (max(values) + EPS) for v in values])
    found = action_units(faces, everywhere(faces), (720, 1280), "paper")
    np.testing.assert_allclose(found, truth, rtol=1e-5)
    assert found.max() <= 1


def test_a_face_measured_by_hand():
    """Eye corners 100 pixels apart; lips 10; mouth 60; nose tip 30 above the upper lip."""
    height, width = 400, 800
    p = np.full((468, 3), 0.5)
    pixels = {
        33: (300, 100), 263: (400, 100), 13: (350, 180), 14: (350, 190), 1: (350, 150),
        61: (320, 190), 291: (380, 190), 159: (320, 95), 145: (320, 103),
        386: (380, 95), 374: (380, 107),
    }  # fmt: skip
    for index, (x, y) in pixels.items():
        p[index, :2] = x / width, y / height
    landmarks = p.reshape(1, -1).astype(np.float32)
    size = (height, width)
    assert lip_opening(landmarks, size)[0] == pytest.approx(0.10, rel=1e-5)
    assert lip_width(landmarks, size)[0] == pytest.approx(0.60, rel=1e-5)
    assert eye_opening(landmarks, size)[0] == pytest.approx(0.10, rel=1e-5)
    au = dict(zip(AU_NUMBERS, action_units(landmarks, everywhere(landmarks), size)[0], strict=True))
    assert au[10] == pytest.approx(0.30, rel=1e-5)
    assert au[12] == pytest.approx(0.50, rel=1e-5)  # 3-4-5 triangle
    assert au[14] == pytest.approx(2.0, rel=1e-4)
    assert au[15] == pytest.approx(1.6, rel=1e-4)
    assert au[17] == pytest.approx(0.40, rel=1e-5)
    assert au[20] == pytest.approx(0.60, rel=1e-5)
    assert au[25] == pytest.approx(0.10, rel=1e-5)
    assert au[26] == pytest.approx(0.12, rel=1e-5)
    assert au[23] == pytest.approx(10, rel=1e-4)
    assert au[7] == pytest.approx(10, rel=1e-4)
    assert au[6] == pytest.approx((87 + 83) / 200, rel=1e-5)


@pytest.mark.parametrize("degrees", [0, 20, -75])
@pytest.mark.parametrize("scale", [0.3, 1.0, 1.8])
@pytest.mark.parametrize("size", [(500, 500), (1080, 1920), (1216, 704)])
def test_interocular_does_not_see_scale_place_roll_or_aspect(faces, degrees, scale, size):
    height, width = size
    base = faces.reshape(6, 468, 3).astype(np.float64)
    pixels = base[..., :2] * 500  # seen in a square picture first
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = base.copy()
    moved[..., :2] = (pixels @ turn.T * scale + [31, -12]) / [width, height]
    moved = moved.reshape(6, 1404).astype(np.float32)
    expected = action_units(faces, everywhere(faces), (500, 500))
    found = action_units(moved, everywhere(moved), size)
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_paper_mode_depends_on_aspect_ratio_as_documented(faces):
    stretched = faces.reshape(6, 468, 3).copy()
    stretched[..., 0] *= 0.5
    first = action_units(faces, everywhere(faces), (500, 500), "paper")
    second = action_units(stretched.reshape(6, -1), everywhere(faces), (500, 1000), "paper")
    assert np.abs(first - second).max() > 0.05


@pytest.mark.parametrize("mode", ["interocular", "paper"])
def test_zeros_without_a_face(faces, mode):
    mask = np.array([True, False, True, False, False, True])
    faces[~mask] = 0
    found = action_units(faces, mask, (480, 640), mode)
    assert (found[~mask] == 0).all()
    assert (found[mask] != 0).all()
    assert np.isfinite(found).all()
    assert lip_opening(faces, (480, 640))[~mask].tolist() == [0, 0, 0]
    assert (action_units(faces, np.zeros(6, np.bool_), (480, 640), mode) == 0).all()


def test_the_extractor_keeps_the_row_contract(faces):
    landmarks = np.zeros((150, 1404), np.float32)
    landmarks[:6] = faces
    mask = np.arange(150) < 6
    row = {"landmarks": landmarks, "face_mask": mask, "image_size": (480, 640)}
    extractor = ActionUnits(ActionUnitsConfig())
    check(row, ("landmarks", "face_mask"))
    (out,) = extractor([row])
    check(out, extractor.adds)
    np.testing.assert_array_equal(out["action_units"], action_units(landmarks, mask, (480, 640)))
