"""Made-up outputs of jobs/degrade.py, and scores whose answers are known."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.tasks import TASKS

GRID = (0.2, 0.4, 0.6, 0.8, 1.0)
PLAN = {
    "offset": ("constant offset", "sync", {"lip_sync": 3.0}, False, None),
    "noise": ("background noise", "sound", {"audio_quality": 3.0}, False, None),
    "robot": ("robotic voice", "sound", {"audio_quality": 3.0}, True, None),
    "blur": ("blur <b>of</b> all", "picture", {"expression": 2.0}, False, None),
    "seam": ("seam", "face", {"expression": 2.0}, False, "thinner than a pixel of the crop"),
}
Scores = dict[str, dict[str, float]]


def plan(types: Mapping[str, Any] = PLAN) -> dict[str, Any]:
    return {
        "format": "talkmos-degraded",
        "seed": 3,
        "severities": list(GRID),
        "artefacts": {
            name: {
                "title": title,
                "group": group,
                "version": "1",
                "harms": harms,
                "held_out": held_out,
                "blind": blind,
                "measures": {f"{s:g}": {"unit": s} for s in GRID},
            }
            for name, (title, group, harms, held_out, blind) in types.items()
        },
    }


def rows(
    sources: int, types: Mapping[str, Any] = PLAN, split: str = "test"
) -> list[dict[str, Any]]:
    found = []
    for i in range(sources):
        source = f"person/{split}-{i}"

        def row(name: str, kind: str, severity: float | None, *steps: Any, s: str = source) -> None:
            chain = [{"type": t, "severity": v, "seed": 5} for t, v in steps]
            found.append(
                {
                    "video_id": f"{s}/{name}",
                    "uri": f"videos/{s}/{name}.mov",
                    "generator": "+".join(t for t, _ in steps) or "clean",
                    "speaker": None,
                    "version": None,
                    "source": s,
                    "artefacts": None,
                    "chain": json.dumps(chain),
                    "type": kind,
                    "severity": severity,
                    "split": split,
                    "held_out": False,
                }
            )

        row("clean", "clean", 0.0)
        for name in types:
            for severity in GRID:
                row(f"{name}-{severity:g}", name, severity, (name, severity))
        if {"noise", "offset"} <= types.keys():
            row("noise+offset", "combination", None, ("noise", 0.4), ("offset", 0.6))
    return found


def write(
    folder: Path,
    records: list[dict[str, Any]],
    planned: Mapping[str, Any] | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(planned or plan()))
    table = pa.Table.from_pylist(records)
    for name in ("speaker", "version", "artefacts"):
        if name in table.column_names and pa.types.is_null(table[name].type):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table[name].cast(pa.string()))
    pq.write_table(table, folder / "manifest.parquet")
    return folder


def planted(records: list[dict[str, Any]], noise: float = 0.0, leak: float = 0.0) -> Scores:
    """Scores that fall by 0.8 of the harms, and everywhere else by ``leak`` x severity."""
    rng = np.random.default_rng(1)
    found = {}
    for record in records:
        scores = dict.fromkeys(TASKS, 4.5)
        for step in json.loads(record["chain"]):
            harms = PLAN[step["type"]][2] if step["type"] != "seam" else {}
            for task in TASKS:
                drop = 0.8 * harms.get(task, 0.0)
                if task != "overall" and step["type"] != "seam":
                    drop = drop or leak
                scores[task] -= step["severity"] * drop
        scores["overall"] = sum(scores[t] for t in TASKS[:4]) / 4
        found[record["video_id"]] = {t: v + noise * rng.normal() for t, v in scores.items()}
    return found


def write_scores(path: Path, scores: Mapping[str, Mapping[str, float]]) -> Path:
    names = list(next(iter(scores.values())))
    lines = [",".join(["video_id", *names])]
    lines += [",".join([name, *(f"{s[t]:.6f}" for t in names)]) for name, s in scores.items()]
    path.write_text("\n".join(lines) + "\n")
    return path
