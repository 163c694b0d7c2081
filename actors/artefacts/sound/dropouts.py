"""Lost pieces of speech."""

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import speech_mask
from actors.sound_frames import runs
from actors.types import F32, SAMPLE_RATE, Bool
from model.tasks import Task

_LEAST_SHARE: Final = 0.02  # as the severity approaches 0: a gap or two in a sentence
_MOST_SHARE: Final = 0.4
_GAP_S: Final = (0.02, 0.2)  # a packet, a syllable
_SHORTEST: Final = round(_GAP_S[0] * SAMPLE_RATE)
_KEPT_S: Final = (0.02, 0.08)  # between two gaps


class Dropouts(SoundArtefact):
    """Pieces of 20 to 200 ms of digital silence; 2 to 40 % of the speech is lost, evenly in log.

    The seed lays gaps through all speech and decides their order; a severity takes as many of them
    as its share allows, and the beginning of the next (20 ms at least). So what a smaller severity
    loses, a larger one loses too. Gaps begin and end abruptly, as lost packets do, and lie where
    somebody speaks: in a pause nobody would hear them.
    """

    type: ClassVar[str] = "dropouts"
    title: ClassVar[str] = "drop-outs"
    group: ClassVar[Group] = "sound"
    # Words are missing, but what remains is clean.
    harms: ClassVar[dict[Task, float]] = {"audio_quality": 3.0}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``lost_share``, of the time in which somebody speaks."""
        return {"lost_share": _LEAST_SHARE * (_MOST_SHARE / _LEAST_SHARE) ** severity}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:
        """Cut gaps; see the base class."""
        broken = samples.copy()
        spoken = speech_mask(samples)
        left = round(self.measures(severity)["lost_share"] * np.count_nonzero(spoken))
        left = max(left, _SHORTEST)
        for start, end in _gaps(spoken, scene.rng(self)):
            if left < _SHORTEST:
                break
            lost = min(end - start, left)
            broken[start : start + lost] = 0.0
            left -= lost
        return broken


def _gaps(spoken: Bool, rng: np.random.Generator) -> NDArray[np.intp]:
    """Lay gaps through all speech: [G, 2], first sample and the one after the last, shuffled."""
    gaps = []
    for first, end in runs(spoken):
        at = first + round(rng.uniform(*_KEPT_S) * SAMPLE_RATE)
        while at + _SHORTEST <= end:
            # Short ones are more frequent: evenly in log.
            length = round(float(np.exp(rng.uniform(*np.log(_GAP_S)))) * SAMPLE_RATE)
            gaps.append((at, min(at + length, end)))
            at += length + round(rng.uniform(*_KEPT_S) * SAMPLE_RATE)
    if not gaps and spoken.any():
        start, end = max(runs(spoken), key=lambda run: run[1] - run[0])
        gaps.append((start, min(start + _SHORTEST, end)))
    return rng.permutation(np.array(gaps, np.intp).reshape(-1, 2))
