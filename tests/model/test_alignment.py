import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from model.alignment import AlignmentLoss
from model.batch import ClipBatch, ClipTargets, Prediction
from model.loss_config import AlignmentConfig

B, T, D = 6, 20, 7
CONFIG = AlignmentConfig(width=5, shift=3, shifts=2)


def a_loss(config: AlignmentConfig = CONFIG, width: int = D) -> AlignmentLoss:
    torch.manual_seed(0)
    return AlignmentLoss(width, config).double()


def some_input(clips: int = B, frames: int = T):
    rng = torch.Generator().manual_seed(5)
    encoded = {
        name: torch.randn(clips, frames, D, generator=rng, dtype=torch.float64)
        for name in ("audio", "visual")
    }
    present = {name: torch.rand(clips, frames, generator=rng) < 0.9 for name in encoded}
    present["audio"][1] = False  # no sound
    present["visual"][3, 5:] = False  # too short for a shift of its own
    group = torch.tensor([0, 1, 2, 2, 3, 4])[:clips]
    return encoded, present, group


def bundle(encoded, present, group) -> tuple[Prediction, ClipBatch, ClipTargets]:
    clips = len(group)
    nothing = torch.zeros(clips, 5)
    return (
        Prediction(nothing, nothing, encoded),
        ClipBatch({}, present, torch.ones_like(present["audio"])),
        ClipTargets(nothing, nothing > 0, nothing + 1, group),
    )


def call(loss, encoded, present, group):
    return loss(*bundle(encoded, present, group))


def one_by_one(loss: AlignmentLoss, encoded, present, group, config=CONFIG) -> float:
    """The definition, clip by clip and step by step."""
    with torch.no_grad():
        space = {
            "audio": loss.project_audio(encoded["audio"]).numpy(),
            "visual": loss.project_visual(encoded["visual"]).numpy(),
        }
    space = {k: v / np.linalg.norm(v, axis=-1, keepdims=True) for k, v in space.items()}
    both = (present["audio"] & present["visual"]).numpy()
    clips, frames = both.shape

    def similarity(i, j, k=0):
        steps = [
            space["audio"][i, t + k] @ space["visual"][j, t]
            for t in range(frames)
            if 0 <= t + k < frames and both[i, t + k] and both[j, t]
        ]
        return (float(np.mean(steps)) if steps else None), len(steps)

    costs = []
    offsets = [sign * config.shift * n for n in range(1, config.shifts + 1) for sign in (1, -1)]
    for i in range(clips):
        own, steps = similarity(i, i)
        if not steps:
            continue
        moved = [similarity(i, i, k) for k in offsets]
        moved = [value for value, count in moved if count >= config.shift]
        others = [j for j in range(clips) if group[j] != group[i] and (both[i] & both[j]).any()]
        if not moved and not others:
            continue
        for pairs in ([(i, j) for j in others], [(j, i) for j in others]):
            logits = np.array([own, *moved, *(similarity(*pair)[0] for pair in pairs)])
            logits /= config.temperature
            costs.append(logsumexp(logits) - logits[0])
    return float(np.mean(costs))


@pytest.mark.parametrize("shifts", [0, 1, 2])
def test_agrees_with_the_definition_step_by_step(shifts):
    config = AlignmentConfig(width=5, shift=3, shifts=shifts)
    loss = a_loss(config)
    given = some_input()
    expected = one_by_one(loss, *given, config)
    assert call(loss, *given).item() == pytest.approx(expected, rel=1e-9)


def test_gradcheck():
    encoded, present, group = some_input(4, 8)
    loss = a_loss()

    def value(audio, visual, *_parameters):
        return call(loss, {"audio": audio, "visual": visual}, present, group)

    inputs = [encoded["audio"].requires_grad_(), encoded["visual"].requires_grad_()]
    assert torch.autograd.gradcheck(value, [*inputs, *loss.parameters()])


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e6])
def test_what_is_not_present_has_no_influence_and_no_gradient(garbage):
    encoded, present, group = some_input()
    expected = call(a_loss(), encoded, present, group).item()
    both = (present["audio"] & present["visual"])[..., None]
    dirty = {k: torch.where(both, v, garbage).requires_grad_() for k, v in encoded.items()}
    loss = a_loss()
    value = call(loss, dirty, present, group)
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-12)
    for x in dirty.values():
        assert x.grad is not None
        assert (x.grad[~both.expand_as(x)] == 0).all()
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 0
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_clips_without_both_modalities_are_left_out():
    encoded, present, group = some_input()
    whole = call(a_loss(), encoded, present, group)
    keep = torch.tensor([0, 2, 3, 4, 5])
    fewer = call(
        a_loss(),
        {k: v[keep] for k, v in encoded.items()},
        {k: v[keep] for k, v in present.items()},
        group[keep],
    )
    torch.testing.assert_close(whole, fewer)


@pytest.mark.parametrize("case", ["silent", "one video, no shifts", "shorter than the shift"])
def test_nothing_to_compare_gives_zero_without_gradient(case):
    encoded, present, group = some_input()
    config = CONFIG
    if case == "silent":
        present["audio"][:] = False
    else:
        group = torch.zeros_like(group)
        config = AlignmentConfig(
            width=5, shift=3 if "one" in case else 149, shifts=0 if "one" in case else 2
        )
    loss = a_loss(config)
    encoded["audio"].requires_grad_()
    value = call(loss, encoded, present, group)
    value.backward()
    assert value == 0
    assert encoded["audio"].grad is not None
    assert (encoded["audio"].grad == 0).all()
    assert all(p.grad is None or (p.grad == 0).all() for p in loss.parameters())


def test_training_tells_the_fitting_sound_from_a_shifted_one_and_from_others():
    # Sound and picture share a hidden course that each video has for itself.
    rng = torch.Generator().manual_seed(6)
    clips, frames, hidden = 8, 40, 3
    course = torch.randn(clips, frames, hidden, generator=rng)
    encoded = {name: course @ torch.randn(hidden, D, generator=rng) for name in ("audio", "visual")}
    present = {name: torch.ones(clips, frames, dtype=torch.bool) for name in encoded}
    group = torch.arange(clips)
    torch.manual_seed(0)
    loss = AlignmentLoss(D, AlignmentConfig(width=8, shift=5, shifts=2))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        call(loss, encoded, present, group).backward()
        optimizer.step()
    chance = np.log(1 + (clips - 1) + 4)
    trained = call(loss, encoded, present, group).item()
    assert trained < 0.1 * chance
    late = {**encoded, "audio": encoded["audio"].roll(5, dims=1)}
    assert call(loss, late, present, group).item() > chance
    foreign = {**encoded, "audio": encoded["audio"].roll(1, dims=0)}
    assert call(loss, foreign, present, group).item() > chance


def test_half_precision_streams_are_compared_in_single_precision():
    encoded, present, group = some_input()
    half = {k: v.to(torch.bfloat16) for k, v in encoded.items()}
    loss = a_loss().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = call(loss, half, present, group)
    assert value.dtype == torch.float32
    exact = {k: v.double() for k, v in half.items()}
    assert value.item() == pytest.approx(one_by_one(a_loss(), exact, present, group), rel=1e-5)
