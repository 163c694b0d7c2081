"""Sound that leads or lags the picture by the same time throughout."""

from typing import ClassVar

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import FRAME, MAX_OFFSET, before_gap, direction, room_noise
from actors.types import F32
from model.tasks import Task


class Offset(SoundArtefact):
    """Constant offset of up to 12 frames of 40 ms; the seed decides whether the sound leads.

    The offset is positive where the sound leads the picture, as SyncNet counts. Whole frames, since
    SyncNet tells no less. The gap holds noise like that of the quietest tenth of a second.
    """

    type: ClassVar[str] = "offset"
    title: ClassVar[str] = "sound out of step"
    group: ClassVar[Group] = "sync"
    # 480 ms is over twice what ITU-R BT.1359 calls unacceptable. Words and face still fit.
    harms: ClassVar[dict[Task, float]] = {"lip_sync": 3.3, "cross_modal": 2.5}

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``offset_frames``, of 40 ms, without its sign."""
        return {"offset_frames": float(round(MAX_OFFSET * severity))}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:
        """Shift the sound; see the base class."""
        rng = scene.rng(self)
        sign = direction(rng)
        room = room_noise(samples, rng)
        moved = min(round(MAX_OFFSET * severity) * FRAME, samples.size)
        if sign > 0:
            return before_gap(samples[moved:], room)
        kept = samples[: samples.size - moved]
        # A sound that comes late is one that ends early, seen backwards.
        return before_gap(kept[::-1], room[::-1])[::-1].copy()
