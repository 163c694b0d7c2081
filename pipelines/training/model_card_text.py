"""The model card as Markdown, for a person."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from model.tasks import HIGH, LOW, TASKS, TITLES
from pipelines.uris import display_text


def card_markdown(card: Mapping[str, Any]) -> str:
    """Write a model card for a person; text from outside cannot turn into markup."""
    details, training = card["model_details"], card["training"]
    data, evaluation = card["training_data"], card["evaluation_data"]
    provenance = card["provenance"]
    lines = [f"# {_text(card['name'])}", ""]
    if card["demonstration"]["flag"]:
        lines += [f"> **{card['demonstration']['statement']}**", ""]
    aux = details["aux_width"]
    lines += [
        "## Model details",
        "",
        f"- Preset {_text(details['preset'])}, family {_text(details['family'])}",
        f"- {details['parameters']:,} parameters",
        f"- Trained {_text(details['date'])} with TalkMOS {_text(details['code_version'])}",
        f"- Predicts from {LOW:g} to {HIGH:g}: {', '.join(TITLES.values())}",
        f"- Auxiliary vector: {f'{aux} values' if aux else 'not read'}",
        f"- Licence: {_text(details['licence'])}",
        "",
        *_table(
            ["stream", "stored width", "width read", "explained variance"],
            [
                [name, part["raw_width"], part["width"],
                 _share(data["preprocessor"]["explained_variance"][name])]
                for name, part in details["streams"].items()
            ],
        ),
        "",
        "## Intended use",
        "",
        *_bullets(card["intended_use"]["uses"]),
        "",
        "Not for:",
        "",
        *_bullets(card["intended_use"]["out_of_scope"]),
        "",
        "## Factors",
        "",
        *_bullets(_factors(card["factors"]["groups"])),
        "",
        "## Metrics",
        "",
        _text(", ".join(card["metrics"]["measures"]) or "none"),
        "",
        _bootstrap(card["metrics"]["bootstrap"]),
        "",
        "## Evaluation data",
        "",
        *_split_table(evaluation["splits"]),
        "",
        f"Split rule: {_pairs(evaluation['split_rule'])}",
        "",
        f"Digest of the splits: {_text(evaluation['splits_digest'])}",
        "",
        "## Training data",
        "",
        f"- Features: {_text(data['features'])}",
        f"- Labels: {_text(data['labels'])}, digest {_text(data['labels_digest'])}",
        f"- Preprocessor fitted on the {data['preprocessor']['fitted_on']} split only",
        "",
        *_split_table({"train": data["train"]} if data["train"] else {}),
        "",
        "## Training",
        "",
        f"- {training['epochs']} epochs in {training['seconds']:,.0f} s, seed {training['seed']}",
        f"- {_chosen(training)}",
        f"- {_incidents(training['incidents'])}",
        "",
        "## Quantitative analyses",
        "",
        *_figures(card["quantitative_analyses"]["splits"], card["metrics"]["measures"]),
        *_group_figures(card["quantitative_analyses"]["groups"]),
        "## Ethical considerations",
        "",
        *_bullets(card["ethical_considerations"]),
        "",
        "## Caveats and recommendations",
        "",
        *_bullets(card["caveats_and_recommendations"]),
        "",
        "## Provenance",
        "",
        f"- Fingerprint of the features: {_text(provenance['fingerprint'])}",
        *(f"- Weights of {_text(k)}: {_text(v)}" for k, v in provenance["backbones"].items()),
        *(f"- {_text(k)}: {_text(v)}" for k, v in provenance["files"].items()),
        f"- Settings: digest {_text(provenance['settings_digest'])}",
        "",
        *_indented(json.dumps(provenance["settings"], indent=2, ensure_ascii=True)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    """Show text from outside: control characters visible, no character means markup."""
    shown = display_text(str(value), 300)
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", shown)


def _bullets(texts: Sequence[object]) -> list[str]:
    return [f"- {_text(text)}" for text in texts]


def _indented(text: str) -> list[str]:
    # An indented block needs no fence that its content could close.
    return [f"    {line}" for line in text.splitlines()]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    if not rows:
        return ["(none)"]
    written = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return written + [f"| {' | '.join(_text(cell) for cell in row)} |" for row in rows]


def _share(value: float | None) -> str:
    return "not reduced" if value is None else f"{100 * value:.1f} %"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{_text(key)} = {_text(value)}" for key, value in values.items()) or "none"


def _factors(groups: Mapping[str, int]) -> list[str]:
    found = [f"{kind}: {count} groups, errors of each below" for kind, count in groups.items()]
    return found or ["No groups were named, so errors by group are not known."]


def _bootstrap(bootstrap: Mapping[str, Any] | None) -> str:
    if not bootstrap or not bootstrap.get("rounds"):
        return "Without intervals."
    return (
        f"In brackets: bootstrap intervals at level {_text(bootstrap.get('level'))}, "
        f"{_text(bootstrap['rounds'])} rounds by {_text(bootstrap.get('by'))}."
    )


def _split_table(splits: Mapping[str, Any]) -> list[str]:
    heads = ["split", "videos", "clips", *(f"{TITLES[task]}, labels" for task in TASKS)]
    rows = [
        [name, part["videos"], part["clips"], *(part["labels"].get(task, 0) for task in TASKS)]
        for name, part in splits.items()
    ]
    return _table(heads, rows)


def _chosen(training: Mapping[str, Any]) -> str:
    if training["chosen_epoch"] is None:
        return "No epoch could be chosen by what was watched; the last one is stored"
    return f"Epoch {training['chosen_epoch']} is stored, chosen by {_text(training['monitor'])}"


def _incidents(incidents: Sequence[Mapping[str, Any]]) -> str:
    if not incidents:
        return "No incidents (losses that are not finite, exploding gradients)"
    kinds: dict[str, int] = {}
    for incident in incidents:
        kinds[str(incident["kind"])] = kinds.get(str(incident["kind"]), 0) + 1
    return "Incidents: " + ", ".join(f"{count} {_text(kind)}" for kind, count in kinds.items())


def _figures(splits: Mapping[str, Any], measures: Sequence[str]) -> list[str]:
    lines = []
    for split, tasks in splits.items():
        titles = [TITLES.get(task, task) for task in tasks]
        counts = ["videos with a label", *(part["n"] for part in tasks.values())]
        rows = [counts]
        for measure in measures:
            row = [measure, *(_figure(part["metrics"].get(measure)) for part in tasks.values())]
            rows.append(row)
        lines += [f"### Split {_text(split)}", "", *_table(["metric", *titles], rows), ""]
    return lines


def _figure(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "not measured"
    if value["value"] is None:
        return f"undefined: {value['reason']}"
    written = f"{value['value']:.3f}"
    if value["low"] is None or value["high"] is None:
        return f"{written} ({value['reason']})" if value["reason"] else written
    return f"{written} [{value['low']:.3f}, {value['high']:.3f}]"


def _group_figures(groups: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, found in groups.items():
        heads = [kind, *(f"{TITLES[task]}: n, bias, MAE" for task in TASKS)]
        rows = [
            [name, *(_group_figure(tasks.get(task)) for task in TASKS)]
            for name, tasks in found.items()
        ]
        lines += [f"### Errors by {_text(kind)}", "", *_table(heads, rows), ""]
    return lines


def _group_figure(value: Mapping[str, Any] | None) -> str:
    if value is None or value.get("bias") is None or value.get("mae") is None:
        return "undefined: no label"
    return f"{value['n']}, {value['bias']:+.3f}, {value['mae']:.3f}"
