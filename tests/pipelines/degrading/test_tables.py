"""Manifest, labels and plan: read back by the product's own readers; nothing secret in them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from actors.artefacts.chain import CLEAN_SCORE, chain_text, parse_chain
from actors.artefacts.registry import ARTEFACTS
from actors.types import VideoRef
from model.tasks import TASKS
from pipelines.corpus import CorpusConfig, iter_corpus
from pipelines.degrading.config import DegradeConfig
from pipelines.degrading.plan import deal
from pipelines.degrading.processor import folder_of
from pipelines.degrading.tables import Made, write_tables
from pipelines.storage import Store
from pipelines.training.labels import LabelsConfig, read_labels
from tests.pipelines.degrading.sources import ALL_TEST, settings, sources

SECRETS = ("AKIAKEY", "verysecret", "SIGNATURE", "s3cret")


def written(
    out: Path, refs: list[VideoRef], config: DegradeConfig, *, virtual: bool = True
) -> list[Made]:
    """Write the tables; a stored corpus gets videos of a few bytes each."""
    made = [Made(v) for plan in deal(refs, config) for v in plan.variants]
    if not virtual:
        made = [Made(m.variant, f"videos/{m.variant.video_id}.mov", "0" * 32) for m in made]
        for one in made:
            path = out / str(one.uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.variant.name.encode())
    write_tables(Store.at(out), made, config, virtual=virtual)
    return made


def read(out: Path) -> list[VideoRef]:
    return list(iter_corpus(CorpusConfig(corpus=str(out / "manifest.parquet"))))


def test_a_virtual_corpus_reads_back_as_it_was_planned(tmp_path: Path) -> None:
    refs = sources(6, speakers=2)
    config = settings(combinations={"per_source": 2}, **ALL_TEST)
    made = written(tmp_path, refs, config)
    found = read(tmp_path)
    assert len(found) == len(made)
    assert len({ref.version for ref in found}) == len(made) - 5  # the clean ones are alike here
    for ref, one in zip(found, made, strict=True):
        variant = one.variant
        assert (ref.video_id, ref.uri) == (variant.video_id, variant.source.uri)
        assert (ref.source, ref.speaker) == (variant.source.video_id, variant.source.speaker)
        assert ref.generator == variant.generator
        assert parse_chain(ref.artefacts) == variant.chain


def test_versions_follow_the_source_and_the_chain(tmp_path: Path) -> None:
    """A local source is looked at when it is read; one elsewhere is as it was when it was dealt."""
    folder = tmp_path / "clean"
    folder.mkdir()
    refs = [replace(ref, uri=str(folder / f"{ref.video_id}.mp4")) for ref in sources(3)]
    for ref in refs:
        Path(ref.uri).write_bytes(b"x")
    written(tmp_path, refs, settings(**ALL_TEST))
    before = {ref.video_id: ref.version for ref in read(tmp_path)}
    assert len(set(before.values())) >= len(before) - 2
    Path(refs[0].uri).write_bytes(b"another")
    after = {ref.video_id: ref.version for ref in read(tmp_path)}
    given = {
        ref.video_id
        for ref in read(tmp_path)
        if any(step.donor == refs[0].uri for step in parse_chain(ref.artefacts))
    }
    own = {n for n in after if "v0000/" in n}
    assert given
    assert {n for n in after if after[n] != before[n]} == own | given
    remote = [replace(ref, uri=f"s3://bucket/{ref.video_id}.mp4") for ref in sources(3)]
    written(tmp_path / "r", remote, settings(**ALL_TEST))
    heads = {ref.source: ref.version.rpartition("+")[0] for ref in read(tmp_path / "r")}
    assert heads == {ref.video_id: ref.version for ref in remote}


def test_a_stored_corpus_may_move_and_applies_no_artefact_again(tmp_path: Path) -> None:
    made = written(tmp_path / "a", sources(3), settings(**ALL_TEST), virtual=False)
    shutil.move(tmp_path / "a", tmp_path / "b")
    found = read(tmp_path / "b")
    assert [ref.video_id for ref in found] == [one.variant.video_id for one in made]
    for ref, one in zip(found, made, strict=True):
        assert ref.artefacts == ""
        assert Path(ref.uri).read_bytes() == one.variant.name.encode()
        assert (ref.version, ref.source) == (one.version, one.variant.source.video_id)
    table = pd.read_parquet(tmp_path / "b" / "manifest.parquet")
    assert table["artefacts"].isna().all()
    assert [parse_chain(text) for text in table["chain"]] == [one.variant.chain for one in made]


def test_a_virtual_manifest_may_move(tmp_path: Path) -> None:
    written(tmp_path / "a", sources(3), settings(**ALL_TEST))
    before = read(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere") == before


def test_the_manifest_says_what_was_done(tmp_path: Path) -> None:
    held = {"artefacts": dict.fromkeys(ARTEFACTS) | {"blur": {"held_out": True}}}
    config = settings(combinations={"per_source": 1}, **held)
    made = written(tmp_path, sources(60, 3), config)
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    for row, one in zip(table.itertuples(), made, strict=True):
        variant = one.variant
        assert (row.type, row.split) == (variant.type, variant.side)
        assert row.held_out == ("blur" in str(row.generator))
        group = ARTEFACTS[variant.type].group if variant.type in ARTEFACTS else None
        assert row.group == group or (group is None and pd.isna(row.group))
        if variant.type == "combination":
            assert pd.isna(row.severity)
        else:
            assert row.severity == (variant.chain[0].severity if variant.chain else 0)
    assert table["source"].map(dict(zip(table["source"], table["split"], strict=True))).eq(
        table["split"]
    ).all()  # fmt: skip
    starts = table["source"].ne(table["source"].shift())
    assert starts.sum() == 60, "variants of a source follow each other"


def test_labels_are_read_by_training(tmp_path: Path) -> None:
    config = settings(combinations={"per_source": 1}, **ALL_TEST)
    made = written(tmp_path, sources(4, 2), config)
    table = read_labels(LabelsConfig(labels=str(tmp_path / "labels.csv")))
    assert list(table.keys) == [one.variant.video_id for one in made]
    for row, one in enumerate(made):
        scores = one.variant.scores()
        for column, task in enumerate(TASKS):
            assert table.values[row, column] == pytest.approx(scores[task], abs=1e-4)
    assert table.variants is not None
    frame = pd.read_csv(tmp_path / "labels.csv")
    clean = frame[frame["type"] == "clean"]
    assert (clean[list(TASKS)] == CLEAN_SCORE).all(axis=None)
    assert set(frame.loc[frame["severity"].isna(), "type"]) == {"combination"}
    assert set(frame["split"]) == {"test"}
    assert list(frame["source"]) == [one.variant.source.video_id for one in made]


def test_no_credential_is_in_any_table(tmp_path: Path) -> None:
    kinds = [
        "s3://AKIAKEY:verysecret@bucket/{}.mp4",
        "https://user:s3cret@host/{}.mp4?X-Amz-Signature=SIGNATURE&x=1",
    ]
    for number, kind in enumerate(kinds):
        refs = [replace(ref, uri=kind.format(ref.video_id)) for ref in sources(3)]
        out = tmp_path / str(number)
        corpus = {"corpus": kind.format("*")}
        config = settings(combinations={"per_source": 3, "of": 5}, corpus=corpus, **ALL_TEST)
        made = written(out, refs, config)
        assert any(step.donor for one in made for step in one.variant.chain)
        text = "".join(
            str(pd.read_parquet(path).to_dict()) if path.suffix == ".parquet" else path.read_text()
            for path in out.iterdir()
        )
        assert not [secret for secret in SECRETS if secret in text]
        found = read(out)
        donors = {s.donor for ref in found for s in parse_chain(ref.artefacts) if s.donor}
        assert donors <= {ref.uri for ref in found}
        assert len(donors) == 3


def test_the_plan_tells_all_that_decides_and_what_each_type_is(tmp_path: Path) -> None:
    chosen = {
        "noise": {"severities": [0.1, 0.9]},
        "blur": {"held_out": True, "blind": "too small to see"},
    }
    config = settings(artefacts=chosen, seed=7, **ALL_TEST)
    written(tmp_path, sources(3), config)
    record = json.loads((tmp_path / "plan.json").read_text())
    assert (record["format"], record["virtual"], record["seed"]) == ("talkmos-degraded", True, 7)
    assert list(record["artefacts"]) == ["noise", "blur"]
    noise, blur = record["artefacts"].values()
    assert (noise["severities"], noise["held_out"], noise["blind"]) == ([0.1, 0.9], False, None)
    assert (blur["held_out"], blur["blind"]) == (True, "too small to see")
    assert noise["harms"] == dict(ARTEFACTS["noise"].harms)
    assert noise["measures"] == {
        f"{s:g}": pytest.approx(ARTEFACTS["noise"].measures(s)) for s in (0.1, 0.9)
    }
    settings_told = record["settings"]
    assert "run" not in settings_told
    assert "resources" not in settings_told
    assert DegradeConfig.model_validate(settings_told).types == config.types


def test_equal_tables_are_not_written_again(tmp_path: Path) -> None:
    written(tmp_path, sources(3), settings(**ALL_TEST))
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    written(tmp_path, sources(3), settings(**ALL_TEST))
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_nothing_made_gives_empty_tables(tmp_path: Path) -> None:
    write_tables(Store.at(tmp_path), [], settings(**ALL_TEST), virtual=False)
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert len(table) == 0
    assert "video_id" in table.columns
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["a", "a/b/c", "ünï 😀", "a+b", "x%20y", "_".join("abc"), "a..b"])
def test_plain_ids_are_folders_of_their_own(name: str) -> None:
    assert folder_of(name) == name


ODD = [
    "", ".", "..", "../x", "a/../../x", "/etc/x", "a//b", "a/", "/a", ".hidden", "a/.b", "_a",
    "a/_b", "a/clean.mov", "x.mov/y", "n" * 201, "é" * 101, "/".join(["p" * 99] * 9), "a\0b",
    "a\nb", "a\x1bb", "a\u202eb",
]  # fmt: skip


def test_ids_that_are_no_safe_path_become_digests() -> None:
    folders = [folder_of(name) for name in ODD]
    assert len(set(folders)) == len(ODD)
    for folder in folders:
        assert folder[0] == "_"
        assert len(folder) == 33
        assert folder[1:].isalnum()


def test_the_text_of_a_chain_in_the_manifest_is_that_of_the_chain(tmp_path: Path) -> None:
    made = written(tmp_path, sources(2), settings(**ALL_TEST))
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert list(table["chain"]) == [chain_text(one.variant.chain) for one in made]
    assert list(table["artefacts"]) == list(table["chain"])


def test_versions_of_donors_in_buckets_are_written_and_those_of_files_are_not(
    tmp_path: Path,
) -> None:
    """A file is looked at when it is read: what was written of it would be old by then."""
    for kind, lasting in (("/clean/{}.mp4", ""), ("s3://bucket/{}.mp4", "v9")):
        out = tmp_path / lasting
        refs = [replace(ref, uri=kind.format(ref.video_id), version="v9") for ref in sources(3)]
        written(out, refs, settings(**ALL_TEST))
        table = pd.read_parquet(out / "manifest.parquet")
        steps = [step for text in table["artefacts"] for step in parse_chain(text) if step.donor]
        assert {step.donor_version for step in steps} == {lasting}
