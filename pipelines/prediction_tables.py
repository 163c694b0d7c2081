"""Predictions as Parquet: ``predictions.parquet`` (videos), ``predictions_clips.parquet`` (clips).

A missing number is NaN in arrays and null in the files.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.tasks import TASKS
from pipelines.predictions import (
    ClipPredictions,
    Floats,
    Provenance,
    VideoPredictions,
    VideoTable,
)
from pipelines.storage import MissingError, Store, strip_credentials
from pipelines.train_errors import TrainInputError

if TYPE_CHECKING:
    import pyarrow as pa

VIDEOS_NAME = "predictions.parquet"
CLIPS_NAME = "predictions_clips.parquet"
FORMAT = b"1"


def video_schema() -> "pa.Schema":
    """Columns of ``predictions.parquet``: one row a video."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    fields = [
        pa.field("video_id", text, nullable=False),
        pa.field("uri", text, nullable=False),
        pa.field("split", text),
        pa.field("generator", text),
        pa.field("speaker", text),
        pa.field("clips", number, nullable=False),
        pa.field("frames", number, nullable=False),  # valid ones
    ]
    for task in TASKS:
        fields += [
            pa.field(f"{task}_predicted", pa.float32()),  # [1, 5]
            pa.field(f"{task}_reason", text),  # why there is no score
            pa.field(f"{task}_label", pa.float64()),  # [1, 5]
            pa.field(f"{task}_std", pa.float64()),  # of the raters' scores
            pa.field(f"{task}_n", pa.float64()),  # raters
        ]
    fields += [
        pa.field("demonstration", pa.bool_(), nullable=False),
        pa.field("fingerprint", text, nullable=False),
        pa.field("checkpoint", text, nullable=False),
    ]
    return pa.schema(fields, metadata={b"talkmos.predictions": FORMAT})


def clip_schema() -> "pa.Schema":
    """Columns of ``predictions_clips.parquet``: one row a clip."""
    import pyarrow as pa

    fields = [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("clip_index", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),  # valid ones
        pa.field("split", pa.string()),
        *(pa.field(f"{task}_predicted", pa.float32()) for task in TASKS),
    ]
    return pa.schema(fields, metadata={b"talkmos.predictions": FORMAT})


def video_rows(predictions: VideoPredictions) -> "pa.Table":
    """Return the table of the videos, in their order."""
    import pyarrow as pa

    videos, made = predictions.videos, predictions.provenance
    columns: dict[str, Any] = {
        "video_id": videos.video_id,
        "uri": [strip_credentials(uri) for uri in videos.uri],
        "split": videos.split,
        "generator": videos.generator,
        "speaker": videos.speaker,
        "clips": predictions.clips,
        "frames": predictions.frames,
        "demonstration": [made.demonstration] * len(videos),
        "fingerprint": [made.fingerprint] * len(videos),
        "checkpoint": [made.checkpoint] * len(videos),
    }
    for t, task in enumerate(TASKS):
        columns[f"{task}_predicted"] = _nullable(predictions.scores[:, t].astype(np.float32))
        columns[f"{task}_reason"] = [reasons[t] for reasons in predictions.reasons]
        columns[f"{task}_label"] = _nullable(videos.labels[:, t])
        columns[f"{task}_std"] = _nullable(videos.std[:, t])
        columns[f"{task}_n"] = _nullable(videos.raters[:, t])
    schema = video_schema()
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def clip_rows(clips: ClipPredictions, videos: VideoTable) -> "pa.Table":
    """Return the table of the clips, sorted by video and clip."""
    import pyarrow as pa

    order = np.lexsort((clips.clip_index, clips.video_id))
    split = dict(zip(videos.video_id, videos.split, strict=True))
    names = clips.video_id[order].tolist()
    judged = clips.judged[order].astype(np.float32)
    columns: dict[str, Any] = {
        "video_id": names,
        "clip_index": clips.clip_index[order],
        "start_s": clips.start_s[order],
        "end_s": clips.end_s[order],
        "frames": clips.frames[order],
        "split": [split[name] for name in names],
        **{f"{task}_predicted": _nullable(judged[:, t]) for t, task in enumerate(TASKS)},
    }
    schema = clip_schema()
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def _nullable(values: NDArray[Any]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(values, from_pandas=True)  # NaN becomes null


def write_predictions(store: Store, predictions: VideoPredictions, clips: ClipPredictions) -> None:
    """Write both tables, each as one object.

    Raises:
        StorageError: They cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, table in (
        (CLIPS_NAME, clip_rows(clips, predictions.videos)),
        (VIDEOS_NAME, video_rows(predictions)),
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        store.write_bytes(name, sink.getvalue().to_pybytes())


def read_predictions(store: Store) -> VideoPredictions:
    """Read ``predictions.parquet`` of an output.

    Raises:
        TrainInputError: It is not there, damaged, of another layout, empty, or of several
            checkpoints.
    """
    table = _read(store, VIDEOS_NAME, video_schema())
    if not table.num_rows:
        raise TrainInputError(f"{store.display(VIDEOS_NAME)} has no row: train or score again")
    columns: dict[str, list[Any]] = table.to_pydict()
    made = set(
        zip(columns["fingerprint"], columns["checkpoint"], columns["demonstration"], strict=True)
    )
    if len(made) > 1:
        raise TrainInputError(
            f"{store.display(VIDEOS_NAME)} mixes predictions of {len(made)} checkpoints or feature "
            "settings: judge them one by one"
        )

    def matrix(suffix: str) -> Floats:
        names = (f"{task}_{suffix}" for task in TASKS)
        arrays = [table[name].to_numpy(zero_copy_only=False) for name in names]
        return np.stack(arrays, axis=1).astype(np.float64)  # null becomes NaN

    videos = VideoTable(
        video_id=columns["video_id"],
        uri=columns["uri"],
        split=columns["split"],
        generator=columns["generator"],
        speaker=columns["speaker"],
        labels=matrix("label"),
        std=matrix("std"),
        raters=matrix("n"),
    )
    reasons = list(zip(*(columns[f"{task}_reason"] for task in TASKS), strict=True))
    clips, frames = (np.array(columns[name], np.int64) for name in ("clips", "frames"))
    return VideoPredictions(
        videos, clips, frames, matrix("predicted"), reasons, Provenance(*made.pop())
    )


def read_clip_rows(store: Store) -> "pa.Table":
    """Read ``predictions_clips.parquet`` of an output.

    Raises:
        TrainInputError: It is not there, damaged or of another layout.
    """
    return _read(store, CLIPS_NAME, clip_schema())


def _read(store: Store, name: str, schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = store.read_bytes(name)
    except MissingError:
        raise TrainInputError(
            f"{store.display(name)} does not exist: the run did not finish; start it again"
        ) from None
    try:
        table = pq.read_table(pa.BufferReader(data))
    except pa.ArrowInvalid as error:
        raise TrainInputError(f"{store.display(name)} is damaged ({error})") from None
    wrong = [f.name for f in schema if f.name not in table.schema.names]
    wrong += [f.name for f in schema if f.name not in wrong and table.schema.field(f.name) != f]
    if wrong:
        raise TrainInputError(
            f"{store.display(name)} is of another version: column {wrong[0]} is missing or of "
            "another type"
        )
    return table.select(schema.names)
