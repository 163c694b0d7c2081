"""Writing shards: rows of complete videos go to a local spool and appear as one object."""

import io
import json
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

from pipelines.retry import StorageError, storage_error
from pipelines.shard_index import (
    FINGERPRINT_KEY,
    FOLDER,
    VIDEOS_KEY,
    CommittedShard,
    VideoEntry,
    VideoKey,
    shard_name,
)
from pipelines.storage import Store

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_CLIPS = 8  # about 14 MB of tensors: small enough to stream, large enough to compress


class ShardWriter:
    """Collects the rows of complete videos in a local spool and publishes them as one shard.

    The spool is an unlinked temporary file: it goes with the process. Rows are held in memory only
    until a row group is full, so a long video costs disk, not memory.

    Args:
        store: The output.
        schema: Of the rows, see ``actors/row.py``.
        fingerprint: Of the settings that change values; hexadecimal.
        guard: Called right before publishing; raises when this run may no longer publish.
        folder: Where in the store shards go.
        spool_dir: Where the spool lies; the system's folder for temporary files by default.
    """

    def __init__(
        self,
        store: Store,
        schema: "pa.Schema",
        fingerprint: str,
        guard: Callable[[], None],
        *,
        folder: str = FOLDER,
        spool_dir: str | None = None,
    ) -> None:
        self._folder = folder
        self._store, self._schema, self._fingerprint = store, schema, fingerprint
        self._guard, self._spool_dir = guard, spool_dir
        self._reset()

    def _reset(self) -> None:
        self._file: IO[bytes] | None = None
        self._parquet: Any = None
        self._groups = 0  # row groups in the spool
        self._entries: list[VideoEntry] = []
        self._ready: list[pa.RecordBatch] = []  # of complete videos, less than a row group
        self._key: VideoKey | None = None  # the video in work
        self._open: list[pa.RecordBatch] = []  # its rows that are not in the spool
        self._open_clips = 0
        self._good_groups: int | None = None  # row groups before its first one, if it has any

    @property
    def schema(self) -> "pa.Schema":
        """Schema of the rows."""
        return self._schema

    @property
    def videos(self) -> int:
        """Complete videos collected so far."""
        return len(self._entries)

    @property
    def clips(self) -> int:
        """Clips of the complete videos."""
        return sum(entry.clips for entry in self._entries)

    @property
    def bytes(self) -> int:
        """Bytes that are in the spool and in memory."""
        spooled = self._file.tell() if self._file is not None else 0
        return int(spooled + sum(b.nbytes for b in (*self._ready, *self._open)))

    # --- one video

    def add(self, key: VideoKey, batches: "list[pa.RecordBatch]") -> None:
        """Append a complete video."""
        self.begin(key)
        try:
            for batch in batches:
                self.append(batch)
        except BaseException:
            self.abort()
            raise
        self.end()

    def begin(self, key: VideoKey) -> None:
        """Start a video."""
        if self._key is not None:
            raise ValueError(f"the video {self._key.video_id!r} has not ended")
        if any(entry.video_id == key.video_id for entry in self._entries):
            raise ValueError(f"the video {key.video_id!r} is already in this shard")
        self._key, self._open, self._open_clips = key, [], 0
        self._good_groups = None

    def append(self, batch: "pa.RecordBatch") -> None:
        """Append clips of the video that was begun.

        Raises:
            StorageError: The local disk is full or fails.
        """
        if self._key is None:
            raise ValueError("append() without begin()")
        if not batch.schema.equals(self._schema):
            raise ValueError(f"the rows have another schema than the shard: {batch.schema}")
        self._open.append(batch)
        self._open_clips += batch.num_rows
        if sum(b.num_rows for b in self._open) >= ROW_GROUP_CLIPS:
            if self._good_groups is None:
                # Rows of complete videos go first and apart, so that the groups before stay good.
                self._flush_ready()
                self._good_groups = self._groups
            self._open = self._write_full(self._open)

    def end(self) -> None:
        """Complete the video that was begun."""
        if self._key is None:
            raise ValueError("end() without begin()")
        if self._open_clips == 0:
            raise ValueError(f"the video {self._key.video_id!r} has no clips")
        self._ready += self._open
        self._entries.append(
            VideoEntry(self._key.video_id, self._key.source_version, self._open_clips)
        )
        self._key, self._open, self._open_clips = None, [], 0
        if sum(b.num_rows for b in self._ready) >= ROW_GROUP_CLIPS:
            self._ready = self._write_full(self._ready)

    def abort(self) -> None:
        """Forget the video that was begun; the others stay."""
        if self._key is None:
            return
        good = self._good_groups
        self._key, self._open, self._open_clips = None, [], 0
        if good is not None and self._groups > good:
            self._rebuild(good)

    # --- the spool

    def _writer(self) -> Any:
        import pyarrow.parquet as pq

        if self._parquet is None:
            self._file = tempfile.TemporaryFile(dir=self._spool_dir, prefix="talkmos-")  # noqa: SIM115
            self._parquet = pq.ParquetWriter(
                self._file,
                self._schema,
                compression="zstd",
                compression_level=3,
                use_dictionary=_text_columns(self._schema),
                write_statistics=_plain_columns(self._schema),
                write_page_checksum=True,  # damage in a tensor would else read as numbers
            )
        return self._parquet

    def _write(self, batches: "list[pa.RecordBatch]") -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(batches, self._schema)
        if not table.num_rows:
            return
        try:
            self._writer().write_table(table, row_group_size=max(table.num_rows, 1))
        except OSError as error:
            raise storage_error(error, "write", f"the spool in {tempfile.gettempdir()}") from error
        self._groups += 1

    def _write_full(self, batches: "list[pa.RecordBatch]") -> "list[pa.RecordBatch]":
        """Write whole row groups; returns what remains."""
        import pyarrow as pa

        table = pa.Table.from_batches(batches, self._schema)
        whole = table.num_rows - table.num_rows % ROW_GROUP_CLIPS
        for start in range(0, whole, ROW_GROUP_CLIPS):
            self._write(table.slice(start, ROW_GROUP_CLIPS).to_batches())
        return cast("list[pa.RecordBatch]", table.slice(whole).to_batches())

    def _flush_ready(self) -> None:
        ready, self._ready = self._ready, []
        if ready:
            self._write(ready)

    def _rebuild(self, groups: int) -> None:
        """Copy the first ``groups`` row groups to a new spool: Parquet cannot be cut."""
        import pyarrow.parquet as pq

        old, writer = self._file, self._parquet
        assert old is not None
        writer.close()
        self._file, self._parquet, self._groups = None, None, 0
        try:
            if groups:
                old.seek(0)
                source = pq.ParquetFile(old)
                for group in range(groups):
                    self._write(source.read_row_group(group).cast(self._schema).to_batches())
        finally:
            old.close()

    # --- the shard

    def commit(self) -> CommittedShard:
        """Publish the collected videos as one shard and begin anew.

        Raises:
            LockLost: The guard says that another run owns the output; nothing was published.
            StorageError: The shard could not be published.
        """
        if self._key is not None:
            raise ValueError(f"the video {self._key.video_id!r} has not ended")
        if not self._entries:
            raise ValueError("no complete video to commit")
        self._flush_ready()
        writer = self._writer()
        entries = sorted(self._entries, key=lambda entry: entry.video_id)
        name = shard_name(self._fingerprint, entries, self._folder)
        listing = [[e.video_id, e.source_version, e.clips] for e in entries]
        writer.add_key_value_metadata(
            {
                VIDEOS_KEY: json.dumps(listing, separators=(",", ":")).encode(),
                FINGERPRINT_KEY: self._fingerprint.encode(),
            }
        )
        try:
            writer.close()
        except OSError as error:
            raise StorageError(f"the spool for {name} cannot be completed: {error}") from error
        assert self._file is not None
        try:
            size = self._file.seek(0, io.SEEK_END)
            self._guard()
            self._store.publish(cast(Any, self._file), name)
        finally:
            self._file.close()
            self._reset()
        return CommittedShard(name, entries, size, sum(entry.clips for entry in entries))

    def discard(self) -> None:
        """Drop everything that was collected."""
        if self._parquet is not None:
            self._parquet.close()
        if self._file is not None:
            self._file.close()
        self._reset()


def _text_columns(schema: "pa.Schema") -> list[str]:
    """Columns for which a dictionary pays: texts; a tensor's numbers hardly ever repeat."""
    import pyarrow as pa

    return [f.name for f in schema if pa.types.is_string(f.type)]


def _plain_columns(schema: "pa.Schema") -> list[str]:
    import pyarrow as pa

    return [f.name for f in schema if pa.types.is_primitive(f.type) or pa.types.is_string(f.type)]
