"""The door of the ruler: a table of scores on a made-up corpus, and its exit statuses."""

import html
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from jobs.benchmark import main
from pipelines.benchmarking.peers import PEERS
from pipelines.lock import RunLock
from pipelines.storage import Store
from tests.pipelines.benchmarking.corpora import PLAN, planted, rows, write, write_scores


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A corpus, scores of five tasks and scores of one number."""
    folder = tmp_path_factory.mktemp("benchmark")
    corpus = write(folder / "d", rows(8) + rows(3, split="train"))
    scores = planted(rows(8), noise=0.05)
    del scores["person/test-7/blur-1"]
    single = {
        name: {"score": 10 * found["audio_quality"]} for name, found in planted(rows(8)).items()
    }
    return (
        corpus,
        write_scores(folder / "five.csv", scores),
        write_scores(folder / "one.csv", single),
    )


def run(corpus: Path, out: Path, *more: str | Path) -> int:
    arguments = ["--corpus", corpus, "--out", out, "--rounds", "100", *more]
    return main([str(argument) for argument in arguments])


def test_a_table_of_scores_from_end_to_end(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, five, one = made
    speech = tmp_path / "speech"
    assert run(corpus, speech, "--scores", one, "--speaks-for", "audio_quality") == 0
    out = tmp_path / "ours"
    assert run(corpus, out, "--scores", five, "--compare", speech, "--name", "our <own>") == 0
    told = capsys.readouterr().out
    assert "our <own> (scores): 215 of 216 videos scored, 8 sources" in told
    assert "failures: 1 not_scored" in told
    assert re.search(r"^sound \(held out from training\) +1\.00", told, re.MULTILINE)

    table = pd.read_parquet(out / "table.parquet")
    assert len(table) == len(pd.read_csv(out / "table.csv")) == 5 * len(PLAN) + 5
    lips = table[(table.type == "offset") & (table.task == "lip_sync")].iloc[0]
    assert lips.monotonicity == 1
    assert lips.srcc == 1
    assert lips["drop"] == pytest.approx(2.4, abs=0.1)
    assert lips.drop_low < lips["drop"] < lips.drop_high
    assert lips.smallest_severity == 0.2
    blur = table[(table.type == "blur") & (table.task == "expression")].iloc[0]
    assert blur.missing == 1

    summary = json.loads((out / "summary.json").read_text())
    assert summary["corpus"]["split"] == "test"
    everything = next(s for s in summary["scopes"] if s["scope"] == "all")
    assert everything["monotonicity"]["value"] == 1
    assert everything["selectivity"]["value"] > 10
    assert pd.read_parquet(out / "curves.parquet").severity.nunique() == 6
    assert len(pd.read_parquet(out / "videos.parquet")) == 216
    assert list(pd.read_parquet(out / "failures.parquet").video_id) == ["person/test-7/blur-1"]

    page = (out / "report.html").read_text()
    text = html.unescape(re.sub(r"<[^>]*>", " ", page))
    assert "our <own>" in text
    assert "our <own>" not in page
    assert "blur <b>of</b> all" in text
    assert "<b>of</b>" not in page
    assert "thinner than a pixel of the crop" in text
    assert "held out from training" in text
    assert "person/test-7/blur-1" in text
    assert "Evaluators beside each other" in text
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_evaluators_beside_each_other_without_measuring(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, five, one = made
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    assert run(corpus, a, "--scores", five, "--task", "lip_sync", "--limit", "60") == 0
    assert run(corpus, b, "--scores", one, "--limit", "60") == 0
    assert main(["--compare", str(a), str(b), "--out", str(c)]) == 0
    assert "one (scores)" in capsys.readouterr().out
    assert "five (scores)" not in (c / "report.html").read_text()
    assert "Evaluators beside each other" in (c / "report.html").read_text()
    # Another part of the corpus is not comparable.
    assert run(corpus, tmp_path / "e", "--scores", five, "--compare", a) == 2
    assert "was measured on other videos" in capsys.readouterr().err


def refused(arguments: list[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


@pytest.mark.parametrize(
    "name", ["summary.json", "report.html", "table.csv", "videos.parquet", "benchmark.json"]
)
def test_files_of_others_are_not_replaced(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    corpus, five, _ = made
    (tmp_path / name).write_text("precious")
    for what in (["--corpus", corpus, "--scores", five], ["--compare", made_of(made, tmp_path)]):
        told = refused([*what, "--out", tmp_path], capsys)
        assert "was not written by jobs/benchmark.py and would be replaced" in told
        assert name in told
        assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [name]
        assert (tmp_path / name).read_text() == "precious"


def made_of(made: tuple[Path, Path, Path], tmp_path: Path, out: str = "a") -> Path:
    corpus, _, one = made
    if not (tmp_path / out).exists():
        assert run(corpus, tmp_path / out, "--scores", one, "--limit", "30") == 0
    return tmp_path / out


def test_another_evaluator_is_not_replaced(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, five, one = made
    out = made_of(made, tmp_path)
    assert run(corpus, out, "--scores", one, "--limit", "60") == 0  # the same again, of more videos
    before = (out / "report.html").read_bytes()
    told = refused(["--corpus", corpus, "--scores", five, "--out", out], capsys)
    assert f"holds the benchmark of another evaluator, one (scores {one})" in told
    other = made_of(made, tmp_path, "b")
    told = refused(["--compare", out, "--out", out], capsys)
    assert "holds the benchmark of an evaluator, one" in told
    assert "whose report would be replaced" in told
    assert (out / "report.html").read_bytes() == before
    both = tmp_path / "both"
    for _ in range(2):
        assert main(["--compare", str(other), "--out", str(both)]) == 0
    told = refused(["--corpus", corpus, "--scores", five, "--out", both], capsys)
    assert "is a comparison of evaluators and would be replaced" in told
    # A run that was stopped while it wrote may be started again.
    (out / "summary.json").unlink()
    assert run(corpus, out, "--scores", one, "--limit", "60") == 0


def test_an_output_in_use_is_left_alone(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, _, one = made
    there = made_of(made, tmp_path)
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--compare", str(there)]
    own = ["--corpus", str(corpus), "--scores", str(one), "--limit", "30"]
    with RunLock(Store.at(out), "first"):
        for more in ([], own):
            assert main([*arguments, *more]) == 3
            assert "in use by run first" in capsys.readouterr().err
        assert not (out / "report.html").exists()
    assert main([*arguments, *own, "--wait-lock"]) == 0


def test_the_output_is_looked_at_again_under_the_lock(
    made: tuple[Path, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While this run waits, another one may write its own evaluator into the same output."""
    corpus, five, _ = made
    other, out = made_of(made, tmp_path), tmp_path / "out"
    acquire = RunLock.acquire

    def after_another(lock: RunLock) -> None:
        shutil.copytree(other, out)
        acquire(lock)

    monkeypatch.setattr(RunLock, "acquire", after_another)
    told = refused(["--corpus", corpus, "--scores", five, "--out", out], capsys)
    assert "holds the benchmark of another evaluator" in told


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("corpus",), None),
        (("scopes",), None),
        (("scopes", 0, "monotonicity", "low"), None),
        (("cells", 0, "drop"), 3),
        (("videos", "failed"), "none"),
        (("evaluator", "name"), None),
    ],
)
def test_damaged_outputs_are_not_compared(
    made: tuple[Path, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    place: tuple[str | int, ...],
    value: object,
) -> None:
    file = made_of(made, tmp_path) / "summary.json"
    summary = json.loads(file.read_text())
    node = summary
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    if value is None:
        del node[place[-1]]
    file.write_text(json.dumps(summary))
    told = refused(["--compare", file.parent, "--out", tmp_path / "out"], capsys)
    assert f"summary.json is damaged ({'.'.join(map(str, place))}: " in told
    assert not (tmp_path / "out").exists()


def test_damaged_tables_are_not_compared(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = made_of(made, tmp_path)
    table = pd.read_parquet(out / "curves.parquet")
    table.drop(columns="score").to_parquet(out / "curves.parquet")
    told = refused(["--compare", out, "--out", tmp_path / "out"], capsys)
    assert "curves.parquet has no column score" in told
    (out / "curves.parquet").write_bytes(b"PAR1")
    told = refused(["--compare", out, "--out", tmp_path / "out"], capsys)
    assert "curves.parquet cannot be read" in told
    (out / "curves.parquet").unlink()
    told = refused(["--compare", out, "--out", tmp_path / "out"], capsys)
    assert "curves.parquet is missing" in told


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        ((2,), "one evaluator is needed"),
        ((2, "--scores", "FIVE", "--peer", "ssim"), "one evaluator is needed"),
        ((2, "--scores", "missing.csv"), "does not exist"),
        ((2, "--scores", "FIVE", "--split", "val"), "no video is of the split val"),
        ((2, "--scores", "FIVE", "--task", "score"), "has no score in it"),
        ((2, "--scores", "FIVE", "--task", "lips"), "--task lips: known are the tasks lip_sync,"),
        ((2, "--scores", "FIVE", "--speaks-for", "sound"), "--speaks-for is for evaluators"),
        ((2, "--scores", "FIVE", "--speaks-for", "taste"), "known are the tasks"),
        ((2, "--scores", "FIVE", "--alpha", "2"), "ruler.alpha"),
        ((1, "--scores", "FIVE", "--max-failures", "0"), "1 of 216 videos have no score"),
        ((2, "--scores", "FIVE", "--max-failures", "many"), "expected a count"),
        ((2, "--checkpoint", "nowhere"), "nowhere"),
    ],
)
def test_exit_statuses(
    made: tuple[Path, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: tuple[int | str, ...],
    complaint: str,
) -> None:
    corpus, five, _ = made
    status, *words = case
    arguments = [str(five) if word == "FIVE" else str(word) for word in words]
    assert run(corpus, tmp_path / "out", *arguments) == status
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--command", "ls {video}", "--set", "foo=1"), "--set says nothing to --command"),
        (("--callable", "m:f", "--features", "nope"), "--features says nothing to --callable"),
        (("--peer", "ssim", "--config", "nope"), "it needs --checkpoint"),
        (("--peer", "ssim", "--audio-weights", "seeded"), "--audio-weights says nothing"),
        (("--scores", "s.csv", "--weights", "seeded"), "it needs --checkpoint"),
        (("--scores", "s.csv", "--retry-failed"), "it needs --command, --callable or --peer"),
        (("--checkpoint", "c", "--jobs", "2"), "--jobs says nothing to --checkpoint"),
        (("--checkpoint", "c", "--timeout", "2"), "it needs --command, --callable or --peer"),
        (("--checkpoint", "c", "--fresh"), "--fresh says nothing to --checkpoint"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    assert run(tmp_path, tmp_path / "out", *words) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--limit 3", "--seed 0", "--jobs 2", "--weights seeded"])
def test_a_comparison_measures_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["--compare", "a", "b", "--out", str(tmp_path / "out"), *option.split()]) == 2
    name = option.partition(" ")[0]
    assert f"{name} says nothing to --compare alone: it needs an" in capsys.readouterr().err


def test_help_shows_what_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "N|P%%" not in capsys.readouterr().out


def test_what_is_missing_is_said_at_the_door(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, five, _ = made
    assert main(["--scores", str(five), "--out", str(tmp_path)]) == 2
    assert "--corpus is needed" in capsys.readouterr().err
    assert main(["--corpus", str(corpus), "--scores", str(five)]) == 2
    assert "--out is needed" in capsys.readouterr().err
    # An output that holds a corpus is no place for a benchmark.
    assert run(corpus, corpus, "--scores", five) == 2
    assert "something else than a benchmark" in capsys.readouterr().err


def test_peers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-peers"]) == 0
    told = capsys.readouterr().out
    assert all(re.search(rf"^{name} ", told, re.MULTILINE) for name in PEERS)
