"""Whole training runs on Ray Train: sharing, losing a worker, what is left behind."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import s3fs
import torch

from actors.silence import SOUND_AUX
from model.tasks import NEED_SOUND, TASKS
from pipelines import train as train_module
from pipelines.checkpoint import Checkpoint, load_checkpoint
from pipelines.config import load_config
from pipelines.storage import Store
from pipelines.train import train
from pipelines.training import worker as train_worker
from pipelines.training.config import TrainConfig, preset_file
from pipelines.training.fit_share import ShardRows, read_rows
from tests.pipelines.training.test_tensorboard import images_of, logged, scalars_of
from tests.pipelines.training.train_corpus import small, write_features
from tests.pipelines.training.training_here import train_here
from tests.s3server import environment, s3_server

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

SILENT = (0, 1, 21, 27)  # two to train on, one to validate with, one to test
SPLIT = ["train"] * 20 + ["val"] * 5 + ["test"] * 5
TRUNK = "streams: [action_units, lowlevel], aux: true}"
# Nothing that depends on which rank or micro-batch a clip is in.
UNCOUPLED = {
    "evaluator": "{width: 16, layers: 1, heads: 2, feedforward: 32, dropout: 0, " + TRUNK,
    "loss.consistency": "{mode: std, weight: 0.1}",
    "training.batch_size": 16,
    "training.epochs": 8,
    "splits.by": "column",
    "splits.column": "part",
}


class Corpus:
    """Features and labels with holes, in a folder with an awkward name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.features = folder / "features"
        labels = write_features(self.features, videos=30, shards=2, silent=SILENT)
        rng = np.random.default_rng(3)
        # Uneven: hardly a label of one task, half of another, none of some videos but overall's.
        for task, share in zip(TASKS, (0.9, 0.5, 0.1, 0.3, 0.0), strict=True):
            labels.loc[rng.random(30) < share, task] = np.nan
        labels["part"] = SPLIT
        labels.to_csv(folder / "labels.csv", index=False)
        self.labels = labels

    def config(self, **more: Any) -> TrainConfig:
        given = [f"features={self.features}", f"labels.labels={self.folder / 'labels.csv'}"]
        settings = [*given, *small(**(UNCOUPLED | more))]
        return load_config(TrainConfig, None, settings, base=preset_file("standard"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("train") / "Vidéos & labels"
    folder.mkdir()
    return Corpus(folder)


class Run:
    """A finished run."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.summary = train(config, str(out))
        self.history = json.loads((out / "history.json").read_text())

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "predictions.parquet")


@pytest.fixture(scope="module")
def alone(corpus: Corpus) -> Run:
    """One worker, batch 16."""
    return Run(corpus.config(), corpus.folder / "alone")


def losses(history: dict[str, Any]) -> np.ndarray:  # type: ignore[type-arg]
    """[steps, 7] losses; NaN where a step has no label of the task."""
    names = ("total", *TASKS, "consistency")
    return np.array([[step[n] for n in names] for step in history["steps"]], dtype=float)


def without_times(history: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(history))
    for epoch in plain["epochs"]:
        del epoch["seconds"]
    return plain


def test_two_workers_take_the_steps_of_one(corpus: Corpus, alone: Run) -> None:
    config = corpus.config(**{"training.batch_size": 8, "run.workers": 2})
    shared = Run(config, corpus.folder / "shared")
    expected, found = losses(alone.history), losses(shared.history)
    assert expected.shape == found.shape == (24, 7)
    assert 0 < np.isnan(expected).sum() < 50  # some steps lack a task
    assert expected[0, 0] - expected[-1, 0] > 0.05  # something was learned meanwhile
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    for task in TASKS:
        np.testing.assert_allclose(
            shared.predictions[f"{task}_predicted"],
            alone.predictions[f"{task}_predicted"],
            atol=1e-3,
        )
    assert shared.summary["device"].startswith("2 x CPU")


class DyingStore(Store):
    """Takes the process that writes a certain object with it, once."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store.raw_uri, store.fs, store.root, store.retry)
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _dying, (self.raw_uri, self._name)

    def write_bytes(self, name: str, data: bytes) -> None:
        mark = Path(self.path("../died"))
        if name == self._name and not mark.exists():
            mark.write_text(str(os.getpid()))
            os._exit(1)
        super().write_bytes(name, data)


def _dying(uri: str, name: str) -> DyingStore:
    return DyingStore(Store.at(uri), name)


def test_a_worker_that_dies_is_replaced_and_nothing_changes(
    corpus: Corpus, alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def with_dying_store(task, clips, store, plan, heard):  # type: ignore[no-untyped-def]
        dying = DyingStore(store, "state/state-000000011.safetensors")  # within the fourth epoch
        return train_worker.train_on_ray(task, clips, dying, plan, heard)

    monkeypatch.setattr(train_module, "train_on_ray", with_dying_store)
    # How often the state is saved is a setting like any other; the curve does not depend on it.
    run = Run(corpus.config(**{"training.state_steps": 1}), tmp_path / "out")
    assert (tmp_path / "died").read_text() != str(os.getpid())
    assert "goes on after epoch 3, step 10" in capsys.readouterr().err
    assert without_times(run.history) == without_times(alone.history)
    pd.testing.assert_frame_equal(
        run.predictions.drop(columns="checkpoint"), alone.predictions.drop(columns="checkpoint")
    )
    assert not list(tmp_path.glob("out/_tmp/*"))


# --- what a run leaves behind


def test_the_output_is_complete_and_nothing_else(alone: Run) -> None:
    names = {p.relative_to(alone.out).as_posix() for p in alone.out.rglob("*") if p.is_file()}
    boards = {name for name in names if name.startswith("tensorboard/")}
    assert len(boards) == 1
    assert names - boards == {
        "run.json", "data_report.json", "dropped.parquet", "splits.parquet", "metrics.json",
        "history.json", "predictions.parquet", "predictions_clips.parquet", "report.html",
        "summary.json", "checkpoint/evaluator.safetensors", "checkpoint/preprocessor.safetensors",
        "checkpoint/uncertainty.safetensors",
        "checkpoint/checkpoint.json", "checkpoint/model_card.json", "checkpoint/model_card.md",
    }  # fmt: skip
    for name in names:
        if name.endswith(".json"):
            json.loads((alone.out / name).read_text(), parse_constant=pytest.fail)  # no NaN


def test_a_finished_run_is_not_done_again(
    alone: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_module, "connected", lambda *_, **__: pytest.fail("a cluster"))
    before = {p: p.stat().st_mtime_ns for p in alone.out.rglob("*") if p.is_file()}
    assert train(alone.config, str(alone.out)) == alone.summary
    assert "holds this very run, finished: nothing to do" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in alone.out.rglob("*") if p.is_file()} == before


def test_predictions_are_plain_tables(corpus: Corpus, alone: Run) -> None:
    given = corpus.labels.set_index("video_id")
    clips = pd.read_parquet(alone.out / "predictions_clips.parquet")
    assert (len(alone.predictions), len(clips)) == (30, 60)
    videos = alone.predictions.set_index("video_id").loc[given.index]
    assert list(videos.split) == SPLIT
    for task in TASKS:
        np.testing.assert_array_equal(videos[f"{task}_label"], given[task])
        known = clips[clips[f"{task}_predicted"].notna()]
        means = known.groupby("video_id").apply(
            lambda g, task=task: np.average(g[f"{task}_predicted"], weights=g.frames)
        )
        predicted = videos[f"{task}_predicted"].dropna()
        np.testing.assert_allclose(means.loc[predicted.index], predicted, atol=1e-5)
        assert predicted.between(1, 5).all()
        assert (videos[f"{task}_predicted"].isna() == videos[f"{task}_reason"].notna()).all()
    assert videos.demonstration.all()
    assert set(videos.checkpoint) == {alone.summary["checkpoint"]}


def test_silent_videos_are_neither_trained_on_nor_judged_by_their_sound(
    corpus: Corpus, alone: Run
) -> None:
    videos = alone.predictions.set_index("video_id").loc[corpus.labels.video_id]
    for task in TASKS:
        silent = videos[f"{task}_predicted"].isna()
        expected = list(SILENT) if task in NEED_SOUND else []
        assert list(np.flatnonzero(silent)) == expected, task
        assert set(videos[f"{task}_reason"].dropna()) == ({"no sound"} if expected else set())
    # Their labels have no effect: other ones give the same curve.
    labels = corpus.labels.copy()
    for task in NEED_SOUND:
        labels.loc[list(SILENT), task] = 1.0
    labels.to_csv(corpus.folder / "others.csv", index=False)
    # The curve is the training loop's: here, in this process, without Ray Train.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "train_on_ray", train_here)
        config = corpus.config(**{"labels.labels": f"'{corpus.folder / 'others.csv'}'"})
        other = Run(config, corpus.folder / "others")
    np.testing.assert_allclose(losses(other.history), losses(alone.history), atol=1e-4)


def judged_again(found: Checkpoint, features: Path, *, deaf: bool = False) -> dict[Any, Any]:
    """Scores and real frames of (video, clip), from the stored features; aux without sound."""
    evaluator, preprocessor = found.evaluator(), found.preprocessor
    store = Store.at(features)
    names = preprocessor.aux_names
    result = {}
    for info in store.list("features/"):
        rows = pd.read_parquet(store.path(info.name), columns=["video_id", "clip_index"])
        shard = ShardRows(info.name, np.arange(len(rows)))
        scores, frames = [], []
        for raw in read_rows(store, shard, tuple(preprocessor.widths), names):
            if deaf:
                raw.aux[:, [name in SOUND_AUX for name in names]] = np.nan  # type: ignore[index]
            with torch.no_grad():
                scores.append(evaluator(preprocessor.apply(raw)).scores.numpy())
            frames.append(raw.frame_mask.sum(axis=1))
        keys = zip(rows.video_id, rows.clip_index, strict=True)
        result |= dict(
            zip(keys, zip(np.concatenate(scores), np.concatenate(frames), strict=True), strict=True)
        )
    return result


def agrees_with_its_checkpoint(run: Run, features: Path) -> None:
    scores = judged_again(load_checkpoint(str(run.out)), features)
    clips = pd.read_parquet(run.out / "predictions_clips.parquet")
    again = np.array(
        [scores[v, c][0] for v, c in zip(clips.video_id, clips.clip_index, strict=True)]
    )
    for index, task in enumerate(TASKS):
        stored = clips[f"{task}_predicted"]
        known = stored.notna().to_numpy()
        np.testing.assert_allclose(again[known, index], stored[known], atol=1e-5)


def test_the_checkpoint_gives_the_stored_predictions_again(corpus: Corpus, alone: Run) -> None:
    agrees_with_its_checkpoint(alone, corpus.features)


def test_an_evaluator_of_descriptors_alone_learns_and_is_loaded_again(corpus: Corpus) -> None:
    """Family auxiliary: no stream is fitted, reduced or stored, and weights follow gradients."""
    config = corpus.config(
        **{
            "evaluator": "{family: auxiliary, streams: [], aux: true, width: 16, heads: 2}",
            "training.learning_rate": 5e-3,
            "training.head_learning_rate": 5e-3,
            "training.epochs": 40,
            "weighting.kind": "gradnorm",  # asks for the last layer that all tasks share
        }
    )
    run = Run(config, corpus.folder / "auxiliary")
    shown = losses(run.history)
    assert shown[-1, 0] < 0.7 * shown[0, 0]
    fitted = load_checkpoint(str(run.out)).preprocessor
    assert fitted.widths == {}
    assert fitted.aux is not None
    assert np.isfinite(fitted.aux.mean).all()
    agrees_with_its_checkpoint(run, corpus.features)
    tables = run.predictions.merge(corpus.labels[["video_id", "overall"]], on="video_id")
    plain = tables[~tables["video_id"].str.endswith(tuple(f"-{v:03d}" for v in SILENT))]
    found = plain["overall_predicted"].corr(plain["overall"], method="spearman")
    assert found > 0.8  # `snr` says it


def test_the_checkpoint_knows_the_errors_of_the_validation_videos(
    corpus: Corpus, alone: Run
) -> None:
    found = load_checkpoint(str(alone.out))
    assert found.uncertainty is not None
    cells = found.uncertainty.calibration.cells
    videos = alone.predictions.set_index("video_id").loc[corpus.labels.video_id]
    val = videos.iloc[20:25]
    # Masked sound is sound that was never there: the same features, written without any.
    silent = corpus.folder / "silent"
    write_features(silent, videos=30, shards=2, silent=range(30))
    clips = judged_again(found, silent, deaf=True)
    masked = {
        name: np.average(
            [clips[name, c][0] for c in range(2)],
            weights=[clips[name, c][1] for c in range(2)],
            axis=0,
        )
        for name in val.index
    }
    for t, task in enumerate(TASKS):
        labels = val[f"{task}_label"]
        heard = [n not in SILENT for n in range(20, 25)]
        own = (val[f"{task}_predicted"] - labels).abs()
        residuals = np.sort(own[heard].dropna())
        np.testing.assert_allclose(cells[False, None][t], residuals, atol=1e-5)
        without = pd.Series({name: abs(masked[name][t] - labels[name]) for name in val.index})
        without = without.where(heard, own)  # a silent video is judged as it is
        expected = [] if task in NEED_SOUND else np.sort(without.dropna())
        np.testing.assert_allclose(cells[True, None][t], expected, atol=1e-5)
    card = json.loads((alone.out / "checkpoint" / "model_card.json").read_text())
    told = card["quantitative_analyses"]["uncertainty"]
    test = videos[videos.split == "test"]
    for t, task in enumerate(TASKS):
        rows = test[[f"{task}_predicted", f"{task}_label"]].dropna()
        count = len(rows) if len(cells[False, None][t]) else 0
        assert told["coverage"][task]["count"] == count
    assert "novelty is unknown: 10 validation clips are fewer than 20" in told["notes"]


def test_figures_are_of_the_best_epoch_and_agree_with_each_other(alone: Run) -> None:
    metrics = json.loads((alone.out / "metrics.json").read_text())
    videos = alone.predictions
    val = videos[videos.split == "val"]
    r = np.corrcoef(val.overall_predicted, val.overall_label)[0, 1]
    best = alone.summary["best"]
    epoch = alone.history["epochs"][best["epoch"]]
    assert epoch["plcc"]["overall"] == pytest.approx(r, abs=1e-5)
    assert best["value"] == epoch["monitor"] == max(e["monitor"] for e in alone.history["epochs"])
    stored = metrics["splits"]["val"]["overall"]["metrics"]["plcc"]["value"]
    assert stored == pytest.approx(r, abs=1e-5)


def test_a_demonstration_says_so_everywhere(alone: Run) -> None:
    report = (alone.out / "report.html").read_text()
    assert "DEMONSTRATION" in report
    assert "http://" not in report.replace("http://www.w3.org", "")  # nothing is loaded
    assert "DEMONSTRATION" in (alone.out / "checkpoint" / "model_card.md").read_text()
    assert json.loads((alone.out / "metrics.json").read_text())["demonstration"] is True
    assert load_checkpoint(str(alone.out)).features.demonstration
    assert alone.summary["demonstration"] is True


def test_tensorboard_holds_the_history(alone: Run) -> None:
    events = logged(alone.out)
    found = scalars_of(events)
    steps = alone.history["steps"]
    total = {s["step"]: s["total"] for s in steps}
    assert found["loss/total"] == pytest.approx(total, rel=1e-6)
    assert found["gradient/norm"] == pytest.approx({s["step"]: s["grad_norm"] for s in steps})
    for task in TASKS:
        assert {f"loss/{task}", f"weight/{task}", f"learning_rate/{task}"} <= set(found)
        known = [e["val"][task] for e in alone.history["epochs"]]
        assert list(found.get(f"validation_loss/{task}", {}).values()) == pytest.approx(
            [value for value in known if value is not None]
        )
    assert len(found["validation_plcc/overall"]) == 8
    assert len(found["epoch_loss/total"]) == 8
    assert list(images_of(events)) == ["correlation/validation_predictions"]


# --- elsewhere


def test_an_output_on_s3(corpus: Corpus, alone: Run, tmp_path: Path) -> None:
    with s3_server(tmp_path / "root") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(server.endpoint).items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # of another server
        patch.setattr(train_module, "train_on_ray", train_here)
        bucket = server.bucket("runs")
        summary = train(corpus.config(), f"{bucket}/a run")
        again = train(corpus.config(), f"{bucket}/a run")
        loaded = load_checkpoint(f"{bucket}/a run")
        shutil.copytree(server.folder / "runs", tmp_path / "copy")
    assert again == summary
    assert loaded.digest == summary["checkpoint"]
    out = tmp_path / "copy" / "a run"
    history = json.loads((out / "history.json").read_text())
    np.testing.assert_allclose(losses(history), losses(alone.history), atol=1e-4)
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    local = {p.relative_to(alone.out).as_posix() for p in alone.out.rglob("*") if p.is_file()}
    assert {n for n in names ^ local if not n.startswith("tensorboard/")} == set()
