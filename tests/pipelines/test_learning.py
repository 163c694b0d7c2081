"""Training learns what is there to learn, and bears the label pattern of the reference data set."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from actors.features import STRUCT_FIELDS
from actors.row import COLUMNS, T, arrow_schema, to_arrow
from benchmarks import planted
from model.evaluator_config import EvaluatorConfig
from model.loss_config import LossConfig, WeightingConfig
from model.tasks import TASKS, TITLES
from model.training_config import TrainingConfig
from pipelines.config import load_config
from pipelines.shards import ShardWriter, VideoKey
from pipelines.storage import Store
from pipelines.train import train
from pipelines.training.config import TrainConfig, preset_file
from pipelines.training.task import ClipLabels, TrainTask, build_learner

# --- the planted rule


def test_the_features_hold_the_rule_that_the_scores_follow() -> None:
    data = planted.plant(150, frames=20, seed=3)
    raw = planted.raw_features(data, np.arange(150))
    mask, time = data.mask, np.arange(data.mask.shape[1])
    when, strength = {}, {}
    for name, values in raw.items():
        assert values.dtype == COLUMNS[name].dtype
        assert (values[~mask] == 0).all()
        # Least squares from about 40 raw dimensions back to event and motion, on all real frames.
        some = values[mask][:, :: max(1, values.shape[2] // 40)].astype(np.float64)
        x = np.c_[some, np.ones(len(some))]
        known = data.latents[name][mask][:, 1:3]
        back = np.zeros((*mask.shape, 2))
        back[mask] = x @ np.linalg.lstsq(x, known)[0]
        # The event stands 3 frames to each side of its peak on a floor that is most of the clip.
        event = back[..., 0] - np.median(back[..., 0][mask])
        peak = np.where(mask, event, -np.inf).argmax(axis=1)[:, None]
        bump = np.where(mask & (np.abs(time - peak) <= 3), np.maximum(event, 0), 0)
        when[name] = (bump * time).sum(axis=1) / bump.sum(axis=1)
        strength[name] = np.sqrt((back[..., 1] ** 2).sum(axis=1) / data.length)
    span = 20 - planted.SHORTER - 5
    assert np.corrcoef(when["action_units"], when["landmarks"])[0, 1] > 0.97
    lead = (when["landmarks"] - when["audio"]) / span
    lip_sync = 5 - 4 * np.clip(np.where(lead > 0, 1.6 * lead, -0.6 * lead), 0, 1)
    assert np.corrcoef(lip_sync, data.scores[:, 0])[0, 1] > 0.97
    weaker = np.minimum(strength["visual"], strength["landmarks"])
    assert np.corrcoef(weaker, data.scores[:, 1])[0, 1] > 0.97
    noise = data.scores[:, TASKS.index(planted.NOISE_TASK)]
    for known in (*when.values(), *strength.values()):
        assert abs(np.corrcoef(known, noise)[0, 1]) < 0.3  # 150 clips: 3.7 standard errors
    assert data.scores.min() >= 1
    assert data.scores.max() <= 5


def test_no_stream_alone_is_enough_and_averages_over_time_say_nothing() -> None:
    data = planted.plant(2000, frames=20, seed=4)
    for task in planted.LEARNABLE:
        for stream in planted.STREAMS:
            # 36 cells, so that chance adds little: the square root of 36 / 2000 is 0.13.
            assert planted.one_stream_limit(data, task, stream, bins=6) < 0.8, (task, stream)
    # The exact signals instead of the raw dimensions, which are made of them: all there is.
    count = data.length[:, None]
    means = np.concatenate([x.sum(axis=1) / count for x in data.latents.values()], axis=1)
    half = slice(0, 1000), slice(1000, 2000)
    linear = planted.ridge(
        means[half[0]], data.scores[half[0]], means[half[1]], data.scores[half[1]]
    )
    assert (linear < 0.2).all(), linear


def test_ridge_finds_what_is_linear() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 8))
    y = x @ rng.standard_normal((8, 2)) + 2 * rng.standard_normal((120, 2))
    found = planted.ridge(x[:80], y[:80], x[80:], y[80:])
    mean, scale = x[:80].mean(axis=0), x[:80].std(axis=0)
    for task in (0, 1):
        reached = []
        for penalty in np.logspace(-2, 7, 19):
            model = Ridge(alpha=penalty).fit((x[:80] - mean) / scale, y[:80, task])
            predicted = model.predict((x[80:] - mean) / scale)
            reached.append(np.corrcoef(predicted, y[80:, task])[0, 1])
        assert found[task] == pytest.approx(max(reached), abs=1e-9)


def settings(place: Path, *more: str) -> TrainConfig:
    given = [f"features={place}", f"labels.labels={place / 'labels.csv'}", *more]
    return load_config(TrainConfig, None, given, base=preset_file("standard"))


def read(place: Path, name: str) -> Any:
    return json.loads((place / name).read_text(encoding="utf-8"))


SMALL = (
    "evaluator.width=64",
    "evaluator.layers=2",
    "evaluator.heads=4",
    "evaluator.feedforward=128",
    "evaluator.dropout=0",
    "training.batch_size=16",
    "training.learning_rate=2e-3",
    "training.head_learning_rate=2e-3",
    "training.schedule.warmup_share=0.1",
    "training.patience=null",
    "training.monitor=loss",
    "training.ema=null",
    "loss.consistency.weight=0",
    "evaluation.rounds=100",
)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_small_evaluator_learns_what_sound_and_mouth_say_together(tmp_path: Path) -> None:
    """The small version of benchmarks/learning.py: two streams, from shards to predictions.

    Of the five tasks `lip_sync` follows from these two streams alone; `audio_quality` is noise.
    """
    streams = ("audio", "action_units")
    data = planted.plant(800, frames=20)
    planted.write_features(data, tmp_path, 200, streams)
    planted.write_labels(data.scores, tmp_path / "labels.csv")
    config = settings(
        tmp_path,
        *SMALL,
        "evaluator.streams=[audio, action_units]",
        "preprocessor.audio=16",
        "splits.shares=[0.7, 0.1, 0.2]",
        "training.epochs=12",
        # What these three need is in the streams that are left out.
        "weighting.fixed={expression: 0, cross_modal: 0, overall: 0}",
    )
    train(config, str(tmp_path / "out"))
    held = read(tmp_path / "out", "metrics.json")["splits"]["test"]
    assert held["lip_sync"]["n"] > 100
    assert held["lip_sync"]["metrics"]["plcc"]["value"] >= 0.9
    noise = held[planted.NOISE_TASK]
    found = noise["metrics"]["plcc"]["value"]
    assert found is None or abs(found) < 3.5 / math.sqrt(noise["n"])  # of a PLCC of 0: 1 / sqrt(n)
    # The same clips, linearly.
    table = pd.read_parquet(tmp_path / "out" / "splits.parquet")
    number = table["video_id"].str.rpartition("/")[2].astype(int).to_numpy()
    rows = {s: number[(table["split"] == s).to_numpy()] for s in ("train", "test")}
    means = planted.time_averages(data, streams)
    y = data.scores[:, :1]
    linear = planted.ridge(
        means[rows["train"]], y[rows["train"]], means[rows["test"]], y[rows["test"]]
    )
    assert linear[0] < 0.7


# --- the reference data set's label pattern (SPEC section 1)

VIDEOS = 1985
SHARES = {
    "lip_sync": 1.0,
    "expression": 0.728,
    "audio_quality": 0.778,
    "cross_modal": 0.726,
    "overall": 0.726,
}
CONSTANT = 4.763


def reference_scores(signal: np.ndarray) -> np.ndarray:
    """[V, 5] with the shares missing; what is not constant follows ``signal`` [V] and chance."""
    rng = np.random.default_rng(7)
    scores = np.clip(3 + 0.6 * signal[:, None] + 0.6 * rng.standard_normal((len(signal), 5)), 1, 5)
    scores[:, TASKS.index("lip_sync")] = CONSTANT
    for number, task in enumerate(TASKS):
        missing = len(signal) - round(SHARES[task] * len(signal))
        scores[rng.permutation(len(signal))[:missing], number] = np.nan
    return scores


def write_slim(place: Path, signal: np.ndarray) -> None:
    """A video of 2 to 4 frames for each value, with the two streams that need no weights."""
    left_out = planted.LEFT_OUT - {"lowlevel"} | {"visual", "audio", "landmarks"}
    schema = arrow_schema(STRUCT_FIELDS, left_out)
    writer = ShardWriter(Store.at(place), schema, planted.FINGERPRINT, lambda: None)
    rng = np.random.default_rng(8)
    for number, value in enumerate(signal.tolist()):
        frames = 2 + number % 3
        row = planted.row_of(number, frames)
        for name, width in (("action_units", 17), ("lowlevel", 64)):
            row[name] = np.zeros((T, width), np.float32)
            row[name][:frames] = value + rng.standard_normal((frames, width))
        key = VideoKey(row["video_id"], "1")
        writer.add(key, [to_arrow([{n: row[n] for n in schema.names}], schema)])
        if writer.videos == 1000:
            writer.commit()
    writer.commit()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_label_pattern_of_the_reference_data_set_trains_without_trouble(tmp_path: Path) -> None:
    signal = np.random.default_rng(9).standard_normal(VIDEOS)
    scores = reference_scores(signal)
    write_slim(tmp_path, signal)
    planted.write_labels(scores, tmp_path / "labels.csv")
    config = settings(
        tmp_path,
        *SMALL,
        "evaluator.streams=[action_units, lowlevel]",
        "evaluator.width=16",
        "evaluator.layers=1",
        "training.epochs=2",
        "training.batch_size=64",
        "training.monitor=overall",
        "loss.consistency.weight=0.1",
        "weighting.kind=uncertainty",
    )
    out = tmp_path / "out"
    summary = train(config, str(out))
    assert summary["epochs"] == 2
    assert summary["incidents"] == 0
    assert sum(summary["videos"].values()) == VIDEOS

    tasks = read(out, "data_report.json")["labels"]["tasks"]
    for task in TASKS:
        assert tasks[task]["share"] == pytest.approx(SHARES[task], abs=3e-4)
        assert tasks[task]["near_constant"] == (task == "lip_sync")

    metrics = read(out, "metrics.json")
    for split in ("train", "val", "test"):
        for task in TASKS:
            for name, found in metrics["splits"][split][task]["metrics"].items():
                where = (split, task, name, found)
                if found["value"] is None:
                    assert found["reason"], where
                else:
                    assert math.isfinite(found["value"]), where
        constant = metrics["splits"][split]["lip_sync"]["metrics"]
        for name in ("plcc", "srcc", "krcc", "r2"):
            assert constant[name]["value"] is None, name
        assert constant["rmse"]["value"] < 0.5  # the head starts at the training mean
        for task in TASKS[1:]:
            assert metrics["splits"][split][task]["metrics"]["plcc"]["value"] is not None

    steps = read(out, "history.json")["steps"]
    assert all(math.isfinite(value) for step in steps for value in step["weights"].values())
    report = (out / "report.html").read_text(encoding="utf-8")
    assert all(title in report for title in TITLES.values())
    assert (out / "checkpoint" / "evaluator.safetensors").exists()
    table = pd.read_parquet(out / "predictions.parquet")
    assert len(table) == VIDEOS
    for task in TASKS:
        assert table[f"{task}_predicted"].between(1, 5).all()
        assert table[f"{task}_label"].notna().mean() == pytest.approx(SHARES[task], abs=3e-4)


@pytest.mark.parametrize("kind", ["fixed", "learned", "uncertainty", "gradnorm"])
def test_every_weighting_bears_a_task_without_variance(kind: str) -> None:
    import torch

    from model.batch import ClipBatch
    from model.ranks import Ranks

    count = 320
    rng = np.random.default_rng(10)
    signal = rng.standard_normal(count)
    x = (signal[:, None, None] + rng.standard_normal((count, 3, 17))).astype(np.float32)
    labels = ClipLabels(
        reference_scores(signal).astype(np.float32),
        np.ones((count, 5), np.float32),
        np.arange(count),
        np.full(count, 3, np.int32),
        np.zeros(count, np.int8),
    )
    task = TrainTask(
        EvaluatorConfig(
            width=16, layers=1, heads=2, feedforward=32, dropout=0, streams=("action_units",)
        ),
        LossConfig(),
        WeightingConfig(kind=kind),
        TrainingConfig(epochs=12, batch_size=32, learning_rate=1e-2, head_learning_rate=1e-2),
        {"action_units": 17},
        0,
        labels,
        "loss",
    )
    learner = build_learner(task, Ranks(), "cpu")

    def part(rows: np.ndarray) -> ClipBatch:
        mask = torch.ones(len(rows), 3, dtype=torch.bool)
        return ClipBatch({"action_units": torch.from_numpy(x[rows])}, {"action_units": mask}, mask)

    for _ in range(learner.total_steps):
        rows = rng.permutation(count)[:32]
        result = learner.step([(part(rows), labels.targets(rows))])
        assert result.taken
        assert math.isfinite(result.total)
        weights = learner.weighting.weights()
        assert weights.isfinite().all()
        assert (weights >= 0).all()
        assert weights.max() < 150  # exp(5) = 148 is where uncertainty is clipped
    scores = learner.predict(part(np.arange(count))).scores.numpy()
    assert np.abs(scores[:, 0] - CONSTANT).max() < 0.5
    for number in range(1, 5):  # the others are learnt beside it
        known = ~np.isnan(labels.values[:, number])
        assert np.corrcoef(scores[known, number], labels.values[known, number])[0, 1] > 0.5
