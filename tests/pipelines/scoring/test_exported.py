"""What Prometheus sees: read from the exporter of a real Ray node, and with a parser of its own."""

import contextlib
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.scoring.exported import COUNTERS, GAUGES, MOST_GENERATORS, RunMetrics
from tests.support import ROOT

PATIENCE = 180.0  # seconds; a node's exporter learns of new values every ten or so
Values = dict[tuple[str, ...], float]


@dataclass
class Done:
    videos: int = 0
    clips: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass
class Told:
    summary: dict[str, Any]


def told(means: dict[str | None, float | None], passed: bool | None = None) -> Told:
    generators = [{"name": name, "videos": 3, "overall": {"mean": m}} for name, m in means.items()]
    gate = None if passed is None else {"passed": passed}
    return Told({"leaderboard": {"generators": generators}, "gate": gate})


def scrape(port: int, host: str) -> Values:
    """Name (without Ray's prefix) and labels of our own -> value summed over time series."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("ray_talkmos_"):
                own = [
                    sample.labels[k] for k in ("task", "generator", "reason") if k in sample.labels
                ]
                key = (sample.name.removeprefix("ray_"), *own)
                found[key] = found.get(key, 0.0) + sample.value
    return found


@pytest.mark.ray
def test_the_node_exports_what_a_run_did(ray_cluster: None) -> None:
    import ray

    metrics = RunMetrics()
    metrics.progressed(Done(2, 5, {"test_short": 1}), seconds=20.0)
    metrics.progressed(Done(7, 19, {"test_short": 3, "test_stalled": 1}), seconds=100.5)
    name = 'test "2" lip\n'
    ended = told({"test-good": 4.25, name: 1.5, "test-silent": None}, passed=False)
    metrics.told(ended, at=1.7e9)
    wanted: Values = {
        ("talkmos_videos_failed_total", "test_short"): 3,
        ("talkmos_videos_failed_total", "test_stalled"): 1,
        ("talkmos_score_mean", "overall", "test-good"): 4.25,
        ("talkmos_score_mean", "overall", 'test "2" lip\\n'): 1.5,
        ("talkmos_gate_passed",): 0,
        ("talkmos_run_timestamp_seconds",): 1.7e9,
    }
    # Other tests of this session may have scored on the same cluster.
    at_least: Values = {
        ("talkmos_videos_scored_total",): 7,
        ("talkmos_clips_scored_total",): 19,
        ("talkmos_video_seconds_scored_total",): 100.5,
    }
    assert {key[0] for key in wanted | at_least} == COUNTERS.keys() | GAUGES.keys()
    (node,) = [n for n in ray.nodes() if n["Alive"]]
    deadline = time.monotonic() + PATIENCE
    found: Values = {}
    while True:
        with contextlib.suppress(OSError):  # an exporter that does not answer yet
            found = scrape(node["MetricsExportPort"], node["NodeManagerAddress"])
        missing = {k: v for k, v in wanted.items() if found.get(k) != v} | {
            k: v for k, v in at_least.items() if found.get(k, 0.0) < v
        }
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(0.25)
    assert not missing, found
    assert not any("test-silent" in key for key in found)


class Recorded:
    """Stands in for a gauge or counter of Ray."""

    def __init__(self, name: str, **_: object) -> None:
        self.name = name

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        CALLS.append((self.name, value, tags))

    def inc(self, value: float, tags: dict[str, str] | None = None) -> None:
        CALLS.append((self.name, value, tags))


CALLS: list[tuple[str, float, dict[str, str] | None]] = []


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, dict[str, str] | None]]:
    import ray
    import ray.util.metrics

    CALLS.clear()
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray.util.metrics, "Gauge", Recorded)
    monkeypatch.setattr(ray.util.metrics, "Counter", Recorded)
    return CALLS


def test_counters_never_fall(recorded: list[Any]) -> None:
    metrics = RunMetrics()
    for videos in (3, 1, 4, 4):
        metrics.progressed(Done(videos))
    assert recorded == [
        ("talkmos_videos_scored_total", 3, None),
        ("talkmos_videos_scored_total", 1, None),
    ]


def test_a_mistaken_pattern_does_not_flood_prometheus(recorded: list[Any]) -> None:
    RunMetrics().told(told({f"g{i}": 3.0 for i in range(MOST_GENERATORS + 50)}, passed=True))
    names = [name for name, _, _ in recorded]
    assert names.count("talkmos_score_mean") == MOST_GENERATORS
    assert ("talkmos_gate_passed", 1.0, None) in recorded


def test_without_a_gate_there_is_no_verdict_and_the_time_is_now(recorded: list[Any]) -> None:
    before = time.time()
    RunMetrics().told(told({}))
    ((name, value, _),) = recorded
    assert name == "talkmos_run_timestamp_seconds"
    assert before <= value <= time.time()


def test_without_ray_nothing_happens_and_ray_is_not_loaded() -> None:
    code = """
import sys
from tests.pipelines.scoring.test_exported import Done, told
for name in [m for m in sys.modules if m.split(".")[0] == "ray"]:
    del sys.modules[name]
from pipelines.scoring.exported import RunMetrics
metrics = RunMetrics()
metrics.progressed(Done(3, 4, {"x": 1}), seconds=2.0)
metrics.told(told({"g": 3.0}, passed=True))
assert "ray" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
