"""Calibration of a trained evaluator: who is judged how, what is added up, what is measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from model.batch import ClipBatch
from model.novelty import EmbeddingFit, EmbeddingSums, Novelty
from model.ranks import Ranks
from model.tasks import NEED_SOUND, TASKS
from model.uncertainty_config import UncertaintyConfig
from pipelines.predictions import Provenance, VideoPredictions, VideoTable
from pipelines.storage import Store
from pipelines.training.calibration import Heard, calibrate, measured
from pipelines.training.loop import TrainingRun
from pipelines.training.model_card import card_markdown, model_card
from pipelines.training.task import build_learner
from pipelines.training.verdict import Verdict
from tests.model.learning import SMALL, as_ranks, clips
from tests.pipelines import report_run
from tests.pipelines.training.test_loop import COUNT, InMemory, KilledError, problem, run_of

N = len(TASKS)
SOUND = [i for i, task in enumerate(TASKS) if task in NEED_SOUND]
FURTHER = 7


def masked_problem(**more: Any) -> tuple[Any, InMemory]:
    """A training problem with seven further clips, as those whose sound is masked."""
    task, _ = problem(epochs=1, loss=PLAIN, **more)
    batch, _ = clips(COUNT + FURTHER, missing=0.2)
    return replace(task, evaluator=SMALL), InMemory(batch)


PLAIN = problem()[0].loss.model_validate({"consistency": {"mode": "std", "weight": 0.1}})


def embeddings_of(run: TrainingRun, data: InMemory) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Scores and embeddings of each clip judged alone, by the best weights."""
    evaluator = run.learner.evaluator.eval()
    scores, embeddings = [], []
    with torch.no_grad():
        for number in range(len(data)):
            found = evaluator(data.read(np.array([number])))
            scores.append(found.scores[0].numpy())
            embeddings.append(found.embedding[0].numpy())
    return np.array(scores), np.array(embeddings)


def test_the_verdict_is_of_every_clip_and_its_distances_are_scikit_learn_s(tmp_path: Path) -> None:
    task, data = masked_problem()
    run = run_of(task, data, Store.at(tmp_path))
    run.run()
    found = run.judge_all()
    scores, embeddings = embeddings_of(run, data)
    np.testing.assert_allclose(found.scores, scores[:COUNT], atol=1e-5)
    np.testing.assert_allclose(found.silent_scores, scores[COUNT:], atol=1e-5)
    train, val = (embeddings[task.labels.of(split)] for split in ("train", "val"))
    wanted = LedoitWolf().fit(train.astype(np.float64))
    assert found.fit is not None
    assert found.fit.clips == len(train) == 32
    assert found.fit.shrinkage == pytest.approx(wanted.shrinkage_, rel=1e-3)
    np.testing.assert_allclose(found.fit.mean, train.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.distances**2, wanted.mahalanobis(val), rtol=1e-3)
    silent = wanted.mahalanobis(embeddings[COUNT:])
    np.testing.assert_allclose(found.silent_distances**2, silent, rtol=1e-3)
    assert (len(found.distances), len(found.silent_distances)) == (10, FURTHER)


def test_ranks_share_the_verdict(tmp_path: Path) -> None:
    task, _ = masked_problem()
    weights = build_learner(task, Ranks(), "cpu").judged_weights()
    start = {name: value.numpy() for name, value in weights.items()}

    def judged(ranks: Ranks, batch: int) -> Verdict:
        task, data = masked_problem(batch_size=batch, accumulation=1)
        store = Store.at(tmp_path / f"{batch}")
        run = run_of(replace(task, start=start), data, store, ranks=ranks)
        run.run()
        return run.judge_all()

    alone = judged(Ranks(), 12)
    assert alone.fit is not None
    for other in as_ranks(2, lambda ranks: judged(ranks, 6)):
        np.testing.assert_allclose(other.scores, alone.scores, atol=1e-3)
        np.testing.assert_allclose(other.silent_scores, alone.silent_scores, atol=1e-3)
        np.testing.assert_allclose(other.distances, alone.distances, rtol=0.01)
        np.testing.assert_allclose(other.silent_distances, alone.silent_distances, rtol=0.01)
        assert other.fit.clips == 32


def test_a_run_killed_while_it_judges_gives_the_same_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, data = masked_problem()
    store = Store.at(tmp_path)
    first = run_of(task, data, store)
    first.run()
    expected = first.judge_all()
    killed = run_of(task, data, store)
    killed.run()

    def die(*_: object) -> NoReturn:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.training.verdict.EmbeddingWatch.hear", die)
        with pytest.raises(KilledError):
            killed.judge_all()
    again = run_of(task, data, store)
    again.run()
    found = again.judge_all()
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.silent_scores, expected.silent_scores)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.fit is not None
    assert expected.fit is not None
    np.testing.assert_array_equal(found.fit.whitening, expected.fit.whitening)


def test_embeddings_that_do_not_vary_leave_no_fit(tmp_path: Path) -> None:
    task, data = masked_problem()
    same = {name: torch.ones_like(value) for name, value in data.batch.streams.items()}
    data = InMemory(ClipBatch(same, data.batch.present, data.batch.frame_mask))
    run = run_of(task, data, Store.at(tmp_path))
    run.run()
    data.batch.frame_mask[:] = True
    for value in data.batch.present.values():
        value[:] = True
    found = run.judge_all()
    assert found.fit is None
    assert (len(found.distances), len(found.silent_distances)) == (0, 0)
    assert np.isfinite(found.silent_scores).all()


# --- from scores of videos to intervals


def predictions(
    scores: Any, labels: Any, splits: list[str], generators: list[str | None]
) -> VideoPredictions:
    count = len(splits)
    ids = [f"v{n}" for n in range(count)]
    unknown = np.full((count, N), np.nan)
    table = VideoTable(
        ids, ids, list(splits), generators, [None] * count, np.asarray(labels), unknown, unknown
    )
    ones = np.ones(count, np.int64)
    return VideoPredictions(
        table, ones, ones, np.asarray(scores), [], Provenance("f", "c", demonstration=False)
    )


def verdict(fit: EmbeddingFit | None, distances: Any, silent: Any) -> Verdict:
    none = np.empty((0, N), np.float32)
    return Verdict(none, none, fit, np.asarray(distances, float), np.asarray(silent, float))


def case() -> tuple[Heard, VideoPredictions]:
    """40 validation videos (2 silent), 30 test videos (5 silent); residuals that tell who is who.

    Residuals are 0.01 x number of the video with sound; 0.5 more for videos without.
    """
    rng = np.random.default_rng(0)
    count, val = 75, np.arange(5, 45)
    splits = ["train"] * 5 + ["val"] * 40 + ["test"] * 30
    generators: list[str | None] = ["a" if n % 2 else "b" for n in range(count)]
    generators[10] = None
    generators[11] = ""
    silent = np.isin(np.arange(count), [5, 20, 50, 51, 52, 53, 54])
    labels = rng.uniform(2, 4, (count, N))
    size = 0.01 * np.arange(count)[:, None] + 0.5 * silent[:, None]
    scores = labels + size * rng.choice([-1, 1], (count, N))
    scores[np.ix_(silent, SOUND)] = np.nan
    labels[60, 4] = np.nan
    heard = Heard(predictions(scores, labels, splits, generators), silent)
    masked = labels[val] + 0.01 * np.arange(5, 45)[:, None] + 0.5
    masked[:, SOUND] = np.nan
    table = predictions(masked, labels[val], ["val"] * 40, [generators[n] for n in val])
    return heard, table


CONFIG = UncertaintyConfig(min_group=15)


def test_residuals_of_validation_videos_alone_go_where_they_belong() -> None:
    heard, masked = case()
    found = calibrate(heard, masked, verdict(None, [], []), CONFIG).calibration
    sounding = [n for n in range(5, 45) if n not in (5, 20)]
    for task in range(N):
        np.testing.assert_allclose(found.cells[False, None][task], 0.01 * np.array(sounding))
        wanted = [] if task in SOUND else 0.01 * np.arange(5, 45) + 0.5
        np.testing.assert_allclose(found.cells[True, None][task], wanted)
    own = [n for n in sounding if n % 2 and n != 11]
    np.testing.assert_allclose(found.cells[False, "a"][4], 0.01 * np.array(own))
    assert set(found.cells) == {(s, g) for s in (True, False) for g in (None, "a", "b")}
    assert found.min_group == 15


def test_coverage_on_the_test_split_is_counted() -> None:
    heard, masked = case()
    uncertainty = calibrate(heard, masked, verdict(None, [], []), CONFIG)
    found = measured(uncertainty, heard, CONFIG)
    assert found["calibrated_on"]["sound"] == dict.fromkeys(TASKS, 38)
    assert found["calibrated_on"]["no_sound"]["overall"] == 40
    assert found["calibrated_on"]["no_sound"]["lip_sync"] == 0
    assert found["groups"] == {name: list(TASKS) for name in ("a", "b")}
    # By hand: a has 19 videos (7, 9, 13 ... 43), b 18 (6, 8, 12 ... 44): ranks 18 of both.
    widths = {"a": 0.41, "b": 0.44}
    sure = {}
    for n in range(45, 75):
        if not heard.silent[n]:
            sure[n] = 0.01 * n <= widths["a" if n % 2 else "b"]
    assert sum(sure.values()) == 0  # their residuals are larger than all of validation
    part = found["coverage"]["lip_sync"]
    assert (part["count"], part["covered"]) == (25, 0)
    # Without sound: 0.5 + 0.01 x number, of which validation saw up to 0.94.
    part = found["coverage"]["overall"]
    assert (part["count"], part["covered"]) == (29, 0)
    assert found["novelty"] is None
    assert found["notes"] == [
        "novelty is unknown: the embeddings of the training clips do not vary"
    ]
    smaller = replace(heard.videos, scores=heard.videos.videos.labels + 0.4)
    part = measured(uncertainty, replace(heard, videos=smaller), CONFIG)["coverage"]["overall"]
    assert (part["count"], part["covered"], part["share"]) == (29, 29, 1.0)


def test_distances_become_a_threshold() -> None:
    heard, masked = case()
    rng = np.random.default_rng(1)
    train, val = rng.standard_normal((60, 3)), rng.standard_normal((30, 3))
    sums = EmbeddingSums(np.zeros(3))
    sums.add(train)
    fit = EmbeddingFit.of(sums)
    assert fit is not None
    known = verdict(fit, fit.distance(val), fit.distance(val + 3))
    config = CONFIG.model_copy(update={"novelty_quantile": 0.8})
    found = calibrate(heard, masked, known, config)
    assert isinstance(found.novelty, Novelty)
    assert found.distance(val).max() > 1
    assert (found.distance(val) <= 1).sum() == 25  # ceil(31 x 0.8)
    assert found.novelty.silent_threshold > found.novelty.threshold
    told = measured(found, heard, config)
    assert told["novelty"]["training_clips"] == 60
    assert told["novelty"]["validation_clips"] == 30


def test_without_labels_in_validation_or_test_there_is_nothing_to_say() -> None:
    heard, masked = case()
    table = heard.videos.videos
    table.labels[:] = np.nan
    masked.videos.labels[:] = np.nan
    found = measured(calibrate(heard, masked, verdict(None, [], []), CONFIG), heard, CONFIG)
    assert all(part["count"] == 0 for part in found["coverage"].values())
    assert len(found["notes"]) == 5 + 3 + 1
    assert "are missing: 0 validation videos have a label" in found["notes"][0]


def test_the_model_card_says_what_was_covered() -> None:
    heard, masked = case()
    config = CONFIG.model_copy(update={"level": 0.98})
    uncertainty = calibrate(heard, masked, verdict(None, [], []), config)
    told = measured(uncertainty, heard, config)
    told["groups"]["<b>|x"] = list(TASKS)
    rows = report_run.predictions(120)
    card = model_card(report_run.facts(rows, uncertainty=told))
    stored = card["quantitative_analyses"]["uncertainty"]
    assert stored["level"] == 0.98
    assert stored["coverage"]["overall"]["covered"] == told["coverage"]["overall"]["covered"]
    text = card_markdown(card)
    assert "### Intervals at 98 %" in text
    assert "| test videos with an interval | 25 | 30 | 25 | 30 | 29 |" in text
    assert "lip\\_sync: the intervals of videos with sound span the whole scale" in text
    assert "<b>" not in text
    assert "### Intervals" not in card_markdown(model_card(report_run.facts(rows)))
