"""The model card of a checkpoint: what a model is, what it was trained on, how good it is.

Headings follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), section 4.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from actors.types import DEMONSTRATION_WEIGHTS
from model.tasks import HIGH, LOW, TASKS, TITLES
from pipelines.training.model_card_text import card_markdown
from pipelines.uris import strip_credentials

__all__ = ["CardFacts", "SplitFacts", "StreamFacts", "card_markdown", "model_card"]

SCHEMA_VERSION: Final = 1
DEMONSTRATION: Final = (
    f"DEMONSTRATION: trained on features of {DEMONSTRATION_WEIGHTS}; its scores have no meaning "
    "for real quality"
)
INTENDED_USE: Final = (
    "Compare generators of talking-face video and their versions by predicted opinion scores.",
    "Find the videos, and the places in them, where a panel would probably see or hear trouble.",
    "Filter footage by predicted quality.",
)
OUT_OF_SCOPE: Final = (
    "Telling whether a video is real or generated.",
    "Judging persons, what they say, or how they look.",
    "Decisions about a single video without a person looking at it.",
    "Videos without a talking face, and scales other than opinion scores from 1 to 5.",
)
ETHICS: Final = (
    "The scores repeat the taste of the panel that gave the labels; who rated is not known here.",
    "Errors may differ between languages, skin tones, ages and recording conditions.",
    "Figures by group cover only the groups that the label table or the features name.",
    "Faces and voices are personal data: keep to the consent under which they were recorded.",
)
CAVEATS: Final = (
    "Figures hold for videos like those of the test split.",
    "On generators that training has not seen, quality metrics usually lose much correlation.",
    "Training with each generator left out in turn measures that loss.",
    "A correlation is undefined where labels or predictions do not vary: neither good nor bad.",
    "Features must be made with the settings and weights of the fingerprint; others are refused.",
)


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One modality on its way into the evaluator.

    Attributes:
        raw: Width of the stored features.
        reduced: Width after the preprocessor.
        explained_variance: Share in [0, 1] that the projection keeps; ``None`` without one.
    """

    raw: int
    reduced: int
    explained_variance: float | None = None


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """The size of one split: videos, clips, and labelled videos of each task."""

    videos: int
    clips: int
    labels: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a training run knows about its model.

    Attributes:
        preset: Name of the configuration.
        family: Kind of evaluator.
        parameters: Number of trained parameters.
        streams: Modalities read, in order.
        aux_width: Width of the auxiliary vector, 0 when it is not read.
        learned: Tasks with labels in training; there are no scores of the others.
        data_digest: Digest of features, labels and splits together.
        features: URI of the feature shards (credentials are stripped here).
        labels: URI of the label table (credentials are stripped here).
        labels_digest: Digest of the label table.
        splits_digest: Digest of which video is in which split.
        splits: Sizes of ``train``, ``val`` and ``test``.
        split_rule: Settings of the split.
        metrics: What ``metrics.json`` holds.
        backbones: Backbone to the digest of its weights.
        fingerprint: Fingerprint of the features.
        demonstration: Whether any of the backbones' weights are seeded.
        code_version: Version of the code.
        date: When training ended, ISO 8601 in UTC.
        seed: Seed of the run.
        seconds: Wall time of training.
        epochs: Epochs that were run.
        chosen_epoch: The epoch whose weights are in the checkpoint.
        monitor: What chose it, such as ``plcc/overall``.
        incidents: What ``history.json`` holds under that name.
        settings: The whole configuration of the run.
        settings_digest: Its digest.
        files: Files of the checkpoint to their digests.
        uncertainty: What :func:`pipelines.training.calibration.measured` tells of the intervals.
    """

    preset: str
    family: str
    parameters: int
    streams: Mapping[str, StreamFacts]
    aux_width: int
    learned: Sequence[str]
    data_digest: str
    features: str
    labels: str
    labels_digest: str
    splits_digest: str
    splits: Mapping[str, SplitFacts]
    split_rule: Mapping[str, Any]
    metrics: Mapping[str, Any]
    backbones: Mapping[str, str]
    fingerprint: str
    demonstration: bool
    code_version: str
    date: str
    seed: int
    seconds: float
    epochs: int
    chosen_epoch: int | None
    monitor: str
    incidents: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    settings_digest: str
    files: Mapping[str, str]
    uncertainty: Mapping[str, Any] | None = None


def model_card(facts: CardFacts) -> dict[str, Any]:
    """Compose ``model_card.json``: plain values only, undefined figures ``None`` with a reason."""
    splits = {
        name: {"videos": part.videos, "clips": part.clips, "labels": dict(part.labels)}
        for name, part in facts.splits.items()
    }
    groups = facts.metrics.get("groups") or {}
    card = {
        "schema_version": SCHEMA_VERSION,
        "name": f"TalkMOS evaluator, preset {facts.preset}",
        "demonstration": {
            "flag": facts.demonstration,
            "statement": DEMONSTRATION if facts.demonstration else None,
        },
        "model_details": {
            "preset": facts.preset,
            "family": facts.family,
            "parameters": facts.parameters,
            "streams": {
                name: {"raw_width": stream.raw, "width": stream.reduced}
                for name, stream in facts.streams.items()
            },
            "aux_width": facts.aux_width,
            "learned_tasks": list(facts.learned),
            "outputs": {task: {"title": TITLES[task], "range": [LOW, HIGH]} for task in TASKS},
            "date": facts.date,
            "code_version": facts.code_version,
            "licence": "Apache-2.0 (code); the labels and backbones keep their own terms",
        },
        "intended_use": {"uses": list(INTENDED_USE), "out_of_scope": list(OUT_OF_SCOPE)},
        "factors": {"groups": {kind: len(found) for kind, found in groups.items()}},
        "metrics": {
            "measures": _measures(facts.metrics),
            "bootstrap": facts.metrics.get("bootstrap"),
        },
        "evaluation_data": {
            "splits": {name: part for name, part in splits.items() if name != "train"},
            "split_rule": _clean(facts.split_rule),
            "splits_digest": facts.splits_digest,
        },
        "training_data": {
            "features": strip_credentials(facts.features),
            "labels": strip_credentials(facts.labels),
            "labels_digest": facts.labels_digest,
            "data_digest": facts.data_digest,
            "train": splits.get("train"),
            "preprocessor": {
                "fitted_on": "train",
                "explained_variance": {
                    name: stream.explained_variance for name, stream in facts.streams.items()
                },
            },
        },
        "training": {
            "seed": facts.seed,
            "seconds": round(facts.seconds, 1),
            "epochs": facts.epochs,
            "chosen_epoch": facts.chosen_epoch,
            "monitor": facts.monitor,
            "incidents": [_clean(incident) for incident in facts.incidents],
        },
        "quantitative_analyses": {
            "splits": facts.metrics.get("splits", {}),
            "groups": groups,
            "uncertainty": None if facts.uncertainty is None else _clean(facts.uncertainty),
        },
        "ethical_considerations": list(ETHICS),
        "caveats_and_recommendations": list(CAVEATS),
        "provenance": {
            "fingerprint": facts.fingerprint,
            "backbones": dict(facts.backbones),
            "files": dict(facts.files),
            "settings_digest": facts.settings_digest,
            "settings": _clean(facts.settings),
        },
    }
    # A card that cannot be read back (NaN, an object) is an error here, not at the reader's.
    return dict(json.loads(json.dumps(card, allow_nan=False)))


def _clean(value: Any) -> Any:
    """Strip the credentials of every URI in a tree, and write what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): _clean(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return strip_credentials(value) if isinstance(value, str) else value


def _measures(metrics: Mapping[str, Any]) -> list[str]:
    """Names of all metrics of any split and task, in order of appearance."""
    return list(
        dict.fromkeys(
            measure
            for tasks in metrics.get("splits", {}).values()
            for figures in tasks.values()
            for measure in figures["metrics"]
        )
    )
