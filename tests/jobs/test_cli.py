"""Mistakes at the door of `jobs/extract.py`: one clear message, no traceback, the right status."""

from pathlib import Path

import pytest

from jobs.extract import main
from pipelines.lock import RunLock
from pipelines.storage import Store
from tests.jobs.runs import extract
from tests.media import noise_images, write_video


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_video(folder / "a.mp4", noise_images(30))
    return folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the door; returns the status and what it said on standard error."""
    try:
        status = main(arguments)
    except SystemExit as stop:  # argparse ends so
        status = int(str(stop.code))
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert "defect" not in told.err
    return status, told.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], ["--corpus is needed"]),
        (["--out", "OUT"], ["--corpus is needed"]),
        (["--corpus", "CORPUS"], ["--out is needed"]),
        (["--set", "decode.hopp_s=3"], ["decode.hopp_s", "did you mean hop_s?"]),
        (["--set", "decoding.hop_s=3"], ["decoding", "did you mean decode?"]),
        (["--set", "decode.hop_s"], ["expected section.setting=value"]),
        (["--set", "decode.hop_s=[1"], ["the value is not YAML"]),
        (["--set", "decode=3"], ["decode:"]),
        (["--config", "BAD.yaml"], ["BAD.yaml", "not YAML: line 3, column 1"]),
        (["--config", "LIST.yaml"], ["expected sections with settings"]),
        (["--config", "NONE.yaml"], ["cannot be read"]),
        (["--modalities", "visual,smell"], ["'smell'", "'landmarks'"]),
        (["--modalities", ""], ["modalities", "'landmarks'"]),
        (["--hop", "0.05"], ["decode.hop_s: hop_s must be a positive multiple of 0.04"]),
        (["--hop", "nan"], ["decode.hop_s"]),
        (["--workers", "0"], ["resources.workers", "greater than or equal to 1"]),
        (["--workers", "two"], ["--workers", "'two'"]),
        (["--limit", "0"], ["run.limit"]),
        (["--policy", "half"], ["--policy", "windows"]),
        (["--pattern", "{generator"], ["corpus.pattern", "brace"]),
        (["--pattern", "{name}/x"], ["{name} is unknown", "{speaker}"]),
        *(
            (["--max-failures", text], [f"--max-failures {text}", "count or a percentage"])
            for text in ("many", "-1", "1.5", "nan", "inf", "nan%", "%", "")
        ),
        (["--address", "127.0.0.1:9"], ["no Ray cluster answers at 127.0.0.1:9", "ray start"]),
    ],
)
def test_wrong_usage(  # noqa: PLR0917 - fixtures
    arguments: list[str],
    says: list[str],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("BAD.yaml").write_text("decode:\n  hop_s: [1\n: }")
    Path("LIST.yaml").write_text("- 1\n")
    if arguments and arguments[0] not in ("--out", "--corpus"):
        arguments = ["--corpus", str(corpus), "--out", "OUT", *arguments]
    if "--address" in arguments:
        ray = pytest.importorskip("ray")
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
    status, told = refused(arguments, capsys)
    assert status == 2
    for text in says:
        assert text in told
    assert told.splitlines()[-1].startswith("jobs/extract.py: ")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nowhere", None, "nowhere does not exist"),
        ("nowhere.csv", None, "the manifest"),
        ("empty", "", "there is no video in it"),
        ("texts", "notes.txt", "1 .txt"),
        ("wide.csv", "uri,video_id\na.mp4,1,2,3\n", "wide.csv, row 2: more cells than columns"),
        ("half.jsonl", '{"uri": "a.mp4"}\n{"uri":\n', "half.jsonl, row 2: not JSON"),
        ("other.jsonl", '{"url": "a.mp4"}\n', "row 1: no value in column 'uri'"),
        ("number.jsonl", '{"uri": ["a.mp4"]}\n', "row 1: uri must be a text, got list"),
        ("twice.csv", "uri,video_id\na.mp4,1\nb.mp4,1\n", "two videos have the id '1'"),
        ("head.csv", "uri\n", "there is no video in it"),
        ("damaged.parquet", "PAR1", "not a readable Parquet file"),
    ],
)
def test_wrong_corpora(  # noqa: PLR0917 - fixtures
    name: str,
    content: str | None,
    says: str,
    dry: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if content is not None and path.suffix:
        path.write_text(content)
    elif content is not None:
        path.mkdir()
        if content:
            (path / content).write_text("nothing")
    out = tmp_path / "out"
    status, told = refused(["--corpus", str(path), "--out", str(out), *dry], capsys)
    assert status == 2
    assert says in told
    assert len(told.splitlines()) == 1
    assert not out.exists()


def test_an_output_that_cannot_be_written(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("something of somebody")
    for out in ("file", "file/below"):
        for dry in ([], ["--dry-run"]):
            job = ["--corpus", str(corpus), "--out", str(tmp_path / out), *dry]
            status, told = refused(job, capsys)
            assert status == 3
            assert "a file stands where a folder is needed" in told
    assert (tmp_path / "file").read_text() == "something of somebody"


def test_inspect_of_what_is_no_output(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, says in (
        (tmp_path / "nowhere", "does not exist"),
        (corpus, "holds no features"),
        (corpus / "a.mp4", "a file stands where a folder is needed"),
    ):
        status, told = refused(["--inspect", str(place)], capsys)
        assert status == 3
        assert says in told
        assert len(told.splitlines()) == 1


def test_an_output_that_another_run_holds(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.at(tmp_path / "out")
    with RunLock(store, "somebody"):
        status, told = refused(["--corpus", str(corpus), "--out", str(tmp_path / "out")], capsys)
    assert status == 3
    assert "somebody" in told
    assert "--wait-lock" in told


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_an_output_whose_settings_are_damaged(
    content: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(content)
    status, told = refused(["--corpus", str(corpus), "--out", str(tmp_path / "out")], capsys)
    assert status == 2
    assert "run.json is damaged" in told
    assert not (tmp_path / "out" / "_lock.json").exists()


def test_a_defect_is_no_count_of_failures(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("pipelines.extract.extract", broken)
    assert main(["--corpus", str(corpus), "--out", str(tmp_path / "out")]) == 3
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "defect of TalkMOS" in told


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--modalities", "visual", "--visual-weights", "/nowhere/w.pth"],
            "no weights at /nowhere/w.pth (visual.weights)",
        ),
        (["--modalities", "sync"], "there is no download for sync.weights=pretrained"),
    ],
)
def test_weights_that_cannot_be_had(
    arguments: list[str],
    says: str,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    status, told = refused(["--corpus", str(corpus), "--out", str(out), *arguments], capsys)
    assert status == 3
    assert says in told.splitlines()[-1]
    assert "seeded" in told  # how to go on without
    assert not (out / "_lock.json").exists()


@pytest.mark.ray
def test_published_weights_without_network_or_cache(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = extract(
        "--corpus", corpus, "--out", out, "--modalities", "audio", "--audio-weights", "pretrained",
        HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 3
    assert "audio.weights=pretrained) are not cached here" in done.stderr
    assert "audio.weights=seeded" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (out / "run.json").exists()
