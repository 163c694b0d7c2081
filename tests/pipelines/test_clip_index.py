from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.row import T, arrow_schema, to_arrow
from pipelines.clip_index import STREAM_COLUMNS, ClipIndex, read_clip_index
from pipelines.shards import ShardWriter, VideoKey
from pipelines.storage import StorageError, Store
from pipelines.train_errors import TrainInputError
from tests.pipelines.shard_rows import FINGERPRINT, SLIM, STRUCTS, row, schema

Change = Callable[[str, int], dict[str, Any]]


def write(
    store: Store,
    videos: dict[str, int],
    change: Change = lambda video, clip: {},
    fingerprint: str = FINGERPRINT,
    left_out: frozenset[str] = SLIM,
) -> str:
    """Write one shard; ``change`` says what is different about a clip."""
    names = schema(left_out)
    writer = ShardWriter(store, names, fingerprint, lambda: None)
    for video, clips in videos.items():
        rows = []
        for clip in range(clips):
            full = row(video, "v1", clip, slim=bool(left_out))
            full |= {"fingerprint": fingerprint, **change(video, clip)}
            rows.append({name: full[name] for name in names.names})
        writer.add(VideoKey(video, rows[0]["source_version"]), [to_arrow(rows, names)])
    return writer.commit().name


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.at(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


def masks(video: str, clip: int) -> dict[str, Any]:
    """Random masks, the same for the same clip."""
    rng = np.random.default_rng([len(video), sum(video.encode()), clip])
    real = rng.random(T) < 0.7
    real[rng.integers(40, T) :] = False
    return {
        "frame_mask": real,
        "face_mask": rng.random(T) < 0.5,
        "audio_mask": rng.random(T) < 0.9,
        "sync": rng.normal(size=4).astype(np.float32),
        "generator": video[0],
        "speaker": None if video < "b" else f"s{video}",
    }


def test_every_clip_is_there_with_its_figures(store: Store) -> None:
    videos = [{"b": 3, "a/x": 11}, {"c": 1, "B": 9}]
    names = sorted(write(store, part, masks) for part in videos)
    index = read_clip_index(store)
    assert index.shards == names
    assert index.videos == ["B", "a/x", "b", "c"]
    assert index.uris == [f"/corpus/{v}.mp4" for v in index.videos]
    assert index.generators == ["B", "a", "b", "c"]
    assert index.speakers == [None, None, "sb", "sc"]
    assert [index.videos[v] for v in index.video] == ["B"] * 9 + ["a/x"] * 11 + ["b"] * 3 + ["c"]
    assert index.clip_index.tolist() == [*range(9), *range(11), *range(3), 0]
    assert (index.fingerprint, index.demonstration) == (FINGERPRINT, True)
    assert (index.weights, index.extractors) == ({"visual": "sha256:00"}, {"visual": "1"})
    assert index.columns == ("action_units", "sync", "sync_reason")
    assert index.streams == ("action_units",)
    for c in range(len(index)):
        given = masks(index.videos[index.video[c]], int(index.clip_index[c]))
        real = given["frame_mask"]
        assert index.frames[c] == real.sum()
        assert index.length[c] == max(np.flatnonzero(real)) + 1
        assert index.face_frames[c] == (real & given["face_mask"]).sum()
        assert index.sound_frames[c] == (real & given["audio_mask"]).sum()
        np.testing.assert_array_equal(index.sync[c], given["sync"])
        assert (index.start_s[c], index.end_s[c]) == (
            6.0 * index.clip_index[c],
            6.0 * index.clip_index[c] + 6,
        )
        # Where it says that the clip lies, it lies.
        with store.open(index.shards[index.shard[c]]) as file:
            there = pq.ParquetFile(file).read(["video_id", "clip_index"]).to_pylist()
        assert there[index.row[c]] == {
            "video_id": index.videos[index.video[c]],
            "clip_index": index.clip_index[c],
        }
    assert index.clips_of(index.clip_index > 0).tolist() == [8, 10, 2, 0]


def test_a_clip_without_a_real_frame(tmp_path: Path) -> None:
    write(Store.at(tmp_path), {"a": 1}, lambda v, c: {"frame_mask": np.zeros(T, bool)})
    index = read_clip_index(str(tmp_path))
    assert index.frames.tolist() == index.length.tolist() == index.face_frames.tolist() == [0]


def test_the_streams_of_a_full_run_and_sync_that_was_left_out(tmp_path: Path) -> None:
    write(Store.at(tmp_path / "full"), {"a": 1}, left_out=frozenset())
    assert read_clip_index(str(tmp_path / "full")).streams == STREAM_COLUMNS
    left_out = frozenset({"sync", "sync_reason", *SLIM})
    write(Store.at(tmp_path / "slim"), {"a": 2}, left_out=left_out)
    slim = read_clip_index(str(tmp_path / "slim"))
    assert slim.columns == ("action_units",)
    assert slim.sync.shape == (2, 4)
    assert np.isnan(slim.sync).all()


def test_streams_are_those_that_batches_know() -> None:
    from model.batch import STREAMS

    assert set(STREAM_COLUMNS) == set(STREAMS)


def test_only_narrow_columns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Store.at(tmp_path), {"a": 1})
    asked: list[str] = []
    real = pq.ParquetFile.read

    def read(self: Any, columns: list[str]) -> pa.Table:
        asked.extend(columns)
        return real(self, columns)

    monkeypatch.setattr(pq.ParquetFile, "read", read)
    read_clip_index(str(tmp_path))
    assert "frame_mask" in asked
    assert not set(asked) & {*STREAM_COLUMNS, "descriptors"}


def test_mixed_fingerprints_name_both_and_a_shard_of_each(store: Store) -> None:
    one = write(store, {"a": 1})
    two = write(store, {"b": 1}, fingerprint="ffff0000" * 4)
    with pytest.raises(TrainInputError) as caught:
        read_clip_index(store)
    for said in (f"{FINGERPRINT} in {one}", f"{'ffff0000' * 4} in {two}", "into another place"):
        assert said in str(caught.value)


def test_shards_of_different_columns(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    write(store, {"a": 1})
    write(store, {"b": 1}, left_out=SLIM | {"action_units"})
    with pytest.raises(TrainInputError, match="only one has action_units"):
        read_clip_index(store)


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(TrainInputError, match=r"no feature shards .* extract them first"):
        read_clip_index(str(tmp_path / "nowhere"))
    write(Store.at(tmp_path), {"a": 1})
    with pytest.raises(TrainInputError, match="the place above"):
        read_clip_index(str(tmp_path / "features"))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_video_that_is_there_twice(tmp_path: Path, version: str) -> None:
    store = Store.at(tmp_path)
    one = write(store, {"a": 2, "b": 1})
    # The same clip again, or a later clip of another content.
    later = {"source_version": version, "clip_index": 1 if version == "v1" else 5}
    two = write(store, {"a": 1}, lambda v, c: later)
    with pytest.raises(TrainInputError, match="a is there twice") as caught:
        read_clip_index(store)
    assert one in str(caught.value)
    assert two in str(caught.value)


def test_what_is_no_shard(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    name = "features/part-00000000-0000000000000000.parquet"
    store.write_bytes(name, b"PAR1 cut short")
    with pytest.raises(StorageError, match="not a whole Parquet file"):
        read_clip_index(store)
    pq.write_table(pa.table({"a": [1]}), tmp_path / name)
    with pytest.raises(TrainInputError, match="no column video_id"):
        read_clip_index(store)
    foreign = arrow_schema(STRUCTS, SLIM).with_metadata({"talkmos.schema_version": "99"})
    pq.write_table(foreign.empty_table(), tmp_path / name)
    with pytest.raises(TrainInputError, match="rows of version 99"):
        read_clip_index(store)
    pq.write_table(schema().empty_table(), tmp_path / name)
    with pytest.raises(TrainInputError, match="holds no clip"):
        read_clip_index(store)


def test_the_run_beside_the_shards(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    write(store, {"a": 1})
    assert read_clip_index(store).run is None
    store.write_bytes("run.json", f'{{"fingerprint": "{FINGERPRINT}", "x": 1}}'.encode())
    found: ClipIndex = read_clip_index(store)
    assert found.run == {"fingerprint": FINGERPRINT, "x": 1}
    store.write_bytes("run.json", b'{"fingerprint": "other"}')
    with pytest.raises(TrainInputError, match="does not belong to the shards"):
        read_clip_index(store)
    store.write_bytes("run.json", b"{")
    with pytest.raises(TrainInputError, match="is damaged"):
        read_clip_index(store)
