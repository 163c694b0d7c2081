import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from model.tasks import NEED_SOUND, TASKS, TITLES
from pipelines.report import scoring_table
from pipelines.report.box_charts import Box, boxes, quantiles
from pipelines.report.scoring import scoring_report
from pipelines.report.scoring_choice import best_and_worst, moments
from pipelines.report.scoring_curves import curves
from pipelines.report.scoring_text import markdown_summary, summary_json
from pipelines.report.scoring_verdict import DEMONSTRATION
from pipelines.report.scoring_words import clock, duration, offset, p_value, span
from pipelines.scoring.baseline import compare
from pipelines.scoring.facts import KeyFrame, ReportFacts
from pipelines.scoring.leaderboard import LeaderboardConfig, leaderboard
from tests.pipelines.scoring import score_tables as st
from tests.pipelines.test_training_report import NASTY, Document

QUICK = LeaderboardConfig(rounds=100, permutations=199)
JPEG = cv2.imencode(".jpg", np.full((24, 32, 3), 90, np.uint8))[1].tobytes()
PROVENANCE = {
    "run_id": "20260131-abc", "started": "2026-01-31T02:00:00Z", "seconds": 90.0,
    "corpus": "s3://bucket/night", "checkpoint": "s3://models/c", "digest": "c0ffee00",
    "fingerprint": "f00d", "model_card": {"name": "TalkMOS", "preset": {"width": 256}},
    "code_version": "0.1.0", "level": 0.9, "demonstration": False,
}  # fmt: skip
GATE = {
    "passed": False,
    "verdicts": [
        {"rule": "min_videos", "passed": True, "reason": "14 videos"},
        {"rule": "min_mean", "passed": False, "reason": "bad: mean 2.1 is below 3.0"},
    ],
}


class Page(Document):
    """A document with pictures and fields."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag in {"img", "input"}:
            self.open.pop()

    def rows(self, label: str) -> int:
        return sum(a.get("aria-label") == label for a in self.all("table"))


def facts(
    rows: Sequence[st.Row], clips: Sequence[st.Row] | None = None, **more: Any
) -> ReportFacts:
    videos = st.videos(rows)
    if clips is None:
        clips = [
            st.clip(row["video_id"], has_sound=row["has_sound"], score=row["overall"])
            for row in rows
        ]
    count = len(rows)
    values: dict[str, Any] = {
        "videos": videos,
        "clips": st.clips(clips),
        "failures": [],
        "counts": {
            "corpus": count, "scored": count, "known": 0, "failed": 0, "failed_before": 0,
        },
        "leaderboard": leaderboard(videos, QUICK).to_json(),
        "change": None,
        "gate": None,
        "standouts": [],
        "provenance": PROVENANCE,
    }  # fmt: skip
    return ReportFacts(**(values | more))


def film(name: str, quality: float, clips: int = 3, prefix: str = "", **more: Any) -> Any:
    """Clips of a video that gets worse, and its row."""
    generator = more.pop("generator", prefix + name.split("/", maxsplit=1)[0])
    rows = [
        st.clip(
            prefix + name, i, score=quality - 0.1 * i, generator=generator, speaker="ann",
            findings=[st.finding("clipping", 6 * i + 1, 6 * i + 2, text=f"{prefix}clipped")]
            if i == 1 else [], **more,
        )
        for i in range(clips)
    ]  # fmt: skip
    return rows, st.video_of(rows, cause=f"{prefix}clipped 7.0 s")


def whole(prefix: str = "", **more: Any) -> ReportFacts:
    """A corpus with everything in it: ten speakers, two generators, a silent video."""
    clips, videos = [], []
    for generator, quality in (("good", 4.0), ("bad", 2.0)):
        for i in range(10):
            silent = generator == "bad" and i == 9
            rows, video = film(
                f"{generator}/p{i}", quality + 0.05 * i, prefix=prefix, has_sound=not silent
            )
            clips += rows
            videos.append(video | {"speaker": f"{prefix}s{i}", "ood": i == 3, "ood_distance": 1.4})
    table = st.videos(videos)
    before = [row | {"overall": row["overall"] - 0.2} for row in videos[:-1]]
    worst = f"{prefix}bad/p0"
    values: dict[str, Any] = {
        "change": compare(table, st.videos(before), QUICK, uri="/old").to_json(),
        "gate": GATE,
        "failures": [
            {"video_id": f"{prefix}x{i}", "uri": "s3://b/x", "stage": "open",
             "reason": "not_a_video", "message": f"{prefix}text", "attempts": 2}
            for i in range(3)
        ],
        "standouts": [
            {"video_id": worst, "start_s": 1.0, "end_s": 2.5, "name": "snr",
             "text": f"{prefix}noisier than the others"},
        ],
        "key_frames": {
            worst: [KeyFrame(1.5, JPEG), KeyFrame(7.5, b"", f"{prefix}the decoder crashed")]
        },
    }  # fmt: skip
    return facts(videos, clips, **(values | more))


@pytest.fixture(scope="module")
def corpus() -> ReportFacts:
    return whole()


@pytest.fixture(scope="module")
def text(corpus: ReportFacts) -> str:
    return scoring_report(corpus)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def section(text: str, key: str) -> str:
    found = text.split(f'<section id="{key}"', 1)[1].split("</section>", 1)[0]
    return isolation_removed(found)


def isolation_removed(text: str) -> str:
    return text.replace("<bdi>", "").replace("</bdi>", "")


def table_rows(text: str, label: str) -> list[list[str]]:
    """Cells of a table's body as they are written."""
    text = isolation_removed(text)
    [body] = re.findall(rf'<table[^>]*aria-label="{label}">.*?<tbody>(.*?)</tbody>', text)
    return [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)
    ]


def test_the_page_is_whole_and_loads_nothing(text: str, page: Page) -> None:
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids)) > 10
    assert {a["href"] for a in page.all("a")} <= {f"#{key}" for key in ids}
    for kind in ("aria-labelledby", "aria-controls", "data-table"):
        assert {a[kind] for _, a in page.elements if kind in a} <= set(ids)
    assert {tag for tag, _ in page.elements} & {"link", "iframe", "object", "form", "base"} == set()
    for tag, attributes in page.elements:
        assert not {"style", "srcset", "onclick"} & set(attributes)
        if "src" in attributes:
            assert tag == "img"
            assert (attributes["src"] or "").startswith("data:image/jpeg;base64,")
            assert attributes["alt"]
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert text.count("<script") == 1
    for picture in re.findall(r"<svg .*?</svg>", text, re.DOTALL):
        assert ET.fromstring(picture)[0].text


def test_heads_that_sort_are_buttons_and_the_order_is_told(page: Page) -> None:
    sorts = [a for a in page.all("th") if "aria-sort" in a]
    assert {a["aria-sort"] for a in sorts} == {"ascending", "descending"}
    [field] = page.all("input")
    assert field["type"] == "search"
    [filters] = [a for a in page.all("div") if "filters" in (a.get("class") or "").split()]
    assert "hidden" in filters  # shown by the script that makes it work
    [choice] = page.all("select")
    heads = [a for _, a in page.elements]
    at = next(i for i, a in enumerate(heads) if a.get("id") == "all-videos")
    columns = [a for a in heads[at + 1 :] if a.get("scope") == "col"]
    assert columns[1]["aria-sort"] == "ascending"  # overall
    assert int(choice["data-column"] or 0) == 1 + len(TASKS)


def test_the_choice_of_generators_matches_what_the_cells_say(text: str) -> None:
    rows = table_rows(text, "All videos")
    options = re.findall(r'<option value="([^"]+)">', text)
    assert sorted({row[1 + len(TASKS)] for row in rows}) == options == ["bad", "good"]


def test_videos_stand_worst_first_and_no_video_is_best_and_worst(corpus: ReportFacts) -> None:
    rows = corpus.videos.to_pylist()
    expected = sorted(rows, key=lambda row: row["overall"])
    text = scoring_report(corpus, worst=4, best=3)
    listed = [re.sub(r"<.*", "", row[0]) for row in table_rows(text, "All videos")]
    assert listed == [row["video_id"] for row in expected]
    for key, wanted in (("worst", expected[:4]), ("best", expected[::-1][:3])):
        cards = re.findall(r"<article .*?<h3><code>(.*?)</code>", section(text, key))
        assert cards == [row["video_id"] for row in wanted]
    few = best_and_worst(corpus.videos.slice(0, 5), worst=4, best=3)
    assert sorted([*few.worst, *few.best]) == [0, 1, 2, 3, 4]


def test_without_an_overall_score_the_mean_of_the_others_ranks() -> None:
    rows = [
        st.video("a", score=4.0, overall=None),
        st.video("b", score=3.0),
        st.video("c", score=None),
        st.video("d", score=1.0, overall=3.5),
    ]
    chosen = best_and_worst(st.videos(rows), worst=2, best=5)
    assert chosen.worst == [1, 3]
    assert chosen.best == [0]


def test_undefined_scores_carry_their_reason_and_are_never_zero(text: str, page: Page) -> None:
    rows = {re.sub(r"<.*", "", row[0]): row for row in table_rows(text, "All videos")}
    order = ["overall", *(task for task in TASKS if task != "overall")]
    for task, cell in zip(order, rows["bad/p9"][1:], strict=False):
        assert ("<sup>a</sup>" in cell) is (task in NEED_SOUND)
        assert not cell.startswith("0")
    assert "<li><sup>a</sup> no sound</li>" in section(text, "videos")
    assert "no sound: 1" in section(text, "summary")
    assert not re.search(r"\b(nan|None|inf)\b", page.shown)


def test_scores_stand_with_their_intervals(corpus: ReportFacts, text: str) -> None:
    row = next(r for r in corpus.videos.to_pylist() if r["video_id"] == "bad/p0")
    said = f"{row['overall']:.2f} [{row['overall_low']:.2f}, {row['overall_high']:.2f}]"
    card = section(text, "worst").split("bad/p0</code>", 1)[1].split("</article>", 1)[0]
    assert f"<title>overall: {said}</title>" in card
    [found] = [g for g in corpus.leaderboard["generators"] if g["name"] == "good"]
    [line] = [r for r in table_rows(text, "Leaderboard by generator") if r[0] == "good"]
    assert line[3].startswith(f"{found['overall']['mean']:.2f}")
    assert f"[{found['overall']['low']:.2f}, {found['overall']['high']:.2f}]" in line[3]


def test_a_video_shows_pictures_findings_and_what_stands_out(text: str) -> None:
    card = section(text, "worst").split("bad/p0</code>", 1)[1].split("</article>", 1)[0]
    assert card.count("<img ") == 1
    assert "no picture: the decoder crashed" in card
    assert re.search(r'<span class="when">7\.0.8\.0 s</span>\s*clipped', card)
    assert re.search(r'<span class="when">1\.0.2\.5 s</span>\s*noisier', card)
    for title in ("Scores", "Sync offset", "Sync confidence", "Lip opening", "Loudness"):
        assert f"<title>{title} over time</title>" in card


def test_significant_generators_are_named_with_corrected_p(corpus: ReportFacts, text: str) -> None:
    [pair] = [p for p in corpus.leaderboard["pairs"] if p["task"] == "overall"]
    assert pair["significant"]
    shown = section(text, "leaderboard")
    gap = f"{abs(pair['difference']):.2f}"
    p = f"p = {pair['p_adjusted']:.3f}"
    assert f"good above bad by {gap} over the {pair['n']} shared speakers ({p})" in shown
    assert len(table_rows(text, "Comparisons of generators")) == len(TASKS)


def test_what_cannot_be_tested_says_why() -> None:
    rows = [st.video(f"{name}/{name}", generator=name) for name in "ab"]
    found = facts(rows)
    pairs = found.leaderboard["pairs"]
    shown = section(scoring_report(found), "leaderboard")
    assert shown.count("in every task: </b>no significant difference (1 comparison): ") == 1
    assert all(pair["reason"] in shown for pair in pairs)
    nothing = [pair | {"p": None, "p_adjusted": None, "significant": None} for pair in pairs]
    board = found.leaderboard | {"pairs": nothing}
    shown = section(scoring_report(facts(rows, leaderboard=board)), "leaderboard")
    assert shown.count("in every task: </b>not tested: ") == 1
    assert table_rows(shown, "Comparisons of generators")[0][5] == "undefined"


def test_the_change_against_the_baseline(corpus: ReportFacts, text: str) -> None:
    change = corpus.change
    assert change is not None
    shown = section(text, "change")
    [line] = [r for r in table_rows(shown, "Change of all videos by task") if "overall" in r[0]]
    assert line[3].startswith(f"+{change['tasks']['overall']['difference']:.2f}")
    assert change["tasks"]["overall"]["significant"]
    assert line[6] == "yes"
    assert "Only in this run: 1" in shown
    assert len(table_rows(shown, "Videos that rose most")) == 10
    assert "No baseline was given" in scoring_report(facts([st.video("a")]))


def test_the_verdict_and_its_reasons(page: Page, text: str) -> None:
    shown = section(text, "summary")
    assert 'class="verdict bad"' in shown
    assert "Gate FAILED: 1 of 2 rules" in page.shown
    assert shown.index("mean 2.1 is below 3.0") < shown.index("14 videos")
    passed = facts([st.video("a")], gate={"passed": True, "verdicts": GATE["verdicts"][:1]})
    assert 'class="verdict good"' in scoring_report(passed)
    assert "No gate was given" in scoring_report(facts([st.video("a")]))


@pytest.mark.parametrize("flag", [True, False])
def test_the_warning_stands_if_and_only_if_it_is_a_demonstration(flag: bool) -> None:
    found = facts([st.video("a", demonstration=flag), st.video("b")])
    assert (DEMONSTRATION in scoring_report(found)) is flag
    assert (DEMONSTRATION in markdown_summary(found)) is flag
    assert summary_json(found)["demonstration"] is flag


def test_external_text_is_escaped_everywhere() -> None:
    card = {NASTY: {NASTY: [NASTY]}}
    gate = {"passed": False, "verdicts": [{"rule": NASTY, "passed": False, "reason": NASTY}]}
    provenance = {key: NASTY for key, value in PROVENANCE.items() if isinstance(value, str)}
    found = whole(NASTY, gate=gate, provenance=PROVENANCE | provenance | {"model_card": card})
    names = {f"{task}_reason" for task in TASKS}
    rows = [row | dict.fromkeys(names, NASTY) for row in found.videos.to_pylist()]
    found = ReportFacts(**(vars(found) | {"videos": st.videos(rows)}))
    text = scoring_report(found)
    document = Page(text)
    assert text.count("<script") == len(document.all("script")) == 1
    assert "alert('x')" in document.shown
    assert "\u202e" not in text
    message = markdown_summary(found)
    assert "<script" not in message.replace("`<script", "")  # only inside code
    assert "\u202e" not in message


def test_markdown_cells_keep_their_table_whatever_a_generator_is_called() -> None:
    rows = [st.video(f"v{i}", generator=f"a|b`*_{i}") for i in range(2)]
    lines = markdown_summary(facts(rows)).splitlines()
    at = lines.index("|---|---|---|---|---|---|---|")
    for line in lines[at - 1 : at + 3]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 8
    assert "`v0`" in "\n".join(lines)


def test_the_message_for_a_chat_says_the_main_things(corpus: ReportFacts) -> None:
    message = markdown_summary(corpus, "s3://out/report/report.html")
    assert message.startswith("# Gate FAILED: s3://bucket/night\n")
    assert "- **FAILED** min\\_mean: bad: mean 2.1 is below 3.0" in message
    assert "20 videos have at least one score, 0 went through without any (20 new)" in message
    assert "good above bad by" in message
    worst = message.split("## Worst videos", 1)[1].split("## Failures", 1)[0]
    order = sorted(corpus.videos.to_pylist(), key=lambda row: row["overall"])
    names = re.findall(r"^\d\. `(.*?)` overall \d\.\d\d \[", worst, re.MULTILINE)
    assert names == [row["video_id"] for row in order[:5]]
    assert worst.count("clipped 7.0 s") == 5
    assert "- 3 not\\_a\\_video (open)" in message
    assert "Report: s3://out/report/report.html" in message
    assert len(message) < 4000


def test_the_summary_for_machines_is_strict_json(corpus: ReportFacts) -> None:
    summary = json.loads(json.dumps(summary_json(corpus), allow_nan=False))
    columns = corpus.videos.to_pydict()
    for task in TASKS:
        known = [value for value in columns[task] if value is not None]
        assert summary["tasks"][task]["mean"] == pytest.approx(np.mean(known))
        assert summary["tasks"][task]["n"] == len(known)
        missing = {"no sound": 1} if task in NEED_SOUND else {}
        assert summary["tasks"][task]["undefined"] == missing
    assert summary["worst"][0]["video_id"] == "bad/p0"
    assert set(summary["worst"][0]["scores"]["overall"]) == {"score", "low", "high", "reason"}
    assert summary["failures"]["reasons"] == [
        {"stage": "open", "reason": "not_a_video", "videos": 3}
    ]
    assert summary["ood"] == {"known": 20, "far": 2, "share": pytest.approx(2 / 20)}
    assert summary["gate"] == GATE
    assert summary["leaderboard"] == corpus.leaderboard
    assert "model_card" not in summary["provenance"]
    json.dumps(summary_json(facts([st.video("a", overall=float("nan"))])), allow_nan=False)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], ["No video was scored", "No video has a score", "no video was scored"]),
        ([st.video("one")], ["The only video with a score", "No video names its generator"]),
        ([st.video("a", score=None)], ["no clip has a score", "No video has a score"]),
        (
            [st.video(f"v{i}", has_sound=False, half_width=None) for i in range(3)],
            ["undefined: no sound", "no calibration", "Undefined throughout: sync offset"],
        ),
    ],
)
def test_there_is_a_page_and_a_message_for_every_corpus(
    rows: list[st.Row], said: list[str]
) -> None:
    clips = [
        st.clip(row["video_id"], has_sound=row["has_sound"], score=row["overall"]) for row in rows
    ]
    rows = [
        row | ({f"{t}_reason": "no clip has a score" for t in TASKS} if row["overall"] is None
               else {})
        for row in rows
    ]  # fmt: skip
    if not all(row["has_sound"] for row in rows):
        silent = dict.fromkeys(("sync_offset", "sync_confidence"))
        clips = [clip | silent for clip in clips]
    found = facts(rows, clips)
    shown = Page(scoring_report(found)).shown
    for words in said:
        assert words in shown
    assert not re.search(r"\b(nan|None|inf)\b", shown)
    assert markdown_summary(found).startswith("# Scores: ")
    json.dumps(summary_json(found), allow_nan=False)


def test_of_many_videos_the_worst_are_listed_and_the_rest_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring_table, "LISTED", 10)
    rows = [st.video(f"v{i:02d}", score=1 + i / 10) for i in range(30)]
    text = scoring_report(facts(rows[::-1]))
    listed = [row[0] for row in table_rows(text, "All videos")]
    assert listed == [f"v{i:02d}" for i in range(10)]
    assert "The 10 worst of 30 videos" in text
    assert "videos/" in section(text, "videos")


def test_a_long_corpus_stays_small() -> None:
    row = st.video("v", cause="mouth frozen while the voice goes on " * 3)
    rows = [row | {"video_id": f"g/{i:05d}/take" * 3, "overall": 2.0} for i in range(2500)]
    found = facts(rows, [], leaderboard={"generators": [], "pairs": []})
    assert len(scoring_report(found)) < 3_000_000


def test_clip_scores_are_steps_with_gaps_where_no_clip_is() -> None:
    rows = [st.clip("v", 0, score=2.0), st.clip("v", 1, score=4.0), st.clip("v", 3, score=3.0)]
    drawn = str(curves(rows, []))
    [picture] = re.findall(r"<svg .*?</svg>", drawn.split("Scores", 1)[1])[:1]
    overall = picture.split("<title>overall</title>", 1)[1].split("</g>", 1)[0]
    first, second = re.findall(r'<path d="M(.*?)"', overall)
    corners = [tuple(map(float, p.split())) for p in first.split("L")]
    last = [tuple(map(float, p.split())) for p in second.split("L")]
    assert [x for x, _ in corners][1] == [x for x, _ in corners][2]  # straight up at 6 s
    assert corners[0][1] == corners[1][1] > corners[2][1] == corners[3][1]
    scale = (last[1][0] - corners[0][0]) / 24.0  # from 0 to 24 s
    assert last[0][0] - corners[0][0] == pytest.approx(18 * scale, abs=0.05)


def test_overlapping_clips_hand_over_where_the_next_begins() -> None:
    rows = [st.clip("v", i, score=2.0 + i) | {"start_s": 3.0 * i, "end_s": 3.0 * i + 6}
            for i in range(3)]  # fmt: skip
    drawn = str(curves(rows, []))
    overall = drawn.split("<title>overall</title>", 1)[1].split("</g>", 1)[0]
    [way] = re.findall(r'<path d="M(.*?)"', overall)
    x = [float(p.split()[0]) for p in way.split("L")]
    assert x == sorted(x)


def test_findings_are_shaded_but_not_over_the_whole_video() -> None:
    rows = [st.clip("v", 0)]
    spans = [st.finding("a", 1, 2, text="here"), st.finding("b", 0, 6, text="everywhere")]
    drawn = str(curves(rows, spans))
    assert drawn.count("<title>here, ") == 5
    assert "everywhere" not in drawn


@pytest.mark.parametrize("pictures", [1, 3, 6])
def test_key_frames_show_the_worst_places_and_lie_apart(pictures: int) -> None:
    row = {
        "start_s": 0.0, "end_s": 30.0, "worst_start_s": 12.0, "worst_end_s": 18.0,
        "findings": [st.finding("a", 20, 22), st.finding("b", 20.1, 22.1)],
    }  # fmt: skip
    times = moments(row, pictures)
    assert len(times) == pictures
    assert times == sorted(times)
    assert all(0 <= at <= 30 for at in times)
    assert np.diff(times).min(initial=9.0) >= 0.4
    if pictures > 1:
        assert {21.0, 15.0} <= set(times)
    short = moments(row | {"end_s": 1.0, "worst_start_s": None, "findings": None}, pictures)
    assert all(0 <= at <= 1 for at in short)


def test_quantiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(3).normal(3, 1, 101)
    at = (0.0, 0.05, 0.25, 0.5, 0.9, 1.0)
    assert quantiles([*values, None, float("nan")], at) == pytest.approx(np.quantile(values, at))
    assert quantiles([2.0], at) == [2.0] * len(at)
    assert quantiles([None]) == []


def test_boxes_lie_where_the_values_are() -> None:
    chart = boxes(
        [Box("a", [1.0, 2.0, 3.0, 4.0, 5.0]), Box("<b>", [None])],
        title="t", x_label="score", low=1, high=5,
    )  # fmt: skip
    root = ET.fromstring(chart)
    [body] = [part for part in root.iter() if "box-body" in (part.get("class") or "")]
    rules = [part for part in root.iter() if part.get("class") == "rule"]
    at = [float((part.get("d") or "M0 ")[1:].split()[0]) for part in rules]  # at 1, 2, 3, 4, 5
    left, width = float(body.get("x") or 0), float(body.get("width") or 0)
    assert [left, left + width] == pytest.approx([at[1], at[3]], abs=0.02)
    assert "no score" in " ".join(root.itertext())


def test_times_and_offsets_in_words() -> None:
    assert [clock(s) for s in (0, 2.14, 59.96, 62.1, 3661)] == [
        "0.0", "2.1", "1:00.0", "1:02.1", "61:01.0",
    ]  # fmt: skip
    assert span(None, 3.0) == "whole video"
    assert span(1.0, 2.5).replace("\u2013", "-") == "1.0-2.5 s"
    assert [offset(x) for x in (3.0, -1.5, 0.0, None)] == [
        "sound leads by 120 ms", "sound lags by 60 ms", "sound and picture together",
        "offset unknown",
    ]  # fmt: skip
    assert [duration(x) for x in (5.0, 600.0, 36_000.0, None)] == [
        "5.0 s", "10.0 min", "10.0 h", "unknown",
    ]  # fmt: skip
    assert [p_value(x) for x in (0.0004, 0.03, None)] == ["< 0.001", "0.030", "undefined"]


def test_every_task_has_its_distribution(text: str) -> None:
    shown = section(text, "distributions")
    for title in TITLES.values():
        assert f"<title>{title.capitalize()}: distribution</title>" in shown
        assert f"<title>{title.capitalize()} by generator</title>" in shown
