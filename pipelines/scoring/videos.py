"""Clip rows -> video rows: means by valid frames, calibrated intervals, findings in words."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actors.findings import Finding, join
from model.tasks import NEED_SOUND, TASKS
from pipelines.predictions import NO_FRAME, NO_SOUND, NOT_LEARNED
from pipelines.scoring.columns import IDENTITY, NOVELTY, PROVENANCE, SYNC, video_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from model.uncertainty import Uncertainty

Values = dict[str, Any]
CAUSES = 3  # findings that ``cause`` names


def video_rows(
    clips: "pa.Table",
    uncertainty: "Uncertainty | None",
    *,
    level: float,
    checkpoint: str,
    learned: Sequence[str],
) -> "pa.Table":
    """Sum up the clips of each video.

    Args:
        clips: Rows of ``columns.clip_schema``; all clips of each video, next to each other.
        uncertainty: Of the checkpoint; None gives no intervals.
        level: Of the intervals.
        checkpoint: Digest of the checkpoint that ``uncertainty`` belongs to; rows that another one
            scored have no interval.
        learned: Tasks that the evaluator was trained in.
    """
    import pyarrow as pa

    groups = itertools.groupby(clips.to_pylist(), key=lambda row: row["video_id"])
    rows = [_video(list(own), learned) for _, own in groups]
    own = [row for row in rows if row["checkpoint"] == checkpoint]
    interval_columns(own, uncertainty, level)
    return pa.Table.from_pylist(rows, video_schema())


def _video(clips: list[Values], learned: Sequence[str]) -> Values:
    clips.sort(key=lambda clip: clip["clip_index"])
    frames = np.array([clip["frames"] for clip in clips], np.float64)
    first, last = clips[0], clips[-1]
    heard = any(clip["has_sound"] for clip in clips)
    worst, lowest = _worst(clips)
    found = join([[Finding(**finding) for finding in clip["findings"]] for clip in clips])
    seconds = last["end_s"] - first["start_s"]
    return {
        **{name: first[name] for name in (*IDENTITY, *PROVENANCE)},
        "clips": len(clips),
        "frames": int(frames.sum()),
        "face_frames": sum(clip["face_frames"] for clip in clips),
        "has_sound": heard,
        "start_s": first["start_s"],
        "end_s": last["end_s"],
        "worst_start_s": worst["start_s"] if worst else None,
        "worst_end_s": worst["end_s"] if worst else None,
        "worst_score": lowest,
        "cause": "; ".join(in_words(finding, seconds) for finding in found[:CAUSES]) or None,
        **_scores(clips, frames, heard=heard, learned=learned),
        **{name: _mean([clip[name] for clip in clips], frames) for name in SYNC},
        "sync_offset": _median([clip["sync_offset"] for clip in clips]),
        **_novelty(clips, frames),
        "descriptors": _struct([clip["descriptors"] for clip in clips], frames),
        "faces": _struct([clip["faces"] for clip in clips], frames),
        "findings": [asdict(finding) for finding in found],
    }


def _scores(
    clips: list[Values], frames: NDArray[np.float64], *, heard: bool, learned: Sequence[str]
) -> Values:
    values: Values = {}
    for task in TASKS:
        score = _mean([clip[task] for clip in clips], frames)
        reason = None
        if score is None:
            if task not in learned:
                reason = NOT_LEARNED
            elif task in NEED_SOUND and not heard:
                reason = NO_SOUND
            else:
                reason = NO_FRAME
        values |= {task: score, f"{task}_reason": reason, f"{task}_low": None, f"{task}_high": None}
    return values


def _worst(clips: list[Values]) -> tuple[Values | None, float | None]:
    """Return the clip with the lowest overall score; without one, the lowest mean of the others."""
    rated = []
    for clip in clips:
        known = [clip[task] for task in TASKS if clip[task] is not None]
        score = clip["overall"] if clip["overall"] is not None else None
        if score is None and known:
            score = sum(known) / len(known)
        if score is not None and clip["frames"]:
            rated.append((score, clip["clip_index"], clip))
    if not rated:
        return None, None
    score, _, clip = min(rated, key=lambda item: item[:2])
    return clip, score


def _mean(values: Iterable[float | None], weights: NDArray[np.float64]) -> float | None:
    """Average the values that there are, by weight; None when none of them weighs anything."""
    pairs = [(v, w) for v, w in zip(values, weights.tolist(), strict=True) if v is not None and w]
    if not pairs:
        return None
    return math.fsum(v * w for v, w in pairs) / math.fsum(w for _, w in pairs)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _novelty(clips: list[Values], frames: NDArray[np.float64]) -> Values:
    far = _mean([clip["ood_distance"] for clip in clips], frames)
    return dict(zip(NOVELTY, (far, None if far is None else far > 1.0), strict=True))


def _struct(parts: Sequence[Values | None], frames: NDArray[np.float64]) -> Values | None:
    """Average the numbers of a struct; counts take their maximum, texts their first."""
    known = [(part, w) for part, w in zip(parts, frames.tolist(), strict=True) if part is not None]
    if not known:
        return None
    weights = np.array([w for _, w in known])
    result: Values = {}
    for name in known[0][0]:
        values = [part[name] for part, _ in known]
        there = [value for value in values if value is not None]
        if there and isinstance(there[0], str):
            result[name] = there[0]
        elif there and isinstance(there[0], int):
            result[name] = max(there)
        else:
            result[name] = _mean(values, weights)
    return result


def interval_columns(rows: list[Values], uncertainty: "Uncertainty | None", level: float) -> None:
    """Write the intervals of video rows, in place; None without a calibration.

    Args:
        rows: Rows of videos, with scores, generator and ``has_sound``.
        uncertainty: Of the checkpoint that scored all of them.
        level: Of the intervals.
    """
    if uncertainty is None or not rows:
        return
    scores = np.array(
        [[math.nan if row[task] is None else row[task] for task in TASKS] for row in rows]
    )
    silent = np.array([not row["has_sound"] for row in rows])
    low, high = uncertainty.interval(scores, [row["generator"] for row in rows], silent, level)
    for row, lows, highs in zip(rows, low.tolist(), high.tolist(), strict=True):
        for task, a, b in zip(TASKS, lows, highs, strict=True):
            row[f"{task}_low"] = a if math.isfinite(a) else None
            row[f"{task}_high"] = b if math.isfinite(b) else None


def in_words(finding: Finding, seconds: float) -> str:
    """Say a finding with its time, unless it spans (nearly) all of ``seconds``."""
    if finding.end_s - finding.start_s >= 0.9 * seconds:
        return finding.text
    return f"{finding.text} {finding.start_s:.1f}–{finding.end_s:.1f} s"  # noqa: RUF001
