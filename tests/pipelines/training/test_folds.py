"""Leave-one-out over generators: each is the test once; a table of figures at the end."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model.tasks import TASKS
from pipelines import train as train_module
from pipelines.config import load_config
from pipelines.train_errors import TrainInputError
from pipelines.training.config import TrainConfig, preset_file
from pipelines.training.folds import folder_of, train_folds
from tests.pipelines.training.train_corpus import small, write_features
from tests.pipelines.training.training_here import train_here

SALT = 3  # leaves no fold's validation empty
NAMES = ("wav2lip", "Näme / of, one", "../../etc")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_every_generator_is_left_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[str] = []

    def here(task: Any, clips: Any, store: Any, plan: Any, heard: Any) -> Any:
        trained.append(store.uri)
        return train_here(task, clips, store, plan, heard)

    monkeypatch.setattr(train_module, "train_on_ray", here)
    labels = write_features(tmp_path / "features", videos=24, clips=1, shards=1)
    labels["generator"] = [NAMES[v % 3] for v in range(24)]
    labels.to_csv(tmp_path / "labels.csv", index=False)
    settings = [f"features={tmp_path / 'features'}", f"labels.labels={tmp_path / 'labels.csv'}"]
    more = {"training.epochs": 1, "splits.by": "generator", "splits.salt": SALT}
    config = load_config(
        TrainConfig, None, [*settings, *small(**more)], base=preset_file("standard")
    )
    out = tmp_path / "out"
    told = train_folds(config, f"{out}/")
    assert "leave_one_out.json" in told
    assert {p.name for p in out.iterdir()} == {"leave_one_out.json", *map(folder_of, NAMES)}
    assert len(trained) == 3
    for name in NAMES:
        assert name in told or repr(name)[1:-1] in told
        splits = pd.read_parquet(out / folder_of(name) / "splits.parquet")
        assert set(splits[splits.split == "test"].generator) == {name}
        assert name not in set(splits[splits.split != "test"].generator)
    table = json.loads((out / "leave_one_out.json").read_text())
    metrics = {
        name: json.loads((out / folder_of(name) / "metrics.json").read_text()) for name in NAMES
    }
    text = json.dumps(table)
    for name in NAMES:
        for task in TASKS:
            value = metrics[name]["splits"]["test"][task]["metrics"]["plcc"]["value"]
            assert json.dumps(value) in text
    # Started again, finished folds are not trained again.
    (out / folder_of(NAMES[0]) / "summary.json").unlink()
    assert train_folds(config, str(out)).splitlines()[:-1] == told.splitlines()[:-1]
    assert len(trained) == 4
    assert "holds this very run, finished" in capsys.readouterr().err


def test_a_fold_that_cannot_be_is_told_before_any_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipelines.training.folds.connected", lambda *_, **__: pytest.fail("cluster")
    )
    labels = write_features(tmp_path / "features", videos=24, clips=1, shards=1)
    labels["generator"] = ["many"] * 23 + ["other"]
    labels.to_csv(tmp_path / "labels.csv", index=False)
    settings = [f"features={tmp_path / 'features'}", f"labels.labels={tmp_path / 'labels.csv'}"]
    config = load_config(
        TrainConfig, None, [*settings, "splits.by=generator"], base=preset_file("standard")
    )
    with pytest.raises(TrainInputError, match=r"^without many: the split (train|val) is empty"):
        train_folds(config, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_folders_are_distinct_and_stay_below_the_output() -> None:
    names = [*NAMES, "", ".", "..", "a/b", "a-b", "a b", "A B", "é", "e", "x" * 300, "con", "-rf"]
    folders = [folder_of(name) for name in names]
    assert len({f.lower() for f in folders}) == len(names)
    for folder in folders:
        assert folder.startswith("without-")
        assert len(folder) < 70
        assert all(c.isascii() and (c.isalnum() or c in "._-") for c in folder)
