"""Scoring on a real local Ray cluster, with made-up features."""

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from actors.errors import VideoError
from actors.row import arrow_schema
from actors.types import VideoRef
from model.tasks import TASKS
from pipelines.checkpoint import CheckpointError
from pipelines.config import load_config
from pipelines.extract import ExtractConfig, extract
from pipelines.failures import FailureTable
from pipelines.leases import Failure
from pipelines.score import score
from pipelines.scoring.config import load_score_config
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.telling import Told
from pipelines.spool import CorpusError
from pipelines.storage import StorageError, Store
from tests.pipelines.test_extract_run import corpus_of
from tests.score_fakes import SETTINGS, ScoreFake, make_score_fake, origin, tiny_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

NAMES = [*(f"gen_a/v{i:02d}" for i in range(8)), *(f"gen_b/v{i:02d}" for i in range(8))]


def corpus(folder: Path, names: list[str] = NAMES) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return corpus_of(folder, names)


def run(
    videos: Path | None, checkpoint: Path, out: Path, *settings: str, factory: Any = make_score_fake
) -> Told:
    given = [f"checkpoint={checkpoint}", "corpus.pattern='{generator}/*.mp4'", *settings]
    if videos is not None:
        given.append(f"corpus.corpus={videos}")
    else:
        given.remove("corpus.pattern='{generator}/*.mp4'")
    config, peek = load_score_config(None, given)
    return score(config, peek, str(out), factory=factory)


def clips(out: Path) -> pd.DataFrame:
    table = pd.read_parquet(out / "clips")
    return table.sort_values(["video_id", "clip_index"]).reset_index(drop=True)


def videos(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "videos").sort_values("video_id").reset_index(drop=True)


def values(out: Path) -> tuple[str, str]:
    """The content of both tables; a row that is there twice is an error."""
    both = clips(out), videos(out)
    assert not both[0].duplicated(["video_id", "clip_index"]).any()
    assert not both[1].duplicated("video_id").any()
    return tuple(t.drop(columns="run_date").to_json() for t in both)  # type: ignore[return-value]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "model")


def test_only_what_is_new_is_scored(tmp_path: Path, checkpoint: Path) -> None:
    folder, out = corpus(tmp_path / "corpus"), tmp_path / "out"
    first = run(folder, checkpoint, out)
    assert first.summary["run"]["videos"]["done"] == len(NAMES)
    assert list(videos(out).video_id) == sorted(NAMES)
    for name in ("report.html", "summary.json", "summary.md"):
        assert (out / "report" / name).exists()
    before = values(out)
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}

    again = run(folder, checkpoint, out)
    assert again.summary["inputs"] == first.summary["inputs"]
    assert "0 videos scored" in again.text
    assert "up to date" in again.text
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")} == stamps

    (folder / "gen_a/v03.mp4").write_bytes(b"another film")
    third = run(folder, checkpoint, out)
    assert third.summary["run"]["videos"]["done"] == 1
    assert third.summary["run"]["videos"]["done_before"] == len(NAMES) - 1
    old, new = json.loads(before[1]), json.loads(values(out)[1])
    changed = {k for k in old["video_id"] if old["source_version"][k] != new["source_version"][k]}
    assert [new["video_id"][k] for k in changed] == ["gen_a/v03"]
    assert all(old[t][k] == new[t][k] for t in TASKS for k in old["video_id"])  # of its name alone


def test_another_checkpoint_scores_everything_again(tmp_path: Path, checkpoint: Path) -> None:
    folder, out = corpus(tmp_path / "corpus", NAMES[:6]), tmp_path / "out"
    run(folder, checkpoint, out)
    before = videos(out)
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    told = run(folder, other, out)
    assert told.summary["run"]["videos"]["done"] == 6
    after = videos(out)
    assert list(after.video_id) == list(before.video_id)
    assert set(after.checkpoint) != set(before.checkpoint)
    assert len(set(after.checkpoint)) == 1
    assert (after.overall != before.overall).all()


def test_scores_do_not_depend_on_workers_shards_or_order(tmp_path: Path, checkpoint: Path) -> None:
    names = NAMES[:9]
    folder = corpus(tmp_path / "corpus", names)
    run(folder, checkpoint, tmp_path / "a", "resources.workers=1")
    run(folder, checkpoint, tmp_path / "b", "resources.workers=2", "run.shard_clips=2")
    manifest = tmp_path / "reversed.csv"
    lines = [f"{n},{folder / n}.mp4,{n.split('/')[0]}" for n in reversed(names)]
    manifest.write_text("\n".join(["video_id,uri,generator", *lines]))
    config, peek = load_score_config(
        None, [f"corpus.corpus={manifest}", f"checkpoint={checkpoint}"]
    )
    score(config, peek, str(tmp_path / "c"), factory=make_score_fake)
    expected = clips(tmp_path / "a")
    for other in ("b", "c"):
        found = clips(tmp_path / other)
        assert list(found.video_id) == list(expected.video_id)
        for task in TASKS:
            np.testing.assert_allclose(found[task], expected[task], atol=1e-5)


def test_the_tables_are_read_by_pandas_duckdb_and_pyarrow(tmp_path: Path, checkpoint: Path) -> None:
    folder, out = corpus(tmp_path / "corpus", [*NAMES[:5], "gen_b/mute"]), tmp_path / "out"
    run(folder, checkpoint, out)
    frame = videos(out)
    query = f"select * from read_parquet('{out}/videos/*/*.parquet', hive_partitioning=true)"
    assert duckdb.sql(f"{query} order by video_id").df().video_id.tolist() == list(frame.video_id)
    table = ds.dataset(out / "videos", partitioning="hive").to_table()
    assert sorted(table["video_id"].to_pylist()) == list(frame.video_id)
    assert set(frame.run_date.astype(str)) == set(table["run_date"].to_pylist())
    mute = frame[frame.video_id == "gen_b/mute"].iloc[0]
    assert np.isnan(mute.audio_quality)
    assert mute.audio_quality_reason == "no sound"
    assert not mute.has_sound
    own = clips(out)
    for row in frame.itertuples():  # means over clips by valid frames
        parts = own[own.video_id == row.video_id]
        expected = np.average(parts.overall, weights=parts.frames)
        assert row.overall == pytest.approx(expected, abs=1e-6)
        assert row.clips == len(parts)
        worst = parts.loc[parts.overall.idxmin()]
        assert (row.worst_start_s, row.worst_end_s) == (worst.start_s, worst.end_s)
    assert frame.demonstration.all()


def test_what_fails_is_a_row_and_what_crashes_does_no_harm(
    tmp_path: Path, checkpoint: Path
) -> None:
    names = ["g/crash", "g/bad", "g/bug", "g/v1", "g/v2"]
    folder, out = corpus(tmp_path / "corpus", names), tmp_path / "out"
    told = run(folder, checkpoint, out)
    assert (told.videos, told.failed) == (5, 3)
    assert list(videos(out).video_id) == ["g/v1", "g/v2"]
    failures = pd.read_parquet(out / "failures.parquet").set_index("video_id").error_class
    assert failures.to_dict() == {
        "g/crash": "worker_died", "g/bad": "not_a_video", "g/bug": "internal_error",
    }  # fmt: skip
    told_of = {entry["reason"]: entry["videos"] for entry in told.summary["failures"]["reasons"]}
    assert told_of == {"worker_died": 1, "not_a_video": 1, "internal_error": 1}
    again = run(folder, checkpoint, out)
    assert again.failed == 3
    assert "0 videos scored" in again.text


def test_a_corpus_of_failures_alone_ends_with_a_report(tmp_path: Path, checkpoint: Path) -> None:
    folder, out = corpus(tmp_path / "corpus", ["g/bad1", "g/bad2"]), tmp_path / "out"
    told = run(folder, checkpoint, out)
    assert told.failed == 2
    assert (out / "report/report.html").exists()
    assert not (out / "videos").exists()


def test_stored_features_give_the_scores_of_the_stream(tmp_path: Path, checkpoint: Path) -> None:
    folder = corpus(tmp_path / "corpus", NAMES[:7])
    run(folder, checkpoint, tmp_path / "stream")
    stored = tmp_path / "features"
    write_features(folder, stored)
    run(None, checkpoint, tmp_path / "stored", f"features={stored}")
    a, b = clips(tmp_path / "stream"), clips(tmp_path / "stored")
    assert list(a.video_id) == list(b.video_id)
    for task in TASKS:
        np.testing.assert_allclose(a[task], b[task], atol=1e-3)
    same = ["clip_index", "start_s", "end_s", "frames", "face_frames", "has_sound", "findings"]
    assert a[same].to_json() == b[same].to_json()
    again = run(None, checkpoint, tmp_path / "stored", f"features={stored}")
    assert "0 videos scored" in again.text

    # A corpus beside the features: what has none is told, also when that is all there is to do.
    (folder / "gen_a/late.mp4").write_bytes(b"late")
    late = run(folder, checkpoint, tmp_path / "stored", f"features={stored}")
    assert (late.videos, late.failed) == (8, 1)
    (folder / "gen_a/late.mp4").unlink()
    (folder / "gen_a/new.mp4").write_bytes(b"new")
    both = run(folder, checkpoint, tmp_path / "both", f"features={stored}")
    assert both.failed == 1
    failures = pd.read_parquet(tmp_path / "both/failures.parquet")
    assert failures.error_class.tolist() == ["no_features"]


def write_features(folder: Path, out: Path) -> None:
    """Extract with the made-up processor, as jobs/extract.py would."""
    config = load_config(
        ExtractConfig,
        None,
        [
            f"corpus.corpus={folder}",
            "corpus.pattern='{generator}/*.mp4'",
            'modalities=["action_units", "lowlevel"]',
            "run.shard_clips=5",
        ],
    )
    assert config.features() == SETTINGS
    extract(config, str(out), factory=FeatureFake)


class FeatureFake(ScoreFake):
    def load(self) -> Any:
        from dataclasses import replace

        from actors.features import STRUCT_FIELDS

        assert arrow_schema(STRUCT_FIELDS, SETTINGS.left_out)
        return replace(super().load(), struct_fields=STRUCT_FIELDS)


def test_a_damaged_feature_shard_costs_its_videos_alone(tmp_path: Path, checkpoint: Path) -> None:
    folder, stored = corpus(tmp_path / "corpus", NAMES[:7]), tmp_path / "features"
    write_features(folder, stored)
    shards = sorted((stored / "features").glob("*.parquet"))
    assert len(shards) > 1
    data = shards[0].read_bytes()
    # In a tensor: what the listing reads is whole, and the damage is met while scoring.
    group = pq.ParquetFile(shards[0]).metadata.row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    at = next(c.data_page_offset for c in chunks if c.path_in_schema.startswith("lowlevel"))
    shards[0].write_bytes(data[: at + 100] + bytes(400) + data[at + 500 :])
    told = run(None, checkpoint, tmp_path / "out", f"features={stored}")
    assert 0 < told.failed < 7
    assert len(videos(tmp_path / "out")) == 7 - told.failed
    failures = pd.read_parquet(tmp_path / "out/failures.parquet")
    assert set(failures.error_class) == {"unreadable_features"}


def test_what_a_user_can_get_wrong(tmp_path: Path, checkpoint: Path) -> None:
    folder, out = corpus(tmp_path / "corpus", NAMES[:2]), tmp_path / "out"
    strange = tiny_checkpoint(tmp_path / "strange", features=origin({"fake": "another"}))
    with pytest.raises(ScoreInputError, match="fake: 'another' -> '0'"):
        run(folder, strange, out)
    with pytest.raises(ScoreInputError, match=r"hop_s: 6\.0 -> 3\.0"):
        run(folder, checkpoint, out, "extraction.decode.hop_s=3")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        run(folder, tmp_path, out)
    with pytest.raises(CorpusError, match="no video"):
        run(tmp_path / "model", checkpoint, out)
    stored = tmp_path / "features"
    write_features(folder, stored)
    with pytest.raises(CheckpointError, match="fingerprint"):
        run(None, strange, out, f"features={stored}")
    with pytest.raises(ScoreInputError, match="holds features"):
        run(folder, checkpoint, stored)
    assert not (out / "clips").exists()
    shard = next((stored / "features").glob("*.parquet"))
    data = shard.read_bytes()
    shard.write_bytes(data[:200] + bytes(400) + data[600:])
    with pytest.raises(StorageError, match="not a whole Parquet file"):
        run(None, checkpoint, out, f"features={stored}")


def test_a_baseline_and_a_gate_decide(tmp_path: Path, checkpoint: Path) -> None:
    folder, base = corpus(tmp_path / "corpus"), tmp_path / "base"
    run(folder, checkpoint, base)
    gate = tmp_path / "gate.yaml"
    gate.write_text(
        "allow_demonstration: true\nrules:\n  - {task: overall, max_drop: {value: 0.1}}\n"
    )
    told = run(folder, checkpoint, tmp_path / "out", f"baseline={base}", f"gate={gate}")
    assert told.passed
    assert told.summary["change"] is not None
    gate.write_text("rules:\n  - {task: overall, min_mean: 4.9}\n")
    told = run(folder, checkpoint, tmp_path / "out", f"gate={gate}")
    assert not told.passed  # seeded weights, and the mean
    assert "gate FAILED" in told.text
    assert "demonstration" in told.text.lower()
    strange = tmp_path / "strange"
    shutil.copytree(folder / "gen_a", tmp_path / "else" / "gen_z")
    run(tmp_path / "else", checkpoint, strange)
    with pytest.raises(ScoreInputError, match="baseline of other videos"):
        run(folder, checkpoint, tmp_path / "out", f"baseline={strange}")


def test_nothing_is_concluded_from_rows_of_another_version(
    tmp_path: Path, checkpoint: Path
) -> None:
    folder, out = corpus(tmp_path / "corpus", NAMES[:5]), tmp_path / "out"
    run(folder, checkpoint, out)
    intervals = videos(out)
    (folder / "gen_a/v00.mp4").unlink()
    (folder / "gen_a/v00_bad.mp4").write_bytes(b"x")
    shutil.move(folder / "gen_a/v00_bad.mp4", folder / "gen_a/v00.mp4")

    class Breaks(ScoreFake):  # the new content cannot be read
        def process(self, ref: Any, *rest: Any) -> Any:
            if ref.video_id == "gen_a/v00":
                raise VideoError("decode", "not_a_video", "The file is not a video.")
            yield from super().process(ref, *rest)

    told = run(folder, checkpoint, out, factory=Breaks)
    assert "gen_a/v00" in set(videos(out).video_id)  # the old row stands in the table …
    (board,) = told.summary["leaderboard"]["generators"]
    assert board["videos"] == 4  # … and nowhere else
    assert told.summary["counts"]["with_scores"] == 4
    assert told.failed == 1

    # Another checkpoint has scored two videos so far: the others do not count.
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    told = run(folder, other, out, "run.limit=2")
    (board,) = told.summary["leaderboard"]["generators"]
    assert board["videos"] == 2
    assert len(videos(out)) == 5
    # Back again: what it scored before has kept, or has again, everything.
    run(folder, checkpoint, out)
    again = videos(out).set_index("video_id").drop(index="gen_a/v00")
    expected = intervals.set_index("video_id").drop(index="gen_a/v00")
    assert again.drop(columns="run_date").to_json() == expected.drop(columns="run_date").to_json()


def test_names_are_those_of_the_corpus_now(tmp_path: Path, checkpoint: Path) -> None:
    folder, out = corpus(tmp_path / "corpus", NAMES[:2] + NAMES[-2:]), tmp_path / "out"
    config, peek = load_score_config(None, [f"corpus.corpus={folder}", f"checkpoint={checkpoint}"])
    told = score(config, peek, str(out), factory=make_score_fake)
    assert [g["name"] for g in told.summary["leaderboard"]["generators"]] == ["(unknown)"]
    told = run(folder, checkpoint, out)
    assert "0 videos scored" in told.text
    assert "up to date" not in told.text
    names = {g["name"] for g in told.summary["leaderboard"]["generators"]}
    assert names == {"gen_a", "gen_b"}


def test_a_failure_that_was_mended_before_a_kill_is_forgotten(
    tmp_path: Path, checkpoint: Path
) -> None:
    folder, out = corpus(tmp_path / "corpus", NAMES[:2]), tmp_path / "out"
    run(folder, checkpoint, out)
    row = videos(out).iloc[0]
    table = FailureTable("killed")
    ref = VideoRef(row.video_id, row.uri, version=row.source_version)
    table.add(Failure(ref, "open", "unreadable_source", "the network was away", 1, True))
    table.flush(Store.at(out))
    told = run(folder, checkpoint, out)
    assert told.summary["failures"]["videos"] == 0
    assert len(FailureTable.load(Store.at(out))) == 0
    # A report that was being written when the run was killed is written anew.
    (out / "report/summary.json").unlink()
    assert "up to date" not in run(folder, checkpoint, out).text
