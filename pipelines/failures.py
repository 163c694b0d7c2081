"""The failure table: why a video has no rows. One row a video, the last word on it."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from actors.types import VideoRef
from pipelines.storage import Store, strip_credentials
from pipelines.uris import strip_text

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "failures.parquet"


class FailureLike(Protocol):
    """What is written down about a video that was given up."""

    @property
    def ref(self) -> VideoRef:
        """The video."""

    @property
    def stage(self) -> str:
        """Where it happened, see ``actors/errors.py``."""

    @property
    def reason(self) -> str:
        """Short class for counting."""

    @property
    def message(self) -> str:
        """What was wrong and what to do."""

    @property
    def attempts(self) -> int:
        """How often it was tried."""

    @property
    def transient(self) -> bool:
        """Another run may succeed."""


def schema() -> "pa.Schema":
    """Columns of ``failures.parquet``."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            pa.field("uri", text, nullable=False),  # credentials stripped
            pa.field("video_id", text, nullable=False),
            pa.field("source_version", text, nullable=False),
            pa.field("stage", text, nullable=False),
            pa.field("error_class", text, nullable=False),
            pa.field("message", text, nullable=False),
            pa.field("attempts", pa.int32(), nullable=False),
            pa.field("transient", pa.bool_(), nullable=False),
            pa.field("run_id", text, nullable=False),
            pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
        ]
    )


class FailureTable:
    """The failures of an output. Make it with :meth:`load`."""

    def __init__(self, run_id: str = "") -> None:
        self._run_id = run_id
        self._rows: dict[str, dict[str, Any]] = {}
        self.changed = False  # since it was loaded or flushed

    @classmethod
    def load(cls, store: Store, run_id: str = "") -> "FailureTable":
        """Read the table of an output; an output without one has no failures.

        Raises:
            StorageError: It cannot be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        from pipelines.storage import StorageError

        table = cls(run_id)
        if not store.exists(NAME):
            return table
        try:
            found = pq.read_table(pa.BufferReader(store.read_bytes(NAME)), schema=schema())
        except pa.ArrowInvalid as error:
            raise StorageError(
                f"{store.display(NAME)} cannot be read ({error}): remove it to start with an empty "
                "failure table"
            ) from error
        table._rows = {row["video_id"]: row for row in found.to_pylist()}
        return table

    def __len__(self) -> int:
        """Return the number of videos that failed."""
        return len(self._rows)

    def row(self, video_id: str) -> dict[str, Any]:
        """Return what is known of a video that failed."""
        return self._rows[video_id]

    def rows(self) -> Iterable[dict[str, Any]]:
        """Yield the rows."""
        return self._rows.values()

    def add(self, failure: FailureLike) -> None:
        """Write a failure down, in place of an earlier one of the same video."""
        ref = failure.ref
        self._rows[ref.video_id] = {
            "uri": strip_credentials(ref.uri),
            "video_id": ref.video_id,
            "source_version": ref.version,
            "stage": failure.stage,
            "error_class": failure.reason,
            "message": strip_text(failure.message.encode("utf-8", "backslashreplace").decode()),
            "attempts": failure.attempts,
            "transient": failure.transient,
            "run_id": self._run_id,
            "time": round(time.time() * 1000),
        }
        self.changed = True

    def drop(self, *video_ids: str) -> None:
        """Forget failures of videos that are done now."""
        for video_id in video_ids:
            if self._rows.pop(video_id, None) is not None:
                self.changed = True

    def status(self, video_id: str, version: str) -> Literal["permanent", "transient"] | None:
        """Say how this version of a video failed, None when it did not."""
        row = self._rows.get(video_id)
        if row is None or (version and row["source_version"] and row["source_version"] != version):
            return None
        return "transient" if row["transient"] else "permanent"

    def flush(self, store: Store) -> None:
        """Write the table at once, also when it is empty."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist([self._rows[key] for key in sorted(self._rows)], schema())
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        store.write_bytes(NAME, sink.getvalue().to_pybytes())
        self.changed = False
