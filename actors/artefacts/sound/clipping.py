"""Sound that was recorded too loud."""

from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import speech_mask, with_level
from actors.types import F32
from model.tasks import Task

_LEAST_SHARE: Final = 1e-3  # as the severity approaches 0: peaks that few hear
_MOST_SHARE: Final = 0.5


class Clipping(SoundArtefact):
    """Flat tops: of the samples where somebody speaks, 0.1 to 50 % lie at the limit, evenly in log.

    The sound is turned up until that share reaches the limit, cut there, and brought back to the
    level of speech that it had: a louder sound would tell what was done, and whoever hears a sound
    too loud turns it down. The tops are therefore flat at a level below 1. The limit holds for the
    whole sound, both signs alike. Silence stays silence.
    """

    type: ClassVar[str] = "clipping"
    title: ClassVar[str] = "clipped sound"
    group: ClassVar[Group] = "sound"
    # Half the samples cut is harsh throughout, but words are still understood.
    harms: ClassVar[dict[Task, float]] = {"audio_quality": 2.8}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``clipped_share``, of the samples where somebody speaks."""
        return {"clipped_share": _LEAST_SHARE * (_MOST_SHARE / _LEAST_SHARE) ** severity}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:  # noqa: ARG002
        """Clip the sound; nothing is random. See the base class."""
        spoken = speech_mask(samples)
        heights = np.abs(samples[spoken])
        heights = heights[heights > 0.0]  # or a limit could be 0, where half is digitally silent
        if not heights.size:
            return samples.copy()
        limit = float(np.quantile(heights, 1.0 - self.measures(severity)["clipped_share"]))
        cut = np.clip(samples.astype(np.float64), -limit, limit)
        return with_level(cut, samples, spoken)
