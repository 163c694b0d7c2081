"""64-bit hashes of ids and versions: a million videos cost the driver megabytes, not gigabytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

U64: TypeAlias = NDArray[np.uint64]


def hash_text(text: str) -> int:
    """Return the 64-bit BLAKE2b hash of a text; a pair of a million agrees with p = 3e-8."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def hash_texts(texts: Iterable[str]) -> U64:
    """Return the hashes of several texts, [n]."""
    joined = b"".join(
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
    )
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64, copy=False)


def find(sorted_keys: U64, keys: U64) -> NDArray[np.int64]:
    """Return the first position of each key in ``sorted_keys``, -1 if absent, [n]."""
    if not len(sorted_keys):
        return np.full(len(keys), -1, np.int64)
    where = np.searchsorted(sorted_keys, keys)
    inside = np.minimum(where, len(sorted_keys) - 1)
    return np.where(sorted_keys[inside] == keys, inside, -1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class VersionIndex:
    """Which source version each video of a corpus has now, in hashes. 16 bytes a video."""

    ids: U64  # [n] sorted
    versions: U64  # [n]; the hash of "" means that the version is not known

    @classmethod
    def build(cls, ids: U64, versions: U64) -> "VersionIndex":
        """Sort the pairs by id."""
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], versions[order])

    @classmethod
    def of(cls, versions: Mapping[str, str]) -> "VersionIndex":
        """Build from video id -> source version."""
        return cls.build(hash_texts(versions), hash_texts(versions.values()))

    def digest(self) -> str:
        """Return 16 hex digits that stand for these videos in these versions, in any order."""
        whole = blake2b(self.ids.astype("<u8").tobytes(), digest_size=8)
        whole.update(self.versions.astype("<u8").tobytes())
        return whole.hexdigest()


UNKNOWN_VERSION = np.uint64(hash_text(""))
