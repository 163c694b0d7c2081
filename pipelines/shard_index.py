"""What a shard is, by name and footer: which videos it holds; and reading it.

A shard is named by what it holds, ``features/part-<fingerprint>-<digest>.parquet``, so that the
same videos written twice give one object. (Scores lie below ``clips/``, in a folder a date.) Its
footer lists the videos, so that nothing but the footer is read to know what is done.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from pipelines.storage import ObjectInfo, StorageError, Store

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

FOLDER = "features/"
SHARD = re.compile(r"(?:run_date=\d{4}-\d\d-\d\d/)?part-[0-9a-f]{8}-[0-9a-f]{16}\.parquet")
VIDEOS_KEY = b"talkmos.videos"
FINGERPRINT_KEY = b"talkmos.fingerprint"
FOOTER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class VideoKey:
    """Which content of which video."""

    video_id: str
    source_version: str


@dataclass(frozen=True, slots=True)
class VideoEntry:
    """One video of a shard."""

    video_id: str
    source_version: str
    clips: int


@dataclass(frozen=True, slots=True)
class CommittedShard:
    """A published shard."""

    name: str
    videos: list[VideoEntry]
    bytes: int
    clips: int


def shard_name(fingerprint: str, videos: list[VideoEntry], folder: str = FOLDER) -> str:
    """Name a shard by fingerprint, video ids, source versions and clip counts, in any order."""
    entries = sorted([v.video_id, v.source_version, v.clips] for v in videos)
    text = json.dumps([fingerprint, entries], separators=(",", ":"))
    head = re.sub(r"[^0-9a-f]", "", fingerprint.lower())[:8].ljust(8, "0")
    return f"{folder}part-{head}-{blake2b(text.encode(), digest_size=8).hexdigest()}.parquet"


# --- reading


def list_shards(store: Store, folder: str = FOLDER) -> list[ObjectInfo]:
    """List the shards of an output, by name."""
    return [info for info in store.list(folder) if SHARD.fullmatch(info.name[len(folder) :])]


def _footer(store: Store, info: ObjectInfo) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    want = FOOTER_BYTES
    while True:
        start = max(0, info.size - want)
        tail = store.read_range(info.name, start, info.size)
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if length <= len(tail) or start == 0:
            break
        want = length
    try:
        return pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(
            f"{store.display(info.name)} is not a whole Parquet file ({error}); it was not written "
            "by TalkMOS or has been damaged: remove it and run again"
        ) from error


def read_shard(store: Store, info: ObjectInfo) -> CommittedShard:
    """Read from the footer what a shard holds."""
    metadata = _footer(store, info).metadata or {}
    if VIDEOS_KEY not in metadata:
        name = store.display(info.name)
        raise StorageError(f"{name} bears the name of a shard, but is none: remove it")
    videos = [VideoEntry(*entry) for entry in json.loads(metadata[VIDEOS_KEY])]
    return CommittedShard(info.name, videos, info.size, sum(v.clips for v in videos))


def read_shard_index(store: Store, name: str) -> list[VideoEntry]:
    """Read which videos a shard holds, from its footer only.

    Raises:
        StorageError: It cannot be read, or is no shard.
    """
    for info in list_shards(store):
        if info.name == name:
            return read_shard(store, info).videos
    raise StorageError(f"there is no shard {store.display(name)}")


def read_shards(uri: str) -> "ds.Dataset":
    """Open all shards of an output as one Arrow dataset (columns and filters are pushed down).

    Raises:
        StorageError: There are no shards.
    """
    import pyarrow.dataset as ds
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    store = Store.at(uri)
    shards = list_shards(store)
    if not shards:
        raise StorageError(f"{store.display('')} has no shards below {FOLDER}")
    paths = [store.path(info.name) for info in shards]
    if store.is_local:
        return ds.dataset(paths, format="parquet")
    handler = type("_Handler", (FSSpecHandler,), {"open_input_file": _opener(store)})
    return ds.dataset(paths, format="parquet", filesystem=PyFileSystem(handler(store.fs)))


def _opener(store: Store) -> Callable[[Any, str], Any]:
    def open_input_file(_: Any, path: str) -> Any:
        import pyarrow as pa

        # Through the store, so that reads are retried.
        return pa.PythonFile(store.open(path[len(store.root) + 1 :]), mode="r")

    return open_input_file


def iter_videos(store: Store, name: str) -> Iterator[tuple[VideoKey, "Iterator[pa.RecordBatch]"]]:
    """Yield each video of a shard with its rows; consume them before asking for the next."""
    import pyarrow.parquet as pq

    with store.open(name) as file:
        source = pq.ParquetFile(file, page_checksum_verification=True)

        def runs() -> Iterator[tuple[VideoKey, "pa.RecordBatch"]]:
            for group in range(source.num_row_groups):
                table = source.read_row_group(group)
                ids = table["video_id"].to_pylist()
                versions = table["source_version"].to_pylist()
                start = 0
                for key, rows in itertools.groupby(zip(ids, versions, strict=True)):
                    count = len(list(rows))
                    part = table.slice(start, count).combine_chunks()
                    start += count
                    for batch in part.to_batches():
                        yield VideoKey(*key), batch

        for key, items in itertools.groupby(runs(), key=lambda item: item[0]):
            yield key, (batch for _, batch in items)
