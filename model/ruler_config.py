"""Settings of the ruler: what counts as a fall, as detected, and the bootstrap."""

from pydantic import Field

from model.config import Config


class RulerConfig(Config):
    """How scores of variants with known damage are judged."""

    tolerance: float = Field(
        0.0,
        ge=0,
        description="a score falls when it is lower by more than this, in points of the "
        "evaluator's own scale; default 0",
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="level of the test of detection, a share; default 0.05"
    )
    permutations: int = Field(
        1999, ge=99, le=1_000_000, description="sign flips of a test of detection; default 1999"
    )
    rounds: int = Field(
        1000, ge=0, le=100_000, description="bootstrap resamples; 0: no intervals; default 1000"
    )
    level: float = Field(
        0.95, gt=0.5, lt=1.0, description="coverage of the intervals, a share; default 0.95"
    )
    seed: int = Field(0, ge=0, description="seed of the bootstrap, no unit; default 0")
    cap: float = Field(
        100.0, gt=1, description="largest selectivity that is reported, no unit; default 100"
    )
