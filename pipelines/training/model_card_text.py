"""The model card as Markdown, for a person."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from model.tasks import HIGH, LOW, TASKS, TITLES
from pipelines.report.markdown import bullets, table, text


def card_markdown(card: Mapping[str, Any]) -> str:
    """Write a model card for a person; text from outside cannot turn into markup."""
    details, training = card["model_details"], card["training"]
    data, evaluation = card["training_data"], card["evaluation_data"]
    provenance = card["provenance"]
    lines = [f"# {text(card['name'])}", ""]
    if card["demonstration"]["flag"]:
        lines += [f"> **{card['demonstration']['statement']}**", ""]
    aux = details["aux_width"]
    lines += [
        "## Model details",
        "",
        f"- Preset {text(details['preset'])}, family {text(details['family'])}",
        f"- {details['parameters']:,} parameters",
        f"- Trained {text(details['date'])} with TalkMOS {text(details['code_version'])}",
        f"- Predicts from {LOW:g} to {HIGH:g}: {', '.join(TITLES.values())}",
        f"- Auxiliary vector: {f'{aux} values' if aux else 'not read'}",
        f"- Licence: {text(details['licence'])}",
        "",
        *_streams(details["streams"], data["preprocessor"]["explained_variance"]),
        "",
        "## Intended use",
        "",
        *bullets(card["intended_use"]["uses"]),
        "",
        "Not for:",
        "",
        *bullets(card["intended_use"]["out_of_scope"]),
        "",
        "## Factors",
        "",
        *bullets(_factors(card["factors"]["groups"])),
        "",
        "## Metrics",
        "",
        text(", ".join(card["metrics"]["measures"]) or "none"),
        "",
        _bootstrap(card["metrics"]["bootstrap"]),
        "",
        "## Evaluation data",
        "",
        *_split_table(evaluation["splits"]),
        "",
        f"Split rule: {_pairs(evaluation['split_rule'])}",
        "",
        f"Digest of the splits: {text(evaluation['splits_digest'])}",
        "",
        "## Training data",
        "",
        f"- Features: {text(data['features'])}",
        f"- Labels: {text(data['labels'])}, digest {text(data['labels_digest'])}",
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
        *_uncertainty(card["quantitative_analyses"]["uncertainty"]),
        "## Ethical considerations",
        "",
        *bullets(card["ethical_considerations"]),
        "",
        "## Caveats and recommendations",
        "",
        *bullets(card["caveats_and_recommendations"]),
        "",
        "## Provenance",
        "",
        f"- Fingerprint of the features: {text(provenance['fingerprint'])}",
        *(f"- Weights of {text(k)}: {text(v)}" for k, v in provenance["backbones"].items()),
        *(f"- {text(k)}: {text(v)}" for k, v in provenance["files"].items()),
        f"- Settings: digest {text(provenance['settings_digest'])}",
        "",
        *_indented(json.dumps(provenance["settings"], indent=2, ensure_ascii=True)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _indented(block: str) -> list[str]:
    # An indented block needs no fence that its content could close.
    return [f"    {line}" for line in block.splitlines()]


def _streams(streams: Mapping[str, Any], explained: Mapping[str, float | None]) -> list[str]:
    if not streams:
        return ["No sequence is read."]
    return table(
        ["stream", "stored width", "width read", "explained variance"],
        [
            [name, part["raw_width"], part["width"], _share(explained[name])]
            for name, part in streams.items()
        ],
    )


def _share(value: float | None) -> str:
    return "not reduced" if value is None else f"{100 * value:.1f} %"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{text(key)} = {text(value)}" for key, value in values.items()) or "none"


def _factors(groups: Mapping[str, int]) -> list[str]:
    found = [f"{kind}: {count} groups, errors of each below" for kind, count in groups.items()]
    return found or ["No groups were named, so errors by group are not known."]


def _bootstrap(bootstrap: Mapping[str, Any] | None) -> str:
    if not bootstrap or not bootstrap.get("rounds"):
        return "Without intervals."
    return (
        f"In brackets: bootstrap intervals at level {text(bootstrap.get('level'))}, "
        f"{text(bootstrap['rounds'])} rounds by {text(bootstrap.get('by'))}."
    )


def _split_table(splits: Mapping[str, Any]) -> list[str]:
    heads = ["split", "videos", "clips", *(f"{TITLES[task]}, labels" for task in TASKS)]
    rows = [
        [name, part["videos"], part["clips"], *(part["labels"].get(task, 0) for task in TASKS)]
        for name, part in splits.items()
    ]
    return table(heads, rows)


def _chosen(training: Mapping[str, Any]) -> str:
    if training["chosen_epoch"] is None:
        return "No epoch could be chosen by what was watched; the last one is stored"
    return f"Epoch {training['chosen_epoch']} is stored, chosen by {text(training['monitor'])}"


def _incidents(incidents: Sequence[Mapping[str, Any]]) -> str:
    if not incidents:
        return "No incidents (losses that are not finite, exploding gradients)"
    kinds: dict[str, int] = {}
    for incident in incidents:
        kinds[str(incident["kind"])] = kinds.get(str(incident["kind"]), 0) + 1
    return "Incidents: " + ", ".join(f"{count} {text(kind)}" for kind, count in kinds.items())


def _figures(splits: Mapping[str, Any], measures: Sequence[str]) -> list[str]:
    lines = []
    for split, tasks in splits.items():
        titles = [TITLES.get(task, task) for task in tasks]
        counts = ["videos with a label", *(part["n"] for part in tasks.values())]
        rows = [counts]
        for measure in measures:
            row = [measure, *(_figure(part["metrics"].get(measure)) for part in tasks.values())]
            rows.append(row)
        lines += [f"### Split {text(split)}", "", *table(["metric", *titles], rows), ""]
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
        lines += [f"### Errors by {text(kind)}", "", *table(heads, rows), ""]
    return lines


def _group_figure(value: Mapping[str, Any] | None) -> str:
    if value is None or value.get("bias") is None or value.get("mae") is None:
        return "undefined: no label"
    return f"{value['n']}, {value['bias']:+.3f}, {value['mae']:.3f}"


def _uncertainty(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    level = f"{100 * found['level']:g} %"
    parts = found["coverage"]
    rows: list[list[object]] = [
        ["validation videos", *(found["calibrated_on"]["sound"][task] for task in TASKS)],
        ["the same without sound", *(found["calibrated_on"]["no_sound"][task] for task in TASKS)],
        ["test videos with an interval", *(parts[task]["count"] for task in TASKS)],
        [f"of them covered at {level}", *(_covered(parts[task]) for task in TASKS)],
        ["mean width", *(_width(parts[task]) for task in TASKS)],
    ]
    novelty = found["novelty"]
    told = [f"Generators with intervals of their own: {', '.join(found['groups']) or 'none'}"]
    if novelty is not None:
        told.append(
            f"Clips beyond the threshold of novelty: at most {100 * novelty['expected_share']:.1f} "
            f"% of clips like the {novelty['validation_clips']} of validation"
        )
    return [
        f"### Intervals at {level}",
        "",
        f"Method: {text(found['method'])}. Coverage holds for videos like those of validation.",
        "",
        *table(["", *(TITLES[task] for task in TASKS)], rows),
        "",
        *bullets([*told, *found["notes"]]),
        "",
    ]


def _covered(part: Mapping[str, Any]) -> str:
    if part["share"] is None:
        return "not measured"
    return f"{part['share']:.3f} [{part['low']:.3f}, {part['high']:.3f}]"


def _width(part: Mapping[str, Any]) -> str:
    return "not measured" if part["width"] is None else f"{part['width']:.2f}"
