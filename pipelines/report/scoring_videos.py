"""The worst and best videos: pictures, scores with intervals, findings, curves."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model.tasks import HIGH, LOW, TASKS
from pipelines.report.charts import Bar, bars
from pipelines.report.html import Html, el, finite, isolated, join, number
from pipelines.report.names import SHORT
from pipelines.report.page import code_name, details
from pipelines.report.scoring_curves import CLIPS_NEED, curves
from pipelines.report.scoring_words import (
    NO_REASON,
    ORDER,
    SEEDED_SYNC,
    clock,
    doubt,
    known,
    named,
    offset,
    share,
    span,
)
from pipelines.scoring.facts import KeyFrame, ReportFacts

if TYPE_CHECKING:
    import pyarrow as pa

FINDINGS, STANDOUTS = 8, 6  # listed for a video
OPENED = 2  # videos whose curves are unfolded
Row = Mapping[str, Any]


def video_cards(facts: ReportFacts, rows: Sequence[int], *, opened: int = OPENED) -> Html:
    """Show some videos one below the other.

    Args:
        facts: The scored corpus.
        rows: Rows of its table of videos, in order.
        opened: So many of them show their curves at once, the others when asked.
    """
    if not rows:
        return el("p", "No video has a score.", class_="quiet")
    chosen = facts.videos.take(list(rows)).to_pylist()
    clips = _clips(facts.clips, [row["video_id"] for row in chosen])
    standouts: dict[str, list[Row]] = {}
    for item in facts.standouts:
        standouts.setdefault(item["video_id"], []).append(item)
    return join(
        _card(
            row,
            clips.get(row["video_id"], []),
            standouts.get(row["video_id"], []),
            facts.key_frames.get(row["video_id"], []),
            opened=place < opened,
            seeded=bool(row["demonstration"] or facts.provenance.get("demonstration")),
        )
        for place, row in enumerate(chosen)
    )


def _clips(table: "pa.Table", videos: Sequence[str]) -> dict[str, list[Row]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    few = table.filter(pc.is_in(table["video_id"], pa.array(videos, pa.string())))
    grouped: dict[str, list[Row]] = {}
    for row in few.select(CLIPS_NEED).to_pylist():
        grouped.setdefault(row["video_id"], []).append(row)
    for clips in grouped.values():
        clips.sort(key=lambda clip: (clip["start_s"], clip["clip_index"]))
    return grouped


def _card(
    row: Row,
    clips: list[Row],
    standouts: list[Row],
    shots: Sequence[KeyFrame],
    *,
    opened: bool,
    seeded: bool,
) -> Html:
    findings: Sequence[Row] = row["findings"] or []
    left = join([_shots(shots, row["video_id"]), _found(findings), _standouts(standouts)])
    right = _scores(row)
    drawn = (
        details("Curves over time", curves(clips, findings, seeded=seeded), opened=opened)
        if clips
        else el("p", "Its clips are not in the table.", class_="quiet")
    )
    return el(
        "article",
        el("h3", code_name(row["video_id"])),
        el("ul", *_tags(row, seeded=seeded), class_="tags"),
        el("div", el("div", left), el("div", right), class_="parts"),
        drawn,
        class_="video",
    )


def _tags(row: Row, *, seeded: bool) -> list[Html]:
    seconds = (finite(row["end_s"]) or 0.0) - (finite(row["start_s"]) or 0.0)
    texts: list[Html | str] = [
        join(["generator ", named(row["generator"])]),
        join(["speaker ", named(row["speaker"])]),
        f"{number(seconds, 1)} s in {row['clips']:,} clip{'s' * (row['clips'] != 1)}",
        f"face in {share(row['face_frames'], row['frames'])} of frames",
        "with sound" if row["has_sound"] else "without sound",
    ]
    if row["has_sound"]:
        texts += _sync(row, seeded=seeded)
    items = [el("li", text) for text in texts]
    if row["ood"]:
        far = finite(row["ood_distance"])
        said = "" if far is None else f" ({number(far, 1)} times the threshold)"
        items.append(el("li", f"unlike the training videos{said}", class_="alarm"))
    return items


def _sync(row: Row, *, seeded: bool) -> list[str]:
    frames, confidence = finite(row["sync_offset"]), finite(row["sync_confidence"])
    if seeded and (frames is not None or confidence is not None):
        return [f"sync {SEEDED_SYNC}"]
    why = None if frames is None else doubt(confidence)
    said = [offset(frames) + (f" ({why})" if why else "")]
    return said if confidence is None else [*said, f"LSE-C {number(confidence, 1)}"]


def _scores(row: Row) -> Html:
    items = [
        Bar(
            SHORT[task],
            finite(row[task]),
            finite(row[f"{task}_low"]),
            finite(row[f"{task}_high"]),
            known(row[f"{task}_reason"] or NO_REASON),
            TASKS.index(task),
        )
        for task in ORDER
    ]
    chart = bars(
        items, title=f"Scores of {known(row['video_id'], 200)}", x_label="score",
        x_range=(LOW, HIGH),
    )  # fmt: skip
    worst = finite(row["worst_score"])
    said = (
        None
        if worst is None
        else el(
            "p",
            "Worst stretch: ",
            el("span", span(row["worst_start_s"], row["worst_end_s"]), class_="when"),
            f", {number(worst, 2)}",
            class_="small",
        )
    )
    return join([chart, said])


def _shots(shots: Sequence[KeyFrame], video_id: str) -> Html | None:
    if not shots:
        return None
    parts = []
    for shot in shots:
        when = f"{clock(shot.time_s)} s" if shot.time_s < 60 else clock(shot.time_s)
        if shot.jpeg:
            data = base64.b64encode(shot.jpeg).decode("ascii")
            picture = el(
                "img",
                src=f"data:image/jpeg;base64,{data}",
                alt=f"{known(video_id, 200)} at {when}",
            )
        else:
            picture = el(
                "div", f"no picture: {known(shot.reason or NO_REASON, 200)}", class_="gone"
            )
        parts.append(el("figure", picture, el("figcaption", when)))
    return el("div", *parts, class_="shots")


def _found(findings: Sequence[Row]) -> Html:
    if not findings:
        return el("p", "Nothing was found by rule.", class_="quiet small")
    items = [
        el(
            "li",
            el("span", span(part["start_s"], part["end_s"]), class_="when"),
            "  ",
            isolated(part["text"], 300),
        )
        for part in findings[:FINDINGS]
    ]
    more = len(findings) - FINDINGS
    return el("ul", *items, el("li", f"and {more:,} more") if more > 0 else None, class_="findings")


def _standouts(standouts: Sequence[Row]) -> Html | None:
    if not standouts:
        return None
    items = [el("li", _when(item), isolated(item["text"], 300)) for item in standouts[:STANDOUTS]]
    more = len(standouts) - STANDOUTS
    listed = el("ul", *items, el("li", f"and {more:,} more") if more > 0 else None,
                class_="findings")  # fmt: skip
    return join([el("h4", "Stands out"), listed])


def _when(item: Row) -> Html | None:
    if finite(item.get("start_s")) is None or finite(item.get("end_s")) is None:
        return None
    return join([el("span", span(item["start_s"], item["end_s"]), class_="when"), "  "])
