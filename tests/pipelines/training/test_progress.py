"""What a person sees while an evaluator is trained."""

import io
import re
from typing import Any

import pytest

from model.tasks import TASKS
from pipelines.training.progress import CountLine, TrainLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Stands in for the monotonic clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def record(**more: Any) -> dict[str, Any]:
    values = {
        "epoch": 2,
        "train": {"total": 0.123456},
        "val": {"total": 0.5},
        "plcc": dict.fromkeys(TASKS, 0.75),
        "best": True,
    }
    return values | more


def test_rate_and_time_left_of_a_pass(clock: Clock) -> None:
    out = io.StringIO()
    line = CountLine("reducing", out)
    clock.now += 10
    line.update(50, 200)
    assert out.getvalue() == "reducing: 50/200 clips (25%), 5 clips/s, 30s left\n"
    line.update(60, 200)  # too soon for another line where there is no terminal
    line.update(200, 200, "medians, pass 2")  # the end is always shown
    assert out.getvalue().splitlines()[1:] == ["medians, pass 2: 200/200 clips (100%), 20 clips/s"]


def test_a_pass_of_nothing_at_the_first_instant(clock: Clock) -> None:
    out = io.StringIO()
    CountLine("reducing", out).update(0, 0)
    CountLine("reducing", out).update(0, 7)
    assert out.getvalue().splitlines() == [
        "reducing: 0/0 clips (100%), 0 clips/s",
        "reducing: 0/7 clips (0%), 0 clips/s, ? left",
    ]


def test_steps_rate_and_time_left(clock: Clock) -> None:
    out = io.StringIO()
    line = TrainLine(4, 100, out)
    line.progress(0, 0, 2.0)
    clock.now += 20
    line.progress(1, 40, 0.5)
    first, second = out.getvalue().splitlines()
    assert "at most ? left" in first
    assert second == (
        "epoch 2/4, step 40/100 (40%), 2.00 steps/s, at most 30s left, loss 0.5000, 0 incidents"
    )


def test_a_resumed_run_does_not_count_what_was_done_before(clock: Clock) -> None:
    out = io.StringIO()
    line = TrainLine(4, 100, out)
    line.begin(60)
    clock.now += 20
    line.progress(2, 70, 0.5)
    assert "step 70/100 (70%), 0.50 steps/s, at most 1m00s left" in out.getvalue()


def test_incidents_are_counted_and_told_at_once(clock: Clock) -> None:
    out = io.StringIO()
    line = TrainLine(1, 10, out)
    line.incident("step 3: the loss is nan")
    line.progress(0, 4, 1.0)
    line.incident("step 5: the loss is nan")
    clock.now += 100
    line.progress(0, 6, 1.0)
    told = out.getvalue().splitlines()
    assert told[0] == "step 3: the loss is nan"
    assert told[1].endswith(", 1 incident")
    assert told[3].endswith(", 2 incidents")


def test_an_epoch_is_a_line_and_undefined_is_no_number(clock: Clock) -> None:
    out = io.StringIO()
    line = TrainLine(4, 100, out)
    line.epoch(record())
    plcc: dict[str, float | None] = {**dict.fromkeys(TASKS, -0.5), "overall": None}
    line.epoch(record(best=False, plcc=plcc, train={}, val={"total": None}))
    first, second = out.getvalue().splitlines()
    assert first.startswith("epoch 3: loss 0.1235, validation 0.5000, best so far; PLCC lip_sync ")
    assert re.findall(r"0\.750", first) == ["0.750"] * 5
    assert "loss undefined, validation undefined; PLCC lip_sync -0.500" in second
    assert second.endswith("overall undefined")
    assert "best" not in second


def test_no_control_characters_without_a_terminal_and_one_line_with_one(clock: Clock) -> None:
    plain, terminal = io.StringIO(), Terminal()
    for out in (plain, terminal):
        line = TrainLine(4, 100, out)
        for step in range(1, 20):
            clock.now += 1
            line.progress(0, step, 1.0)
        line.end()
    assert not set(plain.getvalue()) & set("\r\x1b")
    assert len(plain.getvalue().splitlines()) == 2  # every 15 s
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().count("\r") == 19
    assert "[###" in terminal.getvalue()
