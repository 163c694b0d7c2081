"""Where a variant is as a file: stored, fetched, or made of its source for a moment."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from actors.errors import VideoError
from pipelines.benchmarking.answers import JudgeError
from pipelines.benchmarking.variants import Variant
from pipelines.paths import suffix_of
from pipelines.retry import storage_error
from pipelines.storage import StorageError, open_uri
from pipelines.uris import scheme_of

MADE_SUFFIX: Final = ".mov"  # as jobs/degrade.py writes them


class Materialise(Protocol):
    """Writes a virtual variant as a video file."""

    def __call__(self, row: dict[str, Any], path: Path) -> None:
        """Apply ``row["artefacts"]`` to the video at ``row["uri"]``.

        Raises:
            VideoError: It cannot be done.
        """


@contextmanager
def local_file(variant: Variant, materialise: Materialise) -> Iterator[Path]:
    """Have a variant as a local file for the length of the block.

    Raises:
        JudgeError: The variant cannot be made or read; with the reason of the video.
        StorageError: There is no room for it here.
    """
    # Clean ones of a virtual corpus are made too: neither codec nor rate may tell them from others.
    made = bool(variant.artefacts)
    if not made and not scheme_of(variant.uri):
        yield Path(variant.uri)
        return
    with tempfile.TemporaryDirectory(prefix="talkmos-") as folder:
        suffix = MADE_SUFFIX if made else f".{suffix_of(variant.uri)}"
        path = Path(folder) / f"video{suffix}"
        try:
            if made:
                materialise(asdict(variant), path)
            else:
                with open_uri(variant.uri) as file, path.open("wb") as copy:
                    shutil.copyfileobj(file, copy)
        except VideoError as error:
            raise JudgeError(error.reason, error.message, transient=error.transient) from None
        except StorageError as error:
            raise JudgeError("storage", str(error), transient=error.transient) from None
        except OSError as error:  # of this disk, and no fault of the video
            raise storage_error(error, "write", str(path)) from error
        yield path
