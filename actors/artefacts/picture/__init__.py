"""Artefacts of whole pictures; one file each."""

from typing import Final

from actors.artefacts.artefact import Artefact
from actors.artefacts.picture.blur import Blur
from actors.artefacts.picture.compression import Compression
from actors.artefacts.picture.flicker import Flicker
from actors.artefacts.picture.frame_drops import FrameDrops
from actors.artefacts.picture.frozen_picture import FrozenPicture
from actors.artefacts.picture.low_resolution import LowResolution
from actors.artefacts.picture.picture_noise import PictureNoise

PICTURE: Final[tuple[Artefact, ...]] = (
    Blur(),
    LowResolution(),
    Compression(),
    PictureNoise(),
    Flicker(),
    FrameDrops(),
    FrozenPicture(),
)
