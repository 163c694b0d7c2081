"""Feature shards of any width for tests of fitting, and the same rows in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.training.fit_preprocessor import ShardRows

T = 150
WIDTHS = {"visual": 24, "audio": 18, "landmarks": 30, "action_units": 17, "lowlevel": 64}
TYPES = {"visual": "float16", "audio": "float16"}  # the others are float32
DESCRIPTORS = ("lip_velocity", "snr")


@dataclass
class Clips:
    streams: dict[str, np.ndarray]
    frame: np.ndarray
    face: np.ndarray
    audio: np.ndarray
    sync: np.ndarray
    descriptors: dict[str, list[float | None]]

    def __len__(self) -> int:
        return len(self.frame)


def draw(count: int, seed: int = 0, widths: dict[str, int] | None = None) -> Clips:
    """Correlated features of very different scales, with all the trouble that clips may bring."""
    rng = np.random.default_rng(seed)
    frame = np.ones((count, T), bool)
    frame[1::3, 100:] = False  # padding
    frame[:, 7] = rng.random(count) < 0.9  # a broken frame
    face = rng.random((count, T)) < 0.8
    face[2:3] = False  # a clip without any face
    audio = np.ones((count, T), bool)
    audio[3:4] = False  # a clip without sound
    audio[4:5, 60:] = False
    streams = {}
    for name, width in (widths or WIDTHS).items():
        factors = rng.standard_normal((count, T, 6)) @ rng.standard_normal((6, width))
        values = factors + 0.3 * rng.standard_normal((count, T, width)) + rng.normal(0, 3, width)
        values[..., 0] *= 1e4 / 4  # beside ...
        values[..., 1] *= 1e-4
        values[..., 2] = 3.7  # no variance
        values[..., 3] += 3e3  # mean far above the spread
        values = values.astype(TYPES.get(name, "float32"))
        values[rng.random(values.shape) < 0.002] = np.nan
        hole = frame & face
        if name == "audio":
            hole = frame & audio
        values[~hole] = np.nan if name == "visual" else 0
        values[~frame] = 77  # garbage that must not be read
        streams[name] = values
    sync = rng.normal(5, 2, (count, 4)).astype(np.float32)
    sync[1:2] = np.nan
    descriptors: dict[str, list[float | None]] = {
        "lip_velocity": [None if i % 4 == 0 else float(x) for i, x in enumerate(rng.random(count))],
        "snr": [float(x) for x in rng.normal(20, 5, count)],
    }
    return Clips(streams, frame, face, audio, sync, descriptors)


def table(clips: Clips, rows: np.ndarray) -> pa.Table:
    def mask(values: np.ndarray) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values[rows].ravel()), T)

    def tensor(values: np.ndarray) -> pa.Array:
        picked = np.ascontiguousarray(values[rows])
        return pa.FixedShapeTensorArray.from_numpy_ndarray(picked)

    columns = {
        "video_id": pa.array([f"v{i}" for i in rows]),
        "clip_index": pa.array(np.zeros(len(rows), np.int32)),
        "start_s": pa.array(np.zeros(len(rows))),
        "end_s": pa.array(np.full(len(rows), 6.0)),
        "frame_mask": mask(clips.frame),
        "face_mask": mask(clips.face),
        "audio_mask": mask(clips.audio),
        **{name: tensor(values) for name, values in clips.streams.items()},
        "sync": tensor(clips.sync),
        "descriptors": pa.array(
            [{name: clips.descriptors[name][i] for name in DESCRIPTORS} for i in rows],
            pa.struct([(name, pa.float32()) for name in DESCRIPTORS]),
        ),
    }
    return pa.table(columns)


def write(folder: Path, clips: Clips, shards: int, group: int = 4) -> list[ShardRows]:
    """Write the clips round robin to ``shards`` files; all of their rows are wanted."""
    out = []
    for number in range(shards):
        rows = np.arange(len(clips))[number::shards]
        name = f"part-{number}.parquet"
        pq.write_table(table(clips, rows), folder / name, row_group_size=group)
        out.append(ShardRows(name, np.arange(len(rows))))
    return out


def reference_rows(clips: Clips, stream: str) -> np.ndarray:
    """Rows of a stream that a person would fit on: real frames with a face, or with sound."""
    mask = clips.frame & (clips.audio if stream == "audio" else clips.face)
    return clips.streams[stream][mask].astype(np.float64)
