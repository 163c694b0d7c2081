"""Storage behind one small interface: a local disk, S3 and whatever else fsspec serves.

Objects appear whole or not at all: a local file is written under ``_tmp/``, flushed to the disk and
renamed; an object is one PUT or one completed multipart upload. Listings are always fresh. Every
operation is tried again after errors that pass, and ends in :class:`StorageError` with advice.
"""

import contextlib
import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from pipelines.filesystems import RetryingFile, modified_of, resolve, version_of
from pipelines.retry import (
    MissingError,
    RetryConfig,
    StorageError,
    call,
    is_conflict,
    is_unsupported,
)
from pipelines.uris import display_text, scheme_of, strip_credentials

__all__ = [
    "MissingError",
    "ObjectInfo",
    "RetryConfig",
    "StorageError",
    "Store",
    "display_text",
    "is_unsupported",
    "open_uri",
    "strip_credentials",
]

T = TypeVar("T")

SINGLE_PUT_BYTES = 256 * 2**20
PART_BYTES = 32 * 2**20
READ_BLOCK_BYTES = 8 * 2**20
TEMPORARY = re.compile(r"^_tmp/[0-9a-f]{8}-[0-9a-f]{16}\.part$")
_PROCESS = secrets.token_hex(4)  # tells this process's temporary files from those of dead ones
_PROCESS_ID = os.getpid()


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing; ``version`` changes when the content does."""

    name: str  # relative to the root of the store
    size: int
    version: str
    modified: float = 0.0  # seconds since 1970, 0 when unknown


class Store:
    """A folder or prefix. Make it with :meth:`at`; pickled, it opens anew where it arrives."""

    def __init__(self, uri: str, fs: Any, root: str, retry: RetryConfig) -> None:
        self.raw_uri = uri
        self.uri = strip_credentials(uri)
        self.fs = fs
        self.root = root.rstrip("/") or "/"
        self.retry = retry
        protocols = fs.protocol if isinstance(fs.protocol, tuple | list) else (fs.protocol,)
        self.is_local = "file" in protocols
        self.is_s3 = "s3" in protocols

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the same place again in another process: connections do not travel."""
        return (Store.at, (self.raw_uri, self.retry))

    @classmethod
    def at(cls, uri: str | os.PathLike[str], retry: RetryConfig | None = None) -> "Store":
        """Open a folder or prefix; nothing is read or made yet.

        S3 takes its settings from the usual variables (``AWS_*``, ``AWS_ENDPOINT_URL``) and from
        fsspec's own configuration.

        Raises:
            StorageError: The kind of URI is unknown or its package is missing.
        """
        text = os.fspath(uri)
        fs, root = resolve(text)
        if not scheme_of(text):
            text = root
        return cls(text.rstrip("/") or "/", fs, root, retry or RetryConfig())

    # --- names

    def path(self, name: str) -> str:
        """Return the full path of ``name`` as the filesystem wants it."""
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    def display(self, name: str) -> str:
        """Return where ``name`` is, for messages: without credentials or control characters."""
        return display_text(f"{self.uri}/{name}" if name else self.uri)

    def run(self, what: str, name: str, action: Callable[[], T]) -> T:
        """Run ``action`` with retries; ``what`` and ``name`` go into the message of a failure."""
        return call(self.retry, what, f"{self.uri}/{name}" if name else self.uri, action)

    # --- reading

    def exists(self, name: str) -> bool:
        """Say whether the object (or folder) exists now."""

        def look() -> bool:
            self.fs.invalidate_cache()
            try:
                self.fs.info(self.path(name))
            except FileNotFoundError:
                return False
            return True

        return self.run("look for", name, look)

    def read_bytes(self, name: str) -> bytes:
        """Read a whole object.

        Raises:
            MissingError: It does not exist.
        """
        return cast(bytes, self.run("read", name, lambda: self.fs.cat_file(self.path(name))))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Read bytes ``start`` to ``stop`` (exclusive) of an object in one request."""
        action = lambda: self.fs.cat_file(self.path(name), start=start, end=stop)  # noqa: E731
        return cast(bytes, self.run("read", name, action))

    def open(self, name: str, block_bytes: int = READ_BLOCK_BYTES) -> BinaryIO:
        """Open an object for reading in ranges; reads are retried like everything else."""
        if self.is_local:
            path = Path(self.path(name))
            state = self.run("open", name, path.stat)
            if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for its other end
                raise StorageError(
                    f"cannot open {self.display(name)}: it is a folder, a pipe or a device, not a "
                    "file."
                )
            return cast(BinaryIO, self.run("open", name, lambda: path.open("rb")))
        options = {"block_size": block_bytes, "cache_type": "readahead"}
        file = self.run("open", name, lambda: self.fs.open(self.path(name), "rb", **options))
        # Size and version are looked up lazily by some filesystems: a missing object shows here.
        self.run("open", name, lambda: getattr(file, "size", None))
        return cast(BinaryIO, RetryingFile(file, lambda w, a: self.run(w, name, a)))

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """List the objects whose names start with ``prefix``, at any depth, sorted by name."""
        return sorted(self.iter_objects(prefix), key=lambda info: info.name)

    def iter_objects(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects below ``prefix`` page by page; never from a cache.

        On other stores than S3, ``prefix`` must name a folder, or a folder and the beginning of a
        name.
        """
        if self.is_s3:
            yield from self._iter_s3(prefix)
            return
        folder = self.path(prefix.rpartition("/")[0])

        def find() -> dict[str, dict[str, Any]]:
            self.fs.invalidate_cache()
            found = self.fs.find(folder, detail=True)
            return found if isinstance(found, dict) else {}

        for path, info in self.run("list", prefix, find).items():
            name = path[len(self.root.rstrip("/")) + 1 :]
            if name.startswith(prefix) and info.get("type") == "file":
                yield ObjectInfo(name, int(info["size"]), version_of(info), modified_of(info))

    def _iter_s3(self, prefix: str) -> Iterator[ObjectInfo]:
        bucket, _, key = self.root.partition("/")
        base = f"{key}/" if key else ""
        options = {"Bucket": bucket, "Prefix": base + prefix}
        while True:
            page = self.run("list", prefix, lambda: self.fs.call_s3("list_objects_v2", **options))
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    yield ObjectInfo(
                        item["Key"][len(base) :], item["Size"], version_of(item), modified_of(item)
                    )
            if not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    # --- writing

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a whole object at once, over one of the same name if there is one."""
        self.publish(io.BytesIO(data), name)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless it exists; False means that it did.

        Stores without conditional writes overwrite instead: see :mod:`pipelines.lock` for how to
        live with that.
        """
        if self.is_s3:
            return self._conditional_put(name, data, {"IfNoneMatch": "*"})
        if self.is_local:
            path = Path(self.path(name))

            def make() -> bool:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = self._write_temporary(io.BytesIO(data))
                try:
                    os.link(temporary, path)  # fails when it exists, and never shows half of it
                except FileExistsError:
                    return False
                finally:
                    temporary.unlink()
                return True

            return self.run("create", name, make)
        if self.exists(name):
            return False
        self.write_bytes(name, data)
        return True

    def _conditional_put(self, name: str, data: bytes, condition: dict[str, str]) -> bool:
        bucket, _, key = self.path(name).partition("/")

        def put() -> bool:
            try:
                self.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
            except Exception as error:
                if is_conflict(error):
                    return False
                raise
            return True

        return self.run("create", name, put)

    def publish(self, local_file: BinaryIO, name: str) -> None:
        """Stream a local (possibly unlinked) file to the store as one object."""
        size = local_file.seek(0, io.SEEK_END)
        if self.is_local:
            self.run("write", name, lambda: self._publish_local(local_file, name))
        elif self.is_s3 and size > SINGLE_PUT_BYTES:
            self._publish_parts(local_file, name, size)
        elif self.is_s3:
            bucket, _, key = self.path(name).partition("/")

            def put() -> None:
                local_file.seek(0)
                # Small bodies as bytes: they can be sent again by the library without a seek.
                body = local_file.read() if size <= PART_BYTES else local_file
                self.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=body)

            self.run("write", name, put)
        else:

            def pipe() -> None:
                local_file.seek(0)
                self.fs.pipe_file(self.path(name), local_file.read())

            self.run("write", name, pipe)

    def _write_temporary(self, source: BinaryIO) -> Path:
        folder = Path(self.root) / "_tmp"
        temporary = folder / f"{process_token()}-{secrets.token_hex(8)}.part"
        for again in range(20, -1, -1):
            source.seek(0)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with temporary.open("xb") as file:
                    shutil.copyfileobj(source, file, PART_BYTES // 4)
                    file.flush()
                    os.fsync(file.fileno())
                return temporary
            except (FileNotFoundError, FileExistsError):
                # Another writer removed the empty folder: before the file was made in it, or
                # between mkdir's finding it there and looking whether it is a folder.
                if not again:
                    raise
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        raise AssertionError("unreachable")

    def _publish_local(self, source: BinaryIO, name: str) -> None:
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._write_temporary(source)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        with contextlib.suppress(OSError):
            temporary.parent.rmdir()  # stays when others are writing
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _publish_parts(self, source: BinaryIO, name: str, size: int) -> None:
        bucket, _, key = self.path(name).partition("/")
        target = {"Bucket": bucket, "Key": key}
        part_bytes = max(PART_BYTES, -(-size // 9_000))  # a store takes at most 10,000 parts

        def request(method: str, **options: Any) -> dict[str, Any]:
            send = lambda: self.fs.call_s3(method, **target, **options)  # noqa: E731
            return cast(dict[str, Any], self.run("write", name, send))

        upload = request("create_multipart_upload")["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            source.seek(0)
            while block := source.read(part_bytes):
                number = len(parts) + 1
                tag = request("upload_part", UploadId=upload, PartNumber=number, Body=block)["ETag"]
                parts.append({"PartNumber": number, "ETag": tag})
            try:
                request(
                    "complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": parts}
                )
            except MissingError:
                # An earlier try may have completed the upload although its answer was an error.
                if not any(o.name == name and o.size == size for o in self.iter_objects(name)):
                    raise
        except BaseException:
            # The first error is the one to tell; leftovers are removed when the next run starts.
            with contextlib.suppress(StorageError):
                request("abort_multipart_upload", UploadId=upload)
            raise

    def delete(self, name: str) -> None:
        """Delete an object; one that is already gone is no error."""

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(self.path(name))

        self.run("delete", name, remove)


def open_uri(uri: str, retry: RetryConfig | None = None) -> BinaryIO:
    """Open one video or other file by its URI for reading with seeks.

    Raises:
        MissingError: It does not exist.
        StorageError: It cannot be opened for another reason.
    """
    folder, _, name = uri.rpartition("/")
    if not scheme_of(uri):
        path = Path(uri).absolute()
        folder, name = str(path.parent), path.name
    return Store.at(folder or "/", retry).open(name)


def process_token() -> str:
    """Return the 8 hex digits that mark the temporary files of this process."""
    global _PROCESS, _PROCESS_ID
    if os.getpid() != _PROCESS_ID:
        _PROCESS, _PROCESS_ID = secrets.token_hex(4), os.getpid()
    return _PROCESS
