"""The account of a run: ``summary.json``, and the same for a person."""

import math
import time
from typing import Any

from pipelines.config import ConfigError
from pipelines.keeper import Keeper
from pipelines.messages import PoolReport
from pipelines.progress import duration
from pipelines.provenance import DEMONSTRATION
from pipelines.resources import Plan
from pipelines.storage import strip_credentials
from pipelines.todo import Counts
from pipelines.version import CODE_VERSION


def allowed_failures(text: str | None, videos: int) -> float:
    """Return how many of ``videos`` may fail by ``--max-failures``.

    Raises:
        ConfigError: ``text`` is neither a count nor a percentage.
    """
    if text is None:
        return math.inf
    wrong = ConfigError(f"--max-failures {text}: expected a count or a percentage such as 5%")
    number = text.removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        raise wrong from None
    if not 0 <= value < math.inf or (number == text and not value.is_integer()):
        raise wrong
    return value / 100 * videos if number != text else value


def summarise(
    counts: Counts,
    keeper: Keeper,
    *,
    report: PoolReport | None,
    layout: Plan | None,
    run_id: str,
    started: float,
) -> dict[str, Any]:
    """Compose the summary of a run; all figures are of this run unless they say ``total``."""
    summary: dict[str, Any] = {
        "run_id": run_id,
        "code_version": CODE_VERSION,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 3),
        "videos": {
            "corpus": counts.corpus,
            "done_before": counts.done,
            "failed_before": counts.failed_before,
            "to_do": counts.todo,
            "done": keeper.videos,
            "failed": keeper.failed,
        },
        "clips": keeper.clips,
        "uncovered_seconds": round(keeper.uncovered_s, 3),
        "cut_off_videos": keeper.cut_off,
        "broken_frames": keeper.broken_frames,
        "black_frames": keeper.black_frames,
        "failures": dict(sorted(keeper.reasons.items())),
        "shards": {"written": keeper.shards, "bytes": keeper.bytes, "repaired": keeper.repaired},
        "total": {"videos": keeper.ledger.videos, "clips": keeper.ledger.clips},
        "driver_peak_rss_mib": round(keeper.driver_peak / 2**20),
    }
    if report is not None and layout is not None:
        work = max(report.work_seconds, 1e-9)
        busy = report.busy_seconds
        stages = sorted(report.timings.seconds.items(), key=lambda item: -item[1])
        summary |= {
            "layout": layout.layout,
            "workers": layout.workers,
            "workers_lost": report.workers_lost,
            "work_seconds": round(work, 3),
            "clips_per_second": round(keeper.clips / work, 3),
            "busy_share": round(busy / (work * layout.workers), 4),
            "stage_seconds": {name: round(seconds, 3) for name, seconds in stages},
            "stage_share": {name: round(seconds / max(busy, 1e-9), 4) for name, seconds in stages},
            "worker_peak_rss_mib": round(report.peak_rss / 2**20),
            "weights": report.info.weights,
            "notes": report.info.notes,
            "demonstration": report.info.demonstration,
        }
    return summary


def describe(layout: Plan) -> str:
    """Say in a few words where the work goes."""
    place = "on GPUs" if layout.device == "cuda" else "on CPUs"
    helpers = f", each with {layout.preparers} decoding processes" if layout.preparers else ""
    return f"{layout.workers} workers {place}, {layout.threads} thread(s) each{helpers}"


def stages_told(summary: dict[str, Any]) -> str:
    """Say what workers spent their time on."""
    shares = summary["stage_share"].items()
    return "time by stage: " + ", ".join(f"{name} {part:.0%}" for name, part in shares)


def failures_told(summary: dict[str, Any]) -> str:
    """Count the failures of a run by reason."""
    counts = ", ".join(f"{count} {reason}" for reason, count in summary["failures"].items())
    return f"failures: {counts} (table: failures.parquet)"


def told(summary: dict[str, Any], out: str) -> str:
    """Write the account of a run for a person."""
    videos, total = summary["videos"], summary["total"]
    now = f"{videos['done']} videos extracted, {videos['failed']} failed"
    before = f"{videos['done_before']} done before, {videos['failed_before']} failed before"
    lines = [f"{now}, {before}"]
    if "work_seconds" in summary:
        work, wall = duration(summary["work_seconds"]), duration(summary["wall_seconds"])
        rate, busy = summary["clips_per_second"], summary["busy_share"]
        lines.append(
            f"{summary['clips']} clips in {work} of work ({wall} in all): {rate:.2f} clips/s, "
            f"workers busy {busy:.0%}"
        )
        lines.append(stages_told(summary))
    if summary["failures"]:
        lines.append(failures_told(summary))
    if summary["cut_off_videos"]:
        lines.append(
            f"{summary['cut_off_videos']} videos end before their header says: they were cut off"
        )
    if summary["broken_frames"]:
        lines.append(f"{summary['broken_frames']} pictures could not be decoded; they are masked")
    if summary["black_frames"]:
        lines.append(f"{summary['black_frames']} pictures are all black; they are masked")
    if summary["uncovered_seconds"]:
        lines.append(f"{summary['uncovered_seconds']:.1f} s of video are in no clip (tails < 1 s)")
    place = f"{strip_credentials(out)}/features"
    lines.append(f"total: {total['videos']} videos, {total['clips']} clips in {place}")
    if summary.get("demonstration"):
        lines.append(DEMONSTRATION)
    return "\n".join(lines)
