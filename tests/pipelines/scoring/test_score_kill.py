"""Kill -9 while scoring, between its steps, during the report; two runs at once."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.pipelines.scoring.test_score_run import clips, values, videos
from tests.pipelines.test_extract_run import corpus_of
from tests.pipelines.test_kill import finish
from tests.score_fakes import tiny_checkpoint
from tests.support import ROOT, over, wait_for

pytestmark = pytest.mark.ray

NAMES = [f"slow{1 + i % 3}_{i:02d}" for i in range(16)]


def start(
    corpus: Path, checkpoint: Path, out: Path, stop: str = "", release: Path | None = None
) -> subprocess.Popen[str]:
    """Start a run; with ``release`` a third of its videos wait until that file exists."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TALKMOS_TEST_STOP": stop}
    env.pop("RAY_ADDRESS", None)
    if release is not None:
        env |= {"TALKMOS_TEST_HOLD": "slow3", "TALKMOS_TEST_RELEASE": str(release)}
    command = ["-m", "tests.drive_score", str(corpus), str(checkpoint), str(out)]
    return subprocess.Popen(
        [sys.executable, *command, "run.shard_clips=4"],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


Undisturbed = tuple[Path, Path, tuple[str, str]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("score_kill")
    corpus = corpus_of(folder / "corpus", NAMES)
    checkpoint = tiny_checkpoint(folder / "model")
    finish(start(corpus, checkpoint, folder / "out"))
    return corpus, checkpoint, values(folder / "out")


def test_kill_while_scoring(undisturbed: Undisturbed, tmp_path: Path) -> None:
    corpus, checkpoint, expected = undisturbed
    out = tmp_path / "out"
    process = start(corpus, checkpoint, out, release=tmp_path / "never")
    wait_for(lambda: len(list(out.glob("clips/*/*.parquet"))) >= 2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    before = set(clips(out).video_id)
    assert 0 < len(before) < len(NAMES)
    wait_for(lambda: over(children))  # a worker may publish what it had until it ends
    text = finish(start(corpus, checkpoint, out))
    assert f"'done_before': {len(set(clips(out).video_id)) - done_now(text)}" in text
    assert done_now(text) <= len(NAMES) - len(before)
    assert values(out) == expected


def done_now(text: str) -> int:
    return int(text.rpartition("'done': ")[2].partition(",")[0])


@pytest.mark.parametrize(
    "stop",
    [
        "pipelines.scoring.tables:read_part",  # clips are there, videos are not
        "pipelines.scoring.telling:leaderboard",  # the report has begun
        "pipelines.scoring.telling:_write",  # all but the report
    ],
)
def test_kill_after_scoring(undisturbed: Undisturbed, tmp_path: Path, stop: str) -> None:
    corpus, checkpoint, expected = undisturbed
    out = tmp_path / "out"
    process = start(corpus, checkpoint, out, stop=stop)
    process.communicate(timeout=600)
    assert process.returncode == -9
    assert set(clips(out).video_id) == set(NAMES)  # the scores stand
    assert not (out / "report/summary.json").exists()
    text = finish(start(corpus, checkpoint, out))
    assert done_now(text) == 0
    assert values(out) == expected
    assert (out / "report/report.html").exists()


def test_of_two_runs_at_once_one_stops(undisturbed: Undisturbed, tmp_path: Path) -> None:
    corpus, checkpoint, expected = undisturbed
    out = tmp_path / "out"
    release = tmp_path / "release"
    first = start(corpus, checkpoint, out, release=release)
    wait_for((out / "_lock.json").exists)
    second = start(corpus, checkpoint, out)
    told, _ = second.communicate(timeout=300)
    release.touch()
    assert second.returncode != 0
    assert "another run" in told.lower() or "lock" in told.lower(), told
    finish(first)
    assert values(out) == expected
    assert len(videos(out)) == len(NAMES)


def test_a_damaged_part_is_named(undisturbed: Undisturbed, tmp_path: Path) -> None:
    corpus, checkpoint, _ = undisturbed
    out = tmp_path / "out"
    finish(start(corpus, checkpoint, out))
    part = sorted(out.glob("videos/*/*.parquet"))[0]
    part.write_bytes(part.read_bytes()[:-20])
    (out / "report/summary.json").unlink()
    process = start(corpus, checkpoint, out)
    text, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert part.name in text
    assert "remove it and run again" in text
    part.unlink()
    finish(start(corpus, checkpoint, out))
    assert len(videos(out)) == len(NAMES)
