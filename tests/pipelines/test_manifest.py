import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.corpus import CorpusConfig, CorpusError, iter_corpus
from pipelines.storage import Store

ROWS: list[dict[str, Any]] = [
    {"uri": "clips/a b.mp4", "video_id": "first", "generator": "g", "speaker": "s,1"},
    {"uri": "s3://bucket/x/y.mov", "video_id": None, "generator": None, "speaker": None},
    {"uri": "/abs/z.weird", "video_id": None, "generator": "ü", "speaker": None},
]


def write(folder: Path, kind: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"manifest.{kind}"
    frame = pd.DataFrame(rows)
    if kind == "csv":
        path.write_bytes(b"\xef\xbb\xbf" + frame.to_csv(index=False).encode())
    elif kind == "jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows))
    else:
        frame.to_parquet(path)
    return path


def listed(path: object, **more: Any) -> list[Any]:
    return list(iter_corpus(CorpusConfig(corpus=str(path), **more)))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_all_kinds_give_the_same(tmp_path: Path, kind: str) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a b.mp4").write_bytes(b"12345")
    refs = listed(write(tmp_path, kind))
    assert [(r.video_id, r.uri, r.generator, r.speaker) for r in refs] == [
        ("first", f"{tmp_path}/clips/a b.mp4", "g", "s,1"),
        ("bucket/x/y", "s3://bucket/x/y.mov", None, None),
        ("abs/z", "/abs/z.weird", "ü", None),
    ]
    assert [r.size for r in refs] == [5, None, None]
    assert refs[0].version.startswith("5-")
    assert [r.version for r in refs[1:]] == ["", ""]


def test_relative_addresses_start_at_the_manifest(tmp_path: Path) -> None:
    store = Store.at(f"memory://{tmp_path.name}")
    store.write_bytes("sub/list.csv", b"uri,take\nx/a.mp4,1\n")
    (ref,) = listed(f"{store.raw_uri}/sub/list.csv")
    assert ref.uri.endswith(f"{tmp_path.name}/sub/x/a.mp4")
    assert ref.video_id == "x/a"


def test_columns_have_names_to_choose(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", [{"file": "m/p.mp4", "model": "g", "tag": "7"}])
    (ref,) = listed(path, uri_column="file", generator_column="model", version_column="tag")
    assert (ref.generator, ref.version) == ("g", "7")
    (ref,) = listed(path, uri_column="file", pattern="{generator}/{speaker}.mp4")
    assert (ref.generator, ref.speaker) == ("m", "p")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", b'{"uri": "a.mp4"}\n{"uri": \n', r"m.jsonl, row 2: not JSON"),
        ("m.jsonl", b'["a.mp4"]\n', r"row 1: expected an object, got list"),
        (
            "m.jsonl",
            b'{"uri": "a.mp4", "speaker": ["x"]}',
            r"row 1: speaker must be a text, got list",
        ),
        (
            "m.jsonl",
            b'{"uri": "a.mp4"}\n\n{"url": "b"}',
            r"row 3: no value in column 'uri' .*: url",
        ),
        ("m.jsonl", b'{"uri": "a\\u0000.mp4"}', r"row 1: uri holds a zero byte"),
        ("m.csv", b"uri,x\na.mp4,1\n,2\n", r"m.csv, row 3: no value in column 'uri'"),
        ("m.csv", b"file\na.mp4\n", r"no value in column 'uri' \(the columns are: file\)"),
        ("m.csv", b"uri\na.mp4,b\n", r"row 2: more cells than columns"),
        ("m.csv", b"uri\n\xff\xfe.mp4\n", r"not UTF-8"),
        ("m.csv", b'uri\n"open', r"row \d: unexpected end of data"),
        ("m.parquet", b"nothing", r"not a readable Parquet file"),
    ],
)
def test_errors_name_file_and_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        listed(tmp_path / name)
