"""Audio asks, the picture answers: a Transformer decoder over the visible streams."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.blocks import AttentionPooling, StreamEncoder, masked_mean, select
from model.evaluator_config import EvaluatorConfig
from model.transformer import DecoderLayer, Positions, Stack, run

QUERY = "audio"


class CrossAttention(nn.Module):
    """Preset ``cross_attention`` (SPEC section 6).

    ==================  =======================================================  =============
    part                operation                                                shape
    ==================  =======================================================  =============
    encoders            per stream Linear, ReLU, Dropout, Linear                 [B, T, D]
    query               audio, or the learned query where there is no sound,     [B, T, D]
                        + learned encoding of the step
    memory              the other streams one behind the other, + learned        [B, S T, D]
                        encoding of the step + learned vector of the stream
    stack               Transformer decoder layers                               [B, T, D]
    pooling             mean or attention over the real frames                   [B, D]
    ==================  =======================================================  =============

    S = number of streams besides audio. A clip without any key gets a learned one.
    """

    def __init__(self, config: EvaluatorConfig, widths: Mapping[str, int], steps: int) -> None:
        super().__init__()
        width, self.checkpointing = config.width, config.gradient_checkpointing
        self.encoders = nn.ModuleDict(
            {n: StreamEncoder(widths[n], width, config.dropout) for n in config.streams}
        )
        self.seen = [name for name in config.streams if name != QUERY]
        self.query_positions = Positions(steps, width, config.positional)
        self.key_positions = Positions(steps, width, config.positional)
        self.stream_vectors = nn.ParameterDict({n: torch.empty(width) for n in self.seen})
        self.no_sound = nn.Parameter(torch.empty(width))
        self.no_key = nn.Parameter(torch.empty(width))
        for vector in (*self.stream_vectors.values(), self.no_sound, self.no_key):
            nn.init.normal_(vector, std=0.02)
        layers = [
            DecoderLayer(
                width,
                config.heads,
                config.feedforward,
                config.dropout,
                norm_first=config.norm_first,
            )
            for _ in range(config.layers)
        ]
        self.stack = Stack(list(layers), checkpointing=self.checkpointing)
        self.pooling = AttentionPooling(width) if config.pooling == "attention" else None

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
        heard = kept[QUERY].unsqueeze(-1)  # [B, T, 1]
        query = self.query_positions(torch.where(heard, encoded[QUERY], self.no_sound))
        keys = [self.key_positions(encoded[n]) + self.stream_vectors[n] for n in self.seen]
        masks = torch.cat([kept[n] for n in self.seen], dim=1)  # [B, S T]
        stand_in = self.no_key.expand(len(masks), 1, -1)
        memory = torch.cat([*keys, stand_in], dim=1)  # [B, S T + 1, D]
        masks = torch.cat([masks, ~masks.any(dim=1, keepdim=True)], dim=1)
        x = self.stack(query, frame_mask, memory, masks)
        pool = masked_mean if self.pooling is None else self.pooling
        return pool(x, frame_mask), encoded

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the last feed-forward matrix and its bias."""
        return list(self.stack.last_linear().parameters())
