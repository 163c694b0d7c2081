"""The base of every configuration section."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen, strict configuration section: unknown keys are errors, values never change.

    Each part of the product keeps its section beside the code that it steers; the
    pipelines compose them into one tree.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
