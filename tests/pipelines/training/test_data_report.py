import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.tasks import TASKS
from pipelines.train_errors import TrainInputError
from pipelines.training.cleaning import CleaningConfig, clean
from pipelines.training.data_report import Report, data_report, told
from pipelines.training.labels import LabelsConfig, read_labels
from pipelines.training.matching import LabelledVideos, match
from pipelines.training.splits import SPLITS, SplitsConfig, assign
from tests.pipelines.training.train_inputs import index_of, labelled, write_csv

# SPEC section 1: how many of the 1,985 videos of the reference data set have a label.
SHARES = {
    "lip_sync": 1.0, "expression": 0.728, "audio_quality": 0.778, "cross_modal": 0.726,
    "overall": 0.726,
}  # fmt: skip


def report(videos: LabelledVideos, rules: CleaningConfig | None = None, **config: Any) -> Report:
    found = clean(videos, rules or CleaningConfig())
    return data_report(videos, found, assign(videos, found, SplitsConfig(**config)))


def reference(folder: Path) -> tuple[Path, list[str]]:
    rng = np.random.default_rng(11)
    ids = [f"v{n:04d}" for n in range(1_985)]
    rows: list[dict[str, Any]] = [{"video_id": i} for i in ids]
    for task, share in SHARES.items():
        missing = set(rng.permutation(len(ids))[round(share * len(ids)) :].tolist())
        for n, row in enumerate(rows):
            score = 4.763 if task == "lip_sync" else round(rng.uniform(1, 5), 2)
            row[task] = -1.0 if n in missing else score
    return write_csv(folder / "labels.csv", rows), ids


def test_the_pattern_of_the_reference_data_set(tmp_path: Path) -> None:
    path, ids = reference(tmp_path)
    found = report(match(read_labels(LabelsConfig(labels=str(path))), index_of(ids, clips=3)))
    frame = pd.read_csv(path).replace(-1.0, math.nan)
    for task, share in SHARES.items():
        there = found["labels"]["tasks"][task]
        assert there["n"] == frame[task].count() == round(share * 1_985)
        assert there["share"] == pytest.approx(share, abs=5e-4)
        assert there["mean"] == pytest.approx(frame[task].mean(), rel=1e-12)
        assert there["std"] == pytest.approx(frame[task].std(), abs=1e-12)
        assert there["variance"] == pytest.approx(frame[task].var(), abs=1e-12)
        assert (there["min"], there["max"]) == (frame[task].min(), frame[task].max())
        assert there["near_constant"] == (task == "lip_sync")
        assert sum(found["splits"][side]["tasks"][task]["n"] for side in SPLITS) == there["n"]
    assert found["labels"]["tasks"]["lip_sync"]["std"] == 0
    assert sum(found["splits"][side]["videos"] for side in SPLITS) == 1_985
    assert sum(found["splits"][side]["clips"] for side in SPLITS) == 3 * 1_985
    assert any(
        line.startswith("lip_sync: the labels hardly vary (mean 4.763")
        for line in found["warnings"]
    )
    assert not any(line.startswith(TASKS[1:]) for line in found["warnings"])
    text = told(found)
    assert "1985 videos" in text
    assert "72.8 %" in text
    assert "4.763" in text
    assert max(map(len, text.splitlines()[:12])) < 200
    json.dumps(found, allow_nan=False)


def test_a_label_that_varies_only_a_little_is_named_too(tmp_path: Path) -> None:
    videos = labelled(tmp_path, [f"v{n}" for n in range(60)], lambda n: {"lip_sync": 4.7 + n / 1e3})
    found = report(videos)
    assert found["labels"]["tasks"]["lip_sync"]["near_constant"]
    assert any(line.startswith("lip_sync: the labels hardly vary") for line in found["warnings"])


def test_overlap_cleaning_and_groups_are_counted(tmp_path: Path) -> None:
    ids = [f"v{n:03d}" for n in range(100)]
    rows = [{"video_id": f"v{n:03d}", "overall": 1 + n % 5} for n in range(20, 110)]
    table = read_labels(LabelsConfig(labels=str(write_csv(tmp_path / "l.csv", rows))))
    sync = np.tile([3.0, 0, 5, 8], (200, 1))
    sync[100] = np.nan
    sync[102:104, 2] = 1
    index = index_of(ids, sync=sync, speakers=lambda n: f"s{n // 4}", demonstration=True)
    found = report(match(table, index), CleaningConfig(min_lse_c=2), by="speaker")
    assert found["overlap"] == {
        "by": "video_id",
        "both": 80,
        "labelled": 80,
        "labels_without_features": {"count": 10, "names": [f"v{n}" for n in range(100, 110)]},
        "features_without_labels": {"count": 20, "names": [f"v{n:03d}" for n in range(20)]},
    }
    cleaning = found["cleaning"]
    assert (cleaning["clips_before"], cleaning["clips_after"]) == (160, 158)
    assert cleaning["dropped"] == {"no_frames": 0, "min_lse_c": 2}
    assert cleaning["unmeasurable"] == {"min_lse_c": 1}
    assert cleaning["videos_without_clips"] == {"count": 1, "names": ["v051"]}
    assert sum(found["splits"][side]["groups"] for side in SPLITS) == 20
    assert sum(found["splits"][side]["speakers"] for side in SPLITS) == 20
    assert sum(found["splits"][side]["generators"] for side in SPLITS) == 0
    assert found["warnings"][0].startswith("DEMONSTRATION")
    assert "lip_sync: no such column; the task is not learned" in found["warnings"]
    text = told(found)
    for said in (
        "10 labelled without features (v100, v101, v102, v103, v104, …)",
        "min_lse_c objects to 2 (1 not measurable, kept)",
        "1 videos are left without a clip (v051)",
        "! DEMONSTRATION",
    ):
        assert said in text
    json.dumps(found, allow_nan=False)


def test_spans_without_features_are_told(tmp_path: Path) -> None:
    ids = [f"v{n}" for n in range(60)]
    spans = [
        {"video_id": v, "start_s": 0, "end_s": 1, "task": "overall"} for v in ("v1", "q", "v2")
    ]
    rows = [{"video_id": v, "overall": 1 + n % 5} for n, v in enumerate(ids)]
    config = LabelsConfig(
        labels=str(write_csv(tmp_path / "l.csv", rows)),
        spans=str(write_csv(tmp_path / "s.csv", spans)),
    )
    found = report(match(read_labels(config), index_of(sorted(ids))))
    assert found["labels"]["spans"] == 3
    assert "1 of 3 problem spans are about videos without features" in found["warnings"]


def test_a_task_that_training_or_test_lacks_is_named(tmp_path: Path) -> None:
    sides = ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    scores = {
        "overall": [1, 2, 3, 3, 4, 2, 5, 5, 5],
        "expression": [-1, -1, -1, 3, 4, 2, 1, 2, 3],
        "audio_quality": [1, 2, 3, 1, 2, 3, 1, 2, 3],
        "cross_modal": [2, 3, 4, -1, 5, 1, 1, 2, 3],
        "lip_sync": [-1] * 9,
    }
    videos = labelled(
        tmp_path,
        [f"v{n}" for n in range(9)],
        lambda n: {"split": sides[n], **{task: values[n] for task, values in scores.items()}},
    )
    warnings = report(videos, by="column", column="split")["warnings"]
    assert warnings == [
        "lip_sync: every label is missing; the task is not learned",
        "expression: no label in the training split; the task is not learned",
        "cross_modal: 2 labels in val: correlations there are undefined",
        "overall: the labels in test are all alike: correlations undefined",
    ]


def test_no_label_in_training_is_an_error(tmp_path: Path) -> None:
    videos = labelled(tmp_path, [f"v{n}" for n in range(6)])
    found = clean(videos, CleaningConfig())
    splits = assign(videos, found, SplitsConfig(salt=working_salt(videos)))
    values = videos.values
    values[splits.videos("train")] = math.nan
    with pytest.raises(TrainInputError, match="every label of the videos of the training split"):
        data_report(videos, found, splits)
    values[:] = math.nan
    with pytest.raises(TrainInputError, match="every label of the videos in use is missing"):
        data_report(videos, found, splits)


def working_salt(videos: LabelledVideos) -> int:
    for salt in range(999):
        try:
            assign(videos, clean(videos, CleaningConfig()), SplitsConfig(salt=salt))
        except TrainInputError:
            continue
        return salt
    raise AssertionError("no salt works")


def test_a_random_split_is_called_one(tmp_path: Path) -> None:
    found = report(labelled(tmp_path, [f"v{n}" for n in range(60)]))
    assert any(line.startswith("the split by video is random") for line in found["warnings"])


def test_names_of_others_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    ids = [f"v{n}\x1b[31m\n" for n in range(60)]
    rows = [{"video_id": v, "overall": 3 + n % 2} for n, v in enumerate(ids)]
    path = tmp_path / "l.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    table = read_labels(LabelsConfig(labels=str(path)))
    text = told(report(match(table, index_of(sorted(k for k in table.keys[5:])))))
    assert "\x1b" not in text
