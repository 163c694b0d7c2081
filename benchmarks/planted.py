"""Features with a planted rule: what an evaluator must be able to learn, and a linear model cannot.

Each stream of a clip (visual, audio, landmarks, action units) carries five latent signals of its
own, mixed linearly into all of its raw dimensions, with noise:

==========  ====================================================================================
clock       rises with the frame number, the same in every clip: time as content, because the
            preset `advanced` has no positional encoding
event       a bump of about three frames at a time of its own, in every clip of the same height
motion      a smooth random movement; its mean over the clip is 0, its strength differs
2 drifts    smooth signals with a mean of their own that no score depends on
==========  ====================================================================================

From the times and strengths follow the scores:

==============  ================================================================================
lip_sync        5 where the events of mouth and audio coincide; falls with their distance, faster
                where the sound leads. Temporal: *when* something happens, told by a product of
                event and clock; cross-modal: the difference of two streams. Landmarks and action
                units show the same event of the mouth, as the latter are computed from the former
expression      the weaker of the movements of visual and landmarks (weakest link)
audio_quality   noise, uniform in [1, 5]: nothing to learn
cross_modal     5 where audio and visual move equally strongly; falls with the difference, faster
                where the sound is livelier (a damped mouth)
overall         the smaller of lip_sync and expression: all streams, timing and strength
==============  ================================================================================

The time averages of clock, event and motion depend on nothing but the number of frames, so a
linear model on time averages has nothing to go by: timing is in a product over time, strength in a
square. No stream alone is enough (:func:`one_stream_limit`). Scores saturate nowhere
inside the range except at the ends of the two tents, and carry no noise.

All raw widths are the real ones; the latent part of a stream has 5 dimensions, so that the
preprocessor's principal components keep it.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.features import STRUCT_FIELDS
from actors.row import COLUMNS, arrow_schema, to_arrow
from actors.types import CLIP_FRAMES
from model.tasks import HIGH, LOW, TASKS

STREAMS: Final = ("visual", "audio", "landmarks", "action_units")
NOISE_TASK: Final = "audio_quality"
LEARNABLE: Final = tuple(task for task in TASKS if task != NOISE_TASK)
NOISE: Final = 0.2  # deviation of the noise of a raw dimension, whose signal has 1
SHORTER: Final = 6  # clips are up to so many frames shorter than the longest
CALM: Final = 0.15  # what is left of the motion at strength 0
FINGERPRINT: Final = "9" * 32
LEFT_OUT: Final = frozenset({"sync", "sync_reason", "lowlevel", "descriptors"})

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Planted:
    """C clips, one a video.

    Attributes:
        length: [C] real frames.
        latents: stream -> [C, F, 5] the signals, each of unit variance; 0 behind the last frame.
        when: stream -> [C] time of its event, frames.
        strength: stream -> [C] strength of its motion, in [0, 1].
        scores: [C, 5] in [1, 5].
        seed: What the noise of the features is drawn from.
    """

    length: NDArray[np.int64]
    latents: dict[str, F64]
    when: dict[str, F64]
    strength: dict[str, F64]
    scores: F64
    seed: int

    def __len__(self) -> int:
        return len(self.length)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[C, F] real frames."""
        return np.arange(next(iter(self.latents.values())).shape[1]) < self.length[:, None]


def plant(clips: int, frames: int = 30, seed: int = 0) -> Planted:
    """Draw clips of ``frames - 6`` to ``frames`` real frames (at least 14) and their scores."""
    if not SHORTER + 8 <= frames <= CLIP_FRAMES:
        raise ValueError(f"frames must lie in [{SHORTER + 8}, {CLIP_FRAMES}], not {frames}")
    rng = np.random.default_rng([seed, 1])
    length = rng.integers(frames - SHORTER, frames + 1, clips)
    mask = np.arange(frames) < length[:, None]
    first, last = 2.0, frames - SHORTER - 3.0  # the whole bump lies inside the shortest clip
    when = {name: rng.uniform(first, last, clips) for name in STREAMS}
    when["action_units"] = when["landmarks"]
    strength = {name: rng.uniform(0, 1, clips) for name in STREAMS}
    latents = {n: _latents(rng, mask, when[n], strength[n]) for n in STREAMS}
    lead = (when["landmarks"] - when["audio"]) / (last - first)  # > 0: the sound comes first
    scores = np.empty((clips, len(TASKS)))
    lip_sync = scores[:, 0] = _tent(lead)
    expression = scores[:, 1] = _scaled(np.minimum(strength["visual"], strength["landmarks"]))
    scores[:, 2] = rng.uniform(LOW, HIGH, clips)
    scores[:, 3] = _tent(strength["audio"] - strength["visual"])
    scores[:, 4] = np.minimum(lip_sync, expression)
    return Planted(length, latents, when, strength, scores, seed)


def _scaled(x: F64) -> F64:
    return LOW + (HIGH - LOW) * x


def _tent(x: F64) -> F64:
    """Best at 0, worst from 0.625 on one side; 2.6 at -1 on the other."""
    return _scaled(1 - np.clip(np.where(x > 0, 1.6 * x, -0.6 * x), 0, 1))


def _latents(rng: np.random.Generator, mask: NDArray[np.bool_], when: F64, strength: F64) -> F64:
    clips, frames = mask.shape
    time = np.arange(frames)
    clock = np.broadcast_to(time - (frames - 1) / 2, mask.shape)
    event = np.where(mask, np.exp(-0.5 * (time - when[:, None]) ** 2), 0.0)
    event /= event.sum(axis=1, keepdims=True)  # 1 as well where an end of the bump is cut off
    motion = (CALM + (1 - CALM) * strength)[:, None] * _movement(rng, mask)
    drifts = [rng.standard_normal((clips, 1)) + _movement(rng, mask) for _ in range(2)]
    values = np.stack([clock, event, motion, *drifts], axis=-1)
    values = (values - values[mask].mean(axis=0)) / values[mask].std(axis=0)
    return np.where(mask[..., None], values, 0.0)


def _movement(rng: np.random.Generator, mask: NDArray[np.bool_]) -> F64:
    """Two sinusoids of random period (4 to 12 frames) and phase; mean 0 and power 1 in the clip."""
    clips, frames = mask.shape
    rate = rng.uniform(1 / 12, 1 / 4, (2, clips, 1))
    phase = rng.uniform(0, 1, (2, clips, 1))
    x = np.sin(2 * np.pi * (rate * np.arange(frames) + phase)).sum(axis=0)
    count = mask.sum(axis=1, keepdims=True)
    x = np.where(mask, x - np.where(mask, x, 0).sum(axis=1, keepdims=True) / count, 0)
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True) / count)


# --- what simpler models can know


def one_stream_limit(planted: Planted, task: str, stream: str, bins: int = 20) -> float:
    """Return the PLCC that the best predictor of ``task`` from one stream alone could reach.

    It knows the exact time and strength of that stream: the mean score in each cell of a grid.
    """
    y = planted.scores[:, TASKS.index(task)]
    ranks = [np.argsort(np.argsort(x)) for x in (planted.when[stream], planted.strength[stream])]
    cell = (ranks[0] * bins // len(y)) * bins + ranks[1] * bins // len(y)
    count = np.bincount(cell, minlength=bins**2)
    mean = np.bincount(cell, y, minlength=bins**2) / np.maximum(count, 1)
    return float(np.corrcoef(mean[cell], y)[0, 1])


def ridge(train: F64, y: F64, test: F64, truth: F64) -> F64:
    """Return the test PLCC [N] of ridge regression on standardised columns.

    Generous: for each task the penalty that is best on the test rows.
    """
    scale = train.std(axis=0)
    kept = scale > 0
    mean, scale = train.mean(axis=0)[kept], scale[kept]
    train, test = (train[:, kept] - mean) / scale, (test[:, kept] - mean) / scale
    values, vectors = np.linalg.eigh(train @ train.T)
    inner = vectors.T @ (y - y.mean(axis=0))
    across = test @ train.T @ vectors
    best = np.full(y.shape[1], -1.0)
    for penalty in np.logspace(-2, 7, 19):
        predicted = across @ (inner / (np.maximum(values, 0) + penalty)[:, None])
        found = [np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, truth.T, strict=True)]
        best = np.maximum(best, found)
    return best


def time_averages(planted: Planted, streams: tuple[str, ...] = STREAMS) -> F64:
    """Return [C, 4237]: the mean of each raw dimension over the real frames."""
    parts = []
    for rows in _pieces(len(planted)):
        raw = raw_features(planted, rows, streams)
        count = planted.length[rows, None]
        means = [values.astype(np.float64).sum(axis=1) / count for values in raw.values()]
        parts.append(np.concatenate(means, axis=1))
    return np.concatenate(parts)


# --- features and labels as files


def raw_features(
    planted: Planted, rows: NDArray[np.int64], streams: tuple[str, ...] = STREAMS
) -> dict[str, NDArray[Any]]:
    """Return stream -> [n, F, width] in the type of the row; zeros behind the last frame."""
    made = {}
    mask = planted.mask[rows]
    for name in streams:
        column, number = COLUMNS[name], STREAMS.index(name)
        width = int(column.shape[1] or 0)
        fixed = np.random.default_rng([planted.seed, 2, number])
        latents = planted.latents[name][rows]
        mixing = fixed.standard_normal((latents.shape[-1], width)) / np.sqrt(latents.shape[-1])
        scale = fixed.uniform(0.2, 2, width).astype(np.float32)
        shift = fixed.normal(0, 1, width).astype(np.float32)
        values = latents.astype(np.float32) @ mixing.astype(np.float32)
        for i, row in enumerate(rows.tolist()):
            noise = np.random.default_rng([planted.seed, 3, number, row])
            values[i] += NOISE * noise.standard_normal(values.shape[1:], np.float32)
        values = np.where(mask[..., None], values * scale + shift, 0)
        made[name] = values.astype(column.dtype)
    return made


def _pieces(total: int, size: int = 64) -> list[NDArray[np.int64]]:
    return [np.arange(i, min(i + size, total)) for i in range(0, total, size)]


def video_id(number: int) -> str:
    """Return the name of a clip's video."""
    return f"planted/{number:05d}"


def write_features(
    planted: Planted, folder: Path, per_shard: int = 256, streams: tuple[str, ...] = STREAMS
) -> None:
    """Write the clips as feature shards, with the project's own writer."""
    from pipelines.shards import ShardWriter, VideoKey
    from pipelines.storage import Store

    schema = arrow_schema(STRUCT_FIELDS, LEFT_OUT | (set(STREAMS) - set(streams)))
    store = Store.at(folder)
    for shard in _pieces(len(planted), per_shard):
        writer = ShardWriter(store, schema, FINGERPRINT, lambda: None)
        for rows in np.array_split(shard, -(-len(shard) // 64)):
            raw = raw_features(planted, rows, streams)
            for i, number in enumerate(rows.tolist()):
                tensors = {name: _padded(values[i]) for name, values in raw.items()}
                row = row_of(number, int(planted.length[number])) | tensors
                key = VideoKey(video_id(number), "1")
                writer.add(key, [to_arrow([{n: row[n] for n in schema.names}], schema)])
        writer.commit()


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    result = np.zeros((CLIP_FRAMES, values.shape[1]), values.dtype)
    result[: len(values)] = values
    return result


def row_of(number: int, frames: int) -> dict[str, Any]:
    """Return the columns of a clip beside its tensors."""
    mask = np.arange(CLIP_FRAMES) < frames
    return {
        "video_id": video_id(number),
        "uri": f"planted/{number:05d}.mp4",
        "source_version": "1",
        "clip_index": 0,
        "start_s": 0.0,
        "end_s": frames / 25,
        "generator": f"generator {number % 3}",
        "speaker": f"speaker {number % 97}",
        "frame_mask": mask,
        "face_mask": mask,
        "audio_mask": mask,
        "faces": dict.fromkeys(STRUCT_FIELDS["faces"]),
        "fingerprint": FINGERPRINT,
        "extractors": dict.fromkeys(STREAMS, "planted"),
        "weights": {},
        "code_version": "0",
        "demonstration": True,
    }


def write_labels(scores: F64, file: Path) -> None:
    """Write the label table; NaN is a missing label."""
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["video_id", *TASKS])
        for number, row in enumerate(scores.tolist()):
            told = ("" if math.isnan(x) else f"{x:.4f}" for x in row)
            table.writerow([video_id(number), *told])
