"""The report of a training run: one HTML file that needs no network."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model.tasks import HIGH, LOW, TASKS, TITLES
from pipelines.report.charts import Point, heat_map, histogram, scatter
from pipelines.report.generic import bullets, generic
from pipelines.report.groups import group_errors, where
from pipelines.report.html import Html, el, finite, join, name_of, number
from pipelines.report.names import SHORT
from pipelines.report.page import (
    Cell,
    Column,
    Section,
    code,
    details,
    facts,
    figure,
    figure_cell,
    grid,
    page,
    table,
)
from pipelines.report.provenance import provenance
from pipelines.report.results import SPLITS, headline_split, results, tiles
from pipelines.report.training_curves import chosen_epoch, incidents, learning

if TYPE_CHECKING:
    import pyarrow as pa

WORST = 20  # videos listed per task
Columns = Mapping[str, Sequence[Any]]


def training_report(
    history: Mapping[str, Any],
    metrics: Mapping[str, Any],
    predictions: "pa.Table | Sequence[Mapping[str, Any]]",
    data_report: Mapping[str, Any],
    card: Mapping[str, Any],
) -> str:
    """Write ``report.html``.

    Args:
        history: What ``history.json`` holds.
        metrics: What ``metrics.json`` holds.
        predictions: The rows of ``predictions.parquet``, one a video.
        data_report: What ``data_report.json`` holds.
        card: What ``model_card.json`` holds (``pipelines.training.model_card.model_card``).

    Returns:
        The document. All external text in it is escaped, undefined figures carry their reason.
    """
    columns = _columns(predictions)
    held_out = headline_split(metrics)
    flag = bool(card["demonstration"]["flag"] or metrics.get("demonstration"))
    sections = [
        Section("summary", "In short", _summary(metrics, card, history)),
        Section("results", "Results", _results(metrics)),
        Section("scatter", "Predictions and labels", _scatters(columns, held_out)),
        Section("learning", "Learning", learning(history)),
        Section("correlations", "How tasks move together", _correlations(metrics)),
        Section("groups", "Errors by group", group_errors(metrics)),
        Section("worst", "Worst videos", _worst(columns)),
        Section("data", "Data", _data(data_report)),
        Section("incidents", "Incidents", incidents(history)),
        Section("provenance", "Provenance", provenance(card)),
        Section("reading", "How to read this", _reading()),
    ]
    details_of = card["model_details"]
    return page(
        f"Training report: {name_of(details_of['preset'])}",
        join([card["name"], ", trained ", details_of["date"]]),
        sections,
        banner=_banner(card) if flag else "",
        footer=f"TalkMOS {details_of['code_version']}",
    )


def _banner(card: Mapping[str, Any]) -> str:
    from pipelines.training.model_card import DEMONSTRATION

    return card["demonstration"]["statement"] or DEMONSTRATION


def _columns(predictions: "pa.Table | Sequence[Mapping[str, Any]]") -> Columns:
    if isinstance(predictions, Sequence):
        names = dict.fromkeys(name for row in predictions for name in row)
        return {name: [row.get(name) for row in predictions] for name in names}
    found: dict[str, list[Any]] = predictions.to_pydict()
    return found


def _summary(
    metrics: Mapping[str, Any], card: Mapping[str, Any], history: Mapping[str, Any]
) -> Html:
    details_of, data = card["model_details"], card["training_data"]
    train = data["train"] or {"videos": 0, "clips": 0}
    split = headline_split(metrics)
    judged = card["evaluation_data"]["splits"].get(split or "", {})
    best = chosen_epoch(history)
    epochs = len(history.get("epochs", []))
    said = el(
        "p",
        "A ",
        code(details_of["family"]),
        f" of {details_of['parameters']:,} parameters, trained on {train['videos']:,} videos "
        f"({train['clips']:,} clips) from ",
        code(data["features"]),
        f", judged on the {judged['videos']:,} videos of the {SPLITS[split or '']} split"
        if judged
        else "",
        f". Epoch {best} of {epochs} is stored." if best is not None else f". {epochs} epochs.",
    )
    return join([said, tiles(metrics)])


def _results(metrics: Mapping[str, Any]) -> Html:
    bootstrap = metrics.get("bootstrap") or {}
    if bootstrap.get("rounds"):
        level = 100 * bootstrap["level"]
        said = (
            f"Below each figure its {level:g} % bootstrap interval, "
            f"{bootstrap['rounds']:,} rounds, resampled by {name_of(bootstrap.get('by'))}."
        )
    else:
        said = "Without intervals: no bootstrap was asked for."
    return join([el("p", said, class_="quiet"), results(metrics)])


def _scatters(columns: Columns, split: str | None) -> Html:
    rows = [i for i, found in enumerate(columns.get("split", [])) if found == split]
    if split is None or not rows:
        return el("p", "No video of a held-out split was predicted.", class_="quiet")
    charts, spreads = [], []
    for index, task in enumerate(TASKS):
        labels = [finite(columns[f"{task}_label"][i]) for i in rows]
        predicted = [finite(columns[f"{task}_predicted"][i]) for i in rows]
        ids = [columns["video_id"][i] for i in rows]
        pairs = zip(labels, predicted, ids, strict=True)
        points = [Point(a, b, _said(video, b, a), index) for a, b, video in pairs]
        title = f"{TITLES[task].capitalize()}: prediction against label"
        chart = scatter(
            points, title=title, x_label="label", y_label="prediction", low=LOW, high=HIGH
        )
        count = sum(a is not None and b is not None for a, b in zip(labels, predicted, strict=True))
        caption = TITLES[task].capitalize()
        charts.append(figure(chart, caption, f"n = {count:,}", points=count > 0))
        spread = histogram(
            {"labels": labels, "predictions": predicted},
            title=f"{caption}: distribution of labels and predictions",
            x_label="score",
            low=LOW,
            high=HIGH,
        )
        spreads.append(figure(spread, caption))
    said = (
        f"Videos of the {SPLITS[split]} split. On the dashed line prediction and label are equal."
    )
    folded = details("Distributions of labels and predictions", grid(*spreads))
    return join([el("p", said), grid(*charts), folded])


def _said(video: object, predicted: float | None, label: float | None) -> str:
    if predicted is None or label is None:
        return str(video)
    return f"{video}: predicted {number(predicted, 2)}, label {number(label, 2)}"


def _correlations(metrics: Mapping[str, Any]) -> Html:
    found = metrics.get("correlations") or {}
    names = [SHORT[task] for task in TASKS]
    shown = []
    for key, title in (("labels", "Labels"), ("predictions", "Predictions")):
        matrix = found.get(key)
        if matrix:
            name = f"Correlation between tasks, {key}"
            chart = heat_map(matrix, rows=names, columns=names, title=name)
            shown.append(figure(chart, title))
    if not shown:
        return el("p", "Not measured.", class_="quiet")
    said = (
        f"Pearson correlation between the tasks {where(metrics)}. Predictions that move "
        "together much more than the labels do mean that the heads say the same five times. "
        "A dash is undefined."
    )
    return join([el("p", said), grid(*shown)])


def _worst(columns: Columns) -> Html:
    parts = []
    for task in TASKS:
        found = _errors(columns, task)
        head = f"{TITLES[task].capitalize()}"
        if not found:
            parts.append(details(head, el("p", "No video has both values.", class_="quiet")))
            continue
        rows = []
        for error, i in found:
            cells = [
                Cell(code(columns["video_id"][i]), str(columns["video_id"][i])),
                SPLITS.get(columns["split"][i], name_of(columns["split"][i])),
                figure_cell(columns[f"{task}_predicted"][i], 2),
                figure_cell(columns[f"{task}_label"][i], 2),
                Cell(f"{'+' if error > 0 else ''}{number(error, 2)}", error),
                *(name_of(columns[key][i] or "") for key in _GROUPINGS if key in columns),
            ]
            rows.append(cells)
        heads = [Column("video", "name"), Column("split")]
        heads += [Column(title, "number") for title in ("predicted", "label", "error")]
        heads += [Column(key) for key in _GROUPINGS if key in columns]
        listed = table(heads, rows, label=f"Worst videos, {TITLES[task]}")
        parts.append(details(head, listed, opened=task == TASKS[-1]))
    said = (
        f"The {WORST} videos of all splits with the largest error, prediction minus label. "
        "Those of the training split often have a label that deserves a second look."
    )
    return join([el("p", said), *reversed(parts)])


_GROUPINGS = ("generator", "speaker")


def _errors(columns: Columns, task: str) -> list[tuple[float, int]]:
    found = []
    pairs = zip(columns.get(f"{task}_predicted", []), columns.get(f"{task}_label", []), strict=True)
    for i, (raw_predicted, raw_label) in enumerate(pairs):
        predicted, label = finite(raw_predicted), finite(raw_label)
        if predicted is not None and label is not None:
            found.append((predicted - label, i))
    found.sort(key=lambda pair: (-abs(pair[0]), str(columns["video_id"][pair[1]])))
    return found[:WORST]


def _data(report: Mapping[str, Any]) -> Html:
    rest = {key: value for key, value in report.items() if key != "warnings"}
    warnings = report.get("warnings") or []
    noted = join([el("h3", "To be noted"), bullets(warnings)]) if warnings else None
    return join([noted, generic(rest)])


def _reading() -> Html:
    return facts(
        {
            "PLCC, SRCC, KRCC": "Pearson's, Spearman's and Kendall's correlation of predictions "
            "and labels: 1 is perfect, 0 is none.",
            "RMSE, MAE": "Root of the mean squared error and mean absolute error, in points of the "
            "scale from 1 to 5: 0 is perfect.",
            "Intervals": "Where the figure would probably lie had other videos of the same kind "
            "been drawn. Two models whose intervals overlap widely are not told apart.",
            "Undefined": "A correlation needs labels and predictions that vary. Where they do not "
            "there is no figure, which is neither good nor bad.",
            "Splits": "Only the test split was neither learned from nor used to choose an epoch. "
            "Splits by speaker or generator are the honest ones: random splits leak.",
            "Task weights": "How much each task counts in the loss. A weight near 0 means that the "
            "task is hardly learned.",
        }
    )
