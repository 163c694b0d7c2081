"""The tables of scores on storage: clips are the truth, videos follow from them.

A part of the videos is named after the part of the clips that it sums up, and after the level of
its intervals: which parts are missing or superfluous is seen from the names alone.
"""

import io
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pipelines.scoring.errors import ScoreInputError
from pipelines.shard_index import list_shards
from pipelines.storage import StorageError, Store

if TYPE_CHECKING:
    import pyarrow as pa

CLIPS, VIDEOS = "clips/", "videos/"
VIDEO_PART = re.compile(r"(run_date=\d{4}-\d\d-\d\d/part-[0-9a-f]{8}-[0-9a-f]{16})-i\d{4}\.parquet")
READERS = 8


def folder_of(date: str) -> str:
    """Where the clips of a run of ``date`` (YYYY-MM-DD) go."""
    return f"{CLIPS}run_date={date}/"


def video_part(clip_part: str, level: float) -> str:
    """Name the part of the videos that belongs to a part of the clips."""
    stem = clip_part.removeprefix(CLIPS).removesuffix(".parquet")
    return f"{VIDEOS}{stem}-i{round(level * 1e4):04d}.parquet"


def video_parts(store: Store) -> list[str]:
    """List the parts of the videos."""
    names = [info.name for info in store.list(VIDEOS)]
    return [name for name in names if VIDEO_PART.fullmatch(name.removeprefix(VIDEOS))]


def derive_videos(
    store: Store,
    level: float,
    summed: "Callable[[pa.Table], pa.Table]",
    guard: Callable[[], None] = lambda: None,
) -> int:
    """Bring the videos up to date with the clips; returns the number of parts that were written.

    Killed at any point, the next call completes it.

    Args:
        store: The output.
        level: Of the intervals.
        summed: Clip rows -> video rows.
        guard: Called before every change; raises when this run may not change the output.
    """
    import pyarrow.parquet as pq

    wanted = {video_part(info.name, level): info.name for info in list_shards(store, CLIPS)}
    there = set(video_parts(store))
    missing = sorted(wanted.keys() - there)
    for name in missing:
        table = summed(read_part(store, wanted[name]))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        guard()
        store.write_bytes(name, buffer.getvalue())
    for name in sorted(there - wanted.keys()):
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


def read_table(store: Store, folder: str, keep: "Iterable[str] | None" = None) -> "pa.Table":
    """Read all parts of a table, with the column ``run_date``, sorted by video and clip.

    Args:
        store: The output.
        folder: :data:`CLIPS` or :data:`VIDEOS`.
        keep: Only these videos; all of them by default.

    Raises:
        ScoreInputError: There are no scores.
        StorageError: A part cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = (
        [info.name for info in list_shards(store, CLIPS)] if folder == CLIPS else video_parts(store)
    )
    if not names:
        raise ScoreInputError(
            f"{store.display('')} holds no scores (nothing below {folder}): name the --out of a "
            "run of jobs/score.py that scored something"
        )
    wanted = None if keep is None else pa.array(sorted(keep), pa.string())

    def read(name: str) -> "pa.Table":
        table = read_part(store, name)
        if wanted is not None:
            table = table.filter(pc.is_in(table["video_id"], wanted))
        date = name.split("run_date=", 1)[1][:10]
        return table.append_column("run_date", pa.array([date] * len(table), pa.string()))

    with ThreadPoolExecutor(READERS) as pool:
        table = pa.concat_tables(pool.map(read, names)).combine_chunks()
    keys = [("video_id", "ascending")]
    if folder == CLIPS:
        keys.append(("clip_index", "ascending"))
    return table.sort_by(keys)
