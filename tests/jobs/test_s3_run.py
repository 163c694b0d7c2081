"""Corpus and output on a real S3 server, also on one that fails: rows as of a local run."""

import csv
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from actors.types import Timings, VideoRef
from pipelines.messages import Progress, VideoEnd
from tests.fakes import Fake
from tests.jobs.runs import Rows, assert_same, clean_environment, extract, rows, texts
from tests.pipelines.test_extract_run import values
from tests.s3server import KEY, SECRET, FaultProxy, S3Server, environment, s3_server
from tests.support import ROOT, over, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OUTPUT = {"failures.parquet", "ledger.parquet", "summary.json", "run.json", "features"}
NAMES = [f"slow{i % 3}_{i:02d}" for i in range(60)]


class Bucket:
    """A bucket of the server: its URI, and its folder on the server's disk."""

    def __init__(self, server: S3Server, name: str) -> None:
        self.uri = server.bucket(name)
        self.folder = server.folder / name
        self._server = server

    def client(self, endpoint: str = ""):  # type: ignore[no-untyped-def]
        import s3fs

        return s3fs.S3FileSystem(
            key=KEY, secret=SECRET, endpoint_url=endpoint or self._server.endpoint,
            skip_instance_cache=True, use_listings_cache=False,
            config_kwargs={
                "request_checksum_calculation": "when_required", "signature_version": "s3v4",
            },
        )  # fmt: skip

    def upload(self, folder: Path) -> None:
        client = self.client()
        for path in folder.rglob("*"):
            if path.is_file():
                client.put_file(str(path), f"{self.uri}/corpus/{path.relative_to(folder)}")

    def assert_settled(self, out: str = "out") -> Path:
        """The output holds what belongs there and nothing that was under way."""
        folder = self.folder / out
        assert {p.name for p in folder.iterdir()} <= OUTPUT
        names = [p.name for p in (folder / "features").iterdir()]
        assert all(re.fullmatch(r"part-[0-9a-f-]+\.parquet", name) for name in names), names
        assert {p.name for p in self.folder.iterdir()} == {"corpus", out}
        return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "root") as found:
        yield found


def run(server: S3Server, *arguments: str, endpoint: str = "") -> subprocess.CompletedProcess[str]:
    return extract(*arguments, **environment(endpoint or server.endpoint))


def without_secrets(out: Path, output: str, *secrets: str) -> None:
    for where, text in {**texts(out), "what was printed": output}.items():
        for secret in (SECRET, *secrets):
            assert secret not in text, where


def test_rows_are_those_of_a_local_run_and_a_second_run_does_nothing(
    server: S3Server, demo_corpus: Path, local_rows: Rows
) -> None:
    bucket = Bucket(server, "plain")
    bucket.upload(demo_corpus)
    job = ("--corpus", f"{bucket.uri}/corpus", "--out", f"{bucket.uri}/out")
    first = run(server, *job)
    assert first.returncode == 0, first.stdout + first.stderr
    out = bucket.assert_settled()
    assert_same(rows(out), local_rows)
    uris = set(pd.read_parquet(out / "features").uri)
    assert uris == {
        f"{bucket.uri}/corpus/{p.relative_to(demo_corpus)}" for p in demo_corpus.rglob("*.mp4")
    }
    shards = {p: p.stat().st_mtime_ns for p in (out / "features").iterdir()}
    again = run(server, *job)
    assert again.returncode == 0
    assert "0 to do" in again.stdout + again.stderr
    assert {p: p.stat().st_mtime_ns for p in (out / "features").iterdir()} == shards
    without_secrets(out, first.stdout + first.stderr + again.stdout + again.stderr)


def test_signed_links_through_a_failing_server_give_the_rows_and_stay_secret(
    server: S3Server, demo_corpus: Path, local_rows: Rows
) -> None:
    bucket = Bucket(server, "signed")
    bucket.upload(demo_corpus)
    with FaultProxy(server.endpoint, seed=5) as proxy:
        # One video by a signed link, one by a link to nothing, the others by their paths.
        client = bucket.client(proxy.endpoint)
        with (demo_corpus / "manifest.csv").open() as file:
            records = list(csv.DictReader(file))
        records[0]["uri"] = client.sign(f"{bucket.uri}/corpus/{records[0]['uri']}")
        records.append({**records[0], "video_id": "gone"})
        records[-1]["uri"] = client.sign(f"{bucket.uri}/corpus/gone.mp4")
        signatures = [
            s for r in records for s in re.findall(r"Signature=([0-9a-zA-Z%]+)", r["uri"])
        ]
        assert len(signatures) == 2
        text = "\n".join([",".join(records[0]), *(",".join(r.values()) for r in records)])
        bucket.client().pipe_file(f"{bucket.uri}/corpus/links.csv", text.encode())
        job = ("--corpus", f"{bucket.uri}/corpus/links.csv", "--out", f"{bucket.uri}/out")
        done = run(server, *job, endpoint=proxy.endpoint)
        assert proxy.faults > 3
    assert done.returncode == 0, done.stdout + done.stderr
    out = bucket.assert_settled()
    assert_same(rows(out), local_rows)
    assert list(pd.read_parquet(out / "failures.parquet").video_id) == ["gone"]
    without_secrets(out, done.stdout + done.stderr, *signatures)


@pytest.mark.parametrize(
    ("where", "secret"), [("--corpus", "planted-secret"), ("--out", "plan/ted-secret")]
)
def test_credentials_in_an_address_are_not_repeated(
    server: S3Server, demo_corpus: Path, where: str, secret: str
) -> None:
    places = {"--corpus": str(demo_corpus), "--out": "s3://none/out"}
    places[where] = f"s3://someone:{secret}@none/place"
    done = run(server, *(word for pair in places.items() for word in pair))
    assert done.returncode in (2, 3)
    assert "ted-secret" not in done.stdout + done.stderr
    assert "s3://none/place was given with credentials" in done.stderr


def expected(names: list[str]) -> dict[tuple[str, int], bytes]:
    """What the stand-in gives for objects of these names."""
    found = {}
    for name in names:
        for row in Fake(1).process(
            VideoRef(name, "nothing", None, None, None, ""), Progress(), Timings()
        ):
            if not isinstance(row, VideoEnd):
                content = row["action_units"].tobytes() + row["frame_mask"].tobytes()
                found[name, row["clip_index"]] = content
    return found


def drive(bucket: Bucket, endpoint: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "tests.drive_fake", f"{bucket.uri}/corpus", f"{bucket.uri}/out",
            "run.shard_clips=6",
        ],
        cwd=ROOT, env=clean_environment(PYTHONPATH=str(ROOT), **environment(endpoint), **more),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=500)
    assert process.returncode == 0, text
    return text


def test_a_kill_and_a_failing_server_lose_nothing(server: S3Server) -> None:
    bucket = Bucket(server, "kill")
    client = bucket.client()
    for name in NAMES:
        client.pipe_file(f"{bucket.uri}/corpus/{name}.mp4", name.encode())
    features = bucket.folder / "out" / "features"
    with FaultProxy(server.endpoint, seed=2) as proxy:
        # A third of its videos wait for ever: it is in the middle whenever the signal comes.
        held = {"TALKMOS_TEST_HOLD": "slow2", "TALKMOS_TEST_RELEASE": str(server.folder / "never")}
        first = drive(bucket, proxy.endpoint, **held)
        until = time.monotonic() + 300
        while not features.exists() or len(list(features.iterdir())) < 3:
            assert first.poll() is None, first.communicate()[0]
            assert time.monotonic() < until, "no shard has come"
            time.sleep(0.02)
        time.sleep(random.Random(7).random() / 2)
        family = psutil.Process(first.pid).children(recursive=True)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        assert (bucket.folder / "out" / "_lock.json").exists(), "it was in the middle"
        second = drive(bucket, proxy.endpoint)
        text = finish(second)
        faults = proxy.faults
        wait_for(lambda: over(family))
    assert faults > 10
    assert "'failed': 0" in text
    assert "'done_before': 0" not in text
    out = bucket.assert_settled()
    found = values(out)
    table = pd.read_parquet(out / "features", columns=["video_id", "clip_index"])
    assert len(table) == len(found)
    assert set(table.video_id) == set(NAMES)
    assert found == expected(NAMES)
    without_secrets(out, text)
