"""Tensor files: what comes back, and what is taken for a pickle."""

import struct

import pytest
import torch

from pipelines.tensor_file import pack, unpack


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_reads_like_a_pickle_is_none(length: int) -> None:
    """0x280, 0x380, … in little-endian begin as pickles of protocol 2, 3, … do."""
    tensors = {"weight": torch.arange(6.0).reshape(2, 3)}
    for filling in range(length):
        data = pack(tensors, {"note": "x" * filling})
        if struct.unpack("<Q", data[:8])[0] == length:
            break
    assert data[0] == 0x80
    found, metadata = unpack(data, "file")
    assert torch.equal(found["weight"], tensors["weight"])
    assert metadata == {"note": "x" * filling}
