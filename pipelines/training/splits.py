"""Splits: which video serves training, which validation, which the test."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from model.config import Config
from pipelines.hashing import hash_texts
from pipelines.train_errors import TrainInputError
from pipelines.training.cleaning import CleanResult
from pipelines.training.leakage import NONE, SPLITS, Overlap, check_videos, overlaps, warnings_of
from pipelines.training.matching import LabelledVideos
from pipelines.training.split_column import by_column
from pipelines.uris import display_text

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SPLITS", "TRAIN", "Splits", "SplitsConfig", "assign", "folds"]

I8: TypeAlias = NDArray[np.int8]
Bool: TypeAlias = NDArray[np.bool_]

TRAIN: Final = 0
_SALTS_TRIED: Final = 1_000

Text = Annotated[str, Field(coerce_numbers_to_str=True)]


class SplitsConfig(Config):
    """How videos are told into training, validation and test."""

    by: Literal["video", "speaker", "source", "generator", "column"] = "video"
    """``video``, ``speaker``, ``source``: by a hash of that name; ``speaker`` keeps all videos of a
    person on one side, ``source`` all variants of a clean video. ``generator``: ``held_out`` is the
    test, the rest is split by ``within``. ``column``: as a column says."""
    column: Text | None = None
    """Column of the label table (or ``generator``, ``speaker`` of the features) that holds train,
    val or test; for ``by: column``."""
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of training, validation and test among the groups; they add up to 1."""
    salt: int = 0
    """Enters the hash; another one gives another split."""
    held_out: Text | None = None
    """The generator that is the test; for ``by: generator``."""
    within: Literal["video", "speaker", "source"] = "video"
    """What is hashed to split the generators that are not held out."""

    @field_validator("shares")
    @classmethod
    def _whole(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("expected three shares above 0 that add up to 1")
        return value

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        for name, by in (("column", "column"), ("held_out", "generator")):
            if getattr(self, name) is not None and self.by != by:
                raise ValueError(f"{name} is for by: {by}, and by is {self.by}")
        return self


@dataclass(frozen=True, slots=True)
class Splits:
    """Which video and which clip is in which split.

    V videos and C clips in the order of the clip index.

    Attributes:
        config: How it was made.
        code: [V] position in :data:`SPLITS`, -1 when the video takes no part.
        used: [C] the clip takes part.
        groups: [V] what was hashed or held out together; "" when the video takes no part.
        overlaps: What stands on more than one side.
        warnings: What a person should know, a sentence each.
    """

    config: SplitsConfig
    code: I8
    used: Bool
    groups: list[str]
    overlaps: tuple[Overlap, ...]
    warnings: tuple[str, ...]

    def videos(self, split: str) -> Bool:
        """Say which videos are in a split, [V]."""
        return np.asarray(self.code == SPLITS.index(split))

    def clips(self, split: str, video: NDArray[np.int64]) -> Bool:
        """Say which clips are in a split, [C]; ``video`` is the clip index's column."""
        return np.asarray(self.used & (self.code[video] == SPLITS.index(split)))

    def table(self, videos: LabelledVideos) -> "pa.Table":
        """Return what is written to ``splits.parquet``: a row a video that takes part."""
        import pyarrow as pa

        at = np.flatnonzero(self.code != NONE).tolist()
        names: dict[str, Sequence[str | None]] = {
            "video_id": videos.index.videos,
            "uri": videos.index.uris,
            "split": [SPLITS[code] if code != NONE else "" for code in self.code.tolist()],
            "group": self.groups,
            "generator": videos.generators,
            "speaker": videos.speakers,
        }
        columns = {
            name: pa.array([values[v] for v in at], pa.string()) for name, values in names.items()
        }
        clips = videos.index.clips_of(self.used)[at].astype(np.int32)
        return pa.table({**columns, "clips": pa.array(clips)})


def assign(videos: LabelledVideos, clean: CleanResult, config: SplitsConfig) -> Splits:
    """Tell the labelled videos into training, validation and test.

    With ``video``, ``speaker`` and ``source`` the side depends on the group's name, the salt and
    the shares alone, so a video never changes sides when the corpus grows.

    Raises:
        TrainInputError: No clip is left, a split is empty, a group is not known, the column or the
            generator does not exist, or the column puts one video on two sides.
    """
    index = videos.index
    taking = index.clips_of(clean.used()) > 0
    if not taking.any():
        raise TrainInputError(_nothing_left(clean))
    code, groups = _assigned(videos, taking, config)
    used = clean.used(code[index.video] == TRAIN)
    code = np.where(index.clips_of(used) > 0, code, NONE).astype(np.int8)
    counts = [int((code == side).sum()) for side in range(len(SPLITS))]
    if min(counts) == 0:
        raise TrainInputError(_empty(config, counts, groups, code))
    check_videos(videos, code)
    found = overlaps(videos, code)
    return Splits(
        config=config,
        code=code,
        used=used,
        groups=[g if c != NONE else "" for g, c in zip(groups, code.tolist(), strict=True)],
        overlaps=found,
        warnings=warnings_of(found, config.by),
    )


def folds(videos: LabelledVideos, clean: CleanResult) -> list[str]:
    """Return the generators that leave-one-out holds out in turn, sorted.

    Raises:
        TrainInputError: A labelled video has no generator, or there are fewer than two.
    """
    taking = videos.index.clips_of(clean.used()) > 0
    known = set(_known(videos, taking, "generator"))
    if len(known) < 2:
        only = display_text(next(iter(known), "none"), 60)
        raise TrainInputError(
            f"leave-one-out needs at least two generators, and the labelled videos have one: {only}"
        )
    return sorted(known)


def _assigned(videos: LabelledVideos, taking: Bool, config: SplitsConfig) -> tuple[I8, list[str]]:
    """Return the side of each video [V], -1 where it is not ``taking`` part, and its group."""
    if config.by == "column":
        return by_column(videos, taking, config.column)
    code = np.full(len(taking), NONE, np.int8)
    at = np.flatnonzero(taking)
    groups = [""] * len(taking)
    shares = config.shares
    if config.by == "generator":
        generators = _known(videos, taking, "generator")
        held_out = _held_out(sorted(set(generators)), config.held_out)
        test = np.array([name == held_out for name in generators])
        code[at[test]] = SPLITS.index("test")
        for v in at[test]:
            groups[v] = held_out
        at = at[~test]
        rest = shares[0] + shares[1]
        shares = (shares[0] / rest, shares[1] / rest, 0.0)
    kind = config.within if config.by == "generator" else config.by
    mask = np.zeros(len(taking), bool)
    mask[at] = True
    names = _known(videos, mask, kind)
    code[at] = _hashed(names, config.salt, shares)
    for v, name in zip(at, names, strict=True):
        groups[v] = name
    return code, groups


def _hashed(groups: Sequence[str], salt: int, shares: Sequence[float]) -> I8:
    """Return the side of each group: its hash as a number in [0, 1) against the shares."""
    unit = hash_texts(f"{salt}\x00{group}" for group in groups).astype(np.float64) / 2.0**64
    code = np.searchsorted([shares[0], shares[0] + shares[1]], unit, side="right")
    # A sum such as 0.9 + 0.1 may miss 1 by a rounding: a share of 0 gets nothing all the same.
    return np.minimum(code, 1 if shares[2] == 0 else 2).astype(np.int8)


def _known(videos: LabelledVideos, taking: Bool, kind: str) -> list[str]:
    """Return the group of each video that takes part.

    Raises:
        TrainInputError: Some have none.
    """
    names: dict[str, Sequence[str | None]] = {
        "video": videos.index.videos,
        "speaker": videos.speakers,
        "source": videos.sources,
        "generator": videos.generators,
    }
    at = np.flatnonzero(taking).tolist()
    found = [names[kind][v] for v in at]
    lacking = [videos.index.videos[v] for v, name in zip(at, found, strict=True) if not name]
    if lacking:
        named = kind != "source"  # which only a label table tells
        extract = "extract with a pattern or a manifest that names it, or " if named else "or "
        raise TrainInputError(
            f"{len(lacking)} of {len(found)} labelled videos have no {kind}, such as "
            f"{display_text(lacking[0])}: add a column {kind} to the label table, {extract}"
            "split by something else (by: video is a random split, which flatters)"
        )
    return [name for name in found if name]


def _held_out(names: list[str], name: str | None) -> str:
    shown = ", ".join(display_text(known, 40) for known in names[:20])
    if name is None:
        raise TrainInputError(
            f"by: generator needs held_out, the generator that is the test; there are: {shown}"
        )
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {display_text(close[0], 40)}?" if close else f"there are: {shown}"
        raise TrainInputError(
            f"held_out: no labelled video is of the generator {display_text(name, 40)}; {hint}"
        )
    if len(names) == 1:
        raise TrainInputError(
            f"held_out: {display_text(name, 40)} is the only generator, so nothing is left to "
            "train on"
        )
    return name


# --- messages


def _nothing_left(clean: CleanResult) -> str:
    clips = int(clean.labelled.sum())
    rules = ", ".join(f"{name} {count}" for name, count in clean.counts.items() if count)
    return (
        f"no clip is left to train on: the cleaning rules dropped all {clips} clips of labelled "
        f"videos ({rules}): relax cleaning"
        if clips
        else "no clip is left to train on: every label of the videos with features is missing"
    )


def _empty(config: SplitsConfig, counts: list[int], groups: Iterable[str], code: I8) -> str:
    told = ", ".join(f"{name} {count}" for name, count in zip(SPLITS, counts, strict=True))
    lacking = " and ".join(n for n, c in zip(SPLITS, counts, strict=True) if not c)
    if config.by == "column":
        return (
            f"the split {lacking} is empty ({told} videos): column {config.column} must name "
            "train, val and test"
        )
    test = SPLITS.index("test")
    held = config.by == "generator"
    taking = zip(groups, code.tolist(), strict=True)
    names = sorted({g for g, c in taking if c != NONE and not (held and c == test)})
    kind = config.within if held else config.by
    message = (
        f"the split {lacking} is empty ({told} videos) among {len(names)} groups by {kind}: give "
        "more groups, or splits of your own with by: column"
    )
    salt = _better_salt(config, names)
    if salt is None:
        return message
    new, sides = salt
    sizes = Counter(sides.tolist())
    shown = ", ".join(f"{SPLITS[s]} {sizes[s]}" for s in sorted(sizes))
    return f"{message}, or another salt: salt {new} gives {shown} groups"


def _better_salt(config: SplitsConfig, names: list[str]) -> tuple[int, Any] | None:
    """Return the next salt that leaves no split empty, for small corpora."""
    held = config.by == "generator"
    rest = config.shares[0] + config.shares[1]
    shares = (config.shares[0] / rest, config.shares[1] / rest, 0.0) if held else config.shares
    wanted = 2 if held else 3
    if not wanted <= len(names) <= 1_000:
        return None
    for salt in range(config.salt + 1, config.salt + 1 + _SALTS_TRIED):
        sides = _hashed(names, salt, shares)
        if len(set(sides.tolist())) == wanted:
            return salt, sides
    return None
