"""Scales and ticks of chart axes."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.report.html import number, scientific


@dataclass(frozen=True, slots=True)
class Scale:
    """A mapping of values in [low, high] to coordinates from ``start`` to ``end``.

    ``log`` maps powers of ten to equal distances; then ``low`` is above 0. The ends of the
    coordinates may be given downwards, as pictures count y.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of ``value``; values outside continue the axis."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def step_of(span: float, count: int) -> float:
    """Return the step of 1, 2 or 5 times a power of ten that gives about ``count`` intervals."""
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Return round values inside [low, high], about ``count`` of them.

    Args:
        low: The axis begins here.
        high: The axis ends here; above ``low``.
        count: Intervals wanted.
        whole: Only whole numbers (epochs, counts).
    """
    step = step_of(high - low, count)
    if whole:
        step = max(step, 1.0)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten inside [low, high]; with 2 and 5 times them when they are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**power for power in range(first, last + 1)]
    inside = [value for value in decades if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    if len(inside) >= 3:
        every = math.ceil(len(inside) / 6)
        return inside[::every]
    finer = [value * factor for value in decades for factor in (1, 2, 5)]
    return [value for value in finer if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """Write ticks with the decimals that tell them apart, all alike."""
    if not values:
        return []
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    step = min(steps, default=abs(values[0]) or 1.0)
    largest = max(abs(value) for value in values)
    if largest and (largest < 1e-3 or largest >= 1e6 or step < 1e-5):
        return [scientific(value) for value in values]
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    return [number(value, digits) for value in values]


def log_tick_texts(values: Iterable[float]) -> list[str]:
    """Write ticks of a logarithmic axis, each with the digits that it needs."""
    texts = []
    for value in values:
        plain = 1e-3 * (1 - 1e-9) <= value < 1e5
        texts.append(f"{value:,.10g}" if plain else scientific(value))
    return texts


def domain(
    values: Iterable[float], *, nice: bool = True, count: int = 5, zero: bool = False
) -> tuple[float, float]:
    """Return the range that an axis of these finite values shows.

    It is never empty: no value gives (0, 1), one value a range around it.

    Args:
        values: What is drawn.
        nice: Widen to the steps of the ticks.
        count: Intervals wanted.
        zero: Contain 0.
    """
    known = list(values)
    if zero and known:
        known.append(0.0)
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    # A spread that is only rounding would be drawn as a mountain range.
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        half = abs(low) * 0.1 or 0.5
        low, high = low - half, high + half
    if nice:
        step = step_of(high - low, count)
        low = math.floor(low / step + 1e-9) * step
        high = math.ceil(high / step - 1e-9) * step
    return low, high


def log_domain(values: Iterable[float]) -> tuple[float, float]:
    """Return the range of a logarithmic axis of these positive values, never empty."""
    known = [value for value in values if value > 0]
    if not known:
        return 0.1, 10.0
    low, high = math.log10(min(known)), math.log10(max(known))
    margin = 0.05 * (high - low) if high - low > math.log10(1.5) else math.log10(2)
    # Within what a float can hold: exploding gradients come near.
    return 10.0 ** max(low - margin, -300.0), 10.0 ** min(high + margin, 300.0)
