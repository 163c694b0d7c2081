"""The summaries of a scored corpus: JSON for machines, Markdown for a chat channel."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from model.tasks import TASKS, TITLES
from pipelines.report.html import finite, number
from pipelines.report.markdown import Markup, bullets, code, table, text
from pipelines.report.names import SHORT
from pipelines.report.notes import interval
from pipelines.report.scoring_change import NOTHING_SHARED, sentence
from pipelines.report.scoring_choice import BEST, best_and_worst
from pipelines.report.scoring_leaderboard import ranked
from pipelines.report.scoring_pairs import mean_of, opposite, over, significant, winner
from pipelines.report.scoring_spread import mean, reasons, without_scores
from pipelines.report.scoring_table import NEED, by_reason
from pipelines.report.scoring_verdict import DEMONSTRATION, is_demonstration
from pipelines.report.scoring_words import ORDER, known, p_value, score, signed, span
from pipelines.scoring.facts import ReportFacts

SCHEMA_VERSION = 1
WORST = 5
STANDOUTS = 200
_ROWS, _RULES, _MOVED = 12, 10, 3  # a chat message is read on a phone
_VIDEO = (
    "video_id", "generator", "speaker", "start_s", "end_s", "worst_start_s", "worst_end_s",
    "cause", "ood",
)  # fmt: skip


def summary_json(found: ReportFacts) -> dict[str, Any]:
    """Sum up a scored corpus as plain values: what is undefined is null and has a reason.

    Returns:
        ``schema_version``, ``provenance`` (without the model card), ``counts``, ``demonstration``,
        ``gate``, ``leaderboard``, ``change`` (the last three as they are made), ``tasks`` (task ->
        mean, n, undefined: reason -> videos), ``ood`` (known, far, share), ``worst`` and ``best``
        (videos with scores and intervals), ``failures`` (videos, by stage and reason),
        ``standouts``.
    """
    columns = found.videos.select(NEED).to_pydict()
    chosen = best_and_worst(found.videos, WORST, BEST)
    none = without_scores(columns)
    flags = [flag for flag in columns["ood"] if flag is not None]
    summary = {
        "schema_version": SCHEMA_VERSION,
        "provenance": {k: v for k, v in found.provenance.items() if k != "model_card"},
        "counts": {
            **found.counts,
            "with_scores": len(columns["video_id"]) - none,
            "without_scores": none,
        },
        "demonstration": is_demonstration(found),
        "gate": found.gate,
        "tasks": {task: _task(columns, task) for task in TASKS},
        "leaderboard": found.leaderboard,
        "change": found.change,
        "ood": {
            "known": len(flags),
            "far": sum(flags),
            "share": sum(flags) / len(flags) if flags else None,
        },
        "worst": [_video(columns, row) for row in chosen.worst],
        "best": [_video(columns, row) for row in chosen.best],
        "failures": {
            "videos": len(found.failures),
            "reasons": [
                {"stage": stage, "reason": reason, "videos": count}
                for (stage, reason), count in by_reason(found.failures).items()
            ],
        },
        "standouts": {
            "total": len(found.standouts),
            "first": [dict(item) for item in found.standouts[:STANDOUTS]],
        },
    }
    plain: dict[str, Any] = _plain(summary)
    return plain


def _task(columns: Mapping[str, Sequence[Any]], task: str) -> dict[str, Any]:
    missing = reasons(columns, task)
    return {
        "mean": mean(columns[task]),
        "n": len(columns[task]) - sum(missing.values()),
        "undefined": missing,
    }


def _video(columns: Mapping[str, Sequence[Any]], row: int) -> dict[str, Any]:
    ends = {"": "score", "_low": "low", "_high": "high", "_reason": "reason"}
    return {
        **{name: columns[name][row] for name in _VIDEO},
        "scores": {
            task: {name: columns[f"{task}{end}"][row] for end, name in ends.items()}
            for task in TASKS
        },
    }


def _plain(value: Any) -> Any:
    """Make NaN and infinity null: JSON has neither."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def markdown_summary(found: ReportFacts, where: str = "report.html beside this file") -> str:
    """Write a message for a chat channel: verdict, leaderboard, changes, worst videos, failures.

    Args:
        found: The scored corpus.
        where: Where the report is.
    """
    source, counts = found.provenance, found.counts
    head = "Scores" if found.gate is None else (
        "Gate passed" if found.gate["passed"] else "Gate FAILED"
    )  # fmt: skip
    lines = [f"# {head}: {text(source.get('corpus') or 'corpus')}", ""]
    if is_demonstration(found):
        lines += [f"> **{DEMONSTRATION}**", ""]
    lines += [*_gate(found.gate), *_counts(found)]
    lines += ["", "## Leaderboard", "", *_board(found.leaderboard)]
    if found.change is not None:
        lines += ["", "## Change against the baseline", "", *_change(found.change)]
    elif source.get("baseline"):
        lines += ["", "## Change against the baseline", ""]
        lines += [f"Baseline {code(source['baseline'])}: {NOTHING_SHARED}"]
    lines += ["", "## Worst videos", "", *_worst(found)]
    failed = by_reason(found.failures)
    if failed:
        lines += ["", "## Failures", ""]
        lines += bullets(
            [f"{count:,} {reason} ({stage})" for (stage, reason), count in failed.items()][:_RULES]
        )
    lines += [
        "",
        f"Report: {text(where)}",
        "",
        (
            f"Run {text(source.get('run_id') or 'unknown')}, "
            f"{text(source.get('started') or 'unknown time')}, checkpoint "
            f"{text(source.get('digest') or 'unknown')}, {counts.get('corpus', 0):,} videos in the "
            f"corpus, TalkMOS {text(source.get('code_version') or '')}"
        ),
    ]
    return "\n".join(lines) + "\n"


def _gate(gate: Mapping[str, Any] | None) -> list[str]:
    if gate is None:
        return []
    rules = sorted(gate.get("verdicts") or [], key=lambda rule: bool(rule["passed"]))
    failed = [rule for rule in rules if not rule["passed"]]
    lines = [
        f"- **FAILED** {text(rule['rule'])}: {text(rule['reason'])}" for rule in failed[:_RULES]
    ]
    if len(failed) > _RULES:
        lines.append(f"- and {len(failed) - _RULES:,} more failed")
    passed = len(rules) - len(failed)
    return [*lines, f"- {passed:,} of {len(rules):,} rules passed", ""]


def _counts(found: ReportFacts) -> list[str]:
    counts = found.counts
    failed = counts.get("failed", 0) + counts.get("failed_before", 0)
    none = without_scores(found.videos.select(list(TASKS)).to_pydict())
    here = found.videos.num_rows - none
    return [
        (
            f"{here:,} video{'s have' if here != 1 else ' has'} at least one score, {none:,} went "
            f"through without any ({counts.get('scored', 0):,} new), {failed:,} failed."
        )
    ]


def _board(board: Mapping[str, Any]) -> list[str]:
    rows = ranked(board)
    if not rows:
        return ["No video was scored."]
    heads = ["generator", "videos", *(SHORT[task] for task in ORDER)]
    cells = [
        [known(row.get("name"), 40), f"{row.get('videos', 0):,}", *(_mean(row, t) for t in ORDER)]
        for row in rows[:_ROWS]
    ]
    lines = table(heads, cells)
    if len(rows) > _ROWS:
        lines += ["", f"and {len(rows) - _ROWS:,} more"]
    lacking = dict.fromkeys(
        why for row in rows[:_ROWS] for task in ORDER if (why := _no_interval(row.get(task) or {}))
    )
    if lacking:
        lines += ["", f"Means without an interval: {text('; '.join(lacking))}"]
    differ = significant(board, "overall")
    if differ:
        said = [_finding(board, pair) for pair in differ[:_MOVED]]
        more = len(differ) - len(said)
        tail = f"; and {more:,} more" if more > 0 else ""
        lines += ["", f"Significant in {TITLES['overall']}: {'; '.join(said)}{tail}"]
    elif len(rows) > 1:
        lines += ["", f"No significant difference in {TITLES['overall']}."]
    return lines


def _no_interval(found: Mapping[str, Any]) -> str | None:
    if finite(found.get("mean")) is None or finite(found.get("low")) is not None:
        return None
    return str(found.get("reason") or "too few videos").removeprefix("no interval: ")


def _finding(board: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    better, worse = winner(pair)
    p = p_value(pair.get("p_adjusted"))
    gap = number(abs(finite(pair.get("difference")) or 0.0), 2)
    against = opposite(board, pair)
    return (
        f"{text(known(better))} above {text(known(worse))} by {gap} {text(over(board, pair))} "
        f"(p {'' if p.startswith('<') else '= '}{p})"
        + (f"; **CAUTION**: {against}" * bool(against))
    )


def _mean(row: Mapping[str, Any], task: str) -> str:
    value = mean_of(row, task)
    if value is None:
        return "undefined"
    found = row[task]
    low, high = finite(found.get("low")), finite(found.get("high"))
    bounds = "" if low is None or high is None else f" {interval(low, high, 2)}"
    return Markup(number(value, 2) + bounds)


def _change(change: Mapping[str, Any]) -> list[str]:
    lines = bullets([f"{SHORT[task]}: {sentence(change, task)}" for task in ORDER])
    for key in ("fell", "rose"):
        for moved in (change.get(key) or [])[:_MOVED]:
            step = f"{signed(moved['difference'])} to {number(moved['after'], 2)}"
            cause = f": {text(moved['cause'])}" if moved.get("cause") else ""
            lines.append(f"- {key}: {code(moved['video_id'])} {step}{cause}")
    return lines


def _worst(found: ReportFacts) -> list[str]:
    rows = best_and_worst(found.videos, WORST, 0).worst
    if not rows:
        return ["No video has a score."]
    lines: list[str] = []
    for video in found.videos.select(NEED).take(rows).to_pylist():
        said = score(video, "overall")
        said = Markup(said) if finite(video["overall"]) is not None else said
        said = f"overall {text(said)}"
        if finite(video["worst_start_s"]) is not None:
            said += f", worst {span(video['worst_start_s'], video['worst_end_s'])}"
        cause = video["cause"] or "nothing was found by rule"
        lines.append(f"{len(lines) + 1}. {code(video['video_id'])} {said}: {text(cause)}")
    return lines
