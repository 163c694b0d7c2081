"""Progress: a live line on a terminal, plain lines elsewhere."""

import io

from pipelines.progress import ProgressLine, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_durations() -> None:
    assert [duration(s) for s in (0.4, 42, 190, 7500)] == ["0s", "42s", "3m10s", "2h05m"]


def test_plain_lines_have_no_control_characters() -> None:
    out = io.StringIO()
    line = ProgressLine(10, out)
    line.update(2, clips=3, done=1)
    line.say("failed: x")
    line.close()
    assert "\r" not in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert "1/10 videos (10%)" in out.getvalue()


def test_a_terminal_gets_one_line_that_is_redrawn() -> None:
    out = Terminal()
    line = ProgressLine(10, out)
    line.update(2, clips=3, done=5)
    assert out.getvalue().startswith("\r")
    assert "\n" not in out.getvalue()
    line.say("failed: x")
    assert out.getvalue().endswith("failed: x\n")


def test_rate_and_time_left() -> None:
    line = ProgressLine(10, io.StringIO())
    line.done, line.failed, line.clips = 4, 1, 20
    text = line.line(workers=1, elapsed=50.0)
    assert text == "5/10 videos (50%), 0.40 clips/s, 50s left, 1 failed, 1 worker"
