import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from model.batch import STREAMS, ClipBatch
from model.evaluator import Evaluator
from model.evaluator_config import Stream
from model.tasks import TASKS
from tests.model.evaluator_cases import (
    FAMILIES,
    NAN,
    VARIANTS,
    build,
    clips,
    filled,
    lacking,
    patchy,
    rows,
)


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request: pytest.FixtureRequest) -> Evaluator:
    return build(**VARIANTS[request.param]).eval()


# --- masks


def test_scores_lie_on_the_scale_and_differ_between_clips(variant: Evaluator) -> None:
    prediction = variant(clips(9, 4, 6))
    assert prediction.scores.shape == (3, len(TASKS))
    assert prediction.embedding.shape == (3, variant.config.width)
    assert list(prediction.encoded) == list(variant.config.streams)
    assert all(x.shape == (3, 9, 16) for x in prediction.encoded.values())
    assert prediction.scores.min() >= 1
    assert prediction.scores.max() <= 5
    assert prediction.scores.std(dim=0).min() > 1e-3


def test_a_clip_alone_is_scored_as_among_longer_ones(variant: Evaluator) -> None:
    batch = patchy(9, 4, 6)
    together = variant(batch)
    for i, length in enumerate((9, 4, 6)):
        alone = variant(rows(batch, i, length))
        torch.testing.assert_close(alone.scores[0], together.scores[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.embedding[0], together.embedding[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("garbage", [1e30, NAN, float("inf")])
def test_what_lies_under_a_false_mask_has_no_effect(variant: Evaluator, garbage: float) -> None:
    batch = lacking(patchy(9, 4, 6), "landmarks")
    clean, dirty = variant(filled(batch, 0.0)), variant(filled(batch, garbage))
    assert dirty.scores.equal(clean.scores)
    assert dirty.embedding.equal(clean.embedding)
    for name, x in dirty.encoded.items():
        assert x[batch.present[name]].equal(clean.encoded[name][batch.present[name]])


@pytest.mark.parametrize("garbage", [1e30, NAN])
def test_garbage_does_not_reach_the_gradients(variant: Evaluator, garbage: float) -> None:
    def gradients(batch: ClipBatch) -> list[Tensor]:
        return list(torch.autograd.grad(variant(batch).scores.sum(), list(variant.parameters())))

    batch = lacking(patchy(9, 4, 6), "visual")
    for clean, dirty in zip(
        gradients(filled(batch, 0.0)), gradients(filled(batch, garbage)), strict=True
    ):
        assert clean.equal(dirty)


@pytest.mark.parametrize("name", STREAMS)
def test_a_missing_modality_is_no_row_of_zeros(variant: Evaluator, name: str) -> None:
    batch = clips(9, 4, 6)
    zeros = {**batch.streams, name: torch.zeros_like(batch.streams[name])}
    as_zeros = variant(dataclasses.replace(batch, streams=zeros)).scores
    masked = variant(lacking(batch, name)).scores
    if name in variant.config.streams:
        assert not torch.allclose(masked, as_zeros, atol=1e-4)
        assert not torch.allclose(masked, variant(batch).scores, atol=1e-4)
    else:
        assert masked.equal(as_zeros)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_one_modality_missing_the_others_are_judged_as_if_it_never_were(family: str) -> None:
    # An evaluator that reads three streams, with the weights of one that reads four. The sound of
    # cross_attention is its query and has a stand-in instead.
    lost: Stream = "landmarks"
    large = build(family=family).eval()
    left = tuple(name for name in large.config.streams if name != lost)
    small = build(family=family, streams=left).eval()
    small.load_state_dict({k: v for k, v in large.state_dict().items() if lost not in k})
    batch = clips(9, 4, 6)
    torch.testing.assert_close(large(lacking(batch, lost)).scores, small(batch).scores)


@pytest.mark.parametrize("family", ["cross_modal_encoder", "dual_path"])
def test_a_frame_about_which_nothing_is_known_is_padding(family: str) -> None:
    evaluator = build(family=family).eval()
    batch = clips(9)
    present = {name: mask_first(batch, 6) for name in batch.present}
    unknown = evaluator(dataclasses.replace(batch, present=present))
    torch.testing.assert_close(unknown.scores, evaluator(rows(batch, 0, 6)).scores)


def test_clips_without_any_data_are_finite_and_spoil_no_gradient(variant: Evaluator) -> None:
    batch = clips(9, 4, 6)
    for empty in (
        lacking(batch, *STREAMS),
        dataclasses.replace(batch, frame_mask=torch.zeros_like(batch.frame_mask)),
    ):
        prediction = variant(filled(empty, NAN))
        assert prediction.scores.isfinite().all()
        gradients = torch.autograd.grad(prediction.scores.sum(), list(variant.parameters()))
        assert all(g.isfinite().all() for g in gradients)


def test_one_empty_clip_leaves_its_neighbours_alone(variant: Evaluator) -> None:
    batch = clips(9, 4, 6)
    present = {name: mask.clone() for name, mask in batch.present.items()}
    for mask in present.values():
        mask[1] = False
    scores = variant(filled(dataclasses.replace(batch, present=present), NAN)).scores
    torch.testing.assert_close(scores[[0, 2]], variant(batch).scores[[0, 2]], atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("positional", ["learned", "none"])
def test_positions_make_the_order_of_the_frames_count(family: str, positional: str) -> None:
    evaluator = build(family=family, positional=positional).double().eval()
    batch = clips(8)
    streams = {name: x.double() for name, x in batch.streams.items()}
    forward = evaluator(dataclasses.replace(batch, streams=streams, aux=None)).embedding
    streams = {name: x.flip(1) for name, x in streams.items()}
    backward = evaluator(dataclasses.replace(batch, streams=streams, aux=None)).embedding
    same = torch.allclose(forward, backward, atol=1e-10)
    assert same is (positional == "none")


def test_a_learned_query_stands_in_for_missing_sound_and_a_learned_key_for_no_picture() -> None:
    evaluator = build(family="cross_attention").eval()
    trunk = evaluator.trunk
    stand_ins = [trunk.no_sound, trunk.no_key]

    def norms(batch: ClipBatch) -> list[bool]:
        gradients = torch.autograd.grad(evaluator(batch).scores.sum(), stand_ins)
        return [bool(g.norm() > 0) for g in gradients]

    batch = clips(9, 4)
    assert norms(batch) == [False, False]
    assert norms(lacking(batch, "audio")) == [True, False]
    assert norms(lacking(batch, "visual", "landmarks")) == [False, False]
    assert norms(lacking(batch, "visual", "landmarks", "action_units")) == [False, True]
    # Half the sound: the other half is the stand-in, not padding.
    half = dataclasses.replace(batch, present={**batch.present, "audio": mask_first(batch, 2)})
    assert norms(half) == [True, False]


def mask_first(batch: ClipBatch, steps: int) -> Tensor:
    return batch.frame_mask & (torch.arange(batch.frame_mask.shape[1]) < steps)


def test_a_missing_auxiliary_value_may_be_anything() -> None:
    evaluator = build(**VARIANTS["encoder-all"]).eval()
    batch = clips(5, 3)
    assert batch.aux is not None
    present = torch.rand(batch.aux.shape) < 0.5
    present[0, 0] = False
    given = dataclasses.replace(batch, aux_present=present)
    clean = dataclasses.replace(given, aux=torch.where(present, batch.aux, 0))
    dirty = dataclasses.replace(given, aux=torch.where(present, batch.aux, NAN))
    assert evaluator(dirty).scores.equal(evaluator(clean).scores)
    assert not evaluator(clean).scores.equal(evaluator(batch).scores)


def test_the_auxiliary_vector_alone_is_judged_without_any_sequence() -> None:
    evaluator = build(**VARIANTS["auxiliary"]).eval()
    batch = clips(9, 4, 6)
    bare = ClipBatch({}, {}, batch.frame_mask, batch.aux, batch.aux_present)
    prediction = evaluator(bare)
    assert prediction.scores.equal(evaluator(batch).scores)
    assert prediction.encoded == {}
    assert batch.aux is not None
    other = dataclasses.replace(bare, aux=batch.aux.flip(0))
    torch.testing.assert_close(evaluator(other).scores, prediction.scores.flip(0))
    # The same numbers by hand: the projection and a head, matrix by matrix.
    weights = {k: v.double().numpy() for k, v in evaluator.state_dict().items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x = np.concatenate([batch.aux.double().numpy(), np.ones(batch.aux.shape)], axis=1)
    embedding = linear(np.maximum(linear(x, "aux.layers.0"), 0), "aux.layers.3")
    np.testing.assert_allclose(prediction.embedding.detach(), embedding, atol=1e-5)
    x = np.maximum(linear(embedding, "heads.lip_sync.layers.0"), 0)
    x = np.maximum(linear(x, "heads.lip_sync.layers.3"), 0)
    score = 1 + 4 / (1 + np.exp(-linear(x, "heads.lip_sync.last")[:, 0]))
    np.testing.assert_allclose(prediction.scores[:, 0].detach(), score, atol=1e-5)


# --- number formats


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_autocast_trains_and_agrees(name: str) -> None:
    evaluator = build(**VARIANTS[name]).eval()
    batch = filled(lacking(patchy(9, 4, 6), "visual"), NAN)
    plain = evaluator(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = evaluator(batch)
    assert prediction.scores.dtype == torch.float32
    assert prediction.embedding.dtype == torch.float32
    torch.testing.assert_close(prediction.scores, plain.scores, atol=0.05, rtol=0)
    gradients = torch.autograd.grad(prediction.scores.sum(), list(evaluator.parameters()))
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(None, 2e-3), (torch.bfloat16, 0.05), (torch.float16, 0.02)]
)
def test_cuda_agrees_with_the_cpu(name: str, dtype: torch.dtype | None, tolerance: float) -> None:
    evaluator = build(**VARIANTS[name]).eval()
    batch = filled(lacking(patchy(9, 4, 6), "visual"), NAN)
    expected = evaluator(batch).scores
    evaluator.cuda()
    with torch.autocast("cuda", dtype=dtype or torch.float16, enabled=dtype is not None):
        scores = evaluator(batch.to("cuda")).scores
    torch.testing.assert_close(scores.cpu(), expected, atol=tolerance, rtol=0)
    gradients = torch.autograd.grad(scores.sum(), list(evaluator.parameters()))
    assert all(g.isfinite().all() for g in gradients)
