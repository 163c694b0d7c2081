"""Clips that show one content, damaged in known ways: which they are, and what a damage harms."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.tasks import TASKS
from pipelines.training.matching import LabelledVideos

if TYPE_CHECKING:
    from model.batch import Variants

F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]
Bool: TypeAlias = NDArray[np.bool_]

UNKNOWN: Final = -1
_LEAST: Final = 0.01  # score points; less than that is rounding
_ERRORS: Final = 2.0  # standard errors within which a slope is taken for none


@dataclass(frozen=True, slots=True)
class ClipVariants:
    """What is known of the damage of C clips.

    Attributes:
        content: [C] variants of one clip of one source share a number, -1 unknown.
        type: [C] type of damage, -1 for clean clips and where it has no severity.
        severity: [C] in [0, 1], NaN unknown.
        harm: [C, N] score points that severity 1 takes off each task, NaN unknown.
    """

    content: I64
    type: I64
    severity: NDArray[np.float32]
    harm: NDArray[np.float32]

    def targets(self, clips: NDArray[np.integer]) -> "Variants":
        """Return what is known of some clips as tensors."""
        import torch

        from model.batch import Variants

        parts = (self.content, self.type, self.severity, self.harm)
        return Variants(*(torch.from_numpy(part[clips]) for part in parts))


def clip_variants(
    videos: LabelledVideos, train: Bool, clips: I64
) -> tuple[ClipVariants | None, dict[str, Any] | None]:
    """Tell what is known of the damage of clips.

    Args:
        videos: Features and labels.
        train: [V] the video is of the training split; its labels say what a type harms.
        clips: [C] positions in the clip index.

    Returns:
        The variants, and for ``data_report.json`` the number of sources and what each type harms;
        None where the label table does not tell.
    """
    table = videos.labels.variants
    if table is None:
        return None, None
    at = videos.label  # -1, the last row, where there is none: left out by what follows
    listed = at >= 0
    severity = np.where(listed, table.severity[at], np.nan)
    source, sources = _numbered([table.source[i] if i >= 0 else None for i in at.tolist()])
    kind, types = _numbered(
        [
            table.type[i] if i >= 0 and table.severity[i] > 0 else None  # false for NaN
            for i in at.tolist()
        ]
    )
    harm = harms(source, kind, severity, np.where(train[:, None], videos.values, np.nan))
    by_video = np.full((len(at), len(TASKS)), np.nan)
    by_video[kind >= 0] = harm[kind[kind >= 0]]
    by_video[severity == 0] = 0.0
    video, number = videos.index.video[clips], videos.index.clip_index[clips]
    _, content = np.unique(np.stack([source[video], number]), axis=1, return_inverse=True)
    content = np.where(source[video] >= 0, content.reshape(-1), UNKNOWN)
    found = ClipVariants(
        content=content.astype(np.int64),
        type=kind[video],
        severity=severity[video].astype(np.float32),
        harm=by_video[video].astype(np.float32),
    )
    return found, _report(sources, types, harm)


def harms(source: I64, kind: I64, severity: F64, values: F64) -> F64:
    """Estimate how many points severity 1 of each type takes off each task.

    The labels of a source's variants of a type, and of its clean ones, are taken to fall in
    proportion to severity from a level of the source's own: the slope is that of least squares
    with a constant for each source (the within estimator, Wooldridge, Econometric Analysis of Cross
    Section and Panel Data, section 10.5). So errors of single labels average out, and sources that
    differ do not matter. A slope within two standard errors of 0, or under 0.01 points, is 0.

    Args:
        source: [V] number of the clean video, -1 unknown.
        kind: [V] number of the type, -1 for clean videos and where it is unknown.
        severity: [V], 0 for clean videos, NaN unknown.
        values: [V, N] labels, NaN where missing.

    Returns:
        [types, N] points, above 0 where the type harms; NaN where no source has labels at two
        severities.
    """
    types = int(kind.max(initial=-1)) + 1
    found = np.full((types, values.shape[1]), np.nan)
    clean = (severity == 0) & (source >= 0)
    for k in range(types):
        of = (kind == k) & (source >= 0)
        rows = np.flatnonzero(of | (clean & np.isin(source, source[of])))
        for n in range(values.shape[1]):
            known = rows[~np.isnan(values[rows, n])]
            found[k, n] = _slope(source[known], severity[known], -values[known, n])
    return found


def _slope(source: I64, x: F64, y: F64) -> float:
    groups, group = np.unique(source, return_inverse=True)
    count = np.bincount(group)
    x, y = (v - (np.bincount(group, v) / count)[group] for v in (x, y))
    squares = float(x @ x)
    if squares < 1e-12:
        return float("nan")
    slope = float(x @ y) / squares
    rest = y - slope * x
    freedom = len(x) - len(groups) - 1
    error = np.sqrt(float(rest @ rest) / freedom / squares) if freedom > 0 else 0.0
    return 0.0 if abs(slope) <= max(_LEAST, _ERRORS * error) else slope


def _numbered(names: list[str | None]) -> tuple[I64, list[str]]:
    """Number names in their order, -1 for None."""
    known = sorted({name for name in names if name is not None})
    number = {name: n for n, name in enumerate(known)}
    codes = [UNKNOWN if name is None else number[name] for name in names]
    return np.array(codes, np.int64), known


def _report(sources: list[str], types: list[str], harm: F64) -> dict[str, Any]:
    return {
        "sources": len(sources),
        "harms": {
            name: {
                task: None if np.isnan(points) else round(float(points), 3)
                for task, points in zip(TASKS, row, strict=True)
            }
            for name, row in zip(types, harm, strict=True)
        },
    }
