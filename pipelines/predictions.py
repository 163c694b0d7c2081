"""Predictions of clips, and what they say of a video.

A video's score is the mean over its clips weighted by their valid frames (SPEC section 8). A clip
without sound cannot be judged in :data:`model.tasks.NEED_SOUND`, so it has no score there and does
not count; a video without any such clip has none, with the reason.

Legend: C clips, V videos, N = 5 tasks in the order of :data:`model.tasks.TASKS`. A missing number
is NaN. As Parquet: :mod:`pipelines.prediction_tables`.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.tasks import NEED_SOUND, TASKS

NO_CLIP = "no clip"
NO_SOUND = "no sound"
NO_FRAME = "no valid frame"
NOT_LEARNED = "not learned"  # the evaluator never saw a label of the task
REASONS = (NO_CLIP, NO_SOUND, NO_FRAME, NOT_LEARNED)

Floats = NDArray[np.float64]
_SOUND = np.array([task in NEED_SOUND for task in TASKS])


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the predictions.

    Attributes:
        fingerprint: Of the features.
        checkpoint: Digest of the checkpoint.
        demonstration: Seeded backbones took part, so the scores mean nothing for real quality.
    """

    fingerprint: str
    checkpoint: str
    demonstration: bool


@dataclass(frozen=True, slots=True)
class ClipPredictions:
    """What an evaluator said of C clips.

    Attributes:
        video_id: [C] text.
        clip_index: [C] whole numbers, distinct within a video.
        start_s: [C] start in the video, seconds.
        end_s: [C] end in the video, seconds.
        frames: [C] valid frames, at least 0.
        has_sound: [C] bool, the clip has sound somewhere.
        scores: [C, N] finite, of all tasks; those that the clip cannot be judged in are ignored.
        learned: Tasks that the evaluator was trained in; it has no say in the others.
    """

    video_id: NDArray[np.str_]
    clip_index: NDArray[np.int64]
    start_s: Floats
    end_s: Floats
    frames: NDArray[np.int64]
    has_sound: NDArray[np.bool_]
    scores: Floats
    learned: tuple[str, ...] = TASKS

    def __len__(self) -> int:
        return len(self.video_id)

    @property
    def unjudged(self) -> NDArray[np.bool_]:
        """Where [C, N] there is no score: no sound for it, or the task was never learned."""
        strange = np.array([task not in self.learned for task in TASKS])
        result: NDArray[np.bool_] = (~self.has_sound[:, None] & _SOUND) | strange
        return result

    @property
    def judged(self) -> Floats:
        """Scores [C, N] with NaN where the clip cannot be judged."""
        return np.where(self.unjudged, np.nan, self.scores.astype(np.float64))


@dataclass(frozen=True, slots=True)
class VideoTable:
    """V videos and their labels; also those that have no clip.

    Attributes:
        video_id: V distinct names.
        uri: Where they were read, credentials stripped.
        split: ``train``, ``val`` or ``test``; None when there are no splits.
        generator: Who made them, None when unknown.
        speaker: Who is seen, None when unknown.
        labels: [V, N] in [1, 5], NaN where missing.
        std: [V, N] standard deviation of the raters' scores, NaN where unknown.
        raters: [V, N] number of raters, NaN where unknown.
        source: The clean video that each was made of, None when unknown; empty: all are unknown.
    """

    video_id: list[str]
    uri: list[str]
    split: list[str | None]
    generator: list[str | None]
    speaker: list[str | None]
    labels: Floats
    std: Floats
    raters: Floats
    source: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.video_id)


@dataclass(frozen=True, slots=True)
class VideoPredictions:
    """Scores of V videos.

    Attributes:
        videos: The videos.
        clips: [V] clips of each.
        frames: [V] valid frames of all its clips.
        scores: [V, N], NaN where there is none.
        reasons: V times N: why there is no score (one of :data:`REASONS`), None where there is one.
        provenance: What made them.
    """

    videos: VideoTable
    clips: NDArray[np.int64]
    frames: NDArray[np.int64]
    scores: Floats
    reasons: list[tuple[str | None, ...]]
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.videos)


def average_clips(
    clips: ClipPredictions, videos: VideoTable, provenance: Provenance
) -> VideoPredictions:
    """Average the scores of each video's clips, weighted by valid frames.

    The result does not depend on the order of the clips, to the last bit.

    Raises:
        ValueError: A clip occurs twice or belongs to none of the videos, or a score is not finite.
    """
    place = {video_id: i for i, video_id in enumerate(videos.video_id)}
    if len(place) != len(videos):
        raise ValueError(f"video {_twice(videos.video_id)} is listed twice")
    strangers = sorted(set(clips.video_id.tolist()) - place.keys())
    if strangers:
        raise ValueError(f"clips of {strangers[0]}, which is not among the videos")
    owner = np.array([place[name] for name in clips.video_id.tolist()], np.int64)
    order = np.lexsort((clips.clip_index, owner))
    same = (np.diff(owner[order]) == 0) & (np.diff(clips.clip_index[order]) == 0)
    if same.any():
        raise ValueError(f"{_name(clips, order[np.flatnonzero(same)[0]])} was predicted twice")
    bad = ~np.isfinite(clips.judged) & ~clips.unjudged
    if bad.any():
        c, t = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{_name(clips, c)}: the score of {TASKS[t]} is {clips.scores[c, t]}")
    owner, scores, frames = owner[order], clips.judged[order], clips.frames[order]
    weight = np.where(np.isnan(scores), 0, frames[:, None])  # [C, N]
    sums, weights = np.zeros((2, len(videos), len(TASKS)))
    np.add.at(sums, owner, weight * np.nan_to_num(scores))
    np.add.at(weights, owner, weight)
    count = np.bincount(owner, minlength=len(videos))
    heard = np.bincount(owner, clips.has_sound[order], minlength=len(videos)) > 0
    means = np.where(weights > 0, sums / np.where(weights > 0, weights, 1), np.nan)
    reasons = [
        tuple(
            None
            if weights[v, t] > 0
            else NOT_LEARNED
            if TASKS[t] not in clips.learned
            else NO_CLIP
            if not count[v]
            else NO_SOUND
            if _SOUND[t] and not heard[v]
            else NO_FRAME
            for t in range(len(TASKS))
        )
        for v in range(len(videos))
    ]
    total = np.bincount(owner, frames, minlength=len(videos)).astype(np.int64)
    return VideoPredictions(videos, count.astype(np.int64), total, means, reasons, provenance)


def _twice(names: list[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)


def _name(clips: ClipPredictions, row: int) -> str:
    return f"clip {clips.clip_index[row]} of video {clips.video_id[row]}"
