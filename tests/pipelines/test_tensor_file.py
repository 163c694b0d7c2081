"""Tensors on disk: what comes back is what was stored, and nothing but safetensors is opened."""

import io
import pickle
import struct
from pathlib import Path

import pytest
import torch

from pipelines import tensor_file
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "double": torch.tensor([1e-300, torch.pi], dtype=torch.float64),
    "half": torch.tensor([0.1, -3.0], dtype=torch.bfloat16),
    "steps": torch.tensor(7),
    "mask": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}


def test_values_types_shapes_and_text_come_back() -> None:
    data = tensor_file.pack(TENSORS, {"values": '{"a": "ä"}'})
    tensors, text = tensor_file.unpack(data, "here")
    assert set(tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert tensors[name].shape == value.shape
        assert torch.equal(tensors[name], value), name
    assert text == {"values": '{"a": "ä"}'}
    assert tensor_file.unpack(tensor_file.pack(TENSORS), "here")[1] == {}


def test_views_and_gradients_are_stored_as_plain_values() -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    parts = {"turned": whole.T, "part": whole[1], "leaf": whole.clone().requires_grad_()}
    tensors, _ = tensor_file.unpack(tensor_file.pack(parts), "here")
    assert torch.equal(tensors["turned"], whole.T)
    assert torch.equal(tensors["part"], whole[1])
    assert not tensors["leaf"].requires_grad


def saved(**options: object) -> bytes:
    sink = io.BytesIO()
    torch.save({"w": torch.ones(2)}, sink, **options)  # type: ignore[arg-type]
    return sink.getvalue()


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (pytest.fail, ("the pickle was opened",))


@pytest.mark.parametrize(
    "data",
    [
        saved(),
        saved(_use_new_zipfile_serialization=False),
        *(pickle.dumps(Bomb(), protocol) for protocol in (2, 3, 4, 5)),
    ],
    ids=["zip", "old", "2", "3", "4", "5"],
)
def test_a_pickle_is_never_opened(data: bytes) -> None:
    with pytest.raises(TrainInputError, match=r"^w\.pt is a pickle .*never opens them"):
        tensor_file.unpack(data, "w.pt")


GOOD = tensor_file.pack(TENSORS)


@pytest.mark.parametrize("length", [0, 1, 4, 7, 8, 9, 100, len(GOOD) // 2, len(GOOD) - 1])
def test_a_cut_file_is_refused(length: int) -> None:
    with pytest.raises(TrainInputError, match=r"not a whole safetensors file .*cut off or damaged"):
        tensor_file.unpack(GOOD[:length], "cut")


@pytest.mark.parametrize(
    "data",
    [
        GOOD + b"more",
        b"{}",
        b"\xff" * 64,
        b"(dp0\nS'a'\n.",  # a pickle of protocol 0 has no mark of its own
        pickle.dumps(Bomb(), 0),
        b"<html>404</html>",
        b"\0" * 64,
    ],
)
def test_other_content_is_refused(data: bytes) -> None:
    with pytest.raises(TrainInputError, match="not a whole safetensors file"):
        tensor_file.unpack(data, "other")


def test_reading_from_a_store(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    store.write_bytes("state/a.safetensors", GOOD)
    assert torch.equal(
        tensor_file.read(store, "state/a.safetensors")[0]["weight"], TENSORS["weight"]
    )
    with pytest.raises(TrainInputError, match=r"state/b\.safetensors is missing"):
        tensor_file.read(store, "state/b.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(TrainInputError, match=r"folder\.safetensors"):
        tensor_file.read(store, "folder.safetensors")


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_reads_like_a_pickle_is_none(length: int) -> None:
    """0x280, 0x380, … in little-endian begin as pickles of protocol 2, 3, … do."""
    for filling in range(length):
        data = tensor_file.pack({"weight": TENSORS["weight"]}, {"note": "x" * filling})
        if struct.unpack("<Q", data[:8])[0] == length:
            break
    assert data[0] == 0x80
    tensors, text = tensor_file.unpack(data, "here")
    assert torch.equal(tensors["weight"], TENSORS["weight"])
    assert text == {"note": "x" * filling}
