"""SIGTERM and kill -9 of `jobs/train.py`, everything switched on: the curve goes on."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from jobs.train import main
from tests.jobs.runs import clean_environment
from tests.pipelines.training.train_corpus import small, write_features
from tests.support import ROOT, over, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS, STEPS = 12, 60  # enough that a run which is told to end after 25 steps never gets there
# The alignment of sound and picture apart, whose streams these small features leave out.
EVERYTHING = {
    "evaluator.dropout": 0.2,
    "evaluator.modality_dropout": 0.2,
    "evaluator.width": 16,
    "evaluator.layers": 1,
    "evaluator.heads": 2,
    "evaluator.feedforward": 32,
    "evaluator.streams": "[action_units, lowlevel]",
    "evaluator.aux": "true",
    "loss.label_smoothing": 0.05,
    "loss.consistency.weight": 0.1,
    "loss.ranking.weight": 0.1,
    "weighting.kind": "uncertainty",
    "training.ema": 0.95,
    "training.accumulation": 2,
    "training.batch_size": 4,
    "training.epochs": EPOCHS,
    "training.patience": "null",
    "training.state_steps": 2,
    "training.clip_norm": 0.5,
    "splits.salt": 5,
}
STATE = re.compile(r"state-(\d{9})\.safetensors")


def arguments(folder: Path, out: Path) -> list[str]:
    settings = [s for s in small() if not s.startswith("evaluator=")]
    settings += [f"{name}={value}" for name, value in EVERYTHING.items()]
    job = ["--preset", "standard", "--features", str(folder / "features")]
    job += ["--labels", str(folder / "labels.csv"), "--out", str(out)]
    return [*job, *(word for s in settings for word in ("--set", s))]


def start(folder: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "jobs/train.py", *arguments(folder, out)],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def step_of(out: Path) -> int:
    """The newest state of a run that goes on."""
    try:
        names = [path.name for path in (out / "state").iterdir()]
    except FileNotFoundError:
        return 0
    return max((int(m[1]) for n in names if (m := STATE.fullmatch(n))), default=0)


def history_of(out: Path) -> dict[str, Any]:
    history: dict[str, Any] = json.loads((out / "history.json").read_text())
    for epoch in history["epochs"]:
        del epoch["seconds"]
    return history


def stopped(process: subprocess.Popen[str], out: Path, step: int, number: int) -> tuple[int, str]:
    """End a run by a signal once it has taken ``step`` steps; its newest step, what it said."""
    until = time.monotonic() + 600
    while step_of(out) < step:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "it does not come on"
        time.sleep(0.002)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    told, _ = process.communicate(timeout=600)
    wait_for(lambda: over(family))
    reached = step_of(out)
    assert step <= reached < STEPS, "it was in the middle"
    assert not (out / "summary.json").exists()
    assert "Traceback" not in told
    return reached, told


def test_a_run_that_is_stopped_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, whole = tmp_path, tmp_path / "stopped", tmp_path / "whole"
    write_features(folder / "features", shards=1).to_csv(folder / "labels.csv", index=False)
    # Undisturbed, on a cluster like those of the others: sums depend on the number of threads.
    process = start(folder, whole)
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told

    process = start(folder, out)
    first, told = stopped(process, out, 7, signal.SIGTERM)
    assert process.returncode == 130, told
    assert "interrupted; its state stands, start again to go on" in told
    assert not (out / "_lock.json").exists()

    process = start(folder, out)
    second, told = stopped(process, out, max(25, first + 1), signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (out / "_lock.json").exists()

    process = start(folder, out)
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    went_on = re.search(r"goes on after epoch (\d+), step (\d+)", told)
    assert went_on, told
    assert int(went_on[2]) == second
    # An epoch's last step is saved before its validation: that epoch is not over yet, or just is.
    assert int(went_on[1]) in {(second - 1) // 5, second // 5}
    assert "Traceback" not in told
    history = history_of(whole)
    assert len(history["epochs"]) == EPOCHS
    assert history["epochs"][-1]["step"] == STEPS
    assert history_of(out) == history
    expected, found = (pd.read_parquet(p / "predictions.parquet") for p in (whole, out))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    names, wanted = (
        {p.relative_to(o).as_posix() for p in o.rglob("*") if p.is_file()} for o in (out, whole)
    )
    assert {n for n in names ^ wanted if not n.startswith("tensorboard/")} == set()
    assert len([n for n in names if n.startswith("tensorboard/")]) >= 2  # one of each process

    # Once more: there is nothing to do.
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(arguments(folder, out)) == 0
    said = capsys.readouterr()
    assert "holds this very run, finished: nothing to do" in said.err
    assert "checkpoint:" in said.out
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
