"""A checkpoint of ours on a local Ray cluster, with made-up features."""

from pathlib import Path

import pandas as pd
import pytest

from model.tasks import TASKS
from pipelines.benchmark import Evaluator, Told, benchmark
from pipelines.benchmarking.config import BenchmarkConfig
from pipelines.config import load_config
from tests.pipelines.benchmarking.corpora import PLAN, plan, rows, write
from tests.score_fakes import make_score_fake, tiny_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_a_checkpoint_is_measured_and_known_scores_stay(tmp_path: Path) -> None:
    types = {"noise": PLAN["noise"]}
    records = rows(2, types) + rows(1, types, split="train")
    records[3]["uri"] = records[3]["uri"].replace("noise-0.6", "bad")
    folder = write(tmp_path / "d", records, plan(types))
    for record in records:
        path = folder / record["uri"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a film")
    checkpoint = str(tiny_checkpoint(tmp_path / "model"))
    out = tmp_path / "out"

    def run() -> Told:
        given = [f"corpus={folder}", "ruler.rounds=20"]
        config = load_config(BenchmarkConfig, None, given)
        who = Evaluator(checkpoint=checkpoint, settings=(f"checkpoint={checkpoint}",))
        return benchmark(config, who, str(out), factory=make_score_fake)

    told = run()
    assert (told.videos, told.failed) == (12, 1)
    videos = pd.read_parquet(out / "scores/videos")
    assert set(videos.video_id) < {r["video_id"] for r in records if r["split"] == "test"}
    assert told.summary["evaluator"]["tasks"] == list(TASKS)
    assert told.summary["evaluator"]["demonstration"]
    assert "DEMONSTRATION" in (out / "report.html").read_text()
    failures = pd.read_parquet(out / "failures.parquet")
    assert list(failures.reason) == ["not_a_video"]
    table = pd.read_parquet(out / "table.parquet")
    assert table[(table.type == "noise") & (table.task == "overall")].iloc[0].missing == 1
    mine = pd.read_parquet(out / "videos.parquet").set_index("video_id").overall.dropna()
    pd.testing.assert_series_equal(
        mine.sort_index(), videos.set_index("video_id").overall.sort_index().astype(float)
    )

    before = {p: p.stat().st_mtime_ns for p in (out / "scores").rglob("*.parquet")}
    again = run()
    assert again.summary["cells"] == told.summary["cells"]
    assert {p: p.stat().st_mtime_ns for p in (out / "scores").rglob("*.parquet")} == before
