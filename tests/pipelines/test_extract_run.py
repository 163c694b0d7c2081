"""The pipeline on a real local Ray cluster, with a stand-in for the extractors."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.config import load_config
from pipelines.extract import ExtractConfig, extract
from pipelines.messages import RunError
from pipelines.provenance import OutputMismatchError
from tests.fakes import Fake, make_fake

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def corpus_of(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.mp4").write_bytes(name.encode())
    return folder


def run(corpus: Path, out: Path, *settings: str, factory: Any = make_fake) -> dict[str, Any]:
    config = load_config(ExtractConfig, None, [f"corpus.corpus={corpus}", *settings])
    return extract(config, str(out), factory=factory)


def rows(out: Path) -> pd.DataFrame:
    table = pd.read_parquet(out / "features")
    return table.sort_values(["video_id", "clip_index"]).reset_index(drop=True)


def values(out: Path) -> dict[tuple[str, int], bytes]:
    """Every row's content; a row that is there twice is an error."""
    table = rows(out)
    keys = list(zip(table.video_id, table.clip_index, strict=True))
    assert len(keys) == len(set(keys)), "a row is there twice"
    return {
        key: b"".join([au.tobytes(), mask.tobytes()])
        for key, au, mask in zip(keys, table.action_units, table.frame_mask, strict=True)
    }


NAMES = [f"v{i:03d}" for i in range(40)]


def test_every_video_is_done_once_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", NAMES)
    first = run(corpus, tmp_path / "out")
    assert first["videos"]["done"] == len(NAMES)
    assert sorted(set(rows(tmp_path / "out").video_id)) == NAMES
    before = values(tmp_path / "out")
    again = run(corpus, tmp_path / "out")
    assert again["videos"]["to_do"] == 0
    assert again["videos"]["done_before"] == len(NAMES)
    assert "workers" not in again, "no worker was started"
    assert values(tmp_path / "out") == before


@pytest.mark.parametrize(
    "settings",
    [
        ["resources.workers=1", "run.shard_clips=1"],
        ["resources.workers=2", "run.shard_clips=1000"],
        ["resources.workers=3", "run.shard_clips=7"],
    ],
)
def test_workers_and_shard_sizes_do_not_change_rows(tmp_path: Path, settings: list[str]) -> None:
    corpus = corpus_of(tmp_path / "corpus", NAMES)
    run(corpus, tmp_path / "a")
    run(corpus, tmp_path / "b", *settings)
    assert values(tmp_path / "a") == values(tmp_path / "b")


def test_what_is_new_is_added_and_what_changed_is_replaced(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", NAMES[:10])
    run(corpus, tmp_path / "out", "run.shard_clips=4")
    corpus_of(corpus, NAMES[10:12])
    (corpus / "v003.mp4").write_bytes(b"another content")
    second = run(corpus, tmp_path / "out")
    assert second["videos"]["to_do"] == 3
    table = rows(tmp_path / "out")
    assert sorted(set(table.video_id)) == NAMES[:12]
    versions = table[table.video_id == "v003"].source_version.unique()
    assert len(versions) == 1
    assert versions[0].startswith("15-")
    values(tmp_path / "out")


def test_bad_videos_become_rows_of_the_failure_table(tmp_path: Path) -> None:
    names = [*NAMES[:12], "a_crash", "b_bad", "c_bug", "d_hang"]
    corpus = corpus_of(tmp_path / "corpus", names)
    summary = run(corpus, tmp_path / "out", "run.stall_seconds=5")
    assert summary["videos"]["done"] == 12
    assert summary["videos"]["failed"] == 4
    assert sorted(set(rows(tmp_path / "out").video_id)) == NAMES[:12]
    table = pd.read_parquet(tmp_path / "out" / "failures.parquet").set_index("video_id")
    assert table.error_class.to_dict() == {
        "a_crash": "worker_died",
        "b_bad": "not_a_video",
        "c_bug": "internal_error",
        "d_hang": "stalled",
    }
    assert table.loc["a_crash", "attempts"] == 2
    assert table.loc["d_hang", "attempts"] == 2
    assert "KeyError" in table.loc["c_bug", "message"]
    assert "no progress" in table.loc["d_hang", "message"]
    again = run(corpus, tmp_path / "out")
    assert again["videos"]["to_do"] == 0
    assert again["videos"]["failed_before"] == 4
    retried = run(corpus, tmp_path / "out", "run.retry_failed=true", "run.stall_seconds=5")
    assert retried["videos"]["to_do"] == 4
    assert retried["videos"]["failed"] == 4


def test_a_failure_that_is_mended_leaves_the_table(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", ["one_bad", "two"])
    run(corpus, tmp_path / "out")
    assert len(pd.read_parquet(tmp_path / "out" / "failures.parquet")) == 1
    (corpus / "one_bad.mp4").unlink()
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"video_id,uri\none_bad,{corpus}/two.mp4\n")
    run(manifest, tmp_path / "out", "run.retry_failed=true")
    assert len(pd.read_parquet(tmp_path / "out" / "failures.parquet")) == 0
    assert sorted(set(rows(tmp_path / "out").video_id)) == ["one_bad", "two"]


def test_other_settings_do_not_go_into_the_same_output(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", NAMES[:2])
    run(corpus, tmp_path / "out")
    corpus_of(corpus, ["new"])
    with pytest.raises(OutputMismatchError, match=r"decode\.hop_s: 6\.0 -> 3\.0"):
        run(corpus, tmp_path / "out", "decode.hop_s=3")
    run(corpus, tmp_path / "out", "run.shard_clips=3", "prepare.cache_mib=9")


class Unloadable(Fake):
    def load(self):  # type: ignore[no-untyped-def]
        raise ValueError("visual.weights: no such file /nowhere/w.pth")


class DiesWhileLoading(Fake):
    def load(self):  # type: ignore[no-untyped-def]
        import os

        os._exit(7)


@pytest.mark.parametrize(
    ("factory", "says"),
    [(Unloadable, "no such file /nowhere/w.pth"), (DiesWhileLoading, "died while starting")],
)
def test_a_worker_that_cannot_start_ends_the_run_with_its_reason(
    tmp_path: Path, factory: Any, says: str
) -> None:
    corpus = corpus_of(tmp_path / "corpus", NAMES[:2])
    with pytest.raises(RunError, match=says):
        run(corpus, tmp_path / "out", factory=factory)
    assert not (tmp_path / "out" / "_lock.json").exists()
    assert run(corpus, tmp_path / "out")["videos"]["done"] == 2


def test_limit_takes_a_part_and_the_rest_follows(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", NAMES[:9])
    assert run(corpus, tmp_path / "out", "run.limit=4")["videos"]["done"] == 4
    assert run(corpus, tmp_path / "out")["videos"]["done"] == 5
    assert len(set(rows(tmp_path / "out").video_id)) == 9
