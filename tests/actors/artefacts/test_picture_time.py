"""Artefacts that act from picture to picture: drops, freezes, flicker."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.artefacts.artefact import PictureScene
from actors.artefacts.picture.flicker import Flicker
from actors.artefacts.picture.frame_drops import FrameDrops
from actors.artefacts.picture.frozen_picture import FrozenPicture
from actors.types import U8
from tests.actors.artefacts.test_picture import damage
from tests.actors.artefacts.test_picture_measures import SEEDS, STEPS, rising

# --- drops and freezes


def counting(count: int) -> list[U8]:
    """Pictures that say their number."""
    return [np.full((2, 3, 3), i, np.uint8) for i in range(count)]


def numbers(frames: list[U8]) -> NDArray[np.int64]:
    return np.array([frame[0, 0, 0] for frame in frames], np.int64)


def test_dropped_frames_repeat_the_one_before() -> None:
    for seed in SEEDS:
        before: set[int] = set()
        for severity in STEPS:
            shown = numbers(damage(FrameDrops(), counting(151), severity, seed))
            lost = set(np.flatnonzero(shown != np.arange(151)).tolist())
            assert len(lost) == round(0.6 * severity * 150)
            assert all(shown[i] == shown[i - 1] for i in lost)
            assert before < lost  # what was lost stays lost
            before = lost


def test_drops_are_single_and_lie_all_over() -> None:
    shown = numbers(damage(FrameDrops(), counting(250), 0.4))
    lost = np.flatnonzero(np.diff(shown) == 0)
    assert np.median(np.diff(shown)[np.diff(shown) > 0]) == 1
    assert np.histogram(lost, bins=5, range=(0, 250))[0].min() >= 4


def test_drops_never_make_a_stuttering_video_smoother() -> None:
    """The clean video shows some pictures two or three times itself."""
    rng = np.random.default_rng(4)
    own = np.repeat(np.arange(100), rng.integers(1, 4, 100))
    clean = [np.full((2, 3, 3), i, np.uint8) for i in own]
    for seed in SEEDS:
        repeats = [
            int((np.diff(numbers(damage(FrameDrops(), clean, severity, seed))) == 0).sum())
            for severity in STEPS
        ]
        assert rising([int((np.diff(own) == 0).sum()), *repeats])


def held(shown: NDArray[np.int64]) -> range:
    """Which pictures are not their own; they must lie together and show the one before them."""
    off = np.flatnonzero(shown != np.arange(shown.size))
    span = range(int(off[0]), int(off[-1]) + 1)
    assert list(span) == off.tolist()
    assert set(shown[off].tolist()) == {span.start - 1}
    return span


def test_the_frozen_part_has_its_length_and_lies_within_that_of_larger_severities() -> None:
    places = set()
    for seed in range(8):
        inner = None
        for severity in STEPS:
            span = held(numbers(damage(FrozenPicture(), counting(200), severity, seed)))
            # With the picture that is held.
            assert abs(len(span) + 1 - 0.8 * severity * 200) <= 1
            assert inner is None or (span.start <= inner.start and inner.stop <= span.stop)
            assert span.start > 5
            assert span.stop < 195
            inner = span
        assert inner is not None
        places.add(inner.start)
    assert len(places) > 4


def test_a_freeze_is_a_share_of_the_time_not_of_the_pictures() -> None:
    """In the first second a picture lasts 0.01 s, in the other four 0.1 s."""
    times = np.concatenate([np.arange(100) * 0.01, 1 + np.arange(40) * 0.1])
    scene = PictureScene(3, times, (2, 3))
    shown = numbers(list(FrozenPicture().apply(iter(counting(140)), 1.0, scene)))
    span = held(shown)
    assert times[span.stop] - times[span.start - 1] == pytest.approx(0.8 * 5, abs=0.15)


def test_a_video_too_short_for_a_freeze_stays() -> None:
    for count in (1, 2, 3):
        shown = numbers(damage(FrozenPicture(), counting(count), 0.2))
        np.testing.assert_array_equal(shown, np.arange(count))


# --- flicker


@pytest.fixture(scope="module")
def grey() -> list[U8]:
    return [np.full((4, 4, 3), 100, np.uint8)] * 600


def gains(frames: list[U8]) -> Iterator[NDArray[np.float64]]:
    """Stops by which R, G and B of each picture lie above the clean 100."""
    return iter(np.log2(np.mean(frames, axis=(1, 2)) / 100).T)


@pytest.mark.parametrize("seed", SEEDS)
def test_flicker_has_its_deviation_and_is_one_pattern_at_all_severities(
    seed: int, grey: list[U8]
) -> None:
    patterns = []
    for severity in STEPS:
        wanted = Flicker().measures(severity)["deviation_stops"]
        red, green, blue = gains(damage(Flicker(), grey, severity, seed))
        # The brightness that all have in common, and what each has of its own.
        shared = np.mean([np.cov(red, green)[0, 1], np.cov(red, blue)[0, 1]])
        assert np.sqrt(shared) == pytest.approx(wanted, rel=0.1)
        own = (red - green).std() / 2**0.5
        assert own == pytest.approx(0.3 * wanted, rel=0.15, abs=0.004)  # half a level is 0.007
        patterns.append(red / wanted)
    for weak, strong in pairwise(patterns):
        assert np.corrcoef(weak, strong)[0, 1] > 0.97
    assert abs(np.corrcoef(patterns[-1][1:], patterns[-1][:-1])[0, 1]) < 0.15
