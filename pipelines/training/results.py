"""The end of a training run: predictions, metrics, checkpoint, model card, report, summary."""

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from model.tasks import TASKS
from pipelines import tensor_file
from pipelines.checkpoint import FeatureOrigin, pack_checkpoint, save_checkpoint
from pipelines.config import digest
from pipelines.evaluate import By, evaluate
from pipelines.prediction_tables import video_rows, write_predictions
from pipelines.predictions import ClipPredictions, Provenance, VideoTable, average_clips
from pipelines.report.training import training_report
from pipelines.storage import Store
from pipelines.training import state
from pipelines.training.data import TrainData
from pipelines.training.leakage import SPLITS
from pipelines.training.listener import named
from pipelines.training.model_card import (
    CardFacts,
    SplitFacts,
    StreamFacts,
    card_markdown,
    model_card,
)
from pipelines.training.record import settings_digest, settings_of
from pipelines.training.worker import TrainOutcome
from pipelines.version import CODE_VERSION

if TYPE_CHECKING:
    from model.preprocessor import Preprocessor
    from pipelines.checkpoint import CheckpointParts
    from pipelines.training.config import TrainConfig

CHECKPOINT = "checkpoint"


def settle(
    config: "TrainConfig",
    data: TrainData,
    store: Store,
    preprocessor: "Preprocessor",
    outcome: TrainOutcome,
    *,
    monitor: str,
    learned: tuple[str, ...],
    started: float,
) -> dict[str, Any]:
    """Write everything a training run leaves behind; returns the summary, written last."""
    weights = tensor_file.read(store, outcome.best["weights"])[0]
    parts = pack_checkpoint(
        config.evaluator,
        weights,
        preprocessor,
        _origin(data),
        {"code_version": CODE_VERSION, "preset": config.preset, "learned_tasks": list(learned)},
    )
    clips = _clips(data, outcome, learned)
    videos = average_clips(clips, _videos(data), _provenance(data, parts))
    metrics = evaluate(videos, config.evaluation, _by(config))
    history = _history(data, outcome)
    write_predictions(store, videos, clips)
    _write(store, "metrics.json", metrics)
    _write(store, "history.json", history)
    card = model_card(
        _facts(config, data, preprocessor, outcome, parts, metrics=metrics, monitor=monitor)
    )
    save_checkpoint(store, CHECKPOINT, parts, card, card_markdown(card))
    report = training_report(history, metrics, video_rows(videos), data.report, card)
    store.write_bytes("report.html", report.encode())
    summary = _summary(config, data, outcome)
    summary |= {
        "wall_seconds": round(time.time() - started, 3),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "checkpoint": parts.digest,
        "held_out": metrics["held_out"],
        "plcc": {
            task: found["metrics"]["plcc"]["value"]
            for task, found in metrics["splits"][metrics["held_out"]].items()
        },
    }
    _write(store, "summary.json", summary)
    state.clear(store)
    return summary


def _write(store: Store, name: str, value: Any) -> None:
    store.write_bytes(name, json.dumps(value, indent=1, allow_nan=False).encode())


def _origin(data: TrainData) -> FeatureOrigin:
    index = data.index
    return FeatureOrigin(
        fingerprint=index.fingerprint,
        settings=dict((index.run or {}).get("settings", {})),
        extractors=index.extractors,
        weights=index.weights,
        demonstration=index.demonstration,
    )


def _provenance(data: TrainData, parts: "CheckpointParts") -> Provenance:
    return Provenance(data.index.fingerprint, parts.digest, data.index.demonstration)


def _by(config: "TrainConfig") -> By:
    by = config.splits.by
    if by == "column":
        return "video"
    # With a generator held out the test split is one group: its videos are what is resampled.
    return config.splits.within if by == "generator" else by


def _clips(data: TrainData, outcome: TrainOutcome, learned: tuple[str, ...]) -> ClipPredictions:
    index, at = data.index, data.clips
    return ClipPredictions(
        video_id=np.array(index.videos, dtype=np.str_)[index.video[at]],
        clip_index=index.clip_index[at],
        start_s=index.start_s[at],
        end_s=index.end_s[at],
        frames=index.frames[at],
        has_sound=index.sound_frames[at] > 0,
        scores=outcome.scores.astype(np.float64),
        learned=learned,
    )


def _videos(data: TrainData) -> VideoTable:
    videos, index = data.videos, data.index
    at = np.flatnonzero(data.splits.code >= 0).tolist()
    rows = videos.label[at]
    return VideoTable(
        video_id=[index.videos[v] for v in at],
        uri=[index.uris[v] for v in at],
        split=[SPLITS[data.splits.code[v]] for v in at],
        generator=[videos.generators[v] for v in at],
        speaker=[videos.speakers[v] for v in at],
        labels=videos.values[at],
        std=videos.labels.std[rows],
        raters=videos.labels.raters[rows],
    )


def _history(data: TrainData, outcome: TrainOutcome) -> dict[str, Any]:
    history = dict(outcome.history)
    history["incidents"] = [
        {**incident, "clips": named(data, incident["clips"])} for incident in history["incidents"]
    ]
    return history


def _facts(
    config: "TrainConfig",
    data: TrainData,
    preprocessor: "Preprocessor",
    outcome: TrainOutcome,
    parts: "CheckpointParts",
    *,
    metrics: dict[str, Any],
    monitor: str,
) -> CardFacts:
    index = data.index
    counts = {
        name: SplitFacts(
            videos=int(data.splits.videos(name).sum()),
            clips=len(data.labels.of(name)),
            labels={task: metrics["splits"][name][task]["labels"] for task in TASKS},
        )
        for name in SPLITS
    }
    streams = {
        name: StreamFacts(fitted.layout.width, fitted.width, fitted.explained)
        for name, fitted in preprocessor.streams.items()
    }
    epochs = outcome.history["epochs"]
    return CardFacts(
        preset=config.preset,
        family=config.evaluator.family,
        parameters=parameters_of(config, preprocessor),
        streams=streams,
        aux_width=preprocessor.aux_width,
        learned=parts.description["learned_tasks"],
        data_digest=data.digest,
        features=config.features,
        labels=config.labels.labels,
        labels_digest=data.videos.labels.digest,
        splits_digest=digest({"videos": _split_lists(data)}),
        splits=counts,
        split_rule=config.splits.model_dump(mode="json"),
        metrics=metrics,
        backbones=index.weights,
        fingerprint=index.fingerprint,
        demonstration=index.demonstration,
        code_version=CODE_VERSION,
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seed=config.training.seed,
        seconds=sum(outcome.seconds.values()),
        epochs=len(epochs),
        chosen_epoch=outcome.best["epoch"] + 1,
        monitor=monitor if monitor == "loss" else f"plcc/{monitor}",
        incidents=_history(data, outcome)["incidents"],
        settings=settings_of(config),
        settings_digest=settings_digest(config),
        files={name: entry["sha256"] for name, entry in parts.description["files"].items()},
    )


def _split_lists(data: TrainData) -> dict[str, list[str]]:
    index = data.index
    return {
        name: [index.videos[v] for v in np.flatnonzero(data.splits.videos(name)).tolist()]
        for name in SPLITS
    }


def parameters_of(config: "TrainConfig", preprocessor: "Preprocessor") -> int:
    """Count the parameters of the evaluator."""
    import torch

    from model.evaluator import build_evaluator

    with torch.device("meta"):
        evaluator = build_evaluator(config.evaluator, preprocessor.widths, preprocessor.aux_width)
    return sum(p.numel() for p in evaluator.parameters())


def _summary(config: "TrainConfig", data: TrainData, outcome: TrainOutcome) -> dict[str, Any]:
    seconds = outcome.seconds
    worked = seconds["data"] + seconds["steps"]
    return {
        "kind": "training",
        "code_version": CODE_VERSION,
        "preset": config.preset,
        "device": outcome.device,
        "videos": {name: int(data.splits.videos(name).sum()) for name in SPLITS},
        "clips": {name: len(data.labels.of(name)) for name in SPLITS},
        "epochs": len(outcome.history["epochs"]),
        "steps": outcome.history["epochs"][-1]["step"],
        "best": {key: outcome.best[key] for key in ("epoch", "step", "value")},
        "incidents": len(outcome.history["incidents"]),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "step_share": round(seconds["steps"] / worked, 4) if worked else None,
        "demonstration": data.index.demonstration,
    }
