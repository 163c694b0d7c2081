"""What the feature shards hold, clip by clip, without their tensors."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from actors.row import COLUMNS, IDENTITY, MASKS, SCHEMA_VERSION, T
from pipelines.retry import StorageError
from pipelines.shard_index import FOLDER, list_shards
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.uris import display_text

if TYPE_CHECKING:
    import pyarrow as pa

I64: TypeAlias = NDArray[np.int64]
F64: TypeAlias = NDArray[np.float64]
Bool: TypeAlias = NDArray[np.bool_]

# Sequences that an evaluator may read, as the row knows them.
STREAM_COLUMNS: Final = tuple(
    name for name, c in COLUMNS.items() if c.stored and c.kind == "tensor" and c.shape[:1] == (T,)
)
SYNC_VALUES: Final = ("score", "offset", "lse_c", "lse_d")  # of the column "sync"
_OPTIONAL: Final = tuple(name for name, c in COLUMNS.items() if c.stored and c.optional)
_PER_VIDEO: Final = ("uri", "source_version", "generator", "speaker")
_READ: Final = (*IDENTITY, *MASKS, "sync", "fingerprint", "demonstration", "weights", "extractors")
_THREADS: Final = 8
_BLOCK_BYTES: Final = 256 * 1024  # a few narrow columns among wide ones: no long read-ahead


@dataclass(frozen=True, slots=True)
class ClipIndex:
    """All clips of a feature set. V videos, C clips sorted by (video_id, clip_index).

    Attributes:
        uri: The feature set, without credentials.
        videos: [V] video ids, sorted.
        uris: [V] where each video was read, credentials stripped.
        source_versions: [V] which content it had.
        generators: [V] who made it, or None.
        speakers: [V] who is seen, or None.
        video: [C] position in ``videos``.
        clip_index: [C] 0, 1, 2 … in the video.
        start_s: [C] seconds in the video.
        end_s: [C] seconds in the video.
        frames: [C] real frames, 0 to 150.
        length: [C] last real frame + 1.
        face_frames: [C] real frames with the main face.
        sound_frames: [C] real frames with sound.
        sync: [C, 4] score, offset in frames, LSE-C, LSE-D; NaN where masked or not extracted.
        shard: [C] position in ``shards``.
        row: [C] row in the shard.
        shards: Names of the shards in the feature set.
        columns: Optional columns that all shards have (streams, sync, descriptors).
        fingerprint: Of the settings that made the features.
        weights: Backbone -> digest of its weights.
        extractors: Extractor -> version.
        demonstration: Some features come from seeded weights, without meaning for real quality.
        run: ``run.json`` of the extraction, None where it is not there.
    """

    uri: str
    videos: list[str]
    uris: list[str]
    source_versions: list[str]
    generators: list[str | None]
    speakers: list[str | None]
    video: I64
    clip_index: I64
    start_s: F64
    end_s: F64
    frames: I64
    length: I64
    face_frames: I64
    sound_frames: I64
    sync: F64
    shard: I64
    row: I64
    shards: list[str]
    columns: tuple[str, ...]
    fingerprint: str
    weights: dict[str, str]
    extractors: dict[str, str]
    demonstration: bool
    run: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.video)

    @property
    def streams(self) -> tuple[str, ...]:
        """The sequences that were extracted, in the order of the row."""
        return tuple(name for name in STREAM_COLUMNS if name in self.columns)

    def clips_of(self, mask: Bool) -> I64:
        """Count the clips of each video where ``mask`` [C] is true, [V]."""
        return np.bincount(self.video[mask], minlength=len(self.videos)).astype(np.int64)


def read_clip_index(features: Store | str) -> ClipIndex:
    """Read the scalar columns of all shards; tensors stay where they are.

    Raises:
        TrainInputError: There are no shards, they are of different settings or columns, or hold a
            clip twice.
        StorageError: The storage refuses or fails.
    """
    store = Store.at(features) if isinstance(features, str) else features
    shards = list_shards(store)
    if not shards:
        raise TrainInputError(_no_shards(store))
    names = [info.name for info in shards]
    with ThreadPoolExecutor(_THREADS) as threads:
        parts = list(threads.map(lambda item: _read(store, *item), enumerate(names)))
    _check_same(store, names, parts)
    return _assemble(store, names, parts)


def _no_shards(store: Store) -> str:
    hint = "extract them first: python jobs/extract.py --corpus … --out …"
    if store.root.rstrip("/").endswith(f"/{FOLDER.rstrip('/')}"):
        hint = f"name the output of the extraction, the place above {FOLDER}"
    return f"{store.display('')} has no feature shards below {FOLDER}: {hint}"


@dataclass(frozen=True, slots=True)
class _Part:
    """One shard."""

    table: "pa.Table"  # a row a clip
    columns: tuple[str, ...]
    fingerprints: list[str]
    weights: dict[str, str]
    extractors: dict[str, str]


def _read(store: Store, number: int, name: str) -> _Part:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    where = store.display(name)
    with store.open(name, _BLOCK_BYTES) as file:
        try:
            source = pq.ParquetFile(
                file, pre_buffer=not store.is_local, page_checksum_verification=True
            )
            schema = source.schema_arrow
            _check_schema(where, schema)
            table = source.read([n for n in _READ if n in schema.names]).combine_chunks()
        except (pa.ArrowInvalid, OSError) as error:  # OSError: a compressed page is damaged
            raise StorageError(
                f"{where} is not a whole Parquet file ({display_text(str(error))}): remove it and "
                "run the extraction again"
            ) from error
    if not table.num_rows:
        raise TrainInputError(f"{where} holds no clip: remove it")
    real, face, sound = (_mask(table, mask) for mask in MASKS)
    if "sync" in table.column_names:
        sync = table["sync"].combine_chunks().to_numpy_ndarray().astype(np.float64)
    else:
        sync = np.full((table.num_rows, len(SYNC_VALUES)), np.nan)
    counts = {
        "frames": real.sum(1),
        "length": np.where(real.any(1), T - np.argmax(real[:, ::-1], axis=1), 0),
        "face_frames": (real & face).sum(1),
        "sound_frames": (real & sound).sum(1),
        "shard": np.full(table.num_rows, number),
        "row": np.arange(table.num_rows),
    }
    columns = {name: table[name] for name in (*IDENTITY, "demonstration")}
    columns |= {name: pa.array(x.astype(np.int64)) for name, x in counts.items()}
    columns |= {f"sync_{value}": pa.array(sync[:, n]) for n, value in enumerate(SYNC_VALUES)}
    return _Part(
        pa.table(columns),
        tuple(name for name in _OPTIONAL if name in schema.names),
        pc.unique(table["fingerprint"]).to_pylist(),
        dict(table["weights"][0].as_py()),
        dict(table["extractors"][0].as_py()),
    )


def _check_schema(where: str, schema: "pa.Schema") -> None:
    needed = [n for n in _READ if not COLUMNS[n].optional and n not in schema.names]
    if needed:
        raise TrainInputError(f"{where} is no feature shard: it has no column {needed[0]}")
    version = (schema.metadata or {}).get(b"talkmos.schema_version", b"?").decode()
    if version != str(SCHEMA_VERSION):
        raise TrainInputError(
            f"{where} has rows of version {version}, and this code reads version {SCHEMA_VERSION}: "
            "extract the features again"
        )


def _mask(table: "pa.Table", name: str) -> Bool:
    """Return a mask column as [rows, T]."""
    flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, bool).reshape(table.num_rows, T)


def _check_same(store: Store, names: list[str], parts: list[_Part]) -> None:
    found: dict[str, str] = {}
    for name, part in zip(names, parts, strict=True):
        for fingerprint in part.fingerprints:
            found.setdefault(fingerprint, name)
    if len(found) > 1:
        (one, first), (two, second) = list(found.items())[:2]
        raise TrainInputError(
            f"{store.display('')} mixes features of different settings: {display_text(one, 40)} in "
            f"{first}, {display_text(two, 40)} in {second}"
            f"{f', and {len(found) - 2} more' if len(found) > 2 else ''}. They do not belong "
            "together: keep the shards of one fingerprint (its first 8 digits stand in their "
            "names), or extract everything again into another place"
        )
    for name, part in zip(names, parts, strict=True):
        differ = set(part.columns) ^ set(parts[0].columns)
        if differ:
            raise TrainInputError(
                f"{store.display('')}: {names[0]} and {name} do not have the same columns; only "
                f"one has {', '.join(sorted(differ))}. Extract everything again into another place"
            )


def _assemble(store: Store, names: list[str], parts: list[_Part]) -> ClipIndex:
    import pyarrow as pa

    table = pa.concat_tables(
        # Text as large_string: all ids of a big corpus may exceed 2 GB in one array.
        [p.table.cast(_large(p.table.schema)) for p in parts]
    )
    table = table.sort_by([("video_id", "ascending"), ("clip_index", "ascending")])
    table = table.combine_chunks()
    ids = table["video_id"].combine_chunks().dictionary_encode()
    ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
    video = ids.indices.to_numpy().astype(np.int64)
    # Sorted by id, so ids are numbered in their order and begin where the number changes.
    first = np.flatnonzero(np.r_[True, video[1:] != video[:-1]])

    def column(name: str) -> Any:
        return table[name].to_numpy()

    clip = column("clip_index").astype(np.int64)
    _check_once(store, names, table)
    per_video = {name: table[name].take(pa.array(first)).to_pylist() for name in _PER_VIDEO}
    sync = np.stack([column(f"sync_{value}") for value in SYNC_VALUES], axis=1)
    return ClipIndex(
        uri=store.uri,
        videos=ids.dictionary.to_pylist(),
        uris=per_video["uri"],
        source_versions=per_video["source_version"],
        generators=per_video["generator"],
        speakers=per_video["speaker"],
        video=video,
        clip_index=clip,
        start_s=column("start_s"),
        end_s=column("end_s"),
        frames=column("frames"),
        length=column("length"),
        face_frames=column("face_frames"),
        sound_frames=column("sound_frames"),
        sync=sync,
        shard=column("shard"),
        row=column("row"),
        shards=names,
        columns=parts[0].columns,
        fingerprint=parts[0].fingerprints[0],
        weights=parts[0].weights,
        extractors=parts[0].extractors,
        demonstration=bool(column("demonstration").any()),
        run=_run(store, parts[0].fingerprints[0]),
    )


def _large(schema: "pa.Schema") -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [f.with_type(pa.large_string()) if pa.types.is_string(f.type) else f for f in schema]
    )


def _check_once(store: Store, names: list[str], table: "pa.Table") -> None:
    """Refuse clips that are there twice, and videos of which two contents are there.

    ``table`` is sorted by (video_id, clip_index).
    """
    import pyarrow.compute as pc

    def same(name: str) -> Bool:
        values = table[name].combine_chunks()
        return np.asarray(pc.equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False), bool)

    video = same("video_id")
    again = np.flatnonzero(video & (same("clip_index") | ~same("source_version")))
    if len(again):
        at = int(again[0])
        where = sorted({names[table["shard"][i].as_py()] for i in (at, at + 1)})
        video_id = display_text(table["video_id"][at].as_py())
        raise TrainInputError(
            f"{store.display('')}: {video_id} is there twice, in {' and '.join(where)}: run "
            "jobs/extract.py again into this place, which mends it"
        )


def _run(store: Store, fingerprint: str) -> dict[str, Any] | None:
    if not store.exists("run.json"):
        return None
    where = store.display("run.json")
    try:
        run = json.loads(store.read_bytes("run.json"))
    except ValueError as error:
        raise TrainInputError(f"{where} is damaged ({error}): restore or remove it") from error
    if not isinstance(run, dict) or run.get("fingerprint") != fingerprint:
        raise TrainInputError(
            f"{where} does not belong to the shards beside it, whose fingerprint is "
            f"{display_text(fingerprint, 40)}: restore or remove it"
        )
    return run
