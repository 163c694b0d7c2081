"""Filesystems of fsspec as this project wants them: options, versions, reads that are retried."""

import datetime as dt
import io
import os
from collections.abc import Callable
from typing import Any, cast

from pipelines.retry import StorageError, storage_error
from pipelines.uris import display_text, scheme_of, strip_credentials


def version_of(info: dict[str, Any]) -> str:
    """Return what changes when the content does: the ETag, else size and modification time."""
    tag = info.get("ETag") or info.get("etag") or info.get("md5") or info.get("content_md5")
    if tag:
        return str(tag).strip('"')
    stamp: Any = info.get("mtime") or info.get("created") or info.get("LastModified") or ""
    if isinstance(stamp, float):
        stamp = round(stamp * 1e9)
    elif isinstance(stamp, dt.datetime):
        stamp = stamp.timestamp()
    return f"{info.get('size', info.get('Size', 0))}-{stamp}"


def modified_of(info: dict[str, Any]) -> float:
    """Return when an object was modified, seconds since 1970; 0 when unknown."""
    for key in ("LastModified", "mtime", "created", "last_modified", "updated"):
        value = info.get(key)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, dt.datetime):
            return float(value.timestamp())
    return 0.0


def resolve(uri: str) -> tuple[Any, str]:
    """Find filesystem and path without interpreting special characters of names."""
    import fsspec

    scheme = scheme_of(uri)
    try:
        if not scheme:
            return fsspec.filesystem("file"), os.path.abspath(uri)  # noqa: PTH100 - keeps ".."-free text
        if scheme in ("s3", "s3a"):
            path = uri.split("://", 1)[1].strip("/")
            bucket = path.partition("/")[0]
            if "@" in bucket or (":" in bucket and not bucket.startswith("arn:")):
                # No bucket is named so. The library would repeat the whole in its complaint.
                raise StorageError(
                    f"{display_text(strip_credentials(uri))} was given with credentials in it, "
                    "which are not used from there: set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role."
                )
            return fsspec.filesystem("s3", **_s3_options()), path
        fs, root = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError, OSError) as error:
        raise storage_error(error, "open", uri) from error
    return fs, str(root)


def _s3_options() -> dict[str, Any]:
    """Settings that S3-compatible stores need, unless the user has chosen others."""
    from fsspec.config import conf

    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        os.environ.setdefault(name, "when_required")
    # One try below ours: three nested layers of retries would multiply to minutes.
    config = {"read_timeout": 20, "retries": {"total_max_attempts": 1}}
    config.update(conf.get("s3", {}).get("config_kwargs", {}))
    return {"use_listings_cache": False, "config_kwargs": config}


class RetryingFile(io.RawIOBase):
    """A remote file whose reads are tried again: the position moves only when a read succeeds."""

    def __init__(self, file: Any, run: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._file = file
        self._run = run

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is read yet."""
        return int(self._file.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        """Read bytes from the position on, again after errors that pass."""
        position = self._file.tell()

        def attempt() -> bytes:
            self._file.seek(position)
            return cast(bytes, self._file.read(size))

        return cast(bytes, self._run("read", attempt))

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
            super().close()
