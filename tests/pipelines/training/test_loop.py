"""The loop over epochs without Ray: resuming, early stopping, choosing, incidents."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.batch import ClipBatch
from model.loss_config import LossConfig, WeightingConfig
from model.ranks import Ranks
from model.tasks import TASKS
from model.training_config import TrainingConfig
from pipelines.storage import Store
from pipelines.training.loop import TooManyNotFiniteError, TrainingRun
from pipelines.training.state import load_state
from pipelines.training.task import ClipLabels, TrainTask, build_learner
from pipelines.training.variants import ClipVariants
from tests.model.learning import SMALL, WIDTHS, as_ranks, clips

COUNT = 48
BUSY = SMALL.model_copy(update={"dropout": 0.2, "modality_dropout": 0.2})
EVERYTHING = LossConfig.model_validate(
    {
        "label_smoothing": 0.05,
        "consistency": {"weight": 0.1},
        "ranking": {"weight": 0.1},
        "alignment": {"weight": 0.1, "width": 8, "shift": 2},
    }
)

WITHIN_SOURCES = LossConfig.model_validate(
    {"ranking": {"weight": 0.5, "pairs": "source", "tie_weight": 0.5}, "consistency": {"weight": 0}}
)
BY_SOURCE = {"batches": "by_source", "variants_together": 4}


class InMemory:
    """Clips by number, as :class:`pipelines.training.reduced_clips.ReducedClips` gives them."""

    def __init__(self, batch: ClipBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch)

    def read(self, numbers: NDArray[np.integer]) -> ClipBatch:
        at = torch.from_numpy(np.asarray(numbers))
        return ClipBatch(
            {k: v[at] for k, v in self.batch.streams.items()},
            {k: v[at] for k, v in self.batch.present.items()},
            self.batch.frame_mask[at],
        )


def problem(
    *,
    loss: LossConfig = EVERYTHING,
    monitor: str = "mean",
    weighting: str = "uncertainty",
    **more: Any,
) -> tuple[TrainTask, InMemory]:
    batch, targets = clips(COUNT, missing=0.2)
    values = np.where(targets.valid.numpy(), targets.values.numpy(), np.nan)
    labels = ClipLabels(
        values=values.astype(np.float32),
        weight=np.ones_like(values, np.float32),
        video=np.arange(COUNT),
        frames=batch.frame_mask.sum(1).numpy().astype(np.int32),
        split=np.repeat([0, 1, 2], [32, 10, 6]).astype(np.int8),
        variants=ClipVariants(
            content=np.arange(COUNT) // 8,
            type=np.tile([-1, 0, 0, 0, 1, 1, 1, 1], COUNT // 8),
            severity=np.tile([0, 0.3, 0.6, 0.9, 0.2, 0.5, 0.7, 1], COUNT // 8).astype(np.float32),
            harm=np.tile([[0.0], *[[2.0]] * 7], (COUNT // 8, 5)).astype(np.float32),
        ),
    )
    settings = {"epochs": 4, "batch_size": 5, "accumulation": 2, "ema": 0.9, "state_steps": 1}
    task = TrainTask(
        evaluator=BUSY,
        loss=loss,
        weighting=WeightingConfig.model_validate({"kind": weighting}),
        training=TrainingConfig.model_validate(settings | more),
        widths=WIDTHS,
        aux_width=0,
        labels=labels,
        monitor=monitor,
    )
    return task, InMemory(batch)


def run_of(
    task: TrainTask,
    data: InMemory,
    store: Store,
    tell: Callable[[str, Any], None] = lambda *_: None,
    ranks: Ranks | None = None,
) -> TrainingRun:
    return TrainingRun(task, data, build_learner(task, ranks or Ranks(), "cpu"), store, tell)


def without_times(history: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(history))
    for epoch in plain["epochs"]:
        del epoch["seconds"]
    return plain


class KilledError(Exception):
    pass


@pytest.mark.parametrize("weighting", ["uncertainty", "gradnorm"])
def test_a_killed_run_goes_on_with_the_same_curve(tmp_path: Path, weighting: str) -> None:
    task, data = problem(weighting=weighting)
    whole = run_of(task, data, Store.at(tmp_path / "whole"))
    whole.run()
    expected = without_times(whole.history)
    assert len(expected["epochs"]) == 4
    assert len(expected["steps"]) == 16

    store = Store.at(tmp_path / "killed")
    for at in (3, 4, 9, 14):  # within an epoch, at its end, and in other ones

        def stop(kind: str, value: Any, at: int = at) -> None:
            if kind == "step" and value["step"] == at:
                raise KilledError

        with pytest.raises(KilledError):
            run_of(task, data, store, stop).run()
    before_validation = run_of(task, data, store)  # an epoch's last step is saved, its end not

    def killed(_: object) -> NoReturn:
        raise KilledError

    before_validation.predict = killed  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        before_validation.run()
    last = run_of(task, data, store)
    last.run()
    assert without_times(last.history) == expected
    np.testing.assert_array_equal(last.judge_all().scores, whole.judge_all().scores)
    again = run_of(task, data, store)  # killed after the end: nothing is trained again
    again.run()
    assert without_times(again.history) == expected


@pytest.mark.parametrize("order", [{}, {**BY_SOURCE, "epochs": 1}], ids=["shuffled", "by_source"])
def test_ranks_share_a_run(tmp_path: Path, order: dict[str, Any]) -> None:
    """Two ranks, batch 5 each, give the curve of one rank with twice the clips in a step."""
    loss = LossConfig.model_validate({"consistency": {"mode": "std", "weight": 0.1}})

    plain, _ = problem(loss=loss)
    start = build_learner(replace(plain, evaluator=SMALL), Ranks(), "cpu").judged_weights()
    # Given, because threads share the generator that initial weights are drawn from.
    weights = {name: value.numpy() for name, value in start.items()}

    def curve(ranks: Ranks, batch: int, accumulation: int) -> tuple[Any, NDArray[np.float32]]:
        task, data = problem(loss=loss, batch_size=batch, accumulation=accumulation, **order)
        task = replace(task, evaluator=SMALL, start=weights)
        run = run_of(task, data, Store.at(tmp_path / f"{batch}-{accumulation}"), ranks=ranks)
        run.run()
        return run.history["steps"], run.judge_all().scores

    alone, scores = curve(Ranks(), 10, 1)
    for other, theirs in (*as_ranks(2, lambda r: curve(r, 5, 1)), curve(Ranks(), 5, 2)):
        np.testing.assert_allclose(theirs, scores, atol=1e-3)
        for a, b in zip(alone, other, strict=True):
            for name in ("total", *TASKS, "consistency"):
                assert (a[name] is None) == (b[name] is None)
                if a[name] is not None:
                    assert b[name] == pytest.approx(a[name], abs=1e-4), (a["step"], name)


def test_variants_of_a_source_meet_also_after_a_kill(tmp_path: Path) -> None:
    task, data = problem(loss=WITHIN_SOURCES, epochs=2, **BY_SOURCE)
    whole = run_of(task, data, Store.at(tmp_path / "whole"))
    whole.run()
    full = [s for s in whole.history["steps"] if s["step"] % whole.per_epoch]  # not an epoch's last
    assert len(full) == 6
    assert all(step["ranking"] > 0 for step in full)

    def stop(kind: str, value: Any) -> None:
        if kind == "step" and value["step"] == 2:
            raise KilledError

    store = Store.at(tmp_path / "killed")
    with pytest.raises(KilledError):
        run_of(task, data, store, stop).run()
    last = run_of(task, data, store)
    last.run()
    assert without_times(last.history) == without_times(whole.history)


def test_the_best_epoch_is_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    task, data = problem(epochs=30, patience=2, learning_rate=0.02, head_learning_rate=0.02)
    heard: list[tuple[str, Any]] = []
    run = run_of(task, data, Store.at(tmp_path), lambda kind, value: heard.append((kind, value)))
    run.run()
    epochs = run.history["epochs"]
    values = [-2.0 if e["monitor"] is None else e["monitor"] for e in epochs]
    best = int(np.argmax(values))
    assert run.best is not None
    assert run.best["epoch"] == best
    assert len(epochs) == best + 1 + 2 < 30
    assert any(kind == "note" and "stopped early" in value for kind, value in heard)
    # With the best weights: they give the figures of the best epoch again.
    scores = run.judge_all().scores
    val = task.labels.of("val")
    predicted, labels = task.labels.per_video(val, scores[val])
    for index, name in enumerate(TASKS):
        known = ~np.isnan(labels[:, index])
        r = np.corrcoef(predicted[known, index], labels[known, index])[0, 1]
        assert epochs[best]["plcc"][name] == pytest.approx(r, abs=1e-6)


def test_an_undefined_monitor_is_not_a_number(tmp_path: Path) -> None:
    task, data = problem(monitor="overall", epochs=2)
    task.labels.values[task.labels.of("val"), TASKS.index("overall")] = 4.0
    run = run_of(task, data, Store.at(tmp_path))
    run.run()
    assert [e["monitor"] for e in run.history["epochs"]] == [None, None]
    assert [e["best"] for e in run.history["epochs"]] == [True, False]


def test_a_nan_is_reported_with_its_clip_and_too_many_end_the_run(tmp_path: Path) -> None:
    task, data = problem(epochs=3, max_not_finite=1, state_steps=100)
    bad = 17
    data.batch.streams["audio"][bad, 0, 0] = torch.nan
    heard: list[tuple[str, Any]] = []
    run = run_of(task, data, Store.at(tmp_path), lambda kind, value: heard.append((kind, value)))
    with pytest.raises(TooManyNotFiniteError, match="max_not_finite = 1"):
        run.run()
    incidents = [value for kind, value in heard if kind == "incident"]
    assert [(i["kind"], i["clips"], i["epoch"]) for i in incidents] == [
        ("not_finite", [bad], 0),
        ("not_finite", [bad], 1),
    ]
    assert all(p.isfinite().all() for p in run.learner.evaluator.parameters())


def test_labels_are_averaged_over_clips_by_real_frames() -> None:
    values = np.full((4, 5), 2.0, np.float32)
    values[2:] = 4.0
    values[1, 0] = np.nan  # a silent clip of a video whose other clip has sound
    labels = ClipLabels(
        values=values,
        weight=np.ones_like(values),
        video=np.array([7, 7, 9, 9]),
        frames=np.array([10, 30, 5, 5], np.int32),
        split=np.zeros(4, np.int8),
    )
    scores = np.array([[1.0] * 5, [3.0] * 5, [2.0] * 5, [4.0] * 5])
    predicted, known = labels.per_video(np.arange(4), scores)
    np.testing.assert_allclose(predicted[0], [1.0, 2.5, 2.5, 2.5, 2.5])
    np.testing.assert_allclose(predicted[1], 3.0)
    np.testing.assert_allclose(known, [[2.0] * 5, [4.0] * 5])
    np.testing.assert_allclose(labels.training_means(), 3.0)


def test_a_state_replaces_the_one_before(tmp_path: Path) -> None:
    task, data = problem(epochs=2)
    store = Store.at(tmp_path)
    run_of(task, data, store).run()
    names = sorted(info.name for info in store.list("state/"))
    assert [n.split("-")[0] for n in names] == ["state/best", "state/state"]
    stored = load_state(store)
    assert stored is not None
    assert stored[1]["over"] is True
