"""Settings of calibrated uncertainty."""

from pydantic import Field

from model.config import Config


class UncertaintyConfig(Config):
    """What training calibrates on the validation split."""

    level: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="share of scores that intervals should cover when their coverage is measured "
        "on the test split; scoring may ask for any other level",
    )
    min_group: int = Field(
        20,
        ge=1,
        description="least number of validation videos of a generator with intervals of its own, "
        "if they are also enough for the level; the others get those of all videos together",
    )
    novelty_quantile: float = Field(
        0.99,
        gt=0,
        lt=1,
        description="share of validation clips that lie below the threshold of novelty",
    )
