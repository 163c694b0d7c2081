"""Holding the ruler against cells: the figures of each, by severity and summed up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.benchmarking.book import Book, Figure, of_sources, undefined
from pipelines.benchmarking.cells import Cell
from pipelines.benchmarking.plan import COMBINATION

if TYPE_CHECKING:
    from model.ruler_config import RulerConfig
    from model.ruler_detection import Detection

NEVER = "the score never changes"
FEW = "fewer than 3 scores along every curve"


@dataclass(frozen=True)
class Measured:
    """What the ruler found.

    Attributes:
        cells: A row for each artefact and task (more for combinations that do different things to
            a task).
        levels: A row for each artefact, task and severity: mean score, mean drop, test.
        artefacts: A row for each artefact: selectivity.
        scopes: A row for each group of artefacts, and all of them: trained and held-out types
            apart, with and without what is declared blind.
    """

    cells: list[dict[str, Any]]
    levels: list[dict[str, Any]]
    artefacts: list[dict[str, Any]]
    scopes: list[dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A cell and where its ratios are in the book.

    Attributes:
        cell: The cell.
        falls: Steps that fall.
        ties: Steps that are ties.
        missing_steps: Steps that cannot be judged.
        srcc: Rank correlation of curves.
        drop: Difference at the highest severity.
        drop_all: Difference at all severities.
        change: Absolute difference at the highest severity.
        change_all: Absolute difference at all.
        levels: Mean score and mean drop at each severity, clean first.
        varies: The score changes along at least one curve.
    """

    cell: Cell
    falls: int
    ties: int
    missing_steps: int
    srcc: int
    drop: int
    drop_all: int
    change: int
    change_all: int
    levels: list[tuple[int, int]]
    varies: bool


def measure_cells(cells: Sequence[Cell], config: "RulerConfig") -> Measured:
    """Compute every figure of the ruler with its interval."""
    from pipelines.benchmarking.scopes import artefact_rows, scope_rows

    if not cells:
        return Measured([], [], [], [])
    book = Book(config, cells[0].curves.count)
    entries = [_enter(cell, book) for cell in cells]
    artefacts, scopes = artefact_rows(entries, book), scope_rows(entries, book)
    book.resample()
    rows, levels = [], []
    for entry in entries:
        row, found = _row(entry, book)
        rows.append(row)
        levels += found
    return Measured(rows, levels, [make() for make in artefacts], [make(rows) for make in scopes])


def _enter(cell: Cell, book: Book) -> Entry:
    import numpy as np

    from model.ruler import Ratio, differences, drops, severity_correlation, steps, varies

    curves = cell.curves
    found, far, d = steps(curves, book.config.tolerance), drops(curves), differences(curves)
    levels = []
    for place in range(len(curves.severities)):
        score = curves.scores[:, place]
        drop = d[:, place - 1] if place else np.zeros(len(score))
        mean_score, mean_drop = (
            book.add(Ratio(curves.by_source(v), curves.by_source(~np.isnan(v))))
            for v in (score, drop)
        )
        levels.append((mean_score, mean_drop))
    return Entry(
        cell=cell,
        falls=book.add(found.falls),
        ties=book.add(found.ties),
        missing_steps=found.missing,
        srcc=book.add(severity_correlation(curves)),
        drop=book.add(far.drop),
        drop_all=book.add(far.drop_all),
        change=book.add(far.change),
        change_all=book.add(far.change_all),
        levels=levels,
        varies=varies(curves),
    )


def _row(entry: Entry, book: Book) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from model.ruler_detection import detection

    curves = entry.cell.curves
    found = detection(curves, book.config)
    steps = book.ratio(entry.falls)
    missing = "no score" if entry.cell.curves.missing else "nothing to compare"
    row = {
        **_named(entry.cell),
        "curves": len(curves.scores),
        "sources": steps.sources,
        "variants": int(curves.listed[:, 1:].sum()),
        "missing": curves.missing,
        "steps": int(steps.out_of.sum()),
        "falls": int(steps.found.sum()),
        "ties": int(book.ratio(entry.ties).found.sum()),
        "missing_steps": entry.missing_steps,
        "monotonicity": book.figure(entry.falls, "no step has both scores"),
        "srcc": book.figure(entry.srcc, FEW) if entry.varies else undefined(NEVER),
        "srcc_pooled": _pooled_srcc(entry.cell, book.config),
        "drop": book.figure(entry.drop, missing),
        "drop_all": book.figure(entry.drop_all, missing),
        "change": book.figure(entry.change, missing),
        "change_all": book.figure(entry.change_all, missing),
        "smallest_severity": _smallest(entry.cell, found),
    }
    levels = []
    for place, severity in enumerate(curves.severities.tolist()):
        score, drop = entry.levels[place]
        levels.append(
            {
                **_named(entry.cell),
                "severity": severity,
                "n": int(book.ratio(score).out_of.sum()),
                "score": book.figure(score, missing),
                "drop": book.figure(drop, missing),
                "p": found.p[place - 1] if place else None,
            }
        )
    return row, levels


def _smallest(cell: Cell, found: "Detection") -> Figure:
    if cell.type == COMBINATION:
        return undefined("combinations have no severity")
    return of_sources(
        {
            "value": found.severity,
            "low": found.low,
            "high": found.high,
            "reason": found.reason,
            "undefined_rounds": 0,
        }
    )


def _named(cell: Cell) -> dict[str, Any]:
    names = ("type", "title", "group", "task", "relation", "points", "held_out", "blind")
    return {name: getattr(cell, name) for name in names}


def _pooled_srcc(cell: Cell, config: "RulerConfig") -> Figure:
    """Spearman's correlation over the points of all curves, each clean video once."""
    import numpy as np

    from model.metrics import Pairs, measure
    from model.metrics_config import EvaluationConfig

    curves = cell.curves
    scores = curves.scores.copy()
    first = np.zeros(len(scores), bool)
    first[np.unique(curves.sources, return_index=True)[1]] = True
    scores[~first, 0] = np.nan  # the clean video of several curves
    severe = np.broadcast_to(curves.severities, scores.shape)
    groups = np.repeat(curves.sources, scores.shape[1])
    pairs = Pairs.of(-scores.ravel(), severe.ravel().copy(), groups)
    settings = EvaluationConfig(rounds=config.rounds, level=config.level, seed=config.seed)
    told = measure(pairs, settings, ("srcc",))["srcc"].to_dict()
    if told["reason"] == "predictions are constant":
        told["reason"] = NEVER
    return of_sources(told)
