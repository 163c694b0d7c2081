"""What training shares with validation and test, and therefore need not have learned."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.train_errors import TrainInputError
from pipelines.training.matching import LabelledVideos
from pipelines.uris import display_text

I8: TypeAlias = NDArray[np.int8]

SPLITS: Final = ("train", "val", "test")
NONE: Final = -1  # the video takes no part
_CONTENT: Final = re.compile(r"\d+-\d{16,}|\"?[0-9a-f]{32}(-\d+)?\"?")
_PAIRS: Final = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True, slots=True)
class Overlap:
    """What stands in two splits.

    Attributes:
        kind: ``content`` (the same source version under two ids), ``variant`` (the clean video
            that damaged ones were made of), ``source`` (of videos whose damage is not told),
            ``speaker`` or ``generator``.
        first: The earlier split.
        second: The later split.
        shared: How many names stand in both.
        total: How many names the later split has.
        videos: Videos of the later split under shared names.
        examples: Up to three of the names.
    """

    kind: str
    first: str
    second: str
    shared: int
    total: int
    videos: int
    examples: tuple[str, ...]


def check_videos(videos: LabelledVideos, code: I8) -> None:
    """Refuse a split that puts one file on two sides under two ids.

    Raises:
        TrainInputError: Names the two ids.
    """
    seen: dict[str, int] = {}
    for v in np.flatnonzero(code >= 0).tolist():
        first = seen.setdefault(videos.index.uris[v], v)
        if code[first] != code[v]:
            apart = "put both on one side with a column (by: column)"
            if videos.labels.variants is not None:
                apart = "keep the variants of a clean video together (by: source)"
            raise TrainInputError(
                f"{videos.labels.where}: one video is in two splits: "
                f"{display_text(videos.index.uris[v])} is in {SPLITS[code[first]]} as "
                f"{display_text(videos.index.videos[first])} and in {SPLITS[code[v]]} as "
                f"{display_text(videos.index.videos[v])}. Label it under one id only, or {apart}"
            )


def overlaps(videos: LabelledVideos, code: I8) -> tuple[Overlap, ...]:
    """Find what stands in two splits.

    Args:
        videos: The videos.
        code: [V] 0 train, 1 val, 2 test, -1 takes no part.
    """
    names: dict[str, Sequence[str | None]] = {
        "content": _contents(videos),
        "source" if videos.labels.variants is None else "variant": videos.sources,
        "speaker": videos.speakers,
        "generator": videos.generators,
    }
    at = [np.flatnonzero(code == side).tolist() for side in range(len(SPLITS))]
    found = []
    for kind, values in names.items():
        sides = [[values[v] for v in members] for members in at]
        sets = [{name for name in side if name} for side in sides]
        for one, two in _PAIRS:
            shared = sets[one] & sets[two]
            if shared:
                found.append(
                    Overlap(
                        kind=kind,
                        first=SPLITS[one],
                        second=SPLITS[two],
                        shared=len(shared),
                        total=len(sets[two]),
                        videos=sum(name in shared for name in sides[two]),
                        examples=tuple(sorted(shared)[:3]),
                    )
                )
    return tuple(found)


def _contents(videos: LabelledVideos) -> list[str | None]:
    """Return what is equal for copies of one file: size and time, or an object's ETag.

    Versions that a manifest gives say nothing of the content. Two ids of one address are found by
    that.
    """
    addresses = Counter(videos.index.uris)
    return [
        version if addresses[uri] == 1 and _CONTENT.fullmatch(version) else None
        for uri, version in zip(videos.index.uris, videos.index.source_versions, strict=True)
    ]


_SAME: Final = {
    "content": "videos with {} (files of the same size and time, or the same ETag, under two ids: "
    "{})",
    "variant": "clean videos with {} (variants of one content: {}); by: source keeps them apart",
}


def warnings_of(found: Sequence[Overlap], by: str) -> tuple[str, ...]:
    """Return what a person should know of the overlaps, a sentence each.

    Args:
        found: The overlaps.
        by: How the split was made; what a split means to share is not warned of.
    """
    lines = []
    for item in found:
        if item.kind not in _SAME and item.first != SPLITS[0]:
            continue  # only what training has seen flatters
        if by == "generator" and item.kind == "generator":
            continue  # validation is drawn from the generators of training
        shown = ", ".join(display_text(name, 40) for name in item.examples)
        if item.kind in _SAME:
            told = _SAME[item.kind].format(item.first, shown)
            text = f"LEAK: {item.second} shares {item.shared} {told}"
        else:
            of_all = "all" if item.shared == item.total else f"{item.shared} of"
            text = (
                f"{of_all} {item.total} {item.kind}s of {item.second} are also in {item.first} "
                f"({item.videos} videos: {shown}): figures there say little of new {item.kind}s; "
                f"by: {item.kind} keeps them apart"
            )
        lines.append(text)
    return tuple(lines)
