"""Reduced clips: what is read by number is what the preprocessor gives, in any order."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from actors.row import T
from model.batch import ClipBatch
from pipelines.messages import RunError
from pipelines.storage import MissingError, Store
from pipelines.train_errors import TrainInputError
from pipelines.training import reduced_clips
from pipelines.training.fit_share import ShardRows, read_rows
from pipelines.training.reduced_clips import ReducedClips, collate, reduce_clips, table_of
from tests.pipelines.training.train_corpus import write_features
from tests.pipelines.training.training_here import preprocessor_of

STREAMS = ("action_units", "lowlevel")
AUX = ("snr", "hnr", "lip_velocity")
WIDTHS = {"action_units": 3, "lowlevel": 2}


def batch_of(lengths: list[int], aux: bool, seed: int = 0) -> ClipBatch:
    """Clips as the preprocessor gives them: cut to the longest, holes within, zeros elsewhere."""
    rng = np.random.default_rng(seed)
    steps = max(*lengths, 2)
    mask = np.arange(steps) < np.array(lengths)[:, None]
    mask[:, 1] &= np.array(lengths) == 2  # broken frames
    streams, present = {}, {}
    for name, width in WIDTHS.items():
        here = mask & (rng.random(mask.shape) < 0.8)
        values = rng.standard_normal((*mask.shape, width)).astype(np.float32)
        streams[name] = torch.from_numpy(np.where(here[..., None], values, 0))
        present[name] = torch.from_numpy(here)
    vector, known = None, None
    if aux:
        vector = torch.from_numpy(rng.standard_normal((len(lengths), 4)).astype(np.float32))
        known = torch.from_numpy(rng.random((len(lengths), 4)) < 0.5)
    return ClipBatch(streams, present, torch.from_numpy(mask), vector, known)


def assert_row(found: ClipBatch, row: int, wanted: ClipBatch, other: int) -> None:
    """A clip is the same in both batches, and beyond the shorter one there is nothing."""
    steps = min(found.frame_mask.shape[1], wanted.frame_mask.shape[1])
    pairs = [(found.frame_mask, wanted.frame_mask)]
    for name in wanted.streams:
        pairs.append((found.streams[name], wanted.streams[name]))
        pairs.append((found.present[name], wanted.present[name]))
    for one, two in pairs:
        assert one.dtype == two.dtype
        assert torch.equal(one[row, :steps], two[other, :steps])
        assert not one[row, steps:].any()
        assert not two[other, steps:].any()
    assert (found.aux is None) == (wanted.aux is None)
    if found.aux is not None and wanted.aux is not None:
        assert torch.equal(found.aux[row], wanted.aux[other])
        assert torch.equal(found.aux_present[row], wanted.aux_present[other])  # type: ignore[index]


@pytest.mark.parametrize("aux", [False, True])
def test_rows_of_several_blocks_are_put_together_in_the_order_asked_for(aux: bool) -> None:
    first, second = batch_of([7, 2, 9], aux), batch_of([1, 12, 0], aux, seed=1)
    tables = [table_of(first, np.arange(3)), table_of(second, np.arange(3, 6))]
    wanted = [(1, 1), (0, 2), (1, 2), (0, 0), (1, 1)]
    found = collate([(tables[b], r) for b, r in wanted], STREAMS, aux)
    assert found.frame_mask.shape == (5, 12)
    for row, (block, other) in enumerate(wanted):
        assert_row(found, row, (first, second)[block], other)
    short = collate([(tables[0], 1), (tables[1], 0)], STREAMS, aux)
    assert short.frame_mask.shape == (2, 2)  # of these two the longest has two steps


def test_a_table_that_arrives_in_slices_and_chunks_is_the_same() -> None:
    batch = batch_of([3, 5, 1, 4], aux=True)
    table = table_of(batch, np.arange(4))
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 3)])
    for given, shift in ((chunked, 0), (table.slice(2), 2), (chunked.slice(1, 2), 1)):
        rows = range(given.num_rows)
        found = collate([(given, r) for r in rows], STREAMS, True)
        for row in rows:
            assert_row(found, row, batch, row + shift)


def test_a_clip_without_any_real_frame_keeps_one_masked_step() -> None:
    batch = batch_of([0, 0], aux=False)
    found = collate([(table_of(batch, np.arange(2)), 0)], STREAMS, False)
    assert found.frame_mask.shape == (1, 1)
    assert not found.frame_mask.any()


# --- on Ray Data


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("a place") / "features"
    write_features(folder, videos=9, clips=2, shards=3)
    return Store.at(folder)


def shards_of(store: Store) -> list[ShardRows]:
    """All clips of the first shard, some of the second and the third, unsorted."""
    rows = ([0, 1, 2, 3, 4, 5], [5, 0, 3], [2])
    names = [info.name for info in store.list("features/")]
    return [ShardRows(n, np.array(r)) for n, r in zip(names, rows, strict=True)]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_clips_by_number_are_those_of_the_preprocessor(
    features: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduced_clips, "BLOCK_BYTES", 20_000)  # several blocks a shard
    preprocessor = preprocessor_of(aux=AUX)
    shards = shards_of(features)
    # Numbers belong to rows as they are named; read_rows gives the rows in their own order.
    numbers = [np.array([9, 0, 4, 2, 7, 5]), np.array([1, 8, 3]), np.array([6])]
    told: list[int] = []
    found = reduce_clips(features, shards, numbers, preprocessor, progress=told.append)
    assert len(found) == 10
    assert found.streams == STREAMS
    assert len(found.blocks) >= 3
    assert told[-1] == 10
    expected = {}
    for shard, given in zip(shards, numbers, strict=True):
        (raw,) = read_rows(features, shard, STREAMS, AUX)
        batch = preprocessor.apply(raw)
        assert batch.frame_mask.shape[1] < T  # trailing padding is cut
        place = np.argsort(np.argsort(shard.rows))
        expected |= {int(n): (batch, int(row)) for row, n in zip(place, given, strict=True)}
    order = np.array([3, 9, 0, 9, 6, 8])
    batch = found.read(order)
    for row, number in enumerate(order.tolist()):
        assert_row(batch, row, *expected[number])
        assert found.frames[number] == expected[number][0].frame_mask[expected[number][1]].sum()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_shard_that_changed_meanwhile_is_named(features: Store) -> None:
    shards = shards_of(features)
    gone = [ShardRows(shards[0].name, np.array([1, 77]))]
    with pytest.raises(TrainInputError, match="row 77 of 6 is asked for") as caught:
        reduce_clips(features, gone, [np.arange(2)], preprocessor_of())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_shard_that_was_removed_is_named(features: Store) -> None:
    gone = [ShardRows("features/part-gone.parquet", np.array([0]))]
    with pytest.raises(MissingError, match=r"part-gone\.parquet: it does not exist") as caught:
        reduce_clips(features, gone, [np.arange(1)], preprocessor_of())
    assert len(str(caught.value).splitlines()) == 1


def test_lost_blocks_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def lost(_: object) -> None:
        raise ray.exceptions.ObjectLostError("0" * 56, None, "")

    monkeypatch.setattr(ray, "get", lost)
    one = np.zeros(1, np.int32)
    clips = ReducedClips(["block"], one, one, one, STREAMS, False)
    with pytest.raises(RunError, match="lost with their node: start again"):
        clips.read(np.array([0]))
