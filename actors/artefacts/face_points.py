"""Finding the main face in every picture of a clean video."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from actors.artefacts.artefact import FacePoints
from actors.crops import Patch, Region, patch_region
from actors.detectors import Detection, make_detector
from actors.faces import FacesConfig, FaceTrack, track_main_face
from actors.landmarks import N_POINTS, FaceMesher, LandmarksConfig, mesh_region
from actors.types import CLIP_FRAMES, U8

MIB: Final = 1024**2


class FaceFinder:
    """Detector, main track and Face Mesh, as in the extraction of features.

    One object serves one video after another, in one thread: MediaPipe has one graph for each
    process.

    Args:
        faces: Detector and tracking.
        landmarks: Thresholds of the mesh.
        budget_mib: Pixels around the faces that are kept for the mesh, of each video.
    """

    def __init__(
        self, faces: FacesConfig, landmarks: LandmarksConfig, budget_mib: float = 512.0
    ) -> None:
        self._config = faces
        self._budget = budget_mib * MIB
        self._detector = make_detector(faces.detector)
        self._mesher = FaceMesher(landmarks)

    def close(self) -> None:
        """Free the graph."""
        self._mesher.close()

    def __call__(self, pictures: Iterable[U8]) -> FacePoints:
        """Find the main face.

        Args:
            pictures: RGB [H, W, 3] of one size. Iterated once; a second time where the pixels
                around the faces exceed the budget, unless it is an iterator, of which all are kept.

        Returns:
            The mesh of each picture; no face at all is no error.
        """
        again = not isinstance(pictures, Iterator)
        detections: list[list[Detection]] = []
        kept: dict[int, Patch] = {}
        used = 0
        last: tuple[int, Region] | None = None
        size = (0, 0)
        for i, image in enumerate(pictures):
            size = image.shape[:2]
            found = self._detector.detect(image)
            detections.append(found)
            region = patch_region([d.box for d in found], size[1], size[0]) if found else None
            if region is not None:
                last = i, region
            elif last is not None and i - last[0] <= self._config.max_gap:
                region = last[1]  # the detector missed a face that the track may bridge
            if region is None:
                continue
            used += 3 * (region[2] - region[0]) * (region[3] - region[1])
            if used <= self._budget or not again:
                kept[i] = Patch.cut(image, region)
        track = track_main_face(detections, self._config)
        missing = self._missing(track, kept, size)
        for i in missing:
            kept.pop(i, None)
        if missing and again:
            return self._mesh(track, kept, pictures, size)
        return self._mesh(track, kept, (), size)

    def _missing(self, track: FaceTrack, kept: dict[int, Patch], size: tuple[int, int]) -> set[int]:
        """Pictures of the track whose kept pixels are not all that the mesh looks at."""
        height, width = size
        regions = {
            i: mesh_region(track.box[i], width, height)
            for i in np.flatnonzero(track.present).tolist()
        }
        return {i for i, r in regions.items() if i not in kept or not kept[i].covers(r)}

    def _mesh(
        self,
        track: FaceTrack,
        kept: dict[int, Patch],
        pictures: Iterable[U8],
        size: tuple[int, int],
    ) -> FacePoints:
        """Lay the mesh over one stretch of pictures after another, reading what was not kept."""
        n = len(track.box)
        points = np.zeros((n, N_POINTS, 2))
        found = np.zeros(n, np.bool_)
        stream = enumerate(pictures)
        height, width = size
        for start in range(0, n, CLIP_FRAMES):
            part = slice(start, min(start + CLIP_FRAMES, n))
            patches: list[Patch | None] = [kept.pop(i, None) for i in range(part.start, part.stop)]
            for i, patch in enumerate(patches, start=part.start):
                if patch is not None or not track.present[i]:
                    continue
                image = next((image for at, image in stream if at == i), None)
                region = patch_region(track.box[i], width, height)
                if image is not None and region is not None:
                    patches[i - start] = Patch.cut(image, region)
            mesh, there = self._mesher(patches, track.box[part])
            points[part] = mesh[:, :, :2].astype(np.float64) * [width, height]
            found[part] = there
        return FacePoints(points, found)
