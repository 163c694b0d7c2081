"""Known damage to demo videos, and the opinion scores that follow from it.

A damage has a kind and a severity in [0, 1]; severity 0 leaves every frame and every sample as they
are. It acts in one of three places: on the sound, on the poses of the face, or on the drawn frames.
The rule that maps it to scores lowers the tasks that it harms and leaves the others alone. The
scores are made up: they stand for nobody's opinion, they only order the videos rightly.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np

from actors.demo.face import Pose
from actors.types import F32, FPS, SAMPLE_RATE, U8
from model.tasks import TASKS, Task

VERSION = 1  # raise it when the same damage renders or scores differently

Kind = Literal["offset", "noise", "blur", "frozen_mouth"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

MAX_OFFSET: Final = 12  # frames
QUIETEST_SNR_DB: Final = 35.0  # of the noise as the severity approaches 0
SNR_RANGE_DB: Final = 30.0  # severity 1 is 5 dB
MAX_BLUR_PX: Final = 3.0  # standard deviation, in a picture 320 pixels wide

CLEAN_SCORE: Final = 4.5
# What severity 1 takes off the clean score. Overall follows from the other four.
HARM: Final[dict[Kind, dict[Task, float]]] = {
    "offset": {"lip_sync": 3.0, "cross_modal": 2.5},
    "noise": {"audio_quality": 3.0},
    "blur": {"expression": 2.0},
    "frozen_mouth": {"lip_sync": 3.0, "expression": 2.0, "cross_modal": 2.5},
}
_PARTS: Final[tuple[Task, ...]] = tuple(task for task in TASKS if task != "overall")


@dataclass(frozen=True, slots=True)
class Damage:
    """One known damage.

    ``severity`` lies in [0, 1]. ``direction`` is for ``offset`` alone: 1 lets the sound lead the
    picture (a positive offset, as SyncNet counts), -1 lets it lag.

    Raises:
        ValueError: Unknown kind, or a value out of its range.
    """

    kind: Kind
    severity: float
    direction: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown damage {self.kind!r}: choose from {', '.join(KINDS)}")
        if not 0.0 <= self.severity <= 1.0:
            raise ValueError(f"a severity lies in [0, 1], not {self.severity:g}")
        if self.direction not in (-1, 1):
            raise ValueError(f"a direction is 1 or -1, not {self.direction}")

    @property
    def offset_frames(self) -> int:
        """By how many frames the sound leads the picture (< 0: lags)."""
        frames = round(MAX_OFFSET * self.severity) if self.kind == "offset" else 0
        return frames * self.direction

    @property
    def snr_db(self) -> float:
        """Mean power of the voice over that of the added noise, dB."""
        return QUIETEST_SNR_DB - SNR_RANGE_DB * self.severity

    def held(self, frames: int) -> range:
        """Frames that repeat the one before the range: the middle ``severity`` of the video."""
        if self.kind != "frozen_mouth":
            return range(0)
        length = round(self.severity * frames)
        first = (frames - length) // 2
        return range(first + 1, first + length)

    def measures(self, frames: int) -> dict[str, float]:
        """Return the severity in physical units, for a video of so many frames."""
        match self.kind:
            case "offset":
                return {"offset_frames": self.offset_frames}
            case "noise":
                return {"snr_db": self.snr_db}
            case "blur":
                return {"sigma_px": MAX_BLUR_PX * self.severity}
            case "frozen_mouth":
                held = self.held(frames)
                return {"start_s": (held.start - 1) / FPS, "end_s": held.stop / FPS}


def damaged_sound(samples: F32, damage: Damage, seed: int) -> F32:
    """Apply the damages of the sound: ``offset``, ``noise``.

    Args:
        samples: [n] mono in [-1, 1].
        damage: Any damage; one that is not of the sound returns ``samples`` unchanged.
        seed: Decides the noise.

    Returns:
        [n] in [-1, 1].
    """
    if damage.severity == 0.0:
        return samples
    rng = np.random.default_rng([seed, 0xDA3A6E])
    if damage.kind == "offset":
        return _shifted(samples, damage.offset_frames * SAMPLE_RATE // FPS, rng)
    if damage.kind == "noise":
        return _noisy(samples, damage.snr_db, rng)
    return samples


def _shifted(samples: F32, lead: int, rng: np.random.Generator) -> F32:
    """Play the sound ``lead`` samples earlier (< 0: later); the gap holds the room's own noise."""
    room = samples[: SAMPLE_RATE // 10]  # every utterance starts with a pause
    filled: F32 = (room.std() * rng.standard_normal(len(samples))).astype(np.float32)
    n = len(samples) - abs(lead)
    if lead >= 0:
        filled[:n] = samples[lead:]
    else:
        filled[-lead:] = samples[:n]
    return filled


def _noisy(samples: F32, snr_db: float, rng: np.random.Generator) -> F32:
    """Add white noise at this ratio of mean powers."""
    noise = rng.standard_normal(len(samples))
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    noise *= np.sqrt(power / np.mean(noise**2) * 10 ** (-snr_db / 10))
    mixed = samples + noise
    # Turned down where it would clip, which would be another damage.
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max())), dtype=np.float32)


def damaged_poses(moves: list[Pose], damage: Damage) -> list[Pose]:
    """Apply the damage of the motion: ``frozen_mouth``; others change nothing.

    Args:
        moves: The pose in each frame.
        damage: Any damage.
    """
    result = list(moves)
    for i in damage.held(len(moves)):
        mouth = result[i - 1]
        result[i] = replace(
            moves[i], opening=mouth.opening, width=mouth.width, rounding=mouth.rounding
        )
    return result


def damaged_frames(frames: Iterable[U8], damage: Damage) -> Iterator[U8]:
    """Apply the damage of the picture: ``blur``; others change nothing.

    Args:
        frames: RGB [H, W, 3], uint8.
        damage: Any damage.
    """
    import cv2

    sigma = MAX_BLUR_PX * damage.severity if damage.kind == "blur" else 0.0
    for frame in frames:
        yield cv2.GaussianBlur(frame, (0, 0), sigma) if sigma > 0.0 else frame


def true_scores(damage: Damage | None) -> dict[Task, float]:
    """Return the scores that a video with this damage deserves; None is no damage.

    Each task loses ``severity`` times what ``HARM`` says. ``overall`` is half the worst of the
    other four and half their mean.
    """
    harm = HARM[damage.kind] if damage else {}
    severity = damage.severity if damage else 0.0
    scores = {task: CLEAN_SCORE - severity * harm.get(task, 0.0) for task in _PARTS}
    parts = list(scores.values())
    scores["overall"] = (min(parts) + sum(parts) / len(parts)) / 2
    return scores
