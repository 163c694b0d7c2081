"""`ray job submit` to a real local cluster that asks for a token."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.jobs.runs import SLIM, Rows, assert_same, clean_environment, rows
from tests.s3server import free_port
from tests.support import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RAY = Path(sys.executable).with_name("ray")
START_SECONDS = 300.0


@dataclass(frozen=True)
class Head:
    """A cluster of one node, started as the README says."""

    address: str
    environment: dict[str, str]  # of a client that holds the token
    token: str

    def submit(
        self, *arguments: str | Path, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                RAY, "job", "submit", "--address", self.address, "--working-dir", ".", "--",
                "python", "jobs/extract.py", *map(str, arguments),
            ],
            cwd=ROOT, env=environment or self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500, check=False,
        )  # fmt: skip

    def ask(self, path: str, token: str | None) -> int | dict[str, object]:
        """Return what the job server answers, or the status with which it refuses."""
        request = urllib.request.Request(self.address + path)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: dict[str, object] = json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code
        return found

    def exit_status(self, output: str) -> object:
        """Return how the program of the job that ``output`` tells of has ended."""
        job = re.search(r"raysubmit_\w+", output)
        assert job, output
        answer = self.ask(f"/api/jobs/{job.group()}", self.token)
        assert isinstance(answer, dict), answer
        return answer["driver_exit_code"]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a head and everything that it has started, each process by its id."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(family, timeout=3)
    for member in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(left, timeout=10)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Not pytest's folder: Unix sockets below it may have names of 107 bytes only.
    folder = Path(tempfile.mkdtemp(prefix="tm", dir="/tmp"))
    env = clean_environment(HOME=str(folder), RAY_AUTH_MODE="token")
    env["PATH"] = f"{RAY.parent}{os.pathsep}{env['PATH']}"  # what activating the environment does
    token = subprocess.run(
        [RAY, "get-auth-token", "--generate"], env=env, check=True, capture_output=True, text=True
    ).stdout.strip()
    port = free_port()
    command = [
        RAY, "start", "--head", "--block", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}",
        "--num-cpus=2", "--object-store-memory=120000000", f"--temp-dir={folder / 'ray'}",
        # Other clusters may be on this machine: no port of the usual ones.
        "--node-ip-address=127.0.0.1", "--port=0", "--min-worker-port=0", "--max-worker-port=0",
        "--dashboard-agent-listen-port=0", f"--ray-client-server-port={free_port()}",
    ]  # fmt: skip
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
    try:
        found = Head(f"http://127.0.0.1:{port}", env, token)
        until = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if isinstance(found.ask("/api/version", token), dict):
                    break
            assert process.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < until, (folder / "head.log").read_text()
            time.sleep(0.2)
        yield found
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["none", "wrong"])
def test_without_the_token_nothing_is_accepted(
    head: Head, tmp_path: Path, token: str | None
) -> None:
    out = tmp_path / "out"
    stranger = {**head.environment, "HOME": str(tmp_path)}
    if token is not None:
        stranger["RAY_AUTH_TOKEN"] = token
    done = head.submit("--corpus", tmp_path, "--out", out, environment=stranger)
    assert done.returncode != 0
    assert "authentication" in done.stdout.lower()
    assert "submitted" not in done.stdout
    assert head.ask("/api/jobs/", token) in (401, 403)
    assert not out.exists()


def test_a_job_extracts_and_its_exit_status_arrives(
    head: Head, demo_corpus: Path, local_rows: Rows, tmp_path: Path
) -> None:
    out, corpus = tmp_path / "out", tmp_path / "corpus"
    shutil.copytree(demo_corpus, corpus)
    (corpus / "clean" / "bad-1.mp4").write_text("not a video")
    job = (*SLIM, "--corpus", corpus, "--out", out, "--max-failures")
    first = head.submit(*job, "0")
    assert first.returncode == 1, first.stdout
    assert_same(rows(out), local_rows)
    assert list(pd.read_parquet(out / "failures.parquet").video_id) == ["clean/bad-1"]
    assert "3 videos extracted, 1 failed" in first.stdout
    assert head.exit_status(first.stdout) == 1
    assert "exit code 1" in first.stdout
    assert not (out / "_lock.json").exists()

    again = head.submit(*job, "1")
    assert "0 to do" in again.stdout
    assert head.exit_status(again.stdout) == 0
    assert again.returncode == 0, again.stdout

    wrong = head.submit(*job, "many")
    assert "expected a count or a percentage" in wrong.stdout
    assert head.exit_status(wrong.stdout) == 2
    assert wrong.returncode != 0
    assert head.token not in first.stdout + again.stdout + wrong.stdout
