"""The leaderboard of generators: intervals, and which of them really differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from model.tasks import HIGH, LOW, TASKS, TITLES
from pipelines.report.charts import Bar, bars
from pipelines.report.html import DASH, MINUS, Html, el, finite, join, number
from pipelines.report.names import SHORT
from pipelines.report.notes import Notes, interval
from pipelines.report.page import Cell, Column, details, figure, grid, name_cell, table
from pipelines.report.scoring_pairs import finding, mean_of, opposite, pairing, significant
from pipelines.report.scoring_words import NO_REASON, ORDER, known, p_value, signed
from pipelines.scoring.pairing import UNKNOWN

DRAWN = 20
LISTED = 200
PAIRS = 500


def leaderboard(board: Mapping[str, Any]) -> Html:
    """Show mean scores of the generators, drawn and listed, and their paired comparisons."""
    rows = ranked(board)
    if not rows:
        return el("p", "No video was scored, so there is nothing to compare.", class_="quiet")
    by = str(board.get("by") or "generator")
    nameless = len(rows) == 1 and rows[0].get("name") == UNKNOWN
    said = "No video names its generator: the row is all of them. " if nameless else ""
    parts = [el("p", said + _said(board)), _table(rows, by)]
    if len(rows) > 1:
        parts += [_differences(board), grid(*_charts(rows))]
    return join(parts)


def ranked(board: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the generators from best to worst, those without an overall score last."""
    rows: Sequence[Mapping[str, Any]] = board.get("generators") or []

    def place(row: Mapping[str, Any]) -> tuple[bool, float, str]:
        value = mean_of(row, "overall")
        return value is None, -(value or 0.0), str(row.get("name"))

    return sorted(rows, key=place)


def _said(board: Mapping[str, Any]) -> str:
    level = finite(board.get("level"))
    name = "Intervals" if level is None else f"{100 * level:g} % intervals"
    return (
        f"Mean scores over videos from {LOW:g} to {HIGH:g}, higher is better, best overall "
        f"quality first. {name} by bootstrap: where the mean would probably lie for other videos "
        "of the same kind."
    ) + pairing(board)


def _table(rows: Sequence[Mapping[str, Any]], by: str) -> Html:
    notes = Notes()
    columns = [Column(known(by), "name"), Column("rank", "number"), Column("videos", "number")]
    columns += [
        Column(SHORT[task], "number", "descending" if task == "overall" else None) for task in ORDER
    ]
    listed = [
        [
            name_cell(known(row.get("name"))),
            _rank(row),
            Cell(f"{row.get('videos', 0):,}", row.get("videos", 0)),
            *(_cell(row, task, notes) for task in ORDER),
        ]
        for row in rows[:LISTED]
    ]
    built = table(columns, listed, label=f"Leaderboard by {known(by)}", tall=len(listed) > 15)
    more = len(rows) - LISTED
    cut = f"And {more:,} more, in summary.json." if more > 0 else ""
    return join([built, notes.listed(), el("p", cut, class_="quiet") if cut else None])


def _rank(row: Mapping[str, Any]) -> Cell:
    rank = (row.get("overall") or {}).get("rank")
    return Cell(DASH) if rank is None else Cell(f"{rank:,}", rank)


def _cell(row: Mapping[str, Any], task: str, notes: Notes) -> Cell:
    found = row.get(task) or {}
    value = finite(found.get("mean"))
    if value is None:
        return Cell(join(["undefined", notes.mark(found.get("reason") or "no video has a score")]))
    low, high = finite(found.get("low")), finite(found.get("high"))
    if low is not None and high is not None:
        below = el("small", interval(low, high, 2))
    else:
        reason = found.get("reason") or "too few videos for an interval"
        below = el("small", "no interval", notes.mark(reason))
    count = found.get("n")
    few = count is not None and count != row.get("videos")
    return Cell(join([number(value, 2), below, el("small", f"{count:,} videos") if few else None]),
                value)  # fmt: skip


def _charts(rows: Sequence[Mapping[str, Any]]) -> list[Html]:
    drawn = []
    for task in ORDER:
        found = [row.get(task) or {} for row in rows[:DRAWN]]
        items = [
            Bar(
                known(row.get("name"), 40),
                finite(values.get("mean")),
                finite(values.get("low")),
                finite(values.get("high")),
                known(values.get("reason") or "no score"),
                TASKS.index(task),
            )
            for row, values in zip(rows, found, strict=False)
        ]
        title = TITLES[task].capitalize()
        chart = bars(
            items, title=f"{title} by generator", x_label="mean score", x_range=(LOW, HIGH)
        )
        more = f"the best {DRAWN} of {len(rows):,} overall" if len(rows) > DRAWN else ""
        drawn.append(figure(chart, title, more))
    return drawn


def _differences(board: Mapping[str, Any]) -> Html:
    pairs: Sequence[Mapping[str, Any]] = board.get("pairs") or []
    by = board.get("pair_by")
    unit = {"speaker": "the same speaker", "name": "the same name"}.get(
        str(by), f"the same unit ({known(by)})"
    )
    said = [
        (
            f"Videos of {unit} in two generators are compared with each other, so that what is "
            "hard for all does not count. p-values are corrected for the number of comparisons in "
            "a task (Holm)."
        )
    ]
    alone = board.get("unpaired_videos") or 0
    if alone:
        said.append(f"{alone:,} videos have no such unit and stand alone.")
    if any(pair.get("method") == "unpaired" for pair in pairs):
        said.append(
            "Generators that share nothing or too little are compared as independent samples, "
            "which needs larger differences."
        )
    told = {task: join(_sentence(board, task)) for task in ORDER}
    if len(set(told.values())) == 1:  # five times the same would hide that it is the same
        items = [el("li", el("b", "in every task: "), told[ORDER[0]])]
    else:
        items = [el("li", el("b", f"{SHORT[task]}: "), told[task]) for task in ORDER]
    folded = details(f"All {len(pairs):,} comparisons", _pairs(board, pairs))
    return join([
        el("h3", "Who differs from whom"), el("p", " ".join(said)), el("ul", *items), folded,
    ])  # fmt: skip


def _sentence(board: Mapping[str, Any], task: str) -> list[object]:
    pairs = [pair for pair in board.get("pairs") or [] if pair.get("task") == task]
    tested = [pair for pair in pairs if finite(pair.get("p")) is not None]
    if not tested:
        reason = next((pair["reason"] for pair in pairs if pair.get("reason")), NO_REASON)
        return [f"not tested: {known(reason, 200)}"]
    found = significant(board, task)
    if not found:
        count = len(tested)
        said = f"no significant difference ({count:,} comparison{'s' * (count != 1)})"
        # When each of them has a reservation, it is the news.
        doubts = [pair.get("reason") for pair in tested]
        return [f"{said}: {known(doubts[0], 200)}" if all(doubts) else said]
    words = [join(finding(board, pair)) for pair in found[:6]]
    more = len(found) - len(words)
    return [join(words, "; "), f"; and {more:,} more" if more > 0 else None]


def _pairs(board: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> Html:
    notes = Notes()
    columns = [
        Column("a", "name"), Column("b", "name"), Column("task"),
        *(Column(name, "number") for name in ("units", f"a {MINUS} b", "p", "p corrected")),
        Column("significant"), Column("paired"),
    ]  # fmt: skip
    rows = []
    for pair in pairs[:PAIRS]:
        count = finite(pair.get("n"))
        corrected = finite(pair.get("p_adjusted"))
        rows.append(
            [
                name_cell(known(pair.get("a"))),
                name_cell(known(pair.get("b"))),
                SHORT.get(str(pair.get("task")), str(pair.get("task"))),
                Cell("0" if count is None else f"{count:,.0f}", count or 0.0),
                _against(difference_cell(pair, notes), opposite(board, pair), notes),
                Cell(p_value(pair.get("p")), finite(pair.get("p"))),
                Cell(p_value(corrected), corrected),
                _verdict(pair, notes),
                {"paired": "yes", "unpaired": "no: independent samples"}.get(
                    str(pair.get("method")), "not said"
                ),
            ]
        )
    more = len(pairs) - PAIRS
    cut = el("p", f"And {more:,} more, in summary.json.", class_="quiet") if more > 0 else None
    said = el(
        "p",
        "Units: those that both have; where the comparison is not paired, those of both together.",
        class_="quiet",
    )
    return join([said, table(columns, rows, label="Comparisons of generators", tall=len(rows) > 15),
                 notes.listed(), cut])  # fmt: skip


def _against(cell: Cell, why: str | None, notes: Notes) -> Cell:
    return cell if why is None else Cell(join([cell.shown, notes.mark(why)]), cell.sort)


def _verdict(pair: Mapping[str, Any], notes: Notes) -> object:
    found = pair.get("significant")
    said = "not tested" if found is None else "yes" if found else "no"
    return Cell(join([said, notes.mark(str(pair["reason"]))]), said) if pair.get("reason") else said


def difference_cell(found: Mapping[str, Any], notes: Notes) -> Cell:
    """Make the cell of a difference with its interval; an undefined one says why."""
    value = finite(found.get("difference"))
    if value is None:
        return Cell(join(["undefined", notes.mark(str(found.get("reason") or NO_REASON))]))
    low, high = finite(found.get("low")), finite(found.get("high"))
    below = None
    if low is not None and high is not None:
        below = el("small", f"[{signed(low)}, {signed(high)}]")
    elif found.get("reason"):
        below = el("small", "no interval", notes.mark(str(found["reason"])))
    return Cell(join([signed(value), below]), value)
