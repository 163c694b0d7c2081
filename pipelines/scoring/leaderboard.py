"""Generators by their mean scores, with intervals, ranks and tests between each two."""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from model.bootstrap import MIN_GROUPS, Floats, Interval
from model.config import Config
from model.paired import MeanTest, holm, mean_interval, paired_test
from model.tasks import TASKS, Task
from model.unpaired import difference_interval, unpaired_test
from pipelines.scoring.pairing import AUTO, check_pair_by, generators_of, pair_videos

if TYPE_CHECKING:
    import pyarrow as pa

NO_SCORE = "no video has a score"
_EQUAL = 6  # digits after the point in which two means with the same rank agree


class LeaderboardConfig(Config):
    """How generators and runs are compared. None of it changes a score."""

    pair_by: Annotated[str, AfterValidator(check_pair_by)] = Field(
        AUTO,
        description="what makes videos of different generators comparable, and what is resampled "
        "together: speaker, name (the video id without its generator's folder), a regular "
        "expression over the video id whose first group is the unit, or auto; default auto",
    )
    level: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="coverage of the intervals of means, a share; differences are significant at "
        "1 - level after correction; default 0.95",
    )
    rounds: int = Field(
        1000, ge=0, le=100_000, description="bootstrap resamples; 0: no intervals; default 1000"
    )
    permutations: int = Field(
        9_999,
        ge=99,
        le=1_000_000,
        description="most permutations of a test; the smallest p-value is 1 / (this + 1); "
        "default 9999",
    )
    seed: int = Field(0, ge=0, description="of resamples and permutations, no unit; default 0")


@dataclass(frozen=True)
class Mean:
    """The mean score of a group of videos in one task.

    Attributes:
        mean: On [1, 5], None without scores.
        low: Lower end of its bootstrap interval, None when undefined.
        high: Upper end.
        n: Videos with a score.
        units: Independent units among them.
        reason: Why something is None.
        rank: 1 is best; equal means share a rank; None without scores, and outside a leaderboard.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    units: int
    reason: str | None
    rank: int | None = None


@dataclass(frozen=True)
class Pair:
    """Two generators in one task.

    Attributes:
        a: The generator that stands higher in the table.
        b: The other.
        task: Name of the task.
        method: ``paired``: unit means over the ``n`` units that both have; ``unpaired``: fewer than
            :data:`model.bootstrap.MIN_GROUPS` are shared, ``n`` unit means of both are compared as
            independent samples. The second takes the difficulty of units for quality and needs
            larger differences.
        n: See above.
        difference: Mean of a less b.
        low: Lower end of its bootstrap interval, None when undefined.
        high: Upper end.
        p: Two-sided.
        p_adjusted: After Holm over all pairs of the task.
        significant: p_adjusted <= 1 - level; None without p.
        reason: Why something is None, or few shared units are not paired, or why what is not
            significant could not have been.
    """

    a: str
    b: str
    task: Task
    method: Literal["paired", "unpaired"]
    n: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    significant: bool | None
    reason: str | None


@dataclass(frozen=True)
class Leaderboard:
    """Generators, best overall first, and the tests between them.

    Attributes:
        pair_by: What makes a unit: speaker, name or a regular expression.
        pair_reason: Why that.
        unpaired_videos: Videos that are a unit of their own, because nothing says what theirs is.
        level: Of the intervals.
        standings: Generator -> (videos, task -> mean).
        pairs: Of every two generators in every task.
    """

    pair_by: str
    pair_reason: str
    unpaired_videos: int
    level: float
    standings: dict[str, tuple[int, dict[Task, Mean]]]
    pairs: list[Pair]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; what is undefined is None and has a ``reason``."""
        return {
            "by": "generator",
            "pair_by": self.pair_by,
            "pair_reason": self.pair_reason,
            "unpaired_videos": self.unpaired_videos,
            "level": self.level,
            "tasks": list(TASKS),
            "generators": [
                {
                    "name": name,
                    "videos": videos,
                    **{task: asdict(mean) for task, mean in means.items()},
                }
                for name, (videos, means) in self.standings.items()
            ],
            "pairs": [asdict(pair) for pair in self.pairs],
        }


def scores_of(videos: "pa.Table") -> Floats:
    """Return the scores of V videos, [V, tasks] float64, NaN where there is none."""
    columns = [
        videos[task].to_numpy(zero_copy_only=False).astype(np.float64, copy=True) for task in TASKS
    ]
    return np.stack(columns, axis=1)


def mean_of(scores: Floats, units: NDArray[np.int64], config: LeaderboardConfig) -> Mean:
    """Average scores, with an interval in which videos of one unit are drawn together.

    Args:
        scores: [V] NaN where there is none.
        units: [V] numbers of the units.
        config: Level, resamples and seed.
    """
    have = ~np.isnan(scores)
    found, clusters = scores[have], units[have]
    if not len(found):
        return Mean(None, None, None, 0, 0, NO_SCORE)
    interval = mean_interval(
        found, clusters, level=config.level, rounds=config.rounds, seed=config.seed
    )
    count = len(np.unique(clusters))
    return Mean(
        float(found.mean()), interval.low, interval.high, len(found), count, interval.reason
    )


def leaderboard(videos: "pa.Table", config: LeaderboardConfig | None = None) -> Leaderboard:
    """Rank generators and test each two of them.

    A generator's mean is that of its videos. For a test the videos of a generator and unit are
    averaged first, so that a unit counts once, and the units that both generators have are paired;
    generators with fewer than :data:`model.bootstrap.MIN_GROUPS` common units are compared
    unpaired. p-values of all pairs of a task are
    corrected by Holm's method.

    Args:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema`.
        config: How to compare.

    Raises:
        ScoreInputError: ``pair_by`` matches no video.
    """
    config = config or LeaderboardConfig()
    pairing = pair_videos(videos, config.pair_by)
    scores = scores_of(videos)
    generators = np.array(generators_of(videos), dtype=object)
    means: dict[str, dict[Task, Mean]] = {}
    unit_means: dict[str, list[tuple[NDArray[np.int64], Floats]]] = {}
    for name in sorted(set(generators)):
        rows = np.flatnonzero(generators == name)
        units = pairing.units[rows]
        columns = scores[rows].T
        means[name] = {
            task: mean_of(column, units, config)
            for task, column in zip(TASKS, columns, strict=True)
        }
        unit_means[name] = [_unit_means(column, units) for column in columns]
    ranked = _ranked(means)
    order = sorted(ranked, key=lambda name: (-(ranked[name]["overall"].mean or 0), name))
    pairs = _pairs(order, unit_means, config)
    standings = {name: (int((generators == name).sum()), ranked[name]) for name in order}
    return Leaderboard(pairing.by, pairing.reason, pairing.alone, config.level, standings, pairs)


def _unit_means(scores: Floats, units: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Average [V] scores by unit: the units that have one, sorted, and their means."""
    have = ~np.isnan(scores)
    found, place = np.unique(units[have], return_inverse=True)
    return found, np.bincount(place, scores[have], len(found)) / np.bincount(place)


def _ranked(means: dict[str, dict[Task, Mean]]) -> dict[str, dict[Task, Mean]]:
    ranked: dict[str, dict[Task, Mean]] = {name: {} for name in means}
    for task in TASKS:
        known = [round(m[task].mean or 0, _EQUAL) for m in means.values() if m[task].n]
        for name, by_task in means.items():
            mean = by_task[task]
            rank = 1 + sum(k > round(mean.mean or 0, _EQUAL) for k in known) if mean.n else None
            ranked[name][task] = Mean(**{**asdict(mean), "rank": rank})
    return ranked


def _pairs(
    order: list[str],
    of: dict[str, list[tuple[NDArray[np.int64], Floats]]],
    config: LeaderboardConfig,
) -> list[Pair]:
    """Test every two generators in every task and correct for the number of pairs of a task."""
    # All tasks of two generators in a row: tests of equal sizes share what was drawn.
    tested = {
        (a, b): [_compared(x, y, config) for x, y in zip(of[a], of[b], strict=True)]
        for a, b in combinations(order, 2)
    }
    alpha = 1 - config.level
    pairs = []
    for number, task in enumerate(TASKS):
        column = [each[number] for each in tested.values()]
        adjusted = holm([test.p for test, *_ in column])
        count = sum(p is not None for p in adjusted)
        for (a, b), (test, interval, method, why), p in zip(tested, column, adjusted, strict=True):
            reasons = [why, test.reason, interval.reason]
            significant = None if p is None else p <= alpha
            if test.reason is None and not significant:
                reasons.append(reservation(test.n, test.least_p or 0, count, config))
            pairs.append(
                Pair(
                    a=a,
                    b=b,
                    task=task,
                    method=method,
                    n=test.n,
                    difference=test.difference,
                    low=interval.low,
                    high=interval.high,
                    p=test.p,
                    p_adjusted=p,
                    significant=significant,
                    reason="; ".join(r for r in reasons if r) or None,
                )
            )
    return pairs


def reservation(units: int, least_p: float, count: int, config: LeaderboardConfig) -> str | None:
    """Say why a test that found nothing could find nothing; None when it could.

    Args:
        units: Of the test.
        least_p: Smallest p that it can give.
        count: Tests that are corrected together.
        config: Level and permutations.
    """
    if least_p * count <= 1 - config.level:
        return None
    if least_p > 1 / (config.permutations + 1):
        return f"{units} units cannot give a corrected p below {min(1.0, least_p * count):.2g}"
    return "more permutations are needed for so many comparisons"


def _compared(
    a: tuple[NDArray[np.int64], Floats],
    b: tuple[NDArray[np.int64], Floats],
    config: LeaderboardConfig,
) -> tuple[MeanTest, Interval, Literal["paired", "unpaired"], str | None]:
    """Test two generators; the method follows from numbers of units, never from a result."""
    shared, in_a, in_b = np.intersect1d(a[0], b[0], assume_unique=True, return_indices=True)
    options: dict[str, Any] = {"permutations": config.permutations, "seed": config.seed}
    bounds: dict[str, Any] = {
        "level": config.level, "rounds": config.rounds, "seed": config.seed
    }  # fmt: skip
    if len(shared) >= MIN_GROUPS:
        d = a[1][in_a] - b[1][in_b]
        return paired_test(d, **options), mean_interval(d, **bounds), "paired", None
    why = None
    if len(shared):
        why = f"{len(shared)} shared units are too few to pair: compared as independent samples"
    test = unpaired_test(a[1], b[1], **options)
    if test.p is None:
        return test, Interval(None, None, 0, None), "unpaired", why
    return test, difference_interval(a[1], b[1], **bounds), "unpaired", why
