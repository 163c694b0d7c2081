"""Rows of features as shards store them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.row import COLUMNS, arrow_schema, check, stored_columns, to_arrow
from actors.types import Row, VideoRef
from pipelines.messages import ProcessorInfo, RunContext
from pipelines.storage import strip_credentials

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """The row of ``actors/row.py`` without what a slim run leaves out."""

    struct_fields: dict[str, dict[str, str]]
    left_out: frozenset[str]

    def schema(self) -> "pa.Schema":
        """Return the schema of the shards."""
        return arrow_schema(self.struct_fields, self.left_out)

    def trim(self, row: Row) -> Row:
        """Return the row without what only stages hand to each other."""
        return {name: value for name, value in row.items() if COLUMNS[name].stored}

    def pack(
        self, rows: list[Row], ref: VideoRef, info: ProcessorInfo, run: RunContext
    ) -> "pa.RecordBatch":
        """Add identity and provenance to rows of a video, check them, and pack them.

        Raises:
            RowError: A stage broke the contract of the row.
        """
        columns = stored_columns(self.left_out)
        packed = []
        for row in rows:
            row["video_id"] = ref.video_id
            row["uri"] = strip_credentials(ref.uri)
            row["source_version"] = ref.version
            row["generator"] = ref.generator
            row["speaker"] = ref.speaker
            row["fingerprint"] = run.fingerprint
            row["extractors"] = info.extractors
            row["weights"] = info.weights
            row["code_version"] = run.code_version
            row["demonstration"] = info.demonstration
            check(row, columns)
            packed.append({name: row[name] for name in columns})
        return to_arrow(packed, self.schema())
