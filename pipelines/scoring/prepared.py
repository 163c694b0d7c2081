"""What can be wrong with baseline and gate is found before a night is spent on scoring."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.tasks import TASKS
from pipelines.scoring.baseline import check_baseline, read_baseline
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.gate import check_gate
from pipelines.scoring.gate_config import GateConfig, load_gate
from pipelines.storage import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from pipelines.checkpoint import CheckpointPeek
    from pipelines.scoring.config import ScoreConfig


@dataclass(frozen=True)
class Prepared:
    """Baseline and gate of a run.

    Attributes:
        baseline: Video rows of the other run, None without one; with ``corpus.since`` only of the
            videos of this run's corpus, so that what has nothing new is not taken for gone.
        baseline_digest: Of these rows, with versions and scores.
        gate: The rules, None without them.
    """

    baseline: "pa.Table | None"
    baseline_digest: str | None
    gate: GateConfig | None


def prepare(
    config: "ScoreConfig",
    peek: "CheckpointPeek",
    videos: "Iterable[str]",
    *,
    out: str | None = None,
) -> Prepared:
    """Read baseline and gate, and hold them against the corpus.

    Args:
        config: Settings of the run.
        peek: The checkpoint that scores.
        videos: Ids of the corpus.
        out: Output of the run, which cannot be its own baseline; None: there is none.

    Raises:
        ScoreInputError, ConfigError: One of them cannot be used.
    """
    gate = None if config.gate is None else load_gate(config.gate)
    if gate is not None:
        check_gate(gate, with_baseline=config.baseline is not None)
    if config.baseline is None:
        return Prepared(None, None, gate)
    if out is not None and _place(out) == _place(config.baseline):
        raise ScoreInputError(
            f"--baseline {Store.at(config.baseline).display('')} is the output of this run (--out):"
            " nothing could ever differ from it. Score into a new folder, or choose another "
            "baseline."
        )
    table, ids = read_baseline(config.baseline), list(videos)
    if config.corpus.since is not None:
        table = _only(table, ids)
    # A quiet night shares nothing with anything, and that is no mistake.
    if ids and (table.num_rows or config.corpus.since is None):
        check_baseline(
            table, ids, peek.digest, config.baseline, other_checkpoint=config.other_checkpoint
        )
    return Prepared(table, _digest(table), gate)


def _place(uri: str) -> tuple[str, str]:
    """Return what is the same for every way to write the URI of a folder."""
    store = Store.at(uri)
    if store.is_local:
        return "file", os.path.realpath(store.root)
    protocol = store.fs.protocol
    name = protocol if isinstance(protocol, str) else protocol[0]
    return name, "/".join(part for part in store.root.split("/") if part)


def _only(table: "pa.Table", ids: list[str]) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table["video_id"], value_set=pa.array(ids, pa.string())))


def _digest(table: "pa.Table") -> str:
    columns = ("video_id", "source_version", "generator", "speaker", "score_key", *TASKS)
    rows = sorted(json.dumps(list(row.values())) for row in table.select(columns).to_pylist())
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]
