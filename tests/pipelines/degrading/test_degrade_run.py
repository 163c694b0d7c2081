"""Stored corpora on a real local Ray cluster: every variant once, whatever happens on the way."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from actors.decode import DecodeConfig, VideoReader
from pipelines.config import load_config
from pipelines.degrade import Degraded, degrade
from pipelines.degrading.account import account
from pipelines.degrading.config import DegradeConfig
from pipelines.errors import UserInputError
from tests.media import noise_images, write_video
from tests.pipelines.test_kill import wait_for
from tests.support import ROOT

pytestmark = pytest.mark.ray

PLAN = [
    "artefacts={noise: null, foreign_sound: null, blur: null}",
    "severities=[0.4, 1.0]",
    "splits.shares=[1, 0, 0]",
    "run.shard_clips=6",
]
EACH = 7  # variants of a source


def sound(seed: int, seconds: float = 1.1) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    swell = 0.2 + 0.2 * np.sin(np.arange(round(seconds * 16_000)) / 2000)
    return (swell * rng.standard_normal(len(swell))).clip(-1, 1).astype(np.float32)


def corpus_of(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        images = noise_images(27, seed=number)
        write_video(folder / f"v{number}.mp4", images, audio=sound(number))
    return folder


def run(corpus: Path, out: Path, *settings: str) -> Degraded:
    config = load_config(DegradeConfig, None, [f"corpus.corpus={corpus}", *PLAN, *settings])
    return degrade(config, str(out), virtual=False)


def videos(out: Path) -> dict[str, bytes]:
    folder = out / "videos"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def tables(out: Path) -> dict[str, bytes]:
    return {n: (out / n).read_bytes() for n in ("manifest.parquet", "labels.csv", "plan.json")}


def marks(out: Path) -> dict[str, int]:
    files = [*(out / "videos").rglob("*.mov"), *(out / "made").iterdir()]
    files += [out / "manifest.parquet", out / "labels.csv", out / "plan.json"]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in files}


def named(out: Path) -> set[str]:
    return {uri.removeprefix("videos/") for uri in pd.read_parquet(out / "manifest.parquet")["uri"]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_of(tmp_path_factory.mktemp("degrade") / "clean", 4)


@pytest.mark.usefixtures("ray_cluster")
class TestOnOneCluster:
    def test_a_life(self, corpus: Path, tmp_path: Path) -> None:
        """Made, found done, planned anew, with fewer sources, with a changed one."""
        out = tmp_path / "out"
        clean = tmp_path / "clean"
        clean.mkdir()
        for path in corpus.iterdir():
            (clean / path.name).write_bytes(path.read_bytes())
        done = run(clean, out, "resources.workers=2")
        assert len(done.made) == 4 * EACH
        assert not done.missing
        assert (
            set(videos(out))
            == named(out)
            == {one.uri.removeprefix("videos/") for one in done.made if one.uri}
        )
        assert not (out / "_tmp").exists()
        for path in (out / "videos").rglob("*.mov"):
            with path.open("rb") as file, VideoReader(file, DecodeConfig()) as reader:
                assert len(list(reader.frames())) == 27
                assert reader.sound() is not None
        assert f"{4 * EACH} videos of 4 sources" in account(done, str(out))

        mine = out / "videos" / "v0" / "mine.txt"
        mine.write_text("hands off")
        before = marks(out)
        again = run(clean, out)
        assert again.summary is not None
        assert again.summary["videos"]["to_do"] == 0
        assert "workers" not in again.summary, "no worker was started"
        assert marks(out) == before

        kept = videos(out)
        planned = run(clean, out, "severities=[0.4, 0.9]")
        assert len(planned.made) == 4 * EACH
        now = videos(out)
        assert named(out) == set(now) - {"v0/mine.txt"}
        assert "v0/blur-1000.mov" not in now
        assert now["v0/blur-400.mov"] == kept["v0/blur-400.mov"]
        assert mine.read_text() == "hands off"

        # A corpus that lists less leaves what was made of the rest, and finds it again.
        few = run(clean / "v[01].mp4", out, "severities=[0.4, 0.9]")
        assert len(few.made) == 2 * EACH
        assert set(videos(out)) == set(now)
        all_again = run(clean, out, "severities=[0.4, 0.9]")
        assert len(all_again.made) == 4 * EACH
        assert videos(out) == now
        assert named(out) <= set(now)

        # A limit: what is not yet made in its new version is neither listed nor lost.
        seeded = ("severities=[0.4, 0.9]", "seed=5")
        limited = run(clean, out, *seeded, "run.limit=1")
        assert len(limited.made) == EACH
        assert set(videos(out)) == set(now)
        assert len(run(clean, out, *seeded).made) == 4 * EACH
        assert named(out) | {"v0/mine.txt"} == set(videos(out))

        write_video(clean / "v3.mp4", noise_images(30, seed=77), audio=sound(8, 1.3))
        changed = run(clean, out, *seeded)
        assert changed.summary is not None
        assert changed.summary["videos"]["done"] == 1
        assert len(changed.made) == 4 * EACH

    def test_any_number_of_workers_gives_the_same_bytes(self, corpus: Path, tmp_path: Path) -> None:
        for count in (1, 2):
            run(corpus, tmp_path / str(count), f"resources.workers={count}")
        assert videos(tmp_path / "1") == videos(tmp_path / "2")
        assert tables(tmp_path / "1") == tables(tmp_path / "2")

    def test_what_cannot_be_made_is_told_and_the_rest_is_made(self, tmp_path: Path) -> None:
        clean = corpus_of(tmp_path / "clean", 2)
        write_video(clean / "silent.mp4", noise_images(26, seed=5))
        (clean / "torn.mp4").write_bytes((clean / "v0.mp4").read_bytes()[:900])
        (clean / "word.mp4").write_bytes(b"not a video")
        write_video(clean / "long.mp4", noise_images(80, seed=6), audio=sound(6, 3.2))
        odd = "artefacts={noise: null, blur: null, seam: null}"
        done = run(clean, tmp_path / "out", odd, "store.max_seconds=2")
        assert done.summary is not None
        assert done.summary["videos"]["failed"] == 3
        failures = pd.read_parquet(tmp_path / "out" / "failures.parquet").set_index("video_id")
        assert set(failures.index) == {"torn", "word", "long"}
        assert failures.loc["long", "reason"] == "too_long"
        assert "store.max_seconds" in failures.loc["long", "message"]
        why = {name: reason for name, reason, _ in done.missing}
        assert why == {
            **{f"{v}/seam-{s}": "no_face" for v in ("v0", "v1", "silent") for s in (400, 1000)},
            **{f"silent/noise-{s}": "no_sound" for s in (400, 1000)},
        }
        text = account(done, str(tmp_path / "out"))
        assert "8 variants could not be made: 6 no_face, 2 no_sound" in text
        labels = pd.read_csv(tmp_path / "out" / "labels.csv")
        assert set(labels["video_id"]) == {one.variant.video_id for one in done.made}
        assert len(done.made) == 5 + 5 + 3
        again = run(clean, tmp_path / "out", odd, "store.max_seconds=2")
        assert again.summary is not None
        assert again.summary["videos"]["to_do"] == 0
        assert again.missing == done.missing
        assert videos(tmp_path / "out").keys() == named(tmp_path / "out")

    def test_ids_are_no_way_out_of_the_output(self, corpus: Path, tmp_path: Path) -> None:
        names = ["../../escaped", "/etc/x", "a//b", "ü +%20 'q'", "x" * 300]
        rows = [
            {"video_id": name, "uri": str(corpus / f"v{n % 4}.mp4")} for n, name in enumerate(names)
        ]
        pd.DataFrame(rows).to_csv(tmp_path / "m.csv", index=False)
        out = tmp_path / "below" / "out"
        done = run(tmp_path / "m.csv", out, "severities=[1.0]", "artefacts={blur: null}")
        assert len(done.made) == 2 * len(names)
        assert {p.name for p in tmp_path.iterdir()} == {"m.csv", "below"}
        assert named(out) == set(videos(out))
        manifest = pd.read_parquet(out / "manifest.parquet")
        assert set(manifest["source"]) == set(names)

    def test_another_kind_of_output_is_refused(self, corpus: Path, tmp_path: Path) -> None:
        config = load_config(DegradeConfig, None, [f"corpus.corpus={corpus}", *PLAN])
        degrade(config, str(tmp_path), virtual=True)
        with pytest.raises(UserInputError, match="holds a virtual corpus"):
            run(corpus, tmp_path)


def start(corpus: Path, out: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.drive_degrade", str(corpus), str(out), *PLAN],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_kill_of_the_driver_and_resume(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "clean", 10)
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = start(corpus, out)
    shards = out / "made"
    wait_for(lambda: shards.exists() and any(shards.glob("*.parquet")), 180)
    time.sleep(random.Random(4).random() / 2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.parquet").exists()
    wait_for(
        lambda: not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children)
    )
    for place in (out, whole):
        text, _ = start(corpus, place).communicate(timeout=400)
        assert f"finished {10 * EACH}" in text, text
    assert videos(out) == videos(whole)
    assert tables(out) == tables(whole)
    assert not (out / "_tmp").exists()
