"""The demo corpus on disk: complete, repeatable, and careful with what is already there."""

import csv
import json
from pathlib import Path

import pytest

from actors.demo.damage import true_scores
from actors.demo.render import VideoSpec, utterance
from jobs.demo_corpus import main
from pipelines.demo import demo_specs, write_demo_corpus
from pipelines.demo_generators import GENERATORS


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


# --- made-up generators


def test_generators_say_the_same_words_worse_and_worse(tmp_path: Path) -> None:
    specs = demo_specs(kind="generators")
    by_name: dict[str, list[VideoSpec]] = {}
    for spec in specs:
        by_name.setdefault(spec.video_id.partition("/")[2], []).append(spec)
    held_out = {"elio", "fay"}  # see configs/degrade/demo.yaml
    training = {(s.speaker, s.seed) for s in demo_specs(48)}
    for same in by_name.values():
        assert len(same) == len(GENERATORS)
        assert len({(s.speaker, s.seed, s.seconds) for s in same}) == 1
        assert not {(s.speaker, s.seed) for s in same} & training
        assert {s.speaker for s in same} <= held_out
        quality = [true_scores(s.damage)["overall"] for s in same]
        assert quality == sorted(quality, reverse=True)
        assert len(set(quality)) == len(quality)
    made = write_demo_corpus(tmp_path, videos=1, seconds=1.0, kind="generators", processes=1)
    assert [s.generator for s in made.specs] == list(GENERATORS)
    assert all((tmp_path / f"{s.video_id}.mp4").exists() for s in made.specs)
