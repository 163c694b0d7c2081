"""Learning SyncNet: losses against their definitions, curriculum, pairs, judging, ranks."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from model.ranks import Ranks
from model.sync_judging import (
    Embedded,
    judge,
    median_confidence,
    neutral_origin,
    place_heads,
)
from model.sync_learner import MicroBatch, NotFiniteError, SyncLearner
from model.sync_measures import sync_measures
from model.sync_training import (
    Pairs,
    changed_picture,
    changed_sound,
    least_shift,
    pair_distances,
    sync_loss,
)
from model.sync_training_config import (
    AugmentationConfig,
    CurriculumConfig,
    SyncLossConfig,
    SyncTrainingConfig,
)
from model.syncnet import SyncNet
from tests.model.learning import as_ranks

STILL = AugmentationConfig(
    flip=0, zoom=0, move=0, turn=0, brightness=0, contrast=0, gain=0, noise=0
)
LOSSES = [
    SyncLossConfig(),
    SyncLossConfig(distance="squared", temperature=3.0),
    SyncLossConfig(both_ways=False),
    SyncLossConfig(kind="margin", margin=4.0),
]


def planted(clips: int, windows: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(clips, windows, width)))


# --- curriculum


def test_the_curriculum_falls_from_far_to_near_and_stays() -> None:
    config = CurriculumConfig(far=8, near=1, share=0.5)
    course = [least_shift(step, 100, config) for step in range(100)]
    assert course[0] == 8
    assert course[50:] == [1] * 50
    assert sorted(course, reverse=True) == course
    assert set(course) == set(range(1, 9))
    at_once = CurriculumConfig(share=0)
    assert [least_shift(step, 10, at_once) for step in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    "values", [{"far": 2, "near": 3}, {"far": 16}, {"near": 0}, {"share": 1.5}]
)
def test_impossible_curricula_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"far|near|share"):
        CurriculumConfig(**values)


# --- pairs


def test_false_pairs_are_counted_one_by_one() -> None:
    videos, windows, least = torch.tensor([4, 9, 4]), 20, 3
    found = Pairs.of(videos, windows, least, foreign=True)
    alone = Pairs.of(videos, windows, least, foreign=False)
    assert torch.equal(alone.shifted, found.shifted)
    assert not alone.foreign.any()
    for x in range(3 * windows):
        for y in range(3 * windows):
            (a, i), (b, j) = divmod(x, windows), divmod(y, windows)
            assert bool(found.shifted[x, y]) == (a == b and 3 <= abs(i - j) <= 15)
            assert bool(found.foreign[x, y]) == bool(videos[a] != videos[b])


# --- losses


@pytest.mark.parametrize("config", LOSSES)
def test_losses_are_their_definitions(config: SyncLossConfig) -> None:
    clips, windows, least = 2, 5, 2
    lips, sounds = planted(clips, windows), planted(clips, windows, seed=1)
    d = cdist(lips.flatten(0, 1).numpy(), sounds.flatten(0, 1).numpy())
    pairs = Pairs.of(torch.arange(clips), windows, least, foreign=True)
    got = float(sync_loss(pair_distances(lips, sounds), pairs, config))
    n = clips * windows
    wanted = []
    for foreign in (False, True):
        false = np.array(
            [
                [
                    (i // windows != j // windows)
                    if foreign
                    else (i // windows == j // windows and abs(i - j) >= least)
                    for j in range(n)
                ]
                for i in range(n)
            ]
        )
        if config.kind == "margin":
            bad = [max(4.0 - d[i, j], 0) ** 2 for i in range(n) for j in range(n) if false[i, j]]
            wanted.append((np.mean([d[i, i] ** 2 for i in range(n)]) + np.mean(bad)) / 2)
            continue
        e = np.exp(-(d**2 if config.distance == "squared" else d) / config.temperature)
        rows = [-math.log(e[i, i] / (e[i, i] + e[i][false[i]].sum())) for i in range(n)]
        columns = [-math.log(e[i, i] / (e[i, i] + e[:, i][false[:, i]].sum())) for i in range(n)]
        wanted.append(np.mean([rows, columns] if config.both_ways else rows))
    assert got == pytest.approx(float(np.mean(wanted)), rel=1e-12)


@pytest.mark.parametrize("config", LOSSES)
def test_gradients_in_double_precision(config: SyncLossConfig) -> None:
    lips, sounds = planted(2, 4, 3), planted(2, 4, 3, seed=1)
    pairs = Pairs.of(torch.arange(2), 4, 1, foreign=True)
    inputs = (lips.requires_grad_(), sounds.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda a, b: sync_loss(pair_distances(a, b), pairs, config), inputs
    )


@pytest.mark.parametrize("config", LOSSES)
def test_sync_costs_least(config: SyncLossConfig) -> None:
    """Lips that meet their own sound cost less than lips that meet that of any other moment."""
    sounds = 3 * planted(3, 12)
    pairs = Pairs.of(torch.arange(3), 12, 1, foreign=True)

    def cost(lips: torch.Tensor) -> float:
        return float(sync_loss(pair_distances(lips, sounds), pairs, config))

    best = cost(sounds)
    for shift in (1, -1, 5):
        assert cost(sounds.roll(shift, dims=1)) > best + 0.1
    assert cost(sounds.roll(1, dims=0)) > best + 0.1
    assert cost(sounds + 0.5 * planted(3, 12, seed=2)) > best


def test_windows_without_a_false_partner_cost_nothing() -> None:
    lips = planted(1, 4)
    pairs = Pairs.of(torch.zeros(1), 4, 8, foreign=True)
    assert not (pairs.shifted | pairs.foreign).any()
    assert float(sync_loss(pair_distances(lips, lips + 1), pairs, SyncLossConfig())) == 0
    margin = SyncLossConfig(kind="margin")
    assert float(sync_loss(pair_distances(lips, lips), pairs, margin)) == 0


def test_equal_embeddings_give_a_finite_gradient() -> None:
    lips = torch.zeros(2, 4, 3, requires_grad=True)
    pairs = Pairs.of(torch.arange(2), 4, 1, foreign=True)
    torch.autograd.backward(sync_loss(pair_distances(lips, lips * 2), pairs, SyncLossConfig()))
    assert lips.grad is not None
    assert torch.isfinite(lips.grad).all()


# --- augmentation


def test_nothing_changes_when_nothing_may() -> None:
    frames = 255 * torch.rand(3, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(changed_picture(frames, np.random.default_rng(0), STILL), frames)
    samples = np.arange(-500, 500, dtype=np.int16)
    np.testing.assert_array_equal(changed_sound(samples, np.random.default_rng(0), STILL), samples)


def test_all_frames_change_alike_and_a_mirror_mirrors() -> None:
    frame = 255 * torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    still = frame.expand(3, 4, 16, 16).contiguous()
    found = changed_picture(still, np.random.default_rng(3), AugmentationConfig())
    assert not torch.equal(found, still)
    torch.testing.assert_close(found, found[:, :1].expand_as(found))
    mirror = STILL.model_copy(update={"flip": 1.0})
    torch.testing.assert_close(
        changed_picture(frame, np.random.default_rng(0), mirror), frame.flip(3), rtol=0, atol=1e-3
    )


def test_sound_changes_by_the_decibels_that_are_allowed() -> None:
    samples = (3000 * np.sin(np.arange(4000) / 7)).astype(np.int16)
    loud = STILL.model_copy(update={"gain": 6.0})
    rng = np.random.default_rng(1)
    changes = []
    for _ in range(50):
        changed = changed_sound(samples, rng, loud).astype(float)
        changes.append(20 * np.log10(np.std(changed) / np.std(samples.astype(float))))
    assert np.abs(changes).max() <= 6.01
    assert np.ptp(changes) > 9
    noisy = STILL.model_copy(update={"noise": 1.0})
    for seed in range(20):
        changed = changed_sound(samples, np.random.default_rng(seed), noisy).astype(float)
        noise = changed - samples
        snr = 20 * np.log10(np.std(samples.astype(float)) / np.std(noise))
        assert 4.5 < snr < 35.5
    silence = np.zeros(1000, np.int16)
    everything = AugmentationConfig(noise=1.0)
    assert not changed_sound(silence, np.random.default_rng(0), everything).any()


# --- judging


def clip(windows: int, seed: int, noise: float = 0.3) -> Embedded:
    sounds = planted(1, windows, 12, seed)[0]
    lips = sounds + noise * planted(1, windows, 12, seed + 100)[0]
    return Embedded(lips, sounds, np.ones(windows, np.bool_))


def test_a_shifted_clip_is_measured_at_its_offset() -> None:
    moved = clip(60, 0)
    for offset in range(-10, 11):
        part = moved.shifted(offset)
        assert len(part) == 60 - abs(offset)
        assert sync_measures(part.lips, part.sounds, mask=part.mask).offset == offset


def test_judging_counts_what_is_found() -> None:
    good, other = clip(60, 0), clip(50, 1)
    found = judge([good, other], [[other], [good]], 10)
    assert (found.exact, found.foreign, found.offsets, found.trials) == (1.0, 1.0, 42, 2)
    own = [sync_measures(c.lips, c.sounds) for c in (good, other)]
    assert found.confidence == pytest.approx(np.median([m.confidence for m in own]))
    assert median_confidence([good, other]) == found.confidence
    assert found.distance == pytest.approx(np.median([m.min_distance for m in own]))
    # Lips one window late: every offset is missed by one, and nothing else changes.
    late = Embedded(good.lips[:-1], good.sounds[1:], good.mask[1:])
    assert judge([late], [[other]], 10).exact == 0
    # Lips that follow the other clip's sound: the foreign sound wins.
    swapped = other.with_sound_of(good)
    assert judge([swapped], [[other]], 2).foreign == 0
    with pytest.raises(ValueError, match="no clips"):
        judge([], [], 10)


def test_masked_windows_take_no_part() -> None:
    whole = clip(60, 0)
    mask = np.arange(60) % 7 != 0
    spoilt = whole.lips.clone()
    spoilt[torch.from_numpy(~mask)] = 1e3
    found = judge([Embedded(spoilt, whole.sounds, mask)], [[clip(60, 5)]], 10)
    assert found.exact == 1


def test_pieces_cover_the_clip() -> None:
    pieces = clip(50, 0).pieces(16)
    assert [len(p) for p in pieces] == [16, 16, 16]
    torch.testing.assert_close(torch.cat([p.lips for p in pieces]), clip(50, 0).lips[:48])


# --- placing the heads


def test_placing_moves_the_zero_and_scales_distances() -> None:
    net = SyncNet(1 / 32, 64, 8).eval()
    lips = 255 * torch.rand(1, 3, 9, 64, 64, generator=torch.Generator().manual_seed(0))
    sound = 10 * torch.randn(5, 1, 13, 20, generator=torch.Generator().manual_seed(1))
    origin = torch.linspace(-1, 1, 8)
    with torch.no_grad():
        a, b = net.forward_lip(lips)[0], net.forward_aud(sound)
        place_heads(net, origin, 3.0)
        c, d = net.forward_lip(lips)[0], net.forward_aud(sound)
    torch.testing.assert_close(c, 3 * (a - origin))
    torch.testing.assert_close(d, 3 * (b - origin))


def test_the_neutral_origin_is_as_far_as_wrong_sound() -> None:
    clips = [clip(60, seed) for seed in range(4)]
    # A space with a direction that nothing uses, as embeddings of a trained network have.
    wide = [
        Embedded(*(torch.cat([x + 7, torch.zeros(60, 1)], 1) for x in (c.lips, c.sounds)), c.mask)
        for c in clips
    ]
    origin = neutral_origin(wide)
    from_lips = torch.cat([torch.linalg.vector_norm(c.lips - origin, dim=1) for c in wide])
    wrong = [
        torch.linalg.vector_norm(c.lips[i] - c.sounds[j]).item()
        for c in wide
        for i in range(60)
        for j in range(max(0, i - 15), min(60, i + 16))
        if abs(i - j) > 2
    ]
    assert float(from_lips.mean()) == pytest.approx(np.mean(wrong), rel=0.01)
    # So a clip's end no longer prefers or avoids large shifts: short clips keep their offset.
    near = [c.placed(origin).part(0, 26) for c in wide]
    far = [Embedded(c.lips + 30, c.sounds + 30, c.mask).part(0, 26) for c in wide]
    assert judge(near, [[near[1]], [near[0]], [near[1]], [near[2]]], 10).exact == 1
    assert judge(far, [[far[1]], [far[0]], [far[1]], [far[2]]], 10).exact < 0.7


# --- steps


def small_config(**changes: object) -> SyncTrainingConfig:
    values: dict[str, object] = {
        "steps": 10, "clips": 4, "micro_clips": 2, "windows": 4, "augmentation": STILL,
        "curriculum": CurriculumConfig(far=2, near=1), "learning_rate": 1e-3,
    }  # fmt: skip
    return SyncTrainingConfig.model_validate(values | changes)


def small_net() -> SyncNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SyncNet(1 / 64, 52, 8)


def micro(seed: int) -> MicroBatch:
    g = torch.Generator().manual_seed(seed)
    return 255 * torch.rand(2, 3, 8, 52, 52, generator=g), 9 * torch.randn(
        2, 4, 13, 20, generator=g
    )


VIDEOS = torch.tensor([0, 1, 2, 1])
FIRST = small_net().state_dict()  # threads share the generator that drew it


def steps_of(ranks: Ranks, count: int = 2) -> tuple[list[float], dict[str, torch.Tensor]]:
    net = SyncNet(1 / 64, 52, 8)
    net.load_state_dict(FIRST)
    learner = SyncLearner(net.double(), small_config(), ranks)
    losses = []
    for step in range(count):
        parts = [tuple(x.double() for x in micro(10 * step + i)) for i in range(2)]
        own = parts if ranks.size == 1 else parts[ranks.rank : ranks.rank + 1]
        losses.append(learner.step(own, VIDEOS, 2 * ranks.rank).loss)  # type: ignore[arg-type]
    return losses, learner.net.state_dict()


def test_two_ranks_take_the_step_of_one() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone, wanted = steps_of(Ranks())
        ranked = as_ranks(2, steps_of)
    finally:
        torch.set_num_threads(before)
    for losses, state in ranked:
        assert losses == pytest.approx(alone, rel=1e-9)
        for name, tensor in wanted.items():
            if not name.endswith("num_batches_tracked"):
                torch.testing.assert_close(state[name], tensor, rtol=1e-6, atol=1e-9, msg=name)


def test_a_step_lowers_its_own_loss_and_moves_running_statistics() -> None:
    learner = SyncLearner(small_net(), small_config(steps=20, learning_rate=3e-3))
    before = learner.net.netcnnlip[1].running_mean.clone()
    first, *_, last = (learner.step([micro(0), micro(1)], VIDEOS, 0) for _ in range(12))
    assert last.loss < first.loss - 0.05
    assert [first.least, last.least] == [2, 1]
    assert not torch.equal(before, learner.net.netcnnlip[1].running_mean)


def test_a_restored_learner_takes_the_same_steps() -> None:
    config = small_config()
    one = SyncLearner(small_net(), config)
    for step in range(2):
        one.step([micro(step), micro(step + 5)], VIDEOS, 0)
    other = SyncLearner(SyncNet(1 / 64, 52, 8), config)
    other.restore({k: v.clone() for k, v in one.state().items()}, one.steps)
    a = one.step([micro(8), micro(9)], VIDEOS, 0)
    b = other.step([micro(8), micro(9)], VIDEOS, 0)
    assert a == b
    for name, tensor in one.net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, other.net.state_dict()[name]), name
    with pytest.raises(ValueError, match="instead of"):
        SyncLearner(SyncNet(1 / 32, 52, 8), config).restore(one.state(), 2)


def test_what_is_not_finite_ends_training_and_changes_nothing() -> None:
    learner = SyncLearner(small_net(), small_config())
    weights = {k: v.clone() for k, v in learner.net.named_parameters()}
    lips, sound = micro(0)
    lips[0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(NotFiniteError, match="step 1"):
        learner.step([(lips, sound), micro(1)], VIDEOS, 0)
    for name, tensor in learner.net.named_parameters():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize(
    "values", [{"clips": 6, "micro_clips": 4}, {"windows": 8, "curriculum": {"far": 8}}]
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SyncTrainingConfig.model_validate(values)
