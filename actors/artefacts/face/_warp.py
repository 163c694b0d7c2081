"""Dense fields over a face, and pictures that are resampled by them.

A field is only ever evaluated near the face; elsewhere a picture keeps its very bits.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.face._topology import topology
from actors.crops import Region
from actors.types import F32, U8

F64 = NDArray[np.float64]

_SHIFT: Final = 4  # fractional bits of the coordinates given to OpenCV's drawing
_CELLS: Final = 160  # a field has so many cells across, or nearly twice; between them it is linear
_BEYOND: Final = 0.25  # so far outside of its triangle, in sides of it, a value is extrapolated
_SOFT: Final = 0.6  # cells, standard deviation
_STILL: Final = 0.015  # pixels; OpenCV resamples in steps of 1/32


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture, and the grid that fields have there.

    Attributes:
        region: x0, y0, x1, y1, inside the picture.
        step: Pixels a cell.
    """

    region: Region
    step: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        x0, y0, x1, y1 = self.region
        return -(-(y1 - y0) // self.step), -(-(x1 - x0) // self.step)

    def cells(self, points: F64) -> F64:
        """Map [m, 2] pixels (pixel i spans i to i + 1) to cells, counted from their centres."""
        return np.asarray((points - self.region[:2]) / self.step - 0.5)

    def centres(self) -> F64:
        """Return the centres of the cells, [rows, columns, 2] pixels."""
        rows, columns = self.shape
        x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
        return np.asarray(np.stack([x, y], axis=-1) * self.step + self.region[:2])

    def fine(self, field: F32) -> F32:
        """Interpolate a field on the grid [K, rows, columns] to pixels [K, h, w]."""
        import cv2

        x0, y0, x1, y1 = self.region
        if self.step > 1:
            rows, columns = self.shape
            size = (columns * self.step, rows * self.step)
            field = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_LINEAR) for f in field])
        return field[:, : y1 - y0, : x1 - x0]


def window_around(points: F64, size: tuple[int, int], cells: int = _CELLS) -> Window | None:
    """Return the window that holds points; None where none of it is in the picture.

    Args:
        points: [m, 2] pixels.
        size: Height and width of the picture.
        cells: Of the grid across the window, at least where it has so many pixels.
    """
    height, width = size
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(width, int(high[0])), min(height, int(high[1]))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    step = max(1, int((high - low).max() / cells))
    return Window((x0, y0, x1, y1), step)


def spread(vertices: F64, values: F64, window: Window, moving: NDArray[np.bool_]) -> F32:
    """Carry values of vertices over the triangles between them.

    Args:
        vertices: [V, 2] pixels; where triangles fold, skin covers eyes, mouth and surroundings.
        values: [V, K].
        window: Where.
        moving: [V] triangles without one of these are left out.

    Returns:
        [K, rows, columns] on the window's grid, 0 outside the triangles.
    """
    import cv2

    triangles, layer = topology().triangles, topology().layer
    corners = window.cells(vertices)[triangles]  # [T, 3, 2]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    rows, columns = window.shape
    inside = (corners.max(axis=1) > -1).all(axis=1)
    inside &= (corners.min(axis=1) < [columns, rows]).all(axis=1)
    chosen = np.flatnonzero(moving[triangles].any(axis=1) & inside)
    # What is drawn later covers what came before: of a layer, the large triangles come last, since
    # OpenCV draws the edges of a triangle half a pixel too wide.
    chosen = chosen[np.lexsort((np.abs(area[chosen]), layer[chosen]))]
    triangles, corners, a, b = triangles[chosen], corners[chosen], a[chosen], b[chosen]
    area = np.where(np.abs(area[chosen]) < 1e-6, 1e-6, area[chosen])
    owner = np.zeros((rows, columns), np.int32)
    fixed = np.rint(corners * (1 << _SHIFT)).astype(np.int32)
    for number, triangle in enumerate(fixed, start=1):
        cv2.fillConvexPoly(owner, triangle, number, cv2.LINE_8, _SHIFT)
    field = np.zeros((values.shape[1], rows * columns), np.float32)
    cells = np.flatnonzero(owner)
    mine = owner.ravel()[cells] - 1
    x = (cells % columns).astype(np.float32) - corners[:, 0, 0].astype(np.float32)[mine]
    y = (cells // columns).astype(np.float32) - corners[:, 0, 1].astype(np.float32)[mine]
    # Shares of the second and the third corner: linear in x and y. Edge pixels may lie outside of
    # their triangle, which a sliver would magnify.
    ax, ay, bx, by = ((v / area).astype(np.float32)[mine] for v in (*a.T, *b.T))
    second = np.clip(by * x - bx * y, -_BEYOND, 1.0 + _BEYOND)
    third = np.clip(ax * y - ay * x, -_BEYOND, 1.0 + _BEYOND)
    at = values[triangles].astype(np.float32)  # [T, 3, K]
    for k, plane in enumerate(field):
        base = at[:, 0, k]
        ahead, aside = at[:, 1, k] - base, at[:, 2, k] - base
        plane[cells] = base[mine] + second * ahead[mine] + third * aside[mine]
    planes = field.reshape(-1, rows, columns)
    # Where lips or lids meet, the field jumps: without this the line between them is a staircase.
    return np.stack([cv2.GaussianBlur(p, (5, 5), _SOFT) for p in planes])


def moved(image: U8, window: Window, offset: F32) -> U8:
    """Resample the window of a picture (bicubic).

    Args:
        image: [H, W, 3].
        window: Of the picture.
        offset: [2, h, w] x and y, pixels, from where a pixel of the result is to where it is taken
            from.

    Returns:
        [h, w, 3].
    """
    import cv2

    x0, y0, x1, y1 = window.region
    x, y = offset
    still = (np.abs(x) < _STILL) & (np.abs(y) < _STILL)
    x, y = np.where(still, np.float32(0), x), np.where(still, np.float32(0), y)
    x += np.arange(x0, x1, dtype=np.float32)
    y += np.arange(y0, y1, dtype=np.float32)[:, None]
    taken: U8 = cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return taken


def laid_over(below: U8, above: U8 | F32, alpha: F32) -> U8:
    """Mix two pictures [h, w, 3]; where ``alpha`` [h, w, 1] is 0 the lower one keeps its bits."""
    mixed = below + alpha * (above.astype(np.float32) - below)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def put(image: U8, window: Window, part: U8) -> U8:
    """Return a copy of a picture whose window shows ``part`` [h, w, 3]."""
    x0, y0, x1, y1 = window.region
    result = image.copy()
    result[y0:y1, x0:x1] = part
    return result


def warped(image: U8, source: F64, target: F64) -> U8:
    """Warp a picture so that the points of a mesh get to other places.

    Piecewise affine between the points; outside the face the motion fades out until the ring
    around it (:class:`~actors.artefacts.face._topology.Topology`).

    Args:
        image: [H, W, 3]; not changed.
        source: [468, 2] pixels.
        target: [468, 2] pixels.
    """
    vertices = topology().with_ring(source)
    goal = vertices.copy()
    goal[: len(target)] = target
    moving = np.abs(goal - vertices).max(axis=1) >= _STILL
    if not moving.any():
        return image
    window = window_around(touched(goal, moving), image.shape[:2])
    if window is None:
        return image
    offset = window.fine(spread(goal, vertices - goal, window, moving))
    return put(image, window, moved(image, window, offset))


def touched(vertices: F64, moving: NDArray[np.bool_]) -> F64:
    """Return the vertices [m, 2] of the triangles that have a moving corner."""
    triangles = topology().triangles
    return np.asarray(vertices[np.unique(triangles[moving[triangles].any(axis=1)])])
