"""Mistakes at the door of `jobs/train.py`: one clear message, status 2, and nothing written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from jobs.train import main
from model.evaluator import build_evaluator
from model.evaluator_config import EvaluatorConfig
from model.tasks import TASKS
from pipelines.checkpoint import FeatureOrigin, pack_checkpoint, save_checkpoint
from pipelines.lock import RunLock
from pipelines.storage import Store
from tests.pipelines.training.train_corpus import FINGERPRINT, small, write_features
from tests.pipelines.training.training_here import preprocessor_of

SALT = {"splits.salt": 5}  # with these 24 names no split is empty


class Place:
    """Features, labels and checkpoints that are right; tests break one thing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.features = folder / "features"
        self.labels = write_features(self.features)
        self.checkpoint("init", FINGERPRINT, 16)
        self.checkpoint("other", "0" * 16, 16)
        self.checkpoint("wide", FINGERPRINT, 32)

    def checkpoint(self, name: str, fingerprint: str, width: int) -> None:
        config = EvaluatorConfig(
            width=width, layers=1, heads=2, feedforward=32, streams=("action_units", "lowlevel")
        )
        preprocessor = preprocessor_of()
        weights = build_evaluator(config, preprocessor.widths).state_dict()
        origin = FeatureOrigin(fingerprint, {}, {}, {}, True)
        parts = pack_checkpoint(config, weights, preprocessor, origin, {})
        save_checkpoint(Store.at(self.folder), name, parts, {}, "")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("a place"))


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before anything is started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a cluster was asked for")

    monkeypatch.setattr("pipelines.train.connected", started)
    monkeypatch.setattr("pipelines.training.folds.connected", started)


class Door:
    """Runs the door with settings of a small run; each call has an output of its own."""

    def __init__(self, place: Place, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place, self.folder, self._capsys = place, folder, capsys
        self.out = folder / "out"

    def table(self, change: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> Path:
        labels = self.place.labels.copy()
        path = self.folder / "labels.csv"
        (labels if change is None else change(labels)).to_csv(path, index=False)
        return path

    def refused(
        self,
        *arguments: str | Path,
        labels: Path | None = None,
        features: Path | None = None,
        status: int = 2,
        **settings: Any,
    ) -> str:
        job: list[str | Path] = ["--features", features or self.place.features]
        job += ["--labels", labels or self.table(), "--out", self.out]
        for setting in small(**(SALT | settings)):
            job += ["--set", setting]
        return self.said(*job, *arguments, status=status)

    def said(self, *arguments: str | Path, status: int = 2) -> str:
        try:
            found = main([str(a) for a in arguments])
        except SystemExit as stop:  # argparse ends so
            found = int(str(stop.code))
        error = self._capsys.readouterr().err
        assert found == status, error
        assert "Traceback" not in error
        assert "defect" not in error
        assert not self.out.exists() or not list(self.out.iterdir())
        message = error[error.rindex("jobs/train.py: ") :]
        assert message.strip()
        return message


@pytest.fixture
def door(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Door:
    return Door(place, tmp_path, capsys)


def setting(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(labels: pd.DataFrame) -> pd.DataFrame:
        labels = labels.astype({column: object})
        labels.loc[row, column] = value
        return labels

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.rename(columns={"overall": "overal"}), ["'overal'", "did you mean overall"]),
        (lambda d: d.rename(columns={"video_id": "name"}), ["no column video_id or uri", "'name'"]),
        (lambda d: d[["video_id"]], ["none of the columns lip_sync"]),
        (setting(3, "overall", 7.3), ["row 5, overall: '7.3'", "outside [1, 5]"]),
        (setting(3, "overall", "good"), ["row 5, overall: 'good' is not a number"]),
        (setting(3, "overall", 0), ["row 5, overall", "outside [1, 5]"]),
        (setting(3, "overall", "inf"), ["row 5, overall", "outside [1, 5]"]),
        (setting(3, "video_id", ""), ["row 5: no video_id"]),
        (lambda d: pd.concat([d, d[:1]]), ["rows 2 and 26", "a video has one row"]),
        (lambda d: d.assign(video_id="x/" + d.video_id + ".mp4"), ["no video_id of", "x/gen0"]),
        (lambda d: d.assign(**dict.fromkeys(TASKS, -1)), ["every label is missing"]),
        (lambda d: d.assign(**dict.fromkeys(TASKS, "")), ["every label is missing"]),
        (lambda d: d[:0], ["the table has no rows"]),
        (lambda d: d[:1], ["the split", "is empty"]),
    ],
)  # fmt: skip
def test_wrong_labels(
    door: Door, change: Callable[[pd.DataFrame], pd.DataFrame], says: list[str]
) -> None:
    labels = door.table(change)
    told = door.refused(labels=labels)
    for text in (*says, *(["labels.csv"] if "split" not in says[0] else [])):
        assert text in told


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nowhere.csv", None, "nowhere.csv does not exist"),
        ("labels.txt", "video_id\n", "expected a table named .csv, .jsonl or .parquet"),
        ("bad.parquet", "PAR1", "not a readable Parquet file"),
        ("bad.jsonl", "{", "bad.jsonl, row 1: not JSON"),
        ("semi.csv", "video_id;overall\na;3\n", "separated by commas"),
        ("latin.csv", "vid\xe9o_id,overall\n".encode("latin-1"), "not CSV in UTF-8"),
    ],
)
def test_no_label_table(door: Door, name: str, content: str | bytes | None, says: str) -> None:
    path = door.folder / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert says in door.refused(labels=path)


def test_one_video_in_two_splits(door: Door, tmp_path: Path) -> None:
    """A column of one's own that says train and test of the same file."""
    features = tmp_path / "features"
    labels = write_features(features, videos=6, shards=1, uris=["/corpus/same.mp4"] * 2)
    labels["split"] = ["train", "test", "val", "train", "test", "val"]
    labels.to_csv(tmp_path / "twice.csv", index=False)
    told = door.refused("--split-column", "split", features=features, labels=tmp_path / "twice.csv")
    for text in ("one video is in two splits", "/corpus/same.mp4", "train", "test", "spk0-000"):
        assert text in told


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["val", "test"], "the split train is empty"),
        (["train", "test"], "the split val is empty"),
        (["train", "val"], "the split test is empty"),
        (["train", "val", "test", "tset"], "must hold train, val or test"),
    ],
)
def test_splits_of_ones_own(door: Door, values: list[str], says: str) -> None:
    labels = door.table(lambda d: d.assign(part=[values[i % len(values)] for i in d.index]))
    assert says in door.refused("--split-column", "part", labels=labels)


def test_no_such_split_column(door: Door) -> None:
    labels = door.table(lambda d: d.assign(part="train"))
    assert "did you mean part?" in door.refused("--split-column", "prt", labels=labels)


def test_the_cleaning_rules_leave_nothing(door: Door) -> None:
    told = door.refused(**{"cleaning.min_clip_s": 100})
    assert "the cleaning rules dropped all 48 clips" in told


def test_training_without_any_label(door: Door) -> None:
    """The labels that there are lie in validation and test."""

    def change(labels: pd.DataFrame) -> pd.DataFrame:
        labels["part"] = ["train", "val", "test"] * 8
        labels.loc[labels.part == "train", list(TASKS)] = np.nan
        return labels

    told = door.refused("--split-column", "part", labels=door.table(change))
    assert "the split train is empty" in told


# --- features


def test_features_that_are_none(door: Door, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        assert "has no feature shards" in door.refused(features=folder)
    inside = door.place.features / "features"
    assert "name the output of the extraction" in door.refused(features=inside)


def test_mixed_fingerprints(door: Door, tmp_path: Path) -> None:
    features = tmp_path / "features"
    shutil.copytree(door.place.features, features)
    write_features(features, videos=2, shards=1, seed=9, fingerprint="0" * 16)
    told = door.refused(features=features)
    for text in ("mixes features of different settings", FINGERPRINT, "0" * 16):
        assert text in told


def test_a_shard_that_was_cut_off(door: Door, tmp_path: Path) -> None:
    features = tmp_path / "features"
    shutil.copytree(door.place.features, features)
    shard = next((features / "features").iterdir())
    shard.write_bytes(shard.read_bytes()[:-100])
    told = door.refused(features=features, status=3)  # as other damage of storage
    assert shard.name in told
    assert "not a whole Parquet file" in told


def test_a_stream_that_was_not_extracted(door: Door) -> None:
    told = door.refused(evaluator="{width: 16, heads: 2, streams: [visual, action_units]}")
    for text in ("asks for visual", "action_units, lowlevel", "evaluator.streams"):
        assert text in told


# --- checkpoints to begin with


def copied(door: Door, name: str = "init") -> Path:
    folder = door.folder / "copy"
    shutil.copytree(door.place.folder / name, folder)
    return folder


PLAIN = {"evaluator": "{width: 16, layers: 1, heads: 2, feedforward: 32, "
         "streams: [action_units, lowlevel]}"}  # fmt: skip


def test_a_pickle_is_no_checkpoint(door: Door) -> None:
    torch.save({"w": torch.ones(2)}, door.folder / "x.pt")
    told = door.refused("--init", door.folder / "x.pt", **PLAIN)
    for text in ("x.pt is a pickle", "never opens them"):
        assert text in told


@pytest.mark.parametrize("name", ["evaluator.safetensors", "preprocessor.safetensors"])
def test_damaged_tensors(door: Door, name: str) -> None:
    folder = copied(door)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    told = door.refused("--init", folder, **PLAIN)
    assert f"{folder}/{name} is not a whole safetensors file" in told
    torch.save({"w": torch.ones(2)}, folder / name)
    told = door.refused("--init", folder, **PLAIN)
    assert f"{folder}/{name} is a pickle" in told


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("other", ["the fingerprint " + "0" * 16, FINGERPRINT]),
        ("wide", ["other settings", "width 32", "use its preset"]),
        ("nowhere", ["nowhere is not a checkpoint", "checkpoint.json"]),
    ],
)
def test_a_checkpoint_that_does_not_fit(door: Door, name: str, says: list[str]) -> None:
    told = door.refused("--init", door.place.folder / name, **PLAIN)
    for text in says:
        assert text in told


# --- settings


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "optimised"], ["--preset optimised", "known: advanced", "optimized"]),
        (["--preset", "../x"], ["there is no such preset"]),
        (["--set", "training.epoch=3"], ["training.epoch", "did you mean epochs?"]),
        (["--set", "trainig.epochs=3"], ["trainig", "did you mean training?"]),
        (["--set", "training.epochs=0"], ["training.epochs", "greater than or equal to 1"]),
        (["--set", "training.epochs=many"], ["training.epochs", "'many'"]),
        (["--set", "training.head_learning_rates={overal: 0.1}"], ["head_learning_rates"]),
        (["--set", "evaluator.width=17"], ["must be a multiple of 4"]),
        (["--set", "evaluator.streams=[]"], ["evaluator: streams: at least one"]),
        (["--set", "weighting.kind=fair"], ["weighting.kind", "'fair'"]),
        (["--set", "splits.shares=[0.5,0.5,0.5]"], ["add up to 1"]),
        (["--set", "splits.held_out=gen0"], ["held_out is for by: generator"]),
        (["--split-by", "speakers"], ["--split-by", "'speakers'"]),
        (["--split-by", "video", "--split-column", "x"], ["exclude each other"]),
        (["--workers", "0"], ["run.workers"]),
        (["--config", "NONE.yaml"], ["NONE.yaml: cannot be read"]),
        (
            ["--split-by", "generator", "--set", "splits.held_out=gen9"],
            ["gen9", "did you mean gen"],
        ),
    ],
)
def test_wrong_settings(door: Door, arguments: list[str], says: list[str]) -> None:
    job = ["--features", str(door.place.features), "--labels", str(door.table())]
    told = door.said(*job, "--out", door.out, *arguments)
    for text in says:
        assert text in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--out is needed"),
        (["--out", "OUT"], "--features and --labels are needed"),
        (["--out", "OUT", "--features", "F"], "--features and --labels are needed"),
        (["--out", "OUT", "--config", "EMPTY.yaml"], "features: Field required"),
    ],
)
def test_what_is_needed(
    door: Door, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(door.folder)
    Path("EMPTY.yaml").write_text("")
    assert says in door.said(*arguments)
    assert not Path("OUT").exists()


def test_leave_one_out_of_one_generator(door: Door) -> None:
    labels = door.table(lambda d: d.assign(generator="only"))
    told = door.refused("--split-by", "generator", labels=labels)
    assert "at least two generators" in told


# --- outputs


def said_of(door: Door, content: dict[str, str], status: int = 2) -> str:
    """Run into an output that holds something already, which must stay as it is."""
    out = door.folder / "used"
    out.mkdir(exist_ok=True)
    for name, text in content.items():
        (out / name).write_text(text)
    job = ["--features", door.place.features, "--labels", door.table(), "--out", out]
    for text in small(**SALT):
        job += ["--set", text]
    told = door.said(*job, status=status)
    assert {p.name: p.read_text() for p in out.iterdir()} == content
    return told


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"kind": "extraction"}', "\x00"])
def test_an_output_of_something_else(door: Door, record: str) -> None:
    told = said_of(door, {"run.json": record})
    assert "run.json does not come from a training run: choose another --out" in told


@pytest.mark.parametrize(
    "name", ["summary.json", "plan.json", "metrics.json", "report.html"]
)  # such as scores, a corpus of known damage, features
def test_what_another_command_wrote_is_no_output(door: Door, name: str) -> None:
    told = said_of(door, {name: "{}"})
    assert f"{name} does not come from a training run: choose another --out" in told


def test_an_output_of_another_training(door: Door) -> None:
    record = '{"kind": "training", "identity": {"settings": {"training": {"epochs": 99}}}}'
    told = said_of(door, {"run.json": record})
    assert "holds another training run" in told
    assert "settings.training.epochs: 99 -> 3" in told


def test_an_output_that_cannot_be_written(door: Door) -> None:
    (door.folder / "file").write_text("of somebody")
    for name in ("file", "file/below"):
        job = ["--features", door.place.features, "--labels", door.table()]
        for text in small(**SALT):
            job += ["--set", text]
        told = door.said(*job, "--out", door.folder / name, status=3)
        assert "a file stands where a folder is needed" in told


def test_an_output_that_another_run_holds(door: Door) -> None:
    out = door.folder / "held"
    with RunLock(Store.at(out), "somebody"):
        job = ["--features", door.place.features, "--labels", door.table(), "--out", out]
        for text in small(**SALT):
            job += ["--set", text]
        told = door.said(*job, status=3)
    assert "somebody" in told
    assert "--wait-lock" in told
