"""Checkpoints: what was saved judges as before; whatever else is named so is refused."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.calibration import Calibration
from model.evaluator import build_evaluator
from model.evaluator_config import EvaluatorConfig
from model.novelty import EmbeddingFit, EmbeddingSums, Novelty
from model.tasks import TASKS
from model.uncertainty import Uncertainty
from pipelines.checkpoint import (
    CheckpointError,
    CheckpointParts,
    FeatureOrigin,
    load_checkpoint,
    pack_checkpoint,
    save_checkpoint,
)
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.fit_share import ShardRows, read_rows
from tests.pipelines.training.train_corpus import FINGERPRINT, write_features
from tests.pipelines.training.training_here import preprocessor_of

AUX = ("snr", "lip_velocity")
CONFIG = EvaluatorConfig(
    width=16, layers=1, heads=2, feedforward=32, streams=("action_units", "lowlevel"), aux=True
)
ORIGIN = FeatureOrigin(FINGERPRINT, {"fps": 25}, {"lowlevel": "1"}, {"visual": "sha256:0"}, True)


def uncertainty_of(seed: int = 0, width: int = CONFIG.width) -> Uncertainty:
    rng = np.random.default_rng(seed)
    residuals = rng.uniform(0, 1, (30, len(TASKS)))
    names = ["Näme / of, one"] * 25 + [None] * 5
    calibration = Calibration.of(residuals, names, residuals + 0.2, names, 20)
    sums = EmbeddingSums(np.zeros(width))
    sums.add(rng.standard_normal((40, width)))
    fit = EmbeddingFit.of(sums)
    assert fit is not None
    distances = fit.distance(rng.standard_normal((30, width)))
    return Uncertainty(calibration, Novelty.of(fit, distances, distances, 0.99))


def parts_of(seed: int = 0, uncertainty: Uncertainty | None = None, **more: Any) -> CheckpointParts:
    torch.manual_seed(seed)
    preprocessor = preprocessor_of(aux=AUX)
    evaluator = build_evaluator(CONFIG, preprocessor.widths, len(AUX))
    details = {"preset": "tiny", **more}
    return pack_checkpoint(
        CONFIG, evaluator.state_dict(), preprocessor, ORIGIN, details, uncertainty=uncertainty
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    out = tmp_path / "a run"
    save_checkpoint(Store.at(out), "checkpoint", parts_of(), {"kind": "card"}, "# card")
    return out


@pytest.fixture
def sure(tmp_path: Path) -> Path:
    """A checkpoint that knows of its uncertainty."""
    out = tmp_path / "sure"
    parts = parts_of(uncertainty=uncertainty_of())
    save_checkpoint(Store.at(out), "checkpoint", parts, {"kind": "card"}, "# card")
    return out


@pytest.mark.parametrize("below", ["", "checkpoint", "checkpoint/"])
def test_what_was_saved_comes_back(saved: Path, below: str) -> None:
    found = load_checkpoint(f"{saved}/{below}")
    parts = parts_of()
    assert found.config == CONFIG
    assert found.features == ORIGIN
    assert found.digest == parts.digest
    assert found.details == {"preset": "tiny"}
    assert found.uncertainty is None  # as those from before there was any
    assert found.preprocessor.digest() == preprocessor_of(aux=AUX).digest()
    torch.manual_seed(0)
    expected = build_evaluator(CONFIG, preprocessor_of().widths, len(AUX)).state_dict()
    assert set(found.weights) == set(expected)
    assert all(torch.equal(found.weights[name], value) for name, value in expected.items())
    assert sorted(p.name for p in (saved / "checkpoint").iterdir()) == [
        "checkpoint.json", "evaluator.safetensors", "model_card.json", "model_card.md",
        "preprocessor.safetensors",
    ]  # fmt: skip


def test_a_loaded_checkpoint_judges_raw_clips_as_the_original(saved: Path, tmp_path: Path) -> None:
    write_features(tmp_path / "features", videos=2, shards=1)
    store = Store.at(tmp_path / "features")
    (name,) = [i.name for i in store.list("features/")]
    (raw,) = read_rows(store, ShardRows(name, np.arange(4)), CONFIG.streams, AUX)
    torch.manual_seed(0)
    preprocessor = preprocessor_of(aux=AUX)
    evaluator = build_evaluator(CONFIG, preprocessor.widths, len(AUX)).eval()
    found = load_checkpoint(str(saved))
    with torch.no_grad():
        expected = evaluator(preprocessor.apply(raw)).scores
        again = found.evaluator()(found.preprocessor.apply(raw)).scores
    assert torch.equal(again, expected)
    assert expected.shape == (4, len(TASKS))
    assert float(expected.std()) > 0


def test_the_digest_follows_content_and_not_what_stands_beside_it() -> None:
    first = parts_of()
    assert parts_of().digest == first.digest
    assert parts_of(preset="other", code_version="9").digest == first.digest
    assert parts_of(seed=1).digest != first.digest


def test_uncertainty_is_a_part_of_a_checkpoint(sure: Path) -> None:
    found = load_checkpoint(str(sure))
    wanted = uncertainty_of()
    assert found.uncertainty is not None
    assert found.details == {"preset": "tiny"}
    scores = np.random.default_rng(1).uniform(1, 5, (4, len(TASKS)))
    given = (scores, ["Näme / of, one", None, "other", None], np.array([False, True] * 2))
    for one, other in zip(
        found.uncertainty.interval(*given, 0.8), wanted.interval(*given, 0.8), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    embedding = np.random.default_rng(2).standard_normal((3, CONFIG.width)).astype(np.float32)
    np.testing.assert_array_equal(found.uncertainty.distance(embedding), wanted.distance(embedding))
    digests = {
        parts_of().digest,
        *(parts_of(uncertainty=uncertainty_of(s)).digest for s in range(3)),
    }
    assert found.digest in digests
    assert len(digests) == 4
    assert (sure / "checkpoint" / "uncertainty.safetensors").exists()


def uncertainty_swapped(path: Path) -> None:
    path.write_bytes(parts_of(uncertainty=uncertainty_of(5)).files[path.name])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda p: torch.save({"w": torch.ones(2)}, p), "is a pickle"),
        (lambda p: p.write_bytes(p.read_bytes()[:-5]), "not a whole safetensors file"),
        (Path.unlink, "is missing: copy all of"),
        (uncertainty_swapped, "is not the file that checkpoint.json describes"),
    ],
)
def test_a_damaged_file_of_uncertainty_is_named(
    sure: Path, harm: Callable[[Path], object], says: str
) -> None:
    harm(sure / "checkpoint" / "uncertainty.safetensors")
    with pytest.raises(TrainInputError) as caught:
        load_checkpoint(str(sure))
    assert says in str(caught.value)
    assert "uncertainty.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("uncertainty"), "belong together"),
        (lambda d: d["files"].pop("uncertainty.safetensors"), "belong together"),
        (lambda d: d.update(uncertainty=None), "its description is incomplete"),
        (lambda d: d.update(uncertainty=[]), "its description is incomplete"),
        (lambda d: d["uncertainty"].update(format=7), "format 7, expected 1"),
        (lambda d: d["uncertainty"]["cells"].pop(), "are described"),
        (lambda d: d["uncertainty"]["novelty"].pop("threshold"), "its description is incomplete"),
        (lambda d: d["files"].update(more=d["files"]["uncertainty.safetensors"]), "is damaged"),
    ],
)
def test_a_description_of_uncertainty_that_does_not_fit_is_refused(
    sure: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    edited(sure, change)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(str(sure))


def test_uncertainty_of_another_evaluator_is_refused(tmp_path: Path) -> None:
    parts = parts_of(uncertainty=uncertainty_of(width=CONFIG.width + 1))
    save_checkpoint(Store.at(tmp_path), "checkpoint", parts, {}, "")
    with pytest.raises(CheckpointError, match="embeddings of width 17, not of 16"):
        load_checkpoint(str(tmp_path))


def test_features_of_other_settings_are_refused(saved: Path) -> None:
    found = load_checkpoint(str(saved))
    found.check_features(FINGERPRINT, "here")
    with pytest.raises(CheckpointError) as caught:
        found.check_features("f" * 16, "s3://bucket/features")
    for text in ("s3://bucket/features", "f" * 16, FINGERPRINT, "extract the videos again"):
        assert text in str(caught.value)


def pickled(path: Path) -> None:
    torch.save({"w": torch.ones(2)}, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def swapped(path: Path) -> None:
    """A whole safetensors file, but of another training."""
    path.write_bytes(parts_of(seed=3).files[path.name])


@pytest.mark.parametrize(
    ("name", "harm", "says"),
    [
        ("evaluator.safetensors", pickled, "is a pickle"),
        ("preprocessor.safetensors", pickled, "is a pickle"),
        ("evaluator.safetensors", cut, "not a whole safetensors file"),
        ("preprocessor.safetensors", cut, "not a whole safetensors file"),
        ("evaluator.safetensors", Path.unlink, "is missing: copy all of"),
        ("preprocessor.safetensors", Path.unlink, "is missing: copy all of"),
        ("evaluator.safetensors", swapped, "is not the file that checkpoint.json describes"),
        ("checkpoint.json", Path.unlink, "it has no checkpoint.json"),
        ("checkpoint.json", cut, "is damaged or does not belong to TalkMOS"),
        ("checkpoint.json", lambda p: p.write_text("[]"), "is damaged or does not belong"),
        ("checkpoint.json", lambda p: p.write_text('"x"'), "is damaged or does not belong"),
        ("checkpoint.json", lambda p: p.write_bytes(b"\xff\xfe"), "is damaged"),
    ],
)
def test_a_damaged_part_is_named(
    saved: Path, name: str, harm: Callable[[Path], object], says: str
) -> None:
    path = saved / "checkpoint" / name
    harm(path)
    with pytest.raises(TrainInputError) as caught:
        load_checkpoint(str(saved / "checkpoint"))
    assert says in str(caught.value)
    assert "checkpoint" in str(caught.value)


def edited(saved: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = saved / "checkpoint" / "checkpoint.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format_version=2), "has format 2; .* reads up to 1: update TalkMOS"),
        (lambda d: d.update(format_version="one"), "is damaged"),
        (lambda d: d.update(format="other"), "does not belong to TalkMOS"),
        (lambda d: d.update(tasks=["overall"]), "is for other tasks"),
        (lambda d: d.pop("files"), "is damaged"),
        (lambda d: d["files"].pop("evaluator.safetensors"), "is damaged"),
        (lambda d: d["files"]["evaluator.safetensors"].pop("sha256"), "is damaged"),
        (lambda d: d.update(files=dict.fromkeys(d["files"], "x")), "is damaged"),
        (lambda d: d["evaluator"].update(width=32), "do not fit together"),
        (lambda d: d["evaluator"].update(width="wide"),
         r"together: evaluator\.width in checkpoint\.json: [^;]*integer[^;]*; copy the whole"),
        (lambda d: d["evaluator"].update(tricks=1), r"together: evaluator\.tricks in checkpoint"),
        (lambda d: d.pop("evaluator"), "do not fit together: 'evaluator' is missing; copy"),
        (lambda d: d.update(preprocessor=None), "do not fit together"),
        (lambda d: d["preprocessor"]["streams"].pop("lowlevel"), "do not fit together"),
        (lambda d: d["features"].pop("fingerprint"), "do not fit together"),
        (lambda d: d.update(features=[]), "do not fit together"),
    ],
)  # fmt: skip
def test_a_description_that_does_not_fit_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    edited(saved, change)
    with pytest.raises(CheckpointError, match=says) as caught:
        load_checkpoint(str(saved))
    assert "pydantic" not in str(caught.value)


def test_what_is_no_folder_of_a_checkpoint(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer)
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty").mkdir()
    weights = tmp_path / "evaluator.safetensors"
    weights.write_bytes(parts_of().files["evaluator.safetensors"])
    for name, says in (
        ("x.pt", "is a pickle"),
        ("notes.txt", "is a file. A checkpoint is a folder"),
        ("evaluator.safetensors", "is a file. A checkpoint is a folder"),
        ("empty", "is not a checkpoint: it has no checkpoint.json"),
        ("nowhere", "is not a checkpoint: it has no checkpoint.json"),
    ):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(str(tmp_path / name))
        assert says in str(caught.value)
        assert f"{tmp_path}/{name}" in str(caught.value)


def test_a_copied_folder_is_the_same_checkpoint(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "checkpoint", tmp_path / "ä copy")
    assert load_checkpoint(str(tmp_path / "ä copy")).digest == load_checkpoint(str(saved)).digest


def test_a_relative_path_is_a_path(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved)
    assert load_checkpoint("checkpoint").digest == load_checkpoint(".").digest
