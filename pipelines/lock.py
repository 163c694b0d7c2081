"""One run at a time: ``_lock.json`` in the output, kept alive by a heartbeat."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from pydantic import Field

from model.config import Config
from pipelines.leftovers import clean_leftovers
from pipelines.storage import MissingError, StorageError, Store
from pipelines.uris import display_text

NAME = "_lock.json"
Content = dict[str, Any]


class LockConfig(Config):
    """Times of the lock."""

    heartbeat_s: float = Field(default=10.0, gt=0)
    """The holder renews the lock so often, seconds."""
    stale_s: float = Field(default=60.0, gt=0)
    """A lock whose heartbeat is older, seconds, is suspected to be dead."""
    watch_s: float = Field(default=15.0, gt=0)
    """A suspected lock is watched so long, seconds, before it is taken: clocks of machines differ,
    but a lock that is alive changes within a heartbeat."""
    settle_s: float = Field(default=1.0, ge=0)
    """On stores without conditional writes: wait, seconds, before reading back who has won."""
    poll_s: float = Field(default=2.0, gt=0)
    """How often to look while waiting, seconds."""


class LockHeld(Exception):  # noqa: N818 - it says what is the case
    """Another run owns the output; the message names it and says what to do."""


class LockLost(StorageError):  # noqa: N818 - it says what happened
    """This run does not own the output any more and must not publish."""


def new_run_id(started: float) -> str:
    """Name a run by when it started (seconds since the epoch), in UTC, and six random digits."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(started))}-{os.urandom(3).hex()}"


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _pid_namespace() -> int:
    path = Path("/proc/self/ns/pid")
    return path.stat().st_ino if path.exists() else 0


class RunLock:
    """The lock of a run; a context manager.

    Args:
        store: The output.
        run_id: Of this run.
        wait: Wait for another run to end instead of raising :class:`LockHeld`.
        config: Times.
    """

    def __init__(
        self, store: Store, run_id: str, *, wait: bool = False, config: LockConfig | None = None
    ) -> None:
        self._store = store
        self._wait = wait
        self._config = config or LockConfig()
        me = psutil.Process()
        self._mine: Content = {
            "run_id": run_id,
            "token": secrets.token_hex(8),
            "host": socket.gethostname(),
            "boot": _boot_id(),
            "pid_namespace": _pid_namespace(),
            "pid": me.pid,
            "pid_started": me.create_time(),
            "started": time.time(),
        }
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = False  # someone else has taken the lock

    def __enter__(self) -> "RunLock":
        """Acquire."""
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release."""
        self.release()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LockHeld: Another run has it, and ``wait`` is false.
            StorageError: The output cannot be written.
        """
        watched: tuple[Content, float] | None = None
        while True:
            holder = self._take_if_free(None)
            if holder is None:
                break
            if _is_dead(holder):
                holder = self._take_if_free(holder)
            elif abs(time.time() - holder.get("heartbeat", 0.0)) > self._config.stale_s:
                if watched is None or watched[0] != holder:
                    watched = (holder, time.monotonic())
                elif time.monotonic() - watched[1] >= self._config.watch_s:
                    holder = self._take_if_free(holder)
                if holder is not None:
                    time.sleep(min(self._config.poll_s, self._config.watch_s / 5))
                    continue
            if holder is None:
                break
            if not self._wait:
                raise LockHeld(self._held(holder))
            time.sleep(self._config.poll_s)
        self._thread = threading.Thread(target=self._beat, name="talkmos-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Remove what dead workers of this run left, then give up the lock if it is still ours."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if not self._is_mine(read_lock(self._store)):
            return
        clean_leftovers(self._store)
        with _exclusive(self._store):
            if self._is_mine(read_lock(self._store)):
                self._store.delete(NAME)

    # --- inside

    def _is_mine(self, content: Content | None) -> bool:
        return content is not None and content.get("token") == self._mine["token"]

    def _content(self) -> bytes:
        return json.dumps({**self._mine, "heartbeat": time.time()}, indent=1).encode()

    def _take_if_free(self, dead: Content | None) -> Content | None:
        """Take the lock if nobody has it, or only ``dead``; returns who has it otherwise."""
        with _exclusive(self._store):
            holder = read_lock(self._store)
            if self._is_mine(holder):
                return None
            if holder is not None and holder != dead:
                return holder
            if holder is not None:
                self._store.delete(NAME)
            if not self._store.create(NAME, self._content()):
                found = read_lock(self._store)
                # An answer may have been lost: the one that exists can be our own.
                return None if found is None or self._is_mine(found) else found
        if not self._store.is_local and self._store.create(NAME, self._content()):
            # It was written over what exists: this store has no conditional writes, so the last of
            # those who wrote at the same time has won, and all see the same after a while.
            time.sleep(self._config.settle_s)
        found = read_lock(self._store)
        if self._is_mine(found):
            return None
        return found if found is not None else self._take_if_free(dead)

    def _held(self, holder: Content) -> str:
        now = time.time()
        return (
            f"{self._store.display('')} is in use by run "
            f"{display_text(str(holder.get('run_id')))} "
            f"(host {display_text(str(holder.get('host')))}, process {holder.get('pid')}, started "
            f"{now - holder.get('started', now):.0f} s ago, last sign of life "
            f"{now - holder.get('heartbeat', now):.0f} s ago). Wait for it (--wait-lock), stop it, "
            "or choose another --out. Only if that run is certainly dead, remove "
            f"{self._store.display(NAME)}."
        )

    def _beat(self) -> None:
        while not self._stop.wait(self._config.heartbeat_s):
            # A storage that fails for minutes is no reason to end the run: the next beat tries
            # again, and who publishes asks the guard first.
            with contextlib.suppress(StorageError), _exclusive(self._store):
                if self._is_mine(read_lock(self._store)):
                    self._store.write_bytes(NAME, self._content())
                else:
                    self.lost = True
                    return


def read_lock(store: Store) -> Content | None:
    """Return what the lock says, None when there is none."""
    try:
        data = store.read_bytes(NAME)
    except MissingError:
        return None
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return {"run_id": "unknown", "heartbeat": 0.0, "damaged": data.hex()[:64]}
    return content


def _is_dead(holder: Content) -> bool:
    """Say whether the holder is certainly dead: it ran here and its process is gone."""
    if holder.get("host") != socket.gethostname():
        return False
    if holder.get("boot") != _boot_id():
        return bool(_boot_id())  # this machine has started anew since
    if holder.get("pid_namespace") != _pid_namespace():
        return False  # another container of the same name
    try:
        process = psutil.Process(int(holder["pid"]))
        gone = abs(process.create_time() - float(holder["pid_started"])) > 1.0
        return gone or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (KeyError, ValueError, TypeError):
        return False


_MEMORY = threading.Lock()


@contextlib.contextmanager
def _exclusive(store: Store) -> Iterator[None]:
    """Keep others out between looking and writing, where the storage allows it."""
    if not store.is_local:
        if store.is_s3:
            yield
        else:
            with _MEMORY:
                yield
        return
    folder = Path(store.root)
    store.run("make", "", lambda: folder.mkdir(parents=True, exist_ok=True))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network filesystems cannot lock a folder: there the exclusive creation alone must do.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class LockGuard:
    """Asks, before a worker publishes, whether its run still owns the output. Can be pickled.

    Args:
        store_uri: The output.
        run_id: Of the run that the worker belongs to.
        fresh_s: An answer is good for so long, seconds.
    """

    def __init__(self, store_uri: str, run_id: str, fresh_s: float = 1.0) -> None:
        self._arguments = (store_uri, run_id, fresh_s)
        self._store = Store.at(store_uri)
        self._run_id = run_id
        self._fresh_s = fresh_s
        self._asked = float("-inf")

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the store anew where it arrives."""
        return (LockGuard, self._arguments)

    def __call__(self) -> None:
        """Return when this run owns the output.

        Raises:
            LockLost: Another run owns it, or none.
            StorageError: The lock cannot be read.
        """
        now = time.monotonic()
        if now - self._asked < self._fresh_s:
            return
        holder = read_lock(self._store)
        if holder is None or holder.get("run_id") != self._run_id:
            owner = "nobody"
            if holder is not None:
                owner = f"run {display_text(str(holder.get('run_id')))}"
            raise LockLost(
                f"run {self._run_id} does not own {self._store.display('')} any more "
                f"({owner} does): nothing was published"
            )
        self._asked = now
