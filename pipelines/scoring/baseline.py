"""What changed against another scoring run: the same videos, before and after."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.bootstrap import Floats
from model.paired import Alternative, MeanTest, paired_test
from model.tasks import TASKS, Task
from pipelines.scoring.baseline_table import check_baseline, read_baseline
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.leaderboard import LeaderboardConfig, scores_of
from pipelines.scoring.pairing import generators_of, pair_videos
from pipelines.scoring.shifts import Shift, corrected, shift_of
from pipelines.uris import display_text

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Change", "Moved", "Shift", "check_baseline", "compare", "read_baseline"]

MOVED = 10  # videos that fell or rose most
LISTED = 20  # ids of videos that are in one run only
_THEN = ("generator", "source_version", "checkpoint", *TASKS)
_NOW = (*_THEN, "cause")


@dataclass(frozen=True)
class Moved:
    """A video whose score changed: in ``overall``, else in the mean of the tasks of both runs."""

    video_id: str
    generator: str
    before: float
    after: float
    difference: float
    cause: str | None


@dataclass(frozen=True)
class Change:
    """A run against its baseline.

    Attributes:
        uri: Of the baseline, for messages.
        config: How was compared.
        pair_by: What makes a unit: videos of one are flipped and resampled together.
        ids: [n] of the videos in both runs.
        generators: [n] their generators now.
        units: [n] their units.
        before: [n, tasks] scores in the baseline, NaN where there is none.
        after: [n, tasks] scores now.
        same_content: Videos with the same content in both runs.
        only_here: Ids that the baseline does not have.
        only_there: Ids that only the baseline has.
        absent: Generators that only the baseline has.
        checkpoints: Digests (baseline's, this run's), different only when that was allowed.
        tasks: Of all videos.
        by_generator: Generator -> (videos in both, task -> change).
        fell: Videos that lost most, the worst first.
        rose: Videos that gained most.
    """

    uri: str
    config: LeaderboardConfig
    pair_by: str
    ids: list[str]
    generators: NDArray[np.object_]
    units: NDArray[np.int64]
    before: Floats
    after: Floats
    same_content: int
    only_here: list[str]
    only_there: list[str]
    absent: list[str]
    checkpoints: tuple[list[str], list[str]]
    tasks: dict[Task, Shift]
    by_generator: dict[str, tuple[int, dict[Task, Shift]]]
    fell: list[Moved]
    rose: list[Moved]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; what is undefined is None and has a ``reason``."""
        return {
            "baseline": self.uri,
            "pair_by": self.pair_by,
            "level": self.config.level,
            "checkpoints": {"baseline": self.checkpoints[0], "here": self.checkpoints[1]},
            "videos": {
                "both": len(self.ids),
                "same_content": self.same_content,
                "only_here": len(self.only_here),
                "only_there": len(self.only_there),
            },
            "tasks": {task: asdict(shift) for task, shift in self.tasks.items()},
            "generators": [
                {"name": name, "videos": n, **{task: asdict(s) for task, s in shifts.items()}}
                for name, (n, shifts) in self.by_generator.items()
            ],
            "absent_generators": self.absent,
            "fell": [asdict(moved) for moved in self.fell],
            "rose": [asdict(moved) for moved in self.rose],
            "only_here": self.only_here[:LISTED],
            "only_there": self.only_there[:LISTED],
        }

    def test(
        self,
        task: Task,
        generator: str | None = None,
        *,
        delta: float = 0.0,
        alternative: Alternative = "two-sided",
        permutations: int | None = None,
    ) -> MeanTest:
        """Test the mean change of a task, of all videos or one generator's, against ``delta``.

        See :func:`model.paired.paired_test`.
        """
        rows = slice(None) if generator is None else self.generators == generator
        column = TASKS.index(task)
        d = (self.after - self.before)[rows, column]
        have = ~np.isnan(d)
        return paired_test(
            d[have],
            self.units[rows][have],
            delta=delta,
            alternative=alternative,
            permutations=permutations or self.config.permutations,
            seed=self.config.seed,
        )


def compare(
    videos: "pa.Table",
    baseline: "pa.Table",
    config: LeaderboardConfig | None = None,
    *,
    other_checkpoint: bool = False,
    uri: str = "the baseline",
) -> Change:
    """Hold a run against another one's videos.

    Videos are paired by their id; the content may differ, because a new version of a generator
    writes other bytes under the same id. Units (speakers or names, as in the leaderboard) are
    clusters: what a unit has in common counts once.

    Args:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema`.
        baseline: The same of the other run, see :func:`read_baseline`.
        config: Units, level, resamples, permutations, seed.
        other_checkpoint: Compare scores of different checkpoints.
        uri: Of the baseline, for messages.

    Raises:
        ScoreInputError: The two share no video, or were scored by different checkpoints.
    """
    config = config or LeaderboardConfig()
    here, there = _places(videos, "this run"), _places(baseline, display_text(uri))
    both = sorted(here.keys() & there.keys())
    mine = np.array([here[i] for i in both], np.int64)
    theirs = np.array([there[i] for i in both], np.int64)
    now, then = videos.select(_NOW).take(mine), baseline.select(_THEN).take(theirs)
    check_baseline(baseline, here, _checkpoints(now), uri, other_checkpoint=other_checkpoint)
    checkpoints = _checkpoints(then), _checkpoints(now)
    pairing = pair_videos(videos, config.pair_by)
    generators = np.array(generators_of(now), dtype=object)
    before, after = scores_of(then), scores_of(now)
    units = pairing.units[mine]
    names = sorted(set(generators))
    by_name = [
        [shift_of(before[rows, t], after[rows, t], units[rows], config) for t in range(len(TASKS))]
        for rows in (generators == name for name in names)
    ]
    by_task = [corrected(column, config) for column in zip(*by_name, strict=True)]
    overall = corrected(
        [shift_of(before[:, t], after[:, t], units, config) for t in range(len(TASKS))], config
    )
    fell, rose = _moved(both, generators, before, after, now["cause"].to_pylist())
    return Change(
        uri=uri,
        config=config,
        pair_by=pairing.by,
        ids=both,
        generators=generators,
        units=units,
        before=before,
        after=after,
        same_content=sum(
            a is not None and a == b
            for a, b in zip(
                now["source_version"].to_pylist(), then["source_version"].to_pylist(), strict=True
            )
        ),
        only_here=sorted(here.keys() - there.keys()),
        only_there=sorted(there.keys() - here.keys()),
        absent=sorted({*generators_of(baseline)} - {*generators_of(videos)}),
        checkpoints=checkpoints,
        tasks=dict(zip(TASKS, overall, strict=True)),
        by_generator={
            name: (
                int((generators == name).sum()),
                {task: by_task[t][i] for t, task in enumerate(TASKS)},
            )
            for i, name in enumerate(names)
        },
        fell=fell,
        rose=rose,
    )


def _places(table: "pa.Table", where: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for row, video_id in enumerate(table["video_id"].to_pylist()):
        if places.setdefault(video_id, row) != row:
            raise ScoreInputError(f"{where} has two rows of the video {display_text(video_id)}")
    return places


def _checkpoints(table: "pa.Table") -> list[str]:
    return sorted({str(digest) for digest in table["checkpoint"].to_pylist()})


def _moved(
    ids: list[str],
    generators: NDArray[np.object_],
    before: Floats,
    after: Floats,
    causes: list[str | None],
) -> tuple[list[Moved], list[Moved]]:
    """Return the videos that fell most and those that rose most, the most first."""
    both = ~np.isnan(before) & ~np.isnan(after)
    overall = TASKS.index("overall")
    # Overall where both runs have it, else the mean of the tasks that both have.
    used = both.copy()
    used[both[:, overall]] = np.arange(len(TASKS)) == overall
    count = np.maximum(used.sum(1), 1)
    was = np.where(used, before, 0).sum(1) / count
    now = np.where(used, after, 0).sum(1) / count
    difference = now - was
    order = np.argsort(difference, kind="stable")  # ids are sorted: equal ones stay by id

    def listed(rows: NDArray[np.int64]) -> list[Moved]:
        return [
            Moved(
                ids[row],
                str(generators[row]),
                float(was[row]),
                float(now[row]),
                float(difference[row]),
                causes[row],
            )
            for row in rows[:MOVED].tolist()
        ]

    return listed(order[difference[order] < 0]), listed(order[::-1][difference[order[::-1]] > 0])
