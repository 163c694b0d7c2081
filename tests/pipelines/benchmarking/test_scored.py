"""Scores that are there already: tables of anybody, outputs of jobs/score.py."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.tasks import TASKS
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.scored import read_scores
from pipelines.benchmarking.variants import Corpus, read_corpus
from pipelines.scoring.columns import video_schema
from tests.pipelines.benchmarking.corpora import planted, rows, write, write_scores


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return read_corpus(str(write(tmp_path_factory.mktemp("scored") / "d", rows(2))))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tables_of_every_kind(corpus: Corpus, tmp_path: Path, kind: str) -> None:
    records = [
        {"video_id": name, **scores, "note": "x"} for name, scores in planted(rows(2)).items()
    ]
    records.append({**records[0], "video_id": "somebody/else"})
    records[1]["lip_sync"] = None
    path = tmp_path / f"scores.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, records)))
    else:
        names = list(records[0])
        lines = [",".join("" if r[n] is None else str(r[n]) for n in names) for r in records]
        path.write_text("\n".join([",".join(names), *lines]))
    found = read_scores(corpus, str(path))
    assert found.tasks == TASKS
    assert found.blind
    assert not found.misses
    assert "lip_sync" not in found.scores[records[1]["video_id"]]
    assert found.scores[records[2]["video_id"]]["lip_sync"] == records[2]["lip_sync"]
    assert found.facts["rows of other videos"] == 1


def test_a_single_column_may_have_any_scale(corpus: Corpus, tmp_path: Path) -> None:
    ids = [variant.video_id for variant in corpus.variants]
    path = write_scores(
        tmp_path / "s.csv", {name: {"score": -1.0 * i} for i, name in enumerate(ids)}
    )
    found = read_scores(corpus, str(path))
    assert found.tasks == ("score",)
    assert found.scores[ids[1]] == {"score": -1.0}  # which is "missing" in tables of labels
    assert not found.blind


def test_videos_without_a_row_are_failures(corpus: Corpus, tmp_path: Path) -> None:
    scores = planted(rows(2))
    gone = scores.popitem()[0]
    found = read_scores(corpus, str(write_scores(tmp_path / "s.csv", scores)))
    assert [(m.video_id, m.reason) for m in found.misses] == [(gone, "not_scored")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("uri,score\na,1\n", "no column video_id"),
        ("video_id,mos\na,1\n", "no column of scores"),
        ("video_id,score\nperson/test-0/clean,good\n", "row 2: score is not a number"),
        ("video_id,score\nperson/test-0/clean,inf\n", "row 2: score is infinite"),
        ("video_id,score\n,1\n", "row 2: video_id is empty"),
        (
            "video_id,score\nperson/test-0/clean,1\nperson/test-0/clean,2\n",
            "row 3: person/test-0/clean is there twice",
        ),
        ("video_id,score\nother,1\n", "no video of .* has a score"),
    ],
)
def test_wrong_tables_are_refused(
    corpus: Corpus, tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(BenchmarkInputError, match=complaint):
        read_scores(corpus, str(path))


def test_the_output_of_a_scoring_run_is_read(corpus: Corpus, tmp_path: Path) -> None:
    ids = [variant.video_id for variant in corpus.variants]
    scores = planted(rows(2))
    none = dict.fromkeys(video_schema().names)
    records = [
        {**none, "video_id": name, "demonstration": True, **scores[name]} for name in ids[:-2]
    ]
    records[3] |= dict.fromkeys(TASKS)
    part = (
        tmp_path / "videos/run_date=2026-01-01/part-01234567-0123456789abcdef-i900-01234567.parquet"
    )
    part.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(records, video_schema()), part)
    record = {"format": "talkmos-scores", "checkpoint": {"where": "s3://b/ck", "digest": "d1"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    found = read_scores(corpus, str(tmp_path))
    assert found.tasks == TASKS
    assert found.demonstration
    assert found.facts["checkpoint digest"] == "d1"
    why = {m.video_id: m.reason for m in found.misses}
    assert why == {ids[3]: "no_score", ids[-2]: "not_scored", ids[-1]: "not_scored"}
    assert found.scores[ids[0]]["overall"] == pytest.approx(scores[ids[0]]["overall"])


def test_other_outputs_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkInputError, match="nor a table named"):
        read_scores(corpus, str(tmp_path))
    (tmp_path / "run.json").write_text('{"extractors": {}}')
    with pytest.raises(BenchmarkInputError, match="is no output of"):
        read_scores(corpus, str(tmp_path))
