"""How the 468 points of Face Mesh are joined to triangles, and a ring around the face."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.landmarks import N_POINTS

F64 = NDArray[np.float64]

RING: Final = 1.45  # of the ring around the face, in sizes of its outline
_CORNERS: Final = (78, 33, 263)  # of the holes: inner mouth, both eyes


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """Triangles over the face and a ring around it that does not move.

    Attributes:
        triangles: [T, 3] vertices; those from 468 on are the ring's.
        layer: [T] 0 for the surroundings of the face, 1 for eyes and inner mouth, 2 for skin.
        oval: [R] points of the face's outline, in their order around it.
    """

    triangles: NDArray[np.int64]
    layer: NDArray[np.int64]
    oval: NDArray[np.int64]

    def with_ring(self, points: F64) -> F64:
        """Append the ring [R, 2] to a mesh [468, 2]."""
        outline = points[self.oval]
        centre = outline.mean(axis=0)
        return np.concatenate([points, centre + RING * (outline - centre)])


@lru_cache(maxsize=1)
def topology() -> Topology:
    """Build the triangles from the edges that MediaPipe publishes.

    All triples of points that are joined with each other are triangles of skin, but those that
    others fill: each of their edges has three triangles. Edges of one triangle alone bound the
    holes of mouth and eyes, which are filled here, and the face.
    """
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    joined: dict[int, set[int]] = {i: set() for i in range(N_POINTS)}
    for a, b in FACEMESH_TESSELATION:
        joined[a].add(b)
        joined[b].add(a)
    triples = sorted(
        (a, b, c)
        for a in joined
        for b in joined[a]
        if b > a
        for c in joined[a] & joined[b]
        if c > b
    )
    count = Counter(edge for triple in triples for edge in _edges(triple))
    skin = [t for t in triples if any(count[edge] < 3 for edge in _edges(t))]
    count = Counter(edge for triple in skin for edge in _edges(triple))
    loops = _loops([edge for edge, triangles in count.items() if triangles == 1])
    oval = max(loops, key=len)
    holes = [loop for loop in loops if loop is not oval]
    filled = [
        triangle for hole in holes for corner in _CORNERS if corner in hole
        for triangle in _strip(hole[hole.index(corner) :] + hole[: hole.index(corner)])
    ]  # fmt: skip
    around = []
    for i, (a, b) in enumerate(zip(oval, oval[1:] + oval[:1], strict=True)):
        ring_a, ring_b = N_POINTS + i, N_POINTS + (i + 1) % len(oval)
        around += [(a, b, ring_a), (b, ring_b, ring_a)]
    layer = np.repeat([0, 1, 2], [len(around), len(filled), len(skin)])
    return Topology(np.array(around + filled + skin), layer, np.array(oval))


def _edges(triple: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    a, b, c = triple
    return (a, b), (b, c), (a, c)


def _loops(edges: list[tuple[int, int]]) -> list[list[int]]:
    """Put edges of closed, separate loops in order."""
    beside: dict[int, list[int]] = {}
    for a, b in edges:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    loops = []
    left = set(beside)
    while left:
        loop = [min(left)]
        while True:
            ahead = [v for v in beside[loop[-1]] if v in left and v not in loop]
            if not ahead:
                break
            loop.append(min(ahead))
        left -= set(loop)
        loops.append(loop)
    return loops


def _strip(loop: list[int]) -> list[tuple[int, int, int]]:
    """Fill a loop that begins in a corner by triangles between its two sides."""
    made = []
    first, last = 0, len(loop)  # the last is the corner again, seen from the other side
    while last - first > 2:
        made.append((loop[first], loop[first + 1], loop[last - 1]))
        first += 1
        if last - first > 2:
            made.append((loop[first], loop[last - 1], loop[last - 2]))
            last -= 1
    return made
