"""The list of a corpus on local disk: checked for equal ids, gone with the process."""

import json
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from typing import IO

import numpy as np

from actors.types import VideoRef
from pipelines.errors import UserInputError
from pipelines.hashing import VersionIndex, hash_text
from pipelines.uris import display_text, strip_credentials

_BLOCK = 1 << 20


class CorpusError(UserInputError):
    """The corpus cannot be listed as asked; the message says where and what to do."""


class SpooledCorpus:
    """All VideoRefs of a corpus in an unlinked temporary file, see :func:`spool_corpus`."""

    def __init__(
        self, file: IO[bytes], ids: "array[int]", versions: "array[int]", total: int
    ) -> None:
        self._file = file
        self._ids = ids
        self._versions = versions
        self.count = len(ids)
        self.total_bytes = total  # of the videos whose size is known

    def __len__(self) -> int:
        """Return the number of videos."""
        return self.count

    def __iter__(self) -> Iterator[VideoRef]:
        """Yield every VideoRef in the order of listing; may run several times and at once."""
        rest, offset = b"", 0
        while block := os.pread(self._file.fileno(), _BLOCK, offset):
            offset += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield VideoRef(*json.loads(line))

    def chunks(self, size: int = 10_000) -> Iterator[list[VideoRef]]:
        """Yield the VideoRefs in lists of ``size``."""
        chunk: list[VideoRef] = []
        for ref in self:
            chunk.append(ref)
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def versions(self) -> VersionIndex:
        """Return the source version of every video, in hashes."""
        return VersionIndex.build(
            np.array(self._ids, np.uint64), np.array(self._versions, np.uint64)
        )

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()


def spool_corpus(refs: Iterable[VideoRef], folder: str | None = None) -> SpooledCorpus:
    """Write a listing to an unlinked temporary file and check that the ids differ.

    Args:
        refs: The listing; read once.
        folder: Where the temporary file goes; the system's folder by default.

    Raises:
        CorpusError: Two videos have the same id; both are named.
    """
    file = tempfile.TemporaryFile(dir=folder, prefix="talkmos-")  # noqa: SIM115 - lives on
    ids, versions, total = array("Q"), array("Q"), 0
    encode = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: keeps any file name
    try:
        for ref in refs:
            file.write(encode(astuple(ref)).encode("ascii") + b"\n")
            ids.append(hash_text(ref.video_id))
            versions.append(hash_text(ref.version))
            total += ref.size or 0
        file.flush()
        spooled = SpooledCorpus(file, ids, versions, total)
        _check_unique(spooled, ids)
    except BaseException:
        file.close()
        raise
    return spooled


def _check_unique(spooled: SpooledCorpus, ids: "array[int]") -> None:
    ordered = np.sort(np.array(ids, np.uint64))
    repeated = {int(h) for h in ordered[1:][ordered[1:] == ordered[:-1]]}
    if not repeated:
        return
    first: dict[int, VideoRef] = {}
    for ref, key in zip(spooled, ids, strict=True):
        if key not in repeated:
            continue
        if key in first:
            one, two = first[key], ref
            names = " and ".join(display_text(strip_credentials(r.uri), 500) for r in (one, two))
            if one.video_id == two.video_id:
                raise CorpusError(
                    f"two videos have the id {display_text(one.video_id)!r}: {names}. "
                    f"({len(repeated)} ids in all are given more than once.) "
                    "Rename one, or give ids in a manifest."
                )
            raise CorpusError(f"the ids of {names} have the same 64-bit hash: rename one of them.")
        first[key] = ref
