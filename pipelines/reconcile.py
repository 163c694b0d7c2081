"""Makes every video appear once and in its present version, by rewriting shards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.hashing import UNKNOWN_VERSION, VersionIndex, find, hash_text
from pipelines.ledger import Entries, Ledger
from pipelines.shard_index import (
    FINGERPRINT_KEY,
    VIDEOS_KEY,
    CommittedShard,
    iter_videos,
    list_shards,
    read_shard,
)
from pipelines.shard_writer import ShardWriter
from pipelines.storage import Store

if TYPE_CHECKING:
    import pyarrow as pa

Current = VersionIndex | Mapping[str, str] | Callable[[str], str | None] | None


@dataclass(slots=True)
class ReconcileReport:
    """What had to be mended."""

    rewritten: int = 0  # shards that were replaced
    dropped: int = 0  # shards that held nothing else
    duplicates: int = 0  # surplus copies of videos
    stale: int = 0  # videos whose rows were of a replaced version
    written: list[CommittedShard] = field(default_factory=list)


def reconcile(
    store: Store,
    current: Current = None,
    *,
    ledger: Ledger | None = None,
    guard: Callable[[], None] = lambda: None,
) -> ReconcileReport:
    """Drop surplus rows: of videos that are in several shards, and of versions that were replaced.

    New shards are written before old ones are deleted, so a reader finds every video at any time,
    and a run that is killed in between leaves only duplicates, which the next call removes.

    Args:
        store: The output.
        current: The present source version of each video of the corpus. Rows of another version
            go once those of the present one are there; videos that it does not know keep theirs.
            A function is asked for every video by name, which reads all footers.
        ledger: An up-to-date ledger of ``store``; loaded when absent. It is brought up to date
            again.
        guard: Called before every change; raises when this run may no longer change the output.
    """
    book = ledger or Ledger.load(store)
    report = ReconcileReport()
    entries = book.entries
    ages = _ages(store, book.folder)
    keep, stale = choose(entries, book.shards, _index(store, book.folder, current), ages)
    report.stale, report.duplicates = int(stale.sum()), int((~keep & ~stale).sum())
    # Shards of which nothing stays go first: a rewrite may publish under the very name of one of
    # them (a copy that an interrupted call left), and must not be deleted after that.
    kept = np.isin(entries.shards, entries.shards[keep])
    numbers = [*np.unique(entries.shards[~kept]), *np.unique(entries.shards[~keep & kept])]
    for number in numbers:
        of_shard = entries.shards == number
        drop = {int(h) for h in entries.ids[of_shard & ~keep]}
        _rewrite(store, book.shards[int(number)], drop, guard, report)
    if report.rewritten or report.dropped:
        book.refresh(store)
    return report


def choose(
    entries: Entries,
    names: Mapping[int, str],
    current: VersionIndex | None,
    ages: Mapping[str, float],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Decide which lines of the ledger stay.

    Returns:
        Two masks over ``entries``: lines to keep, and lines that go because their version was
        replaced.
    """
    count = len(entries.ids)
    stale = np.zeros(count, bool)
    if current is not None and count:
        where = find(current.ids, entries.ids)
        now = np.where(where >= 0, current.versions[where], UNKNOWN_VERSION)
        replaced = entries.ids[now == entries.versions]
        stale = (now != UNKNOWN_VERSION) & (now != entries.versions)
        stale &= np.isin(
            entries.ids, replaced
        )  # rows stay until those of the new version are there
    # Of equal ones the newest version stays, then the first by name: every run chooses alike.
    order = sorted(names, key=lambda n: names[n])
    rank = np.zeros(max(order, default=-1) + 1, np.int64)
    rank[order] = np.arange(len(order))
    age = np.zeros(len(rank))
    age[order] = [ages.get(names[n], 0.0) for n in order]
    keep = ~stale
    twice = np.zeros(count, bool)
    equal = entries.ids[1:] == entries.ids[:-1]
    twice[1:] |= equal
    twice[:-1] |= equal
    for key in np.unique(entries.ids[twice & ~stale]):
        low, high = np.searchsorted(entries.ids, [key, key + np.uint64(1)])
        lines = [int(i) for i in range(low, max(high, low + 1)) if keep[i]]
        versions = {int(entries.versions[i]) for i in lines}
        if len(versions) > 1:
            newest = max(lines, key=lambda i: age[entries.shards[i]])
            lines_kept = [i for i in lines if entries.versions[i] == entries.versions[newest]]
        else:
            lines_kept = lines
        best = min(lines_kept, key=lambda i: rank[entries.shards[i]])
        for line in lines:
            keep[line] = line == best
    return keep, stale


def _ages(store: Store, folder: str) -> dict[str, float]:
    return {info.name: info.modified for info in list_shards(store, folder)}


def _index(store: Store, folder: str, current: Current) -> VersionIndex | None:
    if current is None or isinstance(current, VersionIndex):
        return current
    if isinstance(current, Mapping):
        return VersionIndex.of(current)
    known: dict[str, str] = {}
    for info in list_shards(store, folder):
        for entry in read_shard(store, info).videos:
            version = current(entry.video_id)
            if version is not None:
                known[entry.video_id] = version
    return VersionIndex.of(known)


def _own_metadata(schema: "pa.Schema") -> "pa.Schema":
    """Return the schema without what belongs to one shard."""
    return schema.with_metadata(
        {k: v for k, v in (schema.metadata or {}).items() if k not in (VIDEOS_KEY, FINGERPRINT_KEY)}
    )


def _rewrite(
    store: Store, name: str, drop: set[int], guard: Callable[[], None], report: ReconcileReport
) -> None:
    import pyarrow.parquet as pq

    with store.open(name) as file:
        metadata = pq.read_metadata(file)
        fingerprint = metadata.metadata[FINGERPRINT_KEY].decode()
        schema = pq.read_schema(file)
    folder = name[: name.rindex("/") + 1]
    writer = ShardWriter(store, _own_metadata(schema), fingerprint, guard, folder=folder)
    try:
        for key, batches in iter_videos(store, name):
            if hash_text(key.video_id) not in drop:
                writer.begin(key)
                for batch in batches:
                    writer.append(batch.replace_schema_metadata(writer.schema.metadata))
                writer.end()
            else:
                for _ in batches:
                    pass
        if writer.videos:
            report.written.append(writer.commit())
            report.rewritten += 1
        else:
            report.dropped += 1
    finally:
        writer.discard()
    guard()
    store.delete(name)
