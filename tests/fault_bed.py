"""From videos in memory to feature rows, in this process and without any backbone.

Rows have the stored columns only, as a feature shard has them.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.decode import DecodeConfig, VideoReader
from actors.demo.render import VideoSpec
from actors.encode import cpu_stages
from actors.features import FeaturesConfig
from actors.prepare import Preparer
from actors.row import COLUMNS
from actors.types import F32, FPS, SAMPLE_RATE, Row, Timings
from tests import faults
from tests.faults import Media, Span
from tests.media import write_video

KEPT: Final = (
    *("clip_index", "start_s", "end_s", "frame_mask", "face_mask", "audio_mask"),
    *("landmarks", "lowlevel", "descriptors", "faces"),
)


class Bed:
    """Turns video files into rows, in this process.

    Args:
        folder: For damaged videos, which are deleted again, and for rows that were computed before.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._config = FeaturesConfig(modalities=("landmarks", "lowlevel", "descriptors"))

    @cached_property
    def _preparer(self) -> Preparer:
        return Preparer(self._config)

    def prepared(self, path: Path) -> list[Row]:
        """First half of extraction: rows with pictures and sound."""
        with path.open("rb") as file:
            return list(self._preparer.open(file, path.name, Timings(), lambda _: None).rows)

    def encoded(self, rows: list[Row]) -> list[Row]:
        """Second half; ``rows`` stay as they are."""
        made = [{k: v for k, v in row.items() if k != "measures"} for row in rows]
        for stage in cpu_stages(self._config):
            made = stage(made)
        return [{name: row[name] for name in KEPT} for row in made]

    def prepared_media(self, media: Media) -> list[Row]:
        """Write a video, prepare it, delete it."""
        path = self._folder / f"video-{os.getpid()}.mkv"
        try:
            return self.prepared(faults.write_media(path, media))
        finally:
            path.unlink(missing_ok=True)

    def with_sound(
        self, prepared: list[Row], samples: F32, sound_codec: str = "pcm_s16le"
    ) -> list[Row]:
        """Extract a video whose picture is prepared already, with another sound.

        The sound takes its way through a file. The rows are those of the whole video written with
        this sound, without looking at the same picture again.
        """
        path = self._folder / f"sound-{os.getpid()}.mkv"
        grey = [np.full((48, 64, 3), 99, np.uint8)] * -(-len(samples) * FPS // SAMPLE_RATE)
        write_video(path, grey, audio=samples, audio_codec=sound_codec)
        try:
            with path.open("rb") as file, VideoReader(file, DecodeConfig(), path.name) as reader:
                for _ in reader.frames():
                    pass
                track = reader.sound()
        finally:
            path.unlink(missing_ok=True)
        assert track is not None
        made = []
        for row in prepared:
            first = round(row["start_s"] * SAMPLE_RATE)
            piece = track.samples[first : first + len(row["waveform"])]
            waveform = np.pad(piece, (0, len(row["waveform"]) - len(piece)))
            made.append({**row, "waveform": waveform})
        return self.encoded(made)

    def kept(self, name: str, make: Callable[[], "Injected"]) -> "Injected":
        """What an earlier run left under ``name``, or else what ``make`` makes."""
        path = self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npz"
        if not path.exists():
            data = io.BytesIO()
            np.savez_compressed(data, **_pack(make()))
            partial = path.with_suffix(".partial")
            partial.write_bytes(data.getvalue())
            partial.replace(path)
        with np.load(path) as stored:
            return _unpack(stored)


@dataclass(frozen=True)
class Injected:
    """Rows of a video with a fault, and where it is; a clean video has none."""

    rows: list[Row]
    span: Span | None = None  # None: throughout
    offset: int | None = None  # frames that were injected, > 0: the sound leads


def _pack(made: Injected) -> dict[str, Any]:
    arrays = {f"{i}.{k}": row[k] for i, row in enumerate(made.rows) for k in KEPT if _is_array(k)}
    plain = [{k: v for k, v in row.items() if not _is_array(k)} for row in made.rows]
    text = json.dumps({"rows": plain, "span": made.span, "offset": made.offset}, default=float)
    return {**arrays, "plain": np.array(text)}


def _unpack(stored: Any) -> Injected:
    plain = json.loads(str(stored["plain"]))
    for i, row in enumerate(plain["rows"]):
        row.update({k: stored[f"{i}.{k}"] for k in KEPT if _is_array(k)})
    span = plain["span"]
    return Injected(plain["rows"], span and (span[0], span[1]), plain["offset"])


def _is_array(name: str) -> bool:
    return COLUMNS[name].kind in ("tensor", "mask")


# --- clean sources


class Source:
    """A clean video: what is shown and heard, and where the face is; looked at when asked for.

    Args:
        name: Of the video in tables; with the fault and the round it decides where a fault is put.
        bed: Extracts it.
        load: Reads or draws it.
        spec: Of a demo video.
    """

    def __init__(
        self, name: str, bed: Bed, load: Callable[[], Media], spec: VideoSpec | None = None
    ) -> None:
        self.name, self.spec = name, spec
        self.bed, self._load = bed, load

    @cached_property
    def media(self) -> Media:
        """Pictures and sound."""
        return self._load()

    @cached_property
    def prepared(self) -> list[Row]:
        """Rows with pictures and sound, of the video as it is written without a fault."""
        return self.bed.prepared_media(self.media)

    def forget(self) -> None:
        """Free the pictures."""
        for name in ("media", "prepared", "points"):
            self.__dict__.pop(name, None)

    def clean(self) -> Injected:
        """Rows without a fault."""
        return self.bed.kept(
            f"{self.name} clean", lambda: Injected(self.bed.encoded(self.prepared))
        )

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Face Mesh [n, 468, 2] in pixels, one a picture; in between frames that have no mesh."""
        times, found = [], []
        for row in self.prepared:
            seen = np.flatnonzero(row["face_mask"])
            height, width = row["image_size"]
            mesh = row["landmarks"][seen].reshape(-1, 468, 3)[..., :2] * [width, height]
            times.append(row["frame_times"][seen])
            found.append(mesh.reshape(len(seen), -1))
        at, mesh = np.concatenate(times), np.concatenate(found)
        wanted = np.array(self.media.times)
        right = np.clip(np.searchsorted(at, wanted), 1, len(at) - 1)
        part = np.clip((wanted - at[right - 1]) / np.maximum(at[right] - at[right - 1], 1e-9), 0, 1)
        points = mesh[right - 1] * (1 - part[:, None]) + mesh[right] * part[:, None]
        return np.asarray(points.reshape(-1, 468, 2))

    @cached_property
    def eyes(self) -> float:
        """Median distance of the outer eye corners, pixels."""
        a, b = (self.points[:, i] for i in faults.EYE_CORNERS)
        return float(np.median(np.linalg.norm(a - b, axis=1)))

    def place(self, seconds: float, rng: np.random.Generator, *, talking: bool = False) -> Span:
        """Choose where to put a fault, half a second from the ends or more.

        With ``talking``: where somebody speaks at least nine tenths of the time (or as much as
        there is) and the lips move at least as much as they usually do.
        """
        starts = np.arange(0.48, self.media.seconds - 0.48 - seconds, 0.04)
        if talking:
            assert self.media.sound is not None
            speech = faults.speech_hops(self.media.sound)
            share = np.array([_part(speech, 100, t, seconds).mean() for t in starts])
            opening = np.linalg.norm(
                self.points[:, faults.LIPS[0]] - self.points[:, faults.LIPS[1]], axis=1
            )
            moving = np.array(
                [np.std(opening[list(self.media.inside((t, t + seconds)))]) for t in starts]
            )
            spoken = share >= min(0.9, share.max())
            starts = starts[spoken & (moving >= np.median(moving[spoken]))]
        start = float(rng.choice(starts))
        return start, start + seconds


def _part(values: NDArray[Any], rate: int, start: float, seconds: float) -> NDArray[Any]:
    return values[round(start * rate) : round((start + seconds) * rate)]
