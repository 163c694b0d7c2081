import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pipelines.ledger import Ledger
from pipelines.shards import CommittedShard, ShardWriter, VideoEntry, VideoKey
from pipelines.storage import Store
from tests.pipelines.shard_rows import FINGERPRINT, batch, schema


def write(store: Store, *videos: str, version: str = "v1") -> CommittedShard:
    shard = ShardWriter(store, schema(), FINGERPRINT, lambda: None)
    for video_id in videos:
        shard.add(VideoKey(video_id, version), [batch(video_id, range(2), version)])
    return shard.commit()


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.at(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


def test_shards_are_the_truth_and_the_file_a_cache(store: Store) -> None:
    one = write(store, "a", "b")
    ledger = Ledger.load(store)
    assert (ledger.videos, ledger.clips, ledger.bytes) == (2, 4, one.bytes)
    ledger.save(store)
    two = write(store, "c")
    again = Ledger.load(store)
    asked = [("a", "v1"), ("b", "v9"), ("c", "v1"), ("d", ""), ("a", "")]
    assert again.status_many(asked) == ["done", "changed", "done", "new", "done"]
    assert again.is_done("c", "v1") == "done"
    assert again.shards_of("c") == [two.name]
    again.save(store)
    store.delete(one.name)
    after = Ledger.load(store)
    assert after.status_many(asked) == ["new", "new", "done", "new", "new"]
    store.write_bytes("ledger.parquet", b"damaged")
    assert Ledger.load(store).status_many(asked) == ["new", "new", "done", "new", "new"]
    assert after.fingerprints == {FINGERPRINT[:8]}


def test_refresh_finds_what_was_not_reported(store: Store) -> None:
    ledger = Ledger.load(store)
    known = write(store, "a")
    ledger.record(known)
    unheard = write(store, "b")
    assert ledger.refresh(store) == [unheard]
    assert ledger.refresh(store) == []
    ledger.record(unheard)
    assert (ledger.videos, len(ledger.shards)) == (2, 2)


def test_surplus_is_noticed(store: Store) -> None:
    write(store, "a", "b")
    ledger = Ledger.load(store)
    assert not ledger.has_surplus
    ledger.record(write(store, "a", version="v2"))
    assert ledger.has_surplus
    assert ledger.videos == 2
    assert ledger.status_many([("a", "v1"), ("a", "v2"), ("a", "v3")]) == [
        "done",
        "done",
        "changed",
    ]


def test_a_replaced_version_is_surplus_once_seen(store: Store) -> None:
    write(store, "a")
    ledger = Ledger.load(store)
    ledger.is_done("a", "v2")
    assert ledger.has_surplus


def test_a_large_ledger_stays_small(tmp_path: Path) -> None:
    store, shards, each = Store.at(tmp_path), 200, 1000
    tracemalloc.start()
    ledger = Ledger()
    for s in range(shards):
        videos = [VideoEntry(f"folder/video{s:04d}{i:06d}", "v", 3) for i in range(each)]
        ledger.record(CommittedShard(f"features/part-0-{s:04d}.parquet", videos, 1, 3 * each))
    asked = [(f"folder/video{i % shards:04d}{i:06d}", "v") for i in range(2_000)]
    states = ledger.status_many(asked)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100 * shards * each
    assert states[:each] == ["done"] * each
    assert set(states[each:]) == {"new"}
    assert (ledger.videos, ledger.clips) == (shards * each, 3 * shards * each)
    assert np.all(ledger.entries.ids[1:] >= ledger.entries.ids[:-1])
    ledger.save(store)
    assert store.list()[0].size < 30 * shards * each
