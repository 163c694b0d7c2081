"""Ends a local Ray cluster whose driver was killed.

Ray's own helper processes notice the loss of their driver within a minute or so. This small process
notices at once: it waits on a pipe that only the driver holds open, and then ends the processes
that the driver had started, each told by id and start time, so that no stranger with a recycled id
is hit.

    python reaper.py PID:START …     (standard input: the pipe)
"""

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil

PATIENCE = 1.0  # seconds that what is ending anyway gets


def watch(roots: list[psutil.Process]) -> "subprocess.Popen[bytes]":
    """Start the reaper over ``roots`` and their children; close its ``stdin`` at the end."""
    names = [f"{p.pid}:{p.create_time()}" for p in roots]
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).resolve()), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C at the terminal is for the driver
    )


def main() -> None:
    """Wait for the end of standard input, then end what is left."""
    roots = [name.split(":") for name in sys.argv[1:]]
    sys.stdin.buffer.read()
    left: list[psutil.Process] = []
    for pid, started in roots:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(pid))
            if process.create_time() == float(started):
                left += [*process.children(recursive=True), process]
    _, left = psutil.wait_procs(left, timeout=PATIENCE)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    main()
