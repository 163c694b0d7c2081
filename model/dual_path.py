"""The dual path: each stream summarised over time, then the summaries compared."""

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import REDUCED_WIDTHS
from model.blocks import masked_max, masked_mean, select
from model.evaluator_config import EvaluatorConfig
from model.transformer import EncoderLayer, Positions, Stack, run

MLP_LAYERS = 3


class ResidualLayer(nn.Module):
    """Dropout(GELU(LayerNorm(Linear(x)))) + x, where x is projected if the widths differ."""

    def __init__(self, width: int, common: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, common)
        self.norm = nn.LayerNorm(common)
        self.drop = nn.Dropout(dropout)
        self.residual = nn.Identity() if width == common else nn.Linear(width, common)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, K] -> [B, T, D]."""
        y = self.drop(F.gelu(self.norm(self.linear(x))))
        return cast(Tensor, y + self.residual(x))


class ResidualEncoder(nn.Sequential):
    """Three residual layers, behind an adaptive projection if the width is not the expected one."""

    def __init__(self, width: int, expected: int, common: int, dropout: float) -> None:
        adapt = [] if width == expected else [nn.Linear(width, expected)]
        widths = [expected] + [common] * MLP_LAYERS
        layers = [ResidualLayer(widths[i], common, dropout) for i in range(MLP_LAYERS)]
        super().__init__(*adapt, *layers)


class DualPath(nn.Module):
    """Preset ``advanced`` (SPEC section 6).

    ==================  =======================================================  =========
    part                operation                                                shape
    ==================  =======================================================  =========
    encoders            per stream a residual MLP of 3 layers                    [B, T, D]
    positions           + learned encoding of the step (option)                  [B, T, D]
    temporal            one Transformer layer, shared by the streams             [B, T, D]
    summaries           mean and max over the present steps, Linear: u_i         [B, D]
    path A              mean of u_i over the streams that the clip has           [B, D]
    path B              L encoder layers over the u_i, mean                      [B, D]
    fusion              (A + B) / 2, or g A + (1 - g) B, g = sigmoid(Linear)     [B, D]
    ==================  =======================================================  =========

    A stream that a clip lacks is no key in path B and counts in neither mean.
    """

    def __init__(self, config: EvaluatorConfig, widths: Mapping[str, int], steps: int) -> None:
        super().__init__()
        width, self.checkpointing = config.width, config.gradient_checkpointing

        def stack(layers: int) -> Stack:
            args = (width, config.heads, config.feedforward, config.dropout)
            made = [
                EncoderLayer(*args, norm_first=config.norm_first, activation=F.gelu)
                for _ in range(layers)
            ]
            return Stack(made, checkpointing=self.checkpointing)

        self.encoders = nn.ModuleDict(
            {
                name: ResidualEncoder(widths[name], REDUCED_WIDTHS[name], width, config.dropout)
                for name in config.streams
            }
        )
        self.positions = Positions(steps, width, config.positional)
        self.temporal = stack(1)
        self.summaries = nn.ModuleDict({n: nn.Linear(2 * width, width) for n in config.streams})
        self.path_b = stack(config.layers)
        self.gate = nn.Linear(2 * width, width) if config.fusion == "gate" else None

    def forward(
        self,
        streams: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        frame_mask: Tensor,  # noqa: ARG002  # of the interface; `kept` never exceeds it
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`model.blocks.Trunk`."""
        encoded = {
            name: run(
                encoder, select(streams[name], present[name]), checkpointing=self.checkpointing
            )
            for name, encoder in self.encoders.items()
        }
        # The streams share the temporal block, so they go through it as one batch.
        masks = torch.cat([kept[name] for name in encoded])  # [M B, T]
        x = self.temporal(self.positions(torch.cat(list(encoded.values()))), masks)
        pooled = torch.cat([masked_mean(x, masks), masked_max(x, masks)], dim=1)  # [M B, 2 D]
        parts = zip(self.summaries.values(), pooled.chunk(len(encoded)), strict=True)
        u = torch.stack([linear(part) for linear, part in parts], dim=1)  # [B, M, D]
        has = masks.any(dim=1).view(len(encoded), -1).T  # [B, M]
        path_a = masked_mean(u, has)
        path_b = masked_mean(self.path_b(u, has), has)
        return self._fuse(path_a, path_b), encoded

    def _fuse(self, a: Tensor, b: Tensor) -> Tensor:
        if self.gate is None:
            return (a + b) / 2
        g = torch.sigmoid(self.gate(torch.cat([a, b], dim=1)))
        return g * a + (1 - g) * b

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the last matrices of both paths, with their biases."""
        last = [*self.summaries.values(), self.path_b.last_linear()]
        return [p for layer in last for p in layer.parameters()]
