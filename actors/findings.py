"""What is wrong in a clip or a video, in words, with start and end (docs/findings.md).

Everything is read off the stored columns of a row: no pictures, no samples, no weights. A column
that a run left out, or a descriptor that is null, silences the detectors that need it.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from actors.findings_clip import read_clip
from actors.findings_face import find_face
from actors.findings_kinds import KINDS, TABLE, Finding, finding
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
        Findings, most severe first; times in the video.
    """
    clip = read_clip(row)
    found = [*find_sync(row, clip), *find_face(clip), *find_picture(clip), *find_sound(clip)]
    kinds = {f.kind for f in found}
    if "face_jerky" in kinds:  # a head that jumps changes the light of the picture
        found = [f for f in found if f.kind != "flicker"]
    return _sorted(found)


def join(clips: list[list[Finding]]) -> list[Finding]:
    """Join the findings of a video's clips, in their order.

    Adjoining and overlapping findings of a kind become one. An offset must be told by several
    clips alike, see :func:`_offsets`.

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
    return _sorted(result)


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
    lengths = [f.end_s - f.start_s for f in group]
    values = [f.value for f in group]
    if entry.merge == "sum":
        # Lengths: of the union, where clips overlap; but sound lost in drop-outs adds up.
        value = sum(values) if worst.kind == "dropout" else min(sum(values), span[1] - span[0])
    else:
        value = float(np.average(values, weights=np.maximum(lengths, 1e-6)))
    told = [f.text for f in group]
    if entry.say is None or worst.text != entry.say(worst.value):
        # Worded by the detector: the worst speaks for all.
        return replace(worst, start_s=span[0], end_s=span[1])
    assert told
    made = finding(worst.kind, span, value)
    return replace(made, severity=max(made.severity, worst.severity))


def _offsets(clips: list[list[Finding]]) -> list[Finding]:
    """Offsets that clips agree on.

    A single clip may err, wildly where only the lips' opening tells. So either at least half of
    the clips are within a frame and a half of the median, and the median clip speaks for the
    video; or clips in a row are (an offset that begins in the middle, or drifts by up to 0.1 s a
    clip).
    """
    told = [(i, f) for i, found in enumerate(clips) for f in found]
    if not told:
        return []
    values = sorted(f.value for _, f in told)
    median = values[(len(values) - 1) // 2]
    agreeing = [f for _, f in told if abs(f.value - median) <= AGREE_S]
    if 2 * len(agreeing) >= len(clips):
        return [_spoken(agreeing)]
    rows: list[list[tuple[int, Finding]]] = []
    for i, f in told:
        last = rows[-1][-1] if rows else None
        if last and i == last[0] + 1 and abs(f.value - last[1].value) <= DRIFT_S:
            rows[-1].append((i, f))
        else:
            rows.append([(i, f)])
    return [_spoken([f for _, f in group]) for group in rows if len(group) > 1]


def _spoken(group: list[Finding]) -> Finding:
    middle = sorted(group, key=lambda f: f.value)[(len(group) - 1) // 2]
    return replace(middle, start_s=min(map(_start, group))[0], end_s=max(f.end_s for f in group))
