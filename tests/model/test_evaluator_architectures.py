import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import REDUCED_WIDTHS, ClipBatch
from model.evaluator import Evaluator, build_evaluator
from model.evaluator_config import EvaluatorConfig
from model.tasks import TASKS
from tests.model.evaluator_cases import (
    SMALL,
    build,
    clips,
)

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
