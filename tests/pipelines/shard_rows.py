"""Rows for tests of storage: the real columns, small, without any model."""

from typing import Any

import numpy as np
import pyarrow as pa

from actors.row import T, arrow_schema, to_arrow

SLIM = frozenset({"visual", "audio", "landmarks", "lowlevel", "descriptors"})
FINGERPRINT = "0123456789abcdef" * 2
STRUCTS = {"faces": {"faces_max": "int32"}, "descriptors": {"sharpness": "float32"}}


def schema(left_out: frozenset[str] = SLIM) -> pa.Schema:
    return arrow_schema(STRUCTS, left_out)


def row(video_id: str, version: str, clip: int, slim: bool = False, **more: Any) -> dict[str, Any]:
    seed = [clip, len(video_id), sum(video_id.encode())]

    def draw(width: int, dtype: type) -> Any:
        return np.random.default_rng([*seed, width]).standard_normal((T, width)).astype(dtype)

    values = {
        "video_id": video_id,
        "uri": f"/corpus/{video_id}.mp4",
        "source_version": version,
        "clip_index": clip,
        "start_s": 6.0 * clip,
        "end_s": 6.0 * clip + 6.0,
        "generator": "wav2lip",
        "speaker": None,
        "frame_mask": np.ones(T, bool),
        "face_mask": np.arange(T) < 75,
        "audio_mask": np.ones(T, bool),
        "action_units": draw(17, np.float32),
        "sync": np.array([2.5, 1, 5, 8], np.float32),
        "sync_reason": None,
        "descriptors": {"sharpness": 1.0},
        "faces": {"faces_max": 1},
        "fingerprint": FINGERPRINT,
        "extractors": {"visual": "1"},
        "weights": {"visual": "sha256:00"},
        "code_version": "0.1.0",
        "demonstration": True,
    }
    if not slim:
        values |= {
            "visual": draw(2048, np.float16),
            "audio": draw(768, np.float16),
            "landmarks": draw(1404, np.float32),
            "lowlevel": draw(64, np.float32),
        }
    return values | more


def batch(
    video_id: str, clips: range, version: str = "v1", left_out: frozenset[str] = SLIM
) -> pa.RecordBatch:
    names = schema(left_out).names
    rows = [row(video_id, version, clip, slim=bool(left_out)) for clip in clips]
    return to_arrow([{n: r[n] for n in names} for r in rows], schema(left_out))


def same(left: pa.Table, right: pa.Table) -> bool:
    order = [("video_id", "ascending"), ("clip_index", "ascending")]
    return bool(left.sort_by(order).combine_chunks().equals(right.sort_by(order).combine_chunks()))
