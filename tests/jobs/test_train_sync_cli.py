"""Mistakes at the door of `jobs/train_sync.py`: one clear message and its exit status."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.train_sync import main
from pipelines.lock import RunLock
from pipelines.storage import Store
from tests.pipelines.sync_crops import corpus, crop_row, write_crops
from tests.pipelines.test_train_sync import SHIPPED, SMALL
from tests.talking import talking_video


class ClusterAskedError(Exception):
    """The door got as far as starting something."""


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise ClusterAskedError

    monkeypatch.setattr("pipelines.train_sync.connected", started)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    write_crops(folder, corpus())
    return folder


def said(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 2, small: bool = True
) -> str:
    job = [str(a) for a in arguments]
    for setting in SMALL if small else ():
        job += ["--set", setting]
    try:
        found = main(job)
    except SystemExit as stop:  # argparse ends so
        found = int(str(stop.code))
    error = capsys.readouterr().err
    assert found == status, error
    assert "Traceback" not in error
    assert "defect" not in error
    return error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--out is needed"),
        (["--out", "OUT"], "--corpus is needed"),
        (["--out", "OUT", "--corpus", "C", "--crops", "D"], "exclude each other"),
        (["--out", "OUT", "--corpus", "C", "--preset", "tiny"], "known: demo, published, small"),
        (["--out", "OUT", "--corpus", "C", "--set", "training.step=1"], "did you mean steps?"),
        (["--out", "OUT", "--corpus", "C", "--set", "network.face=40"], "network.face"),
        (["--out", "OUT", "--corpus", "C", "--set", "decode.policy=whole"], "windows"),
        (["--out", "OUT", "--corpus", "C", "--set", "resources.layout=split"], "whole"),
        (["--out", "OUT", "--corpus", "C", "--set", "split={val: [a], left_out: [a]}"], "'a'"),
        (["--out", "OUT", "--corpus", "C", "--workers", "0"], "workers"),
        (["--out", "OUT", "--corpus", "nowhere"], "nowhere"),
        (["--out", "OUT", "--config", "NONE.yaml"], "NONE.yaml: cannot be read"),
        (["--out", "OUT", "--corpus", "C", "--init", "nowhere"], "no weights at nowhere"),
        (["--out", "OUT", "--corpus", "C", "--init", str(SHIPPED)], "width: 0.25 -> 0.125"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in said(capsys, *arguments, small=False)
    assert not Path("OUT").exists() or not list(Path("OUT").glob("*"))


def test_a_file_that_is_no_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "x.pt")
    told = said(capsys, "--corpus", "C", "--out", tmp_path / "o", "--init", tmp_path / "x.pt")
    assert "these are not the weights of SyncNet" in told


@pytest.mark.parametrize("record", ["{", "[]", '{"kind": "training", "identity": {}}'])
def test_an_output_of_something_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, crops: Path, record: str
) -> None:
    (tmp_path / "run.json").write_text(record)
    told = said(capsys, "--crops", crops, "--out", tmp_path)
    assert "does not come from a training of SyncNet" in told


def test_what_another_command_wrote_is_no_output(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, crops: Path
) -> None:
    (tmp_path / "summary.json").write_text("{}")
    told = said(capsys, "--crops", crops, "--out", tmp_path)
    assert "summary.json does not come from a training of SyncNet: choose another --out" in told
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_crops_that_are_not_there_leave_nothing_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = said(capsys, "--crops", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert "nowhere" in told
    assert not (tmp_path / "out" / "run.json").exists()


def test_an_output_of_another_training(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, crops: Path
) -> None:
    with pytest.raises(ClusterAskedError):
        raise_through(capsys, "--crops", crops, "--out", tmp_path)
    told = said(capsys, "--crops", crops, "--out", tmp_path, "--set", "training.seed=3")
    assert "training.seed: 0 -> 3" in told


def raise_through(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> None:
    """Run up to where a cluster is asked for."""
    from pipelines.config import load_config
    from pipelines.sync_training.config import SyncTrainConfig, preset_file
    from pipelines.train_sync import train_sync

    _, crops, _, out = map(str, arguments)
    config = load_config(
        SyncTrainConfig, None, [f"crops={json.dumps(crops)}", *SMALL], base=preset_file("small")
    )
    train_sync(config, out)
    capsys.readouterr()


def test_an_output_that_another_run_holds(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, crops: Path
) -> None:
    with RunLock(Store.at(tmp_path), "somebody"):
        told = said(capsys, "--crops", crops, "--out", tmp_path, status=3)
    assert "somebody" in told


class Here:
    """Stands for a connection to a cluster that is not needed."""

    cpus, gpus, memory, largest = 2.0, 0.0, 2**33, 2.0

    def each_node(self) -> tuple[tuple[float, float], ...]:
        return ((2.0, 0.0),)

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def cluster_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.train_sync.connected", lambda *_, **__: Here())


@pytest.mark.usefixtures("cluster_here")
@pytest.mark.parametrize(
    ("names", "setting", "says"),
    [
        ([], "", "has no face crops"),
        (["ada-0", "chen-0"], "", "too few videos: 1"),
        (["ada-0", "bruno-0"], "", "no speaker chen"),
        (["ada-0", "bruno-0", "chen-0"], "validation.offset=14", "no video to validate with"),
        (["ada-0", "bruno-0", "chen-0"], "network.face=96", "have 52 pixels"),
    ],
)
def test_crops_that_cannot_be_learned_from(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, names: list[str], setting: str, says: str
) -> None:
    (tmp_path / "crops").mkdir()
    if names:
        write_crops(tmp_path / "crops", {name: [crop_row(0, 1, 34)] for name in names})
    job = ["--crops", str(tmp_path / "crops"), "--out", str(tmp_path / "out")]
    for text in (*SMALL, *filter(None, [setting])):
        job += ["--set", text]
    assert says in said(capsys, *job, small=False)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_corpus_without_a_usable_video(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.cluster import connected

    monkeypatch.setattr("pipelines.train_sync.connected", connected)
    folder = tmp_path / "videos"
    folder.mkdir()
    talking_video(folder / "mute.mp4", 30, audio=None)
    grey = [np.full((96, 96, 3), 90, np.uint8)] * 30
    talking_video(folder / "grey.mp4", images=grey)
    told = said(capsys, "--corpus", folder, "--out", tmp_path / "out", "--address", "auto")
    assert "no_sound" in told
    assert "no_face" in told
    assert "no video gave any" in told
