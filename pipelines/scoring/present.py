"""Rows of scores as the corpus is now: no row of replaced content or of another checkpoint.

A video that was replaced by a broken file, or that a new checkpoint has not scored yet, keeps its
old rows in the tables. Nothing is concluded from them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actors.types import VideoRef
from pipelines.scoring.videos import interval_columns

if TYPE_CHECKING:
    import pyarrow as pa


def present(table: "pa.Table", listed: Mapping[str, VideoRef]) -> "pa.Table":
    """Keep the rows whose version is that of the corpus.

    Args:
        table: Rows of either table.
        listed: video_id -> the video; its version is ``content@key``, where the content may not be
            known.
    """
    import pyarrow as pa

    ids, versions = table["video_id"].to_pylist(), table["source_version"].to_pylist()
    mask = [_same(listed[name].version, found) for name, found in zip(ids, versions, strict=True)]
    return table.filter(pa.array(mask, pa.bool_()))


def _same(wanted: str, found: str) -> bool:
    content, _, key = wanted.rpartition("@")
    return found == wanted or (not content and found.rpartition("@")[2] == key)


def labels_differ(videos: "pa.Table", listed: Mapping[str, VideoRef]) -> int:
    """Count the videos whose generator or speaker the corpus names otherwise now."""
    rows = videos.select(["video_id", "generator", "speaker"]).to_pylist()
    return sum(
        (row["generator"], row["speaker"])
        != (listed[row["video_id"]].generator, listed[row["video_id"]].speaker)
        for row in rows
    )


def labelled(
    videos: "pa.Table", listed: Mapping[str, VideoRef], uncertainty: Any, level: float
) -> "pa.Table":
    """Take generators and speakers from the corpus, and the intervals that go with them."""
    import pyarrow as pa

    rows = videos.to_pylist()
    for row in rows:
        ref = listed[row["video_id"]]
        row["generator"], row["speaker"] = ref.generator, ref.speaker
    interval_columns(rows, uncertainty, level)
    return pa.Table.from_pylist(rows, videos.schema)
