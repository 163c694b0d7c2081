"""The ledger: which videos are in which shard. A cache; the set of shards is the truth."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.hashing import U64, UNKNOWN_VERSION, find, hash_text, hash_texts
from pipelines.shard_index import FOLDER, CommittedShard, list_shards, read_shard
from pipelines.storage import MissingError, Store

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "ledger.parquet"
FORMAT = "1"
READERS = 16
State = Literal["done", "changed", "new"]


@dataclass(slots=True)
class Entries:
    """One line for each video of each shard, in hashes; 24 bytes a video."""

    ids: U64
    versions: U64
    clips: NDArray[np.uint32]
    shards: NDArray[np.uint32]  # number of the shard

    @classmethod
    def empty(cls) -> "Entries":
        """No lines."""
        hashes, numbers = np.empty(0, np.uint64), np.empty(0, np.uint32)
        return cls(hashes, hashes, numbers, numbers)

    @classmethod
    def of(cls, shard: CommittedShard, number: int) -> "Entries":
        """The lines of one shard."""
        return cls(
            hash_texts(v.video_id for v in shard.videos),
            hash_texts(v.source_version for v in shard.videos),
            np.array([v.clips for v in shard.videos], np.uint32),
            np.full(len(shard.videos), number, np.uint32),
        )

    def take(self, rows: Any) -> "Entries":
        """Return some of the lines."""
        return Entries(self.ids[rows], self.versions[rows], self.clips[rows], self.shards[rows])

    @classmethod
    def join(cls, parts: "Sequence[Entries]") -> "Entries":
        """Put lines together, sorted by id."""
        ids = np.concatenate([p.ids for p in parts])
        joined = cls(
            ids,
            np.concatenate([p.versions for p in parts]),
            np.concatenate([p.clips for p in parts]),
            np.concatenate([p.shards for p in parts]),
        )
        return joined.take(np.argsort(ids, kind="stable"))


class Ledger:
    """What is done. Make it with :meth:`load`.

    Attributes:
        folder: Where the shards lie.
    """

    def __init__(self, folder: str = FOLDER) -> None:
        self.folder = folder
        self._entries = Entries.empty()
        self._pending: list[Entries] = []
        self.shards: dict[int, str] = {}  # number -> name
        self._numbers: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._next = 0
        self._stale = False

    # --- reading and writing

    @classmethod
    def load(cls, store: Store, folder: str = FOLDER) -> "Ledger":
        """Read the cache and bring it up to date with the shards that exist."""
        ledger = cls(folder)
        if store.exists(NAME):
            ledger._restore(store)
        ledger.refresh(store)
        return ledger

    def _restore(self, store: Store) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(pa.BufferReader(store.read_bytes(NAME)))
        except (pa.ArrowInvalid, MissingError):
            return  # only a cache: the shards tell the same, more slowly
        metadata = table.schema.metadata or {}
        if metadata.get(b"talkmos.ledger") != FORMAT.encode():
            return
        names = json.loads(metadata[b"talkmos.shards"])
        for number, (name, size) in enumerate(names):
            self.shards[number], self._numbers[name], self._sizes[name] = name, number, size
        self._next = len(names)
        self._entries = Entries(
            *(table[c].to_numpy().copy() for c in ("video", "version", "clips", "shard"))
        )

    def refresh(self, store: Store) -> list[CommittedShard]:
        """Look which shards exist; returns those that were unknown, which are known then.

        Shards that have vanished are forgotten.
        """
        present = {info.name: info for info in list_shards(store, self.folder)}
        self._forget(
            [n for n in self._numbers if n not in present or present[n].size != self._sizes[n]]
        )
        unknown = [info for name, info in present.items() if name not in self._numbers]
        if not unknown:
            return []
        with ThreadPoolExecutor(min(READERS, len(unknown))) as pool:
            found = list(pool.map(lambda info: read_shard(store, info), unknown))
        for shard in found:
            self.record(shard)
        return found

    def save(self, store: Store) -> None:
        """Write the cache."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        entries = self._merged()
        order = sorted(self.shards)
        renumber = np.zeros(max(order, default=-1) + 1, np.uint32)
        renumber[order] = np.arange(len(order), dtype=np.uint32)
        names = [[self.shards[n], self._sizes[self.shards[n]]] for n in order]
        table = pa.table(
            {
                "video": entries.ids,
                "version": entries.versions,
                "clips": entries.clips,
                "shard": renumber[entries.shards] if len(entries.ids) else entries.shards,
            },
            metadata={"talkmos.ledger": FORMAT, "talkmos.shards": json.dumps(names)},
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", use_dictionary=False)
        store.write_bytes(NAME, sink.getvalue().to_pybytes())

    # --- changes

    def record(self, shard: CommittedShard) -> None:
        """Take note of a shard; of one that is known, nothing happens."""
        if shard.name in self._numbers:
            return
        number = self._next
        self._next += 1
        self.shards[number], self._numbers[shard.name] = shard.name, number
        self._sizes[shard.name] = shard.bytes
        self._pending.append(Entries.of(shard, number))

    def _forget(self, names: list[str]) -> None:
        if not names:
            return
        numbers = [self._numbers.pop(name) for name in names]
        for number in numbers:
            del self._sizes[self.shards.pop(number)]
        entries = self._merged()
        self._entries = entries.take(~np.isin(entries.shards, np.array(numbers, np.uint32)))

    def _merged(self) -> Entries:
        if self._pending:
            self._entries = Entries.join([self._entries, *self._pending])
            self._pending = []
        return self._entries

    # --- questions

    def status_many(self, videos: "Sequence[tuple[str, str]]") -> list[State]:
        """Say for each (video_id, source_version) whether it is done.

        ``changed``: there are rows, of another version. A version of ``""`` is not known and counts
        as unchanged.
        """
        if not videos:
            return []
        entries = self._merged()
        ids = hash_texts(video_id for video_id, _ in videos)
        versions = hash_texts(version for _, version in videos)
        where = find(entries.ids, ids)
        known = where >= 0
        same = np.zeros(len(ids), bool)
        # A video may be there in several versions until the output is reconciled.
        step = 0
        candidates = np.flatnonzero(known)
        while len(candidates):
            at = where[candidates] + step
            inside = at < len(entries.ids)
            inside[inside] = entries.ids[at[inside]] == ids[candidates[inside]]
            candidates, at = candidates[inside], at[inside]
            same[candidates] |= (entries.versions[at] == versions[candidates]) | (
                versions[candidates] == UNKNOWN_VERSION
            )
            candidates = candidates[~same[candidates]]
            step += 1
        codes = np.where(same, 0, np.where(known, 1, 2))
        self._stale = self._stale or bool((codes == 1).any())
        names: tuple[State, ...] = ("done", "changed", "new")
        return [names[code] for code in codes]

    def is_done(self, video_id: str, source_version: str) -> State:
        """Say whether one video is done; for many use :meth:`status_many`."""
        return self.status_many([(video_id, source_version)])[0]

    def shards_of(self, video_id: str) -> list[str]:
        """Name the shards that hold a video."""
        entries = self._merged()
        return [self.shards[int(n)] for n in entries.shards[entries.ids == hash_text(video_id)]]

    @property
    def entries(self) -> Entries:
        """All lines, sorted by id."""
        return self._merged()

    @property
    def has_surplus(self) -> bool:
        """A video is there more than once, or rows of a replaced version were seen."""
        ids = self._merged().ids
        return self._stale or bool((ids[1:] == ids[:-1]).any())

    @property
    def videos(self) -> int:
        """Number of different videos."""
        ids = self._merged().ids
        return int(len(ids) - (ids[1:] == ids[:-1]).sum())

    @property
    def clips(self) -> int:
        """Number of rows."""
        return int(self._merged().clips.sum(dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(self._sizes.values())

    @property
    def fingerprints(self) -> set[str]:
        """First eight digits of the fingerprints that the shards bear."""
        return {name.rpartition("/part-")[2][:8] for name in self._numbers}
