"""What an output says of the run that it holds."""

from pathlib import Path

import pytest

from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.record import finished_run


def test_a_summary_is_what_a_finished_run_wrote(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    assert finished_run(store, "summary.json", TrainInputError) is None
    (tmp_path / "summary.json").write_text('{"epochs": 3}')
    assert finished_run(store, "summary.json", TrainInputError) == {"epochs": 3}


@pytest.mark.parametrize("content", ["", '{"epochs": ', "[]", "\x00"])
def test_a_damaged_summary_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(
        TrainInputError, match=r"summary\.json is damaged: choose another --out, or"
    ):
        finished_run(Store.at(tmp_path), "summary.json", TrainInputError)
