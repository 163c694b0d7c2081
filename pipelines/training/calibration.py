"""Calibrating a trained evaluator on its validation videos, and measuring that on the test videos.

Residuals are of videos, the unit that labels, scores and promises are about. Videos without sound
are calibrated on all validation videos: those that have none, and the others with it masked.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.calibration import Calibration
from model.conformal import coverage
from model.novelty import Novelty
from model.tasks import TASKS
from model.uncertainty import Uncertainty
from model.uncertainty_config import UncertaintyConfig
from pipelines.predictions import VideoPredictions, VideoTable
from pipelines.training.verdict import Verdict

Floats = NDArray[np.float64]
METHOD = "split conformal, absolute residuals of validation videos"


@dataclass(frozen=True)
class Heard:
    """Scores of videos, and which of them have sound.

    Attributes:
        videos: Scores and labels.
        silent: [V] bool, no clip of the video has sound.
    """

    videos: VideoPredictions
    silent: NDArray[np.bool_]

    def of(self, split: str) -> NDArray[np.int64]:
        """Return the positions of a split's videos."""
        return np.flatnonzero(np.array(self.videos.videos.split, dtype=object) == split)

    @property
    def residuals(self) -> Floats:
        """Return [V, N] |score - label|, NaN where there is no score or no label."""
        return np.abs(self.videos.scores - self.videos.videos.labels)


def calibrate(
    heard: Heard, masked: VideoPredictions, verdict: Verdict, config: UncertaintyConfig
) -> Uncertainty:
    """Learn from the validation split how far scores are from labels, and what is foreign.

    Args:
        heard: All videos as they are.
        masked: The validation videos with all sound masked, so without scores where sound is
            needed.
        verdict: Distances of the clips.
        config: Settings.
    """
    val = heard.of("val")
    sounding = val[~heard.silent[val]]
    calibration = Calibration.of(
        heard.residuals[sounding],
        _groups(heard.videos.videos, sounding),
        np.abs(masked.scores - masked.videos.labels),
        [name or None for name in masked.videos.generator],
        config.min_group,
    )
    novelty = Novelty.of(
        verdict.fit, verdict.distances, verdict.silent_distances, config.novelty_quantile
    )
    return Uncertainty(calibration, novelty)


def measured(uncertainty: Uncertainty, heard: Heard, config: UncertaintyConfig) -> dict[str, Any]:
    """Hold the intervals against the labels of the test split; for the model card.

    Returns:
        JSON types: level, how it was calibrated, coverage of each task with its exact 95 %
        interval (None without a label), and what is not known.
    """
    test = heard.of("test")
    low, high = uncertainty.interval(
        heard.videos.scores[test],
        _groups(heard.videos.videos, test),
        heard.silent[test],
        config.level,
    )
    labels = heard.videos.videos.labels[test]
    calibration, novelty = uncertainty.calibration, uncertainty.novelty
    known = None
    if isinstance(novelty, Novelty):
        known = {
            "quantile": novelty.quantile,
            "validation_clips": novelty.calibrated_on,
            "training_clips": novelty.fit.clips,
            "expected_share": novelty.expected_share,
        }
    return {
        "method": METHOD,
        "level": config.level,
        "calibrated_on": {
            kind: dict(zip(TASKS, map(len, calibration.cells[silent, None]), strict=True))
            for kind, silent in (("sound", False), ("no_sound", True))
        },
        "groups": calibration.groups(config.level),
        "coverage": {
            task: asdict(coverage(low[:, t], high[:, t], labels[:, t]))
            for t, task in enumerate(TASKS)
        },
        "novelty": known,
        "notes": uncertainty.notes(config.level),
    }


def _groups(videos: VideoTable, at: NDArray[np.int64]) -> list[str | None]:
    return [videos.generator[i] or None for i in at.tolist()]
