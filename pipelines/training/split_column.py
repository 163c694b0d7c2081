"""Splits that a user brings: a column that holds train, val or test."""

import difflib
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.train_errors import TrainInputError
from pipelines.training.leakage import NONE
from pipelines.training.matching import LabelledVideos
from pipelines.uris import display_text

I8: TypeAlias = NDArray[np.int8]
Bool: TypeAlias = NDArray[np.bool_]

_SYNONYMS: Final = {
    "train": 0, "training": 0,
    "val": 1, "valid": 1, "validation": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip


def by_column(videos: LabelledVideos, taking: Bool, column: str | None) -> tuple[I8, list[str]]:
    """Return the side of each video as a column says, [V], -1 where it is not ``taking`` part.

    Also returns each video's group: itself.

    Raises:
        TrainInputError: There is no such column, or a cell holds something else than a split; up to
            20 rows are named.
    """
    labels = videos.labels
    have = [*labels.extra, *(n for n in ("generator", "speaker") if n not in labels.extra)]
    cells = None if column is None else videos.column(column)
    if column is None or cells is None:
        close = difflib.get_close_matches(column or "split", have, 1)
        listed = ", ".join(display_text(name, 40) for name in have)
        hint = f"did you mean {display_text(close[0], 40)}?" if close else f"there are: {listed}"
        what = "by: column needs the name of one" if column is None else f"no column {column!r}"
        raise TrainInputError(f"{labels.where}: {what} that holds train, val or test; {hint}")
    code = np.full(len(taking), NONE, np.int8)
    groups = [""] * len(taking)
    wrong = []
    for v in np.flatnonzero(taking).tolist():
        value = cells[v]
        side = _SYNONYMS.get((value or "").lower())
        if side is None:
            row = labels.rows[videos.label[v]]
            said = "empty" if value is None else display_text(repr(value), 40)
            wrong.append((row, f"row {row} ({display_text(videos.index.videos[v], 80)}): {said}"))
            continue
        code[v], groups[v] = side, videos.index.videos[v]
    if wrong:
        lines = [line for _, line in sorted(wrong)]
        more = [f"… and {len(lines) - 20} more"] if len(lines) > 20 else []
        problems = "\n".join(f"  {line}" for line in (*lines[:20], *more))
        raise TrainInputError(
            f"{labels.where}: column {display_text(column, 40)} must hold train, val or test:\n"
            f"{problems}"
        )
    return code, groups
