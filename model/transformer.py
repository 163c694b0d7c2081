"""Transformer layers with key masks.

Source: Vaswani et al., "Attention is all you need" (2017); ``norm_first``: Xiong et al., "On layer
normalization in the Transformer architecture" (2020).

The layers carry the parameter names of ``torch.nn.TransformerEncoderLayer`` and
``TransformerDecoderLayer`` and give their values. They exist because those switch in evaluation to
a fused path with other numbers and other treatment of masks, and because a sequence without any
key must not give NaN.

Legend: B sequences, T steps, S keys, D width, H heads.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Activation = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    """Multi-head scaled dot-product attention, batch first."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor) -> Tensor:
        """Attend from every step of ``x`` to the keys that ``mask`` allows.

        Args:
            x: [B, T, D] queries.
            memory: [B, S, D] keys and values; None: ``x`` itself.
            mask: [B, S] bool, the key counts. Where a sequence has no key at all, the result is
                finite and carries no meaning.

        Returns:
            [B, T, D].
        """
        if memory is None:
            q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            width = x.shape[-1]
            weight, bias = self.in_proj_weight, self.in_proj_bias
            q = F.linear(x, weight[:width], bias[:width])
            k, v = F.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)
        # Some kernels make NaN of a softmax over nothing: with no key, all keys are open.
        open_keys = mask | ~mask.any(dim=1, keepdim=True)  # [B, S]
        y = F.scaled_dot_product_attention(
            self._split(q),
            self._split(k),
            self._split(v),
            attn_mask=open_keys[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )  # [B, H, T, D / H]
        return cast(Tensor, self.out_proj(y.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, H, T, D / H]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with residual and LayerNorm."""

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
        *,
        norm_first: bool = False,
        activation: Activation = F.relu,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.norm_first = norm_first
        self.activation = activation

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D] and the mask of its steps [B, T] -> [B, T, D]."""
        if self.norm_first:
            x = x + self.drop(self.self_attn(self.norm1(x), None, mask))
            return x + self._feed(self.norm2(x))
        x = self.norm1(x + self.drop(self.self_attn(x, None, mask)))
        return cast(Tensor, self.norm2(x + self._feed(x)))

    def _feed(self, x: Tensor) -> Tensor:
        inner = self.drop(self.activation(self.linear1(x)))
        return cast(Tensor, self.drop(self.linear2(inner)))


class DecoderLayer(EncoderLayer):
    """Self-attention, attention to a memory, and feed-forward."""

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
        *,
        norm_first: bool = False,
        activation: Activation = F.relu,
    ) -> None:
        super().__init__(
            width, heads, feedforward, dropout, norm_first=norm_first, activation=activation
        )
        self.multihead_attn = Attention(width, heads, dropout)
        self.norm3 = nn.LayerNorm(width)

    def forward(  # type: ignore[override]  # a decoder layer needs a memory besides
        self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> Tensor:
        """[B, T, D], mask [B, T], memory [B, S, D], its mask [B, S] -> [B, T, D]."""
        if self.norm_first:
            x = x + self.drop(self.self_attn(self.norm1(x), None, mask))
            x = x + self.drop(self.multihead_attn(self.norm2(x), memory, memory_mask))
            return x + self._feed(self.norm3(x))
        x = self.norm1(x + self.drop(self.self_attn(x, None, mask)))
        x = self.norm2(x + self.drop(self.multihead_attn(x, memory, memory_mask)))
        return cast(Tensor, self.norm3(x + self._feed(x)))


class Stack(nn.Module):
    """Layers one behind the other; with ``norm_first`` a LayerNorm closes the stack."""

    def __init__(self, layers: list[EncoderLayer], *, checkpointing: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        width = layers[0].norm1.normalized_shape[0]
        self.norm = nn.LayerNorm(width) if layers[0].norm_first else nn.Identity()
        self.checkpointing = checkpointing

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """[B, T, D] and what the layers need besides -> [B, T, D]."""
        for layer in self.layers:
            x = run(layer, x, *context, checkpointing=self.checkpointing)
        return cast(Tensor, self.norm(x))

    def last_linear(self) -> nn.Linear:
        """Return the last weight matrix that data pass through."""
        return cast(EncoderLayer, self.layers[-1]).linear2


class Positions(nn.Module):
    """A learned vector for each time step, added to the sequence (or, with none, nothing)."""

    def __init__(self, steps: int, width: int, kind: str) -> None:
        super().__init__()
        self.encoding = nn.Parameter(torch.empty(steps, width)) if kind == "learned" else None
        if self.encoding is not None:
            nn.init.normal_(self.encoding, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D].

        Raises:
            ValueError: The sequence has more steps than encodings.
        """
        if self.encoding is None:
            return x
        if x.shape[1] > len(self.encoding):
            raise ValueError(
                f"a clip has at most {len(self.encoding)} time steps, this batch has {x.shape[1]}"
            )
        return x + self.encoding[: x.shape[1]]


def run(module: nn.Module, *inputs: Tensor, checkpointing: bool) -> Tensor:
    """Call ``module``, in training with its activations recomputed in the backward pass if asked.

    Source: Chen et al., "Training deep nets with sublinear memory cost" (2016). Dropout repeats
    its draws, so the gradients are those of the plain call.
    """
    if checkpointing and module.training and torch.is_grad_enabled():
        return cast(Tensor, checkpoint(module, *inputs, use_reentrant=False))
    return cast(Tensor, module(*inputs))
