"""The door of scoring on real videos through the real extractors, and its exit statuses."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from jobs.extract import main as extract
from jobs.score import main
from model.evaluator import build_evaluator
from model.evaluator_config import EvaluatorConfig
from model.tasks import TASKS
from pipelines.checkpoint import FeatureOrigin, pack_checkpoint, save_checkpoint
from pipelines.storage import Store
from tests.pipelines.training.training_here import preprocessor_of
from tests.s3server import S3Server, environment, s3_server

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLIM = ("--modalities", "landmarks,action_units,lowlevel,descriptors")
PATTERN = ("--pattern", "{generator}/{speaker}-*.mp4")
AUX = ("snr", "lip_velocity")
CONFIG = EvaluatorConfig(
    width=16, layers=1, heads=2, feedforward=32, streams=("action_units", "lowlevel"), aux=True
)


@pytest.fixture(scope="module")
def made(
    demo_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Path, Path]]:
    """A corpus, its features, and a checkpoint (random weights) that reads such features."""
    folder = tmp_path_factory.mktemp("score_cli")
    patch = pytest.MonkeyPatch()
    patch.delenv("RAY_ADDRESS", raising=False)
    corpus, features = folder / "corpus", folder / "features"
    shutil.copytree(demo_corpus, corpus)
    assert extract(["--corpus", str(corpus), *PATTERN, *SLIM, "--out", str(features)]) == 0
    record = json.loads((features / "run.json").read_text())
    origin = FeatureOrigin(
        *(record[k] for k in ("fingerprint", "settings", "extractors", "weights", "demonstration"))
    )
    torch.manual_seed(0)
    preprocessor = preprocessor_of(aux=AUX)
    evaluator = build_evaluator(CONFIG, preprocessor.widths, len(AUX))
    parts = pack_checkpoint(CONFIG, evaluator.state_dict(), preprocessor, origin, {})
    save_checkpoint(Store.at(folder), "checkpoint", parts, {"kind": "card"}, "# card")
    yield corpus, features, folder / "checkpoint"
    patch.undo()


def table(out: Path, name: str) -> pd.DataFrame:
    found = pd.read_parquet(out / name)
    keys = [k for k in ("video_id", "clip_index") if k in found]
    return found.sort_values(keys).reset_index(drop=True)


def test_real_videos_from_the_stream_and_from_stored_features(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, features, checkpoint = made
    videos = tmp_path / "corpus"
    shutil.copytree(corpus, videos)
    stream, stored = tmp_path / "stream", tmp_path / "stored"
    job = ["--corpus", str(videos), *PATTERN, "--checkpoint", str(checkpoint), "--out", str(stream)]
    assert main(job) == 0
    told = capsys.readouterr().out
    assert "3 videos scored, 0 failed" in told
    assert "clean" in told  # the generator, in the leaderboard
    assert main(["--features", str(features), *job[4:-1], str(stored)]) == 0
    a, b = table(stream, "clips"), table(stored, "clips")
    assert list(a.video_id) == list(b.video_id)
    for name in (*TASKS, "start_s", "end_s", "frames", "face_frames"):
        np.testing.assert_allclose(a[name], b[name], atol=1e-3, err_msg=name)
    for row, other in zip(a.itertuples(), b.itertuples(), strict=True):
        assert row.descriptors == pytest.approx(other.descriptors, nan_ok=True)
        assert [dict(f) for f in row.findings] == [dict(f) for f in other.findings]
        assert row.curves["lip_opening"] == pytest.approx(other.curves["lip_opening"])
        assert len(row.curves["loudness"]) == 10  # two seconds at five values a second
    assert (a.start_s == 0).all()
    assert (a.end_s == 2).all()

    assert main([*job]) == 0
    assert "0 videos scored" in capsys.readouterr().out
    first, second = sorted(videos.rglob("*.mp4"))[:2]
    before = table(stream, "videos")
    shutil.copy(second, first)
    assert main([*job]) == 0
    assert "1 videos scored, 0 failed; 2 scored" in capsys.readouterr().out
    after = table(stream, "videos")
    assert (before.source_version != after.source_version).sum() == 1
    same = np.isclose(after.overall[0], after.overall[1], atol=1e-5)
    assert same  # the same film under another name


def test_exit_statuses_of_gates_and_bad_input(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, features, checkpoint = made
    out, gate = tmp_path / "out", tmp_path / "gate.yaml"
    job = ["--features", str(features), "--checkpoint", str(checkpoint), "--out", str(out)]

    def fails(status: int, *words: str, more: tuple[str, ...] = (), base: list[str] = job) -> None:
        assert main([*base, *more]) == status
        said = "".join(capsys.readouterr())
        for word in words:
            assert word in said, said
        assert "Traceback" not in said

    gate.write_text("min_vidoes: 2\n")
    fails(2, "min_vidoes", "did you mean min_videos", more=("--gate", str(gate)))
    gate.write_text("min_videos: 4\nallow_demonstration: true\n")
    fails(1, "gate FAILED", "4", more=("--gate", str(gate)))
    gate.write_text("min_videos: 3\nallow_demonstration: true\n")
    fails(0, "gate passed", more=("--gate", str(gate)))
    fails(2, "nothing", more=("--baseline", str(tmp_path / "nowhere")))
    fails(2, "--checkpoint is needed", base=["--corpus", "x", "--out", "y"])
    fails(2, "level", more=("--level", "1.5"))
    copy = tmp_path / "damaged"
    shutil.copytree(checkpoint, copy)
    weights = copy / "evaluator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    other = ["--features", str(features), "--checkpoint", str(copy), "--out", str(tmp_path / "o")]
    fails(2, "evaluator.safetensors", base=other)
    assert not (tmp_path / "o" / "clips").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(
        *(2, "there is no video in it"),
        base=[
            "--corpus",
            str(empty),
            "--checkpoint",
            str(checkpoint),
            "--out",
            str(tmp_path / "e"),
        ],
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "root") as found:
        yield found


def test_buckets_that_are_empty_or_closed(
    made: tuple[Path, Path, Path],
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import s3fs

    _, _, checkpoint = made
    bucket = server.bucket("closed")
    job = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]
    for name, value in environment(server.endpoint).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    assert main(["--corpus", f"{bucket}/nothing", *job]) == 2
    assert "nothing is there" in capsys.readouterr().err
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-at-all")
    s3fs.S3FileSystem.clear_instance_cache()
    assert main(["--corpus", f"{bucket}/nothing", *job]) in (2, 3)
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said
    assert "closed" in said
    assert "not-the-secret" not in said
    s3fs.S3FileSystem.clear_instance_cache()
