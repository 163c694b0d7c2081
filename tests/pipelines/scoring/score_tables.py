"""Tables of scores for tests: the real schemas, any column set by name, without any model.

``videos([video("wav2lip/may", generator="wav2lip", overall=3.2), …])`` gives the table of videos,
``clips([clip("wav2lip/may", 0, overall=3.1), …])`` that of clips, ``video_of(rows)`` a video row
from its clips, ``corpus(…)`` both of a whole constructed corpus.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.descriptors import DESCRIPTOR_FIELDS
from actors.faces import FACE_FIELDS
from model.tasks import NEED_SOUND, TASKS
from pipelines.scoring.columns import clip_schema, video_schema

Row = dict[str, Any]

RUN_DATE = "2026-01-31"
CHECKPOINT = "c0" * 8
FINGERPRINT = "f0" * 8
CLIP_S, FRAMES = 6.0, 150
NO_SOUND = "no sound"
PROVENANCE: Row = {
    "score_key": "5c" * 8,
    "checkpoint": CHECKPOINT,
    "fingerprint": FINGERPRINT,
    "code_version": "0.1.0",
    "demonstration": False,
}
SYNC: Row = {
    "sync_score": 2.5,
    "sync_offset": 0.0,
    "sync_confidence": 5.0,
    "sync_distance": 8.0,
}
NO_SYNC: Row = dict.fromkeys(SYNC)
FACES: Row = {
    "tracks": 1,
    "max_faces": 1,
    "multi_face_share": 0.0,
    "face_share": 1.0,
    "detected_share": 1.0,
    "main_track_frames": FRAMES,
    "box_width": 200.0,
    "box_height": 240.0,
    "detector": "test",
}
assert set(FACES) == set(FACE_FIELDS)


def finding(
    kind: str,
    start_s: float = 0.0,
    end_s: float = 1.0,
    *,
    value: float = 1.0,
    severity: float = 0.5,
    text: str | None = None,
) -> Row:
    """One finding."""
    return {
        "kind": kind,
        "start_s": start_s,
        "end_s": end_s,
        "value": value,
        "severity": severity,
        "text": kind.replace("_", " ") if text is None else text,
    }


def descriptors(**values: float | None) -> Row:
    """The struct of descriptors; those not named are null."""
    unknown = set(values) - set(DESCRIPTOR_FIELDS)
    assert not unknown, f"no such descriptors: {unknown}"
    return {name: values.get(name) for name in DESCRIPTOR_FIELDS}


def _common(video_id: str, has_sound: bool) -> Row:
    return {
        "video_id": video_id,
        "uri": f"/corpus/{video_id}.mp4",
        "source_version": f"v1-{video_id}",
        "generator": None,
        "speaker": None,
        **(SYNC if has_sound else NO_SYNC),
        "ood_distance": 0.5,
        "ood": False,
        "descriptors": descriptors(),
        "faces": FACES,
        "findings": [],
        **PROVENANCE,
        "run_date": RUN_DATE,
    }


def _scores(more: Mapping[str, Any], has_sound: bool, score: float | None) -> Row:
    return {t: None if t in NEED_SOUND and not has_sound else score for t in TASKS} | {
        t: more[t] for t in TASKS if t in more
    }


def clip(
    video_id: str,
    clip_index: int = 0,
    *,
    score: float | None = 3.0,
    has_sound: bool = True,
    **more: Any,
) -> Row:
    """One row of the table of clips: ``score`` in each task, then whatever columns are given."""
    frames = more.get("frames", FRAMES)
    steps = round(5 * frames / 25)
    row = {
        **_common(video_id, has_sound),
        "clip_index": clip_index,
        "start_s": CLIP_S * clip_index,
        "end_s": CLIP_S * clip_index + frames / 25,
        "frames": frames,
        "face_frames": frames,
        "has_sound": has_sound,
        **_scores(more, has_sound, score),
        "sync_reason": None if has_sound else NO_SOUND,
        "curves": {
            "lip_opening": [0.1] * steps,
            "loudness": [-20.0] * steps if has_sound else None,
        },
    }
    return _checked(row | more, clip_schema())


def video(
    video_id: str,
    *,
    score: float | None = 3.0,
    half_width: float | None = 0.4,
    has_sound: bool = True,
    clips: int = 1,
    **more: Any,
) -> Row:
    """One row of the table of videos.

    Args:
        video_id: Also gives the uri.
        score: In each task that is not given by name.
        half_width: Of the intervals, cut to [1, 5]; None: no intervals.
        has_sound: Without it lip sync and audio quality are null with their reason.
        clips: Number of clips.
        more: Any column of the schema, and ``run_date``.
    """
    scores = _scores(more, has_sound, score)
    row = {
        **_common(video_id, has_sound),
        "clips": clips,
        "frames": FRAMES * clips,
        "face_frames": FRAMES * clips,
        "has_sound": has_sound,
        "start_s": 0.0,
        "end_s": CLIP_S * clips,
        "worst_start_s": 0.0,
        "worst_end_s": CLIP_S,
        "worst_score": scores["overall"],
        "cause": None,
    }
    for task, value in scores.items():
        bounded = value is not None and half_width is not None
        row |= {
            task: value,
            f"{task}_low": max(1.0, value - half_width) if bounded else None,
            f"{task}_high": min(5.0, value + half_width) if bounded else None,
            f"{task}_reason": None if value is not None else _reason(task, has_sound),
        }
    return _checked(row | more, video_schema())


def _reason(task: str, has_sound: bool) -> str:
    return NO_SOUND if task in NEED_SOUND and not has_sound else "no clip has a score"


def video_of(clip_rows: Sequence[Row], **more: Any) -> Row:
    """The video row of its clips: scores and sync measures weighted by valid frames."""
    first = clip_rows[0]

    def mean(name: str) -> float | None:
        have = [r for r in clip_rows if r[name] is not None]
        values, frames = [r[name] for r in have], [r["frames"] for r in have]
        return float(np.average(values, weights=frames)) if have else None

    worst = min(clip_rows, key=lambda r: r["overall"] if r["overall"] is not None else 9.0)
    findings = sorted(
        (f for r in clip_rows for f in r["findings"]), key=lambda f: -float(f["severity"])
    )
    values: Row = {
        **{name: first[name] for name in ("uri", "source_version", "generator", "speaker")},
        **{name: first[name] for name in (*PROVENANCE, "run_date", "faces", "descriptors")},
        **{name: mean(name) for name in (*TASKS, *SYNC, "ood_distance")},
        "has_sound": any(r["has_sound"] for r in clip_rows),
        "frames": sum(r["frames"] for r in clip_rows),
        "face_frames": sum(r["face_frames"] for r in clip_rows),
        "clips": len(clip_rows),
        "start_s": clip_rows[0]["start_s"],
        "end_s": clip_rows[-1]["end_s"],
        "worst_start_s": worst["start_s"],
        "worst_end_s": worst["end_s"],
        "worst_score": worst["overall"],
        "findings": findings,
        "cause": "; ".join(f["text"] for f in findings) or None,
    }
    return video(first["video_id"], **(values | more))


def _checked(row: Row, schema: pa.Schema) -> Row:
    unknown = set(row) - {*schema.names, "run_date"}
    assert not unknown, f"no such columns: {unknown}"
    return row


def videos(rows: Iterable[Row]) -> pa.Table:
    """The table of videos as it is in memory: the schema and ``run_date`` at the end."""
    return _table(rows, video_schema())


def clips(rows: Iterable[Row]) -> pa.Table:
    """The table of clips as it is in memory."""
    return _table(rows, clip_schema())


def _table(rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    names = [*schema.names, "run_date"]
    whole = schema.append(pa.field("run_date", pa.string()))
    return pa.Table.from_pylist([{n: r[n] for n in names} for r in rows], schema=whole)


def corpus(
    quality: Mapping[str, float],
    prompts: int = 8,
    *,
    clips_each: int = 2,
    seed: int = 0,
    prompt_spread: float = 0.3,
    noise: float = 0.1,
) -> tuple[pa.Table, pa.Table]:
    """Videos and clips of some generators of different quality over the same prompts.

    Args:
        quality: generator -> mean of every score.
        prompts: Videos of each generator, ``<generator>/p<i>``, speaker ``s<i>``.
        clips_each: Clips of a video.
        seed: Of the generator of random numbers.
        prompt_spread: Standard deviation of what a prompt adds, the same for all generators.
        noise: Standard deviation of what is added to each clip.
    """
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, prompt_spread, prompts)
    clip_rows: list[Row] = []
    video_rows: list[Row] = []
    for generator, mean in quality.items():
        for prompt in range(prompts):
            rows = [
                clip(
                    f"{generator}/p{prompt}",
                    index,
                    score=float(np.clip(mean + hard[prompt] + rng.normal(0, noise), 1, 5)),
                    generator=generator,
                    speaker=f"s{prompt}",
                )
                for index in range(clips_each)
            ]
            clip_rows += rows
            video_rows.append(video_of(rows))
    return videos(video_rows), clips(clip_rows)


def write_output(folder: Any, videos_table: pa.Table, clips_table: pa.Table | None = None) -> None:
    """Lay tables down as a run does: ``videos/run_date=…/part-….parquet`` below ``folder``."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for kind, table in (("videos", videos_table), ("clips", clips_table)):
        if table is None:
            continue
        for date in table["run_date"].unique().to_pylist():
            part = folder / kind / f"run_date={date}"
            part.mkdir(parents=True, exist_ok=True)
            rows = table.filter(pc.equal(table["run_date"], date)).drop_columns(["run_date"])
            pq.write_table(rows, part / "part-00000.parquet")
