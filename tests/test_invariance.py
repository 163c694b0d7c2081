"""The same rows however a run is laid out: workers, shards, layouts, helpers that die or hang."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from actors.encode import Encoder
from actors.features import FeaturesConfig
from actors.prepare import Preparer
from actors.types import Row, Timings, VideoRef
from pipelines import processors
from pipelines.config import load_config
from pipelines.extract import ExtractConfig, extract
from pipelines.processors import ExtractFactory, PrepareWorker
from pipelines.resources import Cluster, ResourcesConfig, plan
from tests.talking import faces, prepared, seeded_settings, talking_video

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

SEEDED = [f"{name}.weights=seeded" for name in ("visual", "audio", "sync")]
SLIM = ["modalities=[landmarks, action_units]"]
SPLIT = ["resources.layout=split", "resources.workers=1", "resources.preparers=2"]
TENSORS = ("visual", "audio", "landmarks", "action_units", "lowlevel", "sync")
MASKS = ("frame_mask", "face_mask", "audio_mask")


def run(corpus: Path, out: Path, *settings: str, factory: Any = None) -> dict[str, Any]:
    config = load_config(ExtractConfig, None, [f"corpus.corpus={corpus}", *settings])
    return extract(config, str(out), factory=factory)


def rows(out: Path) -> dict[Any, Any]:
    """All rows by video and clip; one that is there twice is an error."""
    table = pd.read_parquet(out / "features")
    found = {(r["video_id"], r["clip_index"]): r for r in table.to_dict("records")}
    assert len(found) == len(table), "a row is there twice"
    return found


def assert_equal_rows(left: dict[Any, Any], right: dict[Any, Any]) -> None:
    """Every column but the shard's own, bit for bit."""
    assert left.keys() == right.keys()
    for key, a in left.items():
        b = right[key]
        assert a.keys() == b.keys()
        for name in a:
            if name in TENSORS or name in MASKS:
                assert np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes(), (key, name)
            else:
                assert str(a[name]) == str(b[name]), (key, name)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of one clip: talking, another speaker at 30 fps, without sound."""
    folder = tmp_path_factory.mktemp("invariance") / "corpus"
    folder.mkdir()
    talking_video(folder / "a.mp4", 25)
    talking_video(folder / "b.mp4", 34, "bruno", fps=30)
    talking_video(folder / "c.mp4", images=faces(50)[25:], audio=None)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos, the first with two clips."""
    folder = tmp_path_factory.mktemp("many") / "corpus"
    folder.mkdir()
    for i in range(8):
        talking_video(folder / f"v{i}.mp4", 180 if i == 0 else 25 + i)
    return folder


@pytest.fixture(scope="module")
def undisturbed(many: Path) -> dict[Any, Any]:
    """Rows of `many` from one worker in the whole layout."""
    out = many.parent / "undisturbed"
    run(many, out, *SLIM, "resources.workers=1")
    return rows(out)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As workers compute; files that come later have what they had before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def split(corpus: Path) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Summary and rows of a run with everything, in the split layout, one shard."""
    out = corpus.parent / "split"
    # The backbones say nothing while they are at a clip.
    summary = run(corpus, out, *SEEDED, *SPLIT, "run.shard_clips=100", "run.stall_seconds=600")
    return summary, rows(out)


@pytest.mark.usefixtures("one_thread")
def test_a_split_run_gives_what_the_classes_give_in_one_process(
    corpus: Path, split: tuple[dict[str, Any], dict[Any, Any]], seeded_encoder: Encoder
) -> None:
    summary, stored = split
    assert (summary["layout"], summary["workers"], summary["shards"]["written"]) == ("split", 1, 1)
    # The preparers' share of the work is told apart from the encoder's.
    ahead = {"ahead:decode", "ahead:faces", "ahead:landmarks", "ahead:lowlevel", "wait"}
    assert ahead <= set(summary["stage_seconds"])
    preparer = Preparer(seeded_settings())
    for name in ("a", "b", "c"):
        (clip,) = prepared(preparer, corpus / f"{name}.mp4")
        made: Row = seeded_encoder([clip], Timings(), lambda _: None)[0]
        row = stored.pop((name, 0))
        for column in (*TENSORS, *MASKS):
            assert np.asarray(row[column]).tobytes() == made[column].tobytes(), (name, column)
        reason = None if pd.isna(row["sync_reason"]) else row["sync_reason"]
        assert reason == made["sync_reason"] == ("no_sound" if name == "c" else None)
        for column in ("descriptors", "faces"):
            for key, value in made[column].items():
                kept = row[column][key]
                if isinstance(value, float):
                    assert kept == pytest.approx(value, rel=1e-6), (name, key)  # stored: float32
                else:
                    assert kept == value or (value is None and pd.isna(kept)), (name, key)
    assert not stored


@pytest.mark.usefixtures("one_thread")
def test_two_whole_workers_and_small_shards_give_the_same_bits(
    corpus: Path, tmp_path: Path, seeded_encoder: Encoder
) -> None:
    settings = ["resources.layout=whole", "resources.workers=2", "run.shard_clips=1"]
    modalities = "modalities=[visual, landmarks, action_units]"
    summary = run(corpus, tmp_path / "out", "visual.weights=seeded", modalities, *settings)
    assert (summary["layout"], summary["workers"], summary["shards"]["written"]) == ("whole", 2, 3)
    found = rows(tmp_path / "out")
    preparer = Preparer(seeded_settings())
    visual = next(stage for stage in seeded_encoder.stages if stage.name == "visual")
    for (name, _), row in found.items():
        (clip,) = visual(prepared(preparer, corpus / f"{name}.mp4"))
        for column in ("visual", "landmarks", *MASKS):
            assert np.asarray(row[column]).tobytes() == clip[column].tobytes(), (name, column)


def test_two_encoders_with_preparers_of_their_own(
    many: Path, undisturbed: dict[Any, Any], tmp_path: Path
) -> None:
    layout = ["resources.layout=split", "resources.workers=2", "resources.preparers=1"]
    run(many, tmp_path / "out", *SLIM, *layout, "run.shard_clips=3")
    assert_equal_rows(rows(tmp_path / "out"), undisturbed)
    assert soon(lambda: preparers() == [])


# --- preparers that die or hang


def preparers() -> list[psutil.Process]:
    """Preparing processes of this test's own cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "PrepareWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def soon(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def working() -> list[psutil.Process]:
    """Those whose title says that they are at a video."""
    found = []
    for process in preparers():
        try:
            if "PrepareWorker.prepare" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_preparer_that_is_killed_or_stopped_costs_nothing(
    many: Path, undisturbed: dict[Any, Any], tmp_path: Path, how: signal.Signals
) -> None:
    hit: list[int] = []

    def strike() -> None:
        while not hit:
            for process in working()[:1]:
                hit.append(process.pid)
                os.kill(process.pid, how)
            time.sleep(0.01)

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    # Far longer than the mesh of a clip of 150 frames, which is silent, may take.
    summary = run(many, tmp_path / "out", *SLIM, *SPLIT, "run.stall_seconds=20")
    striker.join(timeout=1)
    assert hit
    assert summary["videos"]["failed"] == 0
    assert summary["videos"]["done"] == 8
    assert summary["workers_lost"] == 0, "the encoder stays"
    assert_equal_rows(rows(tmp_path / "out"), undisturbed)
    assert soon(lambda: not psutil.pid_exists(hit[0]))
    assert soon(lambda: preparers() == [])


# Sat out twice. The videos have at most 33 frames: nobody is silent so long about one of them.
STALL = 12


class Stubborn(PrepareWorker):
    """Hangs at a video named so; takes long, but moves, at another."""

    def prepare(self, ref: VideoRef, columns: frozenset[str]) -> Iterator[tuple[str, Any]]:
        if "hang" in ref.video_id:
            time.sleep(3600)
        if "long" in ref.video_id:
            for _ in range(2 * STALL + 8):  # longer in all than a silence may last
                time.sleep(0.5)
                self._progress.beat("decode")
        yield from super().prepare(ref, columns)


def stubborn(threads: int) -> Any:
    """The split layout with such preparers, made in the worker's process."""
    processors.PrepareWorker = Stubborn  # type: ignore[misc]
    settings = FeaturesConfig(modalities=("landmarks", "action_units"))
    resources = ResourcesConfig(layout="split", workers=1, preparers=2)
    layout = plan(Cluster(2, 0, 8 * 2**30), resources)
    return ExtractFactory(settings, layout, 1, stall_seconds=STALL)(threads)


def test_a_hanging_preparer_is_replaced_and_a_slow_one_is_not(
    many: Path, undisturbed: dict[Any, Any], tmp_path: Path
) -> None:
    names = ["v4", "hang", "long", "v1", "v2"]
    manifest = tmp_path / "manifest.csv"
    lines = [f"{name},{many}/{'v3' if name in ('hang', 'long') else name}.mp4" for name in names]
    manifest.write_text("\n".join(["video_id,uri", *lines]) + "\n")
    summary = run(
        manifest, tmp_path / "out", *SLIM, *SPLIT, f"run.stall_seconds={STALL}", factory=stubborn
    )
    assert (summary["videos"]["done"], summary["videos"]["failed"]) == (4, 1)
    assert summary["workers_lost"] == 0, "the encoder stays"
    (failure,) = pd.read_parquet(tmp_path / "out" / "failures.parquet").to_dict("records")
    assert (failure["video_id"], failure["error_class"]) == ("hang", "stalled")
    assert failure["attempts"] == 2
    assert "made no progress for" in failure["message"]
    found = rows(tmp_path / "out")
    assert sorted(found) == [("long", 0), ("v1", 0), ("v2", 0), ("v4", 0)]
    for (name, clip), row in found.items():
        expected = undisturbed["v3" if name == "long" else name, clip]
        for column in ("landmarks", "action_units", *MASKS):
            assert np.asarray(row[column]).tobytes() == np.asarray(expected[column]).tobytes()
    assert soon(lambda: preparers() == [])


def test_failures_are_the_same_in_both_layouts(many: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_bytes(b"this is no video\n" * 100)
    talking_video(tmp_path / "short.mp4", 12)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        f"video_id,uri\ngood,{many}/v1.mp4\ngone,{tmp_path}/gone.mp4\n"
        f"short,{tmp_path}/short.mp4\ntext,{tmp_path}/text.mp4\n"
    )
    tables = []
    for name, layout in (("whole", ["resources.workers=1"]), ("split", SPLIT)):
        summary = run(manifest, tmp_path / name, *SLIM, *layout)
        assert (summary["videos"]["done"], summary["videos"]["failed"]) == (1, 3)
        table = pd.read_parquet(tmp_path / name / "failures.parquet").sort_values("video_id")
        columns = ["video_id", "stage", "error_class", "message", "transient"]
        tables.append(table[[c for c in columns if c in table]].to_dict("records"))
    assert tables[0] == tables[1]
