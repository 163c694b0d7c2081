"""Small clips with a rule behind their labels, and ranks that are threads."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.batch import ClipBatch, ClipTargets
from model.evaluator_config import EvaluatorConfig
from model.ranks import Ranks

WIDTHS = {"visual": 6, "audio": 5, "landmarks": 4, "action_units": 3, "lowlevel": 4}
SMALL = EvaluatorConfig(width=16, layers=1, heads=2, feedforward=32, dropout=0.0)


def clips(
    count: int, seed: int = 0, steps: int = 10, missing: float = 0.3
) -> tuple[ClipBatch, ClipTargets]:
    """Clips of one video each whose labels follow from their features; some labels are missing."""
    rng = np.random.default_rng(seed)
    length = rng.integers(steps // 2, steps + 1, count)
    length[0] = steps
    mask = np.arange(steps) < length[:, None]
    streams, present = {}, {}
    for name, width in WIDTHS.items():
        streams[name] = torch.from_numpy(rng.standard_normal((count, steps, width))).float()
        present[name] = torch.from_numpy(mask)
    level = np.stack([np.nanmean(np.where(mask, v[..., 0], np.nan), 1) for v in streams.values()])
    values = np.clip(3 + 1.5 * level.T, 1, 5).astype(np.float32)
    valid = rng.random(values.shape) > missing
    targets = ClipTargets(
        torch.from_numpy(np.where(valid, values, np.nan).astype(np.float32)),
        torch.from_numpy(valid),
        torch.from_numpy(rng.uniform(0.25, 1, values.shape).astype(np.float32)),
        torch.arange(count),
    )
    return ClipBatch(streams, present, torch.from_numpy(mask)), targets


def part(batch: ClipBatch, targets: ClipTargets, rows: slice) -> tuple[ClipBatch, ClipTargets]:
    return (
        ClipBatch(
            {k: v[rows] for k, v in batch.streams.items()},
            {k: v[rows] for k, v in batch.present.items()},
            batch.frame_mask[rows],
        ),
        ClipTargets(
            targets.values[rows], targets.valid[rows], targets.weight[rows], targets.group[rows]
        ),
    )


def as_ranks(size: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """Run ``work`` in ``size`` threads that add tensors up with each other, like ranks."""
    barrier = threading.Barrier(size)
    slots: list[Tensor | None] = [None] * size
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        def add_up(tensor: Tensor) -> None:
            slots[rank] = tensor.clone()
            barrier.wait(60)
            total = sum(slot for slot in slots if slot is not None)
            barrier.wait(60)
            tensor.copy_(total)

        try:
            results[rank] = work(Ranks(rank, size, add_up))
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
