"""A triangle mesh over the portrait: how it is cut, follows control points, and is drawn.

Control points carry the rest of the mesh by multiquadric interpolation (R. L. Hardy, JGR 76, 1971).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.demo import portrait as P
from actors.types import F32, U8

F64 = NDArray[np.float64]

IMAGE_SIZE = 320  # side of a drawn frame, pixels
TEXTURE_SCALE = 3  # pixels of the texture per pixel of the portrait
SHIFT = 4  # fractional bits of the coordinates given to OpenCV's drawing


def resample(curve: F64, n: int) -> F64:
    """Return ``n`` points at equal steps along a polyline."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    at = np.linspace(0.0, length[-1], n)
    return np.stack([np.interp(at, length, curve[:, k]) for k in range(2)], axis=1)


def anchors() -> F64:
    """Points that never move: around the head and on the border of the picture."""
    centre, _ = P.HEAD
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = centre + np.stack([np.cos(angle) * 66, np.sin(angle) * 96 + 4], axis=1)
    t = np.linspace(0.0, 1.0, 7)[:-1]
    edge = np.concatenate([
        np.stack([t, 0 * t], 1), np.stack([0 * t + 1, t], 1),
        np.stack([1 - t, 0 * t + 1], 1), np.stack([0 * t, 1 - t], 1),
    ])  # fmt: skip
    return np.concatenate([ring, P.ORIGIN + edge * P.SIZE])


def triangulate(upper: F64, lower: F64) -> tuple[F64, NDArray[np.int64]]:
    """Vertices [V, 2] (rims first) and triangles [F, 3] over the picture without the mouth."""
    from scipy.spatial import Delaunay, cKDTree

    features = np.concatenate([
        upper, lower, P.array(P.UPPER_OUTER), P.array(P.LOWER_OUTER), P.array(P.LEFT_UPPER_LID),
        P.array(P.LEFT_LOWER_LID), P.array(P.RIGHT_UPPER_LID), P.array(P.RIGHT_LOWER_LID),
    ])  # fmt: skip
    face = [np.arange(174.0, 280.0, 5.0), np.arange(78.0, 186.0, 5.0)]
    coarse = [np.linspace(P.ORIGIN[k] - 12, P.ORIGIN[k] + P.SIZE + 12, 21) for k in range(2)]
    fine = np.stack(np.meshgrid(*face), -1).reshape(-1, 2)
    wide = np.stack(np.meshgrid(*coarse), -1).reshape(-1, 2)
    inside = (wide > fine.min(0) - 4).all(1) & (wide < fine.max(0) + 4).all(1)
    far = cKDTree(features).query(fine)[0] > 2.5
    hole = np.concatenate([upper, lower[::-1]])
    far &= ~_inside(hole, fine)
    vertices = np.concatenate([features, fine[far], wide[~inside]])
    triangles = np.asarray(Delaunay(vertices).simplices, dtype=np.int64)
    centres = vertices[triangles].mean(1)
    eyes = np.zeros(len(triangles), dtype=np.bool_)
    for top, bottom in (
        (P.LEFT_UPPER_LID, P.LEFT_LOWER_LID),
        (P.RIGHT_UPPER_LID, P.RIGHT_LOWER_LID),
    ):
        eyes |= _inside(np.concatenate([P.array(top), P.array(bottom)[::-1]]), centres)
    keep = ~_inside(hole, centres)
    # Eyeballs are drawn first, so that a lid covers them when it closes.
    return vertices, np.concatenate([triangles[eyes & keep], triangles[~eyes & keep]])


def _inside(polygon: F64, points: F64) -> NDArray[np.bool_]:
    """Even-odd test of points [n, 2] against a polygon [m, 2]."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = (b[:, 0] - a[:, 0]) * (y - a[:, 1]) / (b[:, 1] - a[:, 1]) + a[:, 0]
    return np.asarray((crosses & (x < at)).sum(1) % 2 == 1)


def multiquadric(controls: F64, points: F64) -> F64:
    """Matrix [V, C] that carries displacements of the controls to the points."""

    def kernel(a: F64, b: F64) -> F64:
        return np.asarray(np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1) + 1.0))

    system = kernel(controls, controls)
    return np.asarray(np.linalg.solve(system, kernel(controls, points)).T, dtype=np.float64)


def fixed(points: F64) -> NDArray[np.int32]:
    """Return points as OpenCV's drawing functions want them with ``shift=SHIFT``."""
    return np.rint(points * (1 << SHIFT)).astype(np.int32)


def to_image(points: F64) -> F64:
    """From the portrait to pixel centres of the drawn frame."""
    return np.asarray((points - P.ORIGIN) * (IMAGE_SIZE / P.SIZE) - 0.5)


def coverage(ring: F64, height: int, width: int) -> F32:
    """Share of each pixel that a polygon covers: [height, width] in [0, 1], 16 samples a pixel."""
    import cv2

    scale = 4
    large = np.zeros((height * scale, width * scale), np.uint8)
    cv2.fillPoly(large, [fixed((ring + 0.5) * scale - 0.5)], 255, cv2.LINE_8, SHIFT)
    small: Any = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def warp(texture: U8, source: F64, target: F64, triangles: NDArray[np.int64]) -> U8:
    """Draw each triangle of the texture at its new place: piecewise affine, bilinear."""
    import cv2

    to = to_image(target)[triangles]  # [F, 3, 2]
    corners = ((source - P.ORIGIN) * TEXTURE_SCALE - 0.5)[triangles]
    a, b = to[:, 1] - to[:, 0], to[:, 2] - to[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    area = np.where(np.abs(area) < 1e-6, 1e-6, area)
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # Columns of the inverse map: texture = offset + x * per_x + y * per_y.
    per_x = (u * b[:, 1:] - v * a[:, 1:]) / area[:, None]
    per_y = (v * a[:, :1] - u * b[:, :1]) / area[:, None]
    offset = corners[:, 0] - to[:, 0, :1] * per_x - to[:, 0, 1:] * per_y
    which = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.int32)
    for i, triangle in enumerate(fixed(to)):
        cv2.fillConvexPoly(which, triangle, i, cv2.LINE_8, SHIFT)
    table = np.concatenate([offset, per_x, per_y], axis=1).astype(np.float32)[which]  # [H, W, 6]
    x = np.arange(IMAGE_SIZE, dtype=np.float32)[None, :, None]
    y = np.arange(IMAGE_SIZE, dtype=np.float32)[:, None, None]
    grid = table[..., :2] + x * table[..., 2:4] + y * table[..., 4:]
    drawn: U8 = cv2.remap(texture, grid, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return drawn
