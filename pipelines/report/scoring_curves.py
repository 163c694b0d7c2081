"""Curves over the time of one video: scores, sync, lips, loudness."""

from collections.abc import Mapping, Sequence
from typing import Any

from actors.findings_sync import LEAST_CONFIDENCE
from actors.types import FPS
from model.tasks import HIGH, LOW, TASKS
from pipelines.report.charts import Line, Span, line_chart
from pipelines.report.html import Html, el, finite, join
from pipelines.report.names import SHORT
from pipelines.report.page import figure
from pipelines.report.scoring_words import SEEDED_SYNC, doubt, known, span
from pipelines.scoring.columns import CURVE_HZ

Clips = Sequence[Mapping[str, Any]]
CLIPS_NEED = ["video_id", "clip_index", "start_s", "end_s", *TASKS, "sync_offset",
              "sync_confidence", "curves"]  # fmt: skip
_OFFSET_MS = 200.0  # the axis of offsets shows this much at least: 40 ms is no mountain


def curves(clips: Clips, findings: Sequence[Mapping[str, Any]], *, seeded: bool = False) -> Html:
    """Draw a video's curves above one axis of time; what was found is shaded.

    Args:
        clips: Rows of the table of clips, the columns ``CLIPS_NEED``, in order of time.
        findings: Of the video: ``start_s``, ``end_s``, ``text``.
        seeded: SyncNet has random weights: its curves are withheld.
    """
    ends = (clips[0]["start_s"], max(clip["end_s"] for clip in clips))
    spans = [
        Span(start, end, f"{known(part['text'], 200)}, {span(start, end)}")
        for part in findings
        # A stretch over everything would only tint the picture.
        if (end := part["end_s"]) - (start := part["start_s"]) < 0.9 * (ends[1] - ends[0])
    ]
    offsets = [_scaled(None if seeded else clip["sync_offset"], 1000 / FPS) for clip in clips]
    doubted = [doubt(clip["sync_confidence"]) is not None for clip in clips]
    sync = [_steps("offset", clips, _only(offsets, doubted, wanted=False), 5)]
    unit = "ms, above 0: sound leads"
    if any(value is not None for value in _only(offsets, doubted, wanted=True)):
        unit += f"; not trusted where LSE-C is below {LEAST_CONFIDENCE:g}"
        name = f"not trusted (LSE-C below {LEAST_CONFIDENCE:g})"
        sync.append(_steps(name, clips, _only(offsets, doubted, wanted=True), 7))
    sync = [line for line in sync if _defined(line)]
    largest = max((abs(value) for value in offsets if value is not None), default=0.0)
    reach = max(_OFFSET_MS, 1.1 * largest)
    scores = [
        _steps(SHORT[task], clips, [clip[task] for clip in clips], index)
        for index, task in enumerate(TASKS)
    ]
    shown = [
        ("Scores", "of each clip", scores, (LOW, HIGH), 230.0),
        ("Sync offset", unit, sync, (-reach, reach), 150.0),
        ("Sync confidence", "LSE-C", [_steps("confidence", clips,
         [None if seeded else clip["sync_confidence"] for clip in clips], 5)], None, 150.0),
        ("Lip opening", "in eye distances", [_fine("lip opening", clips, "lip_opening", 2)],
         None, 150.0),
        ("Loudness", "dBFS", [_fine("loudness", clips, "loudness", 3)], None, 150.0),
    ]  # fmt: skip
    defined = [item for item in shown if any(_defined(line) for line in item[2])]
    missing = [title.lower() for title, *_ in shown if title not in {item[0] for item in defined}]
    drawn = [
        figure(
            line_chart(
                lines, title=f"{title} over time", x_label="time, s", x_range=ends,
                y_range=y_range, spans=spans, height=height,
            ),
            title,
            note,
        )
        for title, note, lines, y_range, height in defined
    ]  # fmt: skip
    if seeded and any(finite(clip["sync_offset"]) is not None for clip in clips):
        missing = [title for title in missing if not title.startswith("sync")]
        said = f"Sync offset and confidence are {SEEDED_SYNC}."
    else:
        said = ""
    if missing:
        said += f" Undefined throughout: {', '.join(missing)}."
    return join([el("div", *drawn, class_="curves"), el("p", said, class_="quiet small") if said
                 else None])  # fmt: skip


def _only(
    values: Sequence[float | None], doubted: Sequence[bool], *, wanted: bool
) -> list[float | None]:
    pairs = zip(values, doubted, strict=True)
    return [value if flag is wanted else None for value, flag in pairs]


def _defined(line: Line) -> bool:
    return any(finite(value) is not None for value in line.y)


def _scaled(value: object, factor: float) -> float | None:
    known = finite(value)
    return None if known is None else factor * known


def _steps(name: str, clips: Clips, values: Sequence[float | None], series: int) -> Line:
    """Make a line that stays at a clip's value for as long as the clip lasts."""
    x: list[float] = []
    y: list[float | None] = []
    for index, (clip, value) in enumerate(zip(clips, values, strict=True)):
        start, end = clip["start_s"], clip["end_s"]
        if index + 1 < len(clips):
            # Clips that overlap hand over where the next one begins.
            following = clips[index + 1]["start_s"]
            gap = following > end + 0.5 / FPS
            end = end if gap else following
        else:
            gap = False
        x += [start, end]
        y += [value, value]
        if gap:
            x.append(end)
            y.append(None)
    return Line(name, x, y, series=series)


def _fine(name: str, clips: Clips, key: str, series: int) -> Line:
    """Make a line of the values inside clips, each in the middle of the stretch it stands for."""
    x: list[float] = []
    y: list[float | None] = []
    for index, clip in enumerate(clips):
        following = clips[index + 1]["start_s"] if index + 1 < len(clips) else clip["end_s"]
        for place, value in enumerate((clip["curves"] or {}).get(key) or ()):
            at = clip["start_s"] + (place + 0.5) / CURVE_HZ
            if at <= following:
                x.append(at)
                y.append(value)
        if following > clip["end_s"] + 1 / CURVE_HZ:
            x.append(clip["end_s"])
            y.append(None)
    return Line(name, x, y, series=series)
