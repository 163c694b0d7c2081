"""The five opinion scores: names, order, scale (SPEC section 1)."""

from typing import Final, Literal, get_args

Task = Literal["lip_sync", "expression", "audio_quality", "cross_modal", "overall"]
TASKS: Final[tuple[Task, ...]] = get_args(Task)
TITLES: Final[dict[str, str]] = {
    "lip_sync": "lip sync",
    "expression": "expression naturalness",
    "audio_quality": "audio quality",
    "cross_modal": "cross-modal consistency",
    "overall": "overall quality",
}
LOW: Final = 1.0  # the worst score
HIGH: Final = 5.0  # the best score
MISSING: Final = -1.0  # how label tables may write "not rated"
# A video without sound cannot be judged in these.
NEED_SOUND: Final[tuple[Task, ...]] = ("lip_sync", "audio_quality")
