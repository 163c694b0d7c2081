import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.ledger import Ledger
from pipelines.shards import (
    ShardWriter,
    VideoEntry,
    VideoKey,
    clean_leftovers,
    list_shards,
    read_shard_index,
    read_shards,
    reconcile,
)
from pipelines.storage import StorageError, Store
from tests.pipelines.shard_rows import FINGERPRINT, batch, row, same, schema
from tests.support import ROOT


def writer(store: Store, **options) -> ShardWriter:  # type: ignore[no-untyped-def]
    return ShardWriter(store, schema(), FINGERPRINT, options.pop("guard", lambda: None), **options)


def write(store: Store, videos: dict[str, int], version: str = "v1") -> str:
    shard = writer(store)
    for video_id, clips in videos.items():
        shard.add(VideoKey(video_id, version), [batch(video_id, range(clips), version)])
    return shard.commit().name


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.at(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


def test_a_shard_holds_what_was_added(store: Store) -> None:
    shard = writer(store)
    shard.add(VideoKey("b/two", "v2"), [batch("b/two", range(3), "v2")])
    shard.add(
        VideoKey("a/one", "v1"),
        [batch("a/one", range(20)), batch("a/one", range(20, 23))],
    )
    assert (shard.videos, shard.clips) == (2, 26)
    done = shard.commit()
    assert done.videos == [VideoEntry("a/one", "v1", 23), VideoEntry("b/two", "v2", 3)]
    assert read_shard_index(store, done.name) == done.videos
    assert [info.size for info in list_shards(store)] == [done.bytes]
    table = read_shards(store.raw_uri).to_table()
    expected = pa.Table.from_batches([batch("a/one", range(23)), batch("b/two", range(3), "v2")])
    assert same(table.cast(expected.schema), expected)
    assert (shard.videos, shard.clips) == (0, 0)


def test_name_comes_from_content_and_not_from_order(store: Store) -> None:
    one = write(store, {"a": 1, "b": 2})
    assert write(store, {"b": 2, "a": 1}) == one
    assert len(list_shards(store)) == 1
    assert write(store, {"a": 1, "b": 2}, "v2") != one


def test_an_aborted_video_leaves_no_row(store: Store) -> None:
    shard = writer(store)
    shard.add(VideoKey("good", "v1"), [batch("good", range(9))])
    for clips in (3, 30):  # still in memory; already in the spool
        shard.begin(VideoKey("bad", "v1"))
        for start in range(0, clips, 3):
            shard.append(batch("bad", range(start, start + 3)))
        shard.abort()
    shard.begin(VideoKey("late", "v1"))
    shard.append(batch("late", range(17)))
    shard.end()
    done = shard.commit()
    assert [(v.video_id, v.clips) for v in done.videos] == [("good", 9), ("late", 17)]
    table = read_shards(store.raw_uri).to_table(columns=["video_id", "clip_index"]).to_pandas()
    assert table.groupby("video_id").clip_index.apply(sorted).to_dict() == {
        "good": list(range(9)),
        "late": list(range(17)),
    }


def test_a_failing_add_and_a_discarded_spool_leave_nothing(store: Store) -> None:
    shard = writer(store)
    with pytest.raises(ValueError, match="another schema"):
        shard.add(VideoKey("x", ""), [batch("x", range(9)), pa.record_batch({"a": [1]})])
    with pytest.raises(ValueError, match="no complete video"):
        shard.commit()
    shard.add(VideoKey("x", ""), [batch("x", range(9))])
    shard.discard()
    assert (shard.videos, list_shards(store)) == (0, [])


def test_row_groups_are_small_whatever_the_batches(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    shard = writer(store)
    shard.add(VideoKey("long", ""), [batch("long", range(50))])
    for i in range(12):
        shard.add(VideoKey(f"short{i}", ""), [batch(f"short{i}", range(1))])
    metadata = pq.read_metadata(tmp_path / shard.commit().name)
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sum(groups) == 62
    assert max(groups) == 8
    assert len(groups) <= 9


def test_the_guard_is_asked_before_publishing(store: Store) -> None:
    def refuse() -> None:
        raise StorageError("not yours")

    shard = writer(store, guard=refuse)
    shard.add(VideoKey("a", ""), [batch("a", range(1))])
    with pytest.raises(StorageError, match="not yours"):
        shard.commit()
    assert list_shards(store) == []
    assert shard.videos == 0


def test_other_tools_read_the_full_row(tmp_path: Path) -> None:
    left_out: frozenset[str] = frozenset()
    full = schema(left_out)
    shard = ShardWriter(Store.at(tmp_path), full, FINGERPRINT, lambda: None)
    shard.add(VideoKey("v", "v1"), [batch("v", range(3), left_out=left_out)])
    shard.commit()
    expected = row("v", "v1", 1)
    frame = pd.read_parquet(tmp_path / "features")
    assert list(frame.columns) == full.names
    assert np.array_equal(frame.visual[1].reshape(150, 2048), expected["visual"])
    assert frame.visual[1].dtype == np.float16
    assert np.array_equal(frame.face_mask[1], expected["face_mask"])
    assert frame.faces[1] == {"faces_max": 1}
    code = (
        "import sys, pyarrow.parquet as pq; t = pq.read_table(sys.argv[1]);"
        "x = t['landmarks'].chunk(0).to_numpy_ndarray(); print(x.shape, float(x[1, 3, 5]))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path / "features")],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    assert run.stdout.split(") ")[0] == "(3, 150, 1404"
    assert float(run.stdout.split(") ")[1]) == expected["landmarks"][3, 5]


def test_a_foreign_file_is_told_apart(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "notes.parquet").write_bytes(b"x")
    assert list_shards(store) == []
    with pytest.raises(StorageError, match="no shards"):
        read_shards(str(tmp_path))
    name = "features/part-00000000-0000000000000000.parquet"
    (tmp_path / name).write_bytes(b"PAR1 cut short")
    with pytest.raises(StorageError, match="not a whole Parquet file"):
        read_shard_index(store, name)
    pq.write_table(pa.table({"a": [1]}), tmp_path / name)
    with pytest.raises(StorageError, match="is none"):
        read_shard_index(store, name)


def ids(store: Store) -> list[tuple[str, str, int]]:
    columns = ["video_id", "source_version", "clip_index"]
    table = read_shards(store.raw_uri).to_table(columns=columns)
    return sorted(tuple(r.values()) for r in table.to_pylist())


def test_reconcile_drops_copies_and_old_versions(store: Store) -> None:
    write(store, {"a": 2, "b": 10, "c": 1})
    write(store, {"b": 10, "d": 1})
    time.sleep(0.02)
    write(store, {"a": 3, "e": 1}, "v2")
    write(store, {"gone": 2})
    report = reconcile(store, {"a": "v2", "b": "v1", "c": "v1", "d": "v1", "e": "v2"})
    assert (report.duplicates, report.stale) == (1, 1)
    clips = {("a", "v2"): 3, ("b", "v1"): 10, ("c", "v1"): 1, ("d", "v1"): 1, ("e", "v2"): 1}
    clips["gone", "v1"] = 2
    expected = sorted((*key, i) for key, n in clips.items() for i in range(n))
    assert ids(store) == expected
    before = {info.name for info in list_shards(store)}
    again = reconcile(store, lambda video_id: "v2" if video_id in "ae" else None)
    assert (again.rewritten, again.dropped) == (0, 0)
    assert {info.name for info in list_shards(store)} == before


def test_reconcile_without_a_corpus_keeps_the_newest(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    old = write(store, {"a": 2})
    os.utime(tmp_path / old, (1e9, 1e9))
    write(store, {"a": 1}, "v2")
    assert reconcile(store).dropped == 1
    assert ids(store) == [("a", "v2", 0)]


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_reconcile_killed_anywhere_loses_nothing(tmp_path: Path, killed_after: int) -> None:
    store = Store.at(tmp_path)
    write(store, {"a": 1, "b": 1})
    write(store, {"b": 1, "c": 1})
    write(store, {"c": 1, "a": 1, "d": 1})
    calls = itertools.count()

    def guard() -> None:
        if next(calls) == killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconcile(store, guard=guard)
    assert {i[0] for i in ids(store)} == {"a", "b", "c", "d"}
    reconcile(store)
    assert [i[0] for i in ids(store)] == ["a", "b", "c", "d"]


ENDLESS = """
import sys
from pipelines.shards import ShardWriter, VideoKey
from pipelines.storage import Store
from tests.pipelines.shard_rows import FINGERPRINT, batch, schema
store, rows = Store.at(sys.argv[1]), None
for n in range(10**6):
    shard = ShardWriter(store, schema(), FINGERPRINT, lambda: None)
    shard.add(VideoKey(f"v{n}", "v1"), [batch(f"v{n}", range(24))])
    shard.commit()
    print(n, flush=True)
"""


def test_kill_while_publishing_shows_whole_shards_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    time.sleep(rng.random() * 0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = Store.at(tmp_path)
    (tmp_path / "_tmp").mkdir(exist_ok=True)
    (tmp_path / "_tmp" / "00000000-0000000000000000.part").write_bytes(b"half")
    (tmp_path / "_tmp" / "mine.txt").write_bytes(b"a user's file")
    ledger = Ledger.load(store)
    assert ledger.videos >= 1
    assert read_shards(str(tmp_path)).count_rows() == 24 * ledger.videos
    assert clean_leftovers(store) >= 1
    assert [p.name for p in (tmp_path / "_tmp").iterdir()] == ["mine.txt"]


def test_a_reconcile_that_was_interrupted_is_finished_without_loss(tmp_path: Path) -> None:
    # Killed between publishing {a} and deleting {a, b}: "a" is in two shards, and rewriting the old
    # one gives the very name of the copy. Several pairs, so that either name sorts first.
    for index in range(6):
        store = Store.at(tmp_path / str(index))
        a, b = f"a{index}", f"b{index}"
        write(store, {a: 2, b: 1})
        write(store, {b: 1}, "v2")
        write(store, {a: 2})
        reconcile(store, {a: "v1", b: "v2"})
        assert ids(store) == [(a, "v1", 0), (a, "v1", 1), (b, "v2", 0)]


def test_rows_stay_until_the_new_version_is_there(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    write(store, {"a": 2})
    reconcile(store, {"a": "v2"})
    assert ids(store) == [("a", "v1", 0), ("a", "v1", 1)]
