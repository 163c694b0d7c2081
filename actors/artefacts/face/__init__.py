"""Artefacts of the face alone; they need its landmarks; one file each."""

from typing import Final

from actors.artefacts.artefact import Artefact
from actors.artefacts.face.damped_mouth import DampedMouth
from actors.artefacts.face.exaggerated import Exaggerated
from actors.artefacts.face.face_wobble import FaceWobble
from actors.artefacts.face.flattened import Flattened
from actors.artefacts.face.frozen_mouth import FrozenMouth
from actors.artefacts.face.mouth_jitter import MouthJitter
from actors.artefacts.face.seam import Seam

FACE: Final[tuple[Artefact, ...]] = (
    FrozenMouth(),
    DampedMouth(),
    MouthJitter(),
    Exaggerated(),
    Flattened(),
    FaceWobble(),
    Seam(),
)
