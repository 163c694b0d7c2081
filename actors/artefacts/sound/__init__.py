"""Artefacts of the sound, and of its agreement with the lips; one file each."""

from typing import Final

from actors.artefacts.artefact import Artefact

SOUND: Final[tuple[Artefact, ...]] = ()
