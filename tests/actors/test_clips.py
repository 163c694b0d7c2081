import numpy as np
import pytest

from actors.clips import FrameIndex, plan_clips, thin
from actors.decode import DecodeConfig
from actors.errors import VideoError
from actors.types import Frame


def index_of(seconds: float, *, whole_every: int = 0) -> FrameIndex:
    """A 25 fps video of ``seconds``."""
    count = int(np.ceil(round(seconds * 25, 6)))
    return FrameIndex.of(
        Frame(i, i / 25, None, False, (i,), bool(whole_every) and i % whole_every == 0)
        for i in range(count)
    )


def spans(seconds: float, hop_s: float = 6.0) -> tuple[list[tuple[float, float]], object]:
    plan = plan_clips(index_of(seconds), seconds, DecodeConfig(hop_s=hop_s))
    return [(c.start_s, c.end_s) for c in plan.clips], plan.uncovered


@pytest.mark.parametrize(
    ("seconds", "clips", "uncovered"),
    [
        (1.0, [(0, 1)], None),
        (5.96, [(0, 5.96)], None),
        (6.0, [(0, 6)], None),
        (6.1, [(0, 6)], (6, 6.1)),
        (6.96, [(0, 6)], (6, 6.96)),
        (7.0, [(0, 6), (6, 7)], None),
        (12.0, [(0, 6), (6, 12)], None),
        (22.08, [(0, 6), (6, 12), (12, 18), (18, 22.08)], None),
        (6.0005, [(0, 6)], None),  # a millisecond of rounding is no uncovered span
        (0.9995, [(0, 0.9995)], None),
    ],
)
def test_consecutive_windows(seconds, clips, uncovered):
    assert spans(seconds) == (clips, uncovered)


@pytest.mark.parametrize(
    ("seconds", "hop", "clips", "uncovered"),
    [
        (10.0, 2.0, [(0, 6), (2, 8), (4, 10)], None),
        (5.0, 2.0, [(0, 5)], None),  # all others would lie inside it
        (9.0, 4.0, [(0, 6), (4, 9)], None),
        (13.0, 10.0, [(0, 6), (10, 13)], None),
        (10.5, 10.0, [(0, 6)], (6, 10.5)),
        (6.04, 0.04, [(0, 6), (0.04, 6.04)], None),
    ],
)
def test_other_hops(seconds, hop, clips, uncovered):
    assert spans(seconds, hop) == (clips, uncovered)


def test_a_clip_names_its_frames_and_its_sound():
    clips = plan_clips(index_of(13.4), 13.4, DecodeConfig()).clips
    assert [c.clip_index for c in clips] == [0, 1, 2]
    assert np.array_equal(clips[1].ordinals, np.arange(150, 300))
    assert np.array_equal(clips[2].ordinals, np.arange(300, 335))
    assert np.array_equal(clips[2].sync_ordinals, clips[2].ordinals)
    assert [(c.sample_start, c.sample_stop) for c in clips] == [
        (0, 96_000),
        (96_000, 192_000),
        (192_000, 214_400),
    ]


def test_repeated_and_skipped_source_frames():
    index = FrameIndex.of(
        [
            Frame(0, 0.0, None, False, (0, 1, 2), False),
            Frame(1, 0.1, None, False, tuple(range(3, 24)), False),
            Frame(2, 1.0, None, False, (24, 25, 26), False),
        ]
    )
    (clip,) = plan_clips(index, 27 / 25, DecodeConfig()).clips
    assert clip.ordinals.tolist() == [0] * 3 + [1] * 21 + [2] * 3


@pytest.mark.parametrize("policy", ["windows", "whole"])
def test_under_a_second_is_too_short(policy):
    with pytest.raises(VideoError) as caught:
        plan_clips(index_of(0.4, whole_every=1), 0.4, DecodeConfig(policy=policy))
    assert (caught.value.stage, caught.value.reason) == ("decode", "too_short")
    assert "0.400 s" in caught.value.message


def test_whole_is_one_clip_of_all_the_sound():
    config = DecodeConfig(policy="whole")
    plan = plan_clips(index_of(4.0, whole_every=1), 4.0, config)
    (clip,) = plan.clips
    assert plan.uncovered is None
    assert (clip.start_s, clip.end_s, clip.sample_start, clip.sample_stop) == (0, 4, 0, 64_000)
    assert np.array_equal(clip.ordinals, np.arange(100))
    assert np.array_equal(clip.sync_ordinals, np.arange(100))


def test_whole_thins_evenly_and_syncnet_reads_a_minute():
    (clip,) = plan_clips(index_of(100.0, whole_every=1), 100.0, DecodeConfig(policy="whole")).clips
    assert len(clip.ordinals) == 150
    assert (clip.ordinals[0], clip.ordinals[-1]) == (0, 2499)
    assert set(np.diff(clip.ordinals)) <= {16, 17}
    assert np.array_equal(clip.sync_ordinals, np.arange(1500))
    assert clip.sample_stop == 1_600_000


def test_thinning_keeps_short_sequences_and_does_not_drift():
    assert np.array_equal(thin(np.arange(150), 150), np.arange(150))
    for count in (151, 199, 301, 90_000):
        kept = thin(np.arange(count), 150)
        ideal = np.arange(150) * (count - 1) / 149
        assert np.abs(kept - ideal).max() <= 0.5
        assert len(set(kept.tolist())) == 150
