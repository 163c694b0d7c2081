"""From variants and scores to figures: planted answers come out, group by group."""

from pathlib import Path
from typing import Any

import pytest

from model.ruler_config import RulerConfig
from model.tasks import TASKS
from pipelines.benchmarking.book import flat
from pipelines.benchmarking.cells import make_cells
from pipelines.benchmarking.evaluation import SINGLE, Evaluation
from pipelines.benchmarking.measuring import Measured, measure_cells
from pipelines.benchmarking.variants import Corpus, read_corpus
from tests.pipelines.benchmarking.corpora import PLAN, Scores, plan, planted, rows, write

QUICK = RulerConfig(rounds=100, permutations=199)


def measured(corpus: Corpus, scores: Scores, **more: Any) -> Measured:
    tasks = more.pop("tasks", TASKS)
    found = Evaluation("x", "scores", tasks, scores, blind=True, **more)
    return measure_cells(make_cells(corpus, found, tasks), QUICK)


def cell(found: Measured, kind: str, task: str) -> dict[str, Any]:
    return next(row for row in found.cells if (row["type"], row["task"]) == (kind, task))


def scope(found: Measured, name: str, **more: bool) -> dict[str, Any]:
    wanted = {"held_out": False, "with_blind": False, **more}
    return next(
        row
        for row in found.scopes
        if row["scope"] == name and all(row[key] == value for key, value in wanted.items())
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return read_corpus(str(write(tmp_path_factory.mktemp("ruler") / "d", rows(8))))


@pytest.fixture(scope="module")
def perfect(corpus: Corpus) -> Measured:
    return measured(corpus, planted(rows(8), leak=0.2))


def test_a_perfect_evaluator_is_told_so_in_every_cell(perfect: Measured) -> None:
    assert len(perfect.cells) == len(PLAN) * len(TASKS) + len(TASKS)  # and the combinations
    for kind, (_, group, harms, held_out, blind) in PLAN.items():
        for task in TASKS:
            row = cell(perfect, kind, task)
            assert row["group"] == group
            assert row["held_out"] == held_out
            assert row["blind"] == blind
            assert row["points"] == harms.get(task)
            assert row["missing"] == 0
            if kind == "seam":  # planted: nothing happens
                assert row["monotonicity"]["value"] == 0
                assert row["ties"] == row["steps"] == 40
                assert row["srcc"]["value"] is None
                assert row["srcc"]["reason"] == "the score never changes"
                assert row["srcc_pooled"]["reason"] == "the score never changes"
            elif task in harms:
                assert row["relation"] == "harmed"
                assert row["monotonicity"]["value"] == row["srcc"]["value"] == 1
                assert row["srcc_pooled"]["value"] == pytest.approx(1)
                assert row["drop"]["value"] == pytest.approx(0.8 * harms[task], abs=1e-4)
                assert row["smallest_severity"]["value"] == 0.2


def test_selectivity_is_the_planted_one(perfect: Measured) -> None:
    found = {row["type"]: row for row in perfect.artefacts}
    assert found["offset"]["harmed_drop"]["value"] == pytest.approx(2.4, abs=1e-4)
    assert found["offset"]["unharmed_change"]["value"] == pytest.approx(0.2, abs=1e-4)
    assert found["offset"]["selectivity"]["value"] == pytest.approx(12, abs=0.01)
    assert found["blur"]["selectivity"]["value"] == pytest.approx(8, abs=0.01)
    assert found["offset"]["selectivity_all"]["value"] == pytest.approx(12, abs=0.01)
    assert found["seam"]["selectivity"]["reason"] == "neither harmed nor unharmed scores change"
    # Sync, sound and picture: drops of 2.4, 2.4 and 1.6 over 0.2 in the nine other cells.
    assert scope(perfect, "all")["selectivity"]["value"] == pytest.approx(6.4 / 0.6, abs=0.01)


def test_held_out_and_blind_types_stand_apart(perfect: Measured) -> None:
    assert scope(perfect, "all")["types"] == ["offset", "noise", "blur"]
    assert scope(perfect, "all", with_blind=True)["types"] == ["offset", "noise", "blur", "seam"]
    assert scope(perfect, "all", held_out=True)["types"] == ["robot"]
    assert scope(perfect, "sound")["types"] == ["noise"]
    assert scope(perfect, "sound", held_out=True)["types"] == ["robot"]
    # Nothing of the group face is left once the blind type is out; with it, it is shown.
    assert [s["with_blind"] for s in perfect.scopes if s["scope"] == "face"] == [True]
    assert scope(perfect, "face", with_blind=True)["monotonicity"]["value"] == 0
    assert scope(perfect, "all")["monotonicity"]["value"] == 1
    # 3 of 4 harmed cells fall at every step, the blind one at none.
    assert scope(perfect, "all", with_blind=True)["monotonicity"]["value"] == 0.75
    assert scope(perfect, "all")["detected"] == {"cells": 3, "detected": 3, "median": 0.2}
    assert scope(perfect, "all", with_blind=True)["detected"]["detected"] == 3
    assert set(scope(perfect, "all")["tasks"]) == {
        "lip_sync", "audio_quality", "expression", "overall",
    }  # fmt: skip


def test_combinations_are_one_step_and_in_no_group(perfect: Measured) -> None:
    lips = cell(perfect, "combination", "lip_sync")
    assert lips["relation"] == "harmed"
    assert lips["steps"] == 8
    assert lips["monotonicity"]["value"] == 1
    # 0.6 of an offset, and 0.4 of what noise leaks.
    assert lips["drop"]["value"] == pytest.approx(0.6 * 2.4 + 0.4 * 0.2, abs=1e-4)
    assert lips["smallest_severity"]["reason"] == "combinations have no severity"
    assert cell(perfect, "combination", "expression")["relation"] == "unharmed"
    assert cell(perfect, "combination", "overall")["relation"] == "follows"


def test_missing_scores_are_counted_and_change_nothing_else(corpus: Corpus) -> None:
    scores = planted(rows(8), leak=0.2)
    del scores["person/test-0/offset-0.4"]
    scores["person/test-1/offset-1"] = {"audio_quality": 4.0}
    found = measured(corpus, scores)
    row = cell(found, "offset", "lip_sync")
    assert row["missing"] == 2
    assert row["steps"] == 40 - 3
    assert row["missing_steps"] == 3
    assert row["monotonicity"]["value"] == 1
    assert row["drop"]["value"] == pytest.approx(2.4, abs=1e-4)
    assert cell(found, "offset", "audio_quality")["missing"] == 1
    assert cell(found, "noise", "lip_sync")["missing"] == 0


def test_a_single_number_is_held_to_what_it_speaks_for(corpus: Corpus) -> None:
    scores = {
        name: {SINGLE: 10 * found["audio_quality"]} for name, found in planted(rows(8)).items()
    }
    found = measured(corpus, scores, tasks=(SINGLE,), speaks_for=("audio_quality",))
    assert cell(found, "noise", SINGLE)["relation"] == "harmed"
    assert cell(found, "blur", SINGLE)["relation"] == "unharmed"
    everything = scope(found, "all")
    assert everything["monotonicity"]["value"] == 1
    assert everything["harmed_drop"]["value"] == pytest.approx(24, abs=1e-3)
    assert everything["selectivity"]["value"] == 100
    assert "limited" in everything["selectivity"]["reason"]
    assert scope(found, "picture")["monotonicity"]["reason"] == "no harmed score"
    # For an evaluator of everything, what it does not see counts against it.
    blunt = measured(corpus, scores, tasks=(SINGLE,))
    assert scope(blunt, "all")["monotonicity"]["value"] == pytest.approx(1 / 3)


def test_a_plateau_of_the_artefact_is_no_step(tmp_path: Path) -> None:
    values = plan()
    values["artefacts"]["offset"]["measures"]["0.4"] = {"unit": 0.2}
    corpus = read_corpus(str(write(tmp_path / "d", rows(2), values)))
    scores = planted(rows(2))
    for i in range(2):
        scores[f"person/test-{i}/offset-0.4"] = scores[f"person/test-{i}/offset-0.2"]
    row = cell(measured(corpus, scores), "offset", "lip_sync")
    assert row["steps"] == 8
    assert row["monotonicity"]["value"] == 1


def test_curves_have_a_row_for_each_severity(perfect: Measured) -> None:
    mine = [row for row in perfect.levels if (row["type"], row["task"]) == ("offset", "lip_sync")]
    assert [row["severity"] for row in mine] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert [row["n"] for row in mine] == [8] * 6
    for row in mine:
        assert row["score"]["value"] == pytest.approx(4.5 - 2.4 * row["severity"], abs=1e-4)
        assert row["drop"]["value"] == pytest.approx(2.4 * row["severity"], abs=1e-4)
    assert mine[0]["p"] is None
    assert mine[1]["p"] == pytest.approx(1 / 200)


def test_figures_become_columns() -> None:
    row = {"a": 1, "b": {"value": 2, "low": 1, "high": 3, "reason": None, "undefined_rounds": 0}}
    assert flat(row) == {"a": 1, "b": 2, "b_low": 1, "b_high": 3, "b_reason": None}
