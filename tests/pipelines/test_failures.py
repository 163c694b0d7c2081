from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from actors.types import VideoRef
from pipelines.failures import FailureTable, schema
from pipelines.storage import StorageError, Store


@dataclass
class Failure:
    ref: VideoRef
    stage: str = "decode"
    reason: str = "damaged"
    message: str = "the file is damaged"
    attempts: int = 1
    transient: bool = False


def test_failures_survive_and_go(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    table = FailureTable.load(store, "run1")
    assert (len(table), table.changed) == (0, False)
    table.add(
        Failure(VideoRef("a", "s3://k:s@b/a.mp4", version="1"), message="at s3://k:s@b/a.mp4")
    )
    table.add(Failure(VideoRef("b", "/x/b\udcff.mp4", version="1"), transient=True, attempts=3))
    table.add(Failure(VideoRef("c", "/x/c.mp4")))
    table.add(Failure(VideoRef("c", "/x/c.mp4"), reason="too_short"))
    assert table.status("a", "1") == "permanent"
    assert table.status("a", "2") is None
    assert table.status("b", "1") == "transient"
    assert table.status("c", "") == "permanent"
    table.flush(store)
    frame = pd.read_parquet(tmp_path / "failures.parquet").set_index("video_id")
    assert frame.uri.to_dict() == {"a": "s3://b/a.mp4", "b": "/x/b\\udcff.mp4", "c": "/x/c.mp4"}
    assert frame.loc["a", "message"] == "at s3://b/a.mp4"
    assert frame.loc["c", "error_class"] == "too_short"
    assert set(frame.run_id) == {"run1"}
    again = FailureTable.load(store, "run2")
    again.drop("a", "never failed")
    again.flush(store)
    assert [row["video_id"] for row in FailureTable.load(store).rows()] == ["b", "c"]


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    FailureTable("r").flush(Store.at(tmp_path))
    assert list(pd.read_parquet(tmp_path / "failures.parquet").columns) == schema().names


def test_a_damaged_table_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "failures.parquet").write_bytes(b"damaged")
    with pytest.raises(StorageError, match=r"failures.parquet cannot be read .* remove it"):
        FailureTable.load(Store.at(tmp_path))
