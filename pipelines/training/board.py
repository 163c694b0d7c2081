"""Where workers on the cluster leave word for the driver: an actor that keeps what it is told."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import ray

T = TypeVar("T")
LOOK_SECONDS = 0.2


class _Board:
    def __init__(self) -> None:
        self._messages: list[Any] = []

    def tell(self, message: Any) -> None:
        self._messages.append(message)

    def take(self) -> list[Any]:
        messages, self._messages = self._messages, []
        return messages


class Board:
    """A handle that travels to workers; :meth:`tell` there, :meth:`watch` here."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def tell(self, kind: str, value: Any) -> None:
        """Send a message without waiting for anything."""
        self._handle.tell.remote((kind, value))

    def hand_over(self, kind: str, value: Any) -> None:
        """Send a message and wait until it is there: for last words, before a worker ends."""
        ray.get(self._handle.tell.remote((kind, value)))

    def take(self) -> list[tuple[str, Any]]:
        """Return the messages since the last call, in order of arrival."""
        messages: list[tuple[str, Any]] = ray.get(self._handle.take.remote())
        return messages

    def watch(self, work: Callable[[], T], heard: Callable[[str, Any], None]) -> T:
        """Run ``work`` in a thread and hand on every message until it returns or raises.

        An interruption of this thread is raised at once: the work ends with the connection to Ray.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                future.set_exception(error)

        # Not an executor: it would wait for the work to end, whatever happens here.
        threading.Thread(target=run, daemon=True, name="watched").start()
        while not future.done():
            time.sleep(LOOK_SECONDS)
            for kind, value in self.take():
                heard(kind, value)
        for kind, value in self.take():
            heard(kind, value)
        return future.result()


@contextmanager
def board() -> Iterator[Board]:
    """Start a board on the driver's node, which the run needs anyway; it ends with the block."""
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    handle = (
        ray.remote(_Board)
        .options(num_cpus=0, max_restarts=0, scheduling_strategy=strategy)
        .remote()
    )
    try:
        yield Board(handle)
    finally:
        ray.kill(handle)
