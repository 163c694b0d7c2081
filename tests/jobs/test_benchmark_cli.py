"""The door of the ruler: a table of scores on a made-up corpus, and its exit statuses."""

import html
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from jobs.benchmark import main
from pipelines.benchmarking.peers import PEERS
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


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        ((2,), "one evaluator is needed"),
        ((2, "--scores", "FIVE", "--peer", "ssim"), "one evaluator is needed"),
        ((2, "--scores", "missing.csv"), "does not exist"),
        ((2, "--scores", "FIVE", "--split", "val"), "no video is of the split val"),
        ((2, "--scores", "FIVE", "--task", "score"), "has no score in it"),
        ((2, "--scores", "FIVE", "--task", "lips"), "tasks"),
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
