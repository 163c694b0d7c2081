import numpy as np
import pytest

from actors.findings import find
from actors.findings_clip import read_clip
from actors.findings_sync import lips_offset
from tests.actors.finding_rows import row

# --- SyncNet

TRUSTED = {"sync": "sha256:0123"}


def with_syncnet(offset, confidence=7.0, weights=TRUSTED):
    made = row()
    made["sync"] = np.array([4.0, offset, confidence, 7.0], np.float32)
    made["weights"] = weights
    return made


@pytest.mark.parametrize(
    ("frames", "words"),
    [(3, "sound leads by 120 ms"), (2, "sound leads by 80 ms"), (-4, "sound lags by 160 ms")],
)
def test_syncnet_says_who_leads(frames, words):
    (found,) = find(with_syncnet(frames))
    assert found.kind == "av_offset"
    assert found.value == pytest.approx(frames * 0.04)
    assert found.text.startswith(words)
    assert "SyncNet" in found.text
    assert (found.start_s, found.end_s) == (0.0, 6.0)


@pytest.mark.parametrize("frames", [-2, -1, 0, 1])
def test_offsets_that_nobody_notices_are_none(frames):
    assert find(with_syncnet(frames)) == []


@pytest.mark.parametrize(
    "made",
    [
        with_syncnet(6, confidence=1.5),
        with_syncnet(6, weights={"sync": "seeded-SyncNet-v1"}),
        with_syncnet(np.nan),
        with_syncnet(6, weights={}),
    ],
    ids=["unsure", "random weights", "masked", "weights unknown"],
)
def test_syncnet_without_trust_is_not_believed(made):
    assert find(made) == [], "the lips say that all is well"


def test_weights_as_a_shard_gives_them_back():
    (found,) = find(with_syncnet(5, weights=[("audio", "x"), ("sync", "sha256:0")]))
    assert found.value == pytest.approx(0.2)


def test_syncnet_comes_before_the_lips():
    made = row(lag=6, closeness=1.0)
    (by_lips,) = find(made)
    made["sync"], made["weights"] = np.array([4.0, 0.0, 7.0, 7.0], np.float32), TRUSTED
    assert "lip opening" in by_lips.text
    assert find(made) == []


# --- lips and loudness


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("frames", [-9, -5, -3, 3, 4, 8])
def test_lips_that_copy_the_loudness_tell_the_offset_within_a_frame(frames, seed):
    # The pictures stand at the beginning of their 40 ms, the sound is their mean.
    made = row(lag=frames, closeness=1.0, seed=seed)
    (found,) = find(made)
    assert found.kind == "av_offset"
    assert found.value == pytest.approx(frames * 0.04, abs=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_natural_lips_lead_by_a_tenth_of_a_second(seed):
    found = lips_offset(read_clip(row(lag=-2, seed=seed)))
    assert found is None or abs(found[0]) <= 0.06
    told = find(row(lag=7, seed=seed))
    assert all(f.kind == "av_offset" and f.value == pytest.approx(0.38, abs=0.06) for f in told)


def test_most_natural_clips_are_measurable():
    known = [lips_offset(read_clip(row(lag=7, seed=seed))) for seed in range(20)]
    assert sum(k is not None for k in known) >= 10


@pytest.mark.parametrize("seed", range(10))
def test_foreign_lips_tell_nothing(seed):
    made, other = row(seed=seed), row(seed=seed + 500)
    columns = slice(56, 62)
    made["lowlevel"][:, columns] = other["lowlevel"][:, columns]
    assert [f for f in find(made) if f.kind == "av_offset"] == []


def test_short_or_still_clips_tell_nothing():
    assert lips_offset(read_clip(row(frames=45, closeness=1.0))) is None
    made = row()
    made["lowlevel"][:, 56:62] = 0.1
    assert lips_offset(read_clip(made)) is None


def test_the_whole_policy_has_no_frames_for_it():
    made = row(closeness=1.0, lag=8)
    made["end_s"] = 20.0
    assert read_clip(made).period_s == pytest.approx(20 / 150)
    assert lips_offset(read_clip(made)) is None
