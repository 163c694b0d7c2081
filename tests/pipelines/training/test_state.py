"""States of interrupted runs: the newest counts, older ones go, strangers stay."""

import json
from pathlib import Path

import pytest
import torch

from model.ranks import Ranks
from pipelines import tensor_file
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training import state as train_state
from pipelines.training.loop import TooManyNotFiniteError
from tests.pipelines.training.test_loop import KilledError, problem, run_of
from tests.pipelines.training.training_here import preprocessor_of


def names(store: Store) -> list[str]:
    return [info.name for info in store.list("state/")]


def save(store: Store, step: int, best: str | None = None) -> None:
    train_state.save_state(
        store, step, {"w": torch.full((2,), float(step))}, {"step": step, "best_weights": best}
    )


def test_the_newest_state_counts_and_replaces_the_others(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    assert train_state.load_state(store) is None
    for step in (1, 9, 10, 1000):
        save(store, step)
        tensors, values = train_state.load_state(store)  # type: ignore[misc]
        assert float(tensors["w"][0]) == values["step"] == step
        assert names(store) == [train_state.state_name(step)]


def test_a_kill_between_writing_and_deleting_loses_nothing(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    save(store, 5)
    data = store.read_bytes(train_state.state_name(5))
    save(store, 12)
    store.write_bytes(train_state.state_name(5), data)  # as if it had not been deleted
    assert train_state.load_state(store)[1]["step"] == 12  # type: ignore[index]
    save(store, 13)
    assert names(store) == [train_state.state_name(13)]


def test_best_weights_stay_as_long_as_a_state_names_them(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    train_state.save_best(store, 3, {"w": torch.ones(1)})
    save(store, 3, train_state.best_name(3))
    save(store, 6, train_state.best_name(3))
    assert names(store) == [train_state.best_name(3), train_state.state_name(6)]
    train_state.save_best(store, 9, {"w": torch.full((1,), 2.0)})
    # Killed here, the run goes on from step 6, whose best weights must still be there.
    assert tensor_file.read(store, train_state.best_name(3))[0]["w"].item() == 1
    save(store, 9, train_state.best_name(9))
    assert names(store) == [train_state.best_name(9), train_state.state_name(9)]


def test_files_of_others_are_neither_read_nor_deleted(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    mine = ("state/state-9999.safetensors", "state/notes.txt", "state/best-of.safetensors",
            "state/old/state-000000009.safetensors")  # fmt: skip
    for name in mine:
        store.write_bytes(name, b"of somebody")
    save(store, 2, train_state.best_name(2))
    train_state.save_best(store, 2, {"w": torch.ones(1)})
    train_state.save_preprocessor(store, preprocessor_of())
    assert train_state.load_state(store)[1]["step"] == 2  # type: ignore[index]
    train_state.clear(store)
    assert names(store) == sorted(mine)
    train_state.clear(store)


def test_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    values = {"seconds": 0.1 + 0.2, "none": None, "name": "ä", "best_weights": None, "list": [1e-9]}
    train_state.save_state(store, 1, {"w": torch.tensor([0.1])}, values)
    found = train_state.load_state(store)
    assert found is not None
    assert found[1] == values
    with pytest.raises(ValueError, match="JSON"):  # NaN is no JSON: it would not be read elsewhere
        train_state.save_state(store, 2, {}, {"loss": float("nan")})
    assert names(store) == [train_state.state_name(1)]


def test_the_preprocessor_comes_back(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    assert train_state.load_preprocessor(store) is None
    preprocessor = preprocessor_of(aux=("snr", "hnr"))
    train_state.save_preprocessor(store, preprocessor)
    found = train_state.load_preprocessor(store)
    assert found is not None
    assert found.digest() == preprocessor.digest()


def test_a_state_of_another_number_of_workers_is_refused(tmp_path: Path) -> None:
    """Its position in the epoch would mean other clips: some twice, some never."""
    task, data = problem(epochs=2)
    store = Store.at(tmp_path)

    def stop(kind: str, value: object) -> None:
        if kind == "epoch":
            raise KilledError

    with pytest.raises(KilledError):
        run_of(task, data, store, stop).run()
    two = run_of(task, data, store, ranks=Ranks(0, 2))
    with pytest.raises(TrainInputError, match="steps of 10 clips, and 2 workers make steps of 20"):
        two.run()
    run_of(task, data, store).run()


def test_correlations_of_a_single_clip_are_undefined_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    task, data = problem(epochs=1)
    task.labels.split[task.labels.of("val")[1:]] = 0
    heard: list[dict[str, object]] = []
    run_of(
        task, data, Store.at(tmp_path), lambda k, v: heard.append(v) if k == "epoch" else None
    ).run()
    assert heard[0]["correlations"] == [[None] * 5] * 5
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_training_that_went_astray_ends_with_an_explanation(tmp_path: Path) -> None:
    task, data = problem(epochs=1)
    run = run_of(task, data, Store.at(tmp_path))
    run.run()
    weights = {k: torch.full_like(v, torch.nan) for k, v in run.learner.judged_weights().items()}
    assert run.best is not None
    train_state.save_best(Store.at(tmp_path), run.best["step"], weights)
    with pytest.raises(TooManyNotFiniteError, match=r"for 48 of 48 clips: .*lower learning rates"):
        run.judge_all()


@pytest.mark.parametrize("harm", ["cut", "pickle", "other"])
@pytest.mark.parametrize("which", ["state", "preprocessor"])
def test_a_damaged_state_is_named(tmp_path: Path, which: str, harm: str) -> None:
    store = Store.at(tmp_path)
    save(store, 4)
    train_state.save_preprocessor(store, preprocessor_of())
    name = train_state.state_name(4) if which == "state" else train_state.PREPROCESSOR
    path = tmp_path / name
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "pickle":
        torch.save({"w": torch.ones(1)}, path)
    else:  # a safetensors file of something else
        path.write_bytes(tensor_file.pack({"x": torch.ones(1)}, {"format": json.dumps("pt")}))
    with pytest.raises(TrainInputError) as caught:
        train_state.load_state(store) if which == "state" else train_state.load_preprocessor(store)
    assert name in str(caught.value)
