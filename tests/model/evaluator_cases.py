"""Small evaluators and batches that the tests of evaluators share."""

import dataclasses
from typing import Any

import torch
from torch import nn

from model.batch import REDUCED_WIDTHS, STREAMS, ClipBatch
from model.evaluator import Evaluator, build_evaluator
from model.evaluator_config import EvaluatorConfig

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
    # Wide enough for a few of its ReLUs to be alive for every clip.
    "auxiliary": {"family": "auxiliary", "streams": (), "aux": True, "width": 64},
}


def build(seed: int = 1, **settings: Any) -> Evaluator:
    torch.manual_seed(seed)
    evaluator = build_evaluator(EvaluatorConfig(**{**SMALL, **settings}), REDUCED_WIDTHS, AUX)
    for p in evaluator.heads.parameters():  # large enough for every change to show in the scores
        nn.init.normal_(p, std=0.4)
    return evaluator


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
