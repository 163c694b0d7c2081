import json
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.lock import (
    LockConfig,
    LockGuard,
    LockHeld,
    LockLost,
    RunLock,
    _exclusive,
    read_lock,
)
from pipelines.storage import Store
from tests.pipelines.test_storage import QUICK, use
from tests.s3server import s3_server
from tests.support import ROOT, wait_for

FAST = LockConfig(heartbeat_s=0.05, stale_s=0.6, watch_s=0.3, settle_s=0.1, poll_s=0.05)
# Watches for longer than a slow disk holds up the heartbeat of a holder that lives.
PATIENT = FAST.model_copy(update={"watch_s": 2.0})


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.at(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


def heartbeat(store: Store) -> float:
    content = read_lock(store)
    assert content is not None
    return float(content["heartbeat"])


def test_one_run_at_a_time(store: Store) -> None:
    with RunLock(store, "first", config=FAST) as lock:
        before = read_lock(store)
        assert before is not None
        with pytest.raises(LockHeld, match=r"in use by run first .*--wait-lock"):
            RunLock(store, "second", config=PATIENT).acquire()
        # The heartbeat keeps it alive beyond stale_s.
        wait_for(lambda: heartbeat(store) >= before["heartbeat"] + FAST.stale_s, 30)
        with pytest.raises(LockHeld):
            RunLock(store, "second", config=PATIENT).acquire()
        assert not lock.lost
    assert read_lock(store) is None
    assert not store.exists("_tmp")


def test_waiting_for_the_lock(store: Store) -> None:
    first = RunLock(store, "first", config=FAST)
    first.acquire()
    threading.Timer(0.3, first.release).start()
    with RunLock(store, "second", wait=True, config=FAST):
        content = read_lock(store)
        assert content is not None
        assert content["run_id"] == "second"


def test_guard(store: Store) -> None:
    guard = LockGuard(store.raw_uri, "mine", fresh_s=0.0)
    with pytest.raises(LockLost, match="nobody does"):
        guard()
    with RunLock(store, "mine", config=FAST):
        guard()
        if store.is_local:
            pickle.loads(pickle.dumps(guard))()
        with pytest.raises(LockLost, match="run mine does"):
            LockGuard(store.raw_uri, "other")()


HOLD = """
import sys, time
from pipelines.lock import RunLock
from pipelines.storage import Store
with RunLock(Store.at(sys.argv[1]), "killed"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_taken_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    store = Store.at(tmp_path)
    with pytest.raises(LockHeld):
        RunLock(store, "next").acquire()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with RunLock(store, "next"):
        LockGuard(str(tmp_path), "next")()
        with pytest.raises(LockLost):
            LockGuard(str(tmp_path), "killed")()


def foreign(store: Store, **more: object) -> None:
    content = {"run_id": "far", "token": "t", "host": "elsewhere", "pid": 1, "pid_started": 0.0}
    store.write_bytes("_lock.json", json.dumps(content | {"started": 0.0} | more).encode())


def test_an_old_heartbeat_of_another_host_is_watched_and_taken(store: Store) -> None:
    foreign(store, heartbeat=time.time() - 1000)
    begun = time.monotonic()
    with RunLock(store, "next", config=FAST):
        assert time.monotonic() - begun >= FAST.watch_s
    foreign(store, heartbeat=time.time())
    with pytest.raises(LockHeld, match="host elsewhere"):
        RunLock(store, "next").acquire()


def test_a_lock_with_a_wrong_clock_that_lives_is_not_taken(store: Store) -> None:
    stop = threading.Event()

    def live() -> None:
        skewed = 0
        while not stop.wait(0.03):
            skewed += 1
            foreign(store, heartbeat=float(skewed))

    foreign(store, heartbeat=0.0)
    thread = threading.Thread(target=live)
    thread.start()
    taken: list[str] = []

    def acquire() -> None:
        RunLock(store, "next", config=PATIENT).acquire()
        taken.append("next")

    other = threading.Thread(target=acquire, daemon=True)
    other.start()
    time.sleep(PATIENT.watch_s + 0.5)
    assert taken == []
    stop.set()
    thread.join()
    other.join(60)
    assert taken == ["next"]


def test_a_run_that_lost_its_lock_neither_renews_nor_removes_it(store: Store) -> None:
    lock = RunLock(store, "cut off", config=FAST)
    lock.acquire()
    with _exclusive(store):  # not between a beat's look and its write, which would undo it
        foreign(store, heartbeat=time.time())
    wait_for(lambda: lock.lost, 30)
    lock.release()
    content = read_lock(store)
    assert content is not None
    assert content["run_id"] == "far"


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_of_many_that_start_at_once_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "s3":
        with s3_server(tmp_path / "s3") as server:
            use(monkeypatch, server.endpoint)
            _race(f"{server.bucket('bucket')}/out")
    else:
        _race(str(tmp_path))


def _race(uri: str) -> None:
    won: list[RunLock] = []
    lost: list[str] = []
    start = threading.Barrier(6)

    def run(number: int) -> None:
        lock = RunLock(Store.at(uri, QUICK), f"run{number}", config=FAST)
        start.wait()
        try:
            lock.acquire()
            won.append(lock)
        except LockHeld as error:
            lost.append(str(error))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Where two could win, the heartbeat of the one that was overwritten tells it.
    wait_for(lambda: sum(not lock.lost for lock in won) <= 1, 30)
    time.sleep(0.2)  # some beats more: the winner stays one
    assert sum(not lock.lost for lock in won) == 1
    assert len(won) + len(lost) == 6
    for lock in won:
        lock.release()
    assert read_lock(Store.at(uri, QUICK)) is None
