"""The end of a training run: predictions, metrics, checkpoint, model card, report, summary."""

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.tasks import TASKS
from pipelines import tensor_file
from pipelines.checkpoint import FeatureOrigin, pack_checkpoint, save_checkpoint
from pipelines.config import digest
from pipelines.evaluate import By, evaluate
from pipelines.prediction_tables import video_rows, write_predictions
from pipelines.predictions import (
    ClipPredictions,
    Provenance,
    VideoPredictions,
    VideoTable,
    average_clips,
)
from pipelines.report.training import training_report
from pipelines.storage import Store
from pipelines.training import state
from pipelines.training.calibration import Heard, calibrate, measured
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
    clips = _clips(data, outcome, learned)
    # Their digest is that of the checkpoint, which holds what is calibrated on them.
    unsigned = Provenance(data.index.fingerprint, "", data.index.demonstration)
    videos = average_clips(clips, _videos(data), unsigned)
    heard = Heard(videos, _silent(videos, clips))
    masked = average_clips(*_masked(data, clips, outcome), unsigned)
    uncertainty = calibrate(heard, masked, outcome.verdict, config.uncertainty)
    parts = pack_checkpoint(
        config.evaluator,
        weights,
        preprocessor,
        _origin(data),
        {"code_version": CODE_VERSION, "preset": config.preset, "learned_tasks": list(learned)},
        uncertainty=uncertainty,
    )
    videos = replace(videos, provenance=replace(unsigned, checkpoint=parts.digest))
    metrics = evaluate(videos, config.evaluation, _by(config, data))
    history = _history(data, outcome)
    write_predictions(store, videos, clips)
    _write(store, "metrics.json", metrics)
    _write(store, "history.json", history)
    facts = _facts(config, data, preprocessor, outcome, parts, metrics=metrics, monitor=monitor)
    card = model_card(replace(facts, uncertainty=measured(uncertainty, heard, config.uncertainty)))
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


def _by(config: "TrainConfig", data: TrainData) -> By:
    by = config.splits.by
    # With a generator held out the test split is one group: its videos are what is resampled.
    found: By = config.splits.within if by == "generator" else "video" if by == "column" else by
    # Variants of one clean video say little that is new: they are drawn together.
    return "source" if found == "video" and data.videos.labels.variants is not None else found


def _clips(data: TrainData, outcome: TrainOutcome, learned: tuple[str, ...]) -> ClipPredictions:
    index, at = data.index, data.clips
    return ClipPredictions(
        video_id=np.array(index.videos, dtype=np.str_)[index.video[at]],
        clip_index=index.clip_index[at],
        start_s=index.start_s[at],
        end_s=index.end_s[at],
        frames=index.frames[at],
        has_sound=index.sound_frames[at] > 0,
        scores=outcome.verdict.scores.astype(np.float64),
        learned=learned,
    )


def _silent(videos: VideoPredictions, clips: ClipPredictions) -> NDArray[np.bool_]:
    """Tell which videos have no clip with sound, [V]."""
    audible = set(clips.video_id[clips.has_sound].tolist())
    return np.array([name not in audible for name in videos.videos.video_id], np.bool_)


def _masked(
    data: TrainData, clips: ClipPredictions, outcome: TrainOutcome
) -> tuple[ClipPredictions, VideoTable]:
    """Return the clips of the validation videos as judged without their sound, and the videos."""
    scores = clips.scores.copy()
    scores[data.silenced] = outcome.verdict.silent_scores
    val = data.labels.of("val")
    without = replace(
        clips,
        video_id=clips.video_id[val],
        clip_index=clips.clip_index[val],
        start_s=clips.start_s[val],
        end_s=clips.end_s[val],
        frames=clips.frames[val],
        has_sound=np.zeros(len(val), np.bool_),
        scores=scores[val],
    )
    return without, _videos(data, "val")


def _videos(data: TrainData, split: str | None = None) -> VideoTable:
    """Tell of the videos of a split, or of all."""
    videos, index = data.videos, data.index
    here = data.splits.code >= 0 if split is None else data.splits.videos(split)
    at = np.flatnonzero(here).tolist()
    rows = videos.label[at]
    sources = videos.sources
    return VideoTable(
        video_id=[index.videos[v] for v in at],
        uri=[index.uris[v] for v in at],
        split=[SPLITS[data.splits.code[v]] for v in at],
        generator=[videos.generators[v] for v in at],
        speaker=[videos.speakers[v] for v in at],
        labels=videos.values[at],
        std=videos.labels.std[rows],
        raters=videos.labels.raters[rows],
        source=[sources[v] for v in at],
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
