"""Artefacts of the sound, and of its agreement with the lips; one file each."""

from typing import Final

from actors.artefacts.artefact import Artefact
from actors.artefacts.sound.band_limit import BandLimit
from actors.artefacts.sound.clipping import Clipping
from actors.artefacts.sound.drift import Drift
from actors.artefacts.sound.dropouts import Dropouts
from actors.artefacts.sound.foreign_sound import ForeignSound
from actors.artefacts.sound.noise import Noise
from actors.artefacts.sound.offset import Offset
from actors.artefacts.sound.reverberation import Reverberation
from actors.artefacts.sound.robotic import Robotic
from actors.artefacts.sound.sound_codec import SoundCodec

SOUND: Final[tuple[Artefact, ...]] = (
    Offset(),
    Drift(),
    ForeignSound(),
    Noise(),
    Clipping(),
    BandLimit(),
    Reverberation(),
    Robotic(),
    Dropouts(),
    SoundCodec(),
)
