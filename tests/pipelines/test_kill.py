"""Kill -9 of the driver, of a worker, loss of a node: the rows are the undisturbed run's."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.pipelines.test_extract_run import corpus_of, values
from tests.support import ROOT, over, wait_for

pytestmark = pytest.mark.ray

NAMES = [f"slow{1 + i % 4}_{i:02d}" for i in range(30)]
SETTINGS = ["run.shard_clips=6"]


def environment(folder: Path | None) -> dict[str, str]:
    """Of a run that writes `log` into the folder and holds its last videos until `go` is there."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("RAY_ADDRESS", None)
    if folder is not None:
        env |= {"TALKMOS_TEST_LOG": str(folder / "log"), "TALKMOS_TEST_HOLD": "slow4"}
        env["TALKMOS_TEST_RELEASE"] = str(folder / "go")
    return env


def start(
    corpus: Path, out: Path, *more: str, held_by: Path | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.drive_fake", str(corpus), str(out), *SETTINGS, *more],
        cwd=ROOT, env=environment(held_by), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    assert "finished" in text, text
    return text


def shards(out: Path) -> list[Path]:
    return sorted((out / "features").glob("*.parquet")) if (out / "features").exists() else []


def leftovers(out: Path) -> list[str]:
    known = {"failures.parquet", "ledger.parquet", "summary.json", "run.json", "features"}
    return [str(p.relative_to(out)) for p in out.iterdir() if p.name not in known] + [
        str(p.relative_to(out)) for p in (out / "features").iterdir() if p.suffix != ".parquet"
    ]


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[tuple[str, int], bytes]]:
    folder = tmp_path_factory.mktemp("kill")
    corpus = corpus_of(folder / "corpus", NAMES)
    finish(start(corpus, folder / "out"))
    return corpus, values(folder / "out")


@pytest.mark.parametrize("seed", [0, 1])
def test_kill_of_the_driver(
    undisturbed: tuple[Path, dict[tuple[str, int], bytes]], tmp_path: Path, seed: int
) -> None:
    corpus, expected = undisturbed
    out = tmp_path / "out"
    rng = random.Random(seed)
    process = start(corpus, out, held_by=tmp_path)
    wait_for(lambda: len(shards(out)) >= 1 + seed)
    time.sleep(rng.random())
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGKILL)
    process.wait()
    for shard in shards(out):
        pq.read_table(shard)  # whole, whatever the moment
    assert len(shards(out)) < len(NAMES)
    finish(start(corpus, out))
    assert values(out) == expected
    assert leftovers(out) == []
    wait_for(lambda: over(children))


def latest(log: Path) -> int:
    """The worker that took the last video."""
    return int(log.read_text().splitlines()[-1].split()[0])


def test_kill_of_workers(
    undisturbed: tuple[Path, dict[tuple[str, int], bytes]], tmp_path: Path
) -> None:
    corpus, expected = undisturbed
    out, log = tmp_path / "out", tmp_path / "log"
    # Which video a worker is at when the signal arrives is chance: one may be hit each time.
    process = start(corpus, out, "run.max_attempts=9", held_by=tmp_path)
    rng = random.Random(3)
    hit: set[int] = set()
    for kills in range(1, 4):
        wait_for(lambda n=kills: log.exists() and len(log.read_text().splitlines()) > 5 * n)
        time.sleep(rng.random() / 3)
        wait_for(lambda: latest(log) not in hit)
        pid = latest(log)
        hit.add(pid)
        assert any(c.pid == pid for c in psutil.Process(process.pid).children(recursive=True))
        os.kill(pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    text = finish(process)
    assert f"'done': {len(NAMES)}, 'failed': 0" in text
    assert values(out) == expected
    assert leftovers(out) == []


NODES = """
import os, sys, threading, time
from pathlib import Path
import psutil
import ray
from ray.cluster_utils import Cluster
from pipelines.config import load_config
from pipelines.extract import ExtractConfig, extract
from tests.fakes import make_fake
corpus, out = sys.argv[1:3]
log = os.environ["TALKMOS_TEST_LOG"]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
def remove():
    features = Path(out) / "features"
    while len(list(features.glob("*.parquet"))) < 2:
        time.sleep(0.05)
    while not (held := [line.split()[0] for line in open(log) if "slow4" in line]):
        time.sleep(0.05)
    above = {process.pid for process in psutil.Process(int(held[0])).parents()}
    [node] = [n for n in nodes if n.all_processes["raylet"][0].process.pid in above]
    cluster.remove_node(node, allow_graceful=False)
    Path(os.environ["TALKMOS_TEST_RELEASE"]).touch()
    print("removed", flush=True)
thread = threading.Thread(target=remove)
thread.start()
config = load_config(ExtractConfig, None, [f"corpus.corpus={corpus}", "run.shard_clips=6",
"resources.workers=3"])
summary = extract(config, out, factory=make_fake)
thread.join()
print("finished", summary["videos"], "lost", summary["workers_lost"], flush=True)
ray.shutdown()
cluster.shutdown()
"""


def test_loss_of_a_node(
    undisturbed: tuple[Path, dict[tuple[str, int], bytes]], tmp_path: Path
) -> None:
    corpus, expected = undisturbed
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", NODES, str(corpus), str(out)], cwd=ROOT,
        env=environment(tmp_path), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "removed" in done.stdout
    assert f"'done': {len(NAMES)}, 'failed': 0" in done.stdout
    assert "lost 0" not in done.stdout
    assert values(out) == expected
    assert leftovers(out) == []
