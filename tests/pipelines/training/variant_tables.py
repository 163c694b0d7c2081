"""Label tables as `jobs/degrade.py` writes them, and features to go with them, for tests."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.tasks import TASKS
from pipelines.training.cleaning import CleaningConfig, clean
from pipelines.training.data import Candidates, TrainData, training_data
from pipelines.training.labels import LabelsConfig, read_labels
from pipelines.training.matching import LabelledVideos, match
from pipelines.training.splits import SplitsConfig
from tests.pipelines.training.train_inputs import index_of, write_csv

# What severity 1 of each type takes off the five tasks.
HARMS = {"blur": (0, 2, 0, 1, 1.5), "noise": (0.2, 0, 3, 0, 2)}
SEVERITIES = (0.2, 0.6, 1.0)

Change = Callable[[dict[str, Any]], Mapping[str, Any]]


def rows_of(
    sources: int, change: Change = lambda _: {}, *, label_noise: float = 0.0
) -> list[dict[str, Any]]:
    """Each source clean, with both types at three severities, and with both at once."""
    rng = np.random.default_rng(3)
    cells: list[tuple[str, float | None]] = [("clean", 0.0)]
    cells += [(name, severity) for name in HARMS for severity in SEVERITIES]
    cells += [("combination", None)]
    rows = []
    for number in range(sources):
        for kind, severity in cells:
            harm = np.array(HARMS.get(kind, (0,) * 5)) * (severity or 0)
            if kind == "combination":
                harm = np.array([0.1, 1, 1.5, 0.5, 1.7])
            scores = np.clip(4.5 - harm + label_noise * rng.standard_normal(5), 1, 5)
            strength = "" if severity is None else int(1000 * severity)
            row: dict[str, Any] = {
                "video_id": f"s{number:02d}/{kind}{strength}",
                **dict(zip(TASKS, scores.round(4).tolist(), strict=True)),
                "source": f"s{number:02d}",
                "type": kind,
                "severity": severity,
                "generator": kind,
                "split": ("train", "val", "test")[0 if number < sources - 2 else number % 2 + 1],
            }
            rows.append(row | dict(change(row)))
    return rows


def variants_of(
    folder: Path, sources: int = 6, clips: int = 2, change: Change = lambda _: {}, **more: Any
) -> LabelledVideos:
    """Labels and features of such a table."""
    rows = rows_of(sources, change, **more)
    path = write_csv(folder / "labels.csv", rows)
    table = read_labels(LabelsConfig(labels=str(path)))
    return match(table, index_of(sorted(row["video_id"] for row in rows), clips=clips))


def variant_data(folder: Path, splits: SplitsConfig | None = None, **more: Any) -> TrainData:
    """Take such a table through cleaning and splits."""
    videos = variants_of(folder, **more)
    given = splits or SplitsConfig(by="column", column="split")
    return training_data(Candidates(videos, clean(videos, CleaningConfig())), given)
