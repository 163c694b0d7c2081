"""Virtual variants as files, for programs and functions that need one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipelines.storage import open_uri

if TYPE_CHECKING:
    from actors.artefacts.studio import Studio


class VariantMaker:
    """Writes virtual variants as video files, one at a time; a context manager.

    All of them are made in one thread, whoever asks: MediaPipe has one graph for each process. The
    latest source stays decoded for its next variant.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="variants")
        self._studio: Studio | None = None

    def __enter__(self) -> "VariantMaker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def __call__(self, row: dict[str, Any], path: Path) -> None:
        """Write a variant.

        Args:
            row: Fields of a :class:`pipelines.benchmarking.variants.Variant`.
            path: Where; its folder is there.

        Raises:
            VideoError: The source does not allow it.
            StorageError: The source cannot be read.
        """
        self._thread.submit(self._make, row, path).result()

    def _make(self, row: dict[str, Any], path: Path) -> None:
        from actors.artefacts.chain import parse_chain
        from actors.artefacts.studio import Studio, write_video
        from actors.features import FeaturesConfig
        from actors.types import Timings

        if self._studio is None:
            self._studio = Studio(FeaturesConfig(), open_uri)
        key = f"{row['source']} {row['uri']} {row['version']}"
        reader = self._studio.read(row["uri"], key, parse_chain(row["artefacts"]), Timings())
        with path.open("w+b") as file:
            write_video(reader, file)

    def _close(self) -> None:
        if self._studio is not None:
            self._studio.close()
