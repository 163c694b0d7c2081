"""A corpus of bad files through the real command: each is extracted or explained."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.extract import main
from pipelines.corpus import CorpusConfig, iter_corpus
from tests.jobs.bad_files import BadCorpus, serve, write_corpus
from tests.jobs.runs import extract

pytestmark = pytest.mark.ray

SLIM = ["--modalities", "landmarks,action_units,lowlevel,descriptors"]


@dataclass
class Run:
    """The corpus, and what one run over all of it left behind."""

    corpus: BadCorpus
    manifest: Path
    out: Path
    status: int
    stdout: str
    stderr: str
    asked: list[str]

    @property
    def rows(self) -> pd.DataFrame:
        columns = ["video_id", "clip_index", "frame_mask", "audio_mask", "face_mask", "faces"]
        return pd.read_parquet(self.out / "features", columns=columns)

    @property
    def failures(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "failures.parquet").set_index("video_id")


def manifest_of(corpus: BadCorpus, path: Path, names: list[str]) -> Path:
    lines = [
        {"video_id": name, "uri": corpus.addresses.get(name, str(corpus.folder / name))}
        for name in names
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("bad")
    with serve(folder) as server:
        corpus = write_corpus(folder / "corpus", server.address)
        manifest = manifest_of(corpus, folder / "all.jsonl", list(corpus.files))
        done = extract(
            "--corpus", manifest, "--out", folder / "out", *SLIM, "--max-failures", "50%",
            "--set", "run.stall_seconds=20", "--set", "run.max_attempts=1",
            "--set", "run.shard_clips=4", timeout=900,
        )  # fmt: skip
        yield Run(
            corpus,
            manifest,
            folder / "out",
            done.returncode,
            done.stdout,
            done.stderr,
            server.asked,
        )


def test_the_run_ends_by_itself_and_says_so(bad: Run) -> None:
    expected_failures = sum(not e.clips for e in bad.corpus.files.values())
    expected_done = len(bad.corpus.files) - expected_failures
    assert bad.status == 1, bad.stdout + bad.stderr
    assert f"{expected_done} videos extracted, {expected_failures} failed" in bad.stdout
    assert "more than --max-failures 50%" in bad.stderr
    text = bad.stdout + bad.stderr
    for noise in ("Traceback", "defect", "raylet", "WARNING", "INFO"):
        assert noise not in text
    summary = json.loads((bad.out / "summary.json").read_text())
    assert summary["videos"]["corpus"] == len(bad.corpus.files)
    assert summary["videos"]["done"] == expected_done
    assert summary["videos"]["failed"] == expected_failures


def test_every_file_is_extracted_or_explained(bad: Run) -> None:
    clips = bad.rows.groupby("video_id").size().to_dict()
    failures = bad.failures
    assert not failures.index.has_duplicates
    assert set(clips) | set(failures.index) == set(bad.corpus.files)
    assert not set(clips) & set(failures.index)
    wrong = {}
    for name, expected in bad.corpus.files.items():
        if expected.clips:
            if clips.get(name) != expected.clips:
                why = failures.message.get(name, "")
                wrong[name] = f"{clips.get(name)} clips, expected {expected.clips} {why}"
        elif name in clips:
            wrong[name] = f"was extracted, expected {sorted(expected.reasons)}"
        else:
            row = failures.loc[name]
            if row.error_class not in expected.reasons or expected.says not in row.message:
                wrong[name] = f"{row.error_class}: {row.message}"
    assert not wrong


def test_messages_are_for_people(bad: Run) -> None:
    for name, row in bad.failures.iterrows():
        assert row.stage in ("open", "decode"), name
        assert len(row.message) > 20, name
        assert "\n" not in row.message, name
        assert "Error" not in row.message.replace("[Errno", ""), (name, row.message)


def test_rows_hold_what_the_files_hold(bad: Run) -> None:
    groups = dict(iter(bad.rows.groupby("video_id")))
    for name, expected in bad.corpus.files.items():
        if not expected.clips:
            continue
        rows = groups[name]
        assert sorted(rows.clip_index) == list(range(expected.clips))
        frame, face, audio = (
            np.stack(rows[f"{mask}_mask"].to_list()) for mask in ("frame", "face", "audio")
        )
        assert not (face & ~frame).any()
        assert not (audio & ~frame).any()
        if expected.frames is not None:
            assert frame.sum() == expected.frames, name
        if expected.sounding is not None:
            assert abs(audio.sum() - expected.sounding) <= 1, name
        if expected.faces == 0:
            assert not face.any(), name
        elif expected.faces is not None:
            assert face.sum() >= 0.9 * frame.sum(), name
            assert max(faces["max_faces"] for faces in rows.faces) == expected.faces, name


def test_playlists_made_nobody_open_anything(bad: Run) -> None:
    assert {"/never_answers.mp4", "/never_ends.mp4"} == set(bad.asked)


def test_a_folder_gives_all_that_is_named_like_a_video(bad: Run) -> None:
    listed = {ref.uri for ref in iter_corpus(CorpusConfig(corpus=str(bad.corpus.folder)))}
    local = set(bad.corpus.files) - set(bad.corpus.addresses)
    assert listed == {str(bad.corpus.folder / name) for name in local}


def test_a_rerun_does_nothing(bad: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process and without a cluster. Only what may pass by itself is ever retried."""
    failures = bad.failures
    lasting = [name for name in bad.corpus.files if name not in failures[failures.transient].index]
    assert set(bad.corpus.files) - set(lasting) == {"pipe.mp4", "link_to_nowhere.mp4"}
    manifest = manifest_of(bad.corpus, bad.manifest.with_name("lasting.jsonl"), lasting)
    shards = {p: p.stat().st_mtime_ns for p in (bad.out / "features").iterdir()}
    failed = len(failures) - 2
    for limit, status in ((str(failed), 0), (str(failed - 1), 1), ("10%", 1), ("90%", 0)):
        job = ["--corpus", str(manifest), "--out", str(bad.out), *SLIM, "--max-failures", limit]
        assert main(job) == status
        told = capsys.readouterr()
        assert f"{failed} failed before, 0 to do" in told.err
        assert (f"more than --max-failures {limit}" in told.err) == bool(status)
        assert f"0 videos extracted, 0 failed, {len(lasting) - failed} done before" in told.out
    assert {p: p.stat().st_mtime_ns for p in (bad.out / "features").iterdir()} == shards
    assert len(bad.failures) == len(failures)


def test_other_settings_are_refused_even_with_nothing_to_do(
    bad: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--dry-run"]):
        job = ["--corpus", str(bad.manifest), "--out", str(bad.out), *SLIM, "--hop", "3", *more]
        assert main(job) == 2
        told = capsys.readouterr().err
        assert "holds features of other settings" in told
        assert "decode.hop_s: 6.0 -> 3.0" in told


def test_inspect_and_dry_run_read_well(bad: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--inspect", str(bad.out)]) == 0
    told = capsys.readouterr().out
    assert f"{bad.rows.video_id.nunique()} videos" in told
    assert "stalled" in told
    assert "Traceback" not in told
    folder = bad.corpus.folder
    assert main(["--corpus", str(folder), "--dry-run", *SLIM]) == 0
    told = capsys.readouterr().out
    local = len(bad.corpus.files) - len(bad.corpus.addresses)
    assert f"{local} videos" in told
    assert "cannot be processed" in told
    assert "clips" in told
