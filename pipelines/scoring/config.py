"""Settings of a scoring run."""

from typing import Any

from pydantic import Field, field_validator

from actors.features import FeaturesConfig
from actors.row import SCHEMA_VERSION
from model.config import Config
from pipelines.checkpoint import CheckpointPeek, peek_checkpoint
from pipelines.config import differences, load_config
from pipelines.corpus import CorpusConfig
from pipelines.pool_run import RunConfig
from pipelines.resources import ResourcesConfig
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.leaderboard import LeaderboardConfig

SEEDED = "seeded-"


class ReportConfig(Config):
    """What the report shows."""

    worst: int = Field(8, ge=0, le=100, description="videos shown with pictures and curves")
    best: int = Field(3, ge=0, le=100, description="the same, from the other end")
    pictures: int = Field(3, ge=0, le=8, description="key frames of each of these videos")
    picture_seconds: float = Field(
        60.0, gt=0, description="what decoding all key frames may take; the rest has none"
    )


class ScoreConfig(Config):
    """Everything that steers `jobs/score.py`."""

    checkpoint: str = Field("", description="folder or URI of the checkpoint")
    corpus: CorpusConfig = CorpusConfig()
    features: str | None = Field(
        None, description="score from these feature shards instead of from videos"
    )
    keep_features: str | None = Field(
        None, description="extract features into this output first, and score from there"
    )
    baseline: str | None = Field(None, description="output of another scoring run to compare with")
    other_checkpoint: bool = Field(
        False, description="compare with a baseline that another checkpoint scored"
    )
    gate: str | None = Field(None, description="YAML file of the release gate")
    level: float = Field(
        0.9, ge=0.5, le=0.999, description="of the calibrated intervals; three digits count"
    )
    extraction: FeaturesConfig = Field(
        FeaturesConfig(), description="only what changes no value: weights, memory, batch sizes"
    )
    leaderboard: LeaderboardConfig = LeaderboardConfig()
    report: ReportConfig = ReportConfig()
    resources: ResourcesConfig = ResourcesConfig()
    # A row of scores takes about a kilobyte: shards are bounded by time.
    run: RunConfig = RunConfig(shard_clips=4096)

    @field_validator("level")
    @classmethod
    def _three_digits(cls, value: float) -> float:
        return round(value, 3)  # it stands in the names of parts


def load_score_config(file: str | None, overrides: list[str]) -> tuple[ScoreConfig, CheckpointPeek]:
    """Compose the settings: those of extraction are the checkpoint's own.

    Raises:
        ConfigError: A setting is wrong.
        CheckpointError: The checkpoint cannot be used.
        ScoreInputError: A setting contradicts the features that the checkpoint reads.
    """
    first = load_config(ScoreConfig, file, overrides)
    if not first.checkpoint:
        raise ScoreInputError("--checkpoint is needed: the folder that jobs/train.py wrote")
    peek = peek_checkpoint(first.checkpoint)
    config = load_config(ScoreConfig, file, overrides, base=_base(peek))
    now = {"schema_version": SCHEMA_VERSION, **config.extraction.value_settings()}
    if changes := differences(peek.features.settings, now):
        lines = "\n".join(f"  extraction.{change}" for change in changes)
        raise ScoreInputError(
            "the checkpoint was trained on features of other settings (then -> now):\n"
            f"{lines}\nLeave these settings alone, or train on features of the new ones."
        )
    return config, peek


def _base(peek: CheckpointPeek) -> dict[str, Any]:
    """Return the checkpoint's settings of extraction; seeded backbones are seeded again."""
    tree = {k: v for k, v in peek.features.settings.items() if k != "schema_version"}
    for name, value in peek.features.weights.items():
        if value.startswith(SEEDED) and name in tree:
            tree[name] = {**tree[name], "weights": "seeded"}
    return {"extraction": tree}
