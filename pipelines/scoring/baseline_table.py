"""Reads the table of videos of another scoring run."""

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from model.tasks import TASKS
from pipelines.scoring.columns import SCORES_VERSION, video_schema
from pipelines.scoring.errors import ScoreInputError
from pipelines.storage import RetryConfig, Store
from pipelines.uris import display_text, strip_credentials

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    *("video_id", "uri", "source_version", "generator", "speaker"),
    *TASKS,
    *("score_key", "checkpoint", "fingerprint", "demonstration"),
)
_PART = re.compile(r"videos/run_date=(\d{4}-\d{2}-\d{2})/[^/]+\.parquet")
_VERSION = b"talkmos.scores_version"


def read_baseline(uri: str, retry: RetryConfig | None = None) -> "pa.Table":
    """Read the videos of another output of scoring, one row a video.

    Args:
        uri: Its folder or prefix.
        retry: Of the storage.

    Returns:
        :data:`COLUMNS` of :func:`pipelines.scoring.columns.video_schema` and ``run_date``.

    Raises:
        ScoreInputError: Nothing is there, it holds no scores, or they are damaged.
        StorageError: The storage refuses or fails.
    """
    import pyarrow as pa

    store = Store.at(uri, retry)
    where = store.display("")
    parts = [info.name for info in store.list("videos/") if _PART.fullmatch(info.name)]
    if not parts:
        if not store.exists(""):
            raise ScoreInputError(f"baseline {where}: nothing is there")
        raise ScoreInputError(
            f"baseline {where}: there is no table of scores (videos/run_date=…/*.parquet). A "
            "baseline is the folder that another run of jobs/score.py wrote with --out."
        )
    table = pa.concat_tables([_read_part(store, name) for name in parts])
    if not table.num_rows:
        raise ScoreInputError(f"baseline {where}: its table of scores is empty")
    return _newest(table)


def check_baseline(
    baseline: "pa.Table",
    video_ids: Iterable[str],
    checkpoint: str | Collection[str],
    uri: str,
    *,
    other_checkpoint: bool = False,
) -> None:
    """Refuse a baseline that cannot be compared with a run.

    Args:
        baseline: See :func:`read_baseline`.
        video_ids: Of the run; may be a stream.
        checkpoint: Digest of the checkpoint that scores the run, or all of them.
        uri: Of the baseline, for messages.
        other_checkpoint: Compare scores of different checkpoints.

    Raises:
        ScoreInputError: It shares no video with the run, or those that it shares were scored with
            another checkpoint.
    """
    where = display_text(strip_credentials(uri))
    rows = {video_id: row for row, video_id in enumerate(baseline["video_id"].to_pylist())}
    shared, count, example = [], 0, ""
    for video_id in video_ids:
        count += 1
        example = example or video_id
        if video_id in rows:
            shared.append(rows[video_id])
    if not shared:
        raise ScoreInputError(
            f"baseline of other videos: none of the {len(rows)} videos of {where} "
            f"({_example(min(rows, default=''))}) is among the {count} of this run "
            f"({_example(example)}). Videos are paired by video_id, the path below the corpus "
            "root: choose a baseline of the same corpus root, or give ids in a manifest."
        )
    here = {checkpoint} if isinstance(checkpoint, str) else set(checkpoint)
    there = {str(digest) for digest in baseline["checkpoint"].take(shared).to_pylist()}
    if there != here and not other_checkpoint:
        raise ScoreInputError(
            f"{where} was scored with checkpoint {_digests(there)}, this run with "
            f"{_digests(here)}: scores of different evaluators are not comparable. Score the "
            "baseline's videos with this checkpoint, or allow it with --set other_checkpoint=true."
        )


def _example(video_id: str) -> str:
    return f"such as {display_text(video_id, 60)}" if video_id else "none at all"


def _digests(checkpoints: Collection[str]) -> str:
    return " and ".join(display_text(digest, 40) for digest in sorted(checkpoints))


def _read_part(store: Store, name: str) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    match = _PART.fullmatch(name)
    assert match is not None
    where = store.display(name)
    try:
        with store.open(name) as source:
            file = pq.ParquetFile(source, page_checksum_verification=True)
            metadata, names = file.schema_arrow.metadata or {}, file.schema_arrow.names
            missing = [column for column in COLUMNS if column not in names]
            table = None if missing else file.read(columns=list(COLUMNS))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ScoreInputError(
            f"baseline {where}: damaged, cannot be read as Parquet: {display_text(str(error))}. "
            "Choose another baseline, or score it again into a new folder."
        ) from None
    version = metadata.get(_VERSION, b"").decode(errors="replace")
    if table is None or version != str(SCORES_VERSION):
        lacks = f"lacks the columns {', '.join(missing)}" if missing else "has all columns"
        raise ScoreInputError(
            f"baseline {where}: a table of scores of version {display_text(version) or '(none)'}, "
            f"this code reads version {SCORES_VERSION}; it {lacks}. Score it again with this code."
        )
    schema = pa.schema([video_schema().field(column) for column in COLUMNS])
    try:
        table = table.select(COLUMNS).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ScoreInputError(
            f"baseline {where}: a column has another type: {display_text(str(error))}"
        ) from None
    return table.append_column("run_date", pa.array([match[1]] * table.num_rows, pa.string()))


def _newest(table: "pa.Table") -> "pa.Table":
    """Keep the newest row of each video: a run that was killed may leave an older one beside it."""
    rows: dict[str, int] = {}
    dates = table["run_date"].to_pylist()
    for row, video_id in enumerate(table["video_id"].to_pylist()):
        before = rows.get(video_id)
        if before is None or dates[row] >= dates[before]:
            rows[video_id] = row
    if len(rows) == table.num_rows:
        return table
    return table.take(sorted(rows.values()))
