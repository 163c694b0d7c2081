"""The report of a scored corpus: one HTML file that needs no network."""

from collections.abc import Sequence
from typing import Any

from actors.findings_sync import LEAST_CONFIDENCE
from actors.types import DEMONSTRATION_WEIGHTS
from pipelines.report.html import Html, el, join, name_of
from pipelines.report.page import Column, Section, code_name, facts, name_cell, page, table
from pipelines.report.scoring_assets import SCRIPT, STYLE
from pipelines.report.scoring_change import change
from pipelines.report.scoring_choice import BEST, WORST, best_and_worst
from pipelines.report.scoring_leaderboard import leaderboard
from pipelines.report.scoring_spread import distributions, tiles
from pipelines.report.scoring_table import NEED, all_videos, failures
from pipelines.report.scoring_verdict import (
    DEMONSTRATION,
    foreign,
    has_intervals,
    is_demonstration,
    provenance,
    said,
    verdict,
)
from pipelines.report.scoring_videos import video_cards
from pipelines.report.scoring_words import known, span
from pipelines.scoring.facts import ReportFacts

TABLE = "Parquet below videos/ (and clips/) of the output, beside the folder of this report"
STANDOUTS = 100


def scoring_report(found: ReportFacts, *, worst: int = WORST, best: int = BEST) -> str:
    """Write ``report.html``.

    Args:
        found: The scored corpus.
        worst: Videos shown with pictures and curves: those with the lowest scores.
        best: The same from the other end.

    Returns:
        The document. All external text in it is escaped; undefined scores carry their reason.
    """
    columns = found.videos.select(NEED).to_pydict()
    chosen = best_and_worst(found.videos, worst, best)
    flag = is_demonstration(found)
    seeded = bool(found.provenance.get("demonstration"))
    sections = [
        Section("summary", "In short", join([verdict(found.gate), said(found), tiles(columns)])),
        Section("leaderboard", "Leaderboard", leaderboard(found.leaderboard)),
        Section(
            "change",
            "Change against the baseline",
            change(found.change, found.provenance.get("baseline")),
        ),
        Section("distributions", "Distributions", distributions(columns)),
        Section("worst", "Worst videos", _worst(found, chosen.worst)),
        Section("best", "Best videos", _best(found, chosen.best)),
        Section("standouts", "What stands out", _standouts(found.standouts)),
        Section("videos", "All videos", all_videos(found.videos, TABLE, seeded=seeded)),
        Section("failures", "Failures", failures(found.failures)),
        Section("provenance", "Provenance", provenance(found)),
        Section("reading", "How to read this", _reading(foreign(found))),
    ]
    source = found.provenance
    title = "Scoring report"
    if source.get("corpus"):
        title += f": {name_of(source['corpus'], 80)}"
    when = name_of(source.get("started") or "at an unknown time", 40)
    return page(
        title,
        join(["scored ", when, ", checkpoint ", code_name(str(source.get("digest") or "unknown"))]),
        sections,
        banner=DEMONSTRATION if flag else "",
        footer=f"TalkMOS {name_of(source.get('code_version') or '', 60)}",
        style=STYLE,
        script=SCRIPT,
    )


def _worst(found: ReportFacts, rows: Sequence[int]) -> Html:
    if not rows:
        return el("p", "No video has a score.", class_="quiet")
    intro = "The only video with a score."
    if len(rows) > 1:
        intro = f"The {len(rows):,} videos with the lowest overall quality, the worst first."
    if has_intervals(found):
        intro += (
            " Whiskers are calibrated intervals; one over the whole scale means that the labelled "
            "videos are too few or too different for a narrower one."
        )
    intro += " Shaded stretches in the curves are the findings."
    return join([el("p", intro), video_cards(found, rows)])


def _best(found: ReportFacts, rows: Sequence[int]) -> Html:
    if not rows:
        shown = best_and_worst(found.videos).worst
        said = "All videos with a score are shown above." if shown else "No video has a score."
        return el("p", said, class_="quiet")
    return video_cards(found, rows, opened=0)


def _standouts(items: Sequence[dict[str, Any]]) -> Html:
    if not items:
        return el("p", "No video stands out against the corpus or its generator.", class_="quiet")
    rows = [
        [
            name_cell(item["video_id"], 120),
            _when(item),
            name_cell(item["text"], 300),
        ]
        for item in items[:STANDOUTS]
    ]
    columns = [Column("video", "name"), Column("when"), Column("what", "name")]
    more = len(items) - STANDOUTS
    cut = f" The first {STANDOUTS} of {len(items):,}." if more > 0 else ""
    text = f"Measures of a video that are far from those of the corpus or of its generator.{cut}"
    return join([
        el("p", text), table(columns, rows, label="What stands out", tall=len(rows) > 12),
    ])  # fmt: skip


def _when(item: dict[str, Any]) -> str:
    return known(span(item.get("start_s"), item.get("end_s")))


def _reading(unlike: str) -> Html:
    return facts(
        {
            "Scores": "What a panel of people would probably say, from 1 (bad) to 5 (excellent). A "
            "video's score is the mean over its clips of 6 seconds.",
            "Intervals of videos": "Calibrated on labelled videos that training did not see: of "
            "similar videos so many have their label inside. Wide ones mean that the score says "
            "little.",
            "Intervals of generators": "Where the mean would probably lie had other videos of the "
            "same kind been made. They are no intervals of single videos.",
            "Undefined": "A video without sound has no lip sync and no audio quality. What is "
            "undefined is shown as such, counts nowhere as 0 and is left out of means.",
            "Unlike training": unlike,
            "Findings": "What rules without any weights found in picture and sound, with its time. "
            "A likely cause, not a proof.",
            "Offset, LSE-C": "SyncNet's measures: how far sound and picture are apart (above 0 the "
            "sound leads), and how clear that is (higher is better). Below an LSE-C of "
            f"{LEAST_CONFIDENCE:g} the offset is not trusted; from {DEMONSTRATION_WEIGHTS} "
            "neither is shown.",
        }
    )
