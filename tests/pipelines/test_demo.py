"""The demo corpus on disk: complete, repeatable, and careful with what is already there."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from actors.demo.damage import KINDS, true_scores
from actors.demo.render import VideoSpec, utterance
from jobs.demo_corpus import main
from model.tasks import TASKS
from pipelines.demo import demo_specs, write_demo_corpus
from pipelines.demo_generators import GENERATORS
from pipelines.demo_labels import label_table, split_of


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_the_default_corpus_has_24_clips_and_no_two_alike() -> None:
    specs = demo_specs()
    assert sum(int(s.seconds // 6) for s in specs) == 24
    assert len({s.video_id for s in specs}) == len({s.seed for s in specs}) == 12
    assert len({s.speaker for s in specs}) == 6
    assert not {s.digest for s in specs} & {s.digest for s in demo_specs(seed=1)}


def test_two_workers_and_one_make_the_same_corpus_and_a_second_call_nothing(
    tmp_path: Path,
) -> None:
    calls: list[tuple[int, int]] = []
    made = write_demo_corpus(
        tmp_path / "two", videos=2, seconds=1.0, progress=lambda *a: calls.append(a)
    )
    assert (made.written, made.kept, made.clips) == (2, 0, 2)
    assert calls == [(1, 2), (2, 2)]
    before = snapshot(tmp_path / "two")
    assert set(before) == {"clean/ada-1.mp4", "clean/bruno-1.mp4", "manifest.csv", "truth.json"}
    again = write_demo_corpus(tmp_path / "two", videos=2, seconds=1.0)
    assert (again.written, again.kept) == (0, 2)
    assert snapshot(tmp_path / "two") == before
    write_demo_corpus(tmp_path / "one", videos=2, seconds=1.0, processes=1)
    alone = snapshot(tmp_path / "one")
    assert {k: v[1] for k, v in alone.items()} == {k: v[1] for k, v in before.items()}


def test_the_manifest_and_the_truth_describe_the_videos(tmp_path: Path) -> None:
    corpus = write_demo_corpus(tmp_path, videos=1, seconds=1.0, processes=1)
    with corpus.manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "video_id": "clean/ada-1",
            "uri": "clean/ada-1.mp4",
            "generator": "clean",
            "speaker": "ada",
        }
    ]
    truth = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    spoken = utterance(corpus.specs[0])
    assert truth["fps"] == 25
    video = truth["videos"]["clean/ada-1"]
    assert video["opening"] == pytest.approx(spoken.opening.tolist(), abs=1e-4)
    assert [v["name"] for v in video["visemes"]] == [v.name for v in spoken.visemes]


def test_a_run_goes_on_where_another_stopped_and_leaves_foreign_files_alone(
    tmp_path: Path,
) -> None:
    write_demo_corpus(tmp_path, videos=2, seconds=1.0, processes=1)
    (tmp_path / "clean" / "ada-1.mp4").unlink()
    leftover = tmp_path / "clean" / ".ada-1.mp4.999999999.partial"
    leftover.write_bytes(b"half a video")
    mine = tmp_path / "clean" / ".ada-1.mp4.mine.partial"
    mine.write_bytes(b"somebody else's")
    before = snapshot(tmp_path)
    corpus = write_demo_corpus(tmp_path, videos=2, seconds=1.0, processes=1)
    assert (corpus.written, corpus.kept) == (1, 1)
    after = snapshot(tmp_path)
    assert after["clean/bruno-1.mp4"] == before["clean/bruno-1.mp4"]
    assert not leftover.exists()
    assert mine.exists()


def test_a_foreign_video_is_never_replaced(tmp_path: Path) -> None:
    foreign = tmp_path / "clean" / "ada-1.mp4"
    foreign.parent.mkdir()
    foreign.write_bytes(b"holiday")
    with pytest.raises(FileExistsError, match="not a demo video"):
        write_demo_corpus(tmp_path, videos=1, seconds=1.0)
    assert snapshot(tmp_path).keys() == {"clean/ada-1.mp4"}
    assert foreign.read_bytes() == b"holiday"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--videos", "0"], "at least 1 video"),
        (["--seconds", "0.5"], "at least 1 s"),
        (["--seconds", "nan"], "at least 1 s"),
        (["--seconds", "1.01"], "whole number of frames"),
        (["--seed", "-1"], "0 or more"),
    ],
)
def test_the_job_refuses_wrong_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    assert main(["--out", str(tmp_path / "out"), *settings]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_job_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--videos", "1", "--seconds", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 videos of 1 s by 1 speakers, 1 clips (1 made now, 0 were there)" in said
    assert str(tmp_path / "manifest.csv") in said
    assert not (tmp_path / "labels.csv").exists()


# --- the damaged corpus


def table(**settings: int) -> list[dict[str, str]]:
    specs = demo_specs(kind="damaged", **settings)
    return list(csv.DictReader(io.StringIO(label_table(specs, settings.get("seed", 0)))))


def number(cell: str) -> float | None:
    return None if cell in ("", "-1") else float(cell)


def test_the_damaged_corpus_gives_each_speaker_every_damage() -> None:
    specs = demo_specs(kind="damaged")
    assert len({s.video_id for s in specs}) == len({s.seed for s in specs}) == 48
    assert {s.seconds for s in specs} == {3.0}
    for speaker in {s.speaker for s in specs}:
        own = [s for s in specs if s.speaker == speaker]
        assert sorted(s.number for s in own) == list(range(1, 9))
        found = Counter(s.damage.kind if s.damage else "clean" for s in own)
        frozen = found.pop("frozen_mouth", 0) + found.pop("frozen_picture", 0)
        assert frozen == 1
        assert found == {"clean": 1, "offset": 2, "noise": 1, "blur": 1, "muffled": 1, "jitter": 1}
        leads = sorted(s.damage.offset_frames for s in own if s.generator == "offset" and s.damage)
        assert -12 <= leads[0] < 0 < leads[1] <= 12
    assert {s.generator for s in specs if split_of(s.speaker) == "train"} == {"clean", *KINDS}
    for s in specs:
        assert s.generator == (s.damage.kind if s.damage else "clean")
        assert s.damage is None or 0.3 <= s.damage.severity <= 1.0
    noise = sorted(s.damage.severity for s in specs if s.damage and s.generator == "noise")
    assert noise == pytest.approx([0.3, 0.44, 0.58, 0.72, 0.86, 1.0])
    other = demo_specs(kind="damaged", seed=1)
    assert [s.damage for s in other] != [s.damage for s in specs]


def test_the_label_table_splits_by_speaker() -> None:
    rows = table()
    assert Counter(row["split"] for row in rows) == {"train": 32, "val": 8, "test": 8}
    sides = {(row["speaker"], row["split"]) for row in rows}
    assert len(sides) == len({speaker for speaker, _ in sides}) == 6


def test_labels_are_the_true_scores_but_for_what_raters_scatter() -> None:
    errors = []
    for spec, row in zip(demo_specs(kind="damaged"), table(), strict=True):
        assert (row["video_id"], row["generator"]) == (spec.video_id, spec.generator)
        for task, truth in true_scores(spec.damage).items():
            label = number(row[task])
            assert (row[f"{task}_std"] == "") == (row[f"{task}_n"] == "") == (label is None)
            if label is not None:
                assert 1.0 <= label <= 5.0
                assert 0.0 < float(row[f"{task}_std"]) < 1.0
                assert 12 <= int(row[f"{task}_n"]) <= 20
                errors.append(abs(label - truth))
    assert max(errors) < 0.4
    assert 0.04 < sum(errors) / len(errors) < 0.12


def test_some_labels_are_missing_in_both_spellings() -> None:
    for seed in range(3):
        rows = table(seed=seed)
        assert all(number(row["lip_sync"]) for row in rows)
        for task in TASKS[1:]:
            assert sum(number(row[task]) is None for row in rows) == 4
            for split in ("train", "val", "test"):
                known = {row[task] for row in rows if row["split"] == split} - {"", "-1"}
                assert len(known) >= 3
        assert {row[task] for row in rows for task in TASKS} >= {"", "-1"}


def test_a_larger_corpus_keeps_the_videos_and_labels_of_a_smaller_one() -> None:
    assert demo_specs(20, kind="damaged") == demo_specs(kind="damaged")[:20]
    assert table(videos=20) == table()[:20]
    assert len({s.video_id for s in demo_specs(100, kind="damaged")}) == 100


def test_a_damaged_corpus_on_disk_is_complete_and_stays(tmp_path: Path) -> None:
    made = write_demo_corpus(tmp_path, videos=7, seconds=1.0, kind="damaged", processes=1)
    assert (made.written, made.labels) == (7, tmp_path / "labels.csv")
    before = snapshot(tmp_path)
    videos = [f"clean/{name}-1" for name in ("ada", "bruno", "chen", "dara", "elio", "fay")]
    videos.append("offset/ada-2")
    files = [f"{v}.mp4" for v in videos]
    assert set(before) == {*files, "labels.csv", "manifest.csv", "truth.json"}
    for name in ("labels.csv", "manifest.csv"):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            assert [row["video_id"] for row in csv.DictReader(file)] == videos
    truth = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))["videos"]
    offset = made.specs[-1].damage
    assert offset is not None
    assert truth["offset/ada-2"]["damage"] == {"offset_frames": offset.offset_frames}
    assert truth["offset/ada-2"]["spec"]["damage"]["severity"] == offset.severity
    assert truth["offset/ada-2"]["scores"] == pytest.approx(true_scores(offset), abs=1e-4)
    assert truth["clean/fay-1"]["damage"] == {}
    again = write_demo_corpus(tmp_path, videos=7, seconds=1.0, kind="damaged", processes=1)
    assert (again.written, again.kept) == (0, 7)
    assert snapshot(tmp_path) == before


def test_the_job_makes_the_damaged_corpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--damaged", "--videos", "1", "--seconds", "1", "--processes", "1"]
    assert main(["--out", str(tmp_path), *settings]) == 0
    assert str(tmp_path / "labels.csv") in capsys.readouterr().out
    assert (tmp_path / "clean" / "ada-1.mp4").exists()


# --- made-up generators


def test_generators_say_the_same_words_worse_and_worse(tmp_path: Path) -> None:
    specs = demo_specs(kind="generators")
    by_name: dict[str, list[VideoSpec]] = {}
    for spec in specs:
        by_name.setdefault(spec.video_id.partition("/")[2], []).append(spec)
    trained = [s for s in demo_specs(kind="damaged") if split_of(s.speaker) == "train"]
    training = {(s.speaker, s.seed) for s in trained}
    for same in by_name.values():
        assert len(same) == len(GENERATORS)
        assert len({(s.speaker, s.seed, s.seconds) for s in same}) == 1
        assert not {(s.speaker, s.seed) for s in same} & training
        quality = [true_scores(s.damage)["overall"] for s in same]
        assert quality == sorted(quality, reverse=True)
        assert len(set(quality)) == len(quality)
    made = write_demo_corpus(tmp_path, videos=1, seconds=1.0, kind="generators", processes=1)
    assert [s.generator for s in made.specs] == list(GENERATORS)
    assert made.labels is None
    assert all((tmp_path / f"{s.video_id}.mp4").exists() for s in made.specs)
