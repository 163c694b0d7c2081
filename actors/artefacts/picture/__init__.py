"""Artefacts of whole pictures; one file each."""

from typing import Final

from actors.artefacts.artefact import Artefact

PICTURE: Final[tuple[Artefact, ...]] = ()
