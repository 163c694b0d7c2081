"""What a scoring run tells Prometheus, through the exporter of the Ray node that it runs on.

Ray puts ``ray_`` before the names. Counters are of one run: each run is a time series of its own
(label ``WorkerId``). The exporter forgets the gauges about a quarter of a minute after the run has
ended: docs/nightly.md says how rules live with that.
"""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from model.tasks import TASKS
from pipelines.uris import display_text

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge

MOST_GENERATORS = 100  # a time series each: names read from the wrong part of a path are many
UNKNOWN = "(unknown)"

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "talkmos_videos_scored_total": ("Videos whose scores this run has published.", ()),
    "talkmos_videos_failed_total": ("Videos that this run has given up, by reason.", ("reason",)),
    "talkmos_clips_scored_total": ("Clips whose scores this run has published.", ()),
    "talkmos_video_seconds_scored_total": ("Seconds of video that this run has scored.", ()),
}
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "talkmos_score_mean": (
        "Mean score of a generator's videos in a task, on [1, 5].",
        ("task", "generator"),
    ),
    "talkmos_gate_passed": ("1 when the release gate passed, 0 when it failed.", ()),
    "talkmos_run_timestamp_seconds": ("When a run last came to its end, since 1970.", ()),
}


class Counted(Protocol):
    """What has been done so far; :class:`pipelines.keeper.Keeper` is one."""

    @property
    def videos(self) -> int:
        """Videos published."""

    @property
    def clips(self) -> int:
        """Clips published."""

    @property
    def reasons(self) -> Mapping[str, int]:
        """Reason -> videos given up."""


class Ended(Protocol):
    """The end of a run; :class:`pipelines.scoring.telling.Told` is one."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """``report/summary.json``: of it, ``leaderboard`` and ``gate``."""


class RunMetrics:
    """Counters and gauges of one run. Without a connection to Ray every call does nothing."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._told: dict[tuple[str, str], float] = {}  # counter and reason -> its value so far

    def progressed(self, so_far: Counted, seconds: float = 0.0) -> None:
        """Bring the counters up to what the run has done so far; call it as often as you like.

        Args:
            so_far: Totals of this run.
            seconds: Of video scored by this run in all; less than before counts nothing.
        """
        if not _connected():
            return
        self._raise("talkmos_videos_scored_total", so_far.videos)
        self._raise("talkmos_clips_scored_total", so_far.clips)
        self._raise("talkmos_video_seconds_scored_total", seconds)
        for reason, count in so_far.reasons.items():
            self._raise("talkmos_videos_failed_total", count, reason)

    def told(self, told: Ended, at: float | None = None) -> None:
        """Set the gauges at the end of a run.

        Args:
            told: Its leaderboard and its verdict.
            at: Seconds since 1970; None: now.
        """
        if not _connected():
            return
        board = told.summary["leaderboard"]
        for generator in board["generators"][:MOST_GENERATORS]:
            name = display_text(str(generator["name"] or UNKNOWN), 100)
            for task in TASKS:
                mean = (generator.get(task) or {}).get("mean")
                if mean is not None:
                    tags = {"task": task, "generator": name}
                    self._gauge("talkmos_score_mean").set(float(mean), tags=tags)
        gate = told.summary.get("gate")
        if gate is not None:
            self._gauge("talkmos_gate_passed").set(float(bool(gate["passed"])))
        self._gauge("talkmos_run_timestamp_seconds").set(time.time() if at is None else at)

    def _raise(self, name: str, total: float, reason: str = "") -> None:
        more = total - self._told.get((name, reason), 0.0)
        if more > 0:
            self._told[name, reason] = total
            tags = {"reason": display_text(reason, 100)} if reason else None
            self._counter(name).inc(more, tags=tags)

    def _counter(self, name: str) -> "Counter":
        if name not in self._counters:
            from ray.util.metrics import Counter

            description, keys = COUNTERS[name]
            self._counters[name] = Counter(name, description=description, tag_keys=keys)
        return self._counters[name]

    def _gauge(self, name: str) -> "Gauge":
        if name not in self._gauges:
            from ray.util.metrics import Gauge

            description, keys = GAUGES[name]
            self._gauges[name] = Gauge(name, description=description, tag_keys=keys)
        return self._gauges[name]


def _connected() -> bool:
    ray = sys.modules.get("ray")  # who is connected has imported it
    return ray is not None and bool(ray.is_initialized())
