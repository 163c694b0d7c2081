"""Child processes that do not outlive their parent."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """In a process of :mod:`multiprocessing`: end it when its parent is gone, however."""
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("a worker has a parent process")

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
