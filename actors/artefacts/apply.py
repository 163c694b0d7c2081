"""Applying a chain of artefacts to the two streams of a decoded video."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from actors.artefacts.artefact import (
    FacePoints,
    PictureArtefact,
    PictureScene,
    SoundArtefact,
    SoundScene,
)
from actors.artefacts.chain import Chain, Step
from actors.types import F32, U8


def sound_steps(chain: Chain) -> Chain:
    """Return the steps that act on the sound; those of severity 0 do nothing and are left out."""
    return tuple(s for s in chain if s.severity > 0 and isinstance(s.artefact, SoundArtefact))


def picture_steps(chain: Chain) -> Chain:
    """Return the steps that act on the pictures, but those of severity 0."""
    return tuple(s for s in chain if s.severity > 0 and isinstance(s.artefact, PictureArtefact))


def needs_face(chain: Chain) -> bool:
    """Say whether a step must know where the face is."""
    return any(step.artefact.group == "face" for step in picture_steps(chain))


def damaged_sound(samples: F32, chain: Chain, donor: Callable[[Step], F32]) -> F32:
    """Apply the steps that act on the sound, in order.

    Args:
        samples: [n] 16 kHz mono in [-1, 1]; not changed.
        chain: All steps of the video.
        donor: Gives the sound of another sentence for a step that needs one.

    Returns:
        [n]; ``samples`` itself when no step acts on it.

    Raises:
        VideoError: The donor cannot be read.
    """
    for step in sound_steps(chain):
        artefact = step.artefact
        assert isinstance(artefact, SoundArtefact)
        other = donor(step) if artefact.needs_donor else None
        made = artefact.apply(samples, step.severity, SoundScene(step.seed, other))
        assert made.shape == samples.shape
        assert made.dtype == np.float32
        samples = made
    return samples


def damaged_pictures(
    frames: Iterable[U8], chain: Chain, scene: PictureScene, face: FacePoints | None
) -> Iterator[U8]:
    """Apply the steps that act on pictures, in order; pictures stream through all of them.

    Args:
        frames: RGB [H, W, 3], ``scene.count`` of them.
        chain: All steps of the video.
        scene: Times and size; its seed is not used, each step has its own.
        face: The main face of the clean video, when :func:`needs_face`.
    """
    stream = iter(frames)
    for step in picture_steps(chain):
        artefact = step.artefact
        assert isinstance(artefact, PictureArtefact)
        known = face if artefact.group == "face" else None
        stream = artefact.apply(stream, step.severity, replace(scene, seed=step.seed, face=known))
    return stream
