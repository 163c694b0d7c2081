"""Sound whose clock runs too fast or too slow."""

from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import FRAME, MAX_OFFSET, before_gap, direction, room_noise
from actors.types import F32, SAMPLE_RATE
from model.tasks import Task

_MAX_RATE: Final = 0.5  # only reached by sounds shorter than a second


class Drift(SoundArtefact):
    """An offset that grows evenly, from 0 at the start to up to 12 frames at the end.

    The sound is resampled, as a wrong clock does it. So its pitch changes too, by 12 frames over
    the length of the video: by 8 % in 6 s and 0.8 % in a minute. The seed decides whether the sound
    gets ahead (positive) or falls behind; ahead, it ends early, and the gap holds the room's noise.
    """

    type: ClassVar[str] = "drift"
    title: ClassVar[str] = "sound drifting away"
    group: ClassVar[Group] = "sync"
    # On average half the offset of `offset` at the same severity.
    harms: ClassVar[dict[Task, float]] = {"lip_sync": 2.7, "cross_modal": 2.0}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``end_offset_frames``, of 40 ms, at the end of the video, without its sign."""
        return {"end_offset_frames": MAX_OFFSET * severity}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:
        """Resample the sound; see the base class."""
        import soxr

        rng = scene.rng(self)
        sign = direction(rng)
        room = room_noise(samples, rng)
        rate = min(MAX_OFFSET * severity * FRAME / max(samples.size, 1), _MAX_RATE)
        # What sounds at instant t of the result is what sounded at (1 ± rate) t.
        played = soxr.resample(samples, SAMPLE_RATE * (1.0 + sign * rate), SAMPLE_RATE, "VHQ")
        played = np.clip(played[: samples.size], -1.0, 1.0)
        return before_gap(played.astype(np.float32), room)
