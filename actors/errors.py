"""What can go wrong with one video, as data."""

from typing import Literal

Stage = Literal["open", "decode", "sound", "faces", "features", "score", "write", "process"]


class VideoError(Exception):
    """A video cannot be processed; becomes one row of the failure table, never a crash.

    Args:
        stage: Where it happened.
        reason: A short snake_case class for counting, such as ``too_short`` or ``no_video_stream``.
        message: One sentence that a person understands: what was wrong and what to do.
        transient: True when another attempt may succeed (a storage hiccup), so a later run retries
        it.
    """

    def __init__(self, stage: Stage, reason: str, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.stage: Stage = stage
        self.reason = reason
        self.message = message
        self.transient = transient

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the journey between processes (exceptions drop keyword arguments otherwise)."""
        return (_rebuild, (self.stage, self.reason, self.message, self.transient))


def _rebuild(stage: Stage, reason: str, message: str, transient: bool) -> VideoError:
    return VideoError(stage, reason, message, transient=transient)
