"""Manifests of variants: their source, their chain, and what their version follows."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from actors.artefacts.chain import parse_chain
from actors.artefacts.registry import ARTEFACTS
from actors.types import VideoRef
from pipelines.corpus import CorpusConfig, CorpusError, iter_corpus, spool_corpus

BLUR = '[{"type": "blur", "severity": 0.4, "seed": 3}]'


def listed(path: Path, **more: Any) -> list[VideoRef]:
    return list(iter_corpus(CorpusConfig(corpus=str(path), **more)))


def manifest(folder: Path, rows: list[dict[str, Any]], kind: str = "csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"m.{kind}"
    frame = pd.DataFrame(rows)
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    return path


def foreign(donor: str) -> str:
    return json.dumps([{"type": "foreign_sound", "severity": 1, "donor": donor}])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_source_and_chain_are_read_from_every_kind(tmp_path: Path, kind: str) -> None:
    rows = [
        {"video_id": "a/clean", "uri": "a.mp4", "source": "a", "artefacts": "[]"},
        {"video_id": "a/blur", "uri": "a.mp4", "source": "a", "artefacts": BLUR},
        {"video_id": "b", "uri": "b.mp4", "source": None, "artefacts": None},
    ]
    (tmp_path / "a.mp4").write_bytes(b"a")
    clean, blurred, plain = listed(manifest(tmp_path, rows, kind))
    assert (clean.source, clean.artefacts) == ("a", "[]")
    assert parse_chain(blurred.artefacts) == parse_chain(BLUR)
    assert (plain.source, plain.artefacts, plain.version) == (None, "", "")
    assert clean.uri == blurred.uri == str(tmp_path / "a.mp4")
    (straight,) = listed(tmp_path)
    head, _, digest = blurred.version.rpartition("+")
    assert head == straight.version
    assert clean.version.startswith(f"{straight.version}+")
    assert clean.version != blurred.version
    assert digest
    for ref, again in zip(
        (clean, blurred, plain), spool_corpus((clean, blurred, plain)), strict=True
    ):
        assert ref == again


def test_columns_have_names_to_choose(tmp_path: Path) -> None:
    path = manifest(tmp_path, [{"uri": "a.mp4", "origin": "x", "damage": BLUR, "source": "no"}])
    (ref,) = listed(path, source_column="origin", artefacts_column="damage")
    assert ref.source == "x"
    assert ref.artefacts
    (other,) = listed(path)
    assert (other.source, other.artefacts) == ("no", "")


def test_donors_are_addressed_as_videos_are(tmp_path: Path) -> None:
    def donor(text: str, folder: Path = tmp_path / "sub") -> str | None:
        path = manifest(folder, [{"uri": "a.mp4", "artefacts": foreign(text)}])
        (ref,) = listed(path)
        return parse_chain(ref.artefacts)[0].donor

    assert donor("d.mp4") == str(tmp_path / "sub" / "d.mp4")
    assert donor("../d.mp4") == str(tmp_path / "d.mp4")
    assert donor("/abs/d.mp4") == "/abs/d.mp4"
    assert donor("s3://bucket/d.mp4") == "s3://bucket/d.mp4"
    # The version is of the manifest's own text: the corpus may move.
    versions = set()
    for name in ("one", "two"):
        (ref,) = listed(manifest(tmp_path / name, [{"uri": "s3://b/a", "artefacts": foreign("d")}]))
        versions.add(ref.version)
    assert len(versions) == 1


def test_the_version_changes_with_the_chain_and_with_its_artefacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(text: str, given: str | None = None) -> str:
        row = {"uri": "s3://bucket/a.mp4", "artefacts": text, "version": given}
        (ref,) = listed(manifest(tmp_path, [row]))
        return ref.version

    texts = ["[]", BLUR, BLUR.replace("0.4", "0.6"), BLUR.replace("3}", "4}"), foreign("a")]
    assert len({version(text) for text in texts}) == len(texts)
    spaced = json.dumps(json.loads(BLUR), indent=2)
    assert version(spaced) == version(BLUR)
    assert version(BLUR, "v1").startswith("v1+")
    assert version(BLUR, "v1").rpartition("+")[2] == version(BLUR, "v2").rpartition("+")[2]
    before = version(BLUR), version(texts[-1])
    monkeypatch.setattr(type(ARTEFACTS["blur"]), "version", "changed")
    assert version(BLUR) != before[0]
    assert version(texts[-1]) == before[1]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("blur", "not JSON"),
        ("{}", "expected a JSON list"),
        ('[{"type": "blurr", "severity": 1}]', "unknown artefact 'blurr'"),
        ('[{"type": ["blur"], "severity": 1}]', "unknown artefact"),
        ('[{"type": "blur", "severity": 2}]', "a severity lies in"),
        ('[{"type": "foreign_sound", "severity": 1}]', "needs the URI of a donor"),
        ('[{"type": "foreign_sound", "severity": 1, "donor": 5}]', "needs the URI of a donor"),
    ],
)
def test_a_bad_chain_is_told_with_file_and_row(tmp_path: Path, cell: str, says: str) -> None:
    path = manifest(
        tmp_path, [{"uri": "a.mp4", "artefacts": BLUR}, {"uri": "b", "artefacts": cell}]
    )
    with pytest.raises(CorpusError) as error:
        listed(path)
    message = str(error.value)
    assert says in message
    assert f"{path}, row 3: artefacts:" in message
    assert "jobs/degrade.py" in message


def test_another_video_in_the_place_of_a_local_donor_makes_its_variants_new(tmp_path: Path) -> None:
    rows = [
        {"video_id": "a/foreign", "uri": "s3://b/a.mp4", "artefacts": foreign("d.mp4")},
        {"video_id": "a/blur", "uri": "s3://b/a.mp4", "artefacts": BLUR},
        {"video_id": "a/far", "uri": "s3://b/a.mp4", "artefacts": foreign("s3://b/d.mp4")},
    ]
    path = manifest(tmp_path, rows)
    versions = []
    for content in (None, b"one", b"another"):
        if content is not None:
            (tmp_path / "d.mp4").write_bytes(content)
        versions.append([ref.version for ref in listed(path)])
    ours, blurred, far = zip(*versions, strict=True)
    assert len(set(ours)) == 3
    assert len(set(blurred)) == len(set(far)) == 1
    told = json.loads(rows[2]["artefacts"])
    rows[2]["artefacts"] = json.dumps([{**told[0], "donor_version": "etag"}])
    assert listed(manifest(tmp_path, rows))[2].version != far[0]
