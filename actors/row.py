"""The row: every column of a clip, its type and shape, written once.

Stages declare the columns they need and add by name; what a stage emits is held against this
table by :func:`check`, in the tests and in production. Stored columns make up the Parquet schema of
the feature shards (:func:`arrow_schema`); transient ones live only between the stages.

Shapes: T = 150 frames. A dimension of None is free.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from actors.types import CLIP_FRAMES, DEMONSTRATION_WEIGHTS, Row

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1

T = CLIP_FRAMES
Kind = Literal["text", "int", "float", "bool", "tensor", "mask", "struct", "map", "object"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the row."""

    kind: Kind
    doc: str
    shape: tuple[int | None, ...] = ()
    dtype: str = ""  # numpy name, for tensors
    stored: bool = True
    nullable: bool = False
    optional: bool = False  # belongs to a modality that a slim run leaves out


def _tensor(doc: str, dtype: str, *shape: int, optional: bool = True) -> Column:
    return Column("tensor", doc, shape, dtype, optional=optional)


def _transient(doc: str, dtype: str, *shape: int | None) -> Column:
    return Column("tensor", doc, shape, dtype, stored=False)


COLUMNS: dict[str, Column] = {
    # --- identity
    "video_id": Column("text", "path relative to the corpus root without its suffix, or given"),
    "uri": Column("text", "where the video was read, credentials stripped"),
    "source_version": Column("text", "ETag, or size and modification time, when it was read"),
    "clip_index": Column("int", "0, 1, 2 … in the video", dtype="int32"),
    "start_s": Column("float", "start in the video, seconds", dtype="float64"),
    "end_s": Column("float", "end in the video, seconds", dtype="float64"),
    "generator": Column("text", "who made the video", nullable=True),
    "speaker": Column("text", "who is seen", nullable=True),
    # --- masks
    "frame_mask": Column("mask", "a real, decodable, not black frame", (T,)),
    "face_mask": Column("mask", "the main face was found in the frame", (T,)),
    "audio_mask": Column("mask", "the file has sound at the frame's instant", (T,)),
    # --- modalities
    "visual": _tensor("ResNet101 of the aligned face; NaN without a face", "float16", T, 2048),
    "audio": _tensor(
        "HuBERT-Base last hidden state on the frames; 0 without sound", "float16", T, 768
    ),
    "landmarks": _tensor("Face Mesh x1 y1 z1 x2 …; 0 without a face", "float32", T, 1404),
    "action_units": _tensor("17 geometric AU proxies; 0 without a face", "float32", T, 17),
    "lowlevel": _tensor(
        "log-Mel 40, MFCC 13, energy, F0, voicing, lips 6, picture 2", "float32", T, 64
    ),
    "sync": _tensor(
        "score [0, 5], offset in frames (> 0: sound leads), LSE-C, LSE-D; NaN if masked",
        "float32",
        4,
    ),
    "sync_reason": Column(
        "text", "why sync is masked; null when it is not", nullable=True, optional=True
    ),
    "descriptors": Column(
        "struct", "scalar measures of the clip, see actors/descriptors.py", optional=True
    ),
    "faces": Column("struct", "statistics of detection and tracking, see actors/faces.py"),
    # --- provenance
    "fingerprint": Column(
        "text", "digest of the settings, extractor versions and weights that change values"
    ),
    "extractors": Column("map", "extractor -> version"),
    "weights": Column("map", "backbone -> digest of the weights"),
    "code_version": Column("text", "version of TalkMOS; not part of the fingerprint"),
    "demonstration": Column(
        "bool", f"true: from {DEMONSTRATION_WEIGHTS}, without meaning for real quality"
    ),
    # --- transient: between the stages only
    "frame_times": _transient(
        "timestamps of the real frames, seconds in the video", "float64", None
    ),
    "frame_period": Column("float", "seconds between the frames of the clip", stored=False),
    "image_size": Column("object", "(height, width) of the picture", stored=False),
    "waveform": _transient(
        "the clip's sound, 16 kHz mono, real duration; zeros where there is none", "float32", None
    ),
    "has_sound": Column("bool", "the clip has sound at all", stored=False),
    "visual_crops": _transient("distinct aligned face crops, RGB", "uint8", None, 224, 224, 3),
    "visual_index": _transient("frame -> visual_crops, -1 without a face or frame", "int32", T),
    "sync_crops": _transient("distinct SyncNet face crops, RGB", "uint8", None, 224, 224, 3),
    "sync_index": _transient(
        "consecutive 25 fps frame -> sync_crops, -1 outside the face track", "int32", None
    ),
    "measures": Column(
        "object", "actors/clip_measures.py: shared by lowlevel and descriptors", stored=False
    ),
    "frame_stats": _transient(
        "per frame, see actors/frame_stats.py; NaN where there is no frame", "float32", T, None
    ),
}

IDENTITY = (
    "video_id",
    "uri",
    "source_version",
    "clip_index",
    "start_s",
    "end_s",
    "generator",
    "speaker",
)
MASKS = ("frame_mask", "face_mask", "audio_mask")
PROVENANCE = ("fingerprint", "extractors", "weights", "code_version", "demonstration")


class RowError(Exception):
    """A stage broke the contract of the row: a defect of the code, never of a video."""


def check(row: Row, columns: tuple[str, ...]) -> None:
    """Hold the named columns of ``row`` against the table.

    Raises:
        RowError: A column is missing, of another type, dtype or shape, or null where it must not
        be.
    """
    for name in columns:
        column = COLUMNS[name]
        if name not in row:
            raise RowError(f"{name}: missing")
        value = row[name]
        if value is None:
            if not column.nullable:
                raise RowError(f"{name}: null, and the column is not nullable")
            continue
        _check_value(name, column, value)


_SCALARS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "int": (int, np.integer),
    "float": (float, int, np.floating),
    "bool": (bool, np.bool_),
    "struct": (dict,),
    "map": (dict,),
}


def _check_value(name: str, column: Column, value: Any) -> None:
    if column.kind == "object":
        return
    if column.kind in _SCALARS:
        if not isinstance(value, _SCALARS[column.kind]):
            raise RowError(f"{name}: expected {column.kind}, got {type(value).__name__}")
        return
    dtype = "bool" if column.kind == "mask" else column.dtype
    if not isinstance(value, np.ndarray):
        raise RowError(f"{name}: expected an array, got {type(value).__name__}")
    if value.dtype != np.dtype(dtype):
        raise RowError(f"{name}: expected {dtype}, got {value.dtype}")
    if value.ndim != len(column.shape) or any(
        want is not None and want != have
        for want, have in zip(column.shape, value.shape, strict=True)
    ):
        raise RowError(f"{name}: expected shape {column.shape}, got {value.shape}")


def stored_columns(left_out: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Return the stored columns in order, without the optional ones named in ``left_out``."""
    return tuple(
        name
        for name, column in COLUMNS.items()
        if column.stored and not (column.optional and name in left_out)
    )


def arrow_schema(
    struct_fields: dict[str, dict[str, str]], left_out: frozenset[str] = frozenset()
) -> "pa.Schema":
    """Build the Parquet schema of the shards.

    Args:
        struct_fields: For each struct column its fields and their Arrow type names, in order.
        left_out: Optional columns that a slim run does not write.
    """
    import pyarrow as pa

    simple = {"text": pa.string(), "bool": pa.bool_(), "map": pa.map_(pa.string(), pa.string())}
    fields = []
    for name in stored_columns(left_out):
        column = COLUMNS[name]
        kind: pa.DataType
        if column.kind in simple:
            kind = simple[column.kind]
        elif column.kind in ("int", "float"):
            kind = getattr(pa, column.dtype)()
        elif column.kind == "mask":
            kind = pa.list_(pa.bool_(), T)
        elif column.kind == "struct":
            kind = pa.struct([(k, pa.type_for_alias(v)) for k, v in struct_fields[name].items()])
        else:
            kind = pa.fixed_shape_tensor(
                pa.from_numpy_dtype(np.dtype(column.dtype)), list(column.shape)
            )
        fields.append(pa.field(name, kind, nullable=column.nullable or column.kind == "struct"))
    return pa.schema(fields, metadata={b"talkmos.schema_version": str(SCHEMA_VERSION).encode()})


def to_arrow(rows: list[Row], schema: "pa.Schema") -> "pa.RecordBatch":
    """Turn rows into one record batch of ``schema``."""
    import pyarrow as pa

    arrays = []
    for field in schema:
        column = COLUMNS[field.name]
        values = [row[field.name] for row in rows]
        if column.kind == "tensor":
            flat = pa.array(np.concatenate([v.reshape(-1) for v in values]), field.type.value_type)
            width = math.prod(n for n in column.shape if n is not None)
            storage = pa.FixedSizeListArray.from_arrays(flat, width)
            arrays.append(pa.ExtensionArray.from_storage(field.type, storage))
        elif column.kind == "mask":
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(values)), T))
        elif column.kind == "map":
            arrays.append(pa.array([sorted(v.items()) for v in values], field.type))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
