"""Rows of clip scores as shards store them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.types import Row, VideoRef
from pipelines.messages import ProcessorInfo, RunContext
from pipelines.scoring.columns import clip_schema
from pipelines.storage import strip_credentials

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ScoreRows:
    """The clip row of ``columns.py``.

    Attributes:
        checkpoint: Digest of the checkpoint.
        fingerprint: Of the features that it read.
    """

    checkpoint: str
    fingerprint: str

    def schema(self) -> "pa.Schema":
        """Return the schema of the shards."""
        return clip_schema()

    def trim(self, row: Row) -> Row:
        """Return the row: there is nothing in it that is not stored."""
        return row

    def pack(
        self, rows: list[Row], ref: VideoRef, info: ProcessorInfo, run: RunContext
    ) -> "pa.RecordBatch":
        """Add identity and provenance to rows of a video, and pack them."""
        shared = {
            "video_id": ref.video_id,
            "uri": strip_credentials(ref.uri),
            "source_version": ref.version,
            "generator": ref.generator,
            "speaker": ref.speaker,
            "score_key": run.fingerprint,
            "checkpoint": self.checkpoint,
            "fingerprint": self.fingerprint,
            "code_version": run.code_version,
            "demonstration": info.demonstration,
        }
        return packed([{**row, **shared} for row in rows])


def packed(rows: list[Row]) -> "pa.RecordBatch":
    """Pack complete rows.

    Raises:
        KeyError: A column is missing: a defect of the code.
    """
    import pyarrow as pa

    schema = clip_schema()
    return pa.RecordBatch.from_arrays(
        [pa.array([row[field.name] for row in rows], field.type) for field in schema],
        schema=schema,
    )
