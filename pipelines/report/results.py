"""Tables and tiles of metrics with their intervals; undefined ones with their reasons."""

from collections.abc import Mapping
from typing import Any

from model.tasks import TASKS, TITLES
from pipelines.report.html import Html, el, finite, join, number
from pipelines.report.names import SHORT
from pipelines.report.notes import Notes, interval
from pipelines.report.page import Cell, Column, details, table, tile

HEADLINE = ("plcc", "srcc", "krcc", "ccc", "rmse", "mae")
ORDER = ("test", "val", "train")
SPLITS = {"test": "test", "val": "validation", "train": "training"}
_ARROWS = {"higher": "higher is better", "lower": "lower is better", "zero": "0 is best"}


def headline_split(metrics: Mapping[str, Any]) -> str | None:
    """Return the split whose figures count: test, else validation; ``None`` without either."""
    splits = metrics.get("splits", {})
    return next((name for name in ("test", "val") if splits.get(name)), None)


def tiles(metrics: Mapping[str, Any]) -> Html:
    """Show the PLCC of each task large, with its interval, SRCC and RMSE below."""
    split = headline_split(metrics)
    if split is None:
        return el("p", "No held-out split was judged.", class_="quiet")
    shown = [
        _tile(TITLES[task], metrics["splits"][split][task])
        for task in TASKS
        if task in metrics["splits"][split]
    ]
    return el("div", *shown, class_="tiles")


def _tile(title: str, figures: Mapping[str, Any]) -> Html:
    found = figures["metrics"]
    bits = []
    for key, name in (("srcc", "SRCC"), ("rmse", "RMSE")):
        other = finite((found.get(key) or {}).get("value"))
        if other is not None:
            bits.append(f"{name} {number(other)}")
    bits.append(f"n = {figures['n']:,}")
    plcc = found.get("plcc") or {"value": None, "reason": "not measured"}
    value = finite(plcc["value"])
    if value is None:
        reason = plcc["reason"] or "no reason was given"
        return tile(title, "PLCC undefined", reason, bits, defined=False)
    low, high = finite(plcc.get("low")), finite(plcc.get("high"))
    bounds = "no interval" if low is None or high is None else interval(low, high)
    return tile(title, number(value), f"PLCC {bounds}", bits)


def results(metrics: Mapping[str, Any]) -> Html:
    """Show the main metrics of every split and task, all metrics folded away below."""
    splits = metrics.get("splits", {})
    present = [name for name in (*ORDER, *splits) if name in splits]
    present = list(dict.fromkeys(present))
    names = [name for name in HEADLINE if name in _measures(metrics)]
    columns = [Column("split"), Column("task"), Column("n", "number")]
    columns += [Column(_name(name)[0], "number") for name in names]
    notes = Notes()
    rows = [
        [
            SPLITS.get(split, split),
            SHORT.get(task, task),
            Cell(f"{figures['n']:,}", figures["n"]),
            *(_figure(figures["metrics"].get(name), notes) for name in names),
        ]
        for split in present
        for task, figures in splits[split].items()
    ]
    if not rows:
        return el("p", "Nothing was judged.", class_="quiet")
    shown = [table(columns, rows, label="Metrics by split and task"), notes.listed()]
    folded = [_all(split, splits[split], _measures(metrics)) for split in present]
    return join([*shown, details("All metrics", *folded)])


def _measures(metrics: Mapping[str, Any]) -> list[str]:
    return list(
        dict.fromkeys(
            name
            for tasks in metrics.get("splits", {}).values()
            for figures in tasks.values()
            for name in figures["metrics"]
        )
    )


def _name(key: str) -> tuple[str, str]:
    """Return a metric's title and which values are better."""
    from model.metrics import METRICS

    known = METRICS.get(key)
    return (known.title, _ARROWS[known.better]) if known else (key, "")


def _all(split: str, tasks: Mapping[str, Any], measures: list[str]) -> Html:
    notes = Notes()
    columns = [Column("metric", "name")]
    columns += [Column(SHORT.get(task, task), "number") for task in tasks]
    rows = []
    for key in measures:
        title, better = _name(key)
        head = Cell(join([title, el("small", better) if better else None]), title)
        cells = [_figure(figures["metrics"].get(key), notes) for figures in tasks.values()]
        rows.append([head, *cells])
    name = SPLITS.get(split, split)
    built = table(columns, rows, label=f"All metrics, {name} split")
    return join([el("h3", f"{name[:1].upper()}{name[1:]} split"), built, notes.listed()])


def _figure(value: Mapping[str, Any] | None, notes: Notes) -> Cell:
    if value is None:
        return Cell("not measured")
    known = finite(value["value"])
    if known is None:
        return Cell(join(["undefined", notes.mark(value["reason"] or "no reason was given")]))
    low, high = finite(value["low"]), finite(value["high"])
    if low is not None and high is not None:
        below = el("small", interval(low, high))
    elif value["reason"]:
        below = el("small", "no interval", notes.mark(value["reason"]))
    else:
        below = None
    return Cell(join([number(known), below]), known)
