"""What there is to learn from, told before any training: labels, overlap, cleaning, splits."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.types import DEMONSTRATION_WEIGHTS
from model.tasks import NEED_SOUND, TASKS, TITLES
from pipelines.train_errors import TrainInputError
from pipelines.training.cleaning import NO_FRAMES, CleanResult
from pipelines.training.label_file import plain_uri
from pipelines.training.labels import LabelTable
from pipelines.training.leakage import SPLITS
from pipelines.training.matching import LabelledVideos
from pipelines.training.splits import TRAIN, Splits
from pipelines.uris import display_text

_HEARD: Final = np.array([task in NEED_SOUND for task in TASKS])
CORRELATED: Final = 3  # pairs that a correlation takes
NEAR_CONSTANT_STD: Final = 0.05  # of scores in [1, 5]; one step of a five-point scale is 1
_LISTED: Final = 1_000  # names in the report; beyond that they are counted
_SHOWN: Final = 5  # names on the terminal

Report = dict[str, Any]


def data_report(videos: LabelledVideos, clean: CleanResult, splits: Splits) -> Report:
    """Account for labels, features, cleaning and splits as JSON-able values.

    Raises:
        TrainInputError: No label is left, at all or in the training split.
    """
    index, labels = videos.index, videos.labels
    train = splits.videos("train")
    used = splits.code >= 0
    for which, mask in (("in use", used), ("of the training split", train)):
        if not mask.any() or np.isnan(videos.values[mask]).all():
            raise TrainInputError(
                f"{labels.where}: every label of the videos {which} is missing: nothing can be "
                "learned"
            )
    tasks = {task: _task(labels, n) for n, task in enumerate(TASKS)}
    silent = silent_videos(videos)
    unlabelled = [index.videos[v] for v in np.flatnonzero(~videos.labelled).tolist()]
    report: Report = {
        "labels": {
            "file": labels.where,
            "digest": labels.digest,
            "videos": len(labels),
            "tasks": tasks,
            "spans": 0 if labels.spans is None else len(labels.spans),
        },
        "features": {
            "uri": index.uri,
            "fingerprint": index.fingerprint,
            "demonstration": index.demonstration,
            "videos": len(index.videos),
            "clips": len(index),
            "shards": len(index.shards),
            "columns": list(index.columns),
            "silent_labelled": int((silent & videos.labelled).sum()),
        },
        "overlap": {
            "by": labels.by,
            "both": int((videos.label >= 0).sum()),
            "labelled": int(videos.labelled.sum()),
            "labels_without_features": _names(videos.unmatched),
            "features_without_labels": _names(unlabelled),
        },
        "cleaning": {
            "rules": clean.config.model_dump(),
            "clips_before": int(clean.labelled.sum()),
            "clips_after": int(splits.used.sum()),
            "dropped": dict(clean.counts),
            "unmeasurable": dict(clean.unmeasurable),
            "videos_without_clips": _names(clean.emptied(index)),
        },
        "splits": {
            "settings": splits.config.model_dump(mode="json"),
            **{name: _split(videos, splits, name) for name in SPLITS},
        },
    }
    report["warnings"] = _warnings(videos, splits, report)
    return report


def silent_videos(videos: LabelledVideos) -> NDArray[np.bool_]:
    """Say which videos [V] have no sound in any clip."""
    index = videos.index
    return np.asarray(index.clips_of(index.sound_frames > 0) == 0)


def _names(names: list[str]) -> Report:
    return {"count": len(names), "names": names[:_LISTED]}


def _task(labels: LabelTable, n: int) -> Report:
    return {
        "column": TASKS[n] not in labels.absent,
        **_statistics(labels.values[:, n]),
        "with_std": int((~np.isnan(labels.std[:, n])).sum()),
        "with_raters": int((~np.isnan(labels.raters[:, n])).sum()),
    }


def _statistics(values: NDArray[np.float64]) -> Report:
    """Describe scores, NaN where missing; what is not defined is None.

    The variance is that of a sample (divided by n - 1), and exactly 0 when all scores are alike.
    """
    known = values[~np.isnan(values)]
    several = len(known) > 1
    std = 0.0
    if several and known.min() < known.max():
        std = float(known.std(ddof=1))
    return {
        "n": len(known),
        "share": len(known) / len(values) if len(values) else None,
        "mean": float(known.mean()) if len(known) else None,
        "std": std if several else None,
        "variance": std**2 if several else None,
        "min": float(known.min()) if len(known) else None,
        "max": float(known.max()) if len(known) else None,
        "near_constant": several and std < NEAR_CONSTANT_STD,
    }


def _split(videos: LabelledVideos, splits: Splits, name: str) -> Report:
    mask = splits.videos(name)
    usable = np.where(silent_videos(videos)[:, None] & _HEARD, np.nan, videos.values)
    at = np.flatnonzero(mask).tolist()
    return {
        "videos": len(at),
        "clips": int(splits.clips(name, videos.index.video).sum()),
        "groups": len({splits.groups[v] for v in at}),
        "speakers": len({videos.speakers[v] for v in at} - {None}),
        "generators": len({videos.generators[v] for v in at} - {None}),
        "tasks": {t: _statistics(usable[mask, n]) for n, t in enumerate(TASKS)},
    }


def _warnings(videos: LabelledVideos, splits: Splits, report: Report) -> list[str]:
    lines = []
    if videos.index.demonstration:
        lines.append(
            f"DEMONSTRATION: the features come from {DEMONSTRATION_WEIGHTS} and have no "
            "meaning for real quality"
        )
    for task, overall in report["labels"]["tasks"].items():
        train = report["splits"]["train"]["tasks"][task]
        if not overall["column"]:
            lines.append(f"{task}: no such column; the task is not learned")
        elif not overall["n"]:
            lines.append(f"{task}: every label is missing; the task is not learned")
        elif not train["n"]:
            lines.append(f"{task}: no label in the training split; the task is not learned")
        elif overall["near_constant"] or train["near_constant"]:
            which, of = ("", overall) if overall["near_constant"] else (" in train", train)
            lines.append(
                f"{task}: the labels hardly vary{which} (mean {of['mean']:.3f}, standard deviation "
                f"{of['std']:.3g}): its correlations will be undefined or without meaning"
            )
        else:
            lines += _thin(task, report["splits"])
    if splits.config.by == "video":
        lines.append(
            "the split by video is random and flatters where speakers or generators stand on both "
            "sides; by: speaker or by: generator gives the figures to quote"
        )
    silent = report["features"]["silent_labelled"]
    if silent:
        lines.append(
            f"{silent} labelled videos have no sound: their labels for {' and '.join(NEED_SOUND)} "
            "are not used"
        )
    spans = videos.labels.spans
    if spans is not None:
        plain = (plain_uri(uri) for uri in videos.index.uris)
        known = set(videos.index.videos if spans.by == "video_id" else plain)
        lost = sum(key not in known for key in spans.keys)
        if lost:
            lines.append(f"{lost} of {len(spans)} problem spans are about videos without features")
    return [*lines, *videos.warnings, *splits.warnings]


def _thin(task: str, splits: Report) -> list[str]:
    """Name the splits in which a task that is learned cannot be judged."""
    lines = []
    for name in SPLITS[TRAIN + 1 :]:
        there = splits[name]["tasks"][task]
        if there["n"] < CORRELATED:
            many = f"{there['n']} label{'' if there['n'] == 1 else 's'}"
            lines.append(f"{task}: {many} in {name}: correlations there are undefined")
        elif there["std"] == 0:
            lines.append(f"{task}: the labels in {name} are all alike: correlations undefined")
    return lines


# --- the terminal


def told(report: Report) -> str:
    """Return the report as text for the terminal."""
    labels, features = report["labels"], report["features"]
    overlap, cleaning = report["overlap"], report["cleaning"]
    unmatched = _told_names(overlap["labels_without_features"], "labelled without features")
    unlabelled = _told_names(overlap["features_without_labels"], "with features without labels")
    clips = f"{features['clips']} clips in {features['shards']} shards"
    rules = _told_rules(cleaning)
    in_use = f"{cleaning['clips_after']} in use"
    lines = [
        f"Labels    {labels['file']}: {labels['videos']} videos",
        f"Features  {display_text(features['uri'])}: {features['videos']} videos, {clips}",
        *_told_variants(report.get("variants")),
        f"Overlap   {overlap['labelled']} videos have both; {unmatched}; {unlabelled}",
        f"Cleaning  {cleaning['clips_before']} clips of labelled videos, {in_use}{rules}",
        "",
        *_table(report),
    ]
    if report["warnings"]:
        lines += ["", *(f"! {warning}" for warning in report["warnings"])]
    return "\n".join(lines)


def _told_names(names: Report, what: str) -> str:
    if not names["count"]:
        return f"none {what}"
    shown = ", ".join(display_text(name, 60) for name in names["names"][:_SHOWN])
    return f"{names['count']} {what} ({shown}{', …' if names['count'] > _SHOWN else ''})"


def _told_variants(variants: Report | None) -> list[str]:
    if variants is None:
        return []
    harms = variants["harms"]
    idle = [name for name, by_task in harms.items() if not any(by_task.values())]
    note = ""
    if idle:
        shown = ", ".join(display_text(name, 40) for name in idle[:_SHOWN])
        more = ", …" if len(idle) > _SHOWN else ""
        note = f"; training shows no harm of {len(idle)} ({shown}{more})"
    return [f"Variants  of {variants['sources']} clean videos, {len(harms)} types of damage{note}"]


def _told_rules(cleaning: Report) -> str:
    parts = []
    for rule, count in cleaning["dropped"].items():
        if rule == NO_FRAMES and not count:
            continue
        missing = cleaning["unmeasurable"].get(rule, 0)
        fate = "dropped" if cleaning["rules"]["unmeasurable"] == "drop" else "kept"
        note = f" ({missing} not measurable, {fate})" if missing else ""
        parts.append(f"{rule} objects to {count}{note}")
    emptied = cleaning["videos_without_clips"]
    if emptied["count"]:
        parts.append(_told_names(emptied, "videos are left without a clip"))
    return "".join(f"; {part}" for part in parts)


def _table(report: Report) -> list[str]:
    """Lay out a line a task, and below them the sizes of the splits."""
    splits = report["splits"]
    rows = [["task", "labels", "share", "mean", "std", "min", "max", *SPLITS]]
    for task, t in report["labels"]["tasks"].items():
        figures = [_figure(t[key]) for key in ("mean", "std", "min", "max")]
        share = f"{100 * t['share']:.1f} %"
        counts = [str(splits[name]["tasks"][task]["n"]) for name in SPLITS]
        rows.append([TITLES[task], str(t["n"]), share, *figures, *counts])
    rows += [
        [what, *[""] * 6, *(str(splits[name][what]) for name in SPLITS)]
        for what in ("videos", "clips", "groups")
    ]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
