"""What an encoder remembers: the right values, within its budget, bit for bit."""

import itertools
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from actors.encode import Encoder
from actors.memory import Memory, digest_of
from actors.prepare import Preparer
from actors.sync import Sync, SyncConfig
from actors.sync_weights import trained_metadata
from actors.types import Row, Timings
from model.syncnet import SyncNet
from tests.talking import assert_same, prepared, seeded_settings, talking_video


def fill(memory: Memory, keys: str, size: int = 100) -> list[str]:
    """Ask for each key; returns those that had to be made."""
    made: list[str] = []

    def make(key: str) -> np.ndarray[Any, Any]:
        made.append(key)
        return np.full(size, ord(key), np.uint8)

    for key in keys:
        assert memory.get(key.encode(), lambda k=key: make(k))[0] == ord(key)
    return made


def test_what_was_made_is_found_again() -> None:
    memory = Memory(1000)
    assert fill(memory, "abcabcaab") == list("abc")
    assert (memory.made, memory.found) == (3, 6)


def test_the_oldest_go_first_and_use_makes_young() -> None:
    memory = Memory(300)
    assert fill(memory, "abc") == list("abc")
    assert fill(memory, "ad") == ["d"]  # b is now the oldest, and goes
    assert fill(memory, "acd") == []
    assert fill(memory, "b") == ["b"]


def test_the_budget_holds_for_dictionaries_and_tensors_and_huge_values() -> None:
    memory = Memory(1000)
    memory.get(b"row", lambda: {"x": np.zeros(100, np.float32), "y": np.zeros(50, np.float32)})
    memory.get(b"tensor", lambda: torch.zeros(100))  # both fit exactly
    memory.get(b"row", lambda: pytest.fail("it was there"))
    assert fill(memory, "b", 1) == ["b"]
    again: list[int] = []
    memory.get(b"tensor", lambda: again.append(1))
    assert again, "the oldest one went"
    huge = Memory(100)
    assert fill(huge, "zz", 101) == ["z", "z"]
    assert fill(Memory(0), "zz", 1) == ["z", "z"]


def test_what_cannot_be_made_is_not_remembered() -> None:
    memory = Memory(1000)

    def fail() -> None:
        raise RuntimeError("once")

    with pytest.raises(RuntimeError, match="once"):
        memory.get(b"a", fail)
    assert fill(memory, "a") == ["a"]


LONG = np.zeros(5000, np.float32)
OTHER = LONG.copy()
OTHER[2500] = 1  # in the part that NumPy's own text leaves out

DIFFERENT: list[Iterable[Any]] = [
    [np.zeros(4, np.float32)],
    [np.zeros(4, np.int32)],
    [np.zeros((2, 2), np.float32)],
    [np.zeros((4, 1), np.float32)],
    [np.zeros(2, np.float32), np.zeros(2, np.float32)],
    [np.array([-0.0, 0, 0, 0], np.float32)],
    [np.zeros(0, np.float32)],
    [np.zeros((0, 7), np.float32)],
    [],
    [None],
    ["None"],
    [0],
    [0.0],
    [False],
    ["0"],
    [""],
    ["", ""],
    ["a", "b"],
    ["ab"],
    ["a\0", "b"],
    [("a", "b")],
    [(512, 512)],
    [(512, 513)],
    [(LONG,)],
    [(OTHER,)],
    [LONG],
    [OTHER],
]


def test_digests_tell_types_shapes_and_values_apart() -> None:
    digests = [digest_of("x", list(values)) for values in DIFFERENT]
    for (i, a), (j, b) in itertools.combinations(enumerate(digests), 2):
        assert a != b, (DIFFERENT[i], DIFFERENT[j])
    assert digests == [digest_of("x", list(values)) for values in DIFFERENT]
    assert digest_of("y", []) != digest_of("x", [])
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digest_of("x", [grid.T]) == digest_of("x", [grid.T.copy()])  # by value, not by layout
    assert digest_of("x", [grid[:, ::2]]) == digest_of("x", [grid[:, ::2].copy()])


class Squares:
    """A backbone that counts its work."""

    name, version, digest = "squares", "1", "0"
    needs: ClassVar[tuple[str, ...]] = ("x", "flag")
    adds: ClassVar[tuple[str, ...]] = ("y", "why")

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, batch: list[Row]) -> list[Row]:
        for row in batch:
            self.seen += 1
            row["y"], row["why"] = row["x"] ** 2 + row["flag"], None
        return batch


def test_backbones_are_asked_once_for_one_input_and_only_when_told_to_remember() -> None:
    squares = Squares()
    encoder = Encoder([squares], 10**6)
    rows = [{"x": np.arange(3.0), "flag": f, "other": i} for i, f in enumerate((0, 1, 0, 1))]
    told = [encoder([dict(row)], Timings(), lambda _: None, remember=True)[0] for row in rows]
    assert squares.seen == 2
    plain = [encoder([dict(row)], Timings(), lambda _: None)[0] for row in rows]
    assert squares.seen == 6
    for left, right, row in zip(told, plain, rows, strict=True):
        assert_same(left, right, ("y", "why"))
        assert left["other"] == row["other"]
    batch = encoder([dict(row) for row in rows], Timings(), lambda _: None, remember=True)
    assert squares.seen == 6
    assert [row["y"].tolist() for row in batch] == [row["y"].tolist() for row in plain]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Row:
    video = talking_video(tmp_path_factory.mktemp("memory") / "a.mp4", 27)
    (row,) = prepared(Preparer(seeded_settings()), video)
    return row


@pytest.fixture(scope="module")
def small_sync(tmp_path_factory: pytest.TempPathFactory) -> Sync:
    """A small SyncNet, as jobs/train_sync.py writes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = SyncNet(1 / 16, 96, 32).eval()
    path = tmp_path_factory.mktemp("net") / "small.safetensors"
    about = trained_metadata(net, demonstration=True, code_version="0", corpus="c")
    save_file(net.state_dict(), path, about)
    return Sync(SyncConfig(weights=str(path), precision="fp32"))


def variants_of(clip: Row) -> list[Row]:
    """The clip; with other sound; with other pictures; with both; silent ones; and itself again."""
    heard = np.roll(clip["waveform"], 900)
    seen = np.ascontiguousarray(clip["sync_crops"][:, ::-1])
    changes: list[Row] = [
        {},
        {"waveform": heard},
        {"sync_crops": seen},
        {"waveform": heard, "sync_crops": seen},
        {"waveform": np.zeros_like(heard)},
        {"has_sound": False, "audio_mask": np.zeros_like(clip["audio_mask"])},
        {},
    ]
    return [{**clip, **change} for change in changes]


def test_syncnet_remembers_each_stream_by_itself(small_sync: Sync, clip: Row) -> None:
    encoder = Encoder([small_sync], 10**7)
    rows = variants_of(clip)
    plain = [encoder([dict(row)], Timings(), lambda _: None)[0] for row in rows]
    assert (encoder.memory.made, encoder.memory.found) == (0, 0), "nobody asked for it"
    told = [encoder([dict(r)], Timings(), lambda _: None, remember=True)[0] for r in rows]
    for left, right in zip(told, plain, strict=True):
        assert_same(left, right, ("sync", "sync_reason"))
    assert len({row["sync"].tobytes() for row in plain[:4]}) > 1
    # Six results of the stage; below them two sights and two sounds, each found once again.
    assert (encoder.memory.made, encoder.memory.found) == (6 + 4, 1 + 4)
    encoder([dict(clip)], Timings(), lambda _: None)
    assert (encoder.memory.made, encoder.memory.found) == (6 + 4, 1 + 4), "it was told to forget"


@pytest.mark.slow
def test_remembering_changes_no_bit_of_the_backbones(seeded_encoder: Encoder, clip: Row) -> None:
    encoder = Encoder(seeded_encoder.stages, 2**28)
    columns = tuple(name for stage in encoder.stages for name in stage.adds)
    clean, other = variants_of(clip)[:2]
    first, told, again = (
        encoder([dict(row)], Timings(), lambda _: None, remember=True)[0]
        for row in (clean, other, clean)
    )
    assert encoder.memory.found >= 4  # visual, lips; then all of the clean one
    (alone,) = encoder([dict(other)], Timings(), lambda _: None)
    assert_same(told, alone, columns)
    assert_same(first, again, columns)
    assert first["audio"].tobytes() != told["audio"].tobytes()
