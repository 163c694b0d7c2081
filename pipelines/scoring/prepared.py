"""What can be wrong with baseline and gate is found before a night is spent on scoring."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.scoring.baseline import check_baseline, read_baseline
from pipelines.scoring.gate import check_gate
from pipelines.scoring.gate_config import GateConfig, load_gate

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from pipelines.checkpoint import CheckpointPeek
    from pipelines.scoring.config import ScoreConfig


@dataclass(frozen=True)
class Prepared:
    """Baseline and gate of a run.

    Attributes:
        baseline: Video rows of the other run, None without one.
        baseline_digest: Of its videos, versions and scores.
        gate: The rules, None without them.
    """

    baseline: "pa.Table | None"
    baseline_digest: str | None
    gate: GateConfig | None


def prepare(config: "ScoreConfig", peek: "CheckpointPeek", videos: "Iterable[str]") -> Prepared:
    """Read baseline and gate, and hold them against the corpus.

    Args:
        config: Settings of the run.
        peek: The checkpoint that scores.
        videos: Ids of the corpus.

    Raises:
        ScoreInputError, ConfigError: One of them cannot be used.
    """
    gate = None if config.gate is None else load_gate(config.gate)
    if gate is not None:
        check_gate(gate, with_baseline=config.baseline is not None)
    if config.baseline is None:
        return Prepared(None, None, gate)
    table = read_baseline(config.baseline)
    check_baseline(
        table, videos, peek.digest, config.baseline, other_checkpoint=config.other_checkpoint
    )
    rows = table.select(["video_id", "source_version", "score_key"]).to_pylist()
    text = "\n".join(sorted(f"{r['video_id']}\t{r['source_version']}" for r in rows))
    return Prepared(table, hashlib.sha256(text.encode()).hexdigest()[:16], gate)
