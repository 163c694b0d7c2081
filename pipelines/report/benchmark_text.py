"""The account of a benchmark for a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from actors.types import DEMONSTRATION_WEIGHTS
from pipelines.report.benchmark_words import SHORT, ratio_written, scope_title, value_of, written
from pipelines.report.html import DASH
from pipelines.uris import display_text

if TYPE_CHECKING:
    from pipelines.benchmarking.output import Benchmark

SHOWN = 60  # artefacts
_HEADS = ("monotonicity", "SRCC", "selectivity", "detected")


def account(found: "Sequence[Benchmark]", where: str) -> str:
    """Write what was found as tables.

    Args:
        found: The evaluator that was measured, then others to compare it with.
        where: The report.
    """
    lines: list[str] = []
    for one in found:
        lines += [*_one(one), ""]
    if len(found) > 1:
        lines.append(f"{display_text(found[0].name, 60)}, by artefact:")
    lines += _artefacts(found[0].summary)
    lines += ["", f"report: {where}"]
    if found[0].summary["evaluator"]["demonstration"]:
        lines.append(f"DEMONSTRATION: features of {DEMONSTRATION_WEIGHTS}")
    return "\n".join(lines)


def _one(one: "Benchmark") -> list[str]:
    told = one.summary
    videos = told["videos"]
    name = display_text(one.name, 60)
    head = f"{name} ({told['evaluator']['kind']}): {videos['scored']} of {videos['asked']} videos"
    lines = [f"{head} scored, {told['corpus']['sources']} sources"]
    if videos["failed"]:
        reasons = ", ".join(
            f"{count} {display_text(reason, 40)}" for reason, count in videos["reasons"].items()
        )
        lines.append(f"failures: {reasons} (table: failures.parquet)")
    lines += [display_text(note, 300) for note in told["corpus"]["notes"]]
    rows = [("artefacts", *_HEADS)]
    for row in told["scopes"]:
        found = row["detected"]
        rows.append(
            (
                scope_title(row),
                written(row["monotonicity"]),
                written(row["srcc"]),
                _ratio(row["selectivity"]),
                f"{found['detected']} of {found['cells']}",
            )
        )
    return [*lines, *_table(rows)]


def _artefacts(told: Mapping[str, Any]) -> list[str]:
    """One line for each artefact: its harmed tasks, best figures first."""
    cells = [row for row in told["cells"] if row["relation"] == "harmed"]
    rows = [("artefact", "task", "monotonicity", "SRCC", "drop", "smallest severity", "")]
    for row in cells[:SHOWN]:
        smallest = value_of(row["smallest_severity"])
        tags = [name for name, on in (("held out", row["held_out"]), ("blind", row["blind"])) if on]
        rows.append(
            (
                display_text(row["type"], 30),
                SHORT.get(row["task"], row["task"]),
                written(row["monotonicity"]),
                written(row["srcc"]),
                written(row["drop"]),
                _severity(row, smallest),
                ", ".join(tags),
            )
        )
    more = len(cells) - SHOWN
    return _table(rows) + ([f"{more} more are in the report"] if more > 0 else [])


def _ratio(figure: Mapping[str, Any]) -> str:
    limited = ratio_written(figure)
    return limited if not limited[:1].isdigit() else written(figure, 1)


def _severity(row: Mapping[str, Any], smallest: float | None) -> str:
    if smallest is not None:
        return f"{smallest:g}"
    return DASH if row["group"] is None else "never"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
