"""What a scoring run would do: ``--dry-run``."""

from typing import TYPE_CHECKING

from pipelines.failures import FailureTable
from pipelines.ledger import Ledger
from pipelines.provenance import DEMONSTRATION
from pipelines.scoring import tables
from pipelines.scoring.output import check_output, score_key
from pipelines.scoring.prepared import prepare
from pipelines.scoring.sources import StoredFeatures, list_videos
from pipelines.storage import Store
from pipelines.todo import Todo

if TYPE_CHECKING:
    from pipelines.checkpoint import CheckpointPeek
    from pipelines.scoring.config import ScoreConfig


def preview(config: "ScoreConfig", peek: "CheckpointPeek", out: str | None) -> str:
    """Say what a run would do, without doing anything."""
    key = score_key(peek)
    stored = None if config.features is None else StoredFeatures.at(config.features, peek)
    corpus, warnings = list_videos(config, stored, key)
    prepare(config, peek, (ref.video_id for ref in corpus), out=out)
    ledger, failures = Ledger(tables.CLIPS), FailureTable()
    if out is not None:
        store = Store.at(out)
        check_output(store)
        ledger, failures = Ledger.load(store, tables.CLIPS), FailureTable.load(store)
    counts = Todo(corpus, ledger, failures, config.run.retry_failed, config.run.limit).count()
    lines = [*warnings, str(counts), f"checkpoint {peek.where}, digest {peek.digest}"]
    if peek.features.demonstration:
        lines.append(DEMONSTRATION)
    return "\n".join(lines)
