"""Where in the videos people saw a problem: the table of problem spans, read and checked."""

import difflib
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.tasks import TASKS
from pipelines.train_errors import TrainInputError
from pipelines.training.label_file import Problems, key_column, key_of, number, read_raw, text
from pipelines.uris import display_text

F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ProblemSpans:
    """The table of problem spans. S spans.

    Attributes:
        by: What the keys are: ``video_id``, or ``uri``: full addresses without credentials.
        keys: [S] the video of each span.
        start_s: [S] seconds in the video.
        end_s: [S] seconds in the video, after the start.
        task: [S] position in :data:`model.tasks.TASKS`.
        text: [S] what was said of it, or None.
    """

    by: str
    keys: list[str]
    start_s: F64
    end_s: F64
    task: I64
    text: list[str | None]

    def __len__(self) -> int:
        return len(self.keys)


def read_spans(uri: str) -> ProblemSpans:
    """Read and check a table of problem spans; one problem of a video a row.

    Raises:
        TrainInputError: It cannot be used; one message names up to 20 problems.
        StorageError: The storage refuses or fails.
    """
    table = read_raw(uri)
    key = key_column(table)
    lacking = [name for name in ("start_s", "end_s", "task") if name not in table.columns]
    if lacking:
        raise TrainInputError(f"{table.where}: no column {', '.join(lacking)}")
    problems = Problems(table.where, "Times are seconds in the video.")
    keys, tasks, times = [], [], []
    for row, cells in table.rows:
        found = key_of(cells, key, table.folder)
        if found is None:
            problems.add(f"row {row}: no {key}")
        keys.append(found or "")
        times.append(_times(row, cells, problems))
        tasks.append(_task(row, text(cells.get("task")), problems))
    problems.raise_if_any()
    start, end = np.array(times, np.float64).T
    return ProblemSpans(
        by=key,
        keys=keys,
        start_s=start,
        end_s=end,
        task=np.array(tasks, np.int64),
        text=[text(cells.get("text")) for _, cells in table.rows],
    )


def _times(row: int, cells: dict[str, Any], problems: Problems) -> tuple[float, float]:
    found = []
    for name in ("start_s", "end_s"):
        value = cells.get(name)
        try:
            found.append(number(value))
        except ValueError as error:
            problems.add(f"row {row}, {name}: {display_text(repr(value), 40)} {error}")
            return math.nan, math.nan
    start, end = found
    if not 0 <= start < end < math.inf:
        shown = " and ".join(display_text(str(cells.get(n)), 20) for n in ("start_s", "end_s"))
        problems.add(f"row {row}: expected 0 <= start_s < end_s, got {shown}")
    return start, end


def _task(row: int, name: str | None, problems: Problems) -> int:
    for n, task in enumerate(TASKS):
        if name == task:
            return n
    close = difflib.get_close_matches(name or "", TASKS, 1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(TASKS)}"
    problems.add(f"row {row}, task: {display_text(repr(name), 40)}: {hint}")
    return -1
