"""The ruler on a real S3 server: virtual and stored corpora, what fails, and no secret anywhere."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from actors.types import Timings
from jobs import benchmark, degrade
from pipelines.benchmarking.answers import JudgeError
from pipelines.benchmarking.results import Results
from pipelines.benchmarking.variants import read_corpus
from pipelines.corpus import CorpusConfig, iter_corpus
from pipelines.degrading.plan import deal
from pipelines.degrading.processor import DegradeFactory
from pipelines.degrading.tables import Made, write_tables
from pipelines.messages import Progress
from pipelines.storage import Store
from tests.jobs.runs import texts
from tests.media import noise_images, write_video
from tests.pipelines.degrading.sources import ALL_TEST, settings
from tests.pipelines.test_storage import use
from tests.s3server import KEY, SECRET, S3Server, s3_server

TYPES = {"artefacts": {"noise": None, "picture_noise": None}, "severities": [0.5, 1.0]} | ALL_TEST
EACH = 5  # videos of a source
SECRETS = (SECRET, "planted-secret")
NAMES = ("a b", "deep/ü+%20")

JUDGE = """
import sys, zlib
log, video, *clean = sys.argv[1:]
with open(log, "a") as file:
    print(video, *clean, file=file)
if log.endswith("bad"):
    sys.exit("cannot ask https://me:planted-secret@judge.example/v1?token=planted-secret")
print(zlib.crc32(open(video, "rb").read()))
"""

Door = Callable[..., str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder / "root") as found:
        found.bucket("bench")
        yield found


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own with two clean videos of a second."""
    use(monkeypatch, server.endpoint)
    place = f"s3://bench/{tmp_path.name}"
    for number, name in enumerate(NAMES):
        hiss = np.random.default_rng(number).uniform(-0.5, 0.5, 16_000).astype(np.float32)
        video = write_video(tmp_path / "v.mp4", noise_images(25, seed=number), audio=hiss)
        Store.at(place).write_bytes(f"clean/{name}.mp4", video.read_bytes())
    return place


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[str], str]:
    """Returns a command that tells one file from another."""
    path = tmp_path / "judge.py"
    path.write_text(JUDGE)
    return lambda log: f"{sys.executable} {path} {tmp_path / log} {{video}} {{clean}}"


@pytest.fixture
def door(capsys: pytest.CaptureFixture[str]) -> Door:
    def run(main: Callable[[list[str]], int], *arguments: str | Path, status: int = 0) -> str:
        assert main([str(a) for a in arguments]) == status, capsys.readouterr().err
        told = "".join(capsys.readouterr())
        assert "Traceback" not in told
        assert not [secret for secret in SECRETS if secret in told]
        return told

    return run


def asked(log: Path) -> list[list[Path]]:
    """What the judge was asked about: the video, and the clean one."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [[Path(word) for word in line.split()] for line in lines]


def nothing_secret(server: S3Server, place: str) -> None:
    for where, text in texts(server.folder / place.removeprefix("s3://")).items():
        for secret in (*SECRETS, KEY):
            assert secret not in text, where


def scores(server: S3Server, out: str) -> "pd.Series[float]":
    table = pd.read_parquet(server.folder / out.removeprefix("s3://") / "videos.parquet")
    return table.set_index("video_id")["score"]


def virtual(door: Door, bucket: str, tmp_path: Path) -> str:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(TYPES))
    plan = ("--plan", tmp_path / "plan.yaml", "--virtual")
    door(degrade.main, "--corpus", f"{bucket}/clean", "--out", f"{bucket}/virtual", *plan)
    return f"{bucket}/virtual"


def stored(bucket: str) -> str:
    """What the workers of jobs/degrade.py make, without a cluster."""
    out, config, made = Store.at(f"{bucket}/stored"), settings(**TYPES), []
    processor = DegradeFactory(config, out.raw_uri)(1)
    processor.load()
    refs = list(iter_corpus(CorpusConfig(corpus=f"{bucket}/clean")))
    for plan in deal(refs, config):
        *rows, _ = processor.process(
            replace(plan.source, artefacts=plan.text()), Progress(), Timings()
        )
        for variant, row in zip(plan.variants, rows, strict=True):
            assert isinstance(row, dict)
            made.append(Made(variant, row["uri"], row["digest"]))
    processor.close()
    write_tables(out, made, config, virtual=False)
    return out.raw_uri


def test_virtual_and_stored_corpora_are_measured_alike(
    server: S3Server, bucket: str, tmp_path: Path, judge: Callable[[str], str], door: Door
) -> None:
    first, second = f"{bucket}/one", f"{bucket}/two"
    job = ("--corpus", virtual(door, bucket, tmp_path), "--command", judge("log"), "--out", first)
    told = door(benchmark.main, *job, "--jobs", "2")
    assert f"{2 * EACH} of {2 * EACH} videos scored, 2 sources" in told
    assert f"report: {first}/report.html" in told
    calls = asked(tmp_path / "log")
    assert len(calls) == 2 * EACH
    # Clean videos are files of the same kind as all the others, and none of them stays.
    assert {path.suffix for call in calls for path in call} == {".mov"}
    assert not any(path.exists() for call in calls for path in call)
    again = door(benchmark.main, *job)
    assert told.startswith(again.partition("nothing is asked: ")[0])
    assert len(asked(tmp_path / "log")) == 2 * EACH, "a second run asks nothing"

    job = ("--corpus", stored(bucket), "--command", judge("log"), "--out", second)
    assert f"{2 * EACH} of {2 * EACH} videos scored" in door(benchmark.main, *job)
    pd.testing.assert_series_equal(scores(server, second), scores(server, first))
    assert scores(server, first).nunique() == 2 * EACH

    # Stored videos have versions of their own: these are not the same videos.
    other = door(benchmark.main, *job, "--compare", first, status=2)
    assert "was measured on other videos" in other
    door(benchmark.main, *job, "--compare", second)
    both = (f"{bucket}/both", "--compare", second, second)
    assert f"{bucket}/both/report.html" in door(benchmark.main, "--out", *both)
    assert {p.name for p in (server.folder / "bench" / tmp_path.name).iterdir()} == {
        "clean", "virtual", "stored", "one", "two", "both",
    }  # fmt: skip
    nothing_secret(server, bucket)


def test_what_fails_is_told_without_secrets(
    server: S3Server, bucket: str, tmp_path: Path, judge: Callable[[str], str], door: Door
) -> None:
    corpus, out = virtual(door, bucket, tmp_path), f"{bucket}/out"
    job = ("--corpus", corpus, "--out", out)
    link = " --via https://me:planted-secret@judge.example/v1?token=planted-secret"
    told = door(benchmark.main, *job, "--command", judge("bad") + link, status=2)
    assert "cannot ask https://judge.example/v1" in told
    Store.at(f"{bucket}/clean").delete(f"{NAMES[1]}.mp4")
    told = door(benchmark.main, *job, "--command", judge("log") + link, "--max-failures", "50%")
    assert f"failures: {EACH} storage" in told
    failures = pd.read_parquet(server.folder / "bench" / tmp_path.name / "out/failures.parquet")
    assert set(failures.message) == {
        f"cannot open {bucket}/clean/{NAMES[1]}.mp4: it does not exist."
    }
    for flag in ("--corpus", "--out", "--compare", "--scores"):
        words = {"--corpus": corpus, "--out": f"{bucket}/else", "--scores": "s.csv"}
        words[flag] = "s3://me:planted-secret@bench/x.csv"
        told = door(benchmark.main, *(w for pair in words.items() for w in pair), status=3)
        assert "was given with credentials in it" in told
    nothing_secret(server, bucket)


def test_a_storage_that_did_not_answer_is_asked_again(
    bucket: str, tmp_path: Path, door: Door
) -> None:
    one, two, *_ = read_corpus(virtual(door, bucket, tmp_path)).variants
    store = Store.at(f"{bucket}/answers")
    results = Results(store, "key")
    results.add(one, JudgeError("storage", "no answer", transient=True))
    results.add(two, JudgeError("storage", "it does not exist"))
    results.flush()
    assert results.known(one)
    assert [Results(store, "key").known(v) for v in (one, two)] == [False, True]
    assert not Results(store, "key", again=True).known(two)


def test_signed_links_are_no_sources_of_a_virtual_corpus(
    server: S3Server, bucket: str, tmp_path: Path, door: Door
) -> None:
    """The manifest could not keep the signature, so nothing could be read later."""
    link = f"{server.endpoint}/bench/v.mp4?X-Amz-Signature=planted-secret"
    Store.at(bucket).write_bytes("links.csv", f"video_id,uri\nv,{link}\n".encode())
    job = ("--corpus", f"{bucket}/links.csv", "--out", f"{bucket}/links", "--virtual")
    told = door(degrade.main, *job, "--set", "splits.shares=[1,0,0]", status=2)
    assert re.search(r"the address of v is a signed link.*or make a stored corpus", told)


def test_a_donor_that_is_gone_costs_its_variants_alone(bucket: str) -> None:
    config = settings(**TYPES | {"artefacts": {"foreign_sound": None}})
    refs = list(iter_corpus(CorpusConfig(corpus=f"{bucket}/clean")))
    plan = next(iter(deal(refs, config)))
    Store.at(f"{bucket}/clean").delete(f"{NAMES[1]}.mp4")
    processor = DegradeFactory(config, f"{bucket}/out")(1)
    processor.load()
    source = replace(plan.source, artefacts=plan.text())
    clean, *foreign, _ = processor.process(source, Progress(), Timings())
    processor.close()
    assert isinstance(clean, dict)
    assert clean["uri"]
    for row in foreign:
        assert isinstance(row, dict)
        assert (row["uri"], row["reason"]) == (None, "bad_donor")
        assert "cannot be read" in row["message"]
        assert "does not exist" in row["message"]
