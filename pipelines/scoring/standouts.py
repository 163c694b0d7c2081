"""What stands out against the corpus, or against videos of the same generator, in words.

Findings (``actors/findings.py``) judge a clip by itself. Here a video is held against the others: a
robust z-score by median and MAD for each measure that has a bad side, and a threshold that takes
into account how many comparisons are made, so that a corpus of videos alike raises next to
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from actors.descriptors import DESCRIPTOR_NAMES

if TYPE_CHECKING:
    import pyarrow as pa

F64 = NDArray[np.float64]
Scale = Literal["plain", "log", "size"]

LEAST_GROUP: Final = 8  # videos: the median and MAD of fewer say little
LEAST_CLIPS: Final = 20  # of a corpus, for the worst segments
MOST: Final = 3  # of a video
ALPHA: Final = 0.05  # that a corpus without outliers raises anything, under normal measures
# The MAD is as good as a standard deviation of 0.37 times as many values (Rousseeuw and Croux, J.
# American Statistical Association 88, 1993), so its z-scores have heavier tails than normal ones.
EFFICIENCY: Final = 0.37
MAD_TO_SIGMA: Final = 1.4826


@dataclass(frozen=True, slots=True)
class Standout:
    """A measure of a video, or of a part of it, that is unlike the others.

    Attributes:
        video_id: Of the video.
        start_s: Start of the part; None: the whole video.
        end_s: End of the part, None with ``start_s``.
        name: Of the measure, a descriptor or a sync measure.
        value: Of the video or the part.
        text: In words, with the comparison.
    """

    video_id: str
    start_s: float | None
    end_s: float | None
    name: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure with a bad side.

    Attributes:
        low: Words when it is unusually low; empty where that is no fault.
        high: The same for high.
        floor: Least spread (standard deviation) that is taken for one, on the scale; what differs
            by a few of these is no difference for an eye or an ear.
        scale: ``log`` for measures whose ratios count, ``size`` for the absolute value.
        unit: Shown behind the value.
    """

    low: str
    high: str
    floor: float
    scale: Scale = "plain"
    unit: str = ""


MEASURES: Final[dict[str, Measure]] = {
    "face_sharpness": Measure("face less sharp", "", 0.15, "log"),
    "sharpness": Measure("picture less sharp", "", 0.15, "log"),
    "blockiness": Measure("", "blocks of the codec stronger", 0.05),
    "picture_noise": Measure("", "picture noisier", 0.4, unit=" levels"),
    "flicker_luma": Measure("", "light flickers more", 0.1, unit=" levels"),
    "flicker_chroma": Measure("", "colours flicker more", 0.1, unit=" levels"),
    "duplicated_share": Measure("", "more repeated frames", 0.03),
    "longest_freeze": Measure("", "picture frozen for longer", 0.1, unit=" s"),
    "luma": Measure("picture darker", "picture brighter", 8.0, unit=" levels"),
    "contrast": Measure("less contrast", "", 4.0, unit=" levels"),
    "au_jerk": Measure("", "expression more jerky", 0.15, "log"),
    "facial_asymmetry": Measure("", "face more lopsided", 0.01, unit=" eye distances"),
    "skull_deformation": Measure("", "face wobbles more", 0.2, "log", " eye distances"),
    "head_rotation_speed": Measure("", "head more restless", 0.2, "log", "°/s"),
    "lip_velocity": Measure("lips move less", "lips more restless", 0.15, "log"),
    "frozen_mouth": Measure("", "mouth still for longer in speech", 0.12, unit=" s"),
    "still_mouth_share": Measure("", "mouth stiller in speech", 0.08),
    "av_correlation": Measure("lips follow the voice less", "", 0.1),
    "rhythm_agreement": Measure("lips and syllables keep less time", "", 0.1),
    "loudness_lufs": Measure("sound quieter", "sound louder", 1.5, unit=" LUFS"),
    "crest_factor_db": Measure("sound more compressed or clipped", "", 1.0, unit=" dB"),
    "clipping_share": Measure("", "more clipping", 0.0005),
    "dropout_share": Measure("", "more drop-outs", 0.002),
    "snr": Measure("more noise beside the speech", "", 2.5, unit=" dB"),
    "decay_rate": Measure("sound more reverberant", "", 0.15, "log", " dB/s"),
    "hnr": Measure("voice hoarser or noisier", "", 1.0, unit=" dB"),
    "bandwidth": Measure("high frequencies missing more", "", 400.0, unit=" Hz"),
    "spectral_flatness": Measure("", "sound more like noise", 0.02),
    "articulation_rate": Measure("speech slower", "speech faster", 0.5, unit=" syllables/s"),
    "sync_offset": Measure("", "sound and lips further apart", 1.0, "size", " frames"),
    "sync_confidence": Measure("lip sync less certain (LSE-C)", "", 0.5),
    "sync_distance": Measure("", "lips and sound fit less (LSE-D)", 0.4),
}


def standouts(videos: "pa.Table", clips: "pa.Table") -> list[Standout]:
    """Name what stands out.

    Args:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema`; more columns do no harm.
        clips: Rows of :func:`pipelines.scoring.columns.clip_schema` of the same videos.

    Returns:
        At most three for a video as a whole and three for its worst segment (where the video as a
        whole does not stand out in them already), in the order of ``videos``; the most unusual
        first. Sync measures of weights for demonstrations are left out.
    """
    if videos.num_rows == 0:
        return []
    rows = _columns(videos, ("video_id", "generator", "demonstration"))
    values = _measures(videos, rows["demonstration"])
    groups: list[tuple[str, NDArray[np.intp]]] = [("the corpus", np.arange(videos.num_rows))]
    generators = np.array([g or "" for g in rows["generator"]])
    groups += [
        ("the same generator", np.flatnonzero(generators == name))
        for name in sorted(set(generators.tolist()) - {""})
        if (generators == name).sum() < videos.num_rows
    ]
    tests = len(MEASURES) * (
        sum(len(members) for _, members in groups if len(members) >= LEAST_GROUP)
        + (clips.num_rows if clips.num_rows >= LEAST_CLIPS else 0)
    )
    found: dict[int, dict[str, tuple[float, str]]] = {}
    for place, members in groups:
        for name, i, score, text in _outliers(
            values, members, place, "videos", LEAST_GROUP, tests=tests
        ):
            kept = found.setdefault(i, {})
            if name not in kept or score > kept[name][0]:
                kept[name] = (score, text)
    segments = _worst_segments(videos, clips, tests)
    result: list[Standout] = []
    for i, video_id in enumerate(rows["video_id"]):
        whole = _best(found.get(i, {}))
        result += [
            Standout(video_id, None, None, name, float(values[name][i]), text)
            for name, text in whole
        ]
        said = {name for name, _ in whole}
        result += [s for s in segments.get(video_id, []) if s.name not in said]
    return result


def _best(found: dict[str, tuple[float, str]]) -> list[tuple[str, str]]:
    order = sorted(found, key=lambda name: (-found[name][0], name))[:MOST]
    return [(name, found[name][1]) for name in order]


def _columns(table: "pa.Table", names: Sequence[str]) -> dict[str, list[Any]]:
    return {name: table.column(name).to_pylist() for name in names}


def _measures(table: "pa.Table", demonstration: list[Any]) -> dict[str, F64]:
    """The measures of a table's rows, NaN where there is none."""
    import pyarrow.compute as pc

    seeded = np.array([bool(d) for d in demonstration])
    result = {}
    for name in MEASURES:
        if name in DESCRIPTOR_NAMES:
            column = pc.struct_field(table.column("descriptors"), name)
        else:
            column = table.column(name)
        numbers = np.array([np.nan if v is None else float(v) for v in column.to_pylist()])
        if name not in DESCRIPTOR_NAMES:
            numbers[seeded] = np.nan
        result[name] = numbers
    return result


def threshold(n: int, tests: int) -> float:
    """Robust z-score beyond which one of ``tests`` comparisons in groups of ``n`` is unusual.

    Student's t with the MAD's degrees of freedom at ``ALPHA`` shared among the tests
    (Bonferroni), two-sided.
    """
    from scipy.stats import t

    return float(t.isf(ALPHA / 2 / max(1, tests), max(1.0, EFFICIENCY * (n - 1))))


def _scaled(values: F64, scale: Scale) -> F64:
    if scale == "log":
        result: F64 = np.log(np.maximum(values, 1e-6))
        return result
    return np.abs(values) if scale == "size" else values


def _outliers(
    values: dict[str, F64],
    members: NDArray[np.intp],
    place: str,
    what: str,
    least: int,
    *,
    tests: int,
) -> list[tuple[str, int, float, str]]:
    """Outliers among ``members``: measure, row, how far beyond the threshold (> 1), text.

    ``tests`` counts the comparisons of all groups, which share ``ALPHA``.
    """
    if members.size < least:
        return []
    found = []
    for name, measure in MEASURES.items():
        scaled = _scaled(values[name][members], measure.scale)
        known = np.isfinite(scaled)
        n = int(known.sum())
        if n < least:
            continue
        middle = float(np.median(scaled[known]))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(scaled[known] - middle)))
        z = (scaled - middle) / max(spread, measure.floor)
        limit = threshold(n, tests)
        for k in np.flatnonzero(known & (np.abs(z) > limit)):
            words = measure.high if z[k] > 0 else measure.low
            if words:
                beyond = scaled[known] < scaled[k] if z[k] > 0 else scaled[known] > scaled[k]
                value = values[name][members[k]]
                than = _than(beyond, place, what)
                text = f"{words} {than} ({value:.3g}{measure.unit})"
                found.append((name, int(members[k]), float(np.abs(z[k]) / limit), text))
    return found


def _than(beyond: NDArray[np.bool_], place: str, what: str) -> str:
    """For example: than 97 % of the corpus."""
    others = beyond.size - 1
    exceeded = int(beyond.sum())
    if exceeded >= others:
        return f"than all {others} other {what} of {place}"
    return f"than {min(99, int(100 * exceeded / others))} % of {place}"


def _worst_segments(videos: "pa.Table", clips: "pa.Table", tests: int) -> dict[str, list[Standout]]:
    """What stands out in the worst clip of each video, against all clips of the corpus."""
    if clips.num_rows < LEAST_CLIPS:
        return {}
    rows = _columns(clips, ("video_id", "start_s", "end_s", "demonstration"))
    values = _measures(clips, rows["demonstration"])
    worst = _columns(videos, ("video_id", "worst_start_s", "worst_end_s", "clips"))
    at = {(v, _ms(s), _ms(e)): i for i, (v, s, e) in enumerate(
        zip(rows["video_id"], rows["start_s"], rows["end_s"], strict=True)
    )}  # fmt: skip
    chosen = {}
    for video_id, start, end, count in zip(*worst.values(), strict=True):
        # The only clip of a video is the video.
        if start is not None and end is not None and (count or 0) > 1:
            i = at.get((video_id, _ms(start), _ms(end)))
            if i is not None:
                chosen[i] = video_id
    found: dict[int, dict[str, tuple[float, str]]] = {}
    everything = np.arange(clips.num_rows)
    for name, i, score, text in _outliers(
        values, everything, "the corpus", "clips", LEAST_CLIPS, tests=tests
    ):
        if i in chosen:
            found.setdefault(i, {})[name] = (score, text)
    return {
        chosen[i]: [
            Standout(chosen[i], rows["start_s"][i], rows["end_s"][i], name,
                     float(values[name][i]), text)
            for name, text in _best(each)
        ]
        for i, each in found.items()
    }  # fmt: skip


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
