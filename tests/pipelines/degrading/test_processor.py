"""One source in one process: which errors are of a variant, of the source, of the output."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.artefacts.chain import parse_chain
from actors.errors import VideoError
from actors.types import Timings, VideoRef
from pipelines.corpus import CorpusConfig, iter_corpus
from pipelines.degrade import Degraded, _cut_off
from pipelines.degrading.account import account
from pipelines.degrading.plan import SourcePlan, deal
from pipelines.degrading.processor import DegradeFactory, DegradeProcessor
from pipelines.degrading.tables import Made, write_tables
from pipelines.messages import Progress, VideoEnd
from pipelines.storage import StorageError, Store
from tests.media import noise_images, write_video
from tests.pipelines.degrading.sources import ALL_TRAIN, settings
from tests.pipelines.test_storage import use
from tests.s3server import s3_server

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


def listed(corpus: str) -> list[VideoRef]:
    return list(iter_corpus(CorpusConfig(corpus=corpus)))


def made_of(out: Path | str, plan: SourcePlan) -> list[dict[str, Any]]:
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


def test_a_source_that_was_cut_off_is_told(plans: list[SourcePlan], tmp_path: Path) -> None:
    whole = write_video(
        tmp_path / "whole.mp4",
        noise_images(50, seed=3),
        audio=np.random.default_rng(3).uniform(-0.5, 0.5, 32_000).astype(np.float32),
        container_options={"movflags": "faststart"},  # the header survives
    ).read_bytes()
    Path(plans[0].source.uri).write_bytes(whole[: len(whole) // 2])
    rows = made_of(tmp_path / "out", plans[0])
    assert all(row["end_s"] < 1.5 for row in rows)
    assert [row["end_s"] + row["missing_s"] for row in rows] == pytest.approx([2.0] * len(rows))
    stored = [{"video_id": "v0", "source_version": "1", **row} for row in rows]
    stored += [{**row, "video_id": "changed since"} for row in stored]
    stored += [{**row, "video_id": "whole", "missing_s": 0.0} for row in stored]
    stored.append({"video_id": "of an older version of the rows", "source_version": "1"})
    cut = _cut_off(
        stored, {"v0": "1", "whole": "1", "changed since": "2", stored[-1]["video_id"]: "1"}
    )
    assert cut == {"v0": (rows[0]["end_s"], pytest.approx(2.0))}
    text = account(
        Degraded([], [], cut | {f"\x1b{n}": (1.0, 2.0) for n in range(9)}, {}, {}, None, 0), "o"
    )
    assert "10 sources end before their header says" in text
    assert f"  v0: {rows[0]['end_s']:.1f} s of 2.0 s" in text
    assert "and 5 more" in text
    assert "\x1b" not in text


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


def test_a_bucket_takes_videos_and_tables_as_a_folder_does(
    plans: list[SourcePlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    made_of(here, plans[0])
    with s3_server(tmp_path / "s3") as server:
        use(monkeypatch, server.endpoint)
        bucket = server.bucket("degraded")
        sources = Store.at(f"{bucket}/clean")
        for plan in plans:
            sources.write_bytes(f"{plan.source.video_id}.mp4", Path(plan.source.uri).read_bytes())
        there = list(deal(listed(f"{bucket}/clean"), settings(**TYPES)))
        out = Store.at(f"{bucket}/out")
        rows = made_of(out.raw_uri, there[0])
        for row in rows:
            assert out.read_bytes(row["uri"]) == (here / row["uri"]).read_bytes()
        made = [Made(v, f"videos/{v.video_id}.mov", "0") for v in there[0].variants]
        write_tables(out, made, settings(**TYPES), virtual=False)
        found = listed(f"{bucket}/out/manifest.parquet")
        assert [ref.uri for ref in found] == [f"{out.raw_uri}/{row['uri']}" for row in rows]
        write_tables(out, [Made(v) for v in there[0].variants], settings(**TYPES), virtual=True)
        found = listed(f"{bucket}/out/manifest.parquet")
        assert {ref.uri for ref in found} == {f"{bucket}/clean/v0.mp4"}
        assert parse_chain(found[2].artefacts)[0].donor == f"{bucket}/clean/v1.mp4"
        assert {ref.version.rpartition("+")[0] for ref in found} == {there[0].source.version}
