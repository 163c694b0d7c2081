"""What the artefacts of the face share: the joined mesh, warps, pose and expression, gaps."""

from collections import Counter

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from actors.artefacts.artefact import FacePoints, PictureScene
from actors.artefacts.face import _shape as S
from actors.artefacts.face._common import FADE_S, follow
from actors.artefacts.face._reshape import FARTHEST, _bounded
from actors.artefacts.face._topology import topology
from actors.artefacts.face._warp import Window, spread, warped
from actors.landmarks import N_POINTS
from tests.actors.artefacts.face_inputs import clean


def test_the_mesh_is_joined_without_holes():
    """Euler's formula, and that each inner edge has two triangles."""
    made = topology()
    ring = len(made.oval)
    triangles = made.triangles
    edges = Counter(
        tuple(sorted(edge))
        for t in triangles.tolist()
        for edge in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))
    )
    assert ring == 36
    assert set(np.unique(triangles)) == set(range(N_POINTS + ring))
    assert N_POINTS + ring - len(edges) + len(triangles) == 1  # a disc
    assert set(edges.values()) == {1, 2}
    rim = [edge for edge, count in edges.items() if count == 1]
    assert len(rim) == ring
    assert min(min(edge) for edge in rim) >= N_POINTS
    assert {10, 152, 234, 454} <= set(made.oval.tolist())


def test_triangles_cover_the_face_once():
    points = topology().with_ring(clean()[1].points[0])
    corners = points[topology().triangles]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2
    x, y = points[N_POINTS:].T
    hull = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert area == pytest.approx(hull, rel=0.02)  # folds at the lips and the jaw are thin


@pytest.mark.parametrize("step", [1, 3])
def test_linear_values_spread_linearly(step):
    points = topology().with_ring(clean()[1].points[0])
    linear = np.array([[0.5, -0.2], [0.1, 0.3]])
    window = Window((60, 70, 261, 300), step)
    field = window.fine(spread(points, points @ linear + 5, window, np.ones(len(points), np.bool_)))
    assert field.shape == (2, 230, 201)
    y, x = np.mgrid[70:300, 60:261] + 0.5  # centres of pixels
    want = np.stack([x, y], axis=-1) @ linear + 5
    wrong = np.abs(field - want.transpose(2, 0, 1))[:, 70:170, 60:150]
    assert (wrong < 0.3).mean() > 0.98
    assert wrong.max() < 4.0  # in slivers, and by less than the values of their corners differ


def test_a_warp_brings_points_to_their_places():
    """A grey dot painted on a landmark arrives where the landmark is sent."""
    pictures, face = clean()
    points = face.points[0]
    image = np.zeros_like(pictures[0])
    goal = points.copy()
    cheek = 50
    near = np.linalg.norm(points - points[cheek], axis=1) < 18
    goal[near] += [4.0, -3.0]
    x, y = np.floor(points[cheek]).astype(int)
    image[y - 1 : y + 2, x - 1 : x + 2] = 200
    weight = warped(image, points, goal)[..., 0].astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(found, [x + 4.5, y - 2.5], atol=0.3)


def test_no_motion_is_the_very_picture():
    pictures, face = clean()
    assert warped(pictures[0], face.points[0], face.points[0]) is pictures[0]


def turned_heads(expression: float) -> tuple[np.ndarray, np.ndarray]:
    """A head in depth that turns, nods and opens its mouth; projected without perspective.

    Returns:
        Meshes [n, 468, 2] in pixels, and the opening [n] in eye distances.
    """
    flat = clean()[1].points[0]
    flat = (flat - flat[168]) / np.linalg.norm(flat[33] - flat[263])
    away = ((flat - [0.0, 0.3]) / [0.8, 1.1]) ** 2
    nose = 0.25 * np.exp(-(((flat - flat[4]) / 0.22) ** 2).sum(axis=1))
    head = np.column_stack([flat, 0.45 * away.sum(axis=1) - nose])
    t = np.arange(100) / 25
    opening = 0.1 * expression * (1 + np.sin(2 * np.pi * 2.1 * t))
    lower = flat[:, 1] > (flat[13, 1] + flat[14, 1]) / 2
    meshes = []
    for i, gap in enumerate(opening):
        shape = head.copy()
        shape[lower, 1] += gap
        yaw, pitch, roll = (
            8 * np.sin(1.3 * t[i]),
            5 * np.sin(0.9 * t[i] + 1),
            5 * np.sin(0.7 * t[i]),
        )
        turn = Rotation.from_euler("yxz", [yaw, pitch, roll], degrees=True).as_matrix()
        meshes.append(80 * (shape @ turn.T)[:, :2] + [160 + 6 * np.sin(t[i]), 150])
    return np.stack(meshes), opening


def taken_apart(meshes: np.ndarray) -> S.Shape:
    n = len(meshes)
    face = FacePoints(meshes, np.ones(n, np.bool_))
    return S.shape_of(follow(PictureScene(1, np.arange(n) / 25, (320, 320), face), "test"))


def test_a_turning_head_is_no_expression():
    """Without the parallax, a turn by 8 degrees would look like several per cent of expression."""
    shape = taken_apart(turned_heads(0.0)[0])
    moved = np.sqrt((shape.expression**2).sum(axis=2).mean())
    parallax = np.sqrt((shape.parallax**2).sum(axis=2).mean())
    assert parallax > 0.005
    assert moved < 0.006


def test_the_opening_of_the_mouth_is_expression():
    meshes, opening = turned_heads(1.0)
    shape = taken_apart(meshes)
    gap = S.gap_of(shape.mean + shape.expression, S.MOUTH_PAIRS)
    assert np.corrcoef(gap, opening)[0, 1] > 0.99
    assert gap.std() == pytest.approx(opening.std(), rel=0.12)
    for i in (0, 40, 99):  # the parts add up
        again = shape.pixels(i, shape.expression[i])
        assert np.abs(again - meshes[i]).max() < 0.02 * shape.eyes[i]


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.8, 3.0])
def test_gaps_stay_gaps(factor):
    rest = 0.1
    gap = np.linspace(0.0, 0.3, 61)
    allowed = S.limited(factor, gap, np.asarray(rest))
    after = rest + allowed * (gap - rest)
    assert (after > -1e-9).all()
    narrow = gap < rest
    assert (after[narrow] <= S.OPENED * gap[narrow] + 1e-9).all() or factor > 1
    assert (after[narrow] <= rest + 1e-9).all()
    assert (allowed >= min(1.0, factor) - 1e-12).all()
    assert (allowed <= max(1.0, factor) + 1e-12).all()
    np.testing.assert_allclose(after[~narrow], rest + factor * (gap[~narrow] - rest))


def test_far_moves_are_shortened_and_short_ones_kept():
    length = np.linspace(0.0, 3.0, 61)
    angle = np.linspace(0.0, 6.0, 61)
    moves = length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    bounded = _bounded(moves)
    after = np.linalg.norm(bounded, axis=1)
    assert (after < FARTHEST).all()
    assert (np.diff(after) > 0).all()  # more stays more
    short = length < FARTHEST / 3
    np.testing.assert_allclose(bounded[short], moves[short], rtol=0.01)
    np.testing.assert_allclose(bounded[1:] / after[1:, None], moves[1:] / length[1:, None])


def test_gaps_in_the_mesh():
    n = 50
    points = np.arange(n, dtype=float)[:, None, None] * np.ones((1, N_POINTS, 2))
    found = np.ones(n, np.bool_)
    found[[4, 5]] = False
    found[20:35] = False
    points[~found] = np.nan
    times = np.arange(n) / 25
    followed = follow(PictureScene(1, times, (9, 9), FacePoints(points, found)), "test")
    np.testing.assert_allclose(followed.points[:20, 0, 0], np.arange(20))  # interpolated
    np.testing.assert_array_equal(followed.known, (np.arange(n) < 20) | (np.arange(n) >= 35))
    assert (followed.points[20:27, 0, 0] == 19).all()
    assert (followed.points[28:35, 0, 0] == 35).all()
    strength = followed.strength
    assert (strength[20:35] == 0).all()
    away = round(FADE_S * 25)
    assert (strength[: 20 - away] == 1).all()
    assert (strength[35 + away :] == 1).all()
    assert (np.diff(strength[20 - away : 21]) < 0).all()
    smooth = followed.smooth(0.36)
    assert np.isfinite(smooth).all()
    np.testing.assert_allclose(smooth[:20, 0, 0], np.arange(20), atol=1e-9)  # lines stay lines


def test_smoothing_takes_trembling_away_and_keeps_syllables():
    times = np.arange(100) / 25
    syllables = np.sin(2 * np.pi * 3 * times)
    noise = np.random.default_rng(1).standard_normal((100, N_POINTS, 2)) * 0.2
    found = np.ones(100, np.bool_)

    def smooth(points):
        face = FacePoints(points, found)
        return follow(PictureScene(1, times, (9, 9), face), "test").smooth(0.2)

    signal = np.broadcast_to(syllables[:, None, None], noise.shape)
    assert smooth(noise).std() < 0.75 * noise.std()
    assert smooth(signal)[5:-5].std() > 0.9 * signal[5:-5].std()
