"""The door `jobs/select.py`: from a scored output to a manifest that the other doors read."""

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import select
from tests.pipelines.scoring.score_tables import clip, clips, video, videos, write_output
from tests.support import ROOT

DOORS = sorted(p for p in (ROOT / "jobs").glob("*.py") if "__main__" in p.read_text())


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    rows = [
        video("a", lip_sync=4.5, sync_offset=1.0, generator="good", speaker="s, 1"),
        video("b", lip_sync=4.5, sync_offset=-5.0, generator="late"),
        video("c", lip_sync=1.5, sync_offset=0.0, generator="bad"),
        video("d", has_sound=False),
    ]
    write_output(folder, videos(rows), clips([clip("a", 0, overall=4.0), clip("a", 1)]))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> tuple[str, str]:
    """Run the door, hold its exit status against ``status``; returns what it said."""
    try:
        found = select.main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse ends so
        found = int(str(stop.code))
    told = capsys.readouterr()
    assert found == status, told
    assert "Traceback" not in told.err
    assert "defect" not in told.err
    return told.out, told.err


def test_the_example_of_the_manual(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lists" / "good.csv"
    where = "lip_sync > 3.5 and abs(offset) <= 2"
    told, _ = run(capsys, "--scores", scores, "--where", where, "--out", out)
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "uri": "/corpus/a.mp4",
        "video_id": "a",
        "generator": "good",
        "speaker": "s, 1",
        "version": "v1-a",
        "lip_sync": "4.5",
        "offset": "1",
    }
    assert told.splitlines() == [
        f"1 of 4 videos match: {out}",
        "lip_sync has no value for 1 videos; a comparison with it is never true there",
        "offset has no value for 1 videos; a comparison with it is never true there",
    ]
    assert [path.name for path in out.parent.iterdir()] == ["good.csv"]  # no temporary is left


def test_the_next_run_reads_the_manifest(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import extract

    out = tmp_path / "good.jsonl"
    run(capsys, "--scores", scores, "--where", "generator is not null", "--out", out)
    assert extract.main(["--corpus", str(out), "--dry-run", "--weights", "seeded"]) == 0
    assert "3 videos" in capsys.readouterr().out


def test_nothing_found_is_no_failure(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none.csv"
    told, _ = run(capsys, "--scores", scores, "--where", "overall > 4.9", "--out", out)
    assert told.startswith("0 of 4 videos match")
    assert "the manifest is empty" in told
    assert out.read_text().count("\n") == 1


def test_clips_limits_and_order(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clips.csv"
    told, _ = run(
        capsys, "--scores", scores, "--clips", "--where", "true", "--columns", "overall as score",
        "--order-by", "overall desc", "--limit", 1, "--out", out,
    )  # fmt: skip
    assert told.startswith("2 of 2 clips match, the first 1 were taken")
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {key: row[key] for key in ("clip_index", "start_s", "end_s", "score")} == {
        "clip_index": "0", "start_s": "0", "end_s": "6", "score": "4",
    }  # fmt: skip


def test_what_can_be_used_and_how_it_is_read(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, _ = run(capsys, "--scores", scores, "--columns-list")
    assert "\nsync_offset" in told
    assert "descriptors.snr" in told
    out = tmp_path / "none.csv"
    told, _ = run(
        capsys, "--scores", scores, "--where", "snr > 3 or Offset < 0", "--explain", "--out", out
    )
    assert told.splitlines()[:3] == [
        'read as: "descriptors.snr" > 3 or "sync_offset" < 0',
        "manifest: uri, video_id, generator, speaker, version, snr, Offset",
        "1 of 4 videos match",
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--scores"),
        (["--scores", "SCORES"], "--where is needed"),
        (["--scores", "SCORES", "--where", "true"], "--out is needed"),
        (["--scores", "SCORES", "--where", "true", "--out", "x.txt"], "must end in .csv"),
        (["--scores", "SCORES", "--where", "true", "--out", "FOLDER.csv"], "is a folder"),
        (["--scores", "NOWHERE", "--where", "true", "--out", "x.csv"], "there are no scores"),
        (["--scores", "ftq://x/y", "--where", "true", "--out", "x.csv"], "ftq"),
        (["--scores", "SCORES", "--where", "lipsync > 3", "--out", "x.csv"], "mean lip_sync?"),
        (["--scores", "SCORES", "--where", "true; select 1", "--out", "x.csv"], "one expression"),
        (["--scores", "SCORES", "--where", "true", "--limit", "x", "--out", "x.csv"], "--limit"),
        (["--scores", "SCORES", "--where", "true", "--limit", "-1", "--out", "x.csv"], "--limit"),
    ],
)
def test_mistakes(
    scores: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    tmp_path = scores.parent
    (tmp_path / "FOLDER.csv").mkdir()
    places = {
        "SCORES": str(scores),
        **{name: str(tmp_path / name) for name in ("NOWHERE", "FOLDER.csv", "x.csv", "x.txt")},
    }
    status = 3 if says == "ftq" else 2  # storage that nobody serves
    _, told = run(capsys, *(places.get(a, a) for a in arguments), status=status)
    assert says in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["FOLDER.csv", "scores"]


def test_storage_that_fails_and_a_person_who_stops_it(
    scores: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ["--scores", scores, "--where", "true", "--out"]
    _, told = run(capsys, *base, "/proc/none/x.csv", status=3)
    assert "/proc/none" in told

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.selection.select", stopped)
    _, told = run(capsys, *base, scores / "x.csv", status=130)
    assert "interrupted; nothing was written" in told


def test_the_door_runs_as_a_script(scores: Path, tmp_path: Path) -> None:
    """Its name is that of a module of Python, which others (asyncio, subprocess) import."""
    command = [
        sys.executable, "jobs/select.py", "--scores", scores, "--where", "overall > 0",
        "--out", tmp_path / "all.parquet",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 of 4 videos match")


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_no_door_leaves_its_folder_on_the_path(door: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else jobs/select.py would stand in for Python's module select in every door."""
    monkeypatch.setattr(sys, "path", [str(door.parent), *sys.path])
    runpy.run_path(str(door), run_name="door")
    assert str(door.parent) not in sys.path
    assert sys.path[0] == str(ROOT)
