"""Generators compared: constructed corpora whose means, units and differences are known."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from model.paired import holm
from model.tasks import TASKS
from pipelines.config import ConfigError, load_config
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.leaderboard import LeaderboardConfig, leaderboard
from pipelines.scoring.pairing import UNKNOWN, pair_videos
from tests.pipelines.scoring.score_tables import corpus, video, videos


def table(*rows: tuple[str, str | None, str | None, float | None]) -> pa.Table:
    """Videos of (video_id, generator, speaker, score)."""
    return videos(video(i, generator=g, speaker=s, score=score) for i, g, s, score in rows)


def pair(board: dict[str, Any], a: str, b: str, task: str = "overall") -> dict[str, Any]:
    return next(p for p in board["pairs"] if {p["a"], p["b"]} == {a, b} and p["task"] == task)


# --- means, ranks, order


def test_generators_stand_by_their_overall_mean() -> None:
    board = leaderboard(
        table(
            ("a/1", "a", None, 2.0),
            ("a/2", "a", None, 3.0),
            ("b/1", "b", None, 4.0),
            ("b/2", "b", None, 5.0),
            ("b/3", "b", None, None),
            ("c/1", "c", None, 4.5),
            ("d/1", "d", None, None),
        )
    ).to_json()
    assert [g["name"] for g in board["generators"]] == ["b", "c", "a", "d"]
    first, second, third, last = (g["overall"] for g in board["generators"])
    assert (first["mean"], first["n"], first["rank"]) == (4.5, 2, 1)
    assert (second["mean"], second["rank"]) == (4.5, 1)
    assert (third["mean"], third["rank"]) == (2.5, 3)
    assert (last["mean"], last["rank"], last["reason"]) == (None, None, "no video has a score")
    assert board["generators"][0]["videos"] == 3
    assert first["low"] is None
    assert "fewer than 5 groups" in first["reason"]
    assert pair(board, "a", "d")["p"] is None
    assert pair(board, "a", "d")["significant"] is None
    assert pair(board, "a", "d")["reason"] == "nothing to compare"


def test_it_is_json_without_nan_and_complete() -> None:
    board = leaderboard(corpus({"a": 3.0, "b": 3.5, "c": 2.0})[0]).to_json()
    again = json.loads(json.dumps(board, allow_nan=False))
    assert again == board
    assert len(board["pairs"]) == 3 * len(TASKS)
    assert board["tasks"] == list(TASKS)
    assert {"mean", "low", "high", "n", "rank"} <= set(board["generators"][0]["lip_sync"])


@pytest.mark.parametrize("names", [[], [None, None], ["only"]])
def test_without_two_generators_there_is_nothing_to_test(names: list[str | None]) -> None:
    board = leaderboard(table(*((f"v{i}", name, None, 3.0) for i, name in enumerate(names))))
    shown = [UNKNOWN] if None in names else names
    assert list(board.standings) == shown
    assert board.pairs == []


def test_silent_videos_do_not_count_where_they_cannot_be_judged() -> None:
    rows = [video(f"a/{i}", generator="a", has_sound=i > 2, score=2.0 + (i > 2)) for i in range(9)]
    means = leaderboard(videos(rows)).standings["a"][1]
    assert (means["lip_sync"].n, means["lip_sync"].mean) == (6, 3.0)
    assert (means["overall"].n, means["overall"].mean) == (9, pytest.approx(8 / 3))


# --- units


def test_names_are_ids_without_the_generators_folder() -> None:
    found = pair_videos(
        table(
            ("run/wav2lip/may", "wav2lip", None, 3), ("run/source/may", "source", None, 3),
            ("run/wav2lip/obama", "wav2lip", None, 3), ("run/source/wav2lip", "source", None, 3),
        ),
        "name",
    )  # fmt: skip
    assert found.units.tolist() == [0, 0, 1, 2]
    assert found.alone == 0


def test_a_regular_expression_finds_units() -> None:
    rows = table(
        ("a_s1_take2", "a", None, 3), ("b_s1_take9", "b", None, 3), ("a_none", "a", None, 3)
    )
    for pattern in (r"_(s\d)_", r"_(?P<unit>s\d)_take(\d)", r"s\d"):
        found = pair_videos(rows, pattern)
        assert found.units[0] == found.units[1] != found.units[2]
        assert found.alone == 1
    with pytest.raises(ScoreInputError, match=r"matches no video id, such as a_s1_take2"):
        pair_videos(rows, "nowhere")


def test_a_broken_regular_expression_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pair_by.*auto, speaker, name or a regular expression"):
        load_config(LeaderboardConfig, None, ["pair_by='(['"])


def several(generators: str, units: int, speakers: int | None) -> pa.Table:
    return table(
        *(
            (f"{g}/p{i}", g, None if speakers is None else f"s{i % speakers}", 3.0)
            for g in generators
            for i in range(units)
        )
    )


@pytest.mark.parametrize(
    ("rows", "by", "why"),
    [
        (several("abc", 10, 6), "speaker", "of 3 pairs of generators, 3 share at least 5 speakers"),
        (several("abc", 10, 1), "name", "3 share at least 5 names and 3 any (speakers: 0 and 3)"),
        (several("abc", 10, None), "name", "(speakers: 0 and 0)"),
        (several("ab", 2, None), "name", "0 share at least 5 names and 1 any"),
        (several("ab", 2, 2), "speaker", "0 share at least 5 speakers and 1 any"),
        (table(("x", "a", None, 3), ("y", "b", None, 3)), "name", "neither speakers nor names"),
        (several("a", 10, 6), "speaker", "one generator, 6 speakers"),
        (several("a", 10, 3), "name", "fewer than 5 speakers"),
    ],
)
def test_auto_takes_what_most_generators_share(rows: pa.Table, by: str, why: str) -> None:
    found = pair_videos(rows)
    assert found.by == by
    assert why in found.reason
    board = leaderboard(rows, LeaderboardConfig(rounds=50, permutations=99))
    assert (board.pair_by, board.pair_reason) == (by, found.reason)


def test_videos_of_an_unknown_speaker_are_alone() -> None:
    rows = table(("a/1", "a", None, 3), ("b/1", "b", None, 3), ("a/2", "a", "s", 3))
    found = pair_videos(rows, "speaker")
    assert len(set(found.units)) == 3
    assert found.alone == 2


# --- tests between generators


def test_a_unit_counts_once_however_many_videos_it_has() -> None:
    rows = [(f"a/{i}", "a", "s0", 5.0) for i in range(10)]
    rows += [(f"a/x{i}", "a", f"s{i}", 3.0) for i in range(1, 6)]
    rows += [(f"b/{i}", "b", f"s{i}", 2.5) for i in range(6)]
    found = pair(leaderboard(table(*rows)).to_json(), "a", "b")
    assert (found["n"], found["method"]) == (6, "paired")
    assert found["difference"] == pytest.approx((2.5 + 5 * 0.5) / 6)
    assert found["p"] == 2 / 2**6


def test_pairing_finds_what_hard_prompts_hide() -> None:
    rows, _ = corpus({"a": 3.0, "b": 3.15}, prompts=40, prompt_spread=0.6, noise=0.1)
    scores = rows["overall"].to_numpy()
    assert stats.ttest_ind(scores[:40], scores[40:]).pvalue > 0.05
    found = pair(leaderboard(rows).to_json(), "a", "b")
    assert (found["a"], found["b"], found["n"]) == ("b", "a", 40)
    assert found["p"] == pytest.approx(stats.ttest_rel(scores[:40], scores[40:]).pvalue, abs=0.001)
    assert found["significant"]
    assert 0 < found["low"] < 0.15 < found["high"]


def test_nothing_shared_is_compared_unpaired_and_says_so() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(3, 0.3, 30).astype(np.float32), rng.normal(3.2, 0.5, 20).astype(np.float32)
    rows = [(f"a/x{i}", "a", None, float(v)) for i, v in enumerate(a)]
    rows += [(f"b/y{i}", "b", None, float(v)) for i, v in enumerate(b)]
    found = pair(leaderboard(table(*rows)).to_json(), "a", "b")
    assert (found["method"], found["n"]) == ("unpaired", 50)
    assert found["p"] == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, abs=0.02)
    assert found["low"] < found["difference"] < found["high"]


def test_p_values_are_corrected_over_the_pairs_of_a_task() -> None:
    rows, _ = corpus({"a": 3.0, "b": 3.1, "c": 3.2, "d": 3.25}, prompts=10, seed=3)
    board = leaderboard(rows).to_json()
    for task in TASKS:
        pairs = [p for p in board["pairs"] if p["task"] == task]
        assert [p["p_adjusted"] for p in pairs] == holm([p["p"] for p in pairs])
        assert [p["significant"] for p in pairs] == [p["p_adjusted"] <= 0.05 for p in pairs]


def test_too_few_units_say_that_they_can_never_tell() -> None:
    found = leaderboard(several("ab", 2, None)).pairs[0]
    assert (found.method, found.n) == ("unpaired", 4)
    assert found.significant is False
    assert str(found.reason).startswith("2 shared units are too few to pair: compared as indep")
    rows, _ = corpus({"a": 2.0, "b": 4.0, "c": 3.0}, prompts=6)
    reason = leaderboard(rows).pairs[0].reason
    assert reason == "6 units cannot give a corrected p below 0.094"
    # Three and three: 20 divisions, of which two are as extreme as what was seen.
    three = table(*((f"{g}/{g}{i}", g, None, s) for g, s in (("a", 2.0), ("b", 4.0))
                    for i in range(3)))  # fmt: skip
    assert "6 units cannot give a corrected p below 0.1" in str(leaderboard(three).pairs[0].reason)


def test_what_is_significant_has_no_reservation() -> None:
    """Holm counts two of three pairs when the third is sure: 2 / 2^6 twice, not three times."""
    whole, _ = corpus({"a": 1.5, "b": 3.0, "c": 4.5}, prompts=30, noise=0.01, prompt_spread=0.1)
    rows = whole.slice(0, 66)  # six videos of c
    found = leaderboard(rows, LeaderboardConfig(level=0.93)).to_json()
    for names in ("ac", "bc"):
        few = pair(found, *names)
        assert few["p_adjusted"] == pytest.approx(2 * 2 / 2**6)
        assert (few["n"], few["significant"], few["reason"]) == (6, True, None)
    strict = pair(leaderboard(rows).to_json(), "a", "c")
    assert (strict["significant"], strict["reason"]) == (
        False,
        "6 units cannot give a corrected p below 0.094",
    )


@pytest.mark.parametrize(("shared", "method"), [(4, "unpaired"), (5, "paired")])
def test_units_are_paired_from_five_on(shared: int, method: str) -> None:
    rng = np.random.default_rng(8)
    rows = [
        (f"{g}/{'p' if i < shared else g}{i}", g, None, float(rng.normal(3, 0.5)))
        for g in "ab"
        for i in range(12)
    ]
    found = pair(leaderboard(table(*rows)).to_json(), "a", "b")
    assert (found["method"], found["n"]) == (method, 5 if method == "paired" else 24)
    assert ("shared units are too few" in str(found["reason"])) is (method == "unpaired")


def test_names_of_few_speakers_carry_a_caveat() -> None:
    for pair_by in ("auto", "name"):
        found = pair_videos(several("ab", 10, 3), pair_by)
        assert found.by == "name"
        assert found.reason.endswith(
            "; videos of one speaker are treated as independent; only 3 speakers"
        )
    assert "independent" not in pair_videos(several("ab", 10, None)).reason
    assert "independent" not in pair_videos(several("ab", 10, 10), "name").reason  # one each
    rows = [(f"{g}/p{i}", g, f"{g}{i % 6}", 3.0) for g in "ab" for i in range(12)]
    assert "share fewer than 5 speakers" in pair_videos(table(*rows)).reason
    assert "independent" in pair_videos(several("a", 10, 3)).reason


def test_speakers_are_preferred_though_names_link_more() -> None:
    rows = [(f"{g}/p{i}", g, f"s{i % 6}", 3.0) for g in "ab" for i in range(12)]
    rows += [(f"c/p{i}", "c", f"c{i % 2}", 3.0) for i in range(12)]
    assert pair_videos(table(*rows)).by == "speaker"
    # Known of less than half of the videos they say little.
    rows = [(i, g, s if int(i[3:]) < 5 else None, v) for i, g, s, v in rows]
    assert pair_videos(table(*rows)).by == "name"


def test_generators_that_are_the_same_are_rarely_told_apart() -> None:
    """Chance of any false difference between three equal generators, over 200 corpora."""
    rng = np.random.default_rng(5)
    base, _ = corpus({"a": 3.0, "b": 3.0, "c": 3.0}, prompts=12, clips_each=1)
    config = LeaderboardConfig(rounds=0, permutations=4095)
    column = base.schema.get_field_index("overall")
    wrong = 0
    for _ in range(200):
        scores = 3 + np.tile(rng.normal(0, 0.5, 12), 3) + rng.normal(0, 0.2, 36)
        rows = base.set_column(column, "overall", pa.array(scores, pa.float32()))
        wrong += any(p.significant for p in leaderboard(rows, config).pairs if p.task == "overall")
    assert wrong / 200 <= stats.binom.ppf(0.999, 200, 0.05) / 200


def test_intervals_know_of_speakers() -> None:
    rng = np.random.default_rng(6)
    speakers = rng.normal(3, 0.6, 10)
    rows = [
        (f"a/{s}-{i}", "a", f"s{s}", float(speakers[s] + rng.normal(0, 0.1)))
        for s in range(10)
        for i in range(10)
    ]
    by = {
        pair_by: leaderboard(table(*rows), LeaderboardConfig(pair_by=pair_by)).standings["a"][1][
            "overall"
        ]
        for pair_by in ("speaker", "name")
    }
    assert (by["speaker"].units, by["name"].units) == (10, 100)
    widths = {k: (m.high or np.nan) - (m.low or np.nan) for k, m in by.items()}
    assert widths["speaker"] > 2 * widths["name"]
    assert by["speaker"].mean == by["name"].mean
