"""metrics.json, the table for the terminal, and leave-one-out tables."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from model.metrics import METRICS
from model.metrics_config import EvaluationConfig
from model.tasks import TASKS
from pipelines.evaluate import (
    evaluate,
    group_names,
    leave_one_out_table,
    told,
    told_leave_one_out,
)
from pipelines.prediction_tables import read_predictions, write_predictions
from pipelines.predictions import (
    ClipPredictions,
    Provenance,
    VideoPredictions,
    VideoTable,
    average_clips,
)
from pipelines.storage import Store

QUICK = EvaluationConfig(rounds=100)
V = 90
SPLITS = ["train"] * 50 + ["val"] * 15 + ["test"] * 25


def planted(demonstration: bool = False) -> tuple[ClipPredictions, VideoPredictions]:
    """90 videos of 9 speakers; lip sync always 4.763, expression half labelled, one mute."""
    rng = np.random.default_rng(0)
    labels = np.clip(rng.normal(3, 0.8, (V, 1)) + rng.normal(0, 0.5, (V, 5)), 1, 5)
    labels[:, 0] = 4.763
    labels[::2, 1] = np.nan
    labels[:, 3] = np.nan  # cross_modal was never rated
    names = [f"v{i:02}" for i in range(V)]
    videos = VideoTable(
        video_id=names,
        uri=names,
        split=list(SPLITS),
        generator=[f"g{i % 3}" for i in range(V)],
        speaker=[None if i >= 85 else f"s{i // 10}" for i in range(V)],
        labels=labels,
        std=np.where(np.arange(5) == 4, 0.6, np.nan) * np.ones((V, 1)),
        raters=np.full((V, 5), 20.0),
    )
    clips = ClipPredictions(
        video_id=np.array(names),
        clip_index=np.zeros(V, np.int64),
        start_s=np.zeros(V),
        end_s=np.full(V, 6.0),
        frames=np.full(V, 150),
        has_sound=np.arange(V) != 80,
        scores=np.clip(np.nan_to_num(labels, nan=3.0) + rng.normal(0, 0.5, (V, 5)), 1, 5),
    )
    return clips, average_clips(clips, videos, Provenance("f", "c", demonstration))


@pytest.fixture(scope="module")
def predictions() -> VideoPredictions:
    return planted()[1]


@pytest.fixture(scope="module")
def metrics(predictions: VideoPredictions) -> dict[str, object]:
    return evaluate(predictions, QUICK, "speaker")


def test_it_has_the_layout_that_others_read(metrics: dict) -> None:
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["tasks"] == list(TASKS)
    assert list(metrics["splits"]) == ["train", "val", "test"]
    for split in metrics["splits"].values():
        assert list(split) == list(TASKS)
        for found in split.values():
            assert list(found["metrics"]) == list(METRICS)
            for value in found["metrics"].values():
                assert {"value", "low", "high", "reason"} <= value.keys()
                undefined = value["value"] is None or value["low"] is None
                assert (value["reason"] is not None) == undefined
    assert metrics["bootstrap"] == {"rounds": 100, "level": 0.95, "by": "speaker"}
    assert metrics["demonstration"] is False
    assert metrics["held_out"] == "test"


def test_each_split_and_task_has_its_own_figures(
    metrics: dict, predictions: VideoPredictions
) -> None:
    for split in ("train", "val", "test"):
        rows = np.array(SPLITS) == split
        x, y = predictions.scores[rows, 4], predictions.videos.labels[rows, 4]
        found = metrics["splits"][split]["overall"]
        assert found["n"] == found["labels"] == found["with_spread"] == rows.sum()
        assert found["metrics"]["plcc"]["value"] == pytest.approx(scipy.stats.pearsonr(x, y)[0])
        assert found["metrics"]["mae"]["value"] == pytest.approx(np.abs(x - y).mean())


def test_what_is_undefined_says_why(metrics: dict) -> None:
    test = metrics["splits"]["test"]
    assert test["lip_sync"]["metrics"]["plcc"]["reason"] == "labels are constant"
    assert test["lip_sync"]["metrics"]["rmse"]["value"] > 0
    assert test["cross_modal"]["n"] == 0
    assert {v["reason"] for v in test["cross_modal"]["metrics"].values()} == {"no valid label"}
    assert test["overall"]["metrics"]["rmse_star"]["value"] > 0
    assert test["expression"]["metrics"]["rmse_star"]["reason"] == "rater spread unknown"


def test_a_video_without_sound_is_not_judged_in_what_needs_it(metrics: dict) -> None:
    audio = metrics["splits"]["test"]["audio_quality"]
    assert (audio["n"], audio["labels"]) == (24, 25)


def test_speakers_are_resampled_together_and_strangers_alone(
    predictions: VideoPredictions,
) -> None:
    names = group_names(predictions.videos, "speaker")
    assert len(set(names[:85])) == 9
    assert len(set(names[85:])) == 5
    assert not set(names[:85]) & set(names[85:])
    assert len(set(group_names(predictions.videos, "generator"))) == 3
    assert group_names(predictions.videos, "video") == predictions.videos.video_id


def test_intervals_follow_the_groups(predictions: VideoPredictions, metrics: dict) -> None:
    by_video = evaluate(predictions, QUICK, "video")
    for split in ("val", "test"):
        a = metrics["splits"][split]["overall"]["metrics"]["plcc"]
        b = by_video["splits"][split]["overall"]["metrics"]["plcc"]
        assert a["value"] == b["value"]
        assert (a["low"], a["high"]) != (b["low"], b["high"])
    # val holds two speakers: too few to resample
    assert metrics["splits"]["val"]["overall"]["metrics"]["mae"]["low"] is None


def test_errors_by_group_are_those_of_the_test_split(
    metrics: dict, predictions: VideoPredictions
) -> None:
    assert list(metrics["groups"]["generator"]) == ["g0", "g1", "g2"]
    assert list(metrics["groups"]["speaker"]) == ["s6", "s7", "s8"]
    rows = [i for i in range(V) if SPLITS[i] == "test" and i % 3 == 1]
    error = predictions.scores[rows, 4] - predictions.videos.labels[rows, 4]
    found = metrics["groups"]["generator"]["g1"]["overall"]
    assert found["n"] == len(rows)
    assert found["mae"] == pytest.approx(np.abs(error).mean())
    assert found["bias"] == pytest.approx(error.mean())
    assert metrics["groups"]["generator"]["g1"]["cross_modal"] == {
        "n": 0,
        "mae": None,
        "bias": None,
    }


def test_correlations_between_tasks(metrics: dict, predictions: VideoPredictions) -> None:
    labels = predictions.videos.labels[np.array(SPLITS) == "test"]
    found = metrics["correlations"]["labels"]
    assert found[0] == [None] * 5  # constant
    assert found[3] == [None] * 5  # never rated
    assert found[4][4] == pytest.approx(1)
    both = np.isfinite(labels[:, 1])
    expected = scipy.stats.pearsonr(labels[both, 1], labels[both, 4])[0]
    assert found[1][4] == found[4][1] == pytest.approx(expected)
    scores = predictions.scores[np.array(SPLITS) == "test"]
    expected = scipy.stats.pearsonr(scores[:, 3], scores[:, 4])[0]
    assert metrics["correlations"]["predictions"][3][4] == pytest.approx(expected)


def test_the_same_figures_come_from_the_stored_table(tmp_path: Path, metrics: dict) -> None:
    clips, predictions = planted()
    write_predictions(Store.at(tmp_path), predictions, clips)
    again = evaluate(read_predictions(Store.at(tmp_path)), QUICK, "speaker")
    for task in TASKS:
        for name, value in metrics["splits"]["test"][task]["metrics"].items():
            got = again["splits"]["test"][task]["metrics"][name]
            assert got["reason"] == value["reason"]
            # Scores are stored as float32.
            assert got["value"] == pytest.approx(value["value"], abs=1e-5)


def test_a_split_without_videos_is_left_out() -> None:
    _, predictions = planted()
    predictions.videos.split[:] = ["train"] * 60 + ["val"] * 30
    found = evaluate(predictions, QUICK)
    assert list(found["splits"]) == ["train", "val"]
    assert found["held_out"] == "val"


def test_the_table_for_people(metrics: dict) -> None:
    text = told(metrics)
    lines = text.splitlines()
    assert "DEMONSTRATION" not in text
    assert any(line.startswith("test (95 % intervals, resampled by speaker)") for line in lines)
    test = lines[next(i for i, line in enumerate(lines) if line.startswith("test (")) :]
    assert test[1].split() == ["n", "PLCC", "SRCC", "RMSE"]
    lip, overall, cross = (
        next(line for line in test if line.strip().startswith(title))
        for title in ("lip sync", "overall quality", "cross-modal")
    )
    assert "undefined: labels are constant" in lip
    assert "undefined: no valid label" in cross
    plcc = metrics["splits"]["test"]["overall"]["metrics"]["plcc"]
    assert f"{plcc['value']:.3f} [{plcc['low']:.3f}, {plcc['high']:.3f}]" in overall
    # val has two speakers, test has eight groups.
    assert text.count("no interval: fewer than 5 groups to resample") == 1
    assert "None" not in text
    assert "nan" not in text


def test_a_demonstration_is_called_one() -> None:
    found = evaluate(planted(demonstration=True)[1], EvaluationConfig(rounds=0))
    assert found["demonstration"] is True
    text = told(found, splits=("test",))
    assert text.startswith("DEMONSTRATION")
    assert "test (no intervals)" in text
    assert "train" not in text


def test_leave_one_out_folds_are_averaged(predictions: VideoPredictions) -> None:
    folds = {}
    for name in ("g0", "g1", "g2\x1b[31m"):
        mine = [g == name[:2] for g in predictions.videos.generator]
        predictions.videos.split[:] = ["test" if m else "train" for m in mine]
        folds[name] = evaluate(predictions, EvaluationConfig(rounds=0))
    table = leave_one_out_table(folds)
    values = [f["splits"]["test"]["overall"]["metrics"]["srcc"]["value"] for f in folds.values()]
    mean = table["mean"]["overall"]["srcc"]
    assert mean["value"] == pytest.approx(statistics.mean(values))
    assert mean["sd"] == pytest.approx(statistics.stdev(values))
    assert (mean["folds"], mean["undefined"]) == (3, 0)
    lip = {"value": None, "sd": None, "folds": 0, "undefined": 3}
    assert table["mean"]["lip_sync"]["srcc"] == lip
    json.dumps(table, allow_nan=False)
    text = told_leave_one_out(table)
    assert "SRCC on what was held out" in text
    assert f"{mean['value']:.3f}" in text.splitlines()[-1]
    assert "undefined in all folds" in text
    assert "\x1b" not in text
    with pytest.raises(ValueError, match="fold g0 has no videos in its split val"):
        leave_one_out_table(folds, split="val")
