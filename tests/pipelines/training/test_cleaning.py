from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.training.cleaning import CleaningConfig, CleanResult, clean
from pipelines.training.matching import LabelledVideos
from tests.pipelines.training.train_inputs import labelled

IDS = ["a", "b", "c", "d"]


def videos_of(folder: Path) -> LabelledVideos:
    """Clips 0-5 of a, b, c are measured differently; d has no label."""
    nan = np.nan
    sync = np.zeros((8, 4))
    sync[:, 1] = [-4, 3, 0, 0, nan, 9, 9, 9]
    sync[:, 2] = [5, 2, 3, 9, nan, 4, 0, 0]
    return labelled(
        folder,
        IDS,
        lambda n: (
            dict.fromkeys(("lip_sync", "expression", "audio_quality"), -1)
            | (dict.fromkeys(("cross_modal", "overall"), -1) if n == 3 else {})
        ),
        clips=2,
        frames=np.array([100, 100, 150, 0, 50, 150, 150, 150]),
        face_frames=np.array([49, 50, 150, 0, 0, 150, 0, 0]),
        sync=sync,
        end_s=np.array([6.0, 7.5, 6, 12, 2, 12, 6, 12]),
    )


def run(folder: Path, **rules: Any) -> CleanResult:
    return clean(videos_of(folder), CleaningConfig(**rules))


def test_without_rules_only_empty_clips_go(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert found.labelled.tolist() == [True] * 6 + [False] * 2
    assert found.passes.tolist() == [True, True, True, False, True, True, False, False]
    assert found.counts == {"no_frames": 1}
    assert found.dropped.tolist() == [3]


@pytest.mark.parametrize(
    ("rules", "gone", "unmeasurable"),
    [
        ({"min_face_share": 0.5}, [0, 4], 0),
        ({"min_face_share": 1.0}, [0, 1, 4], 0),
        ({"max_abs_offset": 3}, [0, 5], 1),
        ({"max_abs_offset": 4}, [5], 1),
        ({"min_lse_c": 3}, [1], 1),
        ({"min_lse_c": 3, "unmeasurable": "drop"}, [1, 4], 1),
        ({"min_clip_s": 2}, [1], 0),  # clip 1 lasts 1.5 s, clip 4 just 2 s
    ],
)
def test_a_rule(tmp_path: Path, rules: dict[str, Any], gone: list[int], unmeasurable: int) -> None:
    found = run(tmp_path, **rules)
    rule = next(iter(rules))
    assert found.counts == {"no_frames": 1, rule: len(gone)}
    assert found.unmeasurable == {rule: unmeasurable}
    assert sorted(found.dropped) == sorted([3, *gone])
    assert np.flatnonzero(found.passes).tolist() == sorted({0, 1, 2, 4, 5} - set(gone))
    assert found.used().tolist() == found.passes.tolist()


def test_what_was_dropped_is_listed_with_rule_value_and_limit(tmp_path: Path) -> None:
    videos = videos_of(tmp_path)
    rules = CleaningConfig(min_face_share=0.5, max_abs_offset=3, unmeasurable="drop")
    found = clean(videos, rules)
    rows = found.table(videos.index).to_pylist()
    assert [(r["video_id"], r["clip_index"], r["rule"], r["value"], r["limit"]) for r in rows] == [
        ("b", 1, "no_frames", 0, None),
        ("a", 0, "min_face_share", 0.49, 0.5),
        ("c", 0, "min_face_share", 0, 0.5),
        ("a", 0, "max_abs_offset", 4, 3),
        ("c", 0, "max_abs_offset", None, 3),
        ("c", 1, "max_abs_offset", 9, 3),
    ]
    assert (rows[1]["start_s"], rows[1]["end_s"]) == (0, 6)
    assert np.flatnonzero(found.passes).tolist() == [1, 2]
    assert found.counts == {"no_frames": 1, "min_face_share": 2, "max_abs_offset": 3}
    assert found.emptied(videos.index) == ["c"]
    assert run(tmp_path).table(videos.index).num_rows == 1
    both = run(tmp_path, max_abs_offset=3, min_lse_c=3)
    assert np.flatnonzero(both.passes).tolist() == [2, 4]


def test_scope_train_spares_the_other_splits(tmp_path: Path) -> None:
    found = run(tmp_path, min_face_share=0.5, scope="train")
    assert np.flatnonzero(found.used()).tolist() == [0, 1, 2, 4, 5]
    train = np.arange(8) < 2  # video a
    assert np.flatnonzero(found.used(train)).tolist() == [1, 2, 4, 5]
    everywhere = run(tmp_path, min_face_share=0.5)
    assert np.flatnonzero(everywhere.used(train)).tolist() == [1, 2, 5]


@pytest.mark.parametrize(
    "wrong", [{"min_face_share": 1.1}, {"max_abs_offset": -1}, {"min_face": 0.5}]
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CleaningConfig(**wrong)
