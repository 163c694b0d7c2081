import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.blocks import (
    AttentionPooling,
    AuxProjection,
    Head,
    Output,
    drop_modalities,
    masked_max,
    masked_mean,
)
from model.transformer import Attention, DecoderLayer, EncoderLayer, Positions

B, T, S, D, HEADS = 3, 7, 5, 16, 4
NAN = float("nan")


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def mask_of(*lengths: int, steps: int = T) -> Tensor:
    return torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- Transformer layers against torch's own, with the same parameters


def test_attention_is_that_of_torch() -> None:
    ours = Attention(D, HEADS, 0.0).double()
    theirs = nn.MultiheadAttention(D, HEADS, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    x, memory, mask = randn(B, T, D), randn(B, S, D), mask_of(5, 1, 3, steps=S)
    expected, _ = theirs(x, memory, memory, key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, memory, mask), expected, atol=1e-12, rtol=0)
    expected, _ = theirs(x, x, x, key_padding_mask=~mask_of(7, 2, 4))
    torch.testing.assert_close(ours(x, None, mask_of(7, 2, 4)), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layer_is_that_of_torch(norm_first: bool) -> None:
    ours = EncoderLayer(D, HEADS, 32, 0.1, norm_first=norm_first, activation=F.gelu).double()
    theirs = nn.TransformerEncoderLayer(
        D, HEADS, 32, activation=F.gelu, batch_first=True, norm_first=norm_first
    ).double()
    theirs.load_state_dict(ours.state_dict())
    x, mask = randn(B, T, D), mask_of(7, 2, 4)
    expected = theirs.eval()(x, src_key_padding_mask=~mask)
    got = ours.eval()(x, mask)
    # torch may answer padded steps with zeros; nobody reads them.
    torch.testing.assert_close(got[mask], expected[mask], atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_layer_is_that_of_torch(norm_first: bool) -> None:
    ours = DecoderLayer(D, HEADS, 32, 0.1, norm_first=norm_first).double().eval()
    theirs = nn.TransformerDecoderLayer(
        D, HEADS, 32, batch_first=True, norm_first=norm_first
    ).double()
    theirs.load_state_dict(ours.state_dict())
    x, mask = randn(B, T, D), mask_of(7, 2, 4)
    memory, memory_mask = randn(B, S, D), mask_of(5, 1, 3, steps=S)
    expected = theirs.eval()(
        x, memory, tgt_key_padding_mask=~mask, memory_key_padding_mask=~memory_mask
    )
    torch.testing.assert_close(ours(x, mask, memory, memory_mask), expected, atol=1e-12, rtol=0)


def test_a_sequence_without_keys_is_finite_and_so_are_its_gradients() -> None:
    attention = Attention(D, HEADS, 0.0).double()
    x = randn(B, T, D).requires_grad_()
    y = attention(x, None, mask_of(0, 7, 3))
    y.square().sum().backward()
    assert x.grad is not None
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_more_steps_than_positions_are_refused() -> None:
    positions = Positions(4, D, "learned")
    assert positions(torch.zeros(1, 3, D)).shape == (1, 3, D)
    with pytest.raises(ValueError, match="at most 4 time steps, this batch has 5"):
        positions(torch.zeros(1, 5, D))
    assert Positions(4, D, "none")(torch.ones(1, 5, D)).eq(1).all()


# --- pooling


def test_pooling_reads_valid_steps_only() -> None:
    x, mask = randn(B, T, D), torch.rand(B, T) < 0.5
    mask[:, 2] = True
    dirty = torch.where(mask.unsqueeze(-1), x, NAN).requires_grad_()
    rows = [x[b][mask[b]].numpy() for b in range(B)]
    mean, highest = masked_mean(dirty, mask), masked_max(dirty, mask)
    np.testing.assert_allclose(mean.detach().numpy(), [r.mean(0) for r in rows], rtol=1e-12)
    np.testing.assert_array_equal(highest.detach().numpy(), [r.max(0) for r in rows])
    (mean.sum() + highest.sum()).backward()
    assert dirty.grad is not None
    assert dirty.grad[~mask].eq(0).all()
    torch.testing.assert_close(dirty.grad.sum(), torch.tensor(2.0 * B * D, dtype=torch.float64))


def test_pooling_over_nothing_is_zero() -> None:
    x, mask = torch.full((2, T, D), NAN), mask_of(0, 0)
    for pool in (masked_mean, masked_max, AttentionPooling(D)):
        assert pool(x, mask).eq(0).all()


def test_attention_pooling_is_a_weighted_mean_of_the_valid_steps() -> None:
    pool = AttentionPooling(D).double()
    x, mask = randn(B, T, D), mask_of(7, 2, 4)
    for b, length in enumerate((7, 2, 4)):
        part = x[b, :length]
        weights = torch.softmax(pool.score(part)[:, 0], dim=0)
        torch.testing.assert_close(pool(x, mask)[b], weights @ part)


# --- heads


@pytest.mark.parametrize("output", ["sigmoid", "tanh", "none"])
def test_scores_stay_on_the_scale(output: Output) -> None:
    head = Head(D, 0.0, output).double().eval()
    scores = head(100 * randn(500, D))
    assert scores.min() >= 1
    assert scores.max() <= 5
    assert scores.max() - scores.min() > 3.9  # and use all of it
    nn.init.zeros_(head.last.weight)
    assert head(randn(1, D)).item() == pytest.approx(3.0)  # raw 0 is the middle


@pytest.mark.parametrize(
    ("output", "inverse"),
    [("sigmoid", lambda s: np.log((s - 1) / (5 - s))), ("tanh", lambda s: np.arctanh((s - 3) / 2))],
)
def test_output_activations_are_those_of_the_text(output: Output, inverse) -> None:
    head = Head(D, 0.0, output).double().eval()
    x = randn(50, D)
    raw = head.last(head.layers(x))[:, 0].detach().numpy()
    np.testing.assert_allclose(inverse(head(x).detach().numpy()), raw, atol=1e-9)


def test_without_activation_training_is_unbounded_and_evaluation_clamped() -> None:
    head = Head(D, 0.0, "none").double()
    nn.init.zeros_(head.last.weight)
    nn.init.constant_(head.last.bias, 2.0)  # 3 + 2 * 2 = 7
    score = head.train()(randn(1, D))
    assert score.item() == pytest.approx(7.0)
    score.backward()
    assert head.last.bias.grad is not None
    assert head.last.bias.grad.item() == pytest.approx(2.0)  # a way back onto the scale
    assert head.eval()(randn(1, D)).item() == 5.0


@pytest.mark.parametrize("output", ["sigmoid", "tanh", "none"])
@pytest.mark.parametrize("score", [1.5, 3.0, 4.763])
def test_a_head_can_start_at_a_score(output: Output, score: float) -> None:
    head = Head(D, 0.0, output).double().eval()
    nn.init.zeros_(head.last.weight)
    head.start_at(score)
    assert head(randn(1, D)).item() == pytest.approx(score)


@pytest.mark.parametrize("output", ["sigmoid", "tanh", "none"])
@pytest.mark.parametrize("score", [1.0, 5.0])
def test_a_head_starts_near_the_ends_with_a_gradient(output: Output, score: float) -> None:
    head = Head(D, 0.0, output).double()
    nn.init.zeros_(head.last.weight)
    head.start_at(score)
    got = head(randn(1, D))
    assert got.item() == pytest.approx(score, abs=0.05)
    got.backward()
    assert head.last.bias.grad is not None
    assert head.last.bias.grad.item() > 0.01


@pytest.mark.parametrize("score", [0.9, 5.1, NAN])
def test_a_head_cannot_start_beyond_the_scale(score: float) -> None:
    with pytest.raises(ValueError, match="cannot start at"):
        Head(D, 0.0, "sigmoid").start_at(score)


# --- auxiliary vector


def test_missing_auxiliary_values_have_no_effect_but_are_seen_as_missing() -> None:
    project = AuxProjection(6, D, 0.0)
    aux, present = torch.randn(B, 6), torch.rand(B, 6) < 0.5
    present[:, 0] = False
    dirty = torch.where(present, aux, NAN)
    clean = torch.where(present, aux, 0)
    assert project(dirty, present).equal(project(clean, present))
    everything = torch.ones_like(present)
    assert not torch.allclose(project(clean, present), project(clean, everything))


# --- modality dropout


def test_modality_dropout_drops_at_its_rate_and_never_everything() -> None:
    clips, p = 20_000, 0.5
    present = {name: torch.ones(clips, 1, dtype=torch.bool) for name in ("a", "b", "c")}
    kept = torch.stack([mask[:, 0] for mask in drop_modalities(present, p).values()])  # [3, clips]
    assert kept.any(dim=0).all()
    # A clip that would lose all three (p^3) keeps one of them, each as often.
    expected = (1 - p) + p**3 / 3
    sigma = (expected * (1 - expected) / clips) ** 0.5
    assert (kept.double().mean(dim=1) - expected).abs().max() < 4 * sigma
    both = (kept[0] & kept[1]).double().mean()
    assert abs(both - (1 - p) ** 2) < 4 * (0.25 * 0.75 / clips) ** 0.5  # independent


def test_modality_dropout_takes_only_what_a_clip_has() -> None:
    steps = mask_of(2, 0, 4)
    present = {"a": steps.repeat(500, 1), "b": mask_of(3, 3, 0).repeat(500, 1)}
    kept = drop_modalities(present, 0.9)
    whole = {name: (kept[name] == present[name]).all(dim=1) for name in present}
    gone = {name: ~kept[name].any(dim=1) for name in present}
    for name, mask in present.items():
        assert (whole[name] | gone[name]).all()  # a modality goes as a whole
        assert not (kept[name] & ~mask).any()
    assert kept["b"][1::3].equal(present["b"][1::3])  # the only one that the clip has stays
    assert kept["a"][2::3].equal(present["a"][2::3])
    assert gone["a"][0::3].any()
    assert gone["b"][0::3].any()
    nothing = drop_modalities({"a": mask_of(0, 0), "b": mask_of(0, 0)}, 0.5)
    assert not torch.stack(list(nothing.values())).any()


def test_modality_dropout_follows_torchs_generator() -> None:
    present = {"a": torch.ones(64, 2, dtype=torch.bool), "b": torch.ones(64, 2, dtype=torch.bool)}
    state = torch.get_rng_state()
    first = drop_modalities(present, 0.5)
    other = drop_modalities(present, 0.5)
    torch.set_rng_state(state)
    again = drop_modalities(present, 0.5)
    assert all(first[name].equal(again[name]) for name in present)
    assert any(not first[name].equal(other[name]) for name in present)
