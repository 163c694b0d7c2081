"""The gate: every rule on runs that pass and runs that fail, and how often it is wrong."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from scipy import stats

from pipelines.scoring.baseline import compare
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.gate import GateFacts, GateResult, Verdict, check_gate, judge
from pipelines.scoring.gate_config import CONDITIONS, Drop, GateConfig, Rule, load_gate
from pipelines.scoring.leaderboard import LeaderboardConfig
from tests.pipelines.scoring.score_tables import descriptors, finding, video, videos
from tests.support import ROOT


def run(scores: list[float | None] | None = None, **more: Any) -> pa.Table:
    """Ten videos of generator a (or as many as scores), all tasks equal, columns as given."""
    values = [3.0] * 10 if scores is None else scores
    columns = {"generator": "a", **more}
    each = {k: v for k, v in columns.items() if isinstance(v, list)}
    same = {k: v for k, v in columns.items() if k not in each}
    return videos(
        video(f"a/{i}", score=s, **same, **{k: v[i] for k, v in each.items()})
        for i, s in enumerate(values)
    )


def judged(
    rules: list[dict[str, Any]] | None = None,
    table: pa.Table | None = None,
    *,
    corpus: int | None = None,
    failed: int = 0,
    demonstration: bool = False,
    baseline: pa.Table | None = None,
    **gate: Any,
) -> GateResult:
    table = run() if table is None else table
    config = LeaderboardConfig(rounds=200)
    change = None if baseline is None else compare(table, baseline, config)
    total = table.num_rows + failed if corpus is None else corpus
    facts = GateFacts(table, total, failed, demonstration, change, config)
    return judge(GateConfig.model_validate({"rules": rules or [], **gate}), facts)


def last(result: GateResult) -> Verdict:
    return result.verdicts[-1]


# --- each rule passes and fails


@pytest.mark.parametrize(
    ("gate", "good", "bad", "reason"),
    [
        ({"min_videos": 8}, {}, {"table": run([3.0] * 7 + [None])}, "7 have scores"),
        ({}, {}, {"table": run([])}, "0 have scores"),
        ({}, {}, {"demonstration": True}, "seeded (random) weights"),
        ({}, {}, {"table": run(demonstration=[False] * 9 + [True])}, "seeded (random) weights"),
        ({"max_failure_share": 0.2}, {"failed": 2}, {"failed": 3}, "3 of 13 (23.1 %) failed"),
        ({"max_failure_share": 0.2}, {}, {"corpus": 0}, "the corpus has no video"),
        ({"min_coverage": 0.9}, {"failed": 1}, {"failed": 2}, "10 of 12 (83.3 %) have scores"),
        (
            {"min_coverage": 0.9},
            {"table": run([3.0] * 9 + [None])},
            {"table": run([3.0] * 8 + [None] * 2)},
            "8 of 10 (80 %) have scores",
        ),
        ({"min_coverage": 0.9}, {}, {"corpus": 0}, "the corpus has no video"),
        (
            {"max_ood_share": 0.25},
            {"table": run(ood=[True, False, False, False] + [None] * 6)},
            {"table": run(ood=[True, True, False, False] + [None] * 6)},
            "2 of 4 (50 %) are",
        ),
        ({"max_ood_share": 0.25}, {}, {"table": run(ood=None)}, "it is known of no video"),
    ],
)
def test_rules_about_the_run(
    gate: dict[str, Any], good: dict[str, Any], bad: dict[str, Any], reason: str
) -> None:
    assert judged(**{**gate, **good}).passed
    found = judged(**{**gate, **bad})
    assert not found.passed
    assert any(reason in v.reason for v in found.verdicts if not v.passed), found.text()


UP, DOWN = [1.0] * 2 + [4.0] * 8, [1.0] * 3 + [4.0] * 7


@pytest.mark.parametrize(
    ("rule", "good", "bad", "reason"),
    [
        ({"task": "overall", "min_mean": 3.4}, run(UP), run(DOWN), "mean 3.100 over 10 videos"),
        # float32: the mean of 3.6 is not below 3.6
        ({"task": "overall", "min_mean": 3.6}, run([3.6] * 10), run([3.5999] * 10), "3.599900"),
        ({"task": "overall", "min_low": 2.9}, run([3.0] * 10), run(UP), "interval from 2."),
        ({"task": "overall", "min_low": 2.0}, run(), run([5.0] * 4), "fewer than 5 groups"),
        (
            {"task": "lip_sync", "min_quantile": {"q": 0.5, "value": 3.0}},
            run([1.0] * 4 + [3.0] * 6),
            run([1.0] * 6 + [3.0] * 4),
            "0.5 quantile 1.000 over 10 videos",
        ),
        (
            {"task": "overall", "max_share_below": {"value": 1.5, "share": 0.2}},
            run(UP),
            run(DOWN),
            "3 (30 %) over 10 videos",
        ),
        (
            {"task": "overall", "max_share_below": {"value": 3.6, "share": 0}},
            run([3.6] * 10),
            run([3.59] * 10),
            "10 (100 %)",
        ),
        (
            {"measure": "sync_offset", "max_abs": {"value": 2, "share": 0.1}},
            run(sync_offset=[2.0] * 5 + [-2.0] * 4 + [-3.0]),
            run(sync_offset=[0.0] * 8 + [3.0, -3.0]),
            "2 (20 %) over 10 videos",
        ),
        (
            {"measure": "sync_distance", "max_mean": 8.0},
            run(sync_distance=8.0),
            run(sync_distance=8.5),
            "mean 8.500",
        ),
        (
            {"measure": "descriptors.snr", "min_mean": 20},
            run(descriptors=descriptors(snr=25.0)),
            run(descriptors=descriptors(snr=15.0)),
            "mean 15.000",
        ),
        (
            {"measure": "ood_distance", "max_quantile": {"q": 0.9, "value": 1}},
            run(ood_distance=0.9),
            run(ood_distance=1.1),
            "0.9 quantile 1.100",
        ),
        (
            {"measure": "sync_confidence", "max_share_above": {"value": 9, "share": 0.5}},
            run(sync_confidence=9.0),
            run(sync_confidence=9.1),
            "10 (100 %)",
        ),
        (
            {"max_findings": {"kind": "mouth_frozen", "share": 0.1}},
            run(findings=[[finding("mouth_frozen")] * 2] + [[]] * 9),
            run(findings=[[finding("mouth_frozen")]] * 2 + [[]] * 8),
            "2 of 10 (20 %) have it",
        ),
    ],
)
def test_rules_about_videos(
    rule: dict[str, Any], good: pa.Table, bad: pa.Table, reason: str
) -> None:
    assert judged([rule], good).passed, judged([rule], good).text()
    found = judged([rule], bad)
    assert not found.passed
    assert reason in last(found).reason, found.text()
    scoped = {**rule, "generator": "a"}
    assert judged([scoped], good).passed
    assert not judged([scoped], bad).passed


def test_every_condition_is_tried_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in CONDITIONS if text.count(f'"{name}"') == 0] == []


def test_rules_look_at_their_generator_only() -> None:
    table = run([2.0] * 5 + [4.0] * 5, generator=["bad"] * 5 + ["good"] * 5)
    rule = {"task": "overall", "min_mean": 3.5}
    assert judged([{**rule, "generator": "good"}], table).passed
    assert not judged([{**rule, "generator": "bad"}], table).passed
    assert not judged([rule], table).passed
    each = judged([{**rule, "generator": "each"}], table)
    assert [(v.rule.split(",")[0], v.passed) for v in each.verdicts[-2:]] == [
        ("bad", False),
        ("good", True),
    ]
    unknown = run([2.0] * 5, generator=None)
    assert not judged([{**rule, "generator": "(unknown)"}], unknown).passed


@pytest.mark.parametrize(
    ("rule", "table", "reason"),
    [
        ({"generator": "wav3lip"}, run(generator="wav2lip"), "did you mean wav2lip?"),
        ({"generator": "other"}, run(generator="x\x1b[1m"), r"there is x\x1b[1m"),
        ({"generator": "each"}, run([]), "no generator"),
        ({}, run([]), "there is no video"),
        ({}, run([None] * 3), "none of 3 videos has a value"),
    ],
)
def test_a_rule_about_nothing_fails(rule: dict[str, Any], table: pa.Table, reason: str) -> None:
    found = judged([{"task": "overall", "min_mean": 1.0, **rule}], table, min_videos=0)
    assert not last(found).passed
    assert reason in last(found).reason


def test_videos_without_a_value_are_told() -> None:
    found = judged([{"task": "overall", "min_mean": 2.0}], run([3.0] * 6 + [None] * 4))
    assert last(found).reason == "mean 3.000 over 6 videos (4 without a value)"


def test_seeded_weights_pass_when_allowed_and_say_so() -> None:
    found = judged(demonstration=True, allow_demonstration=True)
    assert found.passed
    assert "allow_demonstration lets them pass" in last(found).reason
    assert "demonstration" not in judged(allow_demonstration=True).text()


# --- drops


def drop(value: float = 0.1, alpha: float = 0.05, **more: Any) -> dict[str, Any]:
    return {"task": "overall", "max_drop": {"value": value, "alpha": alpha}, **more}


def shifted(by: float, spread: float = 0.1, n: int = 20, seed: int = 1, **more: Any) -> pa.Table:
    d = np.random.default_rng(seed).normal(0, spread, n)
    return run((3.0 + by + d - d.mean()).tolist(), **more)


def test_a_drop_fails_and_none_passes() -> None:
    before = shifted(0.0, seed=2)
    assert judged([drop()], shifted(0.0), baseline=before).passed
    assert judged([drop()], shifted(0.5), baseline=before).passed
    found = judged([drop()], shifted(-0.4), baseline=before)
    assert not found.passed
    assert re.fullmatch(
        r"mean change -0\.400 over 20 videos in 20 units; corrected p = \S+ <= 0\.05",
        last(found).reason,
    )
    # Within what is allowed, and beyond it by less than chance explains.
    assert judged([drop(0.5)], shifted(-0.4), baseline=before).passed
    assert judged([drop(0.39)], shifted(-0.4), baseline=before).passed


def test_drops_are_judged_by_generator() -> None:
    names = {"generator": ["x"] * 10 + ["y"] * 10}
    before = shifted(0.0, seed=2, **names)
    scores = before["overall"].to_numpy().copy()
    scores[10:] -= 0.5
    column = before.schema.get_field_index("overall")
    after = before.set_column(column, "overall", pa.array(scores))
    found = judged([drop(generator="each")], after, baseline=before)
    assert [v.passed for v in found.verdicts[-2:]] == [True, False]
    assert last(found).rule.startswith("y, overall quality: drop of at most 0.1")


def test_a_drop_rule_about_nothing_fails() -> None:
    before = run(generator=["gone"] * 5 + ["a"] * 5)
    after = before.slice(5)
    each = judged([drop(generator="each")], after, baseline=before)
    assert [(v.passed, v.reason) for v in each.verdicts if v.rule.startswith("gone")] == [
        (False, "only the baseline has this generator")
    ]
    missing = judged([drop(generator="other")], after, baseline=before)
    assert "no video of this scope" in last(missing).reason
    silent = judged([drop(task="lip_sync")], run(has_sound=False), baseline=run(has_sound=True))
    assert not silent.passed


def test_too_few_units_cannot_be_tested() -> None:
    before = run([3.0] * 3)
    for by in (-0.2, -0.1, 0.1):
        for option in ("fail", "pass"):
            rule = {"task": "overall", "max_drop": {"value": 0.1, "untestable": option}}
            found = judged([rule], run([3.0 + by] * 3), baseline=before)
            assert found.passed is (option == "pass")
            assert last(found).reason.startswith(
                "cannot be tested: 3 units cannot show a drop of more than 0.1 at alpha 0.05; "
                "at least 5 are needed; mean change"
            )
    # Two rules need one more unit than one rule: 1 / 2^5 is enough once, not twice.
    five = judged([drop(0.1)], run([2.5] * 5), baseline=run([3.0] * 5))
    twice = judged([drop(0.1)] * 2, run([3.5] * 5), baseline=run([3.0] * 5))
    six = judged([drop(0.1)] * 2, run([3.5] * 6), baseline=run([3.0] * 6))
    assert "corrected p = 0.031 <= 0.05" in last(five).reason
    assert not five.passed
    assert "among 2 drop tests; at least 6 are needed" in last(twice).reason
    assert six.passed


def test_what_is_significant_all_the_same_fails_though_it_could_be_untestable() -> None:
    """Holm counts the greater p once: 5 units are significant beside a p that is smaller."""
    scores = [2.0] * 5 + [2.0] * 10
    names = ["few"] * 5 + ["many"] * 10
    after, before = run(scores, generator=names), run([3.0] * 15, generator=names)
    rule = drop(0.1, generator="each")
    rule["max_drop"]["untestable"] = "pass"
    found = judged([rule], after, baseline=before)
    assert [v.passed for v in found.verdicts[-2:]] == [False, False]
    assert "5 units; corrected p = 0.031 <= 0.05" in found.verdicts[-2].reason


def test_nights_of_few_units_pass_at_the_level_when_asked_to() -> None:
    """Five generators of five videos, five tasks, nothing changed: too few for any verdict."""
    rng = np.random.default_rng(3)
    names = [name for name in "abcde" for _ in range(5)]
    rule = {"generator": "each", "max_drop": {"value": 0.05, "alpha": 0.01, "untestable": "pass"}}
    tasks = ("lip_sync", "expression", "audio_quality", "cross_modal", "overall")
    for _ in range(10):
        before, after = (run((3 + rng.normal(0, 0.2, 25)).tolist(), generator=names) for _ in "ab")
        found = judged([{"task": task, **rule} for task in tasks], after, baseline=before)
        assert found.passed
        assert "among 25 drop tests; at least 12 are needed" in last(found).reason


# --- scores that vanish


SILENT: list[dict[str, Any]] = [
    {"task": "lip_sync", "min_mean": 1.0},
    {"task": "lip_sync", "min_low": 1.0},
    {"task": "lip_sync", "min_quantile": {"q": 0.1, "value": 1.0}},
    {"task": "lip_sync", "max_share_below": {"value": 2.0, "share": 1.0}},
    {"task": "lip_sync", "max_drop": {"value": 0.1}},
    {"task": "lip_sync", "generator": "each", "max_drop": {"value": 0.1, "untestable": "pass"}},
    {"task": "lip_sync", "min_coverage": 0.9},
    {"measure": "sync_offset", "max_abs": {"value": 2, "share": 0.05}},
]


@pytest.mark.parametrize("rule", SILENT)
def test_scores_that_vanish_fail_their_rules(rule: dict[str, Any]) -> None:
    """98 of 100 videos are silent: none failed, all have scores of other tasks."""

    def night(silent: int) -> pa.Table:
        return videos(
            video(f"a/{i}", generator="a", score=3.0, has_sound=i >= silent) for i in range(100)
        )

    gate: dict[str, Any] = {"min_coverage": 0.99, "max_failure_share": 0.0}
    found = judged([rule], night(98), baseline=night(0), **gate)
    assert [v.passed for v in found.verdicts] == [True, True, True, True, False], found.text()
    assert re.search(r"2 of 100 (videos )?\(2 %", last(found).reason)
    assert judged([rule], night(2), baseline=night(0), **gate).passed
    if "min_coverage" in rule:
        assert not judged([rule], night(11), **gate).passed
        assert judged([rule], night(10), **gate).passed
    else:
        assert judged([rule], night(50), baseline=night(0), **gate).passed
        assert not judged([rule], night(51), baseline=night(0), **gate).passed
        strict = {**rule, "least_share": 0.9}
        assert not judged([strict], night(11), baseline=night(0), **gate).passed


def test_videos_that_had_no_score_before_are_not_missed() -> None:
    before = videos(video(f"a/{i}", generator="a", has_sound=i >= 90) for i in range(100))
    assert judged([drop(task="lip_sync")], before, baseline=before).passed


def test_drop_rules_without_a_baseline_are_a_usage_error() -> None:
    gate = GateConfig.model_validate({"rules": [{"task": "overall", "min_mean": 2}, drop()]})
    with pytest.raises(ScoreInputError, match=r"rules\.1 .*give one with --baseline"):
        check_gate(gate, with_baseline=False)
    with pytest.raises(ScoreInputError, match="--baseline"):
        judge(gate, GateFacts(run(), 10, 0, False))
    check_gate(gate, with_baseline=True)
    assert gate.needs_baseline
    assert not GateConfig().needs_baseline


def test_false_alarms_of_1000_nights_are_at_the_nominal_level() -> None:
    """Nights whose true drop is just what is allowed: the worst case of H0.

    Videos of a speaker move together, by as much as they move alone; the second gate has a family
    of four tests on the same nights.
    """
    rng = np.random.default_rng(2026)
    speakers = [f"s{i % 10}" for i in range(30)]
    names = ["x"] * 15 + ["y"] * 15
    before = run([3.5] * 30, speaker=speakers, generator=names)
    config = LeaderboardConfig(pair_by="speaker", rounds=0, permutations=1023)
    one = GateConfig.model_validate({"rules": [drop(0.2)]})
    four = GateConfig.model_validate(
        {"rules": [drop(0.2, generator="each"), drop(0.2, generator="each", task="expression")]}
    )
    alarms = {"one": 0, "family": 0, "found": 0}
    nights = 1000
    columns = [before.schema.get_field_index(task) for task in ("overall", "expression")]
    for night in range(nights):
        after, worse = before, before
        for column in columns:
            noise = np.tile(rng.normal(0, 0.2, 10), 3) + rng.normal(0, 0.2, 30)
            name = before.schema.field(column).name
            after = after.set_column(column, name, pa.array(3.3 + noise, pa.float32()))
        change = compare(after, before, config)
        facts = GateFacts(after, 30, 0, False, change, config)
        alarms["one"] += not judge(one, facts).passed
        alarms["family"] += not judge(four, facts).passed
        if night < 100:
            noise = np.tile(rng.normal(0, 0.2, 10), 3) + rng.normal(0, 0.2, 30)
            worse = before.set_column(columns[0], "overall", pa.array(2.9 + noise, pa.float32()))
            change = compare(worse, before, config)
            facts = GateFacts(worse, 30, 0, False, change, config)
            alarms["found"] += not judge(one, facts).passed
    low, high = (b / nights for b in stats.binom.interval(0.999, nights, 0.05))
    assert low <= alarms["one"] / nights <= high, alarms
    assert alarms["family"] / nights <= high, alarms
    assert alarms["found"] >= 95, alarms


# --- the file


def write(folder: Path, text: str) -> str:
    file = folder / "gate.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_vidoes: 3", "min_vidoes: there is no such setting; did you mean min_videos?"),
        ("rules: [{task: overall, min_meen: 3}]", "rules.0.min_meen: .* did you mean min_mean?"),
        (
            "rules: [{task: overall, max_drop: {valeu: 0.1}}]",
            "rules.0.max_drop.valeu: .* did you mean value?",
        ),
        ("rules: [{task: overal, min_mean: 3}]", "rules.0.task: .*'overall'"),
        (
            "rules: [{measure: sync_ofset, min_mean: 3}]",
            "there is no such measure; did you mean sync_offset?",
        ),
        (
            "rules: [{max_findings: {kind: mouth_frosen, share: 0.1}}]",
            "no such kind of finding; did you mean mouth_frozen?",
        ),
        ("rules: [{task: overall}]", "exactly one condition .* got none"),
        (
            "rules: [{task: overall, min_mean: 3, min_low: 3}]",
            "got min_mean and min_low: write a rule for each",
        ),
        ("rules: [{min_mean: 3}]", "min_mean needs a task or a measure"),
        ("rules: [{measure: sync_offset, max_drop: {value: 1}}]", "max_drop compares scores"),
        (
            "rules: [{task: overall, max_findings: {kind: blur, share: 1}}]",
            "leave task out|no such kind",
        ),
        (
            "rules: [{max_findings: {kind: mouth_frozen, share: 1}, least_share: 0.2}]",
            "max_findings counts all videos of its scope: leave least_share out",
        ),
        ("rules: [{task: overall, min_coverage: 60}]", "min_coverage: .*less than or equal to 1"),
        (
            "rules: [{task: overall, max_drop: {value: 1, untestable: maybe}}]",
            "untestable: .*'fail' or 'pass'",
        ),
        ("rules: [{task: overall, min_mean: 60}]", "scores lie on .1, 5., 60 would decide nothing"),
        ("rules: [{measure: sync_offset, max_mean: .inf}]", "finite number"),
        ("rules: [{task: overall, min_quantile: {q: 1.5, value: 3}}]", "q: .*less than 1"),
        ("max_failure_share: 5", "max_failure_share: .*less than or equal to 1"),
        ("rules: {task: overall}", "rules: "),
        ("- 3", "expected sections with settings"),
        ("rules: [", "is not YAML"),
    ],
)
def test_a_wrong_file_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ScoreInputError, match=message.replace("?", r"\?")) as caught:
        load_gate(file)
    assert str(caught.value).startswith(f"gate {file}:")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScoreInputError, match=r"gate .*none\.yaml: cannot be read"):
        load_gate(str(tmp_path / "none.yaml"))


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_gate(write(tmp_path, "")) == GateConfig()


def test_the_example_loads_and_passes_a_good_night() -> None:
    gate = load_gate(str(ROOT / "configs" / "gate" / "example.yaml"))
    good = shifted(1.0, n=30)
    facts = GateFacts(good, 30, 0, False, compare(good, shifted(1.0, n=30, seed=3)))
    assert judge(gate, facts).passed, judge(gate, facts).text()
    assert not judge(gate, GateFacts(good, 40, 10, False, facts.change)).passed


def test_the_page_names_every_setting_and_its_examples_load(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    for section in (GateConfig, Rule, Drop):
        for name in section.model_fields:
            assert f"`{name}" in page or f"| `{name}`" in page, name
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 3
    for text in examples:
        assert yaml.safe_load(text)
        load_gate(write(tmp_path, text))


# --- the result


def test_the_text_is_one_screen_with_failures_first() -> None:
    verdicts = [Verdict(f"rule {i}", i % 2 == 0, "so") for i in range(100)]
    lines = GateResult(False, verdicts).text().splitlines()
    assert lines[0] == "gate FAILED: 50 of 100 rules"
    assert len(lines) == 32
    assert all(line.startswith("  FAIL  ") for line in lines[1:-1])
    assert lines[-1] == "  and 20 more failed, 50 more passed"
    assert GateResult(True, verdicts[:1]).text() == "gate passed: 1 rules\n  pass  rule 0: so"


def test_external_text_is_escaped() -> None:
    table = run(generator="\x1b[31mred\n")
    found = judged([{"task": "overall", "min_mean": 4, "generator": "each"}], table)
    assert "\x1b" not in found.text()
    assert len(found.text().splitlines()) == len(found.verdicts) + 1
    json.dumps(found.to_json(), allow_nan=False)
