"""What an artefact is: a type, a severity in [0, 1], the tasks that it harms, and how much.

An artefact acts on one stream of a decoded video: on its sound, or on its pictures. It is a pure
function of the stream, the severity and a seed, with these properties, which tests hold every one
against:

- severity 0 returns the stream bit by bit;
- its measure (SNR, delay, sharpness ...) is monotone in the severity;
- whatever is random depends on the seed alone and not on the severity, so that two severities of
  one seed differ by nothing but how strong the artefact is;
- the length does not change, and pictures keep their order and number.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from actors.types import F32, U8, Bool
from model.tasks import Task

Group = Literal["sound", "sync", "picture", "face"]
GROUPS: tuple[Group, ...] = ("sound", "sync", "picture", "face")


@dataclass(frozen=True, slots=True)
class Scene:
    """What every artefact may know beside its stream.

    Attributes:
        seed: Decides everything random.
    """

    seed: int

    def rng(self, of: "Artefact") -> np.random.Generator:
        """Return the generator of an artefact: another type gets other numbers of one seed."""
        return np.random.default_rng([self.seed, *of.type.encode()])


@dataclass(frozen=True, slots=True)
class SoundScene(Scene):
    """The surroundings of a sound.

    Attributes:
        donor: [m] 16 kHz mono of another sentence, for artefacts that need one.
    """

    donor: F32 | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FacePoints:
    """The main face through a video of n pictures.

    Attributes:
        points: [n, 468, 2] Face Mesh, pixels; arbitrary where not ``found``.
        found: [n] the mesh was found in the picture.
    """

    points: NDArray[np.float64]
    found: Bool


@dataclass(frozen=True, slots=True, eq=False)
class PictureScene(Scene):
    """The surroundings of pictures.

    Attributes:
        times: [n] of the pictures, seconds, ascending from about 0.
        size: Height and width, pixels.
        face: Known to artefacts of the group ``face`` only.
    """

    times: NDArray[np.float64]
    size: tuple[int, int]
    face: FacePoints | None = None

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.times)


class Artefact(ABC):
    """One kind of damage. Stateless; one instance serves all videos.

    Attributes:
        type: Its name in plans, tables and file names.
        title: In words, for reports.
        group: ``sound``, ``sync`` (sound and lips part), ``picture``, ``face``.
        version: Raised by hand when the same seed and severity give other values.
        harms: Task -> score points that severity 1 takes off a clean video. ``overall`` is left
            out: it follows from the others.
        needs_donor: It needs another sentence's sound.
    """

    type: ClassVar[str]
    title: ClassVar[str]
    group: ClassVar[Group]
    version: ClassVar[str] = "1"
    harms: ClassVar[Mapping[Task, float]]
    needs_donor: ClassVar[bool] = False

    @abstractmethod
    def measures(self, severity: float) -> dict[str, float]:
        """Return the severity in physical units: name with its unit (``snr_db``) -> value."""


class SoundArtefact(Artefact):
    """Damage to the sound."""

    @abstractmethod
    def apply(self, samples: F32, severity: float, scene: SoundScene) -> F32:
        """Damage a sound.

        Args:
            samples: [n] 16 kHz mono in [-1, 1] from the instant of the first picture; not changed.
            severity: In (0, 1]; severity 0 never gets here, see :func:`actors.artefacts.apply`.
            scene: Seed and donor.

        Returns:
            [n] float32 in [-1, 1].
        """


class PictureArtefact(Artefact):
    """Damage to the pictures; pictures come and go one by one, so that videos may be long."""

    @abstractmethod
    def apply(self, frames: Iterable[U8], severity: float, scene: PictureScene) -> Iterator[U8]:
        """Damage pictures.

        Args:
            frames: RGB [H, W, 3], in order, ``scene.count`` of them; not changed.
            severity: In (0, 1]; severity 0 never gets here.
            scene: Seed, times, size, face.

        Yields:
            As many pictures of the same size, in order.

        Raises:
            VideoError: The video does not allow it (``no_face``).
        """
