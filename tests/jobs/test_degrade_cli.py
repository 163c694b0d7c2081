"""jobs/degrade.py as a user types it: what is refused, and how it is said; virtual corpora."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from actors.artefacts.registry import ARTEFACTS
from actors.types import VideoRef
from jobs.degrade import main
from pipelines.corpus import CorpusConfig, iter_corpus
from pipelines.degrading.processor import folder_of
from pipelines.failures import FailureTable
from pipelines.leases import Failure
from pipelines.lock import RunLock
from pipelines.storage import Store

Door = Callable[..., str]
NO_SPLIT = ("--set", "splits.shares=[1,0,0]")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six videos; a virtual corpus is planned without opening them."""
    folder = tmp_path / "clean"
    for number in range(6):
        path = folder / f"s{number % 3}" / f"v{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]))
    return folder


@pytest.fixture
def refused(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Door:
    """Runs the door on an output of its own; returns the one message."""

    def run(*arguments: str | Path, plan: object = None, status: int = 2) -> str:
        job: list[str | Path] = []
        if "--corpus" not in arguments:
            job += ["--corpus", corpus]
        if "--out" not in arguments:
            job += ["--out", tmp_path / "out"]
        if plan is not None:
            (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
            job += ["--plan", tmp_path / "plan.yaml"]
        try:
            found = main([str(a) for a in (*job, *arguments)])
        except SystemExit as stop:
            found = int(str(stop.code))
        error = capsys.readouterr().err
        assert found == status, error
        assert "Traceback" not in error
        assert "defect" not in error
        return error

    return run


def make(*arguments: str | Path) -> None:
    assert main([str(a) for a in arguments]) == 0


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"artefacts": {"blurr": None}}, "unknown artefact 'blurr'; did you mean blur?"),
        ({"leave_out": ["nois"]}, "unknown artefact 'nois'; did you mean noise?"),
        ({"severities": [0.8, 0.2]}, "must ascend and differ"),
        ({"severities": [0.2, 0.2]}, "must ascend and differ"),
        ({"artefacts": {"blur": {"severities": [1.0, 0.5]}}}, "must ascend and differ"),
        ({"severities": [0.0, 0.5]}, "severities"),
        ({"severities": [1.5]}, "severities"),
        ({"severities": [0.12345]}, "multiples of 0.001"),
        ({"severities": []}, "severities"),
        ({"severities": [True]}, "severities.0: Input should be a valid number (given: True)"),
        ({"severities": ["0.5"]}, "severities.0: Input should be a valid number (given: '0.5')"),
        (
            {"artefacts": {"blur": {"severities": [0.5, True]}}},
            "artefacts.blur.severities.1: Input should be a valid number",
        ),
        ({"splits": {"shares": [True, 0, 0]}}, "splits.shares.0: Input should be a valid number"),
        ({"seed": True}, "seed: Input should be a valid integer (given: True)"),
        ({"per_source": {"train": "3"}}, "per_source.train: Input should be a valid integer"),
        ({"combinations": {"per_source": True}}, "combinations.per_source: Input should be"),
        ({"artefacts": {"blur": {"held_out": "no"}}}, "artefacts.blur.held_out: Input should be"),
        ({"artefacts": {"blur": None}, "leave_out": ["blur"]}, "no artefact is left"),
        ({"artefacts": {"blur": {"heldout": True}}}, "heldout"),
        ({"splits": {"shares": [0.5, 0.5, 0.5]}}, "add up to 1"),
        ({"splits": {"shares": [math.nan, 0.5, 0.5]}}, "splits.shares: expected three shares"),
        (
            {"splits": {"shares": [0.5, math.nan, 0.5], "assign": {"s0/v0": "val"}}},
            "splits.shares: expected three shares",
        ),
        ({"store": {"max_seconds": math.inf}}, "store.max_seconds: Input should be a finite"),
        ({"decode": {"max_duration_s": math.inf}}, "decode: max_duration_s must be finite"),
        ({"decode": {"max_duration_s": math.nan}}, "decode"),
        ({"splits": {"assign": {"ghost": "train"}}}, "splits.assign names ghost"),
        ({"splits": {"assign": {"s0/v0": "training"}}}, "training"),
        ({"splits": {"by": "speaker"}}, "s0/v0 has none: give --pattern"),
        ({"splits": {"salt": 3, "shares": [0.01, 0.01, 0.98]}}, "no source fell on the side train"),
        ({"decode": {"policy": "whole"}}, "decode.policy=windows"),
        ({"per_source": {"tset": 5}}, "tset"),
        ({"per_source": {"test": -1}}, "per_source"),
        ({"combinations": {"of": 1}}, "combinations.of"),
        (
            {"combinations": {"per_source": 2}, "artefacts": {"blur": None}},
            "combinations.of is 2, but the types in use are fewer (blur)",
        ),
        ({"corpus": {"since": "7d"}}, "dealt over the whole corpus"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_bad_plans_are_told(refused: Door, plan: object, says: str) -> None:
    message = refused("--virtual", plan=plan)
    assert says in message
    assert message.count("\n") <= 4, message


def test_bad_commands_are_told(
    refused: Door,
    tmp_path: Path,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "--corpus is needed" in refused("--corpus", "", "--virtual")
    assert "--out is needed" in refused("--out", "", "--virtual")
    assert "--virtul" in refused("--virtul")
    assert "does not exist" in refused("--virtual", "--corpus", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "there is no video in it" in refused("--virtual", "--corpus", tmp_path / "empty")
    assert "plan.yml" in refused("--virtual", "--plan", tmp_path / "plan.yml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed.yaml").write_text("seed: 1")
    for kind in ([], ["--virtual"]):
        job = ["--plan", "seed.yaml", "--out", "out", *kind]
        assert main([*job, "--set", "corpus.pattern=null"]) == 2
        assert "no corpus was given" in capsys.readouterr().err
        assert main(job) == 2
        assert "corpus" in capsys.readouterr().err
    assert "seed" in refused("--virtual", "--seed", "-1")
    assert "corpus" in refused("--virtual", "--set", "corpus.corups=x")
    one = corpus / "s0" / "v0.mp4"
    assert "has only 1 source." in refused("--virtual", "--corpus", one)
    assert not (tmp_path / "out").exists()


def test_what_is_made_is_not_degraded_again(refused: Door, tmp_path: Path, corpus: Path) -> None:
    make("--corpus", corpus, "--out", tmp_path / "v", "--virtual", *NO_SPLIT)
    manifest = tmp_path / "v" / "manifest.parquet"
    message = refused("--corpus", manifest, "--virtual", *NO_SPLIT)
    assert "s0/v0/clean is itself a virtual variant" in message


def test_outputs_of_another_kind_are_left_alone(
    refused: Door, tmp_path: Path, corpus: Path
) -> None:
    out = tmp_path / "v"
    make("--corpus", corpus, "--out", out, "--virtual", *NO_SPLIT)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "holds a virtual corpus, and this run would make a stored" in refused("--out", out)
    (out / "plan.json").write_text(before["plan.json"].decode().replace("true", "false", 1))
    assert "holds a stored corpus" in refused("--out", out, "--virtual")
    for text in ("{", "[]", "{}", '{"format": "other", "virtual": true}', "null", "\xff"):
        (out / "plan.json").write_text(text, encoding="latin-1")
        assert "plan.json is damaged or not ours" in refused("--out", out, "--virtual")
    (out / "plan.json").write_bytes(before["plan.json"])
    (out / "run.json").write_text("{}")
    assert "holds features, scores or a training run" in refused("--out", out, "--virtual")
    assert {n: (out / n).read_bytes() for n in before} == before


@pytest.mark.parametrize("kind", ["stored", "virtual"])
def test_what_another_run_makes_during_the_wait_is_seen(
    refused: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    plan = json.dumps({"format": "talkmos-degraded", "virtual": kind == "virtual"})
    take = RunLock.acquire

    def acquire(lock: RunLock) -> None:
        (out / "plan.json").write_text(plan)
        take(lock)

    monkeypatch.setattr(RunLock, "acquire", acquire)
    this = ["--virtual"] if kind == "stored" else []
    assert f"holds a {kind} corpus" in refused("--out", out, "--wait-lock", *NO_SPLIT, *this)
    assert [path.name for path in out.iterdir()] == ["plan.json"]
    assert (out / "plan.json").read_text() == plan


def test_a_stored_corpus_that_is_not_finished_does_not_become_a_virtual_one(
    refused: Door, tmp_path: Path
) -> None:
    """A run that was killed has written no plan yet."""
    shard = tmp_path / "out" / "made" / f"part-{'0' * 8}-{'0' * 16}.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"x")
    message = refused("--out", tmp_path / "out", "--virtual", *NO_SPLIT)
    assert "holds a stored corpus that is not finished" in message
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["made"]


@pytest.mark.parametrize("name", ["labels.csv", "manifest.parquet"])
def test_tables_of_the_user_are_not_written_over(refused: Door, tmp_path: Path, name: str) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("video_id,overall\n")
    for kind in (["--virtual"], []):
        assert "is there already, and not of this command" in refused("--out", out, *kind)
    assert (out / name).read_text() == "video_id,overall\n"
    assert [path.name for path in out.iterdir()] == [name]


def test_stored_videos_do_not_go_into_the_corpus(
    refused: Door, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next run would take them for clean ones."""
    monkeypatch.chdir(tmp_path)
    for out in (corpus, corpus / "damaged", "clean/a/b", "clean"):
        assert "lies in the corpus" in refused("--out", out)
    assert "lies in the corpus" in refused("--corpus", "clean/", "--out", "./clean/x")
    made = tmp_path / "out" / "videos" / "a"
    made.mkdir(parents=True)
    (made / "clean.mov").write_bytes(b"x")
    glob = f"{tmp_path}/**/*.mov"
    assert "lies among the videos of --out" in refused("--corpus", glob)
    # A virtual one writes no video.
    make("--corpus", corpus, "--out", corpus / "list", "--virtual", *NO_SPLIT)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v.mp4").write_bytes(b"x")
    assert "lies among" in refused("--corpus", "videos", "--out", ".")
    make("--corpus", "videos", "--out", ".", "--virtual", *NO_SPLIT)


def test_the_list_names_every_artefact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(ARTEFACTS)
    for line, artefact in zip(lines, ARTEFACTS.values(), strict=True):
        assert line.split()[1] == artefact.group
        for task, points in artefact.harms.items():
            assert f"{task} {points:g}" in line
        for name in artefact.measures(1.0):
            assert name in line
    assert "severity 1" in head


def test_the_account_of_a_virtual_corpus(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v"
    assign = "splits.assign={s0: train, s1: val, s2: test}"
    speakers = ["--pattern", "{speaker}/*.mp4", "--set", "splits.by=speaker", "--set", assign]
    make("--corpus", corpus, "--out", out, "--virtual", *speakers)
    text = capsys.readouterr().out
    each = 1 + 5 * len(ARTEFACTS)
    assert f"{6 * each} virtual variants of 6 sources" in text
    assert f"({2 * each} train, {2 * each} val, {2 * each} test)" in text
    assert f"manifest: {out}/manifest.parquet" in text
    assert f"labels: {out}/labels.csv" in text
    assert sorted(path.name for path in out.iterdir()) == [
        "labels.csv", "manifest.parquet", "plan.json",
    ]  # fmt: skip


def test_combinations_that_there_are_not_are_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = "artefacts={noise: {severities: [0.5]}, blur: {severities: [0.5]}}"
    job = ("--corpus", corpus, "--out", tmp_path / "v", "--virtual", *NO_SPLIT, "--set", few)
    make(*job, "--set", "combinations.per_source=3")
    told = "6 sources have fewer combinations than asked for (12 are lacking)"
    assert told in capsys.readouterr().out
    make(*job, "--set", "combinations.per_source=1")
    assert "fewer combinations" not in capsys.readouterr().out


def test_a_second_run_changes_nothing_and_another_seed_does(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "v"
    job = ("--corpus", corpus, "--out", out, "--virtual", *NO_SPLIT)
    make(*job)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    make(*job)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    assert after == before
    make(*job, "--seed", "1")
    chains = pd.read_parquet(out / "manifest.parquet")["chain"]
    assert json.loads((out / "plan.json").read_text())["seed"] == 1
    make("--corpus", corpus, "--out", tmp_path / "w", "--virtual", *NO_SPLIT, "--seed", "1")
    assert (chains == pd.read_parquet(tmp_path / "w" / "manifest.parquet")["chain"]).all()
    assert (out / "manifest.parquet").read_bytes() != before["manifest.parquet"][0]


def test_a_limit_leaves_the_rest_for_later_and_changes_no_variant(
    corpus: Path, tmp_path: Path
) -> None:
    for out, more in (("all", ()), ("some", ("--limit", "2"))):
        make("--corpus", corpus, "--out", tmp_path / out, "--virtual", *NO_SPLIT, *more)
    full, some = (pd.read_parquet(tmp_path / n / "manifest.parquet") for n in ("all", "some"))
    assert some["source"].nunique() == 2
    pd.testing.assert_frame_equal(some, full[full["source"].isin(some["source"])])


def test_a_limit_takes_nothing_out_of_a_virtual_corpus(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts new sources, as that of a stored corpus does."""
    out, full = tmp_path / "v", tmp_path / "full"
    job = ("--corpus", corpus, "--virtual", *NO_SPLIT)

    def sources() -> list[str]:
        return list(pd.read_parquet(out / "manifest.parquet")["source"].unique())

    make(*job, "--out", out, "--limit", "2")
    assert len(sources()) == 2
    make(*job, "--out", out, "--limit", "1")
    assert len(sources()) == 3
    make(*job, "--out", out)
    make(*job, "--out", full)
    for name in ("manifest.parquet", "labels.csv"):
        assert (out / name).read_bytes() == (full / name).read_bytes()
    make(*job, "--out", out, "--limit", "1")
    assert (out / "manifest.parquet").read_bytes() == (full / "manifest.parquet").read_bytes()
    assert "no more" not in capsys.readouterr().out


def test_what_leaves_the_tables_is_told(
    refused: Door, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v"
    job = ("--corpus", corpus, "--out", out, "--virtual", *NO_SPLIT)
    make(*job)
    capsys.readouterr()
    make(*job, "--set", "leave_out=[blur]")
    told = "variants that manifest and labels named before are in them no more"
    assert f"{6 * 5} {told}" in capsys.readouterr().out
    (corpus / "s0" / "v0.mp4").unlink()
    make(*job, "--set", "leave_out=[blur]", "--limit", "1")
    assert f"{5 * (len(ARTEFACTS) - 1) + 1} {told}" in capsys.readouterr().out
    (out / "manifest.parquet").write_bytes(b"x")
    assert "manifest.parquet is damaged" in refused("--out", out, "--virtual", *NO_SPLIT)
    assert (out / "manifest.parquet").read_bytes() == b"x"


def test_videos_of_a_killed_run_with_another_plan_are_removed_and_no_others(
    tmp_path: Path,
) -> None:
    folder, out, names = tmp_path / "clean", tmp_path / "out", ("a/v0", "x" * 300)
    folder.mkdir()
    (folder / "v.mp4").write_bytes(b"x")
    rows = [{"video_id": name, "uri": str(folder / "v.mp4")} for name in names]
    pd.DataFrame(rows).to_csv(tmp_path / "m.csv", index=False)
    left = [
        f"{folder_of(name)}/{variant}.mov"
        for name in names
        for variant in ("clean", "blur-400", "noise-1000", "noise-050+blur-800")
    ]
    others = ["a/v0/mine.mov", "a/v0/take-400.mov", "a/v0/blur-4.mov", "a/v0/blur-400.mp4"]
    others += ["a/v0/blur-400+mine.mov", "a/blur-400.mov", "b/blur-400.mov", "a/v0/b/clean.mov"]
    for name in (*left, *others):
        path = out / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    # Nothing is to do, so no cluster is started.
    failures = FailureTable("killed")
    for name in names:
        ref = VideoRef(name, "", version="")
        failures.add(Failure(ref, "decode", "not_a_video", "It is none.", 1))
    failures.flush(Store.at(out))
    make("--corpus", tmp_path / "m.csv", "--out", out, *NO_SPLIT, "--set", "leave_out=[blur]")
    videos = out / "videos"
    found = {str(path.relative_to(videos)) for path in videos.rglob("*") if path.is_file()}
    assert found == set(others)


def test_names_that_no_manifest_can_hold_are_told(refused: Door, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"a.mp4", b"b\xff.mp4"):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(b"x")
    assert "is not UTF-8" in refused("--corpus", folder, "--virtual", *NO_SPLIT)


def test_odd_names_come_back_as_they_are(tmp_path: Path) -> None:
    names = ["a b", "ünï 😀", "a+b", "x%20y", "q?r#s", "new\nline", 'comma, "quote"', "=1+1"]
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.mp4").write_bytes(b"x")
    out = tmp_path / "v"
    make("--corpus", folder, "--out", out, "--virtual", *NO_SPLIT)
    refs = list(iter_corpus(CorpusConfig(corpus=str(out / "manifest.parquet"))))
    assert {ref.source for ref in refs} == set(names)
    assert {ref.uri for ref in refs} == {str(folder / f"{name}.mp4") for name in names}
    labels = pd.read_csv(out / "labels.csv", keep_default_na=False)
    assert labels["video_id"].tolist() == [ref.video_id for ref in refs]
