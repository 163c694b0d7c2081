"""What a clip looks and sounds like over time, coarse enough to be kept beside its scores."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.lowlevel import LOWLEVEL_NAMES
from actors.types import FPS

STEP = 5  # frames that one value of a curve stands for


def curves(row: Mapping[str, Any]) -> dict[str, list[float | None] | None]:
    """Average lip opening and loudness over :data:`STEP` frames (5 values a second).

    Args:
        row: A feature row with ``lowlevel``, masks, ``start_s`` and ``end_s``.

    Returns:
        ``lip_opening`` in interocular distances and ``loudness`` in dBFS, each a list from the
        start of the clip, None where no frame has a value; None instead of a list without
        ``lowlevel``, without a face, without sound.
    """
    if row.get("lowlevel") is None:
        return {"lip_opening": None, "loudness": None}
    frames = min(len(row["frame_mask"]), round((row["end_s"] - row["start_s"]) * FPS))
    values = np.asarray(row["lowlevel"][:frames], np.float64)
    real = row["frame_mask"][:frames]
    seen, heard = row["face_mask"][:frames] & real, row["audio_mask"][:frames] & real
    loudness = values[:, LOWLEVEL_NAMES.index("energy")]
    return {
        "lip_opening": _coarse(values[:, LOWLEVEL_NAMES.index("lip_opening")], seen),
        "loudness": _coarse(loudness, heard),
    }


def _coarse(values: NDArray[np.float64], known: NDArray[np.bool_]) -> list[float | None] | None:
    if not known.any():
        return None
    known = known & np.isfinite(values)
    starts = np.arange(0, len(values), STEP)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    counts = np.add.reduceat(known.astype(np.int64), starts)
    return [
        round(float(total / count), 4) if count else None
        for total, count in zip(sums, counts, strict=True)
    ]
