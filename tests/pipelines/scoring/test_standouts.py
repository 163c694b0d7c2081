from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from actors.descriptors import DESCRIPTOR_NAMES
from pipelines.scoring.columns import clip_schema, video_schema
from pipelines.scoring.standouts import (
    LEAST_GROUP,
    MEASURES,
    MOST,
    Standout,
    standouts,
    threshold,
)

# Mean and standard deviation of a homogeneous corpus; log-normal where the ratio counts.
USUAL = {
    "face_sharpness": (60.0, 12.0),
    "sharpness": (150.0, 30.0),
    "snr": (35.0, 5.0),
    "flicker_luma": (0.12, 0.04),
    "clipping_share": (0.0, 0.0),
    "longest_freeze": (0.0, 0.0),
    "bandwidth": (7700.0, 200.0),
    "loudness_lufs": (-23.0, 3.0),
    "av_correlation": (0.5, 0.12),
}


def described(rng: np.random.Generator, **given: float) -> dict[str, float | None]:
    values: dict[str, float | None] = dict.fromkeys(DESCRIPTOR_NAMES)
    for name, (mean, spread) in USUAL.items():
        if MEASURES[name].scale == "log":
            values[name] = float(mean * np.exp(rng.normal(0, spread / mean)))
        else:
            values[name] = float(rng.normal(mean, spread))
    return {**values, **given}


def video(i: int, rng: np.random.Generator, **columns: Any) -> dict[str, Any]:
    given = columns.pop("descriptors", {})
    return {
        "video_id": f"v{i}",
        "generator": "a",
        "demonstration": False,
        "clips": 2,
        "worst_start_s": 6.0,
        "worst_end_s": 12.0,
        "sync_offset": float(rng.integers(-1, 2)),
        "sync_confidence": float(rng.normal(6, 0.7)),
        "descriptors": described(rng, **given),
        **columns,
    }


def tables(
    videos: list[dict[str, Any]], clips: list[dict[str, Any]] | None = None
) -> tuple[pa.Table, pa.Table]:
    return (
        pa.Table.from_pylist(videos, schema=video_schema()),
        pa.Table.from_pylist(clips or [], schema=clip_schema()),
    )


def corpus(n: int, seed: int = 0, **columns: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [video(i, rng, **columns) for i in range(n)]


def test_a_blurred_face_is_named_with_its_share_of_the_corpus() -> None:
    videos = corpus(40)
    videos[7]["descriptors"]["face_sharpness"] = 6.0
    (found,) = standouts(*tables(videos))
    assert found == Standout(
        "v7", None, None, "face_sharpness", 6.0,
        "face less sharp than all 39 other videos of the corpus (6)",
    )  # fmt: skip


def test_the_share_is_that_of_the_others() -> None:
    videos = corpus(100)
    for i, sharpness in ((3, 5.0), (4, 6.0), (5, 7.0)):
        videos[i]["descriptors"]["face_sharpness"] = sharpness
    texts = {s.video_id: s.text for s in standouts(*tables(videos))}
    assert texts["v3"].startswith("face less sharp than all 99 other")
    assert texts["v4"] == "face less sharp than 98 % of the corpus (6)"
    assert texts["v5"] == "face less sharp than 97 % of the corpus (7)"


def test_only_the_bad_side_is_named() -> None:
    videos = corpus(40)
    videos[1]["descriptors"].update(face_sharpness=600.0, snr=90.0, flicker_luma=-3.0)
    assert standouts(*tables(videos)) == []
    videos[2]["descriptors"]["loudness_lufs"] = -60.0
    videos[3]["descriptors"]["loudness_lufs"] = 10.0
    words = {s.video_id: s.text.split(" than")[0] for s in standouts(*tables(videos))}
    assert words == {"v2": "sound quieter", "v3": "sound louder"}


def test_differences_that_nobody_notices_are_none_however_alike_the_others_are() -> None:
    videos = corpus(60)
    for v in videos:
        v["descriptors"].update(clipping_share=0.0, bandwidth=7700.0)
    videos[0]["descriptors"].update(clipping_share=0.0008, bandwidth=7200.0)
    videos[1]["descriptors"].update(clipping_share=0.03)
    (found,) = standouts(*tables(videos))
    assert (found.video_id, found.name) == ("v1", "clipping_share")


@pytest.mark.parametrize("n", [10, 40, 300])
def test_a_homogeneous_corpus_raises_next_to_nothing(n: int) -> None:
    """At most ALPHA of such corpora; 20 with at most 4 pass a true rate of 5 % in 99.7 %."""
    raised = sum(bool(standouts(*tables(corpus(n, seed)))) for seed in range(20))
    assert raised <= 4


def test_the_threshold_counts_comparisons_and_values() -> None:
    assert threshold(10_000, 1) == pytest.approx(scipy.stats.norm.isf(0.025), rel=0.01)
    assert threshold(10_000, 100) == pytest.approx(scipy.stats.norm.isf(0.025 / 100), rel=0.01)
    assert threshold(20, 100) > 1.5 * threshold(10_000, 100), "a spread known less well"


def test_the_level_is_shared_by_corpus_generators_and_clips() -> None:
    """A value between the thresholds of the corpus alone and of all that is compared."""

    def alike(**columns: Any) -> list[dict[str, Any]]:
        # Median 0, median absolute deviation 1 and no other measure.
        levels = [float(k % 5 - 2) for k in range(40)]
        none = dict.fromkeys(DESCRIPTOR_NAMES)
        return [
            video(i, np.random.default_rng(0), sync_offset=None, sync_confidence=None, **columns)
            | {"descriptors": {**none, "snr": 10 * level}}
            for i, level in enumerate(levels)
        ]

    # 40 in the corpus, 2 * 20 in generators, 80 clips.
    without, shared = (threshold(40, n * len(MEASURES)) for n in (80, 160))
    value = -10 * 1.4826 * (without + shared) / 2
    videos = alike(generator=None)
    videos[2]["descriptors"]["snr"] = value
    (found,) = standouts(*tables(videos))
    assert (found.video_id, found.name) == ("v2", "snr")
    clips = [
        {"video_id": v["video_id"], "clip_index": k, "start_s": 6.0 * k, "end_s": 6.0 * k + 6}
        | {"demonstration": False, "descriptors": dict.fromkeys(DESCRIPTOR_NAMES)}
        for v in videos
        for k in range(2)
    ]
    assert len(clips) == 80
    halves = [v | {"generator": "ab"[i < 20]} for i, v in enumerate(videos)]
    assert len(standouts(*tables(halves))) == 1
    assert standouts(*tables(halves, clips)) == []
    videos[2]["descriptors"]["snr"] = -10 * 1.4826 * threshold(20, 160 * len(MEASURES)) * 1.5
    assert len(standouts(*tables(halves, clips))) == 1


def test_small_groups_are_not_judged() -> None:
    videos = corpus(LEAST_GROUP - 1)
    videos[0]["descriptors"]["face_sharpness"] = 0.01
    assert standouts(*tables(videos)) == []
    assert standouts(*tables([])) == []


def test_within_a_generator_what_the_corpus_hides_stands_out() -> None:
    rng = np.random.default_rng(5)
    soft = [video(i, rng, generator="soft") for i in range(40)]
    sharp = [video(40 + i, rng, generator="sharp") for i in range(40)]
    for v in soft:
        v["descriptors"]["face_sharpness"] *= 0.08
    sharp[0]["descriptors"]["face_sharpness"] = 5.0  # as soft as the others' usual
    (found,) = standouts(*tables(soft + sharp))
    assert found.video_id == "v40"
    assert "all 39 other videos of the same generator" in found.text


def test_sync_stands_out_by_its_size_and_not_with_random_weights() -> None:
    videos = corpus(40)
    videos[4]["sync_offset"], videos[9]["sync_offset"] = -9.0, 11.0
    found = standouts(*tables(videos))
    assert [(s.video_id, s.name, s.value) for s in found] == [
        ("v4", "sync_offset", -9.0),
        ("v9", "sync_offset", 11.0),
    ]
    assert "further apart" in found[0].text
    for v in videos:
        v["demonstration"] = True
    assert standouts(*tables(videos)) == []


def test_at_most_three_of_a_video_the_most_unusual_first() -> None:
    videos = corpus(60)
    videos[0]["descriptors"].update(
        face_sharpness=0.5, snr=-15.0, bandwidth=600.0, flicker_luma=3.0, clipping_share=0.3
    )
    found = standouts(*tables(videos))
    assert len(found) == MOST
    assert found[0].name == "clipping_share", "600 times the floor"


def test_missing_measures_make_no_claim() -> None:
    videos = corpus(40)
    for v in videos[:35]:
        v["descriptors"] = dict.fromkeys(DESCRIPTOR_NAMES)
        v["sync_offset"] = None
    videos[39]["descriptors"]["face_sharpness"] = 0.1
    assert standouts(*tables(videos)) == []


def segments(videos: list[dict[str, Any]], seed: int = 1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "video_id": v["video_id"],
            "start_s": 6.0 * k,
            "end_s": 6.0 * k + 6,
            "demonstration": False,
            "descriptors": described(rng),
        }
        for v in videos
        for k in range(2)
    ]


def test_the_worst_segment_carries_what_stands_out_in_it() -> None:
    videos = corpus(30)
    clips = segments(videos)
    clips[2 * 4 + 1]["descriptors"]["snr"] = -5.0  # the worst clip of v4
    clips[2 * 6]["descriptors"]["snr"] = -5.0  # not the worst clip of v6
    (found,) = standouts(*tables(videos, clips))
    assert (found.video_id, found.start_s, found.end_s, found.name) == ("v4", 6.0, 12.0, "snr")
    assert "of the corpus" in found.text


def test_what_the_whole_video_suffers_from_is_said_once() -> None:
    videos = corpus(30)
    clips = segments(videos)
    for clip in clips[8:10]:
        clip["descriptors"]["snr"] = -15.0
    videos[4]["descriptors"]["snr"] = -15.0
    (found,) = standouts(*tables(videos, clips))
    assert (found.video_id, found.start_s) == ("v4", None)


def test_a_column_more_does_no_harm() -> None:
    videos, clips = tables(corpus(40))
    videos = videos.append_column("run_date", pa.array(["2026-01-01"] * 40))
    assert standouts(videos, clips) == []
