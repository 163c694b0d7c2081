"""How well a SyncNet that learns finds offsets, and where its embeddings are put afterwards.

Legend: n windows of a clip, D numbers in an embedding.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.sync_measures import Mode, sync_distances, sync_measures
from model.sync_training_config import LARGEST_SHIFT
from model.syncnet import SyncNet

Bool = NDArray[np.bool_]


# --- judging


@dataclass(frozen=True, slots=True)
class Embedded:
    """A clip through the network: both streams in sync, window by window."""

    lips: Tensor  # [n, D]
    sounds: Tensor  # [n, D]
    mask: Bool  # [n] the lip window is real

    def __len__(self) -> int:
        return len(self.mask)

    def part(self, start: int, stop: int) -> "Embedded":
        """Return some of the windows."""
        return Embedded(self.lips[start:stop], self.sounds[start:stop], self.mask[start:stop])

    def pieces(self, windows: int) -> "list[Embedded]":
        """Cut into pieces of ``windows`` windows; what is left over is dropped."""
        return [self.part(i, i + windows) for i in range(0, len(self) - windows + 1, windows)]

    def shifted(self, offset: int) -> "Embedded":
        """Return the clip as it would be if the sound led by ``offset`` frames.

        Exact where MFCC windows are whole: a frame is four columns. Windows without a partner are
        cut off, so the clip is shorter by ``offset``.
        """
        count = len(self) - abs(offset)
        lips, sounds = max(-offset, 0), max(offset, 0)
        return Embedded(
            self.lips[lips : lips + count],
            self.sounds[sounds : sounds + count],
            self.mask[lips : lips + count],
        )

    def placed(self, origin: Tensor) -> "Embedded":
        """Return the clip with the zero vector of the space at ``origin`` [D]."""
        lips, sounds = (x - origin.to(x) for x in (self.lips, self.sounds))
        return Embedded(lips, sounds, self.mask)

    def with_sound_of(self, other: "Embedded") -> "Embedded":
        """Return these lips with another clip's sound, as long as the shorter of the two."""
        count = min(len(self), len(other))
        return Embedded(self.lips[:count], other.sounds[:count], self.mask[:count])


@dataclass(frozen=True, slots=True)
class Judged:
    """How well offsets are found and foreign sound is told.

    Attributes:
        exact: Share of injected offsets that are found exactly.
        foreign: Share of trials in which sound of its own gives more confidence than a foreign one.
        confidence: Median LSE-C in sync.
        distance: Median LSE-D in sync.
        sharpness: Median of LSE-C / (LSE-C + LSE-D) in sync: scale-free, 0..1.
        offsets: Number of injected offsets.
        trials: Number of trials with foreign sound.
    """

    exact: float
    foreign: float
    confidence: float
    distance: float
    sharpness: float
    offsets: int
    trials: int

    @property
    def share(self) -> float:
        """The mean of both shares: what validation goes by."""
        return (self.exact + self.foreign) / 2


def judge(
    clips: "list[Embedded]",
    foreigners: "list[list[Embedded]]",
    largest: int,
    mode: Mode = "parity",
) -> Judged:
    """Inject offsets and foreign sounds, and measure as the product does.

    Args:
        clips: In sync; each longer than ``largest`` windows, some of them real.
        foreigners: For each clip the clips that lend it their sound.
        largest: Offsets of -largest..largest are injected.
        mode: See :mod:`model.sync_measures`.

    Raises:
        ValueError: There are no clips, or no foreigners at all.
    """
    if not clips or not any(foreigners):
        raise ValueError("no clips to judge")
    found: list[bool] = []
    told: list[bool] = []
    own = []
    for clip, others in zip(clips, foreigners, strict=True):
        for offset in range(-largest, largest + 1):
            moved = clip.shifted(offset)
            if not moved.mask.any():
                continue
            got = sync_measures(moved.lips, moved.sounds, mask=moved.mask, mode=mode)
            found.append(got.offset == offset)
            if offset == 0:
                own.append((got.confidence, got.min_distance))
        for other in others:
            mixed = clip.with_sound_of(other)
            same = clip.part(0, len(mixed))
            if not mixed.mask.any():
                continue
            a = sync_measures(same.lips, same.sounds, mask=same.mask, mode=mode)
            b = sync_measures(mixed.lips, mixed.sounds, mask=mixed.mask, mode=mode)
            told.append(a.confidence > b.confidence)
    if not found or not told:
        raise ValueError("no window of any clip has a face")
    figures = np.array(own)  # [clips, 2]
    return Judged(
        exact=float(np.mean(found)),
        foreign=float(np.mean(told)),
        confidence=float(np.median(figures[:, 0])),
        distance=float(np.median(figures[:, 1])),
        sharpness=float(np.median(figures[:, 0] / figures.sum(axis=1).clip(1e-12))),
        offsets=len(found),
        trials=len(told),
    )


# --- after training


def median_confidence(clips: "list[Embedded]", mode: Mode = "parity") -> float:
    """Return the median LSE-C of clips in sync; 0 when none has a real window."""
    found = [
        sync_measures(c.lips, c.sounds, mask=c.mask, mode=mode).confidence
        for c in clips
        if c.mask.any()
    ]
    return float(np.median(found)) if found else 0.0


def place_heads(net: SyncNet, origin: Tensor, scale: float) -> None:
    """Move the zero vector of the space to ``origin`` and multiply all distances by ``scale``.

    Distances between lips and sound are otherwise unchanged: both heads move alike.

    Args:
        net: Changed in place.
        origin: [D] in the space as it was.
        scale: Above 0.
    """
    with torch.no_grad():
        for head in (net.netfclip, net.netfcaud):
            last = head[3]
            assert isinstance(last, nn.Linear)
            last.bias.sub_(origin.to(last.bias)).mul_(scale)
            last.weight.mul_(scale)


def neutral_origin(clips: "list[Embedded]") -> Tensor:
    """Find a place for the zero vector that is as far from lips as the sound of another moment.

    In the parity mode zero vectors stand for sound beyond the ends of a clip. Where they are nearer
    than wrong sound, large shifts look good; where they are farther, they look bad, and in short
    clips that can hide the true offset. The place is the mean of all lips, moved along the
    direction in which embeddings vary least until the mean distance of lips from it is that of
    wrong sound at the measured shifts.

    Returns:
        [D] float64.
    """
    lips = torch.cat([c.lips[torch.from_numpy(c.mask)] for c in clips]).double()
    sounds = torch.cat([c.sounds for c in clips]).double()
    means = [
        sync_distances(c.lips, c.sounds, mask=c.mask, mode="masked") for c in clips
    ]  # [31, n] each
    every = np.concatenate(means, axis=1)
    every[LARGEST_SHIFT - 2 : LARGEST_SHIFT + 3] = np.nan  # near the true one
    wanted = float(np.nanmean(every))
    centre = lips.mean(dim=0)
    joint = torch.cat([lips, sounds]) - centre
    _, vectors = torch.linalg.eigh(joint.T @ joint / len(joint))
    least = vectors[:, 0]

    def reached(height: float) -> float:
        return float(torch.linalg.vector_norm(lips - (centre + height * least), dim=1).mean())

    if reached(0.0) >= wanted:
        return centre
    low, high = 0.0, wanted
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < wanted else (low, middle)
    found: Tensor = centre + high * least
    return found
