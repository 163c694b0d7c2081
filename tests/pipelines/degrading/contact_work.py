"""What a child process of a contact sheet may be made to do."""

import os
import time
from multiprocessing.connection import Connection

from actors.decode import DecodeConfig


def troubled(pipe: Connection, _: DecodeConfig, __: float) -> None:
    """Die, hang or answer, as the request's address says."""
    pipe.send("ready")
    while True:
        request = pipe.recv()
        if request.uri == "crash":
            os._exit(7)
        if request.uri == "hang":
            time.sleep(600)
        pipe.send([request.uri, os.getpid()])
