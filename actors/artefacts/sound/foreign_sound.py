"""Another sentence's sound in place of the video's own."""

from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, SoundArtefact, SoundScene
from actors.artefacts.sound._common import level_in, speech_mask
from actors.types import F32, SAMPLE_RATE
from model.tasks import Task

_FADE: Final = SAMPLE_RATE // 50  # 20 ms


class ForeignSound(SoundArtefact):
    """The middle of the video, of a share equal to the severity, says something else.

    The donor's sound gets the level of the video's own speech, begins at a place that the seed
    decides and is repeated if it is too short. It is the same at each instant for all severities.
    Both sounds fade into each other within 20 ms; linearly, so that the sum cannot clip.
    """

    type: ClassVar[str] = "foreign_sound"
    title: ClassVar[str] = "another sentence's sound"
    group: ClassVar[Group] = "sync"
    # At severity 1 nothing that is heard is said by this face.
    harms: ClassVar[dict[Task, float]] = {"lip_sync": 3.5, "cross_modal": 3.5}
    needs_donor: ClassVar[bool] = True

    def measures(self, severity: float) -> dict[str, float]:
        """Return ``foreign_share``, of the video's length."""
        return {"foreign_share": severity}

    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:
        """Replace the middle; see the base class."""
        assert scene.donor is not None, "a chain gives foreign_sound its donor"
        start = scene.rng(self).random()
        donor = _matched(scene.donor, samples)
        other = _stretch(donor, start, samples.size)
        weight = _middle(samples.size, severity)
        result: F32 = samples * (1 - weight) + other * weight
        return np.clip(result, -1.0, 1.0)


def _matched(donor: F32, samples: F32) -> F32:
    """Give a donor [m] the level of the speech in ``samples``, as far as it does not clip."""
    own = level_in(samples, speech_mask(samples))
    others = level_in(donor, speech_mask(donor))
    peak = float(np.abs(donor).max(initial=0.0))
    if own == 0.0 or others == 0.0:
        return donor
    result: F32 = (donor * min(own / others, 1.0 / peak)).astype(np.float32)
    return result


def _stretch(donor: F32, start: float, size: int) -> F32:
    """Return ``size`` samples of a donor [m] from a place that ``start`` in [0, 1) decides."""
    if not donor.size:
        return np.zeros(size, np.float32)
    if donor.size >= size:
        first = int(start * (donor.size - size + 1))
        return donor[first : first + size]
    # The end fades into the beginning, so that it can be repeated without a click.
    fade = min(_FADE, donor.size // 2)
    loop = donor[: donor.size - fade].copy()
    up = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    loop[:fade] = loop[:fade] * up + donor[donor.size - fade :] * (1 - up)
    return loop[(int(start * loop.size) + np.arange(size)) % loop.size]


def _middle(size: int, share: float) -> F32:
    """Return weights [size] that are 1 in the middle ``share`` and fade out at its ends."""
    length = round(share * size)
    first = (size - length) // 2
    weight = np.zeros(size, np.float32)
    inside = np.arange(length)
    # The video's own ends need no fade.
    rise = (inside + 1) / _FADE if first > 0 else np.ones(length)
    fall = (length - inside) / _FADE if first + length < size else np.ones(length)
    weight[first : first + length] = np.minimum(1.0, np.minimum(rise, fall))
    return weight
