"""A small feature set with labels that follow from it: for tests of training runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from actors.descriptors import DESCRIPTOR_FIELDS
from actors.faces import FACE_FIELDS
from actors.row import T, arrow_schema, to_arrow
from model.tasks import TASKS
from pipelines.shards import ShardWriter, VideoKey
from pipelines.storage import Store
from tests.pipelines.shard_rows import row

SLIM = frozenset({"visual", "audio", "landmarks", "sync", "sync_reason"})  # left out
STRUCTS = {"faces": FACE_FIELDS, "descriptors": DESCRIPTOR_FIELDS}
FRAMES = 12
FINGERPRINT = "feedc0de" * 2


def write_features(
    folder: Path,
    videos: int = 24,
    clips: int = 2,
    *,
    shards: int = 3,
    seed: int = 0,
    fingerprint: str = FINGERPRINT,
    demonstration: bool = True,
    silent: Sequence[int] = (),
    silent_clips: Sequence[int] = (),
    uris: Sequence[str] = (),
) -> pd.DataFrame:
    """Write slim features (action units, low-level stream, descriptors); returns their labels.

    Video v has the quality q_v: its action units lean by it, so does one descriptor, and the
    labels are 3 + q_v, with other signs and noise for other tasks. The videos ``silent`` and
    the clips ``silent_clips`` of every video have no sound; the first videos were read at ``uris``.
    """
    rng = np.random.default_rng(seed)
    store = Store.at(folder)
    schema = arrow_schema(STRUCTS, SLIM)
    quality = rng.uniform(-1.8, 1.8, videos)
    signs = np.array([1, -1, 1, -1, 1])
    labels = []
    writers = [ShardWriter(store, schema, fingerprint, lambda: None) for _ in range(shards)]
    for v in range(videos):
        name = f"gen{v % 3}/spk{v % 6}-{v:03d}"
        made: dict[str, Any] = {"fingerprint": fingerprint, "demonstration": demonstration}
        if v < len(uris):
            made["uri"] = uris[v]
        rows = [_row(rng, name, clip, quality[v]) | made for clip in range(clips)]
        for clip, values in enumerate(rows):
            if v in silent or clip in silent_clips:
                values["audio_mask"] = np.zeros(T, bool)
        rows = [{key: r[key] for key in schema.names} for r in rows]
        writers[v % shards].add(VideoKey(name, "v1"), [to_arrow(rows, schema)])
        scores = np.clip(3 + signs * quality[v] + rng.normal(0, 0.05, 5), 1, 5)
        labels.append({"video_id": name, **dict(zip(TASKS, scores.round(3), strict=True))})
    for writer in writers:
        writer.commit()
    return pd.DataFrame(labels)


def _row(rng: np.random.Generator, name: str, clip: int, quality: float) -> dict[str, Any]:
    mask = np.arange(T) < FRAMES - clip
    units = np.zeros((T, 17), np.float32)
    units[mask] = rng.standard_normal((int(mask.sum()), 17)) * 0.5
    units[mask, 0] += quality
    low = np.zeros((T, 64), np.float32)
    low[mask] = rng.standard_normal((int(mask.sum()), 64))
    descriptors: dict[str, float | None] = dict.fromkeys(DESCRIPTOR_FIELDS, 1.0)
    descriptors |= {"snr": 20 + 5 * quality, "hnr": None, "lip_velocity": float(rng.normal())}
    return row(
        name,
        "v1",
        clip,
        slim=True,
        generator=name.partition("/")[0],
        speaker=name.partition("/")[2].partition("-")[0],
        frame_mask=mask,
        face_mask=mask,
        audio_mask=mask,
        action_units=units,
        lowlevel=low,
        descriptors=descriptors,
        faces={k: "one" if kind == "string" else 1 for k, kind in FACE_FIELDS.items()},
    )


def small(**more: Any) -> list[str]:
    """Settings of a run that takes a second an epoch, as ``--set`` takes them."""
    settings = {
        "evaluator": "{width: 16, layers: 1, heads: 2, feedforward: 32, dropout: 0.1, "
        "streams: [action_units, lowlevel], aux: true}",
        "training.batch_size": 8,
        "training.epochs": 3,
        "training.learning_rate": 0.003,
        "training.head_learning_rate": 0.003,
        "evaluation.rounds": 50,
        **more,
    }
    return [f"{key}={value}" for key, value in settings.items()]
