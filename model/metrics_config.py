"""Settings of the evaluation: thresholds of the three classes and the bootstrap."""

from typing import Annotated

from pydantic import Field, model_validator

from model.config import Config
from model.tasks import HIGH, LOW


class EvaluationConfig(Config):
    """How predictions are judged. None of it changes a prediction."""

    thresholds: Annotated[
        tuple[float, float],
        Field(
            description="where the second and the third class of the three-class accuracy begin, "
            "scores on [1, 5]; default 2.33 and 3.67"
        ),
    ] = (2.33, 3.67)
    rounds: Annotated[
        int,
        Field(ge=0, le=100_000, description="bootstrap resamples; 0: no intervals; default 1000"),
    ] = 1000
    level: Annotated[
        float,
        Field(gt=0.5, lt=1.0, description="coverage of the intervals, a share; default 0.95"),
    ] = 0.95
    seed: Annotated[int, Field(ge=0, description="seed of the bootstrap, no unit; default 0")] = 0

    @model_validator(mode="after")
    def _ordered(self) -> "EvaluationConfig":
        first, second = self.thresholds
        if not LOW < first < second < HIGH:
            raise ValueError(
                f"thresholds must rise and lie between {LOW} and {HIGH}, got {first} and {second}"
            )
        return self
