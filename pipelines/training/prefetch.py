"""The next items of an iterator are made in a thread while the present one is worked on."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
AHEAD = 2


def prefetched(items: Iterable[T], ahead: int = AHEAD) -> Iterator[T]:
    """Yield ``items``; up to ``ahead`` of them wait, and one more is made meanwhile.

    An error of the iterator is raised here, where its item would have come. When the consumer stops
    early, so does the thread.
    """
    ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(ahead)
    stop = threading.Event()

    def put(kind: str, value: T | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if stop.is_set():
                    return
            put("end", None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
            put("error", error)

    thread = threading.Thread(target=work, daemon=True, name="prefetch")
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error" and isinstance(value, BaseException):
                raise value
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
