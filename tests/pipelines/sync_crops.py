"""Stored crops for tests: faces whose brightness follows the loudness of their sound."""

from pathlib import Path
from typing import Any

import numpy as np

from actors.types import VideoRef
from pipelines.messages import ProcessorInfo, RunContext
from pipelines.shard_index import VideoKey
from pipelines.shard_writer import ShardWriter
from pipelines.storage import Store
from pipelines.sync_training.crops import FOLDER, CropRows

FACE = 52
INFO = ProcessorInfo({}, {}, False, {})


def levels(frames: int, seed: int) -> np.ndarray:
    """A level for each frame in 0..1, smooth as syllables are."""
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.normal(size=frames + 4), np.hanning(5), "valid")
    return 1 / (1 + np.exp(-1.5 * smooth))


def crop_row(
    number: int, seed: int, frames: int = 44, hidden: tuple[int, ...] = ()
) -> dict[str, Any]:
    """A stored clip; frames in ``hidden`` have no face."""
    level = levels(frames, seed)
    rng = np.random.default_rng(seed)
    shade = np.round(40 + 170 * level)[:, None, None, None]
    noise = rng.integers(-8, 9, (frames, FACE, FACE, 3))
    crops = np.clip(shade + noise, 0, 255).astype(np.uint8)
    index = np.arange(frames, dtype=np.int16)
    index[list(hidden)] = -1
    sound = rng.normal(size=640 * frames) * np.repeat(30 * 100**level, 640)
    windows = frames - 5
    whole = [all(index[i : i + 5] >= 0) for i in range(windows)]
    runs = "".join("x" if w else " " for w in whole).split()
    return {
        "clip_index": number,
        "start_s": 6.0 * number,
        "end_s": 6.0 * number + frames / 25,
        "windows": windows,
        "run": max((len(r) for r in runs), default=0),
        "face": FACE,
        "content": f"{seed}-{frames}-{hidden}",
        "crops": crops.tobytes(),
        "index": index,
        "sound": np.clip(np.round(sound), -32768, 32767).astype("<i2").tobytes(),
    }


def write_crops(
    out: Path | str,
    videos: dict[str, list[dict[str, Any]]],
    *,
    speakers: bool = True,
    fingerprint: str = "abcdef0123456789",
) -> None:
    """Write a shard; of the video ``ada-1`` the speaker is ``ada``."""
    store = Store.at(str(out))
    run = RunContext("run", store.raw_uri, fingerprint, "0", 64, 60.0, folder=FOLDER)
    format_ = CropRows(FACE)
    writer = ShardWriter(store, format_.schema(), fingerprint, lambda: None, folder=FOLDER)
    for name, rows in videos.items():
        who = name.rpartition("-")[0] if speakers else None
        ref = VideoRef(name, f"/corpus/{name}.mp4", speaker=who, version=f"v-{name}")
        writer.add(VideoKey(name, ref.version), [format_.pack(rows, ref, INFO, run)])
    writer.commit()


def corpus(speakers: int = 3, each: int = 2, clips: int = 2) -> dict[str, list[dict[str, Any]]]:
    """Videos of a few speakers, every clip another one."""
    return {
        f"{who}-{number}": [crop_row(clip, 100 * i + 10 * number + clip) for clip in range(clips)]
        for i, who in enumerate(("ada", "bruno", "chen", "dara")[:speakers])
        for number in range(each)
    }
