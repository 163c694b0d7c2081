"""Clip indexes and label tables for tests of training, without any shard."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.tasks import TASKS
from pipelines.clip_index import ClipIndex
from pipelines.training.labels import LabelsConfig, read_labels
from pipelines.training.matching import LabelledVideos, match

Names = Sequence[str | None] | Callable[[int], str | None]


def index_of(
    ids: Sequence[str], clips: int = 2, generators: Names = (), speakers: Names = (), **more: Any
) -> ClipIndex:
    """``ids`` sorted; each video has ``clips`` whole clips of 6 s."""
    count, total = len(ids), len(ids) * clips

    def names(given: Names) -> list[str | None]:
        if callable(given):
            return [given(n) for n in range(count)]
        return list(given) or [None] * count

    number = np.tile(np.arange(clips), count)
    values: dict[str, Any] = {
        "uri": "/features",
        "videos": list(ids),
        "uris": [f"/corpus/{i}.mp4" for i in ids],
        "source_versions": [""] * count,
        "generators": names(generators),
        "speakers": names(speakers),
        "video": np.repeat(np.arange(count), clips),
        "clip_index": number,
        "start_s": 6.0 * number,
        "end_s": 6.0 * number + 6.0,
        "frames": np.full(total, 150),
        "length": np.full(total, 150),
        "face_frames": np.full(total, 150),
        "sound_frames": np.full(total, 150),
        "sync": np.tile([3.0, 0.0, 5.0, 8.0], (total, 1)),
        "shard": np.zeros(total, np.int64),
        "row": np.arange(total),
        "shards": ["features/part-00000000-0000000000000000.parquet"],
        "columns": ("action_units", "sync"),
        "fingerprint": "0" * 16,
        "weights": {},
        "extractors": {},
        "demonstration": False,
    }
    return ClipIndex(**values | more)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def labels_of(
    path: Path, ids: Sequence[str], more: Callable[[int], Mapping[str, Any]] = lambda n: {}
) -> Path:
    """A table with all five scores, and what ``more`` says of the n-th video."""
    rng = np.random.default_rng(5)
    scores = rng.uniform(1, 5, (len(ids), len(TASKS))).round(3)
    return write_csv(
        path,
        [
            {"video_id": i, **dict(zip(TASKS, row, strict=True)), **more(n)}
            for n, (i, row) in enumerate(zip(ids, scores.tolist(), strict=True))
        ],
    )


def labelled(
    path: Path,
    ids: Sequence[str],
    more: Callable[[int], Mapping[str, Any]] = lambda n: {},
    **index: Any,
) -> LabelledVideos:
    table = read_labels(LabelsConfig(labels=str(labels_of(path / "labels.csv", ids, more))))
    return match(table, index_of(ids, **index))
