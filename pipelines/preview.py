"""What a run would do and how big it would be, without doing it."""

import itertools
import json

import numpy as np

from actors.decode import VideoReader
from actors.errors import VideoError
from actors.features import FeaturesConfig
from actors.row import COLUMNS, stored_columns
from actors.types import VideoRef
from pipelines.extract import ExtractConfig
from pipelines.failures import FailureTable
from pipelines.ledger import Ledger
from pipelines.progress import duration
from pipelines.provenance import check_settings
from pipelines.storage import StorageError, Store, display_text, open_uri
from pipelines.todo import Counts, Todo, listed, size

PROBED = 12  # videos whose headers are read for the estimate


def clip_bytes(left_out: frozenset[str]) -> int:
    """Return the uncompressed bytes of a clip's tensors: an upper bound of what a row takes."""
    total = 0
    for name in stored_columns(left_out):
        column = COLUMNS[name]
        if column.kind in ("tensor", "mask"):
            width = np.dtype(column.dtype or "bool").itemsize
            total += width * int(np.prod([n or 0 for n in column.shape]))
    return total


def preview(config: ExtractConfig, out: str | None, address: str | None) -> str:
    """Describe a run: what is to do, how many clips and bytes to expect, on what.

    Reads listings and the headers of a few videos; writes nothing and starts nothing.
    """
    corpus, warnings = listed(config.corpus)
    rate = None
    if out is None:
        counts = Counts(corpus.count, corpus.total_bytes)
        counts.todo, counts.todo_bytes = corpus.count, corpus.total_bytes
        refs = iter(corpus)
    else:
        store = Store.at(out)
        check_settings(store, config.features())
        ledger, failures = Ledger.load(store), FailureTable.load(store, "dry-run")
        todo = Todo(corpus, ledger, failures, config.run.retry_failed, config.run.limit)
        counts, refs = todo.count(), todo.videos()
        rate = _past_rate(store)
    lines = ["dry run: nothing is written", *warnings, str(counts)]
    seconds, read, unreadable = _probe(config, list(itertools.islice(refs, PROBED)))
    lines += [f"  cannot be processed: {line}" for line in unreadable]
    if seconds and read:
        total = seconds * counts.todo_bytes / read if counts.todo_bytes else seconds
        clips = counts.todo
        if config.decode.policy == "windows":
            clips = max(1, round(total / config.decode.hop_s))
        most = clips * clip_bytes(config.left_out)
        lines.append(
            f"about {clips} clips from {duration(total)} of video (estimated from the headers of "
            f"{min(PROBED, counts.todo)} videos); at most {size(most)} of features, uncompressed"
        )
        if rate:
            lines.append(
                f"about {duration(clips / rate)} at the {rate:.2f} clips/s of the last run there"
            )
    where = address or "the cluster at $RAY_ADDRESS, else a local one"
    workers = config.resources.workers or "as many as fit"
    lines.append(f"on {where}, {workers} workers, shards of about {config.run.shard_clips} clips")
    lines.append("weights: " + ", ".join(f"{n} {s}" for n, s in _weights(config)))
    return "\n".join(lines)


def _probe(config: ExtractConfig, refs: list[VideoRef]) -> tuple[float, int, list[str]]:
    seconds, read, unreadable = 0.0, 0, []
    for ref in refs:
        try:
            with (
                open_uri(ref.uri) as file,
                VideoReader(file, config.decode, ref.video_id) as reader,
            ):
                seconds += reader.info.duration_s
                read += ref.size or 0
        except (VideoError, StorageError) as error:
            unreadable.append(f"{display_text(ref.video_id)}: {display_text(str(error))}")
    return seconds, read, unreadable


def _past_rate(store: Store) -> float | None:
    if not store.exists("summary.json"):
        return None
    rate = json.loads(store.read_bytes("summary.json")).get("clips_per_second")
    return float(rate) if rate else None


def _weights(config: FeaturesConfig) -> list[tuple[str, str]]:
    from actors.weights import clean_uri

    return [
        (name, clean_uri(str(getattr(config, name).weights)))
        for name in ("visual", "audio", "sync")
        if name in config.modalities
    ]
