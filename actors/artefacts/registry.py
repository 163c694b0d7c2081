"""All artefacts by their type, in the order of reports."""

from typing import Final

from actors.artefacts.artefact import GROUPS, Artefact
from actors.artefacts.face import FACE
from actors.artefacts.picture import PICTURE
from actors.artefacts.sound import SOUND

ARTEFACTS: Final[dict[str, Artefact]] = {
    artefact.type: artefact
    for artefact in sorted((*SOUND, *PICTURE, *FACE), key=lambda a: GROUPS.index(a.group))
}
