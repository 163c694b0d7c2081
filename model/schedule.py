"""The learning rate over a run: linear warm-up, then cosine annealing with warm restarts.

A pure function of the step, so that a resumed run continues the same curve without any state.
Source: Loshchilov and Hutter, SGDR, ICLR 2017, equation 5.
"""

import math
from typing import Self

from pydantic import Field, FiniteFloat, model_validator

from model.config import Config


class ScheduleConfig(Config):
    """Course of the learning rates."""

    warmup_share: FiniteFloat = Field(
        0.05, ge=0, lt=1, description="share of all steps over which the rate rises linearly"
    )
    warmup_steps: int | None = Field(
        None, ge=0, description="the same in optimisation steps; goes before warmup_share"
    )
    restarts: int = Field(
        0, ge=0, description="how often the rate jumps back up after having annealed"
    )
    period_multiplier: FiniteFloat = Field(
        1.0, ge=1, le=10, description="each period is this many times as long as the one before"
    )
    floor: FiniteFloat = Field(
        0.01, ge=0, le=1, description="what a period ends at, as a share of the full rate"
    )

    @model_validator(mode="after")
    def _periods_are_long(self) -> Self:
        if self.period_multiplier**self.restarts > 1e6:
            raise ValueError(
                "the last period would be over a million times as long as the first: lower "
                "restarts or period_multiplier"
            )
        return self

    def warmup(self, total_steps: int) -> int:
        """Return the number of warm-up steps in a run of ``total_steps``."""
        if self.warmup_steps is not None:
            return min(self.warmup_steps, total_steps)
        return round(self.warmup_share * total_steps)


def lr_factor(step: int, total_steps: int, config: ScheduleConfig) -> float:
    """Return what the full learning rate is multiplied by in a step.

    Over W warm-up steps it is (step + 1) / (W + 1). The rest is cut into ``restarts`` + 1 periods,
    each ``period_multiplier`` times as long as the one before; u steps into a period of length P it
    is floor + (1 - floor) (1 + cos(pi u / P)) / 2, so 1 at its start.

    Args:
        step: Optimisation step, from 0.
        total_steps: Steps of the whole run, at least 1.
        config: Its settings.

    Returns:
        A number in (0, 1], or [0, 1] with ``floor`` 0; ``floor`` from ``total_steps`` on.

    Raises:
        ValueError: A negative step, or no steps at all.
    """
    if step < 0 or total_steps < 1:
        raise ValueError(f"no such step: {step} of {total_steps}")
    if step >= total_steps:
        return config.floor
    warmup = config.warmup(total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    growth = [config.period_multiplier**i for i in range(config.restarts + 1)]
    first = (total_steps - warmup) / sum(growth)
    u = float(step - warmup)
    length = first
    for factor in growth:
        length = first * factor
        # A step that rounding leaves just before a boundary belongs to the next period.
        if u < length - 1e-6:
            break
        u = max(u - length, 0.0)
    return config.floor + (1 - config.floor) * (1 + math.cos(math.pi * u / length)) / 2
