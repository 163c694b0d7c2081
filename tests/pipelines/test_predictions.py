"""Averaging over clips, and predictions as Parquet."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.tasks import TASKS
from pipelines.prediction_tables import (
    CLIPS_NAME,
    VIDEOS_NAME,
    read_clip_rows,
    read_predictions,
    write_predictions,
)
from pipelines.predictions import (
    NO_SOUND,
    NOT_LEARNED,
    ClipPredictions,
    Provenance,
    VideoPredictions,
    VideoTable,
    average_clips,
)
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError

MADE = Provenance("f" * 16, "c" * 16, demonstration=True)
SOUND = [TASKS.index("lip_sync"), TASKS.index("audio_quality")]
SIGHT = [t for t in range(5) if t not in SOUND]


def video_table(*names: str) -> VideoTable:
    V = len(names)
    labels = np.full((V, 5), 3.0)
    labels[0, 1] = np.nan
    return VideoTable(
        video_id=list(names),
        uri=[f"s3://key:secret@bucket/{name}.mp4" for name in names],
        split=["test"] * V,
        generator=[None, *["g1"] * (V - 1)],
        speaker=["s1"] * V,
        labels=labels,
        std=np.full((V, 5), 0.7),
        raters=np.full((V, 5), np.nan),
    )


def clips_of(*rows: tuple[str, int, int, bool]) -> ClipPredictions:
    """Clips from (video, index, frames, has sound), with random scores."""
    names, index, frames, sound = zip(*rows, strict=True)
    start = 6.0 * np.array(index)
    return ClipPredictions(
        video_id=np.array(names),
        clip_index=np.array(index),
        start_s=start,
        end_s=start + 6,
        frames=np.array(frames),
        has_sound=np.array(sound),
        scores=np.random.default_rng(0).uniform(1, 5, (len(rows), 5)).astype(np.float32),
    )


@pytest.fixture
def example() -> tuple[ClipPredictions, VideoPredictions]:
    clips = clips_of(
        ("b", 1, 30, True),
        ("a", 0, 150, True),
        ("b", 0, 150, True),
        ("a", 1, 50, False),
        ("mute", 0, 150, False),
        ("black", 0, 0, True),
    )
    videos = video_table("a", "b", "black", "mute", "absent")
    return clips, average_clips(clips, videos, MADE)


def test_clips_count_by_their_valid_frames(
    example: tuple[ClipPredictions, VideoPredictions],
) -> None:
    clips, found = example
    scores = clips.scores.astype(float)
    expected = (30 * scores[0] + 150 * scores[2]) / 180
    np.testing.assert_allclose(found.scores[1], expected, rtol=1e-12)
    assert found.clips.tolist() == [2, 2, 1, 1, 0]
    assert found.frames.tolist() == [200, 180, 0, 150, 0]


def test_a_silent_clip_has_no_part_in_what_needs_sound(
    example: tuple[ClipPredictions, VideoPredictions],
) -> None:
    clips, found = example
    np.testing.assert_allclose(found.scores[0, SOUND], clips.scores[1, SOUND], rtol=1e-12)
    scores = clips.scores.astype(float)
    both = (150 * scores[1] + 50 * scores[3]) / 200
    np.testing.assert_allclose(found.scores[0, SIGHT], both[SIGHT], rtol=1e-12)


def test_a_score_is_missing_with_its_reason(
    example: tuple[ClipPredictions, VideoPredictions],
) -> None:
    _, found = example
    assert found.reasons[0] == found.reasons[1] == (None,) * 5
    assert found.reasons[2] == ("no valid frame",) * 5
    assert found.reasons[3] == ("no sound", None, "no sound", None, None)
    assert found.reasons[4] == ("no clip",) * 5
    missing = [[reason is not None for reason in row] for row in found.reasons]
    np.testing.assert_array_equal(np.isnan(found.scores), missing)


def test_the_order_of_the_clips_changes_no_bit() -> None:
    rng = np.random.default_rng(1)
    rows = [("v", i, int(rng.integers(1, 150)), True) for i in range(40)]
    clips, videos = clips_of(*rows), video_table("v")
    first = average_clips(clips, videos, MADE).scores
    mixed = rng.permutation(40)
    names = [name for name in clips.__slots__ if name != "learned"]
    again = ClipPredictions(*(getattr(clips, name)[mixed] for name in names))
    np.testing.assert_array_equal(first, average_clips(again, videos, MADE).scores)


def test_a_task_that_was_not_learned_has_no_score() -> None:
    clips, videos = clips_of(("v", 0, 10, True), ("w", 0, 10, False)), video_table("v", "w")
    clips = replace(clips, learned=("overall", "audio_quality"))
    found = average_clips(clips, videos, MADE)
    assert found.reasons[0] == (NOT_LEARNED, NOT_LEARNED, None, NOT_LEARNED, None)
    assert found.reasons[1] == (NOT_LEARNED, NOT_LEARNED, NO_SOUND, NOT_LEARNED, None)
    known = np.array([[reason is None for reason in row] for row in found.reasons])
    np.testing.assert_array_equal(np.isfinite(found.scores), known)


def test_what_contradicts_itself_is_refused() -> None:
    clips = clips_of(("a", 0, 150, True), ("a", 1, 150, False))
    videos = video_table("a")
    with pytest.raises(ValueError, match="clips of a, which is not among"):
        average_clips(clips, video_table("b"), MADE)
    with pytest.raises(ValueError, match="video a is listed twice"):
        average_clips(clips, video_table("a", "a"), MADE)
    with pytest.raises(ValueError, match="clip 0 of video a was predicted twice"):
        average_clips(clips_of(("a", 0, 9, True), ("a", 0, 9, True)), videos, MADE)
    broken = clips.scores.copy()
    broken[1, TASKS.index("overall")] = np.nan
    with pytest.raises(ValueError, match="clip 1 of video a: the score of overall is nan"):
        average_clips(replace(clips, scores=broken), videos, MADE)
    # What the clip cannot be judged in is not looked at.
    broken = clips.scores.copy()
    broken[1, SOUND] = np.nan
    assert average_clips(replace(clips, scores=broken), videos, MADE).reasons == [(None,) * 5]


def test_the_tables_come_back_as_they_were(
    tmp_path: Path, example: tuple[ClipPredictions, VideoPredictions]
) -> None:
    clips, predictions = example
    store = Store.at(tmp_path)
    write_predictions(store, predictions, clips)
    back = read_predictions(store)
    np.testing.assert_allclose(back.scores, predictions.scores, rtol=1e-6)
    assert back.reasons == predictions.reasons
    assert back.provenance == MADE
    assert back.videos.video_id == predictions.videos.video_id
    assert back.videos.generator == predictions.videos.generator
    for name in ("labels", "std", "raters"):
        expected = getattr(predictions.videos, name)
        np.testing.assert_array_equal(getattr(back.videos, name), expected)
    np.testing.assert_array_equal(back.frames, predictions.frames)


def test_the_files_say_null_and_hold_no_credentials(
    tmp_path: Path, example: tuple[ClipPredictions, VideoPredictions]
) -> None:
    clips, predictions = example
    write_predictions(Store.at(tmp_path), predictions, clips)
    videos = pq.read_table(tmp_path / VIDEOS_NAME).to_pylist()
    assert videos[0]["uri"] == "s3://bucket/a.mp4"
    assert videos[0]["expression_label"] is None
    assert videos[0]["overall_n"] is None
    assert videos[3]["lip_sync_predicted"] is None
    assert videos[3]["lip_sync_reason"] == "no sound"
    assert videos[3]["overall_predicted"] == pytest.approx(clips.scores[4, 4])
    assert {row["demonstration"] for row in videos} == {True}
    rows = read_clip_rows(Store.at(tmp_path)).to_pylist()
    order = [(row["video_id"], row["clip_index"]) for row in rows]
    assert order == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("black", 0), ("mute", 0)]
    assert rows[1]["audio_quality_predicted"] is None
    assert rows[1]["expression_predicted"] == pytest.approx(clips.scores[3, 1])
    assert (rows[3]["start_s"], rows[3]["frames"], rows[3]["split"]) == (6.0, 30, "test")


def test_unusable_files_are_refused_with_a_message(
    tmp_path: Path, example: tuple[ClipPredictions, VideoPredictions]
) -> None:
    store = Store.at(tmp_path)
    with pytest.raises(TrainInputError, match="does not exist"):
        read_predictions(store)
    clips, predictions = example
    write_predictions(store, predictions, clips)
    whole = pq.read_table(tmp_path / VIDEOS_NAME)
    pq.write_table(whole.drop_columns(["overall_label"]), tmp_path / VIDEOS_NAME)
    with pytest.raises(TrainInputError, match="overall_label is missing"):
        read_predictions(store)
    other = pa.array(["d" * 16] * 5)
    field = whole.schema.field("checkpoint")
    mixed = pa.concat_tables([whole, whole.set_column(whole.num_columns - 1, field, other)])
    pq.write_table(mixed, tmp_path / VIDEOS_NAME)
    with pytest.raises(TrainInputError, match="mixes predictions of 2 checkpoints"):
        read_predictions(store)
    pq.write_table(whole.slice(0, 0), tmp_path / VIDEOS_NAME)
    with pytest.raises(TrainInputError, match="has no row"):
        read_predictions(store)
    (tmp_path / CLIPS_NAME).write_bytes(b"PAR1 cut off")
    with pytest.raises(TrainInputError, match="is damaged"):
        read_clip_rows(store)
