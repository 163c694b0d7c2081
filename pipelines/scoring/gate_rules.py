"""Rules about scores, measures and findings, held against the videos of their scope."""

import difflib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.bootstrap import Floats
from model.paired import RESOLUTION
from pipelines.scoring.gate_config import EACH, Rule
from pipelines.scoring.leaderboard import LeaderboardConfig, mean_of
from pipelines.scoring.pairing import generators_of, pair_videos
from pipelines.uris import display_text

if TYPE_CHECKING:
    import pyarrow as pa

Held = tuple[bool, str]  # whether a rule holds, and the numbers that say so


class Corpus:
    """The videos of a run by generator.

    Args:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema`.
        config: Units, level and resamples of intervals.
        absent: Generators that only the baseline has.
    """

    def __init__(self, videos: "pa.Table", config: LeaderboardConfig, absent: list[str]) -> None:
        self.videos, self.config, self.absent = videos, config, absent
        self.generators = np.array(generators_of(videos), dtype=object)
        self.names = sorted(set(self.generators))
        self.units = pair_videos(videos, config.pair_by).units
        self._findings: list[set[str]] | None = None

    def scopes(self, rule: Rule) -> list[str | None]:
        """Return the generators that a rule is about; [EACH] when there is none."""
        if rule.generator != EACH:
            return [rule.generator]
        # A generator that only the baseline has did not keep its quality: it is not there.
        absent = self.absent if rule.max_drop is not None else []
        return sorted({*self.names, *absent}) or [EACH]

    def rows(self, generator: str | None) -> NDArray[np.int64]:
        """Return the rows of a generator's videos, or of all."""
        chosen = np.ones(len(self.generators), bool) if generator is None else (
            self.generators == generator
        )  # fmt: skip
        return np.flatnonzero(chosen)

    def missing(self, generator: str | None) -> str:
        """Say that a scope has no video."""
        if generator is None:
            return "there is no video"
        close = difflib.get_close_matches(generator, self.names, n=1, cutoff=0.5)
        known = ", ".join(named(name) for name in self.names[:10]) or "no generator at all"
        hint = f"did you mean {named(close[0])}?" if close else f"there is {known}"
        return f"no video of this generator; {hint}"

    def judge(self, rule: Rule, generator: str | None) -> Held:
        """Hold a rule, other than one about drops, against the videos of a generator or all."""
        rows = self.rows(generator)
        if not len(rows):
            return False, self.missing(generator)
        if rule.max_findings is not None:
            kind = rule.max_findings.kind
            count = sum(kind in self.findings[row] for row in rows)
            return at_most(count, len(rows), rule.max_findings.share, "have it")
        values = self.column(rule)[rows]
        have = ~np.isnan(values)
        count, total = int(have.sum()), len(rows)
        if rule.min_coverage is not None:
            share = count / total
            seen = f"{count} of {total} ({per_cent(share)}) have a value"
            return share >= rule.min_coverage - RESOLUTION, seen
        absent = f" ({total - count} without a value)" if count < total else ""
        if not count:
            return False, f"none of {total} videos has a value"
        if few := too_few(count, total, rule.least_share):
            return False, f"{few} have a value"
        passed, reason = _holds(rule, values[have], self.units[rows][have], self.config)
        return passed, f"{reason} over {count} videos{absent}"

    def column(self, rule: Rule) -> Floats:
        """Return what a rule looks at, of all videos, [V] NaN where there is none."""
        import pyarrow.compute as pc

        name = rule.task or rule.measure
        assert name is not None
        head, _, field = name.partition(".")
        column = pc.struct_field(self.videos[head], field) if field else self.videos[head]
        values: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=True)
        return values

    @property
    def findings(self) -> list[set[str]]:
        """The kinds of findings of each video."""
        if self._findings is None:
            self._findings = [
                {finding["kind"] for finding in found or ()}
                for found in self.videos["findings"].to_pylist()
            ]
        return self._findings


def _holds(rule: Rule, values: Floats, units: NDArray[np.int64], config: LeaderboardConfig) -> Held:
    """Judge the values of a rule's scope, without NaN; there is at least one.

    Limits are compared with a slack of :data:`model.paired.RESOLUTION`: scores are float32, and a
    mean of exactly 3.6 must not fall below 3.6.
    """
    name, limit = rule.condition
    if name == "min_low":
        mean = mean_of(values, units, config)
        if mean.low is None:
            return False, f"{mean.reason}; mean {mean.mean:.3f}"
        level = f"{100 * config.level:g} % interval from {mean.low:.3f} to {mean.high:.3f}"
        return mean.low >= limit - RESOLUTION, f"mean {mean.mean:.3f}, {level}"
    if name in ("min_mean", "max_mean"):
        seen, what, bound = float(values.mean()), "mean", limit
    elif name in ("min_quantile", "max_quantile"):
        seen, what, bound = (
            float(np.quantile(values, limit.q)),
            f"{limit.q:g} quantile",
            limit.value,
        )
    else:
        beyond = {
            "max_share_below": values < limit.value - RESOLUTION,
            "max_share_above": values > limit.value + RESOLUTION,
            "max_abs": np.abs(values) > limit.value + RESOLUTION,
        }[name]
        share = float(beyond.mean())
        return share <= limit.share + RESOLUTION, f"{int(beyond.sum())} ({per_cent(share)})"
    passed = seen >= bound - RESOLUTION if name.startswith("min") else seen <= bound + RESOLUTION
    text = f"{seen:.3f}" if passed or f"{seen:.3f}" != f"{bound:.3f}" else f"{seen:.6f}"
    return passed, f"{what} {text}"


def at_most(count: int, total: int, limit: float, what: str) -> Held:
    """Hold a count of a total above 0 against a share."""
    share = count / total
    return share <= limit + RESOLUTION, f"{count} of {total} ({per_cent(share)}) {what}"


def too_few(count: int, total: int, least: float) -> str | None:
    """Say that what is left of the videos says nothing about those that are missing."""
    if count >= least * total - RESOLUTION:
        return None
    return f"only {count} of {total} videos ({per_cent(count / total)}, least {per_cent(least)})"


def named(generator: str) -> str:
    """Show the name of a generator."""
    return display_text(generator, 60)


def per_cent(share: float) -> str:
    """Show a share."""
    return f"{100 * share:.3g} %"
