"""Settings of a benchmark run."""

from typing import Literal

from pydantic import Field

from model.config import Config
from model.ruler_config import RulerConfig
from model.tasks import Task


class AskingConfig(Config):
    """How programs, functions and peers are asked."""

    jobs: int = Field(1, ge=1, le=1024, description="processes at a time; default 1")
    timeout_s: float = Field(
        120.0, gt=0, description="a video that takes longer has failed, seconds; default 120"
    )
    retry_failed: bool = Field(
        False, description="ask again about videos that failed in an earlier run"
    )
    fresh: bool = Field(False, description="ask again about all videos")


class BenchmarkConfig(Config):
    """Everything that steers `jobs/benchmark.py`, but for scoring itself."""

    corpus: str = Field("", description="folder or URI of jobs/degrade.py")
    split: Literal["train", "val", "test", "all"] | None = Field(
        None, description="videos of this split; default: test where there is one, else all"
    )
    tasks: tuple[Task | Literal["score"], ...] = Field(
        (), description="only these tasks; default: all that the evaluator scores"
    )
    limit: int | None = Field(
        None, ge=1, description="only the first sources, of at most so many videos together"
    )
    name: str | None = Field(None, description="of the evaluator, in the report")
    speaks_for: tuple[str, ...] = Field(
        (),
        description="tasks and groups of artefacts that a single number stands for; default: those "
        "of the peer, else overall",
    )
    wait_lock: bool = Field(False, description="wait for another run on the same output")
    ruler: RulerConfig = RulerConfig()
    asking: AskingConfig = AskingConfig()
