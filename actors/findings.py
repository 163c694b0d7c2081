"""What is wrong in a clip or a video, in words, with start and end (docs/findings.md).

Everything is read off the stored columns of a row: no pictures, no samples, no weights. A column
that a run left out, or a descriptor that is null, silences the detectors that need it.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from actors.findings_clip import read_clip
from actors.findings_face import find_face
from actors.findings_kinds import KINDS, TABLE, Finding, finding
from actors.findings_mouth import ALONE_S
from actors.findings_picture import find_picture
from actors.findings_sound import find_sound
from actors.findings_sync import find_sync
from actors.types import Row

__all__ = ["KINDS", "Finding", "find", "join"]

ADJOIN_S: Final = 0.1  # spans closer than this are one
AGREE_S: Final = 0.06  # offsets of clips: a frame and a half
DRIFT_S: Final = 0.1  # from one clip to the next

VERSION = "1"  # raise it by hand when findings change: scores are then made again


def find(row: Row) -> list[Finding]:
    """Find the faults of one clip.

    Args:
        row: A feature row (actors/row.py), as the encoder emits it or as a shard gives it back:
            masks and times, and what there is of ``lowlevel``, ``landmarks``, ``descriptors``,
            ``sync`` and ``weights``.

    Returns:
        Findings, most severe first; times in the video. A mouth that is still for 0.4 to 0.6 s at
        the clip's start or end is told with severity 0.1: it counts in a video only with its other
        half in the next clip (:func:`join`).
    """
    clip = read_clip(row)
    found = [*find_sync(row, clip), *find_face(clip), *find_picture(clip), *find_sound(clip)]
    kinds = {f.kind for f in found}
    if "face_jerky" in kinds:  # a head that jumps changes the light of the picture
        found = [f for f in found if f.kind != "flicker"]
    return _sorted(found)


def join(clips: list[list[Finding]]) -> list[Finding]:
    """Join the findings of a video's clips, in their order.

    Adjoining and overlapping findings of a kind become one. A still mouth at the border of a clip
    is left out when it stays shorter than 0.6 s. An offset must be told by half of the clips, or
    by two in a row, see :func:`_offsets`.

    Args:
        clips: For each clip what :func:`find` found; empty where it found nothing.

    Returns:
        Findings of the video, most severe first.
    """
    result = _offsets([[f for f in found if f.kind == "av_offset"] for found in clips])
    for kind in TABLE:
        if kind != "av_offset":
            result += _merged(
                sorted((f for found in clips for f in found if f.kind == kind), key=_start)
            )
    return _sorted(
        [f for f in result if f.kind != "mouth_frozen" or f.end_s - f.start_s >= ALONE_S - 1e-6]
    )


def _start(found: Finding) -> tuple[float, float]:
    return found.start_s, found.end_s


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda f: (-f.severity, f.start_s, f.kind, f.end_s))


def _merged(found: list[Finding]) -> list[Finding]:
    """Merge findings of one kind, sorted by their start."""
    groups: list[list[Finding]] = []
    for each in found:
        if groups and each.start_s <= max(f.end_s for f in groups[-1]) + ADJOIN_S:
            groups[-1].append(each)
        else:
            groups.append([each])
    return [_one(group) for group in groups]


def _one(group: list[Finding]) -> Finding:
    if len(group) == 1:
        return group[0]
    worst = max(group, key=lambda f: f.severity)
    span = group[0].start_s, max(f.end_s for f in group)
    entry = TABLE[worst.kind]
    if entry.say is None:  # worded by the detector: the worst speaks for all
        return replace(worst, start_s=span[0], end_s=span[1])
    if entry.merge == "sum":
        value = min(_seconds(group), span[1] - span[0])
    else:
        lengths = [max(f.end_s - f.start_s, 1e-6) for f in group]
        value = float(np.average([f.value for f in group], weights=lengths))
    made = finding(worst.kind, span, value)
    return replace(made, severity=max(made.severity, worst.severity))


def _seconds(group: list[Finding]) -> float:
    """Sum of the values, seconds within each span, without counting time twice.

    Each value is spread evenly over its span; where spans overlap (clips that do) the densest
    counts.
    """
    borders = sorted({t for f in group for t in (f.start_s, f.end_s)})
    total = 0.0
    for start, end in pairwise(borders):
        densities = [
            f.value / (f.end_s - f.start_s) for f in group if f.start_s <= start and end <= f.end_s
        ]
        total += (end - start) * max(densities, default=0.0)
    return total


def _offsets(clips: list[list[Finding]]) -> list[Finding]:
    """Offsets that clips agree on, told where these clips are.

    A single clip may err, wildly where only the lips' opening tells. So either at least half of
    all clips (those that tell nothing included; of one or two clips that is one) are within a
    frame and a half of the median of those that tell one: the median of these speaks for them,
    once for each run of such clips. Or two clips or more in a row agree from one to the next (an
    offset that begins in the middle, or drifts by up to 0.1 s a clip).
    """
    told = [(i, f) for i, found in enumerate(clips) for f in found]
    if not told:
        return []
    values = sorted(f.value for _, f in told)
    median = values[(len(values) - 1) // 2]
    agreeing = [(i, f) for i, f in told if abs(f.value - median) <= AGREE_S]
    if 2 * len(agreeing) >= len(clips):
        middle = _middle([f for _, f in agreeing])
        return [_over(middle, run) for run in _rows(agreeing, 2 * AGREE_S)]
    return [_over(_middle(run), run) for run in _rows(told, DRIFT_S) if len(run) > 1]


def _rows(told: list[tuple[int, Finding]], most: float) -> list[list[Finding]]:
    """Findings of clips in a row, each within ``most`` seconds of the one before."""
    rows: list[list[tuple[int, Finding]]] = []
    for i, f in told:
        last = rows[-1][-1] if rows else None
        if last and i == last[0] + 1 and abs(f.value - last[1].value) <= most + 1e-9:
            rows[-1].append((i, f))
        else:
            rows.append([(i, f)])
    return [[f for _, f in row] for row in rows]


def _middle(group: list[Finding]) -> Finding:
    return sorted(group, key=lambda f: f.value)[(len(group) - 1) // 2]


def _over(said: Finding, group: list[Finding]) -> Finding:
    return replace(said, start_s=min(map(_start, group))[0], end_s=max(f.end_s for f in group))
