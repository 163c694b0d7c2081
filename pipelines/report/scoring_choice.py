"""Which videos of a scored corpus are shown, and at what instants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.tasks import TASKS
from pipelines.report.html import finite

if TYPE_CHECKING:
    import pyarrow as pa

WORST, BEST, PICTURES = 8, 3, 3
MOMENTS_NEED = ["video_id", "uri", "start_s", "end_s", "worst_start_s", "worst_end_s", "findings"]
_APART_S = 0.4  # two pictures nearer than this show the same


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows of the table of videos: the worst first, the best first; none is in both."""

    worst: list[int]
    best: list[int]


def quality(scores: Mapping[str, Sequence[Any]], row: int) -> float | None:
    """Return what a video is ranked by: overall, else the mean of its scores; None without any."""
    overall = finite(scores["overall"][row])
    if overall is not None:
        return overall
    known = [v for task in TASKS if (v := finite(scores[task][row])) is not None]
    return sum(known) / len(known) if known else None


def ranking(videos: "pa.Table") -> list[int]:
    """Return the rows of the table from the worst to the best; those without a score come last."""
    scores = videos.select(list(TASKS)).to_pydict()
    names = videos["video_id"].to_pylist()
    found = [quality(scores, row) for row in range(len(names))]
    return sorted(
        range(len(names)), key=lambda row: (found[row] is None, found[row] or 0.0, names[row])
    )


def best_and_worst(videos: "pa.Table", worst: int = WORST, best: int = BEST) -> Chosen:
    """Choose the videos that are shown with pictures and curves.

    Args:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema`.
        worst: Number of videos with the lowest scores.
        best: Number of videos with the highest; of a small corpus only what is left.
    """
    scores = videos.select(list(TASKS)).to_pydict()
    order = [row for row in ranking(videos) if quality(scores, row) is not None]
    lowest = order[:worst]
    return Chosen(lowest, order[len(lowest) :][::-1][:best])


def moments(row: Mapping[str, Any], pictures: int = PICTURES) -> list[float]:
    """Return the instants of a video that its key frames show, in order.

    The middle of its most severe findings and of its worst clip come first, then instants spread
    over the video, apart from each other.

    Args:
        row: Of the table of videos: the columns ``MOMENTS_NEED``.
        pictures: Most instants.
    """
    start, end = finite(row["start_s"]) or 0.0, finite(row["end_s"]) or 0.0
    spans = [(part["start_s"], part["end_s"]) for part in row["findings"] or []][: pictures - 1]
    spans.insert(min(1, len(spans)), (row["worst_start_s"], row["worst_end_s"]))
    candidates = [
        (a + b) / 2
        for raw_a, raw_b in spans
        if (a := finite(raw_a)) is not None and (b := finite(raw_b)) is not None
    ]
    steps = 2 * max(pictures, 1)
    candidates += [start + (end - start) * (i + 0.5) / steps for i in _spread(steps)]
    chosen: list[float] = []
    for at in candidates:
        if len(chosen) < pictures and all(abs(at - other) >= _APART_S for other in chosen):
            chosen.append(round(at, 3))
    return sorted(chosen)


def _spread(count: int) -> list[int]:
    """Order 0 … count - 1 so that the first ones lie far apart: ends, middle, the rest."""
    order: list[int] = []
    for place in (0, count - 1, count // 2, *range(count)):
        if 0 <= place < count and place not in order:
            order.append(place)
    return order
