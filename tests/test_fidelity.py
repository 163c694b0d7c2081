"""Mixed precision against FP32, clips against duration on real videos; lips against visemes."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import torch

from actors.audio import Audio
from actors.demo.render import VideoSpec, render, utterance
from actors.encode import Encoder
from actors.features import FeaturesConfig
from actors.precision import min_cosine
from actors.prepare import ADDS, Preparer
from actors.row import check
from actors.sync import Sync
from actors.types import Row, Timings
from actors.visual import Visual
from tests.support import clips_dir
from tests.talking import seeded_settings, talking_video

# Every eighth frame of these: light and dark pictures, two generators, two codecs, portrait.
LOOKED_AT = (
    "real/talk_hevc_portrait.mp4",
    "real/talk_mpeg4_16k.mp4",
    "generated/wav2lip/may.mp4",
    "generated/adnerf/obama.mp4",
)
HEARD = LOOKED_AT[1:3]


@pytest.fixture(scope="module")
def preparer() -> Preparer:
    return Preparer(FeaturesConfig())


def first_clip(preparer: Preparer, path: Path) -> Row:
    with path.open("rb") as file:
        return next(preparer.open(file, path.name, Timings(), lambda _: None).rows)


@pytest.fixture(scope="module")
def real(preparer: Preparer) -> dict[str, Row]:
    folder = clips_dir()
    return {name: first_clip(preparer, folder / name) for name in LOOKED_AT}


def exact(name: str) -> Any:
    return getattr(seeded_settings(), name).model_copy(update={"precision": "fp32"})


def stage(encoder: Encoder, name: str) -> Any:
    return next(stage for stage in encoder.stages if stage.name == name)


def test_visual_vectors_keep_their_direction(seeded_encoder: Encoder, real: dict[str, Row]) -> None:
    crops = np.concatenate([row["visual_crops"][::21] for row in real.values()])
    assert len(crops) >= 28
    index = np.full(150, -1, np.int32)
    index[: len(crops)] = np.arange(len(crops))
    row = {"visual_crops": crops, "visual_index": index, "frame_times": np.zeros(len(index))}
    fast = stage(seeded_encoder, "visual")([dict(row)])[0]["visual"][: len(crops)]
    slow = Visual(exact("visual"))([dict(row)])[0]["visual"][: len(crops)]
    assert min_cosine(*map(torch.from_numpy, (fast, slow))) >= 0.9995


def test_audio_vectors_keep_their_direction(seeded_encoder: Encoder, real: dict[str, Row]) -> None:
    slow = Audio(exact("audio"))
    for name in HEARD:
        a, b = (m([dict(real[name])])[0]["audio"] for m in (stage(seeded_encoder, "audio"), slow))
        assert a.any(axis=1).all()
        assert min_cosine(torch.from_numpy(a), torch.from_numpy(b)) >= 0.9995


def test_sync_keeps_its_measures(seeded_encoder: Encoder, real: dict[str, Row]) -> None:
    slow = Sync(exact("sync"))
    for name in HEARD:
        row = dict(real[name])
        frames = 30
        row["sync_index"] = row["sync_index"][:frames]
        row["waveform"] = row["waveform"][: frames * 640]
        for mask in ("frame_mask", "audio_mask"):
            row[mask] = row[mask] & (np.arange(150) < frames)
        row["frame_times"] = row["frame_times"][:frames]
        a, b = (m([dict(row)])[0]["sync"] for m in (stage(seeded_encoder, "sync"), slow))
        assert np.isfinite(a).all()
        assert a[1] == b[1]
        np.testing.assert_allclose(a[2:], b[2:], atol=0.05)


# --- every clip is extracted or explained


def picture_seconds(path: Path) -> Fraction:
    """From the first picture's time stamp to the end of the last picture."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        spans = [
            (p.pts, p.duration or 0)
            for p in container.demux(stream)
            if p.pts is not None and p.size
        ]
    first = min(pts for pts, _ in spans)
    last, length = max(spans)
    return Fraction(last + length - first) * Fraction(base)


def expected_clips(seconds: Fraction) -> int:
    whole, rest = divmod(float(seconds) + 0.002, 6.0)
    return int(whole) + (rest >= 1.0)


def every_clip() -> list[str]:
    return [
        *("real/" + name for name in (
            "silent_no_audio_track", "talk_30fps", "talk_h264_44k", "talk_hevc_portrait",
            "talk_mpeg4_16k", "talk_mpeg4_16k_b", "talk_variable_rate",
        )),
        "generated/makeittalk/may", "generated/dfanerf/obama",
    ]  # fmt: skip


@pytest.mark.parametrize("name", every_clip())
def test_a_real_video_gives_the_clips_that_its_duration_says(preparer: Preparer, name: str) -> None:
    path = clips_dir() / f"{name}.mp4"
    seconds = picture_seconds(path)
    with path.open("rb") as file:
        video = preparer.open(file, name, Timings(), lambda _: None)
        assert video.clips == expected_clips(seconds)
        row = next(video.rows)
        video.rows.close()  # type: ignore[attr-defined]
    rest = float(seconds) - 6 * math.floor(float(seconds) / 6)
    assert video.uncovered_s == pytest.approx(rest if rest < 0.99 else 0.0, abs=0.01)
    check(row, ADDS)
    assert row["frame_mask"].all()
    assert row["face_mask"].mean() > 0.95
    with av.open(str(path)) as container:
        has_sound = bool(container.streams.audio)
    assert row["has_sound"] == has_sound
    assert row["audio_mask"].mean() > 0.9 if has_sound else not row["audio_mask"].any()
    # A steady 25 fps whatever the source's rate: never further off than half the time between
    # two frames of the source, which is up to 1/15 s in the one of variable rate.
    assert np.abs(row["frame_times"] - np.arange(150) / 25).max() < 1 / 30 + 1e-3


def test_the_one_without_a_track_and_the_one_with_digital_silence_say_why(
    preparer: Preparer, seeded_encoder: Encoder
) -> None:
    reasons = {}
    for name in ("silent_no_audio_track", "talk_30fps"):
        row = first_clip(preparer, clips_dir() / "real" / f"{name}.mp4")
        row = stage(seeded_encoder, "sync")([row])[0]
        assert np.isnan(row["sync"]).all()
        check(row, Sync.adds)
        reasons[name] = row["sync_reason"]
    assert reasons == {"silent_no_audio_track": "no_sound", "talk_30fps": "silent_sound"}


def test_digital_silence_is_a_reason_and_the_faintest_sound_is_not(
    preparer: Preparer, seeded_encoder: Encoder, tmp_path: Path
) -> None:
    row = first_clip(preparer, talking_video(tmp_path / "a.mp4", 26, audio=np.zeros(26 * 640)))
    assert row["has_sound"] is True, "there is a track"
    assert row["audio_mask"][:26].all()
    sync = stage(seeded_encoder, "sync")
    assert sync([dict(row)])[0]["sync_reason"] == "silent_sound"
    faint = row["waveform"] + np.float32(1 / 32768) * (np.arange(26 * 640) % 640 == 0)
    made = sync([{**row, "waveform": faint.astype(np.float32)}])[0]
    assert made["sync_reason"] is None
    assert np.isfinite(made["sync"]).all()


# --- what is stored, read as anybody would


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_stored_lips_follow_the_known_visemes(tmp_path: Path) -> None:
    from pipelines.config import load_config
    from pipelines.extract import ExtractConfig, extract

    spec = VideoSpec("clean", "elio", 1, 6.0, 11)
    (tmp_path / "clean").mkdir()
    render(spec, tmp_path / "clean" / "elio-1.mp4")
    settings = [f"corpus.corpus={tmp_path}", "modalities=[landmarks]", "resources.workers=1"]
    extract(load_config(ExtractConfig, None, settings), str(tmp_path / "out"))

    (clip,) = pd.read_parquet(tmp_path / "out" / "features").to_dict("records")
    points = np.asarray(clip["landmarks"]).reshape(150, 468, 3)[..., :2]
    gap, eyes = (
        np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in ((13, 14), (33, 263))
    )
    assert np.asarray(clip["face_mask"]).all()
    opening = utterance(spec).opening
    assert np.corrcoef(gap / eyes, opening)[0, 1] > 0.9
    by_lag = [
        np.corrcoef(np.roll(gap / eyes, lag)[3:-3], opening[3:-3])[0, 1] for lag in (-1, 0, 1)
    ]
    assert int(np.argmax(by_lag)) == 1
