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
from pipelines.degrade import Degraded, _unneeded, degrade
from pipelines.degrading.account import account
from pipelines.degrading.config import DegradeConfig
from pipelines.errors import UserInputError
from tests.media import noise_images, write_video
from tests.support import ROOT, over, wait_for

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


def test_only_videos_that_no_row_needs_are_removed() -> None:
    def row(name: str, version: str, *uris: str | None) -> list[dict[str, Any]]:
        return [{"video_id": name, "source_version": version, "uri": uri} for uri in uris]

    rows = [
        *row("replanned", "old", "r/clean", "r/blur-400", None),
        *row("replanned", "new", "r/clean", "r/blur-600", None),
        *row("still to do", "old", "s/clean"),
        *row("not in the corpus now", "old", "n/clean"),
        *row("as it was", "same", "a/clean"),
    ]
    versions = {"replanned": "new", "still to do": "new", "as it was": "same", "failed": "new"}
    assert _unneeded(rows, versions) == {"r/blur-400"}
    assert _unneeded(rows[:3], versions) == set()
    assert _unneeded([], versions) == set()


@pytest.mark.usefixtures("ray_cluster")
class TestOnOneCluster:
    @pytest.mark.slow
    def test_a_life(self, corpus: Path, tmp_path: Path) -> None:
        """Made, found done, planned anew by a part, then all, then with a changed source."""
        out, one = tmp_path / "out", tmp_path / "one"
        clean = tmp_path / "clean"
        clean.mkdir()
        for path in corpus.iterdir():
            (clean / path.name).write_bytes(path.read_bytes())
        done = run(clean, out, "resources.workers=2")
        assert len(done.made) == 4 * EACH
        assert not done.missing
        assert set(videos(out)) == named(out)
        assert not (out / "_tmp").exists()
        for path in (out / "videos").rglob("*.mov"):
            with path.open("rb") as file, VideoReader(file, DecodeConfig()) as reader:
                assert len(list(reader.frames())) == 27
                assert reader.sound() is not None
        assert f"{4 * EACH} videos of 4 sources" in account(done, str(out))

        run(clean, one, "resources.workers=1")
        assert videos(one) == videos(out)
        assert tables(one) == tables(out)

        mine = out / "videos" / "v0" / "mine.txt"
        mine.write_text("hands off")
        before, made = marks(out), videos(out)
        again = run(clean, out)
        assert again.summary is not None
        assert again.summary["videos"]["to_do"] == 0
        assert "workers" not in again.summary, "no worker was started"
        assert marks(out) == before

        # What is not yet made in its new version is neither listed nor lost.
        anew = "severities=[0.4, 0.9]"
        part = run(clean, out, anew, "run.limit=1")
        assert len(part.made) == EACH
        gone = {name for name in made if name.startswith("v0/") and "-1000" in name}
        assert len(gone) == 3
        assert set(made) - set(videos(out)) == gone
        assert named(out) == {name for name in videos(out) if name.startswith("v0/")} - {
            "v0/mine.txt"
        }

        write_video(clean / "v3.mp4", noise_images(30, seed=77), audio=sound(8, 1.3))
        rest = run(clean, out, anew)
        assert rest.summary is not None
        # v1 and v2 were still to be made; v3 is another video, and so is who got its sound.
        heirs = {
            made.variant.source.video_id
            for made in done.made
            if any((step.donor or "").endswith("v3.mp4") for step in made.variant.chain)
        }
        assert heirs
        assert rest.summary["videos"]["done"] == len({"v1", "v2", "v3"} | heirs)
        assert len(rest.made) == 4 * EACH
        now = videos(out)
        assert set(now) == named(out) | {"v0/mine.txt"}
        assert mine.read_text() == "hands off"
        assert not any("-1000" in name for name in now)
        assert now["v1/blur-400.mov"] == made["v1/blur-400.mov"]
        assert now["v3/blur-400.mov"] != made["v3/blur-400.mov"]

    def test_what_cannot_be_made_is_told_and_the_rest_is_made(self, tmp_path: Path) -> None:
        clean = corpus_of(tmp_path / "clean", 2)
        write_video(clean / "silent.mp4", noise_images(26, seed=5))
        (clean / "torn.mp4").write_bytes((clean / "v0.mp4").read_bytes()[:900])
        (clean / "word.mp4").write_bytes(b"not a video")
        write_video(clean / "long.mp4", noise_images(80, seed=6), audio=sound(6, 3.2))
        odd = ["artefacts={seam: null}", "leave_out=[foreign_sound]", "store.max_seconds=2"]
        done = run(clean, tmp_path / "out", *odd)
        assert done.summary is not None
        assert done.summary["videos"]["failed"] == 3
        failures = pd.read_parquet(tmp_path / "out" / "failures.parquet").set_index("video_id")
        assert set(failures.index) == {"torn", "word", "long"}
        assert failures.loc["long", "error_class"] == "too_long"
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
        again = run(clean, tmp_path / "out", *odd)
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
        done = run(tmp_path / "m.csv", out, "severities=[1.0]", "leave_out=[noise, foreign_sound]")
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
@pytest.mark.usefixtures("ray_cluster")
def test_kill_of_the_driver_and_resume(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "clean", 10)
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = start(corpus, out)
    shards = out / "made"
    wait_for(lambda: shards.exists() and any(shards.glob("*.parquet")))
    time.sleep(random.Random(4).random() / 2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.parquet").exists()
    wait_for(lambda: over(children))
    text, _ = start(corpus, out).communicate(timeout=400)
    assert f"finished {10 * EACH}" in text, text
    assert len(run(corpus, whole).made) == 10 * EACH
    assert videos(out) == videos(whole)
    assert tables(out) == tables(whole)
    assert not (out / "_tmp").exists()
