"""Removes what dead processes left in an output; only things that bear this project's names."""

import contextlib
import errno
from pathlib import Path

from pipelines.storage import (
    TEMPORARY,
    MissingError,
    StorageError,
    Store,
    is_unsupported,
    process_token,
)


def clean_leftovers(store: Store, uploads: str = "features/part-") -> int:
    """Remove temporary files of other processes and unfinished uploads of shards; returns how many.

    Call it only while holding the run's lock: whoever still writes there belongs to a run that has
    lost it.
    """
    return _unfinished_uploads(store, uploads) if store.is_s3 else _temporary_files(store)


def _temporary_files(store: Store) -> int:
    if not store.exists("_tmp"):
        return 0
    removed = 0
    for info in store.list("_tmp/"):
        if TEMPORARY.match(info.name) and not info.name.startswith(f"_tmp/{process_token()}-"):
            store.delete(info.name)
            removed += 1
    if store.is_local:
        remove_empty(Path(store.path("_tmp")))
    return removed


def remove_empty(folder: Path) -> None:
    """Remove a folder if nothing is in it."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


def _abort(store: Store, target: dict[str, str]) -> None:
    action = lambda: store.fs.call_s3("abort_multipart_upload", **target)  # noqa: E731
    store.run("abort an unfinished upload of", "", action)


def _unfinished_uploads(store: Store, prefix: str) -> int:
    bucket, _, key = store.path(prefix).partition("/")
    options = {"Bucket": bucket, "Prefix": key}
    removed = 0
    while True:
        try:
            page = store.run(
                "list unfinished uploads of",
                "",
                lambda: store.fs.call_s3("list_multipart_uploads", **options),
            )
        except MissingError:
            return removed  # some servers say so when a bucket has no uploads
        except StorageError as error:
            if is_unsupported(error):
                return removed  # the server keeps no list, so there is nothing to ask for
            raise
        for upload in page.get("Uploads", ()):
            if not upload["Key"].startswith(key):
                continue
            target = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            with contextlib.suppress(MissingError):
                _abort(store, target)
            removed += 1
        if not page.get("IsTruncated"):
            return removed
        options["KeyMarker"] = page["NextKeyMarker"]
        options["UploadIdMarker"] = page["NextUploadIdMarker"]
