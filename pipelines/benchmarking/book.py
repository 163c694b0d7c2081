"""Ratios that are resampled together, and the figures that come of it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.ruler import Ratio
    from model.ruler_bootstrap import Estimate
    from model.ruler_config import RulerConfig

Figure = dict[str, Any]  # value, low, high, reason, undefined_rounds: see model.metrics.Value


def undefined(reason: str) -> Figure:
    """Return a figure that is not there, and why."""
    return {"value": None, "low": None, "high": None, "reason": reason, "undefined_rounds": 0}


def of_sources(figure: Figure) -> Figure:
    """Say sources where the bootstrap says groups: here, groups are those of artefacts."""
    reason = figure["reason"]
    return {**figure, "reason": reason and reason.replace("groups to resample", "sources")}


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Write figures as columns: ``srcc``, ``srcc_low``, ``srcc_high``, ``srcc_reason``."""
    columns: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and "undefined_rounds" in value:
            columns[name] = value["value"]
            for end in ("low", "high", "reason"):
                columns[f"{name}_{end}"] = value[end]
        else:
            columns[name] = value
    return columns


class Book:
    """Ratios of the same sources: added one by one, resampled once, then looked up.

    Args:
        config: Resamples, level, cap.
        count: Sources.
    """

    def __init__(self, config: "RulerConfig", count: int) -> None:
        self.config = config
        self._count = count
        self._ratios: list[Ratio] = []
        self._found: list[Estimate] = []

    def add(self, ratio: "Ratio") -> int:
        """Take a ratio in; returns its place."""
        self._ratios.append(ratio)
        return len(self._ratios) - 1

    def pool(self, places: list[int]) -> int:
        """Add the sum of ratios; returns its place."""
        from model.ruler import pooled

        return self.add(pooled((self._ratios[place] for place in places), self._count))

    def resample(self) -> None:
        """Draw sources for all of them at once."""
        from model.ruler_bootstrap import estimates

        self._found = estimates(self._ratios, self.config)

    def ratio(self, place: int) -> "Ratio":
        """Return what is at a place."""
        return self._ratios[place]

    def figure(self, place: int, reason: str = "") -> Figure:
        """Return a ratio's value and interval; ``reason``: why there is none, if so."""
        told = self._found[place].told(self.config.level)
        if told.value is None and reason:
            return undefined(reason)
        return of_sources(told.to_dict())

    def quotient(self, harmed: int, unharmed: int) -> Figure:
        """Return the selectivity of two ratios."""
        from model.ruler_bootstrap import selectivity

        found = selectivity(self._found[harmed], self._found[unharmed], self.config)
        return of_sources(found.told(self.config.level).to_dict())
