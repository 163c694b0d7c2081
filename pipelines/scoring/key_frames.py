"""Pictures of videos for the report, decoded where a crash or a hang of the decoder does no harm.

A process of its own opens and decodes; it sends what it has after each video. When it dies, or a
video takes too long, it is ended, that video gets the reason, and a new one takes the rest.
"""

import importlib
import multiprocessing
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from pipelines.child_process import end_with_parent
from pipelines.report.scoring_choice import (
    BEST,
    MOMENTS_NEED,
    PICTURES,
    WORST,
    best_and_worst,
    moments,
)
from pipelines.scoring.facts import KeyFrame
from pipelines.uris import strip_text

if TYPE_CHECKING:
    import pyarrow as pa

    from actors.key_frames import Still

Wanted = tuple[str, str, Sequence[float]]  # video_id, uri, seconds

SECONDS = 120.0  # for all videos
VIDEO_SECONDS = 20.0  # for one
_START_SECONDS = 60.0  # until the process says that it is there: a busy machine imports slowly
_GRACE_SECONDS = 5.0  # beyond VIDEO_SECONDS, for a decoder that keeps to its limit by itself


def wanted(
    videos: "pa.Table", *, worst: int = WORST, best: int = BEST, pictures: int = PICTURES
) -> list[Wanted]:
    """Return what the report shows: its worst and best videos, each with a few instants.

    Args:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema`.
        worst: Number of videos, as the report is told.
        best: The same from the other end.
        pictures: Instants of each.
    """
    chosen = best_and_worst(videos, worst, best)
    numbers = [*chosen.worst, *chosen.best]
    if not numbers:
        return []
    rows = videos.select(MOMENTS_NEED).take(numbers).to_pylist()
    return [(row["video_id"], row["uri"], moments(row, pictures)) for row in rows]


def key_frames(
    videos: Sequence[Wanted],
    *,
    seconds: float = SECONDS,
    video_seconds: float = VIDEO_SECONDS,
    artefacts: Mapping[str, str] | None = None,
) -> dict[str, list[KeyFrame]]:
    """Decode pictures of videos in a process that is ended when it takes too long.

    Args:
        videos: ``(video_id, uri, seconds of the instants)``; the uri as it can be opened.
        seconds: Limit for all of them; what is missing then gets the reason.
        video_seconds: Limit for one video, opening included.
        artefacts: video_id -> what is done to it at decode, for virtual variants.

    Returns:
        For each video id one key frame an instant, in the order given: a picture or a reason.
    """
    result: dict[str, list[KeyFrame]] = {}
    todo = list(videos)
    deadline = time.monotonic() + seconds
    while todo and time.monotonic() < deadline:
        failure = _run(todo, result, deadline, video_seconds, artefacts or {})
        todo = [video for video in todo if video[0] not in result]
        if todo and failure:
            name, _, times = todo.pop(0)
            result[name] = [KeyFrame(at, b"", failure) for at in times]
    for name, _, times in todo:
        result[name] = [KeyFrame(at, b"", "no time was left to decode it") for at in times]
    return result


def _run(
    todo: Sequence[Wanted],
    result: dict[str, list[KeyFrame]],
    deadline: float,
    video_seconds: float,
    artefacts: Mapping[str, str],
) -> str:
    """Let one process work until it is done or in trouble.

    Args:
        todo: Videos in order.
        result: Gets what was decoded.
        deadline: By the monotonic clock.
        video_seconds: Limit for one video.
        artefacts: See :func:`key_frames`.

    Returns:
        What went wrong with the first video without a result; empty when nothing did.
    """
    # Spawned, not forked: the driver holds threads and connections that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_work,
        args=(theirs, list(todo), video_seconds, dict(artefacts)),
        name="key-frames",
        daemon=True,
    )
    process.start()
    theirs.close()
    try:
        patience = _START_SECONDS
        for step in range(len(todo) + 1):
            left = deadline - time.monotonic()
            if not ours.poll(max(0.0, min(patience, left))):
                if left <= patience:
                    return ""  # out of time altogether: no fault of this video
                if not step:
                    return "the process that decodes did not start in time"
                return "opening and decoding it did not end in time"
            try:
                message = ours.recv()
            except (EOFError, OSError):  # OSError: it ended in the middle of a message
                process.join(_GRACE_SECONDS)
                return f"the decoder crashed (exit status {process.exitcode})"
            patience = video_seconds + _GRACE_SECONDS
            if step:
                name, stills = message
                result[name] = [KeyFrame(s.time_s, s.jpeg, s.reason) for s in stills]
        return ""
    finally:
        process.kill()  # ours, by its id; it may hang in a decoder that hears nothing else
        process.join()
        ours.close()


def _work(
    pipe: Connection, videos: Sequence[Wanted], video_seconds: float, artefacts: Mapping[str, str]
) -> None:
    """Send a greeting, then the stills of one video after the other."""
    end_with_parent()
    # An interrupt at the terminal reaches both; the driver is the one to answer it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before the greeting, so that the first video's time is its own: importing may take seconds.
    for module in ("av", "cv2", "actors.key_frames", "pipelines.storage"):
        importlib.import_module(module)
    pipe.send("ready")
    for name, uri, times in videos:
        pipe.send((name, _stills(uri, times, video_seconds, artefacts.get(name, ""))))


def _stills(uri: str, times: Sequence[float], seconds: float, artefacts: str) -> "list[Still]":
    from actors.key_frames import Still, stills, variant_stills
    from pipelines.storage import StorageError, open_uri

    try:
        if artefacts:
            return variant_stills(uri, artefacts, times, open_uri)
        with open_uri(uri) as file:
            return stills(file, times, seconds=seconds)
    except (StorageError, OSError) as error:
        reason = f"it cannot be opened: {strip_text(str(error))}"
        return [Still(at, b"", reason) for at in times]
