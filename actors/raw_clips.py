"""Feature rows as Arrow holds them -> arrays that the preprocessor reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.descriptors import DESCRIPTOR_NAMES, LOG_FLOORS
from actors.lowlevel import LIPS, LOWLEVEL_NAMES, SOUND_NAMES
from actors.row import MASKS
from actors.types import Bool
from model.preprocessor_config import MaskName

if TYPE_CHECKING:
    import pyarrow as pa

# The four values of the column `sync`, in its order.
SYNC_NAMES: Final = ("sync_score", "sync_offset", "sync_confidence", "sync_distance")
# The whole auxiliary vector; a run may use a part of it.
AUX_NAMES: Final[tuple[str, ...]] = (*SYNC_NAMES, *DESCRIPTOR_NAMES)

# Which mask guards which columns of `lowlevel`: sound; lips and face sharpness; frame difference.
_FACE_COLUMNS: Final = len(LIPS) + 1
LOWLEVEL_MASKS: Final[tuple[tuple[int, MaskName], ...]] = (
    (len(SOUND_NAMES), "audio"),
    (_FACE_COLUMNS, "face"),
    (len(LOWLEVEL_NAMES) - len(SOUND_NAMES) - _FACE_COLUMNS, "frame"),
)


@dataclass(frozen=True, slots=True)
class RawClips:
    """B clips of T frames; the arrays may be views of Arrow's memory and read-only.

    Attributes:
        streams: Name -> [B, T, D] in the type of the row (float16 or float32).
        frame_mask: [B, T] real frames.
        face_mask: [B, T] the main face was found.
        audio_mask: [B, T] there is sound at the frame's instant.
        aux: [B, A] float32, NaN where missing, or None.
        video_id: [B] str; empty when identity was not read.
        clip_index: [B] int32.
        start_s: [B] seconds in the video.
        end_s: [B] seconds in the video.
    """

    streams: Mapping[str, NDArray[Any]]
    frame_mask: Bool
    face_mask: Bool
    audio_mask: Bool
    aux: NDArray[np.float32] | None
    video_id: tuple[str, ...]
    clip_index: NDArray[np.int32]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frame_mask)


def aux_floors(names: Iterable[str]) -> NDArray[np.float64]:
    """Return, for auxiliary values, the floor of their logarithm; 0 for those that have none."""
    return np.array([LOG_FLOORS.get(name, 0.0) for name in names])


def columns_for(
    streams: Iterable[str], aux_names: Iterable[str] = (), *, identity: bool = False
) -> list[str]:
    """Name the Parquet columns that :func:`raw_clips` needs, struct fields apart.

    Raises:
        ValueError: An auxiliary name is unknown.
    """
    names = list(aux_names)
    if unknown := [name for name in names if name not in AUX_NAMES]:
        raise ValueError(f"there is no auxiliary value {', '.join(unknown)}")
    columns = [*MASKS, *streams]
    if any(name in SYNC_NAMES for name in names):
        columns.append("sync")
    columns += [f"descriptors.{name}" for name in names if name not in SYNC_NAMES]
    if identity:
        columns += ["video_id", "clip_index", "start_s", "end_s"]
    return columns


def raw_clips(
    table: "pa.Table | pa.RecordBatch", streams: Sequence[str], aux_names: Sequence[str] = ()
) -> RawClips:
    """Read feature rows; without copying where they lie in one chunk.

    Args:
        table: Rows with at least the columns of :func:`columns_for`.
        streams: Streams to read.
        aux_names: Auxiliary values to read, of :data:`AUX_NAMES`.

    Raises:
        ValueError: A column is missing (a slim run left it out).
    """
    have = set(table.schema.names)
    wanted = {c.partition(".")[0] for c in columns_for(streams, aux_names)}
    if missing := sorted(wanted - have):
        raise ValueError(f"the features have no column {', '.join(missing)}")
    frame, face, audio = (_masks(table.column(name)) for name in MASKS)
    named = "video_id" in have
    return RawClips(
        streams={name: _tensor(table.column(name)) for name in streams},
        frame_mask=frame,
        face_mask=face,
        audio_mask=audio,
        aux=_aux(table, aux_names) if aux_names else None,
        video_id=tuple(table.column("video_id").to_pylist()) if named else (),
        clip_index=_plain(table, "clip_index", np.int32),
        start_s=_plain(table, "start_s", np.float64),
        end_s=_plain(table, "end_s", np.float64),
    )


def _chunks(column: Any) -> list[Any]:
    return list(column.chunks) if hasattr(column, "chunks") else [column]


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _tensor(column: Any) -> NDArray[Any]:
    """Fixed-shape tensors -> [B, *shape]."""
    shape, value = tuple(column.type.shape), column.type.value_type.to_pandas_dtype()
    parts = [
        chunk.storage.flatten().to_numpy(zero_copy_only=True).reshape(-1, *shape)
        for chunk in _chunks(column)
    ]
    return _join(parts) if parts else np.empty((0, *shape), value)


def _masks(column: Any) -> Bool:
    steps = column.type.list_size
    parts = [
        chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, steps)
        for chunk in _chunks(column)
    ]
    return _join(parts).astype(np.bool_) if parts else np.empty((0, steps), np.bool_)


def _plain(table: Any, name: str, dtype: type) -> NDArray[Any]:
    if name not in table.schema.names:
        return np.empty(0, dtype)
    column = table.column(name)
    result: NDArray[Any] = (
        column.to_numpy(zero_copy_only=False)
        if not hasattr(column, "chunks")
        else column.to_numpy()
    )
    return result.astype(dtype, copy=False)


def _aux(table: Any, names: Sequence[str]) -> NDArray[np.float32]:
    import pyarrow.compute as pc

    out = np.full((table.num_rows, len(names)), np.nan, np.float32)
    sync: NDArray[Any] | None = None
    for at, name in enumerate(names):
        if name in SYNC_NAMES:
            if sync is None:
                sync = _tensor(table.column("sync"))
            out[:, at] = sync[:, SYNC_NAMES.index(name)]
            continue
        column = table.column("descriptors")
        if column.type.get_field_index(name) < 0:
            raise ValueError(f"the features have no descriptor {name}")
        parts = [
            np.asarray(pc.struct_field(chunk, name).to_numpy(zero_copy_only=False), np.float32)
            for chunk in _chunks(column)
        ]
        if parts:
            out[:, at] = _join(parts)
    return out


def stack_rows(
    rows: Sequence[Mapping[str, Any]], streams: Sequence[str], aux_names: Sequence[str] = ()
) -> RawClips:
    """Put rows together as the encoder emits them; the same numbers as by way of a shard.

    Args:
        rows: At least one row with the columns of :func:`columns_for`.
        streams: Streams to read.
        aux_names: Auxiliary values to read, of :data:`AUX_NAMES`.

    Raises:
        KeyError: A column is missing (a slim run left it out).
    """

    def aux(row: Mapping[str, Any], name: str) -> float:
        if name in SYNC_NAMES:
            return float(row["sync"][SYNC_NAMES.index(name)])
        value = row["descriptors"][name]
        return float("nan") if value is None else float(value)

    def masks(name: str) -> Bool:
        return np.stack([np.asarray(row[name], np.bool_) for row in rows])

    frame, face, audio = (masks(name) for name in MASKS)
    values = None
    if aux_names:
        values = np.array([[aux(row, name) for name in aux_names] for row in rows], np.float32)
    return RawClips(
        streams={name: np.stack([row[name] for row in rows]) for name in streams},
        frame_mask=frame,
        face_mask=face,
        audio_mask=audio,
        aux=values,
        video_id=tuple(str(row.get("video_id", "")) for row in rows),
        clip_index=np.array([row["clip_index"] for row in rows], np.int32),
        start_s=np.array([row["start_s"] for row in rows], np.float64),
        end_s=np.array([row["end_s"] for row in rows], np.float64),
    )


def table_rows(table: "pa.Table | pa.RecordBatch") -> list[dict[str, Any]]:
    """Take feature rows out of Arrow, as the encoder emits them: arrays, dicts and plain values."""
    columns: dict[str, Any] = {}
    for field in table.schema:
        column = table.column(field.name)
        if hasattr(field.type, "shape"):
            columns[field.name] = _tensor(column)
        elif hasattr(field.type, "list_size"):
            columns[field.name] = _masks(column)
        else:
            values = column.to_pylist()
            # Arrow gives a map as a list of pairs.
            maps = str(field.type).startswith("map<")
            columns[field.name] = [dict(v) for v in values] if maps else values
    return [{name: values[i] for name, values in columns.items()} for i in range(table.num_rows)]
