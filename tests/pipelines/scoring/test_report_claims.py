"""What the report must not claim: sync without weights, winners against the means, live names."""

import json
import re
from typing import Any

import pytest

from model.tasks import TASKS
from pipelines.report.markdown import code, text
from pipelines.report.scoring import scoring_report
from pipelines.report.scoring_text import markdown_summary, summary_json
from pipelines.report.scoring_words import SEEDED_SYNC
from tests.pipelines.scoring import score_tables as st
from tests.pipelines.scoring.test_report import PROVENANCE, Page, facts, section, table_rows, whole

RTL = "\u05e9\u05dc\u05d5\u05dd\u0645\u0631"
WORST_NAMES = [
    RTL,
    "@here <!channel> @channel",
    "<script>alert('x')</script>",
    "'\"`|*",
    "x" * 5000,
]
SYNC = {"sync_offset": -15.0, "sync_confidence": 0.1, "sync_distance": 9.0, "sync_score": 0.1}


def sync_page(confidence: float, *, row: bool = False, run: bool = False) -> str:
    more: dict[str, Any] = SYNC | {"sync_confidence": confidence, "demonstration": row}
    clips = [st.clip("a", i, **more) for i in range(2)]
    found = facts([st.video("a", **more)], clips, provenance=PROVENANCE | {"demonstration": run})
    return scoring_report(found)


@pytest.mark.parametrize(("row", "run"), [(True, False), (False, True)])
def test_sync_of_random_weights_is_withheld_everywhere(row: bool, run: bool) -> None:
    page = sync_page(8.0, row=row, run=run)
    card = section(page, "worst")
    assert f"sync {SEEDED_SYNC}" in card
    assert "lags" not in card
    assert "LSE-C 8.0" not in card
    assert "Sync offset over time" not in card
    assert "Sync confidence over time" not in card
    assert f"Sync offset and confidence are {SEEDED_SYNC}." in card
    [line] = table_rows(page, "All videos")
    assert not re.search(r"600|8\.0<|^8\.0$", " ".join(line[9:11]))
    assert f"sync {SEEDED_SYNC}" in section(page, "videos")


@pytest.mark.parametrize(("confidence", "trusted"), [(2.9, False), (3.0, True), (8.0, True)])
def test_an_offset_is_trusted_from_a_confidence_of_three(confidence: float, trusted: bool) -> None:
    page = sync_page(confidence)
    card = section(page, "worst")
    assert "sound lags by 600 ms" in card
    assert ("sound lags by 600 ms (not trusted: LSE-C below 3)" in card) is not trusted
    assert ("not trusted (LSE-C below 3)" in card) is not trusted  # the name of the curve
    assert ("not trusted where LSE-C is below 3" in card) is not trusted  # its caption
    [line] = table_rows(page, "All videos")
    assert ("\u2212600<sup>" in " ".join(line)) is not trusted
    assert ("offset not trusted: LSE-C below 3" in section(page, "videos")) is not trusted


def contradicted(method: str = "paired") -> dict[str, Any]:
    """The means put a above b, the test over what both have puts b above a."""
    means = {"a": 3.5, "b": 3.2}
    return {
        "by": "generator", "pair_by": "speaker", "pair_reason": "auto: <b>12</b> speakers",
        "unpaired_videos": 0, "level": 0.95,
        "generators": [
            {"name": name, "videos": 20, **{
                task: {"mean": mean, "low": None, "high": None, "n": 18, "rank": 1,
                       "reason": "no interval: <few> groups"} for task in TASKS}}
            for name, mean in means.items()
        ],
        "pairs": [
            {"a": "a", "b": "b", "task": task, "method": method, "n": 12, "difference": -0.4,
             "low": -0.6, "high": -0.2, "p": 0.001, "p_adjusted": 0.002, "significant": True,
             "reason": None} for task in TASKS
        ],
    }  # fmt: skip


def test_a_winner_against_the_means_is_flagged_and_says_over_what() -> None:
    rows = [st.video("a/x", generator="a"), st.video("b/x", generator="b")]
    found = facts(rows, leaderboard=contradicted())
    shown = section(scoring_report(found), "leaderboard")
    said = "b above a by 0.40 over the 12 shared speakers (p = 0.002)"
    against = "the means over all their videos say the opposite: +0.30, compared \u22120.40"
    assert shown.count(f"{said}; CAUTION: {against}") == 1  # the same in every task
    assert f"{against}</li>" in shown  # the note below the table
    assert "<sup>" in table_rows(shown, "Comparisons of generators")[0][4]
    message = markdown_summary(found)
    assert f"{said}; **CAUTION**: {against}" in message
    agree = contradicted()
    for pair in agree["pairs"]:
        pair["difference"] = 0.4
    for out in (
        scoring_report(facts(rows, leaderboard=agree)),
        markdown_summary(facts(rows, leaderboard=agree)),
    ):
        assert "CAUTION" not in out
        assert "opposite" not in out


@pytest.mark.parametrize(
    ("by", "noun"), [("name", "names"), ("speaker", "speakers"), ("x(.)", "units")]
)
def test_the_units_of_a_comparison_are_named(by: str, noun: str) -> None:
    rows = [st.video("a/x", generator="a"), st.video("b/x", generator="b")]
    found = facts(rows, leaderboard=contradicted() | {"pair_by": by})
    assert f"over the 12 shared {noun}" in section(scoring_report(found), "leaderboard")


def test_unpaired_comparisons_and_what_is_counted_are_labelled() -> None:
    rows = [st.video("a/x", generator="a"), st.video("b/x", generator="b")]
    page = scoring_report(facts(rows, leaderboard=contradicted("unpaired")))
    shown = section(page, "leaderboard")
    assert "unpaired, 12 speakers of both together" in shown
    assert "Paired comparisons" not in page
    heads = [re.sub("<.*?>", "", head) for head in re.findall(r"<th [^>]*>(.*?)</th>", shown)]
    assert {"units", "paired", "videos"} <= set(heads)
    assert "n" not in heads
    assert table_rows(shown, "Comparisons of generators")[0][8] == "no: independent samples"
    assert "<small>18 videos</small>" in shown
    assert "n = " not in section(page, "summary") + section(page, "distributions")
    paired = scoring_report(facts(rows, leaderboard=contradicted()))
    assert table_rows(paired, "Comparisons of generators")[0][8] == "yes"


def test_reasons_of_pairing_and_of_missing_intervals_are_shown() -> None:
    found = facts([st.video("a/x", generator="a")], leaderboard=contradicted())
    shown = section(scoring_report(found), "leaderboard")
    assert "of the same speaker belong together (auto: &lt;b&gt;12&lt;/b&gt; speakers)" in shown
    assert "no interval: &lt;few&gt; groups</li>" in shown
    assert "Means without an interval: &lt;few&gt; groups" in markdown_summary(found)


def test_a_baseline_whose_videos_all_failed_was_given_all_the_same() -> None:
    given = facts([st.video("a")], provenance=PROVENANCE | {"baseline": "s3://old/@here"})
    shown = section(scoring_report(given), "change")
    assert "No baseline was given" not in shown
    assert "s3://old/@here" in shown
    assert "none of its videos has scores in this run" in shown
    assert "none of its videos has scores in this run" in markdown_summary(given)
    without = facts([st.video("a")])
    assert "No baseline was given" in section(scoring_report(without), "change")
    assert "baseline" not in markdown_summary(without)


def test_only_videos_with_a_score_count_as_scored() -> None:
    none: dict[str, Any] = {f"{task}_reason": "no face" for task in TASKS}
    rows = [
        st.video("a"),
        st.video("b", score=None, **none),
        st.video("c", score=None, lip_sync=2.0),
    ]
    found = facts(rows)
    page = section(scoring_report(found), "summary")
    assert "2 of 3 videos" in page
    assert "1 of them have no score at all" in page
    assert "2 videos have at least one score, 1 went through without any" in markdown_summary(found)
    counts = json.loads(json.dumps(summary_json(found)))["counts"]
    assert (counts["with_scores"], counts["without_scores"]) == (2, 1)


@pytest.mark.parametrize(
    ("quantile", "said"), [(0.975, "the 97.5 % quantile"), (None, "a high quantile")]
)
def test_what_is_unlike_training_is_told_as_it_is_computed(
    quantile: float | None, said: str
) -> None:
    card = {"quantitative_analyses": {"uncertainty": {"novelty": {"quantile": quantile}}}}
    found = facts([st.video("a")], provenance=PROVENANCE | {"model_card": card})
    shown = section(scoring_report(found), "reading")
    assert "clips from the centre of the training set, averaged" in shown
    assert f"is above {said} of the distances of validation clips" in shown


@pytest.mark.parametrize("name", WORST_NAMES)
def test_no_name_is_live_in_either_form(name: str) -> None:
    found = whole(name)
    page = scoring_report(found)
    document = Page(page)
    assert page.count("<script") == len(document.all("script")) == 1
    assert page.count("<bdi>") == page.count("</bdi>") > 20
    assert "x" * 600 not in page
    message = markdown_summary(found)
    assert not re.search(r"@(?!\u200b)", message)
    assert not re.search(r"<(?!\u200b)", message)
    assert "x" * 301 not in message


def test_names_in_sentences_are_isolated() -> None:
    board = contradicted()
    for row in board["generators"]:
        row["name"] = RTL + row["name"]
    for pair in board["pairs"]:
        pair |= {"a": RTL + pair["a"], "b": RTL + pair["b"]}
    video = st.video(f"{RTL}/1", generator=RTL, speaker=RTL)
    page = scoring_report(facts([video], leaderboard=board))
    assert f"<bdi>{RTL}b</bdi> above <bdi>{RTL}a</bdi> by 0.40" in page
    assert f"generator <bdi>{RTL}</bdi>" in page
    assert f"speaker <bdi>{RTL}</bdi>" in page
    assert f"<code><bdi>{RTL}/1</bdi></code>" in page


def test_markdown_names_call_nobody() -> None:
    assert text("@channel") == "@\u200bchannel"
    assert code("a@here`<!channel>") == "`a@\u200bhere'<\u200b!channel>`"
