"""Commands and functions that answer, crash, hang and print rubbish; nothing is asked twice."""

import contextlib
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.errors import VideoError
from pipelines.benchmarking.answers import JudgeError, answer_in, answer_of
from pipelines.benchmarking.asked import call_function, call_peer, run_command
from pipelines.benchmarking.commands import Command, CommandJudge
from pipelines.benchmarking.config import AskingConfig
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.evaluation import Evaluation
from pipelines.benchmarking.results import Results
from pipelines.benchmarking.variants import Corpus, read_corpus
from pipelines.storage import Store
from tests.pipelines.benchmarking.corpora import PLAN, plan, rows, write
from tests.support import over, wait_for

HERE = "tests.pipelines.benchmarking.judges"
TYPES = {"noise": PLAN["noise"]}
# Sat out by what hangs. Others start a Python within it, which a busy machine does slowly.
LIMIT_S = 5.0
QUICK = AskingConfig(timeout_s=LIMIT_S, jobs=2)


def never(row: dict[str, Any], path: Path) -> None:
    raise AssertionError("nothing here is virtual")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    records = rows(2, TYPES)
    folder = write(tmp_path / "d", records, plan(TYPES))
    for record in records:
        path = folder / record["uri"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * round(100 + 50 * record["severity"]))
    return read_corpus(str(folder))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3.25\n", {"score": 3.25}),
        ("frame 12 of 20\nscore: -1.5e1 points.\n", {"score": -15.0}),
        ("MOS=4.2 (v1.2.3)", {"score": 4.2}),
        ('{"overall": 3, "lip_sync": 2.5, "fps": 25}', {"overall": 3.0, "lip_sync": 2.5}),
        ('loading\n{"score": 0.5}', {"score": 0.5}),
        ('{"overall": 3, "lip_sync": null}', {"overall": 3.0}),
    ],
)
def test_outputs_that_are_read(text: str, found: dict[str, float]) -> None:
    assert answer_in(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "no score today", "nan", '{"mos": 3}', '{"score": "high"}', '{"score": NaN}', "inf"],
)
def test_rubbish_is_a_failure(text: str) -> None:
    with pytest.raises(JudgeError) as caught:
        answer_in(text)
    assert caught.value.reason == "garbage"


@pytest.mark.parametrize("value", [None, True, "3", float("nan"), float("inf"), {}, {"mos": 1}, []])
def test_rubbish_of_a_function_is_a_failure(value: object) -> None:
    with pytest.raises(JudgeError):
        answer_of(value)


def script(path: Path, body: str) -> str:
    path.write_text(body)
    return f"{sys.executable} {path} --in={{video}}"


MISBEHAVES = """
import os, pathlib, sys, time
with open({log!r}, "a") as log:
    log.write(sys.argv[1] + "\\n")
name = pathlib.Path(sys.argv[1].removeprefix("--in=")).stem
if name == "noise-0.2":
    sys.exit("no face in it")
if name == "noise-0.4":
    os.abort()
if name == "noise-0.6":
    time.sleep(60)
if name == "noise-0.8":
    print("who knows")
else:
    print("score", 5 - 2 * (name == "noise-1"))
"""


def asked_of(log: Path) -> int:
    return len(log.read_text().splitlines())


def test_a_command_that_misbehaves_costs_its_videos_only(corpus: Corpus, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = script(tmp_path / "judge.py", MISBEHAVES.format(log=str(log)))
    out = Store.at(tmp_path / "out")
    found = run_command(corpus, command, out, QUICK, never)
    assert found.scores["person/test-0/clean"] == {"score": 5.0}
    assert found.scores["person/test-1/noise-1"] == {"score": 3.0}
    assert len(found.scores) == 4
    why = {m.video_id.rpartition("/")[2]: (m.reason, m.message) for m in found.misses}
    assert why["noise-0.2"] == ("exit_status", "exit status 1: no face in it")
    assert why["noise-0.4"][0] == "crashed"
    assert "SIGABRT" in why["noise-0.4"][1]
    assert why["noise-0.6"] == ("timeout", "no answer within 5 s")
    assert why["noise-0.8"][0] == "garbage"
    assert "who knows" in why["noise-0.8"][1]
    assert asked_of(log) == 12
    again = run_command(corpus, command, out, QUICK, never)
    assert (again.scores, again.misses) == (found.scores, found.misses)
    assert asked_of(log) == 12  # failures stand, too
    kinder = AskingConfig(jobs=2, retry_failed=True)
    Path(tmp_path / "judge.py").write_text("print(4)")
    better = run_command(corpus, command, out, kinder, never)
    assert not better.misses
    assert better.scores["person/test-0/noise-0.4"] == {"score": 4.0}
    assert better.scores["person/test-0/clean"] == {"score": 5.0}
    fresh = AskingConfig(jobs=2, fresh=True)
    anew = run_command(corpus, command, out, fresh, never)
    assert anew.scores["person/test-0/clean"] == {"score": 4.0}


def test_another_command_has_answers_of_its_own(corpus: Corpus, tmp_path: Path) -> None:
    out = Store.at(tmp_path / "out")
    one = run_command(corpus, "echo {video} 1", out, QUICK, never)
    two = run_command(corpus, "echo {video} 2", out, QUICK, never)
    assert set(map(str, one.scores.values())) == {"{'score': 1.0}"}
    assert set(map(str, two.scores.values())) == {"{'score': 2.0}"}


def test_a_video_that_changed_is_asked_about_again(tmp_path: Path) -> None:
    source = tmp_path / "clean.mov"
    source.write_bytes(b"one")
    records = rows(1, TYPES)
    for record in records:
        record |= {"uri": str(source), "artefacts": record["chain"]}
    folder = str(write(tmp_path / "d", records, plan(TYPES)))
    results = Results(Store.at(tmp_path / "out"), "key")
    for variant in read_corpus(folder).variants:
        results.add(variant, {"score": 1.0})
    assert all(map(results.known, read_corpus(folder).variants))
    source.write_bytes(b"another")
    assert not any(map(results.known, read_corpus(folder).variants))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("echo 3", "{video} must say"),
        ("no-such-program-here {video}", "there is no program"),
        ("echo '{video}", "No closing quotation"),
        ("", "{video} must say"),
    ],
)
def test_commands_that_cannot_run_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(BenchmarkInputError, match=complaint.replace("{", r"\{")):
        Command.parse(text)


def test_no_shell_reads_a_path() -> None:
    command = Command.parse(
        "judge-that-is-not-there {video}".replace("judge-that-is-not-there", "ls")
    )
    assert command.filled(Path("/a; rm b"), None) == ["ls", "/a; rm b"]


def test_what_hangs_is_over_with_all_that_it_started(tmp_path: Path) -> None:
    body = "import subprocess, sys, time\np = subprocess.Popen(['sleep', '61'])\n"
    body += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\ntime.sleep(61)\n"
    command = Command.parse(script(tmp_path / "hang.py", body))
    judge = CommandJudge(command, LIMIT_S, threading.Event())
    with pytest.raises(JudgeError, match="no answer within 5 s"):
        judge.judge(Path("x.mov"), None)
    pid = int((tmp_path / "pid").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(pid)
        wait_for(lambda: over([started]), 50)  # by itself it would end after 61 s


def test_what_prints_without_end_is_stopped(tmp_path: Path) -> None:
    judge = CommandJudge(Command.parse("yes {video}"), 60.0, threading.Event())
    with pytest.raises(JudgeError, match="printed more than 16 MiB"):
        judge.judge(Path("x.mov"), None)


def test_an_interrupted_run_keeps_its_answers(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.benchmarking import asking

    out = Store.at(tmp_path / "out")
    log = tmp_path / "log"
    body = f"import sys\nopen({str(log)!r}, 'a').write(sys.argv[1] + chr(10))\nprint(1)\n"
    command = script(tmp_path / "judge.py", body)
    seen = 0
    original = asking.Results.add

    def interrupted(self: Any, *args: Any) -> None:
        nonlocal seen
        original(self, *args)
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt

    one = AskingConfig(jobs=1)
    with monkeypatch.context() as patch:
        patch.setattr(asking.Results, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_command(corpus, command, out, one, never)
    before = asked_of(log)
    assert before < 12
    found = run_command(corpus, command, out, one, never)
    assert len(found.scores) == 12
    # At most the one that ran when the interruption came is asked again.
    assert 12 <= asked_of(log) <= 13


def function(corpus: Corpus, out: Path, target: str, **more: Any) -> Evaluation:
    config = AskingConfig(**{"timeout_s": LIMIT_S, "jobs": 2, **more})
    return call_function(corpus, target, Store.at(out), config, never)


def test_a_function_that_misbehaves_costs_its_videos_only(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("TALKMOS_TEST_CALLS", str(log))
    found = function(corpus, tmp_path / "out", f"{HERE}:by_name")
    assert found.scores["person/test-0/clean"] == {"score": 5.0}
    assert found.scores["person/test-1/noise-1"] == {"score": 4.0}
    why = {m.video_id.rpartition("/")[2]: (m.reason, m.message) for m in found.misses}
    assert why == {
        "noise-0.2": ("error", "ValueError: cannot judge this"),
        "noise-0.4": ("crashed", "its process ended with status 7"),
        "noise-0.6": ("timeout", "no answer within 5 s"),
        "noise-0.8": ("garbage", "is not a finite number: nan"),
    }
    assert "may print" not in capfd.readouterr().out
    assert asked_of(log) == 12
    function(corpus, tmp_path / "out", f"{HERE}:by_name")
    assert asked_of(log) == 12


def test_whatever_a_function_raises_is_one_failure(
    corpus: Corpus, tmp_path: Path, capfd: Any
) -> None:
    found = function(corpus, tmp_path / "out", f"{HERE}:rude")
    why = {m.video_id.rpartition("/")[2]: (m.reason, m.message) for m in found.misses}
    assert why == {
        "noise-0.2": ("error", "KeyboardInterrupt: "),
        "noise-0.4": ("error", "SystemExit: bye"),
        "noise-0.6": ("error", "MuteError (its text cannot be read)"),
    }
    assert "Traceback" not in capfd.readouterr().err


def test_a_function_need_not_say_what_it_takes(corpus: Corpus, tmp_path: Path) -> None:
    found = function(corpus, tmp_path / "out", f"{HERE}:compiled")
    assert set(map(str, found.scores.values())) == {"{'score': 2.0}"}


def test_who_is_not_asked_again_is_told_how_to_ask(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Store.at(tmp_path / "out")
    fix = script(tmp_path / "fix.py", "raise SystemExit(3)")
    with pytest.raises(BenchmarkInputError) as caught:
        run_command(corpus, fix, out, QUICK, never)
    assert "--retry-failed" not in str(caught.value)
    (tmp_path / "fix.py").write_text("print(2)")
    capsys.readouterr()
    told = "12 of these failures are of earlier runs, no videos were asked about now"
    with pytest.raises(BenchmarkInputError, match=f"{told}: --retry-failed asks again"):
        run_command(corpus, fix, out, QUICK, never)
    said = capsys.readouterr().err
    assert "nothing is asked: all 12 are known from earlier runs, 12 of them failed" in said
    assert "--retry-failed" in said
    run_command(corpus, fix, out, AskingConfig(jobs=2, retry_failed=True), never)
    capsys.readouterr()
    run_command(corpus, fix, out, QUICK, never)
    told = "nothing is asked: all 12 are known from earlier runs; --fresh asks again"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    ['{"video": "a", "sc', "3", '{"video": 3, "scores": {}}', '{"video": "a"}',
     '{"video": "a", "scores": {"score": "x"}}', '{"video": "a", "reason": "error"}'],
)  # fmt: skip
def test_damaged_answers_are_named(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "answers/key"
    folder.mkdir(parents=True)
    good = '{"video": "b", "scores": {"score": 1.0}}'
    (folder / "1.jsonl").write_text(f"{good}\n{line}\n")
    store = Store.at(tmp_path)
    with pytest.raises(BenchmarkInputError, match=r"1\.jsonl, line 2: is no answer.*remove"):
        Results(store, "key")
    Results(store, "key", fresh=True)


def test_a_function_may_ask_for_the_clean_video(corpus: Corpus, tmp_path: Path) -> None:
    found = function(corpus, tmp_path / "out", f"{HERE}:against")
    assert found.tasks == ("audio_quality",)
    assert found.scores["person/test-0/clean"] == {"audio_quality": 0.0}
    assert found.scores["person/test-0/noise-0.4"] == {"audio_quality": -20.0}


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("judges.by_name", "expected package.module:function"),
        ("no_such_package:f", "cannot be imported: ModuleNotFoundError"),
        (f"{HERE}:NOT_A_FUNCTION", "has no function"),
    ],
)
def test_functions_that_cannot_be_called_are_refused(
    corpus: Corpus, tmp_path: Path, target: str, complaint: str
) -> None:
    with pytest.raises(BenchmarkInputError, match=complaint):
        function(corpus, tmp_path / "out", target)


def test_an_evaluator_that_never_answers_is_an_error_of_the_user(
    corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(BenchmarkInputError, match="gave no score for any of 12 videos"):
        run_command(corpus, "true {video}", Store.at(tmp_path / "out"), QUICK, never)


def test_virtual_variants_become_files_for_a_moment(tmp_path: Path) -> None:
    source = tmp_path / "clean.mov"
    source.write_bytes(b"x" * 100)
    records = rows(1, TYPES)
    for record in records:
        record |= {"uri": str(source), "artefacts": record["chain"]}
    corpus = read_corpus(str(write(tmp_path / "d", records, plan(TYPES))))
    made: list[Path] = []

    def materialise(row: dict[str, Any], path: Path) -> None:
        if '"severity": 0.6' in row["artefacts"] or '"severity":0.6' in row["artefacts"]:
            raise VideoError("faces", "no_face", "There is no face.")
        assert row["uri"] == str(source)
        made.append(path)
        path.write_bytes(b"x" * (100 + len(made)))

    out = Store.at(tmp_path / "out")
    config = AskingConfig()
    found = call_function(corpus, f"{HERE}:against", out, config, materialise)
    values = [s["audio_quality"] for s in found.scores.values()]
    assert values == [0.0, -1.0, -2.0, -3.0, -4.0]
    assert [(m.reason, m.message) for m in found.misses] == [("no_face", "There is no face.")]
    assert not any(path.exists() for path in made)
    assert len({path.suffix for path in made}) == 1


def test_peers_are_named_and_say_what_they_need(corpus: Corpus, tmp_path: Path) -> None:
    from pipelines.benchmarking.peers import PEERS, Peer, find_peer

    out = Store.at(tmp_path / "out")
    with pytest.raises(BenchmarkInputError, match="known are pesq, stoi"):
        call_peer(corpus, "vmaf", out, QUICK, never)
    lacking = Peer("x", "m:f", ("not_a_module_here",), ("the-package",), ("sound",), "", False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PEERS, "x", lacking)
        with pytest.raises(BenchmarkInputError, match="pip install --no-deps the-package"):
            find_peer("x")


def children() -> set[int]:
    """Of this process, not of a cluster that it has started: those come and go by themselves."""
    found = set()
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "resource_tracker" not in " ".join(process.cmdline()):
                found.add(process.pid)
    return found


def test_children_do_not_outlive_the_run(corpus: Corpus, tmp_path: Path) -> None:
    before = children()
    function(corpus, tmp_path / "out", f"{HERE}:against")
    assert children() <= before
