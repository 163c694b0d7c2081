"""What the validation split says of an epoch, and what of it chooses the checkpoint."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.loss_config import LossConfig
from model.metrics_config import EvaluationConfig
from model.tasks import TASKS
from pipelines.training.task import TrainTask


def judged(
    task: TrainTask, clips: NDArray[np.int64], scores: NDArray[np.float32]
) -> dict[str, Any]:
    """Hold the scores [n, N] of clips against their labels.

    Returns:
        For ``history.json``: losses of the tasks and their sum, PLCC and SRCC over videos,
        correlations of the tasks over the clips; None where undefined.
    """
    import torch

    from model.losses import label_weight, task_loss_sums
    from model.metrics import Pairs, measure

    targets = task.labels.targets(clips)
    weight = label_weight(targets)
    plain = LossConfig(l1=task.loss.l1)  # smoothing is for training
    sums = task_loss_sums(torch.from_numpy(scores), targets, plain)
    losses = [number(float(s / w)) if w > 0 else None for s, w in zip(sums, weight, strict=True)]
    known = [value for value in losses if value is not None]
    predicted, labels = task.labels.per_video(clips, scores)
    found: dict[str, dict[str, float | None]] = {"plcc": {}, "srcc": {}}
    for index, name in enumerate(TASKS):
        if not np.isfinite(scores[:, index]).all():
            found["plcc"][name] = found["srcc"][name] = None
            continue
        pairs = Pairs.of(predicted[:, index], labels[:, index])
        values = measure(pairs, EvaluationConfig(rounds=0), tuple(found))
        for metric, by_task in found.items():
            by_task[name] = values[metric].value
    total = float(np.sum(known)) if known else None
    return {
        "val": {"total": total, **dict(zip(TASKS, losses, strict=True))},
        **found,
        "correlations": _correlations(scores),
    }


def monitored(task: TrainTask, record: dict[str, Any]) -> float | None:
    """Return what chooses the checkpoint; higher is better, None when it is undefined."""
    if task.monitor == "loss":
        loss = record["val"]["total"]
        return None if loss is None else -loss
    plcc: dict[str, float | None] = record["plcc"]
    if task.monitor == "overall":
        return plcc["overall"]
    weights = task.training.monitor_weights
    pairs = [
        (value, weights.get(name, 1.0))
        for name in TASKS
        if (value := plcc[name]) is not None and weights.get(name, 1.0) > 0
    ]
    return sum(v * w for v, w in pairs) / sum(w for _, w in pairs) if pairs else None


def number(value: float) -> float | None:
    """Return a value for JSON, which knows no NaN."""
    return value if math.isfinite(value) else None


def _correlations(scores: NDArray[np.floating]) -> list[list[float | None]]:
    """Correlate the columns of [n, N] scores; None where it is undefined."""
    if len(scores) < 2:
        return [[None] * len(TASKS) for _ in TASKS]
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.atleast_2d(np.corrcoef(scores.astype(np.float64), rowvar=False))
    return [[number(float(value)) for value in row] for row in matrix]
