"""Artefacts of whole pictures: what all of them promise."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from actors.artefacts.apply import damaged_pictures
from actors.artefacts.artefact import Group, PictureArtefact, PictureScene
from actors.artefacts.chain import Step, target_scores
from actors.artefacts.picture import PICTURE
from actors.artefacts.picture._common import repeated
from actors.artefacts.registry import ARTEFACTS
from actors.demo.render import VideoSpec, pictures, utterance
from actors.types import U8
from model.tasks import HIGH, LOW, TASKS

SEVERITIES = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)
RANDOM = {"picture_noise", "flicker", "frame_drops", "frozen_picture"}


def scene_of(frames: list[U8], seed: int = 3) -> PictureScene:
    return PictureScene(seed, np.arange(len(frames)) / 25, frames[0].shape[:2])


def damage(artefact: PictureArtefact, frames: list[U8], severity: float, seed: int = 3) -> list[U8]:
    return list(artefact.apply(iter(frames), severity, scene_of(frames, seed)))


@pytest.fixture(scope="module")
def talking() -> list[U8]:
    """A talking face, 12 pictures with odd sides."""
    spec = VideoSpec("clean", "chen", 1, 1.0, 4)
    return [frame[40:295, :319].copy() for frame in list(pictures(spec, utterance(spec)))[8:20]]


each = pytest.mark.parametrize("artefact", PICTURE, ids=lambda artefact: artefact.type)


@each
def test_length_size_and_type_stay_and_the_input_is_not_touched(
    artefact: PictureArtefact, talking: list[U8]
) -> None:
    before = [frame.copy() for frame in talking]
    for frame in talking:
        frame.setflags(write=False)
    for severity in SEVERITIES:
        made = damage(artefact, talking, severity)
        assert len(made) == len(talking)
        assert {frame.shape for frame in made} == {(255, 319, 3)}
        assert {frame.dtype for frame in made} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(talking, before)


@each
def test_same_seed_same_bytes(artefact: PictureArtefact, talking: list[U8]) -> None:
    first = np.array(damage(artefact, talking, 0.7))
    np.testing.assert_array_equal(damage(artefact, talking, 0.7), first)
    other = np.array(damage(artefact, talking, 0.7, seed=8))
    assert np.array_equal(first, other) == (artefact.type not in RANDOM)


@each
def test_severity_0_hands_over_the_very_frames(
    artefact: PictureArtefact, talking: list[U8]
) -> None:
    step = Step(artefact.type, 0.0, seed=5)
    made = list(damaged_pictures(talking, (step,), scene_of(talking), None))
    assert all(ours is theirs for ours, theirs in zip(made, talking, strict=True))


@each
def test_a_step_of_a_chain_is_the_artefact_with_the_seed_of_the_step(
    artefact: PictureArtefact, talking: list[U8]
) -> None:
    step = Step(artefact.type, 0.7, seed=8)
    made = list(damaged_pictures(talking, (step,), scene_of(talking, seed=1), None))
    np.testing.assert_array_equal(made, damage(artefact, talking, 0.7, seed=8))


@each
def test_the_damage_grows_from_next_to_nothing(
    artefact: PictureArtefact, talking: list[U8]
) -> None:
    clean = np.array(talking, np.float64)
    errors = [
        np.mean((np.array(damage(artefact, talking, severity)) - clean) ** 2)
        for severity in (0.001, *SEVERITIES[1:])
    ]
    assert all(small <= large for small, large in pairwise(errors))
    assert errors[0] < 65  # PSNR above 30 dB
    assert errors[-1] > 20 * errors[0]


@dataclass
class Tap:
    """Counts what was taken from a stream."""

    frames: Iterable[U8]
    taken: int = 0

    def __iter__(self) -> Iterator[U8]:
        for frame in self.frames:
            self.taken += 1
            yield frame


@each
def test_pictures_stream(artefact: PictureArtefact) -> None:
    rng = np.random.default_rng(0)
    tap = Tap(rng.integers(256, size=(48, 64, 3), dtype=np.uint8) for _ in range(400))
    scene = PictureScene(3, np.arange(400) / 25, (48, 64))
    inside = [tap.taken - shown for shown, _ in enumerate(artefact.apply(tap, 0.6, scene), 1)]
    assert len(inside) == 400
    # A codec reorders pictures, so some wait inside it.
    assert max(inside) <= (40 if artefact.type == "compression" else 0)


def test_a_repeat_is_the_last_picture_that_was_shown() -> None:
    frames = [np.full((1, 1, 3), i, np.uint8) for i in range(6)]
    made = [int(frame[0, 0, 0]) for frame in repeated(iter(frames), {0, 2, 3, 5})]
    assert made == [0, 1, 1, 1, 4, 4]


@each
@pytest.mark.parametrize("size", [(255, 321), (16, 17), (90, 64)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_and_plain_pictures_of_any_size(
    artefact: PictureArtefact, size: tuple[int, int], count: int
) -> None:
    for level in (0, 128, 255):
        frames = [np.full((*size, 3), level, np.uint8)] * count
        for severity in (0.2, 1.0):
            made = damage(artefact, frames, severity)
            assert [frame.shape for frame in made] == [(*size, 3)] * count
            if artefact.type not in ("picture_noise", "flicker"):
                # A coarse quantiser misses even a flat level by a little.
                off = 12 if artefact.type == "compression" else 0
                assert np.abs(np.array(made, np.int16) - level).max() <= off


@each
def test_it_says_what_it_is(artefact: PictureArtefact) -> None:
    assert ARTEFACTS[artefact.type] is artefact
    assert artefact.group in get_args(Group)
    assert not artefact.needs_donor
    assert artefact.harms.keys() <= set(TASKS) - {"overall", "audio_quality"}
    assert all(0 < points <= 3.5 for points in artefact.harms.values())
    scores = target_scores((Step(artefact.type, 1.0),))
    assert all(LOW <= score <= HIGH for score in scores.values())
    values = [artefact.measures(severity) for severity in SEVERITIES]
    assert len({tuple(value) for value in values}) == 1
    for name in values[0]:
        assert all(weak[name] < strong[name] for weak, strong in pairwise(values))
