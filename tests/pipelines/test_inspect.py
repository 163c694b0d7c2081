import json
from pathlib import Path

import pytest

from actors.types import VideoRef
from pipelines.failures import FailureTable
from pipelines.inspect import describe
from pipelines.lock import RunLock
from pipelines.shards import ShardWriter, VideoKey
from pipelines.storage import StorageError, Store
from tests.pipelines.shard_rows import FINGERPRINT, batch, schema
from tests.pipelines.test_failures import Failure


def test_what_is_in_an_output(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    shard = ShardWriter(store, schema(), FINGERPRINT, lambda: None)
    shard.add(VideoKey("a", "1"), [batch("a", range(10), "1")])
    shard.add(VideoKey("b", "1"), [batch("b", range(2), "1")])
    shard.commit()
    failures = FailureTable("r")
    failures.add(Failure(VideoRef("bad\x1b[2J\nname", "/x/bad.mp4"), transient=True))
    failures.flush(store)
    text = describe(str(tmp_path))
    assert "2 videos, 12 clips, 0.02 hours\n1 shards, " in text
    assert "DEMONSTRATION: 12 clips" in text
    assert f"fingerprint {FINGERPRINT}: 12 clips" in text
    assert "weights: visual sha256:00" in text
    assert "wav2lip                 -                              2      12     0.02" in text
    assert "without a face: 50.0% of the real frames" in text
    assert "without sync: 0.0% of the clips" in text
    assert "action_units        float [150, 17]" in text
    assert "face_mask           bool [150]" in text
    assert "1 damaged (1 will be tried again)" in text
    assert "bad\\x1b[2J\\nname: the file is damaged" in text
    assert "no run has come to its end" in text
    store.write_bytes("summary.json", json.dumps({"run_id": "r9", "videos": {"done": 2}}).encode())
    assert "last complete run: r9, 2 done" in describe(str(tmp_path))
    with RunLock(store, "live"):
        assert "in use: run live" in describe(str(tmp_path))


def test_what_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no features of TalkMOS"):
        describe(str(tmp_path))
    with pytest.raises(StorageError, match="nowhere does not exist"):
        describe(str(tmp_path / "nowhere"))
