"""The main face through a video, fit for warping: gaps bridged, trembling removed, fades."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.artefact import PictureScene
from actors.errors import VideoError
from actors.landmarks import N_POINTS
from actors.types import Bool

F64 = NDArray[np.float64]

LEAST_SHARE: Final = 0.5  # of the pictures must show the face, else nothing can be damaged there
BRIDGED_S: Final = 0.3  # a face missed for so long at most is interpolated
FADE_S: Final = 0.2  # for so long an artefact comes and goes beside a longer gap
# Windows of the smoothing. The head is slow; lips open and close within a tenth of a second.
HEAD_S: Final = 0.36
LIPS_S: Final = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """The mesh in every picture of a video of n pictures.

    Attributes:
        points: [n, 468, 2] pixels, gaps bridged, not smoothed; where ``known`` is false, a copy of
            the nearest picture that has a mesh.
        known: [n] the mesh was found, or lies between two that were found soon after each other.
        strength: [n] in [0, 1]: 0 where the face is not known, 1 from ``FADE_S`` away from there.
        rate: Pictures a second.
    """

    points: F64
    known: Bool
    strength: F64
    rate: float

    def smooth(self, seconds: float) -> F64:
        """Return the points without the mesh's trembling, [n, 468, 2] pixels.

        Parabolas are fitted to windows of ``seconds`` (A. Savitzky and M. Golay, Anal. Chem. 36,
        1964), each run of known pictures by itself.
        """
        from scipy.signal import savgol_filter

        window = 2 * round(seconds * self.rate / 2) + 1
        smoothed = self.points.copy()
        for run in runs(self.known):
            fits = min(window, (len(run) - 1) // 2 * 2 + 1)
            if fits > 3:  # a parabola through three points leaves them as they are
                part = slice(run.start, run.stop)
                smoothed[part] = savgol_filter(self.points[part], fits, 2, axis=0)
        return smoothed


def follow(scene: PictureScene, artefact: str) -> Followed:
    """Prepare the face of a scene for an artefact.

    Args:
        scene: With its face.
        artefact: Its type, for the message.

    Raises:
        VideoError: ``no_face``: less than half of the pictures show the face.
    """
    assert scene.face is not None
    found = scene.face.found
    share = float(found.mean()) if len(found) else 0.0
    if share < LEAST_SHARE:
        raise VideoError(
            "faces",
            "no_face",
            f"{artefact} damages the face, which is in {share:.0%} of the pictures only (at least "
            f"{LEAST_SHARE:.0%} are needed): leave this video out, or damage it otherwise.",
        )
    points = np.asarray(scene.face.points, np.float64)
    assert points.shape == (scene.count, N_POINTS, 2)
    seen = np.flatnonzero(found)
    known = np.zeros(len(found), np.bool_)
    known[seen] = True
    for before, after in pairwise(seen.tolist()):
        if scene.times[after] - scene.times[before] <= BRIDGED_S:
            known[before:after] = True
    filled = points.copy()
    for i in np.flatnonzero(~found).tolist():
        place = int(np.searchsorted(seen, i))
        before, after = seen[max(0, place - 1)], seen[min(place, len(seen) - 1)]
        wait = scene.times[after] - scene.times[before]
        share = (scene.times[i] - scene.times[before]) / wait if after > before else 0.0
        share = share if known[i] else round(share)  # the nearer one in a long gap
        filled[i] = (1 - share) * points[before] + share * points[after]
    return Followed(filled, known, _strength(known, scene.times), _rate(scene.times))


def runs(mask: Bool) -> list[range]:
    """Return the unbroken stretches where ``mask`` [n] holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [range(a, b) for a, b in edges.reshape(-1, 2).tolist()]


def smoothstep(x: F64) -> F64:
    """Rise from 0 (x <= 0) to 1 (x >= 1) without a kink."""
    t = np.clip(x, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def log_scale(severity: float, least: float, most: float) -> float:
    """Return what severity means where equal ratios look like equal steps."""
    return float(least * (most / least) ** severity)


def _rate(times: F64) -> float:
    steps = np.diff(times)
    steps = steps[steps > 0]
    return float(1 / np.median(steps)) if len(steps) else 25.0


def _strength(known: Bool, times: F64) -> F64:
    lost = times[~known]
    if len(lost) == 0:
        return np.ones(len(times))
    away = np.abs(times[:, None] - lost[None]).min(axis=1)
    return smoothstep(away / FADE_S)
