"""Feature rows -> rows of scores: preprocessor, evaluator, distance, findings, curves."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from actors.errors import VideoError
from actors.row import MASKS
from actors.types import Row
from model.tasks import NEED_SOUND, TASKS
from pipelines.checkpoint import Checkpoint

OPTIONAL = ("lowlevel", "landmarks", "sync", "sync_reason", "descriptors", "weights")
PLAIN = ("clip_index", "start_s", "end_s", "faces")


class Scorer:
    """Judges clips with a checkpoint.

    Args:
        checkpoint: Loaded.
        device: Where preprocessor and evaluator compute.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self._preprocessor = checkpoint.preprocessor.to(device)
        self._evaluator = checkpoint.evaluator().to(device)
        self._streams = tuple(checkpoint.preprocessor.widths)
        self._aux = checkpoint.preprocessor.aux_names
        self._uncertainty = checkpoint.uncertainty
        self._learned = frozenset(checkpoint.details.get("learned_tasks", TASKS))

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of the feature row that scores are computed from, where they are there."""
        return tuple(dict.fromkeys((*MASKS, *PLAIN, *self._streams, *OPTIONAL)))

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """Score clips -> the columns of ``columns.clip_schema`` without identity, provenance.

        Raises:
            VideoError: A score is not finite.
        """
        import torch

        from actors.curves import curves
        from actors.findings import find
        from actors.raw_clips import stack_rows

        batch = self._preprocessor.apply(stack_rows(rows, self._streams, self._aux))
        with torch.inference_mode():
            prediction = self._evaluator(batch)
        scores = prediction.scores.float().cpu().numpy()
        embedding = prediction.embedding.float().cpu().numpy()
        heard = [bool((row["audio_mask"] & row["frame_mask"]).any()) for row in rows]
        if self._uncertainty is None:
            distance = np.full(len(rows), np.nan)
        else:
            silent = ~np.array(heard)
            distance = np.asarray(self._uncertainty.distance(embedding, silent), np.float64)
        if not np.isfinite(scores).all():
            raise VideoError(
                "score",
                "not_finite",
                "the evaluator's scores are NaN or infinite for this video: its features are "
                "beyond anything that it was trained on, or the checkpoint is broken",
            )
        result = []
        for row, own, far, has_sound in zip(
            rows, scores.tolist(), distance.tolist(), heard, strict=True
        ):
            frame_mask = row["frame_mask"]
            judged: Row = {
                task: value if self._judges(task, has_sound, bool(frame_mask.any())) else None
                for task, value in zip(TASKS, own, strict=True)
            }
            score, offset, confidence, lowest = self._sync(row)
            result.append(
                {
                    "clip_index": int(row["clip_index"]),
                    "start_s": float(row["start_s"]),
                    "end_s": float(row["end_s"]),
                    "frames": int(frame_mask.sum()),
                    "face_frames": int((frame_mask & row["face_mask"]).sum()),
                    "has_sound": has_sound,
                    **judged,
                    "sync_score": score,
                    "sync_offset": offset,
                    "sync_confidence": confidence,
                    "sync_distance": lowest,
                    "sync_reason": row.get("sync_reason"),
                    "ood_distance": _number(far),
                    "ood": None if math.isnan(far) else far > 1.0,
                    "descriptors": row.get("descriptors"),
                    "faces": row["faces"],
                    "findings": [asdict(finding) for finding in find(row)],
                    "curves": curves(row),
                }
            )
        return result

    def _judges(self, task: str, has_sound: bool, has_frame: bool) -> bool:
        # An evaluator has numbers for everything, also for nothing.
        heard = has_sound or task not in NEED_SOUND
        return task in self._learned and heard and has_frame

    @staticmethod
    def _sync(row: Row) -> tuple[float | None, ...]:
        values = row.get("sync")
        if values is None:
            return (None,) * 4
        return tuple(_number(value) for value in np.asarray(values, np.float64).tolist())


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def source_version(content: str, key: str) -> str:
    """Name what a row was made of: a video's content, scored by ``key``."""
    return f"{content}@{key}"
