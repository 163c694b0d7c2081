"""The values that stages hand to each other, and the constants of a clip (SPEC section 2)."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FPS = 25
CLIP_FRAMES = 150
CLIP_SECONDS = 6.0
SAMPLE_RATE = 16_000
MIB = 1024**2
MIN_SECONDS = 1.0  # a shorter tail is no clip, a shorter video is a failure
# What the column `demonstration` stands for, in every sentence that says so.
DEMONSTRATION_WEIGHTS = "seeded (random) weights or weights learned from made-up faces"

F32: TypeAlias = NDArray[np.float32]
U8: TypeAlias = NDArray[np.uint8]
Bool: TypeAlias = NDArray[np.bool_]
Row: TypeAlias = dict[str, Any]  # one clip: column name -> value, see actors/row.py


@dataclass(frozen=True, slots=True)
class VideoRef:
    """One video of a corpus, before it is opened."""

    video_id: str
    uri: str  # may carry credentials in its query: strip before storing or printing
    generator: str | None = None
    speaker: str | None = None
    size: int | None = None  # bytes
    version: str = ""  # ETag, or size and modification time: changes when the content does
    source: str | None = None  # clean video that it is a variant of: variants stay together
    artefacts: str = ""  # chain that is applied at decode, see actors/artefacts/chain.py


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What the container says, after probing. Times in seconds, sizes after rotation."""

    duration_s: float  # of the picture stream
    width: int
    height: int
    fps: float  # average rate of the source
    rotation: int  # degrees that were undone: 0, 90, 180, 270
    container: str
    video_codec: str
    audio_codec: str | None = None
    audio_rate: int | None = None
    audio_channels: int | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One source frame that is used at least once.

    The 25 fps grid of the video has position g at g / 25 s after its first picture; ``grid`` names
    the positions to which this frame is nearest (several when the source is slower than 25 fps,
    none when only the `whole` policy wants it).
    """

    ordinal: int  # 0, 1, 2 … over the frames that the reader yields
    time_s: float  # its timestamp, relative to the first picture
    image: U8 | None  # RGB [H, W, 3]; None when it could not be decoded
    black: bool  # decoded, but all black: keeps its position and is masked
    grid: tuple[int, ...]
    whole: bool  # on the Δ-step sequence of the `whole` policy


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of a whole video on the picture's clock.

    ``samples`` starts at the instant of the first picture and spans the picture's duration:
    shorter sound is followed (or preceded) by zeros, longer sound is cut. ``start_s`` and
    ``end_s`` bound the part that really came
    from the file.
    """

    samples: F32  # [n], 16 kHz mono in [-1, 1]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """Which frames and which sound belong to a clip."""

    clip_index: int
    start_s: float
    end_s: float
    ordinals: NDArray[np.int64]  # [n <= 150] Frame.ordinal that serves each frame of the clip
    sync_ordinals: NDArray[
        np.int64
    ]  # [m] consecutive 25 fps frames for SyncNet; m = n under `windows`
    sample_start: int  # into Sound.samples
    sample_stop: int


@dataclass(slots=True)
class Timings:
    """Seconds spent in each stage, summed over clips."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Add ``seconds`` to ``stage``."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def merge(self, other: "Timings") -> None:
        """Add all of ``other``."""
        for stage, seconds in other.seconds.items():
            self.add(stage, seconds)
