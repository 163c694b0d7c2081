"""What artefacts of pictures share."""

from collections.abc import Container, Iterable, Iterator
from typing import Final

from actors.artefacts.artefact import PictureScene
from actors.types import U8

REFERENCE_SIDE: Final = 512  # pixels, the shorter side for which sizes in pixels are stated


def geometric(low: float, high: float, severity: float) -> float:
    """Go from ``low`` to ``high`` in equal ratios: equal steps of severity are equal octaves."""
    return float(low * (high / low) ** severity)


def shorter_side(scene: PictureScene) -> int:
    """Return the shorter side of the pictures, pixels."""
    return min(scene.size)


def repeated(frames: Iterable[U8], repeats: Container[int]) -> Iterator[U8]:
    """Show the picture before again in place of some.

    Args:
        frames: RGB [H, W, 3], in order.
        repeats: Which of them (0, 1, ...); the first one has none before it and stays.

    Yields:
        As many pictures; a repeat is the same array.
    """
    shown: U8 | None = None
    for i, frame in enumerate(frames):
        if shown is None or i not in repeats:
            shown = frame
        yield shown
