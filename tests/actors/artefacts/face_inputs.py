"""Talking faces with their mesh, and measures of faces that share nothing with the artefacts."""

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.artefact import FacePoints, PictureArtefact, PictureScene
from actors.artefacts.face import FACE
from actors.artefacts.face_points import FaceFinder
from actors.faces import FacesConfig
from actors.landmarks import LandmarksConfig
from actors.types import FPS, U8
from model.geometry import apply, umeyama
from tests.talking import faces

F64 = NDArray[np.float64]
COUNT = 30
SEVERITIES = (0.2, 0.4, 0.6, 0.8, 1.0)
FEW = (0.4, 0.7, 1.0)  # where Face Mesh is run again
BY_TYPE: dict[str, PictureArtefact] = {a.type: a for a in FACE if isinstance(a, PictureArtefact)}
EYES, LIPS, CORNERS = (33, 263), (13, 14), (61, 291)
BROWS = (55, 285, 46, 276, 105, 334)
RIGID = (33, 133, 362, 263, 168, 6, 197, 195)  # eye corners and bridge of the nose


@cache
def finder() -> FaceFinder:
    return FaceFinder(FacesConfig(), LandmarksConfig())


@cache
def clean() -> tuple[tuple[U8, ...], FacePoints]:
    """Pictures of the demo's first speaker, who opens and closes the mouth, and the mesh."""
    pictures = tuple(faces(COUNT))
    return pictures, finder()(pictures)


def scene(face: FacePoints, size: tuple[int, int], seed: int = 1) -> PictureScene:
    return PictureScene(seed, np.arange(len(face.found)) / FPS, size, face)


@cache
def damaged(kind: str, severity: float, seed: int = 1) -> tuple[U8, ...]:
    pictures, face = clean()
    made = BY_TYPE[kind].apply(iter(pictures), severity, scene(face, pictures[0].shape[:2], seed))
    return tuple(made)


@cache
def damaged_part(kind: str, severity: float, seed: int) -> tuple[tuple[U8, ...], tuple[U8, ...]]:
    """Ten pictures in which the mouth opens, before and after."""
    part = slice(9, 19)
    pictures, face = clean()
    few = FacePoints(face.points[part], face.found[part])
    seen = scene(few, pictures[0].shape[:2], seed)
    return pictures[part], tuple(BY_TYPE[kind].apply(pictures[part], severity, seen))


@cache
def damaged_mesh(kind: str, severity: float) -> F64:
    """[n, 468, 2] Face Mesh, found anew in the damaged pictures."""
    return mesh(damaged(kind, severity))


def mesh(pictures: Iterable[U8]) -> F64:
    face = finder()(tuple(pictures))
    assert face.found.all()
    return face.points


def distance(points: F64, pair: tuple[int, int]) -> F64:
    """[n] between two points, in distances between the outer eye corners."""
    a, b = pair
    eyes = np.linalg.norm(points[:, EYES[0]] - points[:, EYES[1]], axis=1)
    return np.asarray(np.linalg.norm(points[:, a] - points[:, b], axis=1) / eyes)


def aligned(points: F64) -> F64:
    """Meshes [n, 468, 2] moved, turned and scaled onto the first one by the bridge of the nose."""
    rigid = list(RIGID)
    first = points[0] / np.linalg.norm(points[0, EYES[0]] - points[0, EYES[1]])
    return np.stack([apply(umeyama(p[rigid], first[rigid]), p) for p in points])


def deviation(points: F64, of: Iterable[int] | None = None) -> float:
    """Root mean square distance of aligned points from their mean over time, eye distances."""
    chosen = aligned(points)[:, list(range(468)) if of is None else list(of)]
    return float(np.sqrt(((chosen - chosen.mean(axis=0)) ** 2).sum(axis=2).mean()))


def tremble(points: F64) -> float:
    """Root mean square second difference of the aligned lips, eye distances."""
    lips = aligned(points)[:, [61, 291, 0, 17]].mean(axis=1)
    return float(np.sqrt((np.diff(lips, 2, axis=0) ** 2).sum(axis=1).mean()))
