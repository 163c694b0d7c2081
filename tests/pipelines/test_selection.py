"""Selection against pandas on the same rows, and what the condition may not do."""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.corpus import CorpusConfig, iter_corpus
from pipelines.manifest import write_manifest
from pipelines.scoring.errors import ScoreInputError
from pipelines.selection import select, usable_columns
from pipelines.storage import Store
from tests.pipelines.scoring.score_tables import (
    clip,
    clips,
    descriptors,
    finding,
    video,
    videos,
    write_output,
)

TASK_SPREAD = ("lip_sync", "overall", "expression")


def rows(count: int = 60) -> list[dict[str, Any]]:
    """Videos with every kind of gap: no sound, no speaker, no descriptor, several findings."""
    rng = np.random.default_rng(5)
    found = []
    for i in range(count):
        silent = i % 7 == 3
        found.append(
            video(
                f"g{i % 4}/v{i:02d}",
                has_sound=not silent,
                generator=None if i % 11 == 5 else f"g{i % 4}",
                speaker=f"s{i % 5}",
                clips=1 + i % 3,
                run_date=f"2026-02-0{1 + i % 3}",
                findings=[finding(k) for k, n in (("offset", 2), ("blur", 3)) if i % n == 0],
                descriptors=descriptors(
                    snr=None if silent else float(rng.uniform(0, 40)), luma=float(rng.uniform())
                ),
                **{task: float(rng.uniform(1, 5)) for task in ("expression", "overall")},
                **({} if silent else {"lip_sync": float(rng.uniform(1, 5))}),
                **({} if silent else {"sync_offset": float(rng.integers(-6, 7))}),
            )
        )
    return found


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scores")
    some = [clip("g0/v00", i, score=2.0 + i, findings=[finding("blur")] * i) for i in range(3)]
    write_output(folder, videos(rows()), clips(some))
    return folder


@pytest.fixture(scope="module")
def frame(scores: Path) -> pd.DataFrame:
    """The same rows, read by pandas, with the fields of structs as columns."""
    flat = pd.read_parquet(scores / "videos").sort_values("video_id", ignore_index=True)
    for name in ("descriptors", "faces"):
        flat = flat.join(pd.json_normalize(flat[name].tolist()).add_prefix(f"{name}."))
    return flat


@pytest.mark.parametrize(
    ("where", "reference"),
    [
        (
            "lip_sync > 3.5 and abs(offset) <= 2",
            lambda f: (f.lip_sync > 3.5) & (f.sync_offset.abs() <= 2),
        ),
        ("LIP_SYNC>3.5 OR Overall<2", lambda f: (f.lip_sync > 3.5) | (f.overall < 2)),
        ("not (lip_sync > 3.5)", lambda f: f.lip_sync <= 3.5),
        ("lip_sync is null", lambda f: f.lip_sync.isna()),
        ("descriptors.snr >= 20", lambda f: f["descriptors.snr"] >= 20),
        ("snr >= 20 and face_share = 1", lambda f: f["descriptors.snr"] >= 20),
        (
            "generator in ('g0', 'g3') and has_sound",
            lambda f: f.generator.isin(["g0", "g3"]) & f.has_sound,
        ),
        ("generator like 'g%' is not true", lambda f: f.generator.isna()),
        ("run_date = '2026-02-02'", lambda f: f.run_date.astype(str) == "2026-02-02"),
        ("duration_s between 7 and 13", lambda f: (f.end_s - f.start_s) == 12),
        ("list_contains(finding_kinds, 'blur')", lambda f: f.index % 3 == 0),
        ("len(findings) = 2", lambda f: f.index % 6 == 0),
        (
            "list_bool_or([x.severity > 0.4 and x.kind = 'offset' for x in findings])",
            lambda f: f.index % 2 == 0,
        ),
        (
            "overall_high - overall_low < 0.8 -- near the ends of the scale",
            lambda f: (f.overall_high.astype(float) - f.overall_low) < 0.8,
        ),
        ("true) and (overall > 3", lambda f: f.overall > 3),  # still one expression
        (
            "greatest(overall, expression) < 3",
            lambda f: f[["overall", "expression"]].max(axis=1) < 3,
        ),
        ("speaker = 's1' or speaker = 'ü'", lambda f: f.speaker == "s1"),
    ],
)
def test_the_same_videos_as_pandas(
    scores: Path, frame: pd.DataFrame, where: str, reference: Any
) -> None:
    # pandas' index counts the sorted videos, the constructed rows go by their number.
    by_number = frame.set_index(frame.video_id.str[-2:].astype(int)).sort_index()
    expected = sorted(by_number.video_id[reference(by_number)])
    found = select(str(scores), where)
    assert found.table["video_id"].to_pylist() == expected
    assert 0 < found.matched == len(expected) < found.rows == len(frame)


def test_missing_values_are_counted(scores: Path, frame: pd.DataFrame) -> None:
    found = select(str(scores), "lip_sync > 1 and overall > 1 and snr > -1")
    gaps = int(frame.lip_sync.isna().sum())
    assert found.missing == {"lip_sync": gaps, "snr": gaps}


def test_nan_is_missing_not_the_largest_number(tmp_path: Path) -> None:
    odd = [video("a", overall=float("nan")), video("b", overall=4.0), video("c", overall=1.0)]
    odd[2]["descriptors"] = descriptors(snr=float("nan"))
    write_output(tmp_path, videos(odd))
    assert select(str(tmp_path), "overall > 2").table["video_id"].to_pylist() == ["b"]
    assert select(str(tmp_path), "snr is null and overall = 1").matched == 1
    assert select(str(tmp_path), "snr > 1").matched == 0


def test_a_bound_is_compared_as_it_is_written(tmp_path: Path) -> None:
    """3.3 as float32 is a little less than 3.3: it still is 3.3."""
    write_output(tmp_path, videos([video("a", overall=3.3), video("b", overall=3.2999)]))
    for where in ("overall >= 3.3", "overall = 3.3", "overall > 3.29995"):
        assert select(str(tmp_path), where).table["video_id"].to_pylist() == ["a"], where


def test_what_the_manifest_holds(scores: Path, frame: pd.DataFrame) -> None:
    base = ["uri", "video_id", "generator", "speaker", "version"]
    found = select(str(scores), "lip_sync > 3 and abs(offset) < 2", order_by="overall desc")
    assert found.table.column_names == [*base, "lip_sync", "offset", "overall"]
    ordered = frame[(frame.lip_sync > 3) & (frame.sync_offset.abs() < 2)].sort_values(
        "overall", ascending=False
    )
    assert found.table["video_id"].to_pylist() == ordered.video_id.tolist()
    assert found.table["version"].to_pylist() == ordered.source_version.tolist()
    chosen = select(
        str(scores),
        "true",
        columns='snr, descriptors.luma as brightness, "offset", finding_kinds',
        order_by="speaker, abs(offset) desc nulls last",
        limit=3,
    )
    assert chosen.table.column_names == [*base, "snr", "brightness", "offset", "finding_kinds"]
    assert (chosen.table.num_rows, chosen.matched) == (3, 60)
    assert set(chosen.table["speaker"].to_pylist()) == {"s0"}
    swapped = select(
        str(scores), "overall > 4", columns="expression as overall", order_by="overall desc"
    )
    expected = frame[frame.overall > 4].sort_values("overall", ascending=False)
    np.testing.assert_array_equal(swapped.table["overall"], expected.expression)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_manifest_is_a_corpus_and_everybody_reads_it(
    scores: Path, tmp_path: Path, kind: str
) -> None:
    found = select(str(scores), "lip_sync > 2", columns="lip_sync, has_sound, finding_kinds")
    path = tmp_path / f"chosen.{kind}"
    write_manifest(found.table, str(path))
    refs = list(iter_corpus(CorpusConfig(corpus=str(path))))
    names = ("video_id", "uri", "generator", "speaker", "version")
    assert [tuple(getattr(ref, name) for name in names) for ref in refs] == list(
        zip(*(found.table[name].to_pylist() for name in names), strict=True)
    )
    readers = {
        "csv": lambda: (pd.read_csv(path), duckdb.read_csv(str(path)).df()),
        "jsonl": lambda: (pd.read_json(path, lines=True), duckdb.read_json(str(path)).df()),
        "parquet": lambda: (pd.read_parquet(path), duckdb.read_parquet(str(path)).df()),
    }
    for frame in readers[kind]():
        assert frame.video_id.tolist() == found.table["video_id"].to_pylist()
        assert np.array_equal(frame.lip_sync.astype("float32"), found.table["lip_sync"])
        assert frame.has_sound.all()
    if kind == "jsonl":  # the shortest text of a float32, and lists as they are
        first = json.loads(path.read_text().splitlines()[0])
        assert first["lip_sync"] == float(str(np.float32(first["lip_sync"])))
        assert first["finding_kinds"] == found.table["finding_kinds"][0].as_py()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_nothing_chosen_is_an_empty_manifest(scores: Path, tmp_path: Path, kind: str) -> None:
    found = select(str(scores), "lip_sync > 5")
    path = tmp_path / f"none.{kind}"
    write_manifest(found.table, str(path))
    assert found.matched == 0
    assert list(iter_corpus(CorpusConfig(corpus=str(path)))) == []
    if kind == "csv":
        assert path.read_text().splitlines() == [
            '"uri","video_id","generator","speaker","version","lip_sync"'
        ]
    if kind == "parquet":
        assert pq.read_schema(path).names == found.table.column_names


def test_clips_have_times(scores: Path) -> None:
    found = select(str(scores), "overall >= 3", kind="clips", columns="overall")
    assert found.table.drop_columns(["uri", "version"]).to_pylist() == [
        {
            "video_id": "g0/v00", "generator": None, "speaker": None, "clip_index": i,
            "start_s": 6.0 * i, "end_s": 6.0 * i + 6, "overall": 2.0 + i,
        }
        for i in (1, 2)
    ]  # fmt: skip
    assert select(str(scores), "len(curves.lip_opening) = 30", kind="clips").matched == 3
    with pytest.raises(ScoreInputError, match="no column overall_low: did you mean overall"):
        select(str(scores), "overall_low > 1", kind="clips")


def test_a_video_in_two_parts_counts_once_as_the_newer_one(tmp_path: Path) -> None:
    """A run that was killed between publishing and clearing up leaves this until the next run."""
    old = [video("a", overall=1.0, run_date="2026-01-01"), video("b", run_date="2026-01-01")]
    write_output(tmp_path, videos([*old, video("a", overall=4.0, run_date="2026-01-02")]))
    found = select(str(tmp_path), "true", columns="overall")
    assert found.table["video_id"].to_pylist() == ["a", "b"]
    assert found.table["overall"].to_pylist() == [4.0, 3.0]
    assert found.rows == 2
    assert select(str(tmp_path), "overall = 1").matched == 0


def test_parts_of_other_versions_of_the_code(tmp_path: Path) -> None:
    write_output(tmp_path, videos([video("a", run_date="2026-01-01")]))
    later = videos([video("b", run_date="2026-01-02")])
    later = later.append_column("warmth", pa.array([2.5])).drop_columns(["ood"])
    write_output(tmp_path, later)
    assert select(str(tmp_path), "warmth > 2").table["video_id"].to_pylist() == ["b"]
    found = select(str(tmp_path), "ood is null", columns="warmth")
    assert found.table["video_id"].to_pylist() == ["b"]


def test_scores_of_any_storage(tmp_path: Path) -> None:
    write_output(tmp_path, videos(rows(4)))
    store = Store.at(f"memory://{tmp_path.name}")
    for path in tmp_path.rglob("*.parquet"):
        store.write_bytes(str(path.relative_to(tmp_path)), path.read_bytes())
    found = select(store.raw_uri, "overall > 0")
    assert found.rows == found.matched == 4
    write_manifest(found.table, f"{store.raw_uri}/lists/all.csv")
    assert len(list(iter_corpus(CorpusConfig(corpus=f"{store.raw_uri}/lists/all.csv")))) == 4


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("lipsync > 3", "no column lipsync: did you mean lip_sync"),
        ("descriptors.snrr > 3", r"no column descriptors.snrr: did you mean descriptors.snr"),
        ("descriptors > 3", "no column descriptors: did you mean descriptors"),
        ("zzzzzz > 3", "no column zzzzzz: --columns-list"),
        ("videos.overall > 3", "no column videos.overall: did you mean overall"),
        ("", "is empty"),
        ("  \n ", "is empty"),
        ("lip_sync >", "ends too early"),
        ("(lip_sync > 3", "ends too early, or a bracket has no partner"),
        ("lip_sync > 3 3", r"syntax error .*before: 3"),
        ("speaker = 'open", "unterminated"),
        ("lip_sync", "gives FLOAT, expected true or false"),
        ("null", "expected true or false"),
        ("speaker > 3", "does not fit the columns.*Cannot compare values of type VARCHAR"),
        ("foo(overall) > 1", "does not fit the columns.*foo does not exist"),
        ("findings > 3", "does not fit the columns"),
    ],
)
def test_mistakes_are_named(scores: Path, where: str, message: str) -> None:
    with pytest.raises(ScoreInputError, match=message) as caught:
        select(str(scores), where)
    assert "\n" not in str(caught.value)
    assert "SELECT" not in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "true; DROP TABLE scores",
        "true); SELECT (1",
        "ATTACH 'x.db'",
        "COPY scores TO 'x.csv'",
        "SET threads = 1",
        "select 1",
        "true) UNION SELECT (true",
    ],
)
def test_another_statement_is_told_what_is_expected(scores: Path, where: str) -> None:
    with pytest.raises(ScoreInputError, match=r"expected one expression.*files are refused"):
        select(str(scores), where)


HOSTILE = [
    "true; DROP TABLE scores",
    "true); COPY (SELECT 1) TO 'FILE'; SELECT (true",
    "true) UNION SELECT * FROM read_csv('FILE') WHERE (true",
    "true) ORDER BY (1",
    "true) LIMIT (1",
    "true) GROUP BY (1",
    "ATTACH 'FILE'",
    "COPY scores TO 'FILE'",
    "overall > (SELECT count(*) FROM read_text('FILE'))",
    "exists (FROM 'FILE')",
    "video_id in (FROM parts SELECT video_id)",
    "overall > ?",
    "overall > $limit",
    "row_number() over () = 1",
    "sum(overall) > 1",
    "#1 = 'x'",
    "columns('o.*') > 1",
    "*",
    "random() < 0.5",
    "nextval('x') > 1",
    "sleep_ms(10) is null",
    "main.abs(overall) > 1",
    "x.y.z(overall) > 1",
    "read_csv('FILE') is null",
    "read_text('FILE') is null",
    "'FILE' in (TABLE parts)",
    "SET threads = 1",
    "PRAGMA version",
    "(" * 5000 + "true" + ")" * 5000,
    "1" + "+1" * 9000 + " > 1",
    "overall > 1" + " " * 30_000,
    "overall > 1\x00",
    "true /* open",
    "$$",
    "lambda x: x",
]


@pytest.mark.parametrize("where", HOSTILE)
def test_only_an_expression_gets_through(scores: Path, tmp_path: Path, where: str) -> None:
    target = tmp_path / "secret.csv"
    target.write_text("a\n1\n")
    with pytest.raises(ScoreInputError):
        select(str(scores), where.replace("FILE", str(target)))
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]
    assert target.read_text() == "a\n1\n"


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("order_by", "1"),
        ("order_by", "overall limit 1"),
        ("order_by", "overall; drop table scores"),
        ("order_by", "(select 1)"),
        ("order_by", "random()"),
        ("order_by", "max(overall)"),
        ("order_by", ""),
        ("columns", "overall from parts"),
        ("columns", "overall, abs(offset)"),
        ("columns", "*"),
        ("columns", "(select 1)"),
        ("columns", "overall; select 1"),
        ("columns", "lipsink"),
        ("columns", "overall as uri"),
        ("columns", ""),
    ],
)
def test_the_other_texts_are_checked_as_well(scores: Path, option: str, text: str) -> None:
    with pytest.raises(ScoreInputError, match=f"--{option.replace('_', '-')}|no column"):
        select(str(scores), "true", **{option: text})


def test_the_database_itself_is_shut_off(tmp_path: Path) -> None:
    """The second wall, should the first let something through."""
    from pipelines.selection import _connection

    (tmp_path / "x.csv").write_text("a\n1\n")
    secret = pa.table({"a": [1]})
    con = _connection()
    for query in (
        f"SELECT * FROM read_csv('{tmp_path}/x.csv')",
        f"SELECT * FROM '{tmp_path}/x.csv'",
        f"COPY (SELECT 1) TO '{tmp_path}/y.csv'",
        f"ATTACH '{tmp_path}/z.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET threads = 1",
        "SELECT * FROM secret",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(query)
    assert secret.num_rows == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_the_list_of_columns_names_types_and_aliases(scores: Path) -> None:
    lines = {line.split()[0]: line.split()[1:] for line in usable_columns(str(scores))}
    assert lines["lip_sync"] == ["float"]
    assert lines["sync_offset"] == ["float", "offset"]
    assert lines["descriptors.snr"] == ["float", "snr"]
    assert lines["has_sound"] == ["bool"]
    assert lines["run_date"] == ["string"]
    assert lines["duration_s"] == ["double"]
    # Everything that it names can be used.
    found = select(
        str(scores), " or ".join(f"{n} is null" for n in lines), columns=", ".join(lines)
    )
    assert found.matched == found.rows == 60
    assert set(lines) <= set(found.table.column_names)


def test_a_name_of_two_columns_must_be_written_out(tmp_path: Path) -> None:
    from pipelines.selection_names import Names

    pair = pa.struct([("x", pa.float32())])
    schema = pa.schema(
        [("a", pair), ("b", pair), ("c", pa.float32()), ("d", pa.struct([("c", pa.int32())]))]
    )
    names = Names(schema)
    assert names.column("A.X").needs == ("a.x",)
    with pytest.raises(ScoreInputError, match=r"several columns: write a.x or b.x"):
        names.column("x")
    assert names.column("c").needs == ("c",)  # a column goes before a field of another one


def test_what_is_no_scores_is_said(tmp_path: Path) -> None:
    with pytest.raises(ScoreInputError, match="there are no scores"):
        select(str(tmp_path), "true")
    with pytest.raises(ScoreInputError, match="there are no scores"):
        select(str(tmp_path / "nowhere"), "true")
    part = tmp_path / "videos" / "run_date=2026-01-01"
    part.mkdir(parents=True)
    (part / "part-0.parquet").write_bytes(b"not Parquet")
    with pytest.raises(ScoreInputError, match=r"part-0.parquet: not a readable Parquet file"):
        select(str(tmp_path), "true")
    with pytest.raises(ScoreInputError, match="--limit -1"):
        select(str(tmp_path), "true", limit=-1)


def test_a_part_that_a_run_replaces_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import selection

    write_output(tmp_path, videos([video("a")]))
    old = tmp_path / "videos" / "run_date=2026-01-31" / "part-00000.parquet"
    listing = selection._parts
    reading = selection._read_part
    asked = []

    def read(store: Store, name: str, *more: Any) -> pa.Table:
        asked.append(name)
        if len(asked) == 1:  # a run ends between the listing and the reading
            old.rename(old.with_name("part-00001.parquet"))
        return reading(store, name, *more)

    monkeypatch.setattr(selection, "_read_part", read)
    monkeypatch.setattr(selection, "_parts", listing)
    assert select(str(tmp_path), "true").table["video_id"].to_pylist() == ["a"]
    assert [name.rpartition("/")[2] for name in asked] == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]
