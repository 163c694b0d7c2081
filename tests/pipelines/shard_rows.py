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


def row(video_id: str, version: str, clip: int, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng([clip, len(video_id), sum(video_id.encode())])
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
        "visual": rng.standard_normal((T, 2048)).astype(np.float16),
        "audio": rng.standard_normal((T, 768)).astype(np.float16),
        "landmarks": rng.standard_normal((T, 1404)).astype(np.float32),
        "action_units": rng.standard_normal((T, 17)).astype(np.float32),
        "lowlevel": rng.standard_normal((T, 64)).astype(np.float32),
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
    return values | more


def batch(
    video_id: str, clips: range, version: str = "v1", left_out: frozenset[str] = SLIM
) -> pa.RecordBatch:
    names = schema(left_out).names
    rows = [row(video_id, version, clip) for clip in clips]
    return to_arrow([{n: r[n] for n in names} for r in rows], schema(left_out))


def same(left: pa.Table, right: pa.Table) -> bool:
    order = [("video_id", "ascending"), ("clip_index", "ascending")]
    return bool(left.sort_by(order).combine_chunks().equals(right.sort_by(order).combine_chunks()))
