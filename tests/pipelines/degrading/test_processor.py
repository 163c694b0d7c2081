"""One source in one process: which errors are of a variant, of the source, of the output."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.errors import VideoError
from actors.types import Timings, VideoRef
from pipelines.degrading.plan import SourcePlan, deal
from pipelines.degrading.processor import DegradeFactory, DegradeProcessor
from pipelines.messages import Progress, VideoEnd
from pipelines.storage import StorageError, Store
from tests.media import noise_images, write_video
from tests.pipelines.degrading.sources import ALL_TRAIN, settings

TYPES = {"artefacts": {"noise": None, "foreign_sound": None}, "severities": [1.0]} | ALL_TRAIN


@pytest.fixture
def plans(tmp_path: Path) -> list[SourcePlan]:
    refs = []
    for number in range(2):
        hiss = np.random.default_rng(number).uniform(-0.5, 0.5, 17_600).astype(np.float32)
        path = tmp_path / f"v{number}.mp4"
        write_video(path, noise_images(27, seed=number), audio=hiss)
        refs.append(VideoRef(f"v{number}", str(path), version="1"))
    return list(deal(refs, settings(**TYPES)))


def made_of(out: Path, plan: SourcePlan) -> list[dict[str, Any]]:
    processor = DegradeFactory(settings(**TYPES), str(out))(1)
    assert isinstance(processor, DegradeProcessor)
    processor.load()
    ref = replace(plan.source, artefacts=plan.text())
    try:
        *rows, end = processor.process(ref, Progress(), Timings())
        assert isinstance(end, VideoEnd)
        return [row for row in rows if isinstance(row, dict)]
    finally:
        processor.close()


def test_a_row_for_each_variant(plans: list[SourcePlan], tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = made_of(out, plans[0])
    assert [row["name"] for row in rows] == ["clean", "noise-1000", "foreign_sound-1000"]
    for row in rows:
        assert (out / row["uri"]).stat().st_size == row["bytes"]
        assert row["end_s"] == pytest.approx(27 / 25)
    assert len({row["digest"] for row in rows}) == 3
    again = made_of(tmp_path / "again", plans[0])
    assert again == rows


def test_a_donor_that_is_no_video_costs_its_variants_alone(
    plans: list[SourcePlan], tmp_path: Path
) -> None:
    Path(plans[1].source.uri).write_bytes(b"not a video")
    clean, noise, foreign = made_of(tmp_path / "out", plans[0])
    assert clean["reason"] is None
    assert noise["reason"] is None
    assert (foreign["uri"], foreign["reason"]) == (None, "bad_donor")
    assert "v1.mp4, cannot be read" in foreign["message"]


def test_what_another_run_may_mend_is_not_written_down_as_impossible(
    plans: list[SourcePlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise VideoError("decode", "read_failed", "the network is away", transient=True)

    monkeypatch.setattr("actors.artefacts.studio.Studio._donated", fail)
    with pytest.raises(VideoError) as error:
        made_of(tmp_path / "out", plans[0])
    assert error.value.transient


def test_an_output_that_cannot_be_written_is_not_the_fault_of_the_source(
    plans: list[SourcePlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(Store, "publish", full)
    with pytest.raises(VideoError, match="no space left") as error:
        made_of(tmp_path / "out", plans[0])
    assert (error.value.stage, error.value.reason) == ("write", "unwritable_output")
    assert error.value.transient
