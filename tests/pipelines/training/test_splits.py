from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.train_errors import TrainInputError
from pipelines.training.cleaning import CleaningConfig, clean
from pipelines.training.labels import LabelsConfig, read_labels
from pipelines.training.matching import LabelledVideos, match
from pipelines.training.splits import SPLITS, Splits, SplitsConfig, assign, folds
from tests.pipelines.training.train_inputs import index_of, labelled, labels_of, write_csv


def ids(count: int, start: int = 0) -> list[str]:
    return [f"v{n:05d}" for n in range(start, start + count)]


def split(videos: LabelledVideos, rules: CleaningConfig | None = None, **config: Any) -> Splits:
    return assign(videos, clean(videos, rules or CleaningConfig()), SplitsConfig(**config))


def sides(videos: LabelledVideos, found: Splits) -> dict[str, str]:
    names = [*SPLITS, "-"]
    return {v: names[c] for v, c in zip(videos.index.videos, found.code, strict=True)}


def test_shares_are_met(tmp_path: Path) -> None:
    found = split(labelled(tmp_path, ids(6_000), clips=1))
    counts = np.bincount(found.code, minlength=3)
    expected = np.array([4_800, 600, 600])
    # Each count is binomial: four standard deviations.
    assert (abs(counts - expected) < 4 * np.sqrt(expected * (1 - expected / 6_000))).all()


def test_a_video_never_changes_sides_when_the_corpus_grows(tmp_path: Path) -> None:
    small, large = labelled(tmp_path, ids(100, 300)), labelled(tmp_path, ids(1_000))
    before, after = sides(small, split(small)), sides(large, split(large))
    assert {v: after[v] for v in before} == before
    other = sides(large, split(large, salt=1))
    assert sum(other[v] != after[v] for v in after) > 200


def test_the_side_is_the_published_hash(tmp_path: Path) -> None:
    # As docs/labels.md says: a change would silently mix training with test data of earlier runs.
    videos = labelled(tmp_path, ids(200))
    for video, side in sides(videos, split(videos, salt=3, shares=(0.5, 0.2, 0.3))).items():
        digest = blake2b(f"3\0{video}".encode(), digest_size=8).digest()
        unit = int.from_bytes(digest, "little") / 2**64
        assert side == ("train" if unit < 0.5 else "val" if unit < 0.7 else "test")


def test_no_speaker_on_two_sides(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(600), speakers=lambda n: f"s{n % 60}")
    found = split(videos, by="speaker")
    by_speaker: dict[str | None, set[int]] = {}
    for speaker, code in zip(videos.speakers, found.code, strict=True):
        by_speaker.setdefault(speaker, set()).add(code)
    assert all(len(codes) == 1 for codes in by_speaker.values())
    assert {min(codes) for codes in by_speaker.values()} == {0, 1, 2}
    assert found.groups == videos.speakers
    assert [o.kind for o in found.overlaps] == []
    assert found.warnings == ()


def test_videos_without_a_speaker_are_an_error(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(50), speakers=lambda n: "s" if n > 2 else None)
    with pytest.raises(
        TrainInputError, match="3 of 50 labelled videos have no speaker, such as v00000"
    ):
        split(videos, by="speaker")


def test_a_held_out_generator_is_the_test(tmp_path: Path) -> None:
    videos = labelled(
        tmp_path,
        ids(200),
        generators=lambda n: f"g{n % 4}",
        speakers=lambda n: f"s{n % 30}",
    )
    assert folds(videos, clean(videos, CleaningConfig())) == ["g0", "g1", "g2", "g3"]
    found = split(videos, by="generator", held_out="g2", within="speaker")
    test = np.array([g == "g2" for g in videos.generators])
    assert (found.videos("test") == test).all()
    train = {videos.speakers[v] for v in np.flatnonzero(found.videos("train"))}
    val = {videos.speakers[v] for v in np.flatnonzero(found.videos("val"))}
    assert train
    assert val
    assert not train & val
    assert {(o.kind, o.first, o.second) for o in found.overlaps if o.kind == "generator"} == {
        ("generator", "train", "val")
    }
    assert not any("generators of" in line for line in found.warnings)
    assert any("speakers of test are also in train" in line for line in found.warnings)


@pytest.mark.parametrize(
    ("config", "generators", "said"),
    [
        ({}, ("a", "b"), "needs held_out, .* there are: a, b"),
        ({"held_out": "ab"}, ("abc", "x"), "did you mean abc"),
        ({"held_out": "q"}, ("abc", "x"), "there are: abc, x"),
        ({"held_out": "a"}, ("a",), "is the only generator"),
        ({"held_out": "a"}, ("a", None), "20 of 40 labelled videos have no generator"),
    ],
)
def test_leave_one_out_needs_generators(
    tmp_path: Path, config: dict[str, Any], generators: tuple[str | None, ...], said: str
) -> None:
    videos = labelled(tmp_path, ids(40), generators=lambda n: generators[n % len(generators)])
    with pytest.raises(TrainInputError, match=said):
        split(videos, by="generator", **config)


def test_folds_need_two_generators(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(4), generators=lambda n: "only")
    with pytest.raises(TrainInputError, match=r"at least two generators.*one: only"):
        folds(videos, clean(videos, CleaningConfig()))


# --- splits of one's own

WORDS = ["train", "Training", "val", "dev", "validation", "TEST", "testing", "valid"]


def test_a_column_of_the_label_table(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(8), lambda n: {"part": WORDS[n]})
    found = split(videos, by="column", column="part")
    assert found.code.tolist() == [0, 0, 1, 1, 1, 2, 2, 1]


def test_a_column_of_the_features(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(3), generators=("test", "train", "val"))
    assert split(videos, by="column", column="generator").code.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (None, "needs the name of one .* did you mean split"),
        ("splt", "no column 'splt' .* did you mean split"),
        ("zzz", "there are: split, generator, speaker"),
    ],
)
def test_a_column_that_is_not_there(tmp_path: Path, column: str | None, said: str) -> None:
    with pytest.raises(TrainInputError, match=said):
        split(labelled(tmp_path, ids(3), lambda n: {"split": "train"}), by="column", column=column)


def test_cells_that_are_no_split_are_named_with_their_rows(tmp_path: Path) -> None:
    words = ["train", "", "held out", "test"]
    videos = labelled(tmp_path, ids(4), lambda n: {"split": words[n]})
    with pytest.raises(TrainInputError) as caught:
        split(videos, by="column", column="split")
    assert "row 3 (v00001): empty" in str(caught.value)
    assert "row 4 (v00002): 'held out'" in str(caught.value)


def test_one_video_under_two_ids_in_two_splits_is_an_error(tmp_path: Path) -> None:
    words = ["train", "val", "test"]
    same = {"uris": ["/x/1.mp4", "/x/2.mp4", "/x/1.mp4"]}
    videos = labelled(tmp_path, ids(3), lambda n: {"split": words[n]}, **same)
    with pytest.raises(TrainInputError, match=r"/x/1.mp4 is in train as v00000 .* test as v00002"):
        split(videos, by="column", column="split")


def test_one_video_in_two_rows_of_two_splits_is_an_error(tmp_path: Path) -> None:
    rows = [{"video_id": "v", "overall": 3, "split": side} for side in ("train", "test")]
    path = write_csv(tmp_path / "labels.csv", rows)
    with pytest.raises(TrainInputError, match=r"rows 2 and 3.*split: train and test"):
        read_labels(LabelsConfig(labels=str(path)))


# --- leakage


def test_the_same_file_under_two_ids_stays_on_one_side(tmp_path: Path) -> None:
    uris = [f"/x/{n // 2}.mp4" for n in range(200)]
    with pytest.raises(TrainInputError, match="one video is in two splits: /x/"):
        split(labelled(tmp_path, ids(200), uris=uris))


@pytest.mark.parametrize(
    ("version", "leak"),
    [
        ("52341-1731000000123456789", True),
        ("d41d8cd98f00b204e9800998ecf8427e", True),
        ('"d41d8cd98f00b204e9800998ecf8427e-3"', True),
        ("v1", False),
        ("", False),
    ],
)
def test_copies_of_a_file_are_told(tmp_path: Path, version: str, leak: bool) -> None:
    videos = labelled(tmp_path, ids(60), source_versions=[version] * 60)
    found = split(videos)
    assert any(o.kind == "content" for o in found.overlaps) == leak
    assert any("LEAK" in line for line in found.warnings) == leak


def test_speakers_on_both_sides_are_counted(tmp_path: Path) -> None:
    words = ["train", "train", "val", "test", "test", "test"]
    speakers = ["ann", "bob", "cy", "ann", "dee", "ann"]
    videos = labelled(
        tmp_path, ids(6), lambda n: {"split": words[n]}, speakers=speakers, generators=["g"] * 6
    )
    found = split(videos, by="column", column="split")
    speaker = [o for o in found.overlaps if o.kind == "speaker"]
    assert [(o.first, o.second, o.shared, o.total, o.videos) for o in speaker] == [
        ("train", "test", 1, 2, 2)
    ]
    assert found.warnings[0].startswith("1 of 2 speakers of test are also in train (2 videos: ann)")
    assert any("all 1 generators of test are also in train" in line for line in found.warnings)


# --- what takes part


def test_only_labelled_videos_with_clips_take_part(tmp_path: Path) -> None:
    count = 100
    path = labels_of(tmp_path / "l.csv", ids(count - 1))
    face = np.repeat(np.where(np.arange(count) % 10 == 0, 0, 150), 2)
    index = index_of(ids(count), face_frames=face)
    videos = match(read_labels(LabelsConfig(labels=str(path))), index)
    found = split(videos, CleaningConfig(min_face_share=0.5))
    out = {n for n in range(count) if n % 10 == 0} | {count - 1}
    assert set(np.flatnonzero(found.code == -1)) == out
    assert set(index.video[~found.used]) == out
    train = split(videos, CleaningConfig(min_face_share=0.5, scope="train"))
    kept = {n for n in out if n != count - 1} - set(np.flatnonzero(train.code == -1))
    assert kept
    assert all(train.code[n] in (1, 2) for n in kept)
    table = found.table(videos).to_pandas()
    assert len(table) == count - len(out)
    assert set(table.split) == set(SPLITS)
    assert (table.clips == 2).all()
    assert table.video_id.tolist() == [v for n, v in enumerate(ids(count)) if n not in out]
    clips = [found.clips(side, index.video) for side in SPLITS]
    assert (np.sum(clips, axis=0) == found.used).all()


def test_nothing_left_after_cleaning(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(5), face_frames=np.zeros(10, np.int64))
    with pytest.raises(TrainInputError, match=r"dropped all 10 clips .*min_face_share 10"):
        split(videos, CleaningConfig(min_face_share=0.1))


def test_labels_only_of_other_videos(tmp_path: Path) -> None:
    path = labels_of(tmp_path / "l.csv", ["a", "b"], lambda n: {"overall": 3 if n else -1})
    rows = [{"video_id": "a", "overall": -1}, {"video_id": "b", "overall": 3}]
    path = write_csv(tmp_path / "l.csv", rows)
    videos = match(read_labels(LabelsConfig(labels=str(path))), index_of(["a"]))
    with pytest.raises(TrainInputError, match="every label of the videos with features is missing"):
        split(videos)


def test_an_empty_split_proposes_a_salt_that_works(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(5))
    with pytest.raises(TrainInputError, match="is empty") as caught:
        split(videos, salt=next(s for s in range(99) if empty(videos, s)))
    salt = int(str(caught.value).split("another salt: salt ")[1].split()[0])
    assert not empty(videos, salt)


def empty(videos: LabelledVideos, salt: int) -> bool:
    try:
        split(videos, salt=salt)
    except TrainInputError:
        return True
    return False


def test_too_few_groups_for_any_salt(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(10), speakers=lambda n: f"s{n % 2}")
    with pytest.raises(TrainInputError, match="among 2 groups by speaker") as caught:
        split(videos, by="speaker")
    assert "another salt" not in str(caught.value)


def test_an_empty_split_of_a_column(tmp_path: Path) -> None:
    videos = labelled(tmp_path, ids(4), lambda n: {"split": "train" if n else "test"})
    with pytest.raises(TrainInputError, match=r"val is empty \(train 3, val 0, test 1 videos\)"):
        split(videos, by="column", column="split")


@pytest.mark.parametrize(
    "wrong",
    [
        {"shares": (0.8, 0.1, 0.2)},
        {"shares": (0.9, 0.1, 0)},
        {"shares": (1.1, -0.1, 0)},
        {"by": "x"},
        {"column": "split"},
        {"by": "column", "held_out": "g"},
    ],
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SplitsConfig(**wrong)


def test_names_that_look_like_numbers() -> None:
    assert SplitsConfig(by="generator", held_out=3).held_out == "3"  # type: ignore[arg-type]
    assert SplitsConfig(by="column", column=7).column == "7"  # type: ignore[arg-type]
