"""What is in a shard set, told to a person: ``jobs/extract.py --inspect OUT``."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.types import DEMONSTRATION_WEIGHTS
from pipelines.failures import FailureTable
from pipelines.lock import read_lock
from pipelines.shard_index import list_shards, read_shards
from pipelines.storage import ObjectInfo, StorageError, Store, display_text

if TYPE_CHECKING:
    import pyarrow as pa

GROUPS = 20  # lines of the table of generators and speakers
EXAMPLES = 3  # failures shown of each class
CHEAP = (
    "video_id", "clip_index", "start_s", "end_s", "generator", "speaker", "frame_mask", "face_mask",
    "audio_mask", "sync", "fingerprint", "demonstration",
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """Sums over the clips of a group."""

    clips: int = 0
    videos: set[str] = field(default_factory=set)
    seconds: float = 0.0


@dataclass(slots=True)
class Contents:
    """Sums over a shard set; one pass over the cheap columns."""

    all: Tally = field(default_factory=Tally)
    groups: dict[tuple[str, str], Tally] = field(default_factory=dict)
    frames: int = 0  # real frames
    faces: int = 0
    sound: int = 0
    synced: int = 0  # clips with sync numbers
    has_sync: bool = False
    demonstration: int = 0
    fingerprints: Counter[str] = field(default_factory=Counter)

    def add(self, batch: "pa.RecordBatch") -> None:
        """Add some rows."""
        columns = {name: batch.column(name) for name in batch.schema.names}
        spans = np.asarray(columns["end_s"]) - np.asarray(columns["start_s"])
        names = [columns[n].to_pylist() for n in ("video_id", "generator", "speaker")]
        for video_id, generator, speaker, span in zip(*names, spans.tolist(), strict=True):
            group = self.groups.setdefault((generator or "", speaker or ""), Tally())
            for tally in (self.all, group):
                tally.clips += 1
                tally.videos.add(video_id)
                tally.seconds += span
        frame, face, sound = (_mask(columns[f"{n}_mask"]) for n in ("frame", "face", "audio"))
        self.frames += int(frame.sum())
        self.faces += int((frame & face).sum())
        self.sound += int((frame & sound).sum())
        if "sync" in columns:
            self.has_sync = True
            self.synced += int(np.isfinite(_tensor(columns["sync"])).all(axis=1).sum())
        self.demonstration += sum(columns["demonstration"].to_pylist())
        self.fingerprints.update(columns["fingerprint"].to_pylist())


def _mask(column: Any) -> Any:
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.astype(bool).reshape(len(column), -1)


def _tensor(column: Any) -> Any:
    return column.storage.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def describe(uri: str) -> str:
    """Tell what an output holds; reads only the columns that are cheap.

    Raises:
        StorageError: ``uri`` is no output of an extraction, or cannot be read.
    """
    store = Store.at(uri)
    shards = list_shards(store)
    known = [
        name for name in ("run.json", "failures.parquet", "summary.json") if store.exists(name)
    ]
    if not shards and not known:
        what = "holds no features of TalkMOS" if store.exists("") else "does not exist"
        raise StorageError(
            f"{store.display('')} {what}: give the folder or prefix that was --out of an extraction"
        )
    lines = [store.display("")]
    if shards:
        lines += _readable(store, shards)
    else:
        lines.append("no shards yet")
    return "\n".join(lines + _run(store) + _failures(store))


def _readable(store: Store, shards: list[ObjectInfo]) -> list[str]:
    import pyarrow as pa

    try:
        return _shards(store, shards)
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(
            f"{store.display('')}: a shard cannot be read ({error}); remove it and run again"
        ) from error


def _shards(store: Store, shards: list[ObjectInfo]) -> list[str]:
    dataset = read_shards(store.raw_uri)
    contents = Contents()
    columns = [name for name in CHEAP if name in dataset.schema.names]
    missing = [name for name in CHEAP if name not in columns and name != "sync"]
    if missing:
        raise StorageError(f"{store.display('')}: shards lack the column {missing[0]!r}")
    for batch in dataset.to_batches(columns=columns, batch_size=2048):
        contents.add(batch)
    total = contents.all
    size = sum(info.size for info in shards) / 2**20
    lines = [
        f"{len(total.videos)} videos, {total.clips} clips, {total.seconds / 3600:.2f} hours",
        f"{len(shards)} shards, {size:.1f} MiB",
    ]
    if contents.demonstration:
        lines.append(
            f"DEMONSTRATION: {contents.demonstration} clips come from {DEMONSTRATION_WEIGHTS}; "
            "their features mean nothing for real quality"
        )
    if len(contents.fingerprints) > 1:
        lines.append("WARNING: features of different settings are mixed (several fingerprints)")
    for fingerprint, count in contents.fingerprints.most_common():
        lines.append(f"fingerprint {display_text(fingerprint)}: {count} clips")
    return lines + _provenance(dataset) + _groups(contents) + _shares(contents) + _columns(dataset)


def _provenance(dataset: Any) -> list[str]:
    wanted = [n for n in ("extractors", "weights", "code_version") if n in dataset.schema.names]
    if not wanted:
        return []
    row = dataset.head(1, columns=wanted).to_pylist()[0]
    lines = []
    for name in wanted:
        pairs = row[name] if isinstance(row[name], str) else dict(row[name] or [])
        text = pairs if isinstance(pairs, str) else ", ".join(f"{k} {v}" for k, v in pairs.items())
        lines.append(f"{name.replace('_', ' ')}: {display_text(text or 'none', 500)}")
    return lines


def _groups(contents: Contents) -> list[str]:
    if set(contents.groups) <= {("", "")}:
        return []
    lines = ["", f"{'generator':24}{'speaker':24}{'videos':>8}{'clips':>8}{'hours':>9}"]
    ordered = sorted(contents.groups.items(), key=lambda item: (-item[1].clips, item[0]))
    for (generator, speaker), tally in ordered[:GROUPS]:
        lines.append(
            f"{display_text(generator or '-', 22):24}{display_text(speaker or '-', 22):24}"
            f"{len(tally.videos):>8}{tally.clips:>8}{tally.seconds / 3600:>9.2f}"
        )
    if len(ordered) > GROUPS:
        lines.append(f"… and {len(ordered) - GROUPS} more groups")
    return lines


def _shares(contents: Contents) -> list[str]:
    real = max(contents.frames, 1)
    padded = 1 - contents.frames / max(contents.all.clips * 150, 1)
    lines = [
        "",
        f"frames: {contents.frames} real, {padded:.1%} of the places are padding or not decodable",
        f"without a face: {1 - contents.faces / real:.1%} of the real frames",
        f"without sound: {1 - contents.sound / real:.1%} of the real frames",
    ]
    if contents.has_sync:
        masked = 1 - contents.synced / max(contents.all.clips, 1)
        lines.append(f"without sync: {masked:.1%} of the clips")
    return lines


def _columns(dataset: Any) -> list[str]:
    lines = ["", "columns"]
    for column in dataset.schema:
        kind = str(column.type)
        if hasattr(column.type, "shape"):
            kind = f"{column.type.value_type} {list(column.type.shape)}"
        elif kind.startswith("struct<"):
            kind = f"struct of {column.type.num_fields} numbers"
        elif kind.startswith("fixed_size_list"):
            kind = f"bool [{column.type.list_size}]"
        lines.append(f"  {column.name:20}{kind}")
    return lines


def _run(store: Store) -> list[str]:
    lines = [""]
    holder = read_lock(store)
    if holder is not None:
        age = time.time() - float(holder.get("heartbeat", 0.0))
        lines.append(
            f"in use: run {display_text(str(holder.get('run_id')))} on host "
            f"{display_text(str(holder.get('host')))}, last sign of life {age:.0f} s ago"
        )
    if store.exists("summary.json"):
        summary = json.loads(store.read_bytes("summary.json"))
        videos = summary.get("videos", {})
        lines.append(
            f"last complete run: {display_text(str(summary.get('run_id', 'unknown')))}"
            + "".join(f", {n} {display_text(k.replace('_', ' '))}" for k, n in videos.items())
        )
    elif holder is None:
        lines.append("no run has come to its end: start it again to complete it")
    return lines


def _failures(store: Store) -> list[str]:
    table = FailureTable.load(store)
    if not len(table):
        return ["no failures"]
    by_class: dict[str, list[dict[str, Any]]] = {}
    for row in table.rows():
        by_class.setdefault(row["error_class"], []).append(row)
    lines = [f"{len(table)} videos failed:"]
    for name, rows in sorted(by_class.items(), key=lambda item: -len(item[1])):
        again = sum(row["transient"] for row in rows)
        note = f" ({again} will be tried again)" if again else ""
        lines.append(f"  {len(rows)} {display_text(name)}{note}")
        lines += [
            f"    {display_text(row['video_id'])}: {display_text(row['message'])}"
            for row in sorted(rows, key=lambda r: str(r["video_id"]))[:EXAMPLES]
        ]
    return lines
