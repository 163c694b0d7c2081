"""One long freeze."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

import numpy as np

from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.picture._common import repeated
from actors.types import U8
from model.tasks import Task

MOST_SHARE: Final = 0.8  # of the time
# Of the time that is not frozen, how much of it passes before the freeze: from, to.
BEFORE: Final = (0.25, 0.75)


class FrozenPicture(PictureArtefact):
    """The picture stands still for a share of the time, while the sound goes on.

    The seed decides where; the freeze of one severity lies within that of every larger one.
    """

    type: ClassVar[str] = "frozen_picture"
    title: ClassVar[str] = "frozen picture"
    group: ClassVar[Group] = "picture"
    # A face that stands still while it is heard speaking is wrong in all that is seen.
    harms: ClassVar[Mapping[Task, float]] = {
        "lip_sync": 3.0,
        "expression": 3.0,
        "cross_modal": 3.0,
    }

    def measures(self, severity: float) -> dict[str, float]:
        """Return the share of the video's time in which nothing moves."""
        return {"frozen_share": MOST_SHARE * severity}

    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Freeze the picture; see :class:`actors.artefacts.artefact.PictureArtefact`."""
        before = scene.rng(self).uniform(*BEFORE)
        times, share = scene.times, self.measures(severity)["frozen_share"]
        # The last picture lasts as long as the mean of the others.
        length = (times[-1] - times[0]) * scene.count / max(1, scene.count - 1)
        begin = times[0] + before * (1 - share) * length
        first, stop = np.searchsorted(times, [begin, begin + share * length])
        return repeated(frames, range(int(first) + 1, int(stop)))
