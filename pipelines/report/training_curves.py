"""The section of a training report that shows how training went."""

from collections.abc import Mapping, Sequence
from typing import Any

from model.tasks import TASKS
from pipelines.report.charts import Line, Mark, line_chart
from pipelines.report.html import Html, el, finite, join, name_of, short_number
from pipelines.report.names import SHORT
from pipelines.report.page import Cell, Column, details, figure, figure_cell, grid, table

TERMS = ("consistency", "ranking", "alignment")  # of the loss, beside the tasks


def chosen_epoch(history: Mapping[str, Any]) -> int | None:
    """Return the epoch whose weights the checkpoint holds: the last one marked as best.

    ``history.json`` counts epochs from 0; what people read counts from 1, as here.
    """
    best = [_count(epoch) for epoch in history.get("epochs", []) if epoch.get("best")]
    return best[-1] if best else None


def _count(epoch: Mapping[str, Any]) -> int:
    return int(epoch["epoch"]) + 1


def learning(history: Mapping[str, Any]) -> Html:
    """Draw losses, correlations, task weights, learning rates and gradient norms over training."""
    epochs: Sequence[Mapping[str, Any]] = history.get("epochs", [])
    if not epochs:
        return el("p", "No epoch was finished.", class_="quiet")
    best = chosen_epoch(history)
    if best is None:
        said = "No epoch was marked as best: what is watched was undefined throughout."
    else:
        said = f"The dashed line marks epoch {best}, whose weights the checkpoint holds."
    shown = [
        figure(_loss(epochs, best), "Loss", "training and validation"),
        figure(_per_task(epochs, "val", best, "Validation loss per task"),
               "Validation loss per task"),
        figure(_per_task(epochs, "plcc", best, "Validation PLCC per task"),
               "Validation PLCC per task"),
        figure(_per_task(epochs, "srcc", best, "Validation SRCC per task"),
               "Validation SRCC per task"),
        figure(_per_task(epochs, "weights", best, "Task weights"), "Task weights", "in the loss"),
        figure(_rates(history), "Learning rate", "per step"),
        figure(_gradients(history), "Gradient norm", "before clipping, per step"),
    ]  # fmt: skip
    terms = [name for name in TERMS if any(_get(epoch, "train", name) for epoch in epochs)]
    if terms:
        x = [_count(epoch) for epoch in epochs]
        lines = [Line(name, x, [_get(epoch, "train", name) for epoch in epochs]) for name in terms]
        chart = _over_epochs(lines, "Other terms of the loss", best)
        shown.append(figure(chart, "Other terms of the loss", f"training: {', '.join(terms)}"))
    return join([el("p", said), grid(*shown), details("Figures by epoch", _table(epochs))])


def _get(epoch: Mapping[str, Any], part: str, name: str) -> float | None:
    return finite((epoch.get(part) or {}).get(name))


def _over_epochs(lines: Sequence[Line], title: str, best: int | None) -> Html:
    marks = [] if best is None else [Mark(best, f"epoch {best}")]
    return line_chart(lines, title=title, x_label="epoch", whole_x=True, marks=marks)


def _loss(epochs: Sequence[Mapping[str, Any]], best: int | None) -> Html:
    x = [_count(epoch) for epoch in epochs]
    lines = [
        Line(name, x, [_get(epoch, part, "total") for epoch in epochs])
        for part, name in (("train", "training"), ("val", "validation"))
    ]
    return _over_epochs(lines, "Training and validation loss over epochs", best)


def _per_task(epochs: Sequence[Mapping[str, Any]], part: str, best: int | None, title: str) -> Html:
    x = [_count(epoch) for epoch in epochs]
    lines = [
        Line(SHORT[task], x, [_get(epoch, part, task) for epoch in epochs], series=index)
        for index, task in enumerate(TASKS)
    ]
    return _over_epochs(lines, f"{title} over epochs", best)


def _steps(history: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    steps: Sequence[Mapping[str, Any]] = history.get("steps") or history.get("epochs", [])
    return steps


def _rates(history: Mapping[str, Any]) -> Html:
    steps = _steps(history)
    x = [step["step"] for step in steps]
    names: dict[tuple[float | None, ...], list[str]] = {}
    for name in dict.fromkeys(key for step in steps for key in step.get("lr") or {}):
        values = tuple(_get(step, "lr", name) for step in steps)
        names.setdefault(values, []).append(name)
    # Rates that are the same at every step are one line, not five on top of each other.
    lines = [
        Line(_rate_name(group), x, values, series=_rate_series(group))
        for values, group in names.items()
    ]
    return line_chart(lines, title="Learning rate over steps", x_label="step", whole_x=True)


def _rate_name(group: Sequence[str]) -> str:
    if set(TASKS) <= set(group):
        group = [*(name for name in group if name not in TASKS), "heads"]
    return ", ".join(SHORT.get(name, name) for name in group)


def _rate_series(group: Sequence[str]) -> int:
    if "trunk" in group:
        return 7
    return next((index for index, task in enumerate(TASKS) if task in group), 6)


def _gradients(history: Mapping[str, Any]) -> Html:
    steps = _steps(history)
    values = [finite(step.get("grad_norm")) for step in steps]
    known = [value for value in values if value is not None and value > 0]
    wide = bool(known) and max(known) > 30 * min(known)
    line = Line("gradient norm", [step["step"] for step in steps], values, series=5)
    title = "Gradient norm over steps"
    return line_chart([line], title=title, x_label="step", whole_x=True, log_y=wide)


def _table(epochs: Sequence[Mapping[str, Any]]) -> Html:
    columns = [
        Column(title, "number")
        for title in ("epoch", "steps", "seconds so far", "training loss", "validation loss")
    ]
    columns += [Column(f"PLCC {SHORT[task]}", "number") for task in TASKS]
    columns += [Column("watched", "number"), Column("best so far")]
    rows = [
        [
            Cell(_count(epoch), _count(epoch)),
            Cell(f"{epoch['step']:,}", epoch["step"]),
            figure_cell(epoch.get("seconds"), 1),
            figure_cell(_get(epoch, "train", "total"), 4),
            figure_cell(_get(epoch, "val", "total"), 4),
            *(figure_cell(_get(epoch, "plcc", task)) for task in TASKS),
            figure_cell(epoch.get("monitor"), 4),
            "yes" if epoch.get("best") else "",
        ]
        for epoch in epochs
    ]
    return table(columns, rows, label="Figures by epoch", tall=True)


def incidents(history: Mapping[str, Any]) -> Html:
    """List losses that were not finite and exploding gradients, with the clips of the batch."""
    found: Sequence[Mapping[str, Any]] = history.get("incidents") or []
    if not found:
        return el("p", "None: every loss was finite and no gradient exploded.")
    rows = []
    for incident in found[:200]:
        clips = [f"{video} ({clip})" for video, clip in incident.get("clips") or []]
        said = ", ".join(clips[:5]) + (f" and {len(clips) - 5} more" if len(clips) > 5 else "")
        value = finite(incident.get("value"))
        rows.append(
            [
                Cell(incident["step"], incident["step"]),
                str(incident["kind"]).replace("_", " "),
                Cell("not finite" if value is None else short_number(value), value),
                name_of(said, 400),
            ]
        )
    columns = [
        Column("step", "number"),
        Column("kind"),
        Column("value", "number"),
        Column("video (clip)", "name"),
    ]
    said = (
        f"{len(found):,} in all. A step whose loss is not finite changes no weights; at an "
        "explosion the gradient norm is far above the recent ones."
    )
    return join([el("p", said), table(columns, rows, label="Incidents", tall=len(rows) > 15)])
