import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
import yaml
from pydantic import ValidationError
from torch import Tensor, nn

from model.batch import REDUCED_WIDTHS, STREAMS, ClipBatch
from model.evaluator import MAX_STEPS, Evaluator, build_evaluator
from model.evaluator_config import EvaluatorConfig, Stream
from model.tasks import TASKS
from tests.support import ROOT

PRESETS = ("standard", "optimized", "advanced", "cross_attention")
AUX = 5
NAN = float("nan")
SMALL: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2, "feedforward": 24, "dropout": 0.0}
FAMILIES = ("cross_modal_encoder", "dual_path", "cross_attention")
VARIANTS: dict[str, dict[str, Any]] = {
    "encoder": {"family": "cross_modal_encoder"},
    "encoder-all": {
        "family": "cross_modal_encoder",
        "streams": STREAMS,
        "aux": True,
        "norm_first": True,
    },
    "dual": {"family": "dual_path", "positional": "none"},
    "dual-all": {
        "family": "dual_path",
        "streams": STREAMS,
        "aux": True,
        "fusion": "gate",
        "output": "tanh",
    },
    "cross": {"family": "cross_attention"},
    "cross-all": {
        "family": "cross_attention",
        "streams": STREAMS,
        "aux": True,
        "pooling": "attention",
        "norm_first": True,
        "output": "none",
    },
}


def build(seed: int = 1, **settings: Any) -> Evaluator:
    torch.manual_seed(seed)
    evaluator = build_evaluator(EvaluatorConfig(**{**SMALL, **settings}), REDUCED_WIDTHS, AUX)
    for p in evaluator.heads.parameters():  # large enough for every change to show in the scores
        nn.init.normal_(p, std=0.4)
    return evaluator


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request: pytest.FixtureRequest) -> Evaluator:
    return build(**VARIANTS[request.param]).eval()


def clips(*lengths: int, seed: int = 0, steps: int | None = None) -> ClipBatch:
    """Clips of these lengths with everything present."""
    generator = torch.Generator().manual_seed(seed)
    steps = steps or max(lengths)
    mask = torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)
    streams = {
        name: torch.randn(len(lengths), steps, width, generator=generator)
        for name, width in REDUCED_WIDTHS.items()
    }
    aux = torch.randn(len(lengths), AUX, generator=generator)
    present = {name: mask.clone() for name in streams}
    return ClipBatch(streams, present, mask, aux, torch.ones_like(aux, dtype=torch.bool))


def lacking(batch: ClipBatch, *names: str) -> ClipBatch:
    present = {
        name: torch.zeros_like(mask) if name in names else mask
        for name, mask in batch.present.items()
    }
    return dataclasses.replace(batch, present=present)


def filled(batch: ClipBatch, value: float) -> ClipBatch:
    """The batch with ``value`` under every false mask."""
    streams = {
        name: torch.where(batch.present[name].unsqueeze(-1), x, value)
        for name, x in batch.streams.items()
    }
    return dataclasses.replace(batch, streams=streams)


def rows(batch: ClipBatch, index: int, steps: int) -> ClipBatch:
    """One clip of a batch, cut to its own length."""
    assert batch.aux is not None
    assert batch.aux_present is not None
    one = slice(index, index + 1)
    return ClipBatch(
        {name: x[one, :steps] for name, x in batch.streams.items()},
        {name: x[one, :steps] for name, x in batch.present.items()},
        batch.frame_mask[one, :steps],
        batch.aux[one],
        batch.aux_present[one],
    )


def patchy(*lengths: int, seed: int = 0) -> ClipBatch:
    """Clips where every stream is missing here and there."""
    batch = clips(*lengths, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    present = {
        name: mask & (torch.rand(mask.shape, generator=generator) < 0.7)
        for name, mask in batch.present.items()
    }
    return dataclasses.replace(batch, present=present)


# --- masks


def test_scores_lie_on_the_scale_and_differ_between_clips(variant: Evaluator) -> None:
    prediction = variant(clips(9, 4, 6))
    assert prediction.scores.shape == (3, len(TASKS))
    assert prediction.embedding.shape == (3, 16)
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


# --- the architectures, written down a second time with torch's own layers


def mlp(encoder: nn.Module, x: Tensor) -> Tensor:
    first, _, _, second = encoder.layers
    return F.linear(F.relu(F.linear(x, first.weight, first.bias)), second.weight, second.bias)


def torch_encoder(stack: nn.Module, activation: Callable[[Tensor], Tensor]) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, activation, batch_first=True).double()
    theirs = nn.TransformerEncoder(layer, len(stack.layers), enable_nested_tensor=False)
    theirs.load_state_dict(stack.state_dict())
    return theirs


def head_scores(evaluator: Evaluator, embedding: Tensor) -> Tensor:
    scores = []
    for task in TASKS:
        layers, last = evaluator.heads[task].layers, evaluator.heads[task].last
        x = layers[3](layers[0](embedding).relu()).relu()
        scores.append(1 + 4 / (1 + torch.exp(-(x @ last.weight[0] + last.bias))))
    return torch.stack(scores, dim=1)


def full(family: str) -> tuple[Evaluator, dict[str, Tensor], ClipBatch]:
    evaluator = build(family=family, positional="learned").double()
    batch = clips(7, 7)
    batch = dataclasses.replace(batch, streams={n: x.double() for n, x in batch.streams.items()})
    return evaluator, {name: batch.streams[name] for name in evaluator.config.streams}, batch


def test_the_cross_modal_encoder_is_what_the_text_says() -> None:
    evaluator, streams, batch = full("cross_modal_encoder")
    trunk = evaluator.trunk
    x = sum(mlp(trunk.encoders[name], x) for name, x in streams.items()) / 4
    x = torch_encoder(trunk.stack, F.relu)(x + trunk.positions.encoding[:7]).mean(dim=1)
    torch.testing.assert_close(evaluator(batch).scores, head_scores(evaluator, x))


def test_the_dual_path_is_what_the_text_says() -> None:
    evaluator, streams, batch = full("dual_path")
    trunk = evaluator.trunk
    temporal, path_b = torch_encoder(trunk.temporal, F.gelu), torch_encoder(trunk.path_b, F.gelu)
    u = []
    for name, stream in streams.items():
        x = stream
        for layer in trunk.encoders[name]:
            y = F.gelu(F.layer_norm(layer.linear(x), [16], layer.norm.weight, layer.norm.bias))
            x = y + (x if x.shape[-1] == 16 else layer.residual(x))
        x = temporal(x + trunk.positions.encoding[:7])
        u.append(trunk.summaries[name](torch.cat([x.mean(dim=1), x.amax(dim=1)], dim=-1)))
    path_a, pairs = sum(u) / 4, torch.stack(u, dim=1)
    fused = (path_a + path_b(pairs).mean(dim=1)) / 2
    torch.testing.assert_close(evaluator(batch).scores, head_scores(evaluator, fused))


def test_cross_attention_is_what_the_text_says() -> None:
    evaluator, streams, batch = full("cross_attention")
    trunk = evaluator.trunk
    encoded = {name: mlp(trunk.encoders[name], x) for name, x in streams.items()}
    seen = [
        encoded[name] + trunk.key_positions.encoding[:7] + trunk.stream_vectors[name]
        for name in ("visual", "landmarks", "action_units")
    ]
    layer = nn.TransformerDecoderLayer(16, 2, 24, 0.0, batch_first=True).double()
    decoder = nn.TransformerDecoder(layer, 2)
    decoder.load_state_dict(trunk.stack.state_dict())
    query = encoded["audio"] + trunk.query_positions.encoding[:7]
    x = decoder(query, torch.cat(seen, dim=1)).mean(dim=1)
    torch.testing.assert_close(evaluator(batch).scores, head_scores(evaluator, x))


def test_the_gate_weighs_the_two_paths() -> None:
    evaluator = build(family="dual_path", fusion="gate").eval()
    gate = evaluator.trunk.gate
    nn.init.zeros_(gate.weight)
    nn.init.zeros_(gate.bias)
    plain = build(family="dual_path", fusion="mean").eval()
    plain.load_state_dict({k: v for k, v in evaluator.state_dict().items() if "gate" not in k})
    batch = clips(9, 4)
    torch.testing.assert_close(evaluator(batch).embedding, plain(batch).embedding)
    nn.init.constant_(gate.bias, 50.0)  # all path A: path B no longer matters
    before = evaluator(batch).embedding
    nn.init.normal_(evaluator.trunk.path_b.last_linear().weight)
    torch.testing.assert_close(evaluator(batch).embedding, before)


def test_a_width_other_than_the_expected_one_gets_an_adaptive_projection() -> None:
    torch.manual_seed(0)
    widths = {**REDUCED_WIDTHS, "visual": 12}
    evaluator = build_evaluator(EvaluatorConfig(**SMALL, family="dual_path"), widths)
    encoder = evaluator.trunk.encoders["visual"]
    assert (encoder[0].in_features, encoder[0].out_features) == (12, 100)
    assert len(encoder) == 4
    assert len(evaluator.trunk.encoders["audio"]) == 3


# --- gradients


def test_every_parameter_takes_part_whatever_is_missing(variant: Evaluator) -> None:
    # Data-parallel training needs the same set of parameters on every rank.
    batch = clips(9, 4, 6)
    for given in (batch, lacking(batch, "audio"), lacking(batch, *STREAMS)):
        scores = variant(given).scores.sum()
        gradients = torch.autograd.grad(scores, list(variant.parameters()), allow_unused=True)
        assert all(g is not None for g in gradients)


def test_a_task_moves_its_own_head_and_no_other(variant: Evaluator) -> None:
    scores = variant(clips(9, 4, 6)).scores
    for i, task in enumerate(TASKS):
        for other in TASKS:
            gradients = torch.autograd.grad(
                scores[:, i].sum(), variant.head_parameters(other), retain_graph=True
            )
            assert any(g.ne(0).any() for g in gradients) is (other == task)


def test_parameters_are_split_into_trunk_and_heads(variant: Evaluator) -> None:
    groups = [variant.trunk_parameters(), *(variant.head_parameters(task) for task in TASKS)]
    ids = [id(p) for group in groups for p in group]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in variant.parameters()}


def test_shared_parameters_are_the_trunks_and_move_every_task(variant: Evaluator) -> None:
    shared = variant.shared_parameters()
    assert {id(p) for p in shared} <= {id(p) for p in variant.trunk_parameters()}
    scores = variant(clips(9, 4, 6)).scores
    for i in range(len(TASKS)):
        gradients = torch.autograd.grad(scores[:, i].sum(), shared, retain_graph=True)
        assert all(g.norm() > 0 for g in gradients)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_no_gradient(name: str, dropout: float) -> None:
    settings = {**VARIANTS[name], "dropout": dropout, "modality_dropout": dropout}

    def gradients(checkpointing: bool) -> tuple[list[Tensor], int]:
        evaluator = build(**settings, gradient_checkpointing=checkpointing).train()
        torch.manual_seed(5)
        kept = 0

        def count(x: Tensor) -> Tensor:
            nonlocal kept
            kept += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            loss = evaluator(patchy(9, 4, 6)).scores.square().sum()
        loss.backward()
        return [p.grad for p in evaluator.parameters() if p.grad is not None], kept

    (plain, plain_kept), (recomputed, kept) = gradients(False), gradients(True)
    assert len(plain) == len(recomputed)
    for a, b in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert kept < 0.6 * plain_kept  # it does spare activations


def test_modality_dropout_acts_in_training_only_and_leaves_the_encoded_streams() -> None:
    batch = clips(*[6] * 32)
    evaluator = build(family="cross_modal_encoder", modality_dropout=0.2)
    plain = build(family="cross_modal_encoder")
    assert evaluator.eval()(batch).scores.equal(plain.eval()(batch).scores)
    torch.manual_seed(0)
    dropped, whole = evaluator.train()(batch), plain.train()(batch)
    changed = (dropped.scores - whole.scores).abs().amax(dim=1) > 1e-5
    assert 8 < changed.sum() < 30  # 1 - 0.8^4: 19 of 32 clips lose something on average
    for name, x in dropped.encoded.items():
        assert x.equal(whole.encoded[name])


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


# --- building


def test_the_seed_alone_decides_the_weights(variant: Evaluator) -> None:
    again = build(**variant.config.model_dump())
    for (name, a), (_, b) in zip(variant.named_parameters(), again.named_parameters(), strict=True):
        assert a.equal(b), name


def test_a_batch_that_does_not_fit_is_refused() -> None:
    evaluator = build(streams=("visual", "lowlevel"), aux=True)
    batch = clips(4)
    without = {name: x for name, x in batch.streams.items() if name != "lowlevel"}
    with pytest.raises(ValueError, match="reads stream lowlevel, which the batch lacks"):
        evaluator(dataclasses.replace(batch, streams=without))
    narrow = {**batch.streams, "visual": batch.streams["visual"][..., :7]}
    with pytest.raises(ValueError, match="visual: the evaluator reads width 100, the batch has 7"):
        evaluator(dataclasses.replace(batch, streams=narrow))
    with pytest.raises(ValueError, match="auxiliary vector, which the batch lacks"):
        evaluator(dataclasses.replace(batch, aux=None))
    assert batch.aux is not None
    with pytest.raises(ValueError, match="reads width 5, the batch has 4"):
        evaluator(dataclasses.replace(batch, aux=batch.aux[:, :4]))
    with pytest.raises(ValueError, match="at most 150 time steps, this batch has 151"):
        evaluator(clips(151))


def test_settings_that_the_features_cannot_serve_are_refused() -> None:
    config = EvaluatorConfig(**SMALL, streams=("visual", "lowlevel"), aux=True)
    with pytest.raises(ValueError, match=r"lowlevel, which the features do not hold.*visual"):
        build_evaluator(config, {"visual": 100}, AUX)
    with pytest.raises(ValueError, match="no auxiliary values"):
        build_evaluator(config, REDUCED_WIDTHS, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 18}, "multiple of 4"),
        ({"width": 20, "heads": 3}, r"width 20: must be a multiple of heads \(3\)"),
        ({"streams": ("visual", "smell")}, "'visual', 'audio', 'landmarks'"),
        ({"streams": ("visual", "audio", "visual")}, "visual: named more than once"),
        ({"streams": ()}, "at least 1"),
        ({"layers": 0}, "greater than or equal to 1"),
        ({"dropout": 1.0}, "less than 1"),
        ({"modality_dropout": 1.0}, "less than 1"),
        ({"family": "cross_attention", "streams": ("visual",)}, "asks with audio"),
        ({"family": "cross_attention", "streams": ("audio",)}, "needs another stream"),
        ({"fusion": "gate"}, "gate works only in family dual_path, not cross_modal_encoder"),
        ({"family": "dual_path", "pooling": "attention"}, "only in family cross_attention"),
        ({"family": "tree"}, "cross_modal_encoder"),
        ({"depth": 3}, "not permitted"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluatorConfig(**{**SMALL, **settings})


def test_the_order_of_streams_has_no_effect() -> None:
    assert get_args(Stream) == STREAMS
    shuffled = ("lowlevel", "audio", "visual")
    assert EvaluatorConfig(streams=shuffled) == EvaluatorConfig(streams=shuffled[::-1])


def test_the_settings_load_without_torch() -> None:
    code = "import sys, model.evaluator_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# --- the presets and what is written about them


def preset(name: str, **changes: Any) -> EvaluatorConfig:
    file = ROOT / "configs" / "train" / f"{name}.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))["evaluator"]
    return EvaluatorConfig.model_validate({**tree, **changes})


def count(config: EvaluatorConfig, aux_width: int) -> int:
    with torch.device("meta"):
        evaluator = build_evaluator(config, REDUCED_WIDTHS, aux_width)
    return sum(p.numel() for p in evaluator.parameters())


def documented() -> dict[str, list[int]]:
    """Read the table of docs/evaluators.md: preset -> its figures."""
    table = {}
    for line in (ROOT / "docs" / "evaluators.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0].strip("`") in PRESETS and all(c.replace(",", "").isdigit() for c in cells[1:]):
            table[cells[0].strip("`")] = [int(c.replace(",", "")) for c in cells[1:]]
    return table


@pytest.mark.parametrize("name", PRESETS)
def test_the_documented_parameter_counts_are_exact(name: str) -> None:
    paper = preset(name)
    assert paper.streams == STREAMS[:4]
    assert not paper.aux
    five = preset(name, streams=STREAMS)
    everything = preset(name, streams=STREAMS, aux=True)
    assert documented()[name] == [count(paper, 0), count(five, 0), count(everything, 50)]


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


@pytest.mark.parametrize("name", ["standard", "optimized"])
def test_the_counts_are_those_of_the_formula(name: str) -> None:
    config = preset(name)
    d, f = config.width, config.feedforward
    encoders = sum(linear(k, d) + linear(d, d) for k in (100, 200, 50, 17))
    attention = linear(d, 3 * d) + linear(d, d)
    layer = attention + linear(d, f) + linear(f, d) + 2 * 2 * d
    head = linear(d, d // 2) + linear(d // 2, d // 4) + linear(d // 4, 1)
    expected = encoders + MAX_STEPS * d + config.layers * layer + 5 * head
    assert count(config, 0) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("standard", ("cross_modal_encoder", 256, 3, 8, 1024)),
        ("optimized", ("cross_modal_encoder", 512, 6, 16, 2048)),
        ("advanced", ("dual_path", 256, 2, 4, 1024)),
        ("cross_attention", ("cross_attention", 256, 3, 8, 1024)),
    ],
)
def test_presets_have_the_published_sizes(name: str, expected: tuple[Any, ...]) -> None:
    config = preset(name)
    sizes = (config.family, config.width, config.layers, config.heads, config.feedforward)
    assert sizes == expected
    assert config.dropout == 0.1
    assert config.output == "sigmoid"
