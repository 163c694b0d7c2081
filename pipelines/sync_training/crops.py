"""Face crops and sound of a corpus, as SyncNet reads them, on the worker pool of extraction.

A row is a clip of which at least one window can be measured: its crops at the network's face size,
which crop shows in which frame, and its sound. Silent clips and clips without a face are left out;
a video without any usable clip is a failure with its reason.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.errors import VideoError
from actors.features import FeaturesConfig
from actors.types import Row, Timings, VideoRef
from pipelines.messages import Processor, ProcessorInfo, Progress, RunContext, VideoEnd
from pipelines.processors import end_of, limit_threads
from pipelines.storage import open_uri, strip_credentials

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "crops/"
VERSION = "1"  # raise it when the same video gives other crops
# Reason of a clip that is left out -> what is said of a video without any other clip.
WHY = {
    "no_sound": "the video has no sound, or none in any clip",
    "silent_sound": "the sound track is digital silence",
    "no_face": "no face was found in any clip",
    "too_short": "no clip has a window of 0.2 s with a face in all its frames, and its sound",
}


@dataclass(frozen=True, slots=True)
class CropFactory:
    """Makes the processor inside each worker."""

    config: FeaturesConfig
    face: int

    def __call__(self, threads: int) -> Processor:
        """Make the processor; called in the worker."""
        return CropProcessor(self, threads)


class CropProcessor:
    """Turns videos into crops and sound."""

    def __init__(self, factory: CropFactory, threads: int) -> None:
        self._factory, self._threads = factory, threads

    def load(self) -> ProcessorInfo:
        """Load detector and mesh."""
        from actors.decode import VERSION as DECODE_VERSION
        from actors.faces import VERSION as FACES_VERSION
        from actors.prepare import Preparer

        limit_threads(self._threads)
        self._preparer = Preparer(self._factory.config)
        return ProcessorInfo(
            extractors={"crops": VERSION, "decode": DECODE_VERSION, "faces": FACES_VERSION},
            weights={},
            demonstration=False,
            struct_fields={},
            rows=CropRows(self._factory.face),
        )

    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        """Yield a row for each usable clip, then what is left of the video.

        Raises:
            VideoError: There is no usable clip, or it is a damaged variant of another video.
        """
        if ref.artefacts:
            raise VideoError(
                "open",
                "artefacts",
                "SyncNet learns from clean video, and this is a damaged variant",
            )
        limit_threads(self._threads)
        left_out: Counter[str] = Counter()
        usable = 0
        with open_uri(ref.uri) as file:
            video = self._preparer.open(file, ref.video_id, timings, progress.beat)
            for row in video.rows:
                found = crop_row(row, self._factory.face)
                if isinstance(found, str):
                    left_out[found] += 1
                else:
                    usable += 1
                    yield found
            if not usable:
                reason = left_out.most_common(1)[0][0] if left_out else "too_short"
                raise VideoError("features", reason, WHY[reason])
            yield end_of(video)

    def ahead(self, coming: list[VideoRef]) -> None:
        """Nothing to begin: there are no helper processes."""

    def close(self) -> None:
        """Nothing to end: there are no helper processes."""


def crop_row(row: Row, face: int) -> Row | str:
    """Return what is stored of a prepared clip, or why it is left out (a key of :data:`WHY`)."""
    from actors.sync import fit_faces, heard_frames, window_mask
    from model.syncnet import window_count

    if not row["has_sound"]:
        return "no_sound"
    index, samples = heard_frames(row)
    if not samples.any():
        return "silent_sound"
    if not (index >= 0).any():
        return "no_face"
    whole = window_mask(index >= 0, window_count(len(index), len(samples)))
    if not whole.any():
        return "too_short"
    crops, sound = fit_faces(row["sync_crops"], face).tobytes(), samples.astype("<i2").tobytes()
    content = blake2b(digest_size=8)
    for part in (crops, index.astype("<i2").tobytes(), sound):
        content.update(part)
    return {
        "clip_index": row["clip_index"],
        "start_s": row["start_s"],
        "end_s": row["end_s"],
        "windows": len(whole),
        "run": longest_run(whole),
        "face": face,
        "content": content.hexdigest(),
        "crops": crops,
        "index": index.astype(np.int16),
        "sound": sound,
    }


def longest_run(mask: Any) -> int:
    """Return the length of the longest stretch of true values."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False]))
    return int((edges[1::2] - edges[::2]).max(initial=0))


@dataclass(frozen=True, slots=True)
class CropRows:
    """A clip as shards store it.

    ``windows``: windows of the measure; ``run``: most of them in a row with a face in all frames;
    ``content``: digest of the next three; ``crops``: [k, face, face, 3] RGB bytes; ``index``:
    [frames] which of them shows, -1 for none; ``sound``: 16 kHz int16, little endian.
    """

    face: int

    def schema(self) -> "pa.Schema":
        """Return the schema of the shards."""
        import pyarrow as pa

        text, number = pa.string(), pa.int32()
        kinds: dict[str, Any] = {
            "video_id": text,
            "uri": text,
            "source_version": text,
            "generator": text,
            "speaker": text,
            "fingerprint": text,
            "code_version": text,
            "clip_index": number,
            "start_s": pa.float64(),
            "end_s": pa.float64(),
            "windows": number,
            "run": number,
            "face": number,
            "content": text,
            "crops": pa.large_binary(),
            "index": pa.list_(pa.int16()),
            "sound": pa.binary(),
        }
        return pa.schema(list(kinds.items()))

    def trim(self, row: Row) -> Row:
        """Return the row: there is nothing in it that is not stored."""
        return row

    def pack(
        self,
        rows: list[Row],
        ref: VideoRef,
        info: ProcessorInfo,  # noqa: ARG002 - of the interface
        run: RunContext,
    ) -> "pa.RecordBatch":
        """Add identity and provenance to rows of a video, and pack them."""
        import pyarrow as pa

        shared = {
            "video_id": ref.video_id,
            "uri": strip_credentials(ref.uri),
            "source_version": ref.version,
            "generator": ref.generator,
            "speaker": ref.speaker,
            "fingerprint": run.fingerprint,
            "code_version": run.code_version,
        }
        whole = [{**row, **shared} for row in rows]
        schema = self.schema()
        return pa.RecordBatch.from_arrays(
            [pa.array([row[field.name] for row in whole], field.type) for field in schema],
            schema=schema,
        )
