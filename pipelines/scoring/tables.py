"""The tables of scores on storage: clips are the truth, videos follow from them.

A part of the videos is named after the part of the clips that it sums up, the level of its
intervals, and the checkpoint that they come from: which parts are missing or superfluous is seen
from the names alone. (The first eight digits in the name of either are of the score key.)
"""

import io
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.scoring.columns import clip_schema, video_schema
from pipelines.shard_index import list_shards
from pipelines.storage import StorageError, Store

if TYPE_CHECKING:
    import pyarrow as pa

CLIPS, VIDEOS = "clips/", "videos/"
VIDEO_PART = re.compile(
    r"(run_date=\d{4}-\d\d-\d\d/part-[0-9a-f]{8}-[0-9a-f]{16})-i\d{3}-[0-9a-f]{8}\.parquet"
)
READERS = 8


def folder_of(date: str) -> str:
    """Where the clips of a run of ``date`` (YYYY-MM-DD) go."""
    return f"{CLIPS}run_date={date}/"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How clips are summed up now.

    Attributes:
        level: Of the intervals.
        checkpoint: Digest of the checkpoint whose calibration they come from.
        key: The score key of rows that this checkpoint made.
        summed: Clip rows -> video rows.
    """

    level: float
    checkpoint: str
    key: str
    summed: "Callable[[pa.Table], pa.Table]"

    def name(self, stem: str) -> str:
        """Name the part of the videos that belongs to a part of the clips."""
        return f"{VIDEOS}{stem}-i{round(self.level * 1000):03d}-{self.checkpoint[:8]}.parquet"

    def made(self, stem: str) -> bool:
        """Say whether a part of the clips was scored by this very checkpoint."""
        return stem.rpartition("/part-")[2].startswith(f"{self.key[:8]}-")


def stem_of(clip_part: str) -> str:
    """Return what the parts of clips and of videos have in common in their names."""
    return clip_part.removeprefix(CLIPS).removesuffix(".parquet")


def video_parts(store: Store) -> list[str]:
    """List the parts of the videos."""
    names = [info.name for info in store.list(VIDEOS)]
    return [name for name in names if VIDEO_PART.fullmatch(name.removeprefix(VIDEOS))]


def derive_videos(store: Store, recipe: Recipe, guard: Callable[[], None] = lambda: None) -> int:
    """Bring the videos up to date with the clips; returns the number of parts that were written.

    Parts that another checkpoint scored keep the intervals that they have: only that one can make
    them. Killed at any point, the next call completes it.

    Args:
        store: The output.
        recipe: How clips are summed up.
        guard: Called before every change; raises when this run may not change the output.
    """
    import pyarrow.parquet as pq

    there: dict[str, set[str]] = {}  # stem -> parts of the videos
    for name in video_parts(store):
        found = VIDEO_PART.fullmatch(name.removeprefix(VIDEOS))
        assert found is not None  # video_parts() lists no others
        there.setdefault(found[1], set()).add(name)
    missing: list[tuple[str, str]] = []
    superfluous: list[str] = []
    for info in list_shards(store, CLIPS):
        stem = stem_of(info.name)
        have, wanted = there.pop(stem, set()), recipe.name(stem)
        if wanted not in have and (recipe.made(stem) or not have):
            missing.append((info.name, wanted))
            superfluous += sorted(have)
        else:
            superfluous += sorted(have - {wanted})[0 if wanted in have else 1 :]

    def write(part: tuple[str, str]) -> None:
        table = recipe.summed(read_part(store, part[0]))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        guard()
        store.write_bytes(part[1], buffer.getvalue())

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(write, missing))
    for name in sorted([*superfluous, *(n for names in there.values() for n in names)]):
        guard()
        store.delete(name)
    return len(missing)


def read_part(store: Store, name: str) -> "pa.Table":
    """Read a part of either table.

    Raises:
        StorageError: It cannot be read, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        buffer = pa.BufferReader(store.read_bytes(name))
        table = pq.ParquetFile(buffer, page_checksum_verification=True).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(
            f"{store.display(name)} is damaged ({error}): remove it and run again"
        ) from error
    # The footer's list of videos belongs to the part, not to the table.
    return table.replace_schema_metadata(None)


def read_table(store: Store, folder: str, keep: Iterable[str]) -> "pa.Table":
    """Read a table, with the column ``run_date``, sorted by video and clip.

    Args:
        store: The output.
        folder: :data:`CLIPS` or :data:`VIDEOS`.
        keep: Only these videos.

    Returns:
        The rows; none when nothing was ever scored.

    Raises:
        StorageError: A part cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    clips = folder == CLIPS
    names = [info.name for info in list_shards(store, CLIPS)] if clips else video_parts(store)
    if not names:
        schema = clip_schema() if clips else video_schema()
        return schema.append(pa.field("run_date", pa.string())).empty_table()
    wanted = pa.array(sorted(keep), pa.string())

    def read(name: str) -> "pa.Table":
        table = read_part(store, name)
        table = table.filter(pc.is_in(table["video_id"], wanted))
        date = name.split("run_date=", 1)[1][:10]
        return table.append_column("run_date", pa.array([date] * len(table), pa.string()))

    with ThreadPoolExecutor(READERS) as pool:
        table = pa.concat_tables(pool.map(read, names)).combine_chunks()
    keys = [("video_id", "ascending")]
    if clips:
        keys.append(("clip_index", "ascending"))
    return table.sort_by(keys)
