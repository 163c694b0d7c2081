"""The cross-modal encoder: streams averaged step by step, then a Transformer over time."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.blocks import StreamEncoder, masked_mean, select
from model.evaluator_config import EvaluatorConfig
from model.transformer import EncoderLayer, Positions, Stack, run


class CrossModalEncoder(nn.Module):
    """Presets ``standard`` and ``optimized`` (SPEC section 6).

    ==================  =======================================================  =========
    part                operation                                                shape
    ==================  =======================================================  =========
    encoders            per stream Linear, ReLU, Dropout, Linear                 [B, T, D]
    fusion              mean over the streams that are present at the step       [B, T, D]
    positions           + learned encoding of the step                           [B, T, D]
    stack               Transformer encoder layers                               [B, T, D]
    pooling             mean over the valid steps                                [B, D]
    ==================  =======================================================  =========

    A step is valid if it is a real frame and some stream is present at it.
    """

    def __init__(self, config: EvaluatorConfig, widths: Mapping[str, int], steps: int) -> None:
        super().__init__()
        self.checkpointing = config.gradient_checkpointing
        self.encoders = nn.ModuleDict(
            {n: StreamEncoder(widths[n], config.width, config.dropout) for n in config.streams}
        )
        self.positions = Positions(steps, config.width, config.positional)
        layers = [
            EncoderLayer(
                config.width,
                config.heads,
                config.feedforward,
                config.dropout,
                norm_first=config.norm_first,
            )
            for _ in range(config.layers)
        ]
        self.stack = Stack(layers, checkpointing=self.checkpointing)

    def forward(
        self,
        streams: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        frame_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`model.blocks.Trunk`."""
        encoded = {
            name: run(
                encoder, select(streams[name], present[name]), checkpointing=self.checkpointing
            )
            for name, encoder in self.encoders.items()
        }
        masks = torch.stack([kept[name] for name in encoded])  # [M, B, T]
        total = torch.stack([select(x, kept[name]) for name, x in encoded.items()]).sum(dim=0)
        fused = total / masks.sum(dim=0).clamp(min=1).unsqueeze(-1)  # [B, T, D]
        valid = frame_mask & masks.any(dim=0)  # [B, T]
        x = self.stack(self.positions(fused), valid)
        return masked_mean(x, valid), encoded

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the last feed-forward matrix and its bias."""
        return list(self.stack.last_linear().parameters())
