"""Tensors as safetensors, never as pickles: written whole, checked before they are used."""

import json
import struct
from typing import TYPE_CHECKING

from pipelines.storage import MissingError, StorageError, Store
from pipelines.train_errors import TrainInputError

if TYPE_CHECKING:
    from torch import Tensor

_PICKLES = (
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
    b"PK\x03\x04",
)  # torch.save, new: zip


def pack(tensors: "dict[str, Tensor]", metadata: dict[str, str] | None = None) -> bytes:
    """Serialise tensors with text beside them."""
    from safetensors.torch import save

    return save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata)


def unpack(data: bytes, where: str) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Read what :func:`pack` wrote.

    Args:
        data: The whole file.
        where: Its name, for messages.

    Raises:
        TrainInputError: It is a pickle, cut off, or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    # A safetensors file begins with the length of its header, which may read like a pickle; the
    # header itself follows.
    if data[:4].startswith(_PICKLES) and data[8:9] != b"{":
        raise TrainInputError(
            f"{where} is a pickle (torch.save), not a safetensors file. Pickles can run code when "
            "they are loaded, so TalkMOS never opens them: use what jobs/train.py wrote"
        )
    try:
        tensors = load(data)
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
    except (SafetensorError, struct.error, ValueError) as error:
        raise TrainInputError(
            f"{where} is not a whole safetensors file ({error}): it was cut off or damaged, or is "
            "something else. Copy it again, or train again"
        ) from None
    return tensors, dict(header.get("__metadata__", {}))


def read(store: Store, name: str) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Read a tensor file of a store.

    Raises:
        TrainInputError: It is missing, or see :func:`unpack`.
    """
    try:
        data = store.read_bytes(name)
    except MissingError:
        raise TrainInputError(f"{store.display(name)} is missing") from None
    except StorageError as error:
        raise TrainInputError(str(error)) from None
    return unpack(data, store.display(name))
