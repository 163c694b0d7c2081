"""Artefacts of the face alone; they need its landmarks; one file each."""

from typing import Final

from actors.artefacts.artefact import Artefact

FACE: Final[tuple[Artefact, ...]] = ()
