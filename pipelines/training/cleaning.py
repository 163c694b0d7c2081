"""Cleaning rules: which clips are left out of training, and why."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.config import Config
from pipelines.clip_index import SYNC_VALUES, ClipIndex
from pipelines.training.matching import LabelledVideos

if TYPE_CHECKING:
    import pyarrow as pa

F64: TypeAlias = NDArray[np.float64]
Bool: TypeAlias = NDArray[np.bool_]

NO_FRAMES: Final = "no_frames"  # the rule that is always on: such a clip holds nothing to learn


class CleaningConfig(Config):
    """Which clips to leave out. All rules are off by default."""

    min_face_share: float | None = Field(default=None, ge=0, le=1)
    """Least share of a clip's real frames with a face, in [0, 1]. None: no such rule."""
    max_abs_offset: float | None = Field(default=None, ge=0)
    """Largest audio-video offset either way by SyncNet, frames of 1/25 s. None: no such rule."""
    min_lse_c: float | None = None
    """Least SyncNet confidence (LSE-C). None: no such rule."""
    min_clip_s: float | None = Field(default=None, ge=0)
    """Least length of a clip, seconds. None: no such rule."""
    unmeasurable: Literal["keep", "drop"] = "keep"
    """What happens to a clip in which a rule's measure does not exist, such as LSE-C without
    sound."""
    scope: Literal["all", "train"] = "all"
    """``all``: clips are left out of every split. ``train``: of the training split only, so that
    validation and test show the videos as they come."""


@dataclass(frozen=True, slots=True)
class CleanResult:
    """What the rules said of the clips of labelled videos. C clips in the order of the index.

    Attributes:
        config: The rules.
        labelled: [C] the clip's video has a label.
        usable: [C] labelled, and there is a real frame.
        passes: [C] usable, and no rule objects.
        dropped: [R] positions of clips that a rule objects to, one entry a clip and rule.
        rule: [R] the rule.
        value: [R] what was measured, NaN where it does not exist.
        counts: rule -> clips to which it objects; every rule that is on is there.
        unmeasurable: rule -> clips in which its measure does not exist.
    """

    config: CleaningConfig
    labelled: Bool
    usable: Bool
    passes: Bool
    dropped: NDArray[np.int64]
    rule: list[str]
    value: F64
    counts: dict[str, int]
    unmeasurable: dict[str, int]

    def used(self, train: Bool | None = None) -> Bool:
        """Say which clips take part, [C].

        Args:
            train: [C] the clip is of the training split. None asks which clips take part in some
                split, before there are splits.
        """
        if self.config.scope == "all":
            return self.passes
        return self.usable if train is None else np.where(train, self.passes, self.usable)

    def table(self, index: ClipIndex) -> "pa.Table":
        """Return what is written to ``dropped.parquet``: a row a clip and rule."""
        import pyarrow as pa

        at = self.dropped
        limits = {name: limit for name, _, limit in _rules(self.config)}
        return pa.table(
            {
                "video_id": pa.array([index.videos[v] for v in index.video[at]], pa.string()),
                "clip_index": pa.array(index.clip_index[at].astype(np.int32)),
                "start_s": pa.array(index.start_s[at]),
                "end_s": pa.array(index.end_s[at]),
                "rule": pa.array(self.rule, pa.string()),
                "value": pa.array(self.value, from_pandas=True),  # NaN becomes null
                "limit": pa.array([limits.get(name) for name in self.rule], pa.float64()),
            }
        )

    def emptied(self, index: ClipIndex) -> list[str]:
        """Return the labelled videos of which the rules left no clip."""
        before, after = index.clips_of(self.labelled), index.clips_of(self.passes)
        return [index.videos[v] for v in np.flatnonzero((before > 0) & (after == 0))]


def clean(videos: LabelledVideos, config: CleaningConfig) -> CleanResult:
    """Hold every clip of the labelled videos against the rules."""
    index = videos.index
    labelled = videos.labelled[index.video]
    usable = labelled & (index.frames > 0)
    passes = usable.copy()
    dropped = [np.flatnonzero(labelled & ~usable)]
    values = [np.zeros(len(dropped[0]))]
    rules = [NO_FRAMES] * len(dropped[0])
    counts, unmeasurable = {NO_FRAMES: len(rules)}, {}
    for name, kind, limit in _rules(config):
        if limit is None:
            continue
        value = _measure(index, name)
        missing = np.isnan(value)
        with np.errstate(invalid="ignore"):
            fails = value < limit if kind == "least" else value > limit
        fails = usable & np.where(missing, config.unmeasurable == "drop", fails)
        at = np.flatnonzero(fails)
        dropped.append(at)
        values.append(value[at])
        rules += [name] * len(at)
        counts[name] = len(at)
        unmeasurable[name] = int((usable & missing).sum())
        passes &= ~fails
    return CleanResult(
        config=config,
        labelled=labelled,
        usable=usable,
        passes=passes,
        dropped=np.concatenate(dropped).astype(np.int64),
        rule=rules,
        value=np.concatenate(values).astype(np.float64),
        counts=counts,
        unmeasurable=unmeasurable,
    )


def _rules(config: CleaningConfig) -> tuple[tuple[str, str, float | None], ...]:
    """Return each rule's name, whether its limit is the least or the most, and the limit."""
    return (
        ("min_face_share", "least", config.min_face_share),
        ("max_abs_offset", "most", config.max_abs_offset),
        ("min_lse_c", "least", config.min_lse_c),
        ("min_clip_s", "least", config.min_clip_s),
    )


def _measure(index: ClipIndex, rule: str) -> F64:
    """Return what a rule looks at, [C]; NaN where it does not exist."""
    if rule == "min_face_share":
        frames = np.where(index.frames > 0, index.frames, np.nan)
        return np.asarray(index.face_frames / frames, np.float64)
    if rule == "max_abs_offset":
        return np.asarray(np.abs(index.sync[:, SYNC_VALUES.index("offset")]))
    if rule == "min_lse_c":
        return np.asarray(index.sync[:, SYNC_VALUES.index("lse_c")])
    return np.asarray(index.end_s - index.start_s)
