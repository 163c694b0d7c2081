"""Making stored variants: one source in, a video for each of its variants out."""

import hashlib
import io
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from actors.artefacts.registry import ARTEFACTS
from actors.errors import VideoError
from actors.types import Row, Timings, VideoRef
from pipelines.degrading.config import DegradeConfig
from pipelines.degrading.plan import CLEAN, read_text
from pipelines.messages import Processor, ProcessorInfo, Progress, RunContext, VideoEnd
from pipelines.processors import limit_threads
from pipelines.storage import StorageError, Store, open_uri
from pipelines.worker import WRITE_SECONDS

if TYPE_CHECKING:
    import pyarrow as pa

    from actors.artefacts.source import DamagedReader

FOLDER = "made/"  # rows of what was made
VIDEOS = "videos/"
VARIANT_SECONDS = 900.0  # what making one variant may take
LONGEST_PART, LONGEST_ID = 200, 800  # bytes of names that disks and object stores take


def folder_of(video_id: str) -> str:
    """Return the folder of a source's variants: its id where that is a path below the output.

    Manifests may give any text as id. What would leave the folder, be hidden, be too long for a
    name or look like a video of another source becomes ``_`` and a digest.
    """
    parts = video_id.split("/")
    plain = len(video_id.encode()) <= LONGEST_ID and all(
        part
        and part[0] not in "._"
        and not part.endswith(".mov")
        and part.isprintable()
        and len(part.encode()) <= LONGEST_PART
        for part in parts
    )
    if plain:
        return video_id
    return f"_{hashlib.blake2b(video_id.encode(), digest_size=16).hexdigest()}"


def is_variant(file: str) -> bool:
    """Say whether a file bears a name that is given here: of a variant, without its folder."""
    stem, dot, suffix = file.rpartition(".")
    if not dot or suffix != "mov":
        return False
    steps = [step.rpartition("-") for step in stem.split("+")]
    return stem == CLEAN or all(
        kind in ARTEFACTS and re.fullmatch(r"\d{3}|1000", severity) for kind, _, severity in steps
    )


def made_schema() -> "pa.Schema":
    """Return the columns of the rows: one a variant, also of those that could not be made."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("video_id", text),  # of the source, by the name that shards are settled by
            ("source_version", text),
            ("name", text),
            ("uri", text),  # below the output; null when it could not be made
            ("digest", text),
            ("bytes", pa.int64()),
            ("reason", text),  # why it could not be made
            ("message", text),
            ("clip_index", pa.int32()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("missing_s", pa.float64()),  # what the source's header promises and it does not hold
        ]
    )


@dataclass(frozen=True, slots=True)
class MadeRows:
    """How rows of variants are stored."""

    def schema(self) -> "pa.Schema":
        """Return the schema of the shards."""
        return made_schema()

    def trim(self, row: Row) -> Row:
        """Return the row: there is nothing in it that is not stored."""
        return row

    def pack(
        self,
        rows: list[Row],
        ref: VideoRef,
        info: ProcessorInfo,  # noqa: ARG002 - of the protocol
        run: RunContext,  # noqa: ARG002
    ) -> "pa.RecordBatch":
        """Add the source, and pack."""
        import pyarrow as pa

        shared = {"video_id": ref.video_id, "source_version": ref.version}
        schema = made_schema()
        complete = [{**row, **shared} for row in rows]
        return pa.RecordBatch.from_arrays(
            [pa.array([row[field.name] for row in complete], field.type) for field in schema],
            schema=schema,
        )


@dataclass(frozen=True, slots=True)
class DegradeFactory:
    """Makes the processor inside each worker. What is made of a source stands in its VideoRef.

    Attributes:
        config: All settings.
        out: URI of the output.
    """

    config: DegradeConfig
    out: str

    def __call__(self, threads: int) -> Processor:
        """Make the processor; called in the worker."""
        return DegradeProcessor(self, threads)


class DegradeProcessor:
    """Writes the variants of one source after another."""

    def __init__(self, factory: DegradeFactory, threads: int) -> None:
        self._factory, self._threads = factory, threads
        self._store = Store.at(factory.out)
        self._source = ""  # URI of the one at hand

    def load(self) -> ProcessorInfo:
        """Make ready; the face models come with the first artefact that asks for a face."""
        from actors.artefacts.studio import Studio
        from actors.features import FeaturesConfig

        self._studio = Studio(FeaturesConfig(decode=self._factory.config.decode), self._open)
        return ProcessorInfo({}, {}, demonstration=False, struct_fields={}, rows=MadeRows())

    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        """Yield a row for each variant, then the end."""
        limit_threads(self._threads)
        self._source = ref.uri
        missing_s = 0.0
        for number, (name, chain) in enumerate(read_text(ref.artefacts)):
            key = f"{ref.video_id} {ref.version}"
            reader = self._studio.read(ref.uri, key, chain, timings, progress.beat)
            limit = self._factory.config.store.max_seconds
            if reader.duration_s > limit:
                raise VideoError(
                    "decode",
                    "too_long",
                    f"The source lasts {reader.duration_s:.0f} s, more than the limit of "
                    f"{limit:g} s (store.max_seconds): cut it, raise the limit, or make a virtual "
                    "corpus.",
                )
            stored = f"{VIDEOS}{folder_of(ref.video_id)}/{name}.mov"
            row = self._one(stored, reader, progress, timings)
            missing_s = max(0.0, reader.info.duration_s - reader.duration_s)
            span = {"start_s": 0.0, "end_s": reader.duration_s, "missing_s": missing_s}
            yield {**row, **span, "clip_index": number, "name": name}
        yield VideoEnd(0.0, missing_s)

    def ahead(self, coming: list[VideoRef]) -> None:
        """Nothing to begin: there are no helper processes."""

    def close(self) -> None:
        """Free the source at hand."""
        self._studio.close()

    def _open(self, uri: str) -> BinaryIO:
        """Open the source or a donor; a donor that is gone costs its variants, not the source."""
        try:
            return open_uri(uri)
        except StorageError as error:
            if uri == self._source:
                raise
            raise VideoError("sound", "bad_donor", str(error), transient=error.transient) from error

    # --- one variant

    def _one(
        self, name: str, reader: "DamagedReader", progress: Progress, timings: Timings
    ) -> dict[str, Any]:
        """Make a variant and store it; what its artefacts cannot do to this source is data."""
        from actors.artefacts.studio import write_video
        from actors.pixels import Clock

        clock = Clock(timings)
        with tempfile.TemporaryFile(prefix="talkmos-") as file:
            try:
                with clock("degrade"), progress.alive("degrade", VARIANT_SECONDS):
                    write_video(reader, cast(BinaryIO, file))
            except VideoError as error:
                if error.transient:  # another run may succeed: a failure of the whole source
                    raise
                nothing = dict.fromkeys(("uri", "digest", "bytes"))
                return {**nothing, "reason": error.reason, "message": error.message}
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            try:
                with clock("write"), progress.alive("write", WRITE_SECONDS):
                    self._store.publish(cast(BinaryIO, file), name)
            except StorageError as error:  # of the output: no fault of the source
                raise VideoError(
                    "write", "unwritable_output", str(error), transient=True
                ) from error
        return {"uri": name, "digest": digest, "bytes": size, "reason": None, "message": None}
