"""Predictions of videos held against their labels: ``metrics.json`` and what the terminal shows."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from model.metrics_config import EvaluationConfig
from model.tasks import TASKS, TITLES
from pipelines.predictions import VideoPredictions, VideoTable
from pipelines.storage import display_text

By = Literal["video", "speaker", "source", "generator"]
Metrics = dict[str, Any]  # of metrics.json

NAME = "metrics.json"
SPLITS: Final = ("train", "val", "test")
HELD_OUT: Final = ("test", "val", "train")  # the first that has videos is the honest one
GROUPS: Final = ("generator", "speaker")
SHOWN: Final = ("plcc", "srcc", "rmse")


def group_names(videos: VideoTable, by: By) -> list[str]:
    """Name the group of each video; one whose group is unknown is a group of its own."""
    if by == "video":
        return list(videos.video_id)
    columns = {"speaker": videos.speaker, "source": videos.source, "generator": videos.generator}
    known = columns[by] or [None] * len(videos)
    # A prefix, so that a speaker who bears the name of a video is not taken for it.
    return [
        f"video {video_id}" if name is None else f"{by} {name}"
        for video_id, name in zip(videos.video_id, known, strict=True)
    ]


def evaluate(videos: VideoPredictions, config: EvaluationConfig, by: By = "video") -> Metrics:
    """Compute every metric of every task on every split that has videos.

    Args:
        videos: Predictions and labels.
        config: Thresholds and bootstrap.
        by: What is resampled together, as the videos were split.

    Returns:
        The content of ``metrics.json``; finite numbers, None where undefined. ``groups`` and
        ``correlations`` are those of the split named ``held_out``.
    """
    split = np.array([name or "" for name in videos.videos.split])
    splits = [name for name in SPLITS if (split == name).any()]
    held_out = next((name for name in HELD_OUT if name in splits), None)
    held = split == held_out
    return {
        "tasks": list(TASKS),
        "splits": {name: _split(videos, split == name, config, by) for name in splits},
        "held_out": held_out,
        "groups": {kind: _groups(videos, held, kind, config) for kind in GROUPS},
        "correlations": {
            "labels": _correlations(videos.videos.labels[held], config),
            "predictions": _correlations(videos.scores[held], config),
        },
        "bootstrap": {"rounds": config.rounds, "level": config.level, "by": by},
        "demonstration": videos.provenance.demonstration,
    }


def _split(
    videos: VideoPredictions, rows: np.ndarray[Any, Any], config: EvaluationConfig, by: By
) -> dict[str, Any]:
    from model.bootstrap import number_groups
    from model.metrics import Pairs, measure

    groups = number_groups(group_names(videos.videos, by))[rows]
    found: dict[str, Any] = {}
    for t, task in enumerate(TASKS):
        pairs = Pairs.of(
            videos.scores[rows, t],
            videos.videos.labels[rows, t],
            groups,
            videos.videos.std[rows, t],
            videos.videos.raters[rows, t],
        )
        values = measure(pairs, config)
        found[task] = {
            "n": len(pairs),
            "labels": pairs.labelled,
            "with_spread": int((~np.isnan(pairs.margin)).sum()),
            "metrics": {name: value.to_dict() for name, value in values.items()},
        }
    return found


def _groups(
    videos: VideoPredictions, rows: np.ndarray[Any, Any], kind: str, config: EvaluationConfig
) -> dict[str, Any]:
    from model.metrics import Pairs, measure

    point = config.model_copy(update={"rounds": 0})
    of: list[str | None] = getattr(videos.videos, kind)
    names = np.array([name or "" for name in of])
    known = np.array([name is not None for name in of], bool) & rows
    found: dict[str, Any] = {}
    for name in sorted(set(names[known].tolist())):
        mine = known & (names == name)
        found[name] = {}
        for t, task in enumerate(TASKS):
            pairs = Pairs.of(videos.scores[mine, t], videos.videos.labels[mine, t])
            values = measure(pairs, point, ("mae", "bias"))
            found[name][task] = {"n": len(pairs)} | {k: v.value for k, v in values.items()}
    return found


def _correlations(
    values: np.ndarray[Any, Any], config: EvaluationConfig
) -> list[list[float | None]]:
    """Pearson correlations of the columns of [V, N] over the videos that have both."""
    from model.metrics import Pairs, measure

    point = config.model_copy(update={"rounds": 0})

    def one(a: int, b: int) -> float | None:
        return measure(Pairs.of(values[:, a], values[:, b]), point, ("plcc",))["plcc"].value

    half = {(a, b): one(a, b) for a in range(len(TASKS)) for b in range(a, len(TASKS))}
    return [[half[min(a, b), max(a, b)] for b in range(len(TASKS))] for a in range(len(TASKS))]


# --- for people


def told(metrics: Metrics, splits: Sequence[str] = SPLITS) -> str:
    """Show the main figures as a table: per split, a line a task with its intervals."""
    from model.metrics import METRICS

    boot = metrics["bootstrap"]
    lines = ["DEMONSTRATION: seeded weights took part; these figures say nothing of real quality"]
    if not metrics["demonstration"]:
        lines = []
    note = f"{100 * boot['level']:g} % intervals, resampled by {boot['by']}"
    for split in (name for name in splits if name in metrics["splits"]):
        rows = [["", "n", *(METRICS[name].title for name in SHOWN)]]
        for task, found in metrics["splits"][split].items():
            cells = [_cell(found["metrics"][name]) for name in SHOWN]
            rows.append([TITLES[task], str(found["n"]), *cells])
        lines += [f"{split} ({note if boot['rounds'] else 'no intervals'})", *_table(rows)]
        if boot["rounds"]:
            lines += [f"  {reason}" for reason in _without_interval(metrics["splits"][split])]
        lines.append("")
    return "\n".join(lines).rstrip()


def _without_interval(tasks: Mapping[str, Any]) -> list[str]:
    """Say why figures that are shown have no interval, each reason once."""
    shown = [found["metrics"][name] for found in tasks.values() for name in SHOWN]
    return sorted({v["reason"] for v in shown if v["value"] is not None and v["low"] is None})


def _cell(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return f"undefined: {value['reason']}"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _table(rows: list[list[str]]) -> list[str]:
    """Align columns; a reason that repeats its left neighbour's is written once."""
    shown = [
        [
            "same" if i and cell.startswith("undefined") and cell == row[i - 1] else cell
            for i, cell in enumerate(row)
        ]
        for row in rows
    ]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]


def leave_one_out_table(folds: Mapping[str, Metrics], split: str = "test") -> dict[str, Any]:
    """Combine the folds of a leave-one-out run: each was tested on what it had not seen.

    Args:
        folds: Name of what was held out (a generator) -> ``metrics.json`` of its run.
        split: The split that holds it.

    Returns:
        ``{"folds": {name: {task: {"n", "metrics": {metric: value}}}}, "mean": {task: {metric:
        {"value", "sd", "folds", "undefined"}}}}``. The mean counts each fold once, whatever its
        size, because the question is how the next unseen one will fare; folds where a metric is
        undefined are left out and counted, and ``sd`` is the standard deviation between folds,
        None below two.

    Raises:
        ValueError: A fold has no such split.
    """
    kept: dict[str, Any] = {}
    for name, metrics in folds.items():
        if split not in metrics["splits"]:
            raise ValueError(f"fold {name} has no videos in its split {split}")
        kept[name] = metrics["splits"][split]
    mean: dict[str, Any] = {}
    for task in TASKS:
        columns: dict[str, list[float | None]] = {}
        for found in kept.values():
            for metric, value in found[task]["metrics"].items():
                columns.setdefault(metric, []).append(value["value"])
        mean[task] = {metric: _over_folds(values) for metric, values in columns.items()}
    return {"split": split, "folds": kept, "mean": mean}


def _over_folds(values: list[float | None]) -> dict[str, Any]:
    defined = [value for value in values if value is not None]
    return {
        "value": statistics.fmean(defined) if defined else None,
        "sd": statistics.stdev(defined) if len(defined) > 1 else None,
        "folds": len(defined),
        "undefined": len(values) - len(defined),
    }


def told_leave_one_out(table: Mapping[str, Any], metric: str = "srcc") -> str:
    """Show one metric of a leave-one-out run: a line a fold, a column a task, then the mean."""
    from model.metrics import METRICS

    rows = [["held out", *(TITLES[task] for task in TASKS)]]
    for name, found in table["folds"].items():
        values = (found[task]["metrics"][metric] for task in TASKS)
        rows.append([display_text(name), *(_cell(value) for value in values)])
    means = [table["mean"][task][metric] for task in TASKS]
    rows.append(["mean of folds", *(_mean_cell(mean) for mean in means)])
    return "\n".join([f"{METRICS[metric].title} on what was held out", *_table(rows)])


def _mean_cell(mean: Mapping[str, Any]) -> str:
    if mean["value"] is None:
        return "undefined in all folds"
    left_out = f" ({mean['undefined']} undefined)" if mean["undefined"] else ""
    return f"{mean['value']:.3f}{left_out}"
