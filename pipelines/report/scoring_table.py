"""The table of all videos, to be sorted and filtered; the list of failures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from actors.types import FPS
from model.tasks import TASKS
from pipelines.report.html import DASH, Html, el, finite, join, name_of, number
from pipelines.report.names import SHORT
from pipelines.report.notes import Notes, interval
from pipelines.report.page import Cell, Column, code_name, figure_cell, name_cell, table
from pipelines.report.scoring_choice import ranking
from pipelines.report.scoring_words import NO_REASON, ORDER, doubt, known, span

if TYPE_CHECKING:
    import pyarrow as pa

LISTED = 2000  # videos; sorting more by hand is no longer fluid
PAGE = 100  # rows at a time
FAILURES = 300
KEY = "all-videos"
NEED = [
    "video_id", "generator", "speaker", "start_s", "end_s", "has_sound", "sync_offset",
    "sync_confidence", "ood", "demonstration", "worst_start_s", "worst_end_s", "cause",
    *(f"{task}{end}" for task in TASKS for end in ("", "_low", "_high", "_reason")),
]  # fmt: skip
_GENERATOR = 1 + len(ORDER)  # the column that the list of choices filters


def all_videos(videos: "pa.Table", where: str, *, seeded: bool = False) -> Html:
    """List the videos, the worst first, with fields that filter them.

    Args:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema`.
        where: Where the whole table is, in words.
        seeded: Every video was scored with weights for demonstrations, whatever its row says.
    """
    order = ranking(videos)
    if not order:
        return el("p", "No video was scored.", class_="quiet")
    rows = videos.select(NEED).take(order[:LISTED]).to_pylist()
    notes = Notes()
    listed = [_row(row, notes, seeded=seeded or bool(row["demonstration"])) for row in rows]
    built = table(_columns(), listed, label="All videos", key=KEY)
    said = [f"{len(order):,} video{'s' * (len(order) != 1)}, the worst overall first."]
    if len(order) > LISTED:
        said = [
            f"The {LISTED:,} worst of {len(order):,} videos. Sorting and filtering see only these."
        ]
    said.append(f"The whole table with all columns: {where}.")
    return join([
        el("p", " ".join(said)), _filters(rows) if len(rows) > 1 else None, built, notes.listed(),
    ])  # fmt: skip


def _columns() -> list[Column]:
    return [
        Column("video", "name"),
        *(
            Column(SHORT[task], "number", "ascending" if task == "overall" else None)
            for task in ORDER
        ),
        Column("generator"),
        Column("speaker"),
        Column("s", "number"),
        Column("offset, ms", "number"),
        Column("LSE-C", "number"),
        Column("worst stretch"),
        Column("findings", "name"),
        Column("unlike training"),
    ]


def _row(row: Mapping[str, Any], notes: Notes, *, seeded: bool) -> list[object]:
    start, end = finite(row["start_s"]) or 0.0, finite(row["end_s"]) or 0.0
    worst = finite(row["worst_start_s"])
    stretch = span(worst, row["worst_end_s"]) if worst is not None else DASH
    return [
        name_cell(row["video_id"], 80),
        *(_score(row, task, notes) for task in ORDER),
        name_cell(known(row["generator"])),
        name_cell(known(row["speaker"], 40), 40),
        figure_cell(end - start, 1),
        *_sync(row, notes, seeded=seeded),
        stretch,
        name_cell(row["cause"] or DASH, 120),
        {None: "not known", True: "yes", False: "no"}[row["ood"]],
    ]


def _sync(row: Mapping[str, Any], notes: Notes, *, seeded: bool) -> list[Cell]:
    """Make the cells of offset and LSE-C; an offset without trust is marked."""
    frames, confidence = finite(row["sync_offset"]), finite(row["sync_confidence"])
    if frames is None and confidence is None:
        return [figure_cell(None), figure_cell(None)]
    why = doubt(confidence, seeded=seeded)
    if seeded:
        return [Cell(join([DASH, notes.mark(f"sync {why}")])) for _ in range(2)]
    shown = figure_cell(None if frames is None else 1000 * frames / FPS, 0)
    if why and frames is not None:
        shown = Cell(join([shown.shown, notes.mark(f"offset {why}")]), shown.sort)
    return [shown, figure_cell(confidence, 1)]


def _score(row: Mapping[str, Any], task: str, notes: Notes) -> Cell:
    value = finite(row[task])
    if value is None:
        return Cell(join([DASH, notes.mark(str(row[f"{task}_reason"] or NO_REASON))]))
    low, high = finite(row[f"{task}_low"]), finite(row[f"{task}_high"])
    bounds = None if low is None or high is None else el("small", interval(low, high, 2))
    return Cell(join([number(value, 2), bounds]), value)


def _filters(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Build the fields that filter the table; without the script they stay hidden."""
    names = sorted({known(row["generator"]) for row in rows})
    parts = [
        el(
            "label",
            "Filter by text",
            el("input", type="search", placeholder="name, speaker, finding", autocomplete="off",
               spellcheck="false", aria_controls=KEY),
        )
    ]  # fmt: skip
    if len(names) > 1:
        options = [el("option", f"all {len(names):,}", value="")]
        options += [el("option", name, value=name) for name in names]
        chooser = el("select", *options, data_column=_GENERATOR, aria_controls=KEY)
        parts.append(el("label", "Generator", chooser))
    count = el("output", f"{len(rows):,} rows", aria_live="polite")
    steps = [
        el("button", name, type="button", data_step=step, aria_controls=KEY)
        for name, step in (("Previous", -1), ("Next", 1))
    ]
    return el(
        "div",
        *parts,
        *steps,
        count,
        class_="filters",
        role="search",
        hidden=True,
        data_table=KEY,
        data_page=PAGE,
    )


def failures(failed: Sequence[Mapping[str, Any]]) -> Html:
    """Count failures by stage and reason, and list them."""
    if not failed:
        return el("p", "No video failed.")
    rows = [
        [
            Cell(code_name(_name(item)), name_of(_name(item), 300)),
            known(item.get("stage"), 40),
            known(item.get("reason"), 60),
            name_cell(item.get("message") or DASH, 500),
            Cell(str(item.get("attempts") or DASH), finite(item.get("attempts"))),
        ]
        for item in failed[:FAILURES]
    ]
    columns = [
        Column("video", "name"), Column("stage"), Column("reason"), Column("message", "name"),
        Column("attempts", "number"),
    ]  # fmt: skip
    counted = [
        [known(stage, 40), known(reason, 60), Cell(f"{count:,}", count)]
        for (stage, reason), count in by_reason(failed).items()
    ]
    heads = [Column("stage"), Column("reason"), Column("videos", "number", "descending")]
    more = len(failed) - FAILURES
    cut = (
        f"The first {FAILURES} of {len(failed):,}; all are in failures.parquet." if more > 0 else ""
    )
    return join([
        el("p", f"{len(failed):,} videos have no scores."),
        table(heads, counted, label="Failures by reason"),
        el("h3", "Videos"),
        el("p", cut, class_="quiet") if cut else None,
        table(columns, rows, label="Failed videos", tall=len(rows) > 15),
    ])  # fmt: skip


def by_reason(failed: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    """Count failures by (stage, reason), the most frequent first."""
    counts: dict[tuple[str, str], int] = {}
    for item in failed:
        key = (str(item.get("stage") or "unknown"), str(item.get("reason") or "unknown"))
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _name(item: Mapping[str, Any]) -> str:
    return str(item.get("video_id") or item.get("uri") or DASH)
