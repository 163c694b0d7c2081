"""The order of an epoch's clips, and how the clips of a step are laid out in micro-batches.

Which clips a step holds depends on the seed, the epoch and the number of clips in a step alone, not
on how many ranks and micro-batches share them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.training_config import TrainingConfig
from pipelines.training.task import ClipLabels

I64: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The training clips of an epoch, n of them.

    Attributes:
        clips: [n] numbers, each once.
        piece: [n] which piece each belongs to, for clips that should go through the network
            together; None when none should.
    """

    clips: I64
    piece: I64 | None

    def shared(self, start: int, size: int, ranks: int, batch_size: int) -> list[list[I64]]:
        """Lay out a step.

        Args:
            start: Position of its first clip.
            size: How many clips it has, but for the last one of an epoch.
            ranks: How many share it.
            batch_size: Clips of a micro-batch, at most.

        Returns:
            For each rank its micro-batches; a rank has none when clips run short.
        """
        clips = self.clips[start : start + size]
        sizes = [
            [min(batch_size, own - at) for at in range(0, own, batch_size)]
            for own in (len(part) for part in np.array_split(clips, ranks))
        ]
        if self.piece is not None:
            flat = [n for own in sizes for n in own]
            clips = clips[_fitted(self.piece[start : start + size], flat)]
        result, at = [], 0
        for own in sizes:
            mine = []
            for n in own:
                mine.append(clips[at : at + n])
                at += n
            result.append(mine)
        return result


def epoch_order(labels: ClipLabels, training: TrainingConfig, epoch: int) -> EpochOrder:
    """Return the order of an epoch; it depends on the seed and the epoch alone.

    Raises:
        ValueError: ``by_source`` without known variants.
    """
    numbers = labels.of("train")
    rng = np.random.default_rng([training.seed, epoch])
    if training.batches == "shuffled":
        return EpochOrder(rng.permutation(numbers), None)
    if labels.variants is None:
        raise ValueError("by_source needs labels that tell the source of each video")
    content, kind = labels.variants.content[numbers], labels.variants.type[numbers]
    return _by_content(numbers, content, kind, training.variants_together, rng)


def _by_content(
    numbers: I64, content: I64, kind: I64, together: int, rng: np.random.Generator
) -> EpochOrder:
    """Cut the clips of each content into pieces of at most ``together`` and shuffle the pieces.

    Within a content, clips with one type of damage stand side by side, and in one piece where there
    is room, because only these (and clean ones) have a known order. Which types stand side by side
    is drawn, and where a clean one stands.
    """
    count = len(numbers)
    alone = content < 0  # of unknown content: each for itself
    content = np.where(alone, content.max(initial=0) + 1 + np.arange(count), content)
    pairs, pair = np.unique(np.stack([content, kind]), axis=1, return_inverse=True)
    of_type = rng.random((pairs.shape[1],))[pair.reshape(-1)]
    place = np.where(kind < 0, rng.random((count,)), of_type)  # within its content
    order = np.lexsort((rng.random((count,)), place, content))
    piece = _pieces(content[order], place[order], together)
    drawn = rng.permutation(int(piece.max(initial=-1)) + 1)[piece]
    shuffled = np.argsort(drawn, kind="stable")
    return EpochOrder(numbers[order][shuffled], drawn[shuffled])


def _pieces(content: I64, place: NDArray[np.float64], together: int) -> I64:
    """Number the pieces of clips that are sorted by content and place, [n]."""
    fresh = np.diff(content, prepend=-1) != 0
    starts = np.flatnonzero(fresh | (np.diff(place, prepend=-1.0) != 0))
    lengths = np.diff(starts, append=len(content))
    sizes: list[int] = []
    for new, length in zip(fresh[starts].tolist(), lengths.tolist(), strict=True):
        room = 0 if new else together - sizes[-1]
        if length < together:
            if length > room:
                sizes.append(0)
            sizes[-1] += length
            continue
        # It is cut or fills a piece alone, so the clean clip before it may as well have some of it.
        first = min(room, length)
        if first:
            sizes[-1] += first
        whole, rest = divmod(length - first, together)
        sizes += [together] * whole + ([rest] if rest else [])
    return np.repeat(np.arange(len(sizes)), sizes)


def _fitted(piece: I64, sizes: Sequence[int]) -> I64:
    """Arrange the clips of a step so that micro-batches of given sizes hold whole pieces.

    The largest piece comes first, into the micro-batch that it fills best; what fits nowhere fills
    the gaps that are left, piece by piece.

    Returns:
        [n] positions in ``piece``, micro-batch by micro-batch.
    """
    cuts = np.flatnonzero(np.diff(piece)) + 1
    pieces = sorted(np.split(np.arange(len(piece)), cuts), key=len, reverse=True)
    held: list[list[I64]] = [[] for _ in sizes]
    room = list(sizes)
    left = []
    for own in pieces:
        fits = [b for b, free in enumerate(room) if free >= len(own)]
        if not fits:
            left.append(own)
            continue
        best = min(fits, key=lambda b: room[b])
        held[best].append(own)
        room[best] -= len(own)
    rest = np.concatenate(left) if left else np.zeros(0, np.int64)
    for b, free in enumerate(room):
        held[b].append(rest[:free])
        rest = rest[free:]
    return np.concatenate([part for parts in held for part in parts]).astype(np.int64)
