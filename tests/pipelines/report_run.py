"""A made-up training run in the formats of its files: what the report and the card are shown."""

from typing import Any

import numpy as np

from model.tasks import TASKS
from pipelines.training.model_card import CardFacts, SplitFacts, StreamFacts

NOISE = {"lip_sync": 0.0, "expression": 0.45, "audio_quality": 0.5, "overall": 0.35}
CONSTANT = "labels are constant"  # lip_sync
NO_LABEL = "no valid label"  # cross_modal
FEW = "fewer than 3 pairs"
MEASURES = ("rmse", "mae", "bias", "r2", "plcc", "srcc", "krcc", "ccc", "plcc_mapped", "rmse_star")
_CORRELATIONS = {"r2", "plcc", "srcc", "krcc", "ccc", "plcc_mapped"}


def predictions(videos: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of predictions.parquet: lip_sync constant, cross_modal without any label."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(videos):
        quality = random.normal(3.2, 0.75)
        row: dict[str, Any] = {
            "video_id": f"gen{'ABCDE'[index % 5]}/speaker_{index % 23:02d}/take_{index:04d}",
            "uri": f"s3://bucket/{index}.mp4",
            "split": ("test", "val", *["train"] * 4)[index % 6],
            "generator": f"gen{'ABCDE'[index % 5]}",
            "speaker": f"speaker_{index % 23:02d}",
            "clips": 2,
            "frames": 300,
        }
        for task in TASKS:
            noise = NOISE.get(task, 0.4)
            label = 4.763 if task == "lip_sync" else quality + random.normal(0, 0.5)
            predicted = 3.2 + 0.7 * (label - 3.2) + random.normal(0, noise) if noise else 4.7
            missing = task == "cross_modal" or (task != "lip_sync" and random.random() < 0.25)
            row[f"{task}_label"] = None if missing else round(float(np.clip(label, 1, 5)), 2)
            row[f"{task}_predicted"] = float(np.clip(predicted + 0.02 * random.normal(), 1, 5))
            row[f"{task}_reason"] = None
        if index % 40 == 7:
            row["audio_quality_predicted"], row["audio_quality_reason"] = None, "no sound"
        rows.append(row)
    return rows


def metrics(rows: list[dict[str, Any]], demonstration: bool = True) -> dict[str, Any]:
    """What metrics.json holds for these rows, the intervals made up."""
    splits: dict[str, Any] = {"train": {}, "val": {}, "test": {}}
    for split, tasks in splits.items():
        for task in TASKS:
            pairs = _pairs([row for row in rows if row["split"] == split], task)
            tasks[task] = {"n": len(pairs), "metrics": _figures(pairs, task)}
    groups: dict[str, Any] = {}
    for kind in ("generator", "speaker"):
        names = sorted({row[kind] for row in rows})
        groups[kind] = {name: _group([r for r in rows if r[kind] == name]) for name in names}
    correlations = {key: _matrix(rows, key) for key in ("label", "predicted")}
    return {
        "tasks": list(TASKS),
        "splits": splits,
        "groups": groups,
        "held_out": "test",
        "correlations": {
            "labels": correlations["label"],
            "predictions": correlations["predicted"],
        },
        "bootstrap": {"rounds": 1000, "level": 0.95, "by": "speaker"},
        "demonstration": demonstration,
    }


def _pairs(rows: list[dict[str, Any]], task: str) -> np.ndarray:
    pairs = [(row[f"{task}_predicted"], row[f"{task}_label"]) for row in rows]
    return np.array([pair for pair in pairs if None not in pair]).reshape(-1, 2)


def _figures(pairs: np.ndarray, task: str) -> dict[str, Any]:
    found = {}
    for name in MEASURES:
        reason, value = None, None
        if task == "cross_modal":
            reason = NO_LABEL
        elif task == "lip_sync" and name in _CORRELATIONS:
            reason = CONSTANT
        elif len(pairs) < 3:
            reason = FEW
        elif name == "rmse_star":
            reason = "rater spread unknown"
        else:
            error = pairs[:, 0] - pairs[:, 1]
            value = {
                "rmse": float(np.sqrt(np.mean(error**2))),
                "mae": float(np.mean(np.abs(error))),
                "bias": float(np.mean(error)),
            }.get(name, 0.0)
            if name in _CORRELATIONS:
                value = float(np.corrcoef(pairs.T)[0, 1])
        half = 0.0 if value is None else 1.5 / np.sqrt(len(pairs)) * max(0.05, 1 - abs(value))
        found[name] = {
            "value": value,
            "low": None if value is None else value - half,
            "high": None if value is None else value + half,
            "reason": reason,
        }
    return found


def _group(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for task in TASKS:
        pairs = _pairs(rows, task)
        error = pairs[:, 0] - pairs[:, 1]
        known = len(error) > 0
        found[task] = {
            "n": len(error),
            "mae": float(np.abs(error).mean()) if known else None,
            "bias": float(error.mean()) if known else None,
        }
    return found


def _matrix(rows: list[dict[str, Any]], key: str) -> list[list[float | None]]:
    values = np.array(
        [
            [np.nan if row[f"{t}_{key}"] is None else row[f"{t}_{key}"] for t in TASKS]
            for row in rows
        ]
    )
    matrix: list[list[float | None]] = []
    for a in values.T:
        matrix.append([])
        for b in values.T:
            both = ~np.isnan(a) & ~np.isnan(b)
            varies = both.sum() > 2 and np.ptp(a[both]) > 0 and np.ptp(b[both]) > 0
            matrix[-1].append(float(np.corrcoef(a[both], b[both])[0, 1]) if varies else None)
    return matrix


def history(epochs: int = 40, per_epoch: int = 25, seed: int = 0) -> dict[str, Any]:
    """What history.json holds: epochs from 0, the 27th (or the last) is the best."""
    random = np.random.default_rng(seed)
    steps: list[dict[str, Any]] = []
    for step in range(1, epochs * per_epoch + 1):
        part = step / (epochs * per_epoch)
        rate = 3e-4 * min(step / per_epoch, 1) * (0.5 + 0.5 * np.cos(np.pi * part))
        steps.append(
            {
                "step": step,
                "epoch": (step - 1) // per_epoch,
                "total": 2 * np.exp(-4 * part) + 0.4 + 0.1 * random.random(),
                "lr": {"trunk": rate, **dict.fromkeys(TASKS, 3 * rate)},
                "grad_norm": float(np.exp(random.normal(0.5 - 2 * part, 0.5))),
            }
        )
    best = min(27, epochs)
    found = []
    for epoch in range(1, epochs + 1):
        part = epoch / epochs
        fit = 1 - np.exp(-4 * part)
        wobble = {task: 0.02 * random.normal() for task in TASKS}
        plcc = {task: 0.72 * fit - 0.05 * i + wobble[task] for i, task in enumerate(TASKS)}
        undefined = {"lip_sync": None, "cross_modal": None}
        val = {t: 0.3 + 0.6 * (1 - fit) + 0.1 * part**2 + wobble[t] for t in TASKS}
        found.append(
            {
                "epoch": epoch - 1,
                "step": epoch * per_epoch,
                "seconds": 3.1,
                "train": {"total": 2.2 - 1.9 * fit + 0.03 * random.random(), "consistency": 0.2},
                "val": {"total": sum(val.values()) / 4 + 0.3, **val, "cross_modal": None},
                "plcc": plcc | undefined,
                "srcc": plcc | undefined,
                "weights": {t: 0.5 + 0.1 * i * part for i, t in enumerate(TASKS)},
                "lr": steps[epoch * per_epoch - 1]["lr"],
                "grad_norm": steps[epoch * per_epoch - 1]["grad_norm"],
                "monitor": plcc["overall"],
                "best": epoch in (1, 2, 5, 9, best),
            }
        )
    clips = [["genA/speaker_00/take_0000", index] for index in range(8)]
    incidents = [
        {"step": 31, "kind": "explosion", "value": 182.4, "clips": clips},
        {"step": 77, "kind": "not_finite", "value": None, "clips": clips[:2]},
    ]
    return {"epochs": found, "steps": steps, "incidents": incidents}


def data_report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Something of the shape of data_report.json."""
    tasks = {}
    for task in TASKS:
        known = [row[f"{task}_label"] for row in rows if row[f"{task}_label"] is not None]
        tasks[task] = {
            "n": len(known),
            "share": len(known) / len(rows),
            "mean": float(np.mean(known)) if known else None,
            "std": float(np.std(known)) if known else None,
            "near_constant": task == "lip_sync",
        }
    splits = {
        name: {"videos": sum(r["split"] == name for r in rows), "tasks": tasks}
        for name in ("train", "val", "test")
    }
    return {
        "labels": {"file": "labels.csv", "digest": "0a1b2c3d", "videos": len(rows), "tasks": tasks},
        "overlap": {
            "by": "video_id",
            "both": len(rows),
            "labels_without_features": {"count": 3, "names": ["old/1", "old/2", "old/3"]},
            "features_without_labels": {"count": 0, "names": []},
        },
        "cleaning": {
            "rules": {"min_face_share": 0.5, "max_offset": None},
            "dropped": {"min_face_share": 12},
        },
        "splits": {"settings": {"by": "speaker", "shares": [0.8, 0.1, 0.1]}, **splits},
        "warnings": [
            "lip_sync: the labels hardly vary (mean 4.763): its correlations will be undefined",
            "cross_modal: every label is missing; the task is not learned",
        ],
    }


def facts(rows: list[dict[str, Any]], **changes: Any) -> CardFacts:
    """What the run knows of its model."""
    widths = {"visual": (2048, 100, 0.962), "audio": (768, 200, 0.971)}
    widths |= {"landmarks": (1404, 50, 0.983), "action_units": (17, 17, None)}
    splits = {}
    for name in ("train", "val", "test"):
        mine = [row for row in rows if row["split"] == name]
        labels = {t: sum(row[f"{t}_label"] is not None for row in mine) for t in TASKS}
        splits[name] = SplitFacts(videos=len(mine), clips=2 * len(mine), labels=labels)
    values: dict[str, Any] = {
        "preset": "optimized",
        "family": "cross_modal_encoder",
        "parameters": 21_345_669,
        "streams": {name: StreamFacts(*width) for name, width in widths.items()},
        "aux_width": 0,
        "features": "s3://KEY:SECRET@bucket/features",
        "labels": "labels.csv",
        "labels_digest": "0a1b2c3d4e5f6071",
        "data_digest": "5566778899aabbcc",
        "learned": TASKS,
        "splits_digest": "99aabbccddeeff00",
        "splits": splits,
        "split_rule": {"by": "speaker", "shares": [0.8, 0.1, 0.1], "salt": ""},
        "metrics": metrics(rows),
        "backbones": {"visual": "seeded:1f2e3d4c5b6a7988", "audio": "seeded:8877665544332211"},
        "fingerprint": "5d41402abc4b2a76",
        "demonstration": True,
        "code_version": "0.1.0",
        "date": "2026-01-02T03:04:05Z",
        "seed": 7,
        "seconds": 124.5,
        "epochs": 40,
        "chosen_epoch": 27,
        "monitor": "plcc of overall",
        "incidents": history(3)["incidents"],
        "settings": {"training": {"epochs": 40}, "labels": "s3://KEY:SECRET@bucket/labels.csv"},
        "settings_digest": "c0ffee00c0ffee00",
        "files": {"evaluator.safetensors": "1234abcd", "preprocessor.safetensors": "abcd1234"},
    }
    return CardFacts(**(values | changes))
