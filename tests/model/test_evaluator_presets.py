import dataclasses
import subprocess
import sys
from typing import Any, get_args

import pytest
import torch
import yaml
from pydantic import ValidationError

from model.batch import REDUCED_WIDTHS, STREAMS
from model.evaluator import MAX_STEPS, Evaluator, build_evaluator
from model.evaluator_config import EvaluatorConfig, Stream
from tests.model.evaluator_cases import (
    AUX,
    SMALL,
    VARIANTS,
    build,
    clips,
)
from tests.support import ROOT

PRESETS = ("standard", "optimized", "advanced", "cross_attention")


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request: pytest.FixtureRequest) -> Evaluator:
    return build(**VARIANTS[request.param]).eval()


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
        ({"streams": ()}, "at least one; with none, family auxiliary"),
        ({"family": "auxiliary", "aux": True}, r"reads no sequence, got visual.*streams: \[\]"),
        ({"family": "auxiliary", "streams": ()}, "write aux: true"),
        (
            {"family": "auxiliary", "streams": (), "aux": True, "modality_dropout": 0.1},
            "modality_dropout: family auxiliary has no sequence to drop",
        ),
        ({"sequence_dropout": 0.5}, "without aux nothing would be left"),
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
    assert documented()[name] == [count(paper, 0), count(five, 0), count(everything, 54)]


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
