"""The order of an epoch: every clip once, variants together, the same for any number of ranks."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from model.tasks import TASKS
from model.training_config import TrainingConfig
from pipelines.training.order import EpochOrder, epoch_order
from pipelines.training.task import ClipLabels
from pipelines.training.variants import ClipVariants

BY_SOURCE = TrainingConfig(batches="by_source", batch_size=16, variants_together=8, seed=4)


def labels_of(content: Any, kind: Any, *, validation: int = 0) -> ClipLabels:
    """Clips of given content and type; the last ones are of the validation split."""
    count = len(content)
    values = np.full((count, len(TASKS)), 3, np.float32)
    severity = np.where(np.asarray(kind) < 0, 0, 0.5).astype(np.float32)
    return ClipLabels(
        values=values,
        weight=np.ones_like(values),
        video=np.arange(count),
        frames=np.full(count, 150, np.int32),
        split=(np.arange(count) >= count - validation).astype(np.int8),
        variants=ClipVariants(
            np.asarray(content, np.int64), np.asarray(kind, np.int64), severity, values * 0
        ),
    )


def grid(contents: int, types: int = 4, each: int = 5, **more: Any) -> ClipLabels:
    """Each content clean, and with every type at several severities."""
    kinds = [-1, *np.repeat(np.arange(types), each).tolist()]
    content = np.repeat(np.arange(contents), len(kinds))
    return labels_of(content, kinds * contents, **more)


def steps_of(
    order: EpochOrder, size: int, ranks: int, batch_size: int
) -> list[list[list[list[int]]]]:
    """Steps -> ranks -> micro-batches -> clips."""
    return [
        [[m.tolist() for m in own] for own in order.shared(start, size, ranks, batch_size)]
        for start in range(0, len(order.clips), size)
    ]


@pytest.mark.parametrize("batches", ["shuffled", "by_source"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_every_clip_is_seen_once_an_epoch(batches: str, epoch: int) -> None:
    labels = grid(13, validation=30)
    order = epoch_order(labels, BY_SOURCE.model_copy(update={"batches": batches}), epoch)
    for ranks, batch in ((1, 16), (2, 8), (3, 8), (1, 300)):
        micros = [m for s in steps_of(order, 48, ranks, batch) for own in s for m in own]
        assert sorted(itertools.chain(*micros)) == labels.of("train").tolist()
        assert max(map(len, micros)) <= batch
        assert min(map(len, micros)) > 0


def test_shuffled_is_the_permutation_of_seed_and_epoch() -> None:
    labels = grid(5, validation=10)
    order = epoch_order(labels, TrainingConfig(seed=3, batch_size=16), 2)
    expected = np.random.default_rng([3, 2]).permutation(labels.of("train"))
    assert list(itertools.chain(*order.shared(16, 16, 1, 16)[0])) == expected[16:32].tolist()


@pytest.mark.parametrize("batches", ["shuffled", "by_source"])
def test_a_step_holds_the_same_clips_however_they_are_shared(batches: str) -> None:
    order = epoch_order(grid(11), BY_SOURCE.model_copy(update={"batches": batches}), 0)
    ways = [
        [sorted(c for own in step for m in own for c in m) for step in steps_of(order, 32, r, b)]
        for r, b in ((1, 32), (1, 16), (2, 16), (4, 8))
    ]
    assert all(way == ways[0] for way in ways[1:])
    counts = [[len(own) for own in step] for step in steps_of(order, 32, 4, 8)]
    assert counts[:-1] == [[1] * 4] * (len(counts) - 1)


def test_the_last_step_may_leave_ranks_without_clips() -> None:
    order = epoch_order(labels_of([0, 0, 1], [-1, 0, -1]), BY_SOURCE, 0)
    parts = order.shared(0, 64, 4, 16)
    assert [len(own) for own in parts] == [1, 1, 1, 0]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    labels = grid(9)

    def clips(seed: int, epoch: int) -> list[int]:
        return epoch_order(
            labels, BY_SOURCE.model_copy(update={"seed": seed}), epoch
        ).clips.tolist()

    assert clips(1, 1) == clips(1, 1)
    assert len({tuple(clips(s, e)) for s in range(3) for e in range(3)}) == 9


def test_variants_stand_together() -> None:
    """Most pairs of one type and content share a micro-batch; shuffled, hardly any does."""

    def pairs(batches: str, ranks: int, batch: int) -> float:
        labels = grid(60, types=20)
        order = epoch_order(labels, BY_SOURCE.model_copy(update={"batches": batches}), 0)
        known, met = labels.variants, 0
        assert known is not None
        for step in steps_of(order, 64, ranks, batch):
            for micro in itertools.chain(*step):
                at = [c for c in micro if known.type[c] >= 0]
                cells = Counter((int(known.content[c]), int(known.type[c])) for c in at)
                met += sum(n * (n - 1) // 2 for n in cells.values())
        return met / (60 * 20 * 10)

    for ranks, batch in ((1, 64), (2, 32), (1, 16), (4, 16)):
        assert pairs("by_source", ranks, batch) > 0.9, (ranks, batch)
    assert pairs("shuffled", 1, 64) < 0.05


def test_pieces_hold_one_content_and_are_no_larger_than_asked() -> None:
    labels = grid(20, types=3, each=7)
    known = labels.variants
    assert known is not None
    for together in (2, 5, 8, 64):
        training = TrainingConfig(batches="by_source", batch_size=64, variants_together=together)
        order = epoch_order(labels, training, 0)
        assert order.piece is not None
        sizes = np.bincount(order.piece)
        assert sizes.max() == min(together, 22)
        for piece in range(len(sizes)):
            mine = order.clips[order.piece == piece]
            assert len(set(known.content[mine].tolist())) == 1
        # A piece stands in one place.
        assert (np.diff(order.piece) != 0).sum() == len(sizes) - 1


def test_other_variants_meet_in_other_epochs() -> None:
    labels = grid(1, types=1, each=12)
    together = TrainingConfig(batches="by_source", batch_size=16, variants_together=4)
    met = set()
    for epoch in range(30):
        order = epoch_order(labels, together, epoch)
        assert order.piece is not None
        for piece in np.unique(order.piece):
            met |= set(itertools.combinations(sorted(order.clips[order.piece == piece]), 2))
    assert len(met) > 0.9 * 13 * 12 / 2  # the clean clip meets them, too


def test_clips_of_unknown_content_fill_up() -> None:
    content = [0] * 6 + [1] * 6 + [-1] * 8
    order = epoch_order(labels_of(content, [0] * 6 + [1] * 6 + [-1] * 8), BY_SOURCE, 0)
    micros = order.shared(0, 20, 1, 10)[0]
    known = np.array(content)
    assert [len(m) for m in micros] == [10, 10]
    for micro in micros:
        assert Counter(known[micro].tolist())[-1] == 4  # a whole content of six beside them


def test_without_variants_there_is_nothing_to_go_by() -> None:
    labels = grid(2)
    plain = ClipLabels(labels.values, labels.weight, labels.video, labels.frames, labels.split)
    with pytest.raises(ValueError, match="source of each video"):
        epoch_order(plain, BY_SOURCE, 0)
