"""Scoring without videos: a processor that makes up features, and a checkpoint that reads them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from actors.features import FeaturesConfig
from actors.row import SCHEMA_VERSION
from actors.types import Row, Timings, VideoRef
from model.evaluator import build_evaluator
from model.evaluator_config import EvaluatorConfig
from pipelines.checkpoint import FeatureOrigin, pack_checkpoint, save_checkpoint
from pipelines.config import digest
from pipelines.messages import ProcessorInfo, Progress, VideoEnd
from pipelines.storage import Store
from tests.fakes import Fake
from tests.pipelines.training.training_here import preprocessor_of

SETTINGS = FeaturesConfig(modalities=("action_units", "lowlevel"))
EXTRACTORS, WEIGHTS = {"fake": "1"}, {"fake": "0"}
CONFIG = EvaluatorConfig(
    width=16, layers=1, heads=2, feedforward=32, streams=("action_units", "lowlevel"), aux=False
)


def origin(weights: dict[str, str] | None = None) -> FeatureOrigin:
    """Return the features that :class:`ScoreFake` makes up."""
    settings = {"schema_version": SCHEMA_VERSION, **SETTINGS.value_settings()}
    values = {"settings": settings, "extractors": EXTRACTORS, "weights": weights or WEIGHTS}
    return FeatureOrigin(digest(values), settings, EXTRACTORS, weights or WEIGHTS, True)


def tiny_checkpoint(folder: Path, seed: int = 0, features: FeatureOrigin | None = None) -> Path:
    """Write a small evaluator with random weights; returns its folder."""
    torch.manual_seed(seed)
    preprocessor = preprocessor_of()
    evaluator = build_evaluator(CONFIG, preprocessor.widths, 0)
    parts = pack_checkpoint(
        CONFIG, evaluator.state_dict(), preprocessor, features or origin(), {"preset": "tiny"}
    )
    save_checkpoint(Store.at(folder), "checkpoint", parts, {"kind": "card"}, "# card")
    return folder / "checkpoint"


class ScoreFake(Fake):
    """Does what a video's name says, see ``tests.fakes``; ``mute`` has no sound."""

    def load(self) -> ProcessorInfo:
        return ProcessorInfo(EXTRACTORS, WEIGHTS, True, {}, SETTINGS.left_out)

    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        for item in super().process(ref, progress, timings):
            if isinstance(item, dict):
                values = item["action_units"].astype(np.float64)
                item["lowlevel"] = np.tile(values, 4)[:, :64].astype(np.float32)
                if "mute" in ref.uri:
                    item["audio_mask"] = np.zeros_like(item["audio_mask"])
            yield item


def make_score_fake(threads: int) -> ScoreFake:
    return ScoreFake(threads)
