import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.tasks import TASKS
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.labels import LabelsConfig, LabelTable, read_labels
from pipelines.training.matching import match
from tests.pipelines.training.train_inputs import index_of

ROWS: list[dict[str, Any]] = [
    {"video_id": "a/one", "lip_sync": 4.5, "overall": 3, "overall_std": 0.5, "overall_n": 12},
    {"video_id": "b", "lip_sync": -1.0, "overall": 1, "overall_std": 0, "overall_n": 3},
    {"video_id": "ü,x", "lip_sync": None, "overall": 5, "overall_std": None, "overall_n": None},
]


def read(path: Path | str, **more: Any) -> LabelTable:
    return read_labels(LabelsConfig(labels=str(path), **more))


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_all_kinds_give_the_same(tmp_path: Path, kind: str) -> None:
    rows = [{**row, "split": f" s{n} ", "take": n} for n, row in enumerate(ROWS)]
    path = tmp_path / f"labels.{kind}"
    if kind == "csv":
        path.write_bytes(b"\xef\xbb\xbf" + pd.DataFrame(rows).to_csv(index=False).encode())
    elif kind == "jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows))
    else:
        pd.DataFrame(rows).to_parquet(path)
    table = read(path)
    assert table.keys == ["a/one", "b", "ü,x"]
    assert table.rows.tolist() == {"csv": [2, 3, 4], "jsonl": [1, 3, 5], "parquet": [1, 2, 3]}[kind]
    assert table.absent == ("expression", "audio_quality", "cross_modal")
    expected = np.full((3, 5), math.nan)
    expected[0, 0] = 4.5
    expected[:, 4] = [3, 1, 5]
    np.testing.assert_array_equal(table.values, expected)
    np.testing.assert_array_equal(table.std[:, 4], [0.5, 0, math.nan])
    np.testing.assert_array_equal(table.raters[:, 4], [12, 3, math.nan])
    assert np.isnan(table.std[:, :4]).all()
    assert table.extra == {"split": ["s0", "s1", "s2"], "take": ["0", "1", "2"]}
    assert (table.weights == 1).all()


@pytest.mark.parametrize("cell", ["-1", "-1.0", " -1.00 ", "", " ", "nan", "NaN", "null"])
def test_what_counts_as_missing(tmp_path: Path, cell: str) -> None:
    table = read(write(tmp_path, f"video_id,overall,lip_sync\nv,{cell},3\nw,2,3\n"))
    np.testing.assert_array_equal(table.values[:, 4], [math.nan, 2])


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("7.3", "'7.3' lies outside [1, 5]"),
        ("0", "lies outside"),
        ("-1.5", "lies outside"),
        ("0.999", "lies outside"),
        ("inf", "lies outside"),
        ("good", "'good' is not a number"),
        ('"4,5"', "'4,5' is not a number; write a decimal point"),
        ("1_0", "is not a number"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, cell: str, said: str) -> None:
    path = write(tmp_path, f"video_id,lip_sync,overall\nv,3,4\nw,2,{cell}\n")
    with pytest.raises(TrainInputError) as caught:
        read(path)
    assert f"{path}: 1 problem\n  row 3, overall: " in str(caught.value)
    assert said in str(caught.value)


def test_wrong_json_cells_are_named(tmp_path: Path) -> None:
    cells = [True, [3], {"a": 1}, 10**400]
    lines = [json.dumps({"video_id": f"v{n}", "overall": x}) for n, x in enumerate(cells)]
    with pytest.raises(TrainInputError) as caught:
        read(write(tmp_path, "\n".join(lines), "labels.jsonl"))
    found = str(caught.value).splitlines()
    assert "4 problems" in found[0]
    for line, said in zip(found[1:5], ("bool", "list", "dict", "outside [1, 5]"), strict=True):
        assert said in line


def test_all_problems_are_told_at_once_up_to_20(tmp_path: Path) -> None:
    rows = "".join(f"v{n},{5 + n}\n" for n in range(40))
    with pytest.raises(TrainInputError) as caught:
        read(write(tmp_path, f"video_id,overall\n{rows},2\nv0,1\n"))
    text = str(caught.value)
    assert "41 problems" in text
    assert "rows 2 and 43: both are about v0" in text
    assert "row 42: no video_id" in text
    assert text.count("\n  row") == 20
    assert "… and 21 more" in text
    assert "[1, 5]" in text.splitlines()[-1]


def test_one_video_in_two_rows_tells_how_they_differ(tmp_path: Path) -> None:
    path = write(tmp_path, "video_id,overall,split\nv,3,train\nw,3,val\nv,3.0,test\n")
    with pytest.raises(TrainInputError, match=r"rows 2 and 4.*split: train and test"):
        read(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("video_id,overal", r"'overal': did you mean overall\?"),
        ("video_id,Overall", r"'Overall': did you mean overall\?"),
        ("video_id,overall ", r"did you mean overall\?"),
        ("video_id,lip-sync", r"did you mean lip_sync\?"),
        ("video_id,overall_mos", r"did you mean overall\?"),
        ("video_id,overall,expresion", r"did you mean expression\?"),
        ("video_id,overall,overal_std", r"did you mean overall_std\?"),
        ("video_id,overall,overall_sd", r"did you mean overall_std\?"),
        ("video_id,overall,overall_raters", r"did you mean overall_n\?"),
        ("video_id,quality,mood", r"none of the columns .*'quality', 'mood'"),
        ("name,overall", r"no column video_id or uri .*'name', 'overall'"),
        ("video_id,overall,overall", r"column 'overall' is there twice"),
        ("video_id;overall", r"separated by commas"),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, header: str, said: str) -> None:
    cells = ",".join(["3"] * (header.count(",") + 1))
    with pytest.raises(TrainInputError, match=said):
        read(write(tmp_path, f"{header}\n{cells}\n"))


def test_other_columns_are_kept(tmp_path: Path) -> None:
    header = "video_id,overall,overall_mos,audio,split,uri,lip_sync_ok"
    table = read(write(tmp_path, f"{header}\nv,3,80,x.wav,train,a.mp4,\n"))
    assert table.extra == {
        "overall_mos": ["80"],
        "audio": ["x.wav"],
        "split": ["train"],
        "uri": ["a.mp4"],
        "lip_sync_ok": [None],
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.csv", b"video_id,overall\n", "has no rows"),
        ("l.csv", b"", "has no rows"),
        ("l.jsonl", b"\n\n", "has no rows"),
        ("l.jsonl", b'{"video_id": \n', "row 1: not JSON"),
        ("l.csv", b"video_id,overall\na,1,2\n", "row 2: more cells than columns"),
        ("l.csv", b"video_id,\xff\n", "not CSV in UTF-8"),
        ("l.parquet", b"PAR1 no", "not a readable Parquet file"),
        ("l.xlsx", b"PK", "expected a table named .csv, .jsonl or .parquet"),
    ],
)
def test_an_unreadable_table(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainInputError, match=said):
        read(tmp_path / name)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(TrainInputError, match="does not exist"):
        read(tmp_path / "no.csv")
    with pytest.raises(TrainInputError, match="no label table was given"):
        read_labels(LabelsConfig())


def test_a_nested_label_column_of_parquet_is_no_silent_gap(tmp_path: Path) -> None:
    pq.write_table(pa.table({"video_id": ["a"], "overall": [[3.0]]}), tmp_path / "l.parquet")
    with pytest.raises(TrainInputError, match="overall holds neither numbers nor text"):
        read(tmp_path / "l.parquet")


def test_numbers_as_ids_keep_their_digits(tmp_path: Path) -> None:
    pd.DataFrame({"video_id": [12345678.0, 2.0], "overall": [1, 2]}).to_parquet(
        tmp_path / "l.parquet"
    )
    assert read(tmp_path / "l.parquet").keys == ["12345678", "2"]


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("overall_std", "-0.5", "spread of ratings"),
        ("overall_std", "12", "spread of ratings"),
        ("overall_n", "2.5", "not a number of raters"),
        ("overall_n", "inf", "not a number of raters"),
        ("overall_n", "0", "a score, and 0 raters"),
    ],
)
def test_spread_and_raters_are_checked(tmp_path: Path, column: str, cell: str, said: str) -> None:
    with pytest.raises(TrainInputError, match=f"row 2, overall.*{said}"):
        read(write(tmp_path, f"video_id,overall,{column}\nv,3,{cell}\n"))


def test_the_largest_spread_of_two_raters_is_allowed(tmp_path: Path) -> None:
    std = float(np.std([1, 5], ddof=1))
    assert read(write(tmp_path, f"video_id,overall,overall_std\nv,3,{std}\n")).std[0, 4] == std


def test_weights_by_raters_are_in_proportion(tmp_path: Path) -> None:
    path = write(
        tmp_path, "video_id,overall,overall_n,lip_sync\na,3,2,3\nb,3,6,3\nc,-1,9,3\nd,3,,3\n"
    )
    weights = read(path, weight_by="raters").weights
    np.testing.assert_allclose(weights[[0, 1, 3], 4], [0.5, 1.5, 1])
    np.testing.assert_array_equal(weights[:, 0], 1)


def test_weights_by_spread_follow_the_variance_of_the_mean(tmp_path: Path) -> None:
    head = "video_id,overall,overall_std,overall_n"
    path = write(tmp_path, f"{head}\na,3,0,4\nb,3,1,4\nc,3,2,4\nd,3,1,1\n")
    weights = read(path, weight_by="spread").weights[:, 4]
    variance = np.array([0, 1 / 4, 4 / 4, 1])
    expected = np.median(variance) / (variance + np.median(variance))
    np.testing.assert_allclose(weights, expected / expected.mean())
    alike = read(write(tmp_path, f"{head}\na,3,0,4\nb,3,0,9\n"), weight_by="spread").weights
    np.testing.assert_array_equal(alike, 1)


@pytest.mark.parametrize("by", ["raters", "spread"])
def test_weights_need_their_column(tmp_path: Path, by: str) -> None:
    with pytest.raises(TrainInputError, match=f"weight_by is {by}, but no label has"):
        read(write(tmp_path, "video_id,overall\nv,3\n"), weight_by=by)


def test_spans_are_read_and_kept(tmp_path: Path) -> None:
    labels = write(tmp_path, "video_id,overall\nv,3\n")
    head = "video_id,start_s,end_s,task,text"
    good = write(tmp_path, f"{head}\nv,0,1.5,lip_sync,teeth\nv,2,3,overall,\n", "spans.csv")
    spans = read(labels, spans=str(good)).spans
    assert spans is not None
    assert (spans.keys, spans.text) == (["v", "v"], ["teeth", None])
    assert [TASKS[t] for t in spans.task] == ["lip_sync", "overall"]
    np.testing.assert_array_equal(np.stack([spans.start_s, spans.end_s]), [[0, 2], [1.5, 3]])
    bad = write(tmp_path, f"{head}\nv,2,1,lipsync,\n,x,1,overall,\nv,,1,zzz,\n", "bad.csv")
    with pytest.raises(TrainInputError) as caught:
        read(labels, spans=str(bad))
    text = str(caught.value)
    for said in (
        "row 2: expected 0 <= start_s < end_s, got 2 and 1",
        "row 2, task: 'lipsync': did you mean lip_sync?",
        "row 3: no video_id",
        "row 3, start_s: 'x' is not a number",
        "row 4: expected 0 <=",
        "row 4, task: 'zzz': expected one of",
    ):
        assert said in text
    with pytest.raises(TrainInputError, match="no column end_s, task"):
        read(labels, spans=str(write(tmp_path, "video_id,start_s\nv,1\n", "short.csv")))


def test_a_table_in_an_object_store(tmp_path: Path) -> None:
    store = Store.at(f"memory://{tmp_path.name}")
    store.write_bytes("sub/labels.csv", b"uri,overall\nx/a.mp4,2\n")
    table = read(f"{store.raw_uri}/sub/labels.csv")
    assert table.by == "uri"
    assert table.keys == [f"{store.uri}/sub/x/a.mp4"]
    assert read(f"{store.raw_uri}/sub/labels.csv").digest == table.digest
    store.write_bytes("sub/labels.csv", b"uri,overall\nx/a.mp4,3\n")
    assert read(f"{store.raw_uri}/sub/labels.csv").digest != table.digest


# --- which features they belong to


def test_match_by_id(tmp_path: Path) -> None:
    path = write(tmp_path, "video_id,overall,speaker\nb,2,S\nzz,3,T\na,-1,\n")
    index = index_of(["a", "b", "c"], speakers=("s", "t", "u"))
    found = match(read(path), index)
    assert found.label.tolist() == [2, 0, -1]
    assert found.labelled.tolist() == [False, True, False]
    np.testing.assert_array_equal(found.values[:, 4], [math.nan, 2, math.nan])
    assert found.unmatched == ["zz"]
    assert found.speakers == ["s", "S", "u"]
    assert found.generators == [None] * 3
    assert len(found.warnings) == 1
    assert "1 videos have another speaker in the label table" in found.warnings[0]
    assert found.column("speaker") == [None, "S", None]
    assert found.column("generator") == [None] * 3
    assert found.column("nothing") is None


@pytest.mark.parametrize("cell", ["/corpus/a.mp4", "../corpus/./a.mp4", "file:///corpus/a.mp4"])
def test_match_by_address(tmp_path: Path, cell: str) -> None:
    if cell.startswith(".."):
        cell = "../" * len(tmp_path.parts) + "corpus/a.mp4"
    found = match(read(write(tmp_path, f"uri,overall\n{cell},2\n")), index_of(["a", "b"]))
    assert found.label.tolist() == [0, -1]


def test_match_by_address_strips_credentials(tmp_path: Path) -> None:
    path = write(tmp_path, "uri,overall\ns3://key:secret@bucket/a.mp4,2\n")
    index = index_of(["a"], uris=["s3://bucket/a.mp4"])
    assert match(read(path), index).label.tolist() == [0]


@pytest.mark.parametrize(
    ("labels", "features", "hint"),
    [
        ("a.mp4", "a", "suffix such as .mp4"),
        ("A", "a", "upper and lower case"),
        ("a", "gen/a", "folders in front"),
        ("x/y/a.mov", "a", "folders in front and a suffix"),
        ("g\\a", "g/a", "separators of folders"),
        ("7", "007", "leading zeros"),
        ("/corpus/a.mp4", "gen/b/a", "folders in front and a suffix"),
    ],
)
def test_no_overlap_is_explained(tmp_path: Path, labels: str, features: str, hint: str) -> None:
    path = write(tmp_path, f"video_id,overall\n{labels},2\nq1,2\nq2,2\nq3,2\n")
    with pytest.raises(TrainInputError) as caught:
        match(read(path), index_of([features, "z"]))
    text = str(caught.value)
    assert f"labels:   {labels}, q1, q2 …" in text
    assert f"features: {features}, z" in text
    assert hint in text


def test_addresses_under_the_wrong_name(tmp_path: Path) -> None:
    path = write(tmp_path, "video_id,overall\ns3://b/k/a,2\n")
    with pytest.raises(TrainInputError, match="name its column uri"):
        match(read(path), index_of(["x"], uris=["s3://b/k/a"]))


def test_no_overlap_without_any_likeness_has_no_hint(tmp_path: Path) -> None:
    path = write(tmp_path, "video_id,overall\nq,2\n")
    with pytest.raises(TrainInputError) as caught:
        match(read(path), index_of(["x"]))
    assert "Hint" not in str(caught.value)


def test_a_table_without_any_label(tmp_path: Path) -> None:
    path = write(tmp_path, "video_id,overall,lip_sync\na,-1,nan\nb,,null\n")
    with pytest.raises(TrainInputError, match="every label is missing, in all of the 2 rows"):
        match(read(path), index_of(["a", "b"]))
