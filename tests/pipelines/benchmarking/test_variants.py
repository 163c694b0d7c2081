"""Reading a corpus of variants: what is taken, and what is refused with a word to the user."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.plan import PlannedArtefact, check_claims, relation
from pipelines.benchmarking.variants import Corpus, Variant, limited, read_corpus
from pipelines.corpus import CorpusConfig, iter_corpus
from tests.pipelines.benchmarking.corpora import GRID, PLAN, plan, rows, write


def test_a_split_is_read_with_its_clean_videos(tmp_path: Path) -> None:
    records = rows(3) + rows(2, split="train")
    corpus = read_corpus(str(write(tmp_path / "d", records)))
    assert corpus.split == "test"
    assert sorted(corpus.clean) == ["person/test-0", "person/test-1", "person/test-2"]
    assert len(corpus.variants) == corpus.manifest.num_rows == 3 * (2 + len(PLAN) * len(GRID))
    assert corpus.variants[0].uri == str(tmp_path / "d/videos/person/test-0/clean.mov")
    assert corpus.manifest["uri"][0].as_py() == corpus.variants[0].uri
    combined = next(v for v in corpus.variants if v.type == "combination")
    assert combined.parts == ("noise", "offset")
    assert combined.severity is None
    assert {v.seed for v in corpus.variants if v.type == "blur"} == {5}
    everything = read_corpus(str(tmp_path / "d" / "manifest.parquet"), "all")
    assert len(everything.clean) == 5
    assert everything.digest != corpus.digest


def test_virtual_variants_keep_their_chain_with_absolute_donors(tmp_path: Path) -> None:
    records = rows(2)
    for record in records:
        record["uri"] = f"/clean/{record['source']}.mp4"
        chain = json.loads(record["chain"])
        for step in chain:
            if step["type"] == "robot":
                step |= {"type": "foreign_sound", "donor": "other.mp4"}
        record["artefacts"] = record["chain"] = json.dumps(chain)
    corpus = read_corpus(str(write(tmp_path / "d", records)))
    clean, robot = corpus.variants[0], next(v for v in corpus.variants if v.type == "robot")
    assert not clean.virtual
    assert robot.virtual
    assert json.loads(robot.artefacts)[0]["donor"] == str(tmp_path / "d/other.mp4")
    assert robot.artefacts in corpus.manifest["artefacts"].to_pylist()


def virtual(folder: Path, chain: Any) -> Path:
    """A clean video and a variant of it, with that chain."""
    folder.mkdir(exist_ok=True)
    records = rows(1, {"noise": PLAN["noise"]})[:2]
    for record in records:
        record |= {"uri": "a.mp4", "artefacts": "[]"}
    records[1]["artefacts"] = chain if isinstance(chain, str) else json.dumps(chain)
    return write(folder, records)


def test_local_files_are_looked_at_when_the_corpus_is_read(tmp_path: Path) -> None:
    foreign = {"type": "foreign_sound", "severity": 0.5, "donor": "b.mp4"}
    folder = virtual(tmp_path / "d", [foreign])
    (folder / "a.mp4").write_bytes(b"one")
    (folder / "b.mp4").write_bytes(b"one")
    before = read_corpus(str(folder))
    again = read_corpus(str(folder))
    assert (again.digest, again.variants) == (before.digest, before.variants)
    (folder / "b.mp4").write_bytes(b"another")
    heard = read_corpus(str(folder))
    assert heard.digest != before.digest
    assert [a.content == b.content for a, b in pairs(heard, before)] == [True, False]
    (folder / "a.mp4").write_bytes(b"another")
    shown = read_corpus(str(folder))
    assert shown.digest != heard.digest
    assert [a.content == b.content for a, b in pairs(shown, heard)] == [False, False]


def pairs(a: Corpus, b: Corpus) -> list[tuple[Variant, Variant]]:
    return list(zip(a.variants, b.variants, strict=True))


def test_the_content_is_the_version_of_extraction(tmp_path: Path) -> None:
    chain = [{"type": "foreign_sound", "severity": 0.5, "donor": "b.mp4"}]
    folder = virtual(tmp_path / "d", chain)
    (folder / "a.mp4").write_bytes(b"one")
    (folder / "b.mp4").write_bytes(b"two")
    refs = iter_corpus(CorpusConfig(corpus=str(folder / "manifest.parquet")))
    assert [v.content for v in read_corpus(str(folder)).variants] == [ref.version for ref in refs]


@pytest.mark.parametrize(
    ("chain", "complaint"),
    [
        ([{"type": "blurr", "severity": 0.5}], "unknown artefact 'blurr'"),
        ([{"type": "noise"}], "'severity' is missing"),
        ([{"type": "noise", "severity": 7}], "a severity lies in"),
        ([3], "is no chain of artefacts"),
        ("noise", "is no chain of artefacts"),
    ],
)
def test_chains_that_cannot_be_applied_are_refused(
    tmp_path: Path, chain: Any, complaint: str
) -> None:
    with pytest.raises(BenchmarkInputError, match=complaint) as caught:
        read_corpus(str(virtual(tmp_path / "d", chain)))
    assert "manifest.parquet" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        ({"severity": "much"}, r"row 2 \(.*noise-0.2\): severity is not a number: 'much'"),
        ({"seed": "x"}, r"row 1 \(.*clean\): seed is not a number: 'x'"),
    ],
)
def test_numbers_that_are_none_are_refused(
    tmp_path: Path, column: dict[str, str], complaint: str
) -> None:
    records = rows(1, {"noise": PLAN["noise"]})
    for record in records:
        record.update(column)
    with pytest.raises(BenchmarkInputError, match=complaint):
        read_corpus(str(write(tmp_path / "d", records)))


def test_a_limit_keeps_whole_sources(tmp_path: Path) -> None:
    corpus = read_corpus(str(write(tmp_path / "d", rows(3))))
    size = 2 + len(PLAN) * len(GRID)
    assert len(limited(corpus, 1).variants) == size
    few = limited(corpus, 2 * size + 1)
    assert sorted(few.clean) == ["person/test-0", "person/test-1"]
    assert few.manifest.num_rows == 2 * size


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"video_id": "person/test-0/clean"}, "is there twice"),
        ({"type": "fog"}, "plan.json knows no artefact 'fog'"),
        ({"severity": 1.5}, "a severity lies in"),
        ({"severity": 0.2, "type": "offset"}, "is the same variant as"),
        ({"chain": "nonsense"}, "is no chain of artefacts"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    records = rows(1)
    records[3] |= change
    with pytest.raises(BenchmarkInputError, match=complaint) as caught:
        read_corpus(str(write(tmp_path / "d", records)))
    assert "manifest.parquet" in str(caught.value)


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkInputError, match="is the output folder of"):
        read_corpus(str(tmp_path))
    folder = write(tmp_path / "d", rows(1))
    with pytest.raises(BenchmarkInputError, match="no video is of the split val"):
        read_corpus(str(folder), "val")
    (folder / "plan.json").write_text('{"artefacts": {"blur": {"group": "wind"}}}')
    with pytest.raises(BenchmarkInputError, match=r"artefacts\.blur\.group"):
        read_corpus(str(folder))
    (folder / "plan.json").unlink()
    with pytest.raises(BenchmarkInputError, match=r"plan\.json does not exist"):
        read_corpus(str(folder))
    without = [record for record in rows(1) if record["type"] != "clean"]
    with pytest.raises(BenchmarkInputError, match="no clean video"):
        read_corpus(str(write(tmp_path / "e", without)))
    (tmp_path / "d/manifest.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "d/plan.json").write_text(json.dumps(plan()))
    with pytest.raises(BenchmarkInputError, match="cannot be read"):
        read_corpus(str(folder))


def test_sources_without_a_clean_video_are_told(tmp_path: Path) -> None:
    records = [r for r in rows(3) if r["video_id"] != "person/test-1/clean"]
    corpus = read_corpus(str(write(tmp_path / "d", records)))
    assert corpus.notes[0].startswith("1 sources have no clean video")
    assert "person/test-1" not in corpus.clean


def planned(**more: Any) -> PlannedArtefact:
    values = {"group": "sync", "title": "offset", "harms": {"lip_sync": 3.0}, **more}
    return PlannedArtefact.model_validate(values)


def test_what_should_happen_to_a_score() -> None:
    offset = planned()
    assert relation(offset, "lip_sync", ()) == "harmed"
    assert relation(offset, "audio_quality", ()) == "unharmed"
    assert relation(offset, "overall", ()) == "follows"
    assert relation(offset, "score", ("overall",)) == "harmed"
    assert relation(offset, "score", ("lip_sync",)) == "harmed"
    assert relation(offset, "score", ("sync",)) == "harmed"
    assert relation(offset, "score", ("audio_quality", "sound")) == "unharmed"
    assert relation(planned(harms={}), "overall", ()) == "unharmed"
    with pytest.raises(BenchmarkInputError, match="known are the tasks"):
        check_claims(("lips",))


def test_blindness_may_be_of_one_task_and_plateaus_are_known() -> None:
    one = planned(
        blind={"lip_sync": "no sync weights"}, measures={"0.2": {"f": 1}, "0.4": {"f": 1}}
    )
    assert one.blind_in("lip_sync") == "no sync weights"
    assert one.blind_in("expression") is None
    assert planned(blind="dark").blind_in("expression") == "dark"
    assert one.same_damage(0.2, 0.4)
    assert not one.same_damage(0.4, 0.6)
    assert not planned().same_damage(0.2, 0.4)
