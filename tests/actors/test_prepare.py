"""Preparation: from a file to clips, on talking faces and on videos with something missing."""

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from actors.features import FeaturesConfig
from actors.prepare import ADDS, NEEDS, Preparer, frame_period
from actors.row import COLUMNS, check
from actors.types import Row, Timings
from tests.media import counting_images
from tests.talking import assert_same, faces, prepared, talking_video, voice

ALL_INTRA: dict[str, Any] = {
    "codec_options": {"g": "1", "bf": "0"}
}  # a frame is a packet: damage stays in it


@pytest.fixture(scope="module")
def preparer() -> Preparer:
    return Preparer(FeaturesConfig())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def seven(folder: Path) -> Path:
    """7 s at 25 fps: 175 frames."""
    return talking_video(folder / "seven.mp4", 175)


@pytest.fixture(scope="module")
def clips(preparer: Preparer, seven: Path) -> list[Row]:
    return prepared(preparer, seven)


def one(preparer: Preparer, path: Path) -> Row:
    (row,) = prepared(preparer, path)
    check(row, ADDS)
    return row


def overlapping(hop_s: float, **more: Any) -> FeaturesConfig:
    return FeaturesConfig.model_validate({"decode": {"hop_s": hop_s}, **more})


# --- what every clip has


def test_rows_are_what_the_table_says_and_nothing_else(clips: list[Row]) -> None:
    assert NEEDS == ()
    assert [row["clip_index"] for row in clips] == [0, 1]
    for row in clips:
        check(row, ADDS)
        assert set(row) == set(ADDS) <= set(COLUMNS)


def test_a_talking_face_is_whole_in_every_frame(clips: list[Row]) -> None:
    for row, frames in zip(clips, (150, 25), strict=True):
        real = np.arange(150) < frames
        for mask in ("frame_mask", "face_mask", "audio_mask"):
            np.testing.assert_array_equal(row[mask], real, mask)
        np.testing.assert_array_equal(row["visual_index"], np.where(real, np.arange(150), -1))
        np.testing.assert_array_equal(row["sync_index"], np.arange(frames))
        assert len(row["visual_crops"]) == len(row["sync_crops"]) == frames
        np.testing.assert_array_equal(row["landmarks"].any(axis=1), real)
        compared = 1 if row["clip_index"] == 0 else 0  # nothing goes before a video's first frame
        assert np.isfinite(row["frame_stats"][compared:frames]).all()
        assert np.isnan(row["frame_stats"][frames:]).all()
        assert len(row["waveform"]) == frames * 640
    assert (clips[0]["start_s"], clips[0]["end_s"]) == (0, 6)
    assert (clips[1]["start_s"], clips[1]["end_s"]) == (6, 7)
    np.testing.assert_allclose(clips[1]["frame_times"], 6 + np.arange(25) / 25, atol=1e-3)


def test_the_sound_of_a_clip_is_the_sound_of_its_frames(clips: list[Row]) -> None:
    original = voice(7.0)
    for row, start in ((clips[0], 0), (clips[1], 96_000)):
        piece = original[start : start + len(row["waveform"])]
        assert np.corrcoef(piece, row["waveform"])[0, 1] > 0.98  # AAC lies between


def test_the_number_of_clips_and_the_rest_are_told_before_the_first_row(
    preparer: Preparer, seven: Path, folder: Path
) -> None:
    rest = talking_video(folder / "rest.mp4", 160)  # 6.4 s: the last 0.4 s are in no clip
    for path, count, uncovered in ((seven, 2, 0.0), (rest, 1, 0.4)):
        with path.open("rb") as file:
            video = preparer.open(file, path.name, Timings(), lambda _: None)
            assert (video.clips, round(video.uncovered_s, 3)) == (count, uncovered)
            video.rows.close()  # type: ignore[attr-defined]


# --- the same clip, whatever happens around it


@pytest.mark.parametrize("cache_mib", [0, 3])
def test_decoding_again_gives_the_bits_that_the_cache_gives(
    clips: list[Row], seven: Path, cache_mib: int
) -> None:
    again = prepared(
        Preparer(FeaturesConfig.model_validate({"prepare": {"cache_mib": cache_mib}})), seven
    )
    for left, right in zip(clips, again, strict=True):
        assert_same(left, right, ADDS)


def test_what_was_prepared_before_does_not_matter(
    preparer: Preparer, clips: list[Row], seven: Path, folder: Path
) -> None:
    prepared(preparer, talking_video(folder / "other.mp4", 30, "bruno"))
    for left, right in zip(clips, prepared(preparer, seven), strict=True):
        assert_same(left, right, ADDS)


def test_a_clip_does_not_depend_on_the_clips_before_it(seven: Path) -> None:
    near = prepared(Preparer(overlapping(0.52, prepare={"cache_mib": 20})), seven)
    far = prepared(Preparer(overlapping(1.04)), seven)
    assert [row["start_s"] for row in near] == [0, 0.52, 1.04]
    assert [row["start_s"] for row in far] == [0, 1.04]
    same = tuple(name for name in ADDS if name != "clip_index")
    assert_same(near[0], far[0], same)
    assert_same(near[2], far[1], same)
    # What two clips share comes from the same frames; the mesh starts anew with each clip.
    shift, shared = 26, 123
    early, late = far
    np.testing.assert_array_equal(early["frame_times"][shift:149], late["frame_times"][:shared])
    np.testing.assert_array_equal(
        early["waveform"][shift * 640 :], late["waveform"][: (150 - shift) * 640]
    )
    np.testing.assert_array_equal(early["frame_stats"][shift:149], late["frame_stats"][:shared])
    np.testing.assert_array_equal(early["sync_crops"][shift:149], late["sync_crops"][:shared])
    apart = np.abs(early["landmarks"][shift:149] - late["landmarks"][:shared]).reshape(
        shared, -1, 3
    )
    assert apart[..., :2].mean() < 0.002  # of the picture's width: 0.6 pixels


# --- the policy `whole`


def test_whole_takes_every_frame_and_gives_syncnet_the_grid(folder: Path) -> None:
    path = talking_video(folder / "thirty.mp4", 180, fps=30)  # 6 s
    config = FeaturesConfig.model_validate({"decode": {"policy": "whole"}})
    row = one(Preparer(config), path)
    assert row["frame_mask"].all()
    assert row["face_mask"].all()
    assert row["audio_mask"].all()
    assert (row["start_s"], row["end_s"]) == (0, pytest.approx(6.0, abs=1e-3))
    # Evenly thinned from 180 to 150 frames: steps of one or two source frames.
    steps = np.diff(row["frame_times"]) * 30
    assert set(np.rint(steps)) == {1, 2}
    assert row["frame_times"][-1] == pytest.approx(179 / 30, abs=1e-3)
    # SyncNet needs consecutive frames at 25 fps, which the thinned ones are not.
    assert len(row["sync_index"]) == len(row["sync_crops"]) == 150
    assert len(row["waveform"]) == pytest.approx(96_000, abs=32)
    windows = one(Preparer(FeaturesConfig()), path)
    np.testing.assert_array_equal(row["sync_index"], windows["sync_index"])
    np.testing.assert_array_equal(row["sync_crops"], windows["sync_crops"])
    assert not np.array_equal(row["visual_crops"], windows["visual_crops"])


# --- masks


def test_without_a_sound_track(preparer: Preparer, folder: Path) -> None:
    row = one(preparer, talking_video(folder / "mute.mp4", 30, audio=None))
    assert row["has_sound"] is False
    assert not row["audio_mask"].any()
    assert not row["waveform"].any()
    assert len(row["waveform"]) == 30 * 640
    assert row["face_mask"][:30].all()


def test_sound_that_ends_before_the_picture(preparer: Preparer, folder: Path) -> None:
    row = one(preparer, talking_video(folder / "short_sound.mp4", 40, audio=voice(0.8)))
    heard = int(row["audio_mask"].sum())
    assert 20 <= heard <= 22  # AAC fills its last block of 64 ms
    np.testing.assert_array_equal(row["audio_mask"], np.arange(150) < heard)
    assert row["frame_mask"].sum() == 40
    assert len(row["waveform"]) == 40 * 640
    assert not row["waveform"][(heard + 1) * 640 :].any()


def test_sound_that_begins_later_and_is_in_no_frame_of_a_clip(
    preparer: Preparer, folder: Path
) -> None:
    path = talking_video(folder / "late_sound.mp4", 175, audio=voice(0.5), audio_start_s=6.3)
    first, second = prepared(preparer, path)
    assert first["has_sound"] is False
    assert second["has_sound"] is True
    assert not second["audio_mask"][:6].any()
    assert second["audio_mask"][9:18].all()


def test_black_frames_keep_their_place(preparer: Preparer, folder: Path) -> None:
    images = faces(40)
    for i in (0, 1, 12, 13, 14, 39):
        images[i] = np.zeros_like(images[i])
    row = one(preparer, talking_video(folder / "black.mp4", images=images, **ALL_INTRA))
    assert_masked(row, 40, {0, 1, 12, 13, 14, 39})


def test_broken_frames_keep_their_place(preparer: Preparer, folder: Path) -> None:
    path = talking_video(folder / "broken.mp4", 40, **ALL_INTRA)
    data = bytearray(path.read_bytes())
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    for packet in packets[20:23]:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    assert_masked(one(preparer, path), 40, {20, 21, 22})


def assert_masked(row: Row, frames: int, gone: set[int]) -> None:
    good = np.array([i < frames and i not in gone for i in range(150)])
    np.testing.assert_array_equal(row["frame_mask"], good)
    np.testing.assert_array_equal(row["face_mask"], good)
    np.testing.assert_array_equal(row["audio_mask"], np.arange(150) < frames)
    np.testing.assert_array_equal(row["visual_index"] >= 0, good)
    np.testing.assert_array_equal(row["sync_index"] >= 0, good[:frames])
    np.testing.assert_array_equal(row["landmarks"].any(axis=1), good)
    np.testing.assert_array_equal(np.isfinite(row["frame_stats"][:, 0]), good)
    assert row["faces"]["face_share"] == 1.0  # of the real frames
    np.testing.assert_allclose(row["frame_times"], np.arange(frames) / 25, atol=1e-3)


def test_frames_without_a_face(preparer: Preparer, folder: Path) -> None:
    images = faces(50)
    rng = np.random.default_rng(0)
    for i in range(15, 25):
        images[i] = rng.integers(90, 110, images[i].shape, dtype=np.uint8)
    row = one(preparer, talking_video(folder / "away.mp4", images=images, **ALL_INTRA))
    seen = np.array([i < 15 or 25 <= i < 50 for i in range(150)])
    assert row["frame_mask"].sum() == 50
    np.testing.assert_array_equal(row["face_mask"], seen)
    np.testing.assert_array_equal(row["landmarks"].any(axis=1), seen)
    np.testing.assert_array_equal(row["visual_index"] >= 0, seen)
    assert row["faces"]["tracks"] == 1
    assert row["faces"]["face_share"] == pytest.approx(0.8)


def test_a_video_without_any_face(preparer: Preparer, folder: Path) -> None:
    images = [np.repeat(i, 5, 0).repeat(5, 1) for i in counting_images(30)]
    row = one(preparer, talking_video(folder / "no_face.mp4", images=images))
    assert row["frame_mask"].sum() == row["audio_mask"].sum() == 30
    assert not row["face_mask"].any()
    assert not row["landmarks"].any()
    assert row["visual_crops"].shape == row["sync_crops"].shape == (0, 224, 224, 3)
    assert (row["visual_index"] == -1).all()
    assert (row["sync_index"] == -1).all()
    assert (row["faces"]["tracks"], row["faces"]["face_share"]) == (0, 0.0)
    assert row["faces"]["box_width"] is None


# --- odd rates, two faces


def test_a_slow_source_repeats_its_frames(preparer: Preparer, folder: Path) -> None:
    row = one(preparer, talking_video(folder / "ten.mp4", 20, fps=10))  # 2 s: 50 frames at 25 fps
    assert row["frame_mask"].sum() == 50
    shown = np.rint(row["frame_times"] * 10).astype(int)
    assert sorted(set(shown)) == list(range(20))
    late = np.abs(row["frame_times"] - np.arange(50) / 25)
    assert late[:48].max() <= 0.05 + 1e-3  # half a source frame; the last one stays to the end
    assert len(row["visual_crops"]) == 20, "each picture is encoded once"
    assert len(row["waveform"]) == 32_000
    np.testing.assert_array_equal(row["visual_index"][:50], shown)
    repeated = np.flatnonzero(np.diff(shown) == 0)
    np.testing.assert_array_equal(row["landmarks"][repeated], row["landmarks"][repeated + 1])
    # SyncNet's box is smoothed on the grid: it may move while the picture stands still.
    assert len(row["sync_index"]) == 50


def test_two_faces_are_counted_and_the_larger_one_is_kept(preparer: Preparer, folder: Path) -> None:
    small = [image[::2, ::2] for image in faces(30, "bruno")]
    canvas = [np.full((320, 480, 3), 60, np.uint8) for _ in small]
    for picture, big, little in zip(canvas, faces(30), small, strict=True):
        picture[:, :320] = big
        picture[80:240, 320:] = little
    row = one(preparer, talking_video(folder / "two.mp4", images=canvas))
    assert row["faces"]["max_faces"] == 2
    assert row["faces"]["multi_face_share"] > 0.9
    assert row["faces"]["tracks"] == 2
    assert row["face_mask"][:30].all()
    x = row["landmarks"][:30].reshape(30, 468, 3)[..., 0]
    assert x.max() < 320 / 480


def test_modalities_that_nobody_wants_are_not_cropped(seven: Path) -> None:
    row = prepared(Preparer(FeaturesConfig(modalities=("landmarks",))), seven)[1]
    check(row, ADDS)
    assert len(row["visual_crops"]) == len(row["sync_crops"]) == 0
    assert row["landmarks"][:25].any(axis=1).all()


@pytest.mark.parametrize(
    ("times", "policy", "period"),
    [
        (np.arange(150) / 25, "windows", 0.04),
        (np.minimum(np.arange(150) / 25, 5.0), "windows", 0.04),  # a frame held to the clip's end
        (np.arange(150) / 30, "whole", 1 / 30),
        (np.arange(150) * 0.4, "whole", 0.4),
        (np.zeros(1), "whole", 0.04),
    ],
)
def test_the_period_of_frames_follows_the_policy(times, policy, period):
    assert frame_period(times, policy) == pytest.approx(period, rel=1e-6)
