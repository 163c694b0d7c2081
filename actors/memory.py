"""Remembering what an extractor made of an input, by the digest of that input.

Variants of a video share the stream that their artefact leaves alone: the same crops, or the same
sound, come again. Extractors give the same bits for the same clip, so what was made once is right.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import numpy as np


class Memory:
    """The latest values of some number of bytes, by key.

    Args:
        budget: Bytes of values that are kept; the oldest go first.

    Attributes:
        found: Values that were found.
        made: Values that had to be made.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._values: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._held = 0
        self.found = 0
        self.made = 0

    def get(self, key: bytes, make: Callable[[], Any]) -> Any:
        """Return the value of a key, made when it is not there; values must not be changed."""
        known = self._values.get(key)
        if known is not None:
            self._values.move_to_end(key)
            self.found += 1
            return known[0]
        value = make()
        self.made += 1
        size = _size(value)
        self._values[key] = (value, size)
        self._held += size
        while self._held > self._budget and self._values:
            _, (_, freed) = self._values.popitem(last=False)
            self._held -= freed
        return value


def digest_of(name: str, values: Iterable[Any]) -> bytes:
    """Return the digest of arrays, numbers and texts, with their types and shapes.

    Args:
        name: Who asks: the same input gives other values elsewhere.
        values: NumPy arrays, numbers, texts, None, and tuples of them.
    """
    state = blake2b(name.encode(), digest_size=16)
    _add(state, values)
    return state.digest()


def _add(state: blake2b, values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, np.ndarray):
            state.update(f"{value.dtype.str}{value.shape}".encode())
            state.update(np.ascontiguousarray(value).data)
        elif isinstance(value, tuple):  # its text would leave out the middle of long arrays
            state.update(b"(")
            _add(state, value)
            state.update(b")")
        else:
            state.update(repr(value).encode())
        state.update(b"\0")


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_size(part) for part in value.values())
    nbytes = getattr(value, "nbytes", None)
    return int(nbytes) if nbytes is not None else 64
