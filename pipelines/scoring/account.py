"""The account of a scoring run for a terminal."""

from typing import Any

from model.tasks import TASKS, TITLES
from pipelines.progress import duration
from pipelines.provenance import DEMONSTRATION
from pipelines.scoring.gate import GateResult, Verdict
from pipelines.summary import failures_told, stages_told
from pipelines.uris import display_text

SHOWN_GENERATORS = 20


def account(summary: dict[str, Any], run: dict[str, Any], last: str) -> str:
    """Write what a run did, the leaderboard and the verdict.

    Args:
        summary: See :func:`pipelines.report.scoring_text.summary_json`.
        run: See :func:`pipelines.summary.summarise`.
        last: Where the report is.
    """
    videos = run["videos"]
    now = f"{videos['done']} videos scored, {videos['failed']} failed"
    lines = [f"{now}; {videos['done_before']} scored and {videos['failed_before']} failed before"]
    if "work_seconds" in run:
        work, rate = duration(run["work_seconds"]), run["clips_per_second"]
        lines += [
            f"{run['clips']} clips in {work} of work: {rate:.2f} clips/s",
            stages_told(run),
        ]
    if run["failures"]:
        lines.append(failures_told(run))
    lines += ["", *_board(summary["leaderboard"])]
    gate = summary.get("gate")
    if gate is not None:
        verdicts = [Verdict(**verdict) for verdict in gate["verdicts"]]
        lines += ["", GateResult(gate["passed"], verdicts).text()]
    lines += ["", last]
    if summary["provenance"]["demonstration"]:
        lines.append(DEMONSTRATION)
    return "\n".join(lines)


def _board(board: dict[str, Any]) -> list[str]:
    generators = board["generators"]
    names = [display_text(g["name"], 24) for g in generators[:SHOWN_GENERATORS]]
    width = max((len(name) for name in names), default=0)
    columns = [TITLES[task] for task in TASKS]
    head = "".join(f"  {title:>22}" for title in columns)
    lines = [f"{'generator':<{max(width, 9)}}  videos{head}"]
    for name, generator in zip(names, generators, strict=False):
        cells = "".join(f"  {_cell(generator[task]):>22}" for task in TASKS)
        lines.append(f"{name:<{max(width, 9)}}  {generator['videos']:>6}{cells}")
    if len(generators) > SHOWN_GENERATORS:
        lines.append(f"{len(generators) - SHOWN_GENERATORS} more are in the report")
    return lines


def _cell(entry: dict[str, Any]) -> str:
    if entry["mean"] is None:
        return "–"  # noqa: RUF001 - undefined, not minus
    if entry["low"] is None:
        return f"{entry['mean']:.2f}"
    return f"{entry['mean']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]"
