"""Everything that the report, the summaries and the gate know of a scored corpus."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class KeyFrame:
    """A picture of a video for the report.

    Attributes:
        time_s: In the video.
        jpeg: The picture, empty when there is none.
        reason: Why there is none.
    """

    time_s: float
    jpeg: bytes = b""
    reason: str = ""


@dataclass(frozen=True)
class ReportFacts:
    """A scored corpus.

    Attributes:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema` (with ``run_date``), of the
            videos that are in the corpus of this run.
        clips: Rows of :func:`pipelines.scoring.columns.clip_schema` of the same videos.
        failures: One dict a failed video: video_id, uri, stage, reason, message, attempts.
        counts: corpus, scored (in this run), known (scored before), failed (in this run),
            failed_before: numbers of videos.
        leaderboard: See :mod:`pipelines.scoring.leaderboard`.
        change: Against the baseline, see :mod:`pipelines.scoring.baseline`; None without one.
        gate: See :mod:`pipelines.scoring.gate`; None without one.
        standouts: What stands out against the corpus or its generator: dicts with ``video_id``,
            ``start_s``, ``end_s`` (None: the whole video), ``name``, ``text``.
        key_frames: video_id -> pictures, for the worst and best videos.
        provenance: run_id, started (UTC, ISO 8601), seconds, corpus, checkpoint (where), digest,
            fingerprint, model_card (dict or None), code_version, level of the intervals,
            demonstration.
    """

    videos: "pa.Table"
    clips: "pa.Table"
    failures: list[dict[str, Any]]
    counts: dict[str, int]
    leaderboard: dict[str, Any]
    change: dict[str, Any] | None
    gate: dict[str, Any] | None
    standouts: list[dict[str, Any]]
    provenance: dict[str, Any]
    key_frames: dict[str, list[KeyFrame]] = field(default_factory=dict)
