"""The sound of stored clips taken away: what the same clips would be without it."""

from dataclasses import replace
from typing import Final

import numpy as np

from actors.descriptors import JOINT_DESCRIPTORS, SOUND_DESCRIPTORS
from actors.raw_clips import SYNC_NAMES, RawClips

# Auxiliary values that a clip without sound does not have.
SOUND_AUX: Final = frozenset({*SYNC_NAMES, *JOINT_DESCRIPTORS, *SOUND_DESCRIPTORS})


def without_sound(clips: RawClips, aux_names: tuple[str, ...]) -> RawClips:
    """Return clips that the preprocessor takes for ones without sound.

    It reads `audio` and the sound columns of `lowlevel` only under the audio mask, so their values
    may stay.

    Args:
        clips: As they were stored; not changed.
        aux_names: Names of the columns of ``clips.aux``.
    """
    aux = clips.aux
    if aux is not None:
        heard = np.array([name in SOUND_AUX for name in aux_names])
        aux = np.where(heard, np.float32(np.nan), aux)
    return replace(clips, audio_mask=np.zeros_like(clips.audio_mask), aux=aux)
