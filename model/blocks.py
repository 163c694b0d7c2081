"""What the families of evaluators share: stream encoders, masked pooling, heads.

Legend: B clips, T steps, K width of a stream, D common width, M streams, A width of the auxiliary
vector. Under a false mask values may be anything, NaN included, so masks select and never multiply.
"""

from collections.abc import Mapping
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from model.tasks import HIGH, LOW

MIDDLE = (LOW + HIGH) / 2
HALF = (HIGH - LOW) / 2
Output = Literal["sigmoid", "tanh", "none"]


class Trunk(Protocol):
    """What a family provides: everything before the heads."""

    def __call__(
        self,
        streams: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        frame_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Fuse clips.

        Args:
            streams: name -> [B, T, K].
            present: name -> [B, T] bool, where the stream holds data.
            kept: name -> [B, T] bool, ``present`` without what modality dropout took away: what
                fusion may use.
            frame_mask: [B, T] bool.

        Returns:
            The fused embedding [B, D], and name -> [B, T, D], each stream after its encoder.
        """
        ...

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the weights of the last layer that all tasks share."""
        ...


class StreamEncoder(nn.Module):
    """Linear, ReLU, Dropout, Linear: a stream to the common width."""

    def __init__(self, width: int, common: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, common), nn.ReLU(), nn.Dropout(dropout), nn.Linear(common, common)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, K] -> [B, T, D]."""
        return cast(Tensor, self.layers(x))


class Head(nn.Module):
    """Three linear layers D, D/2, D/4, 1 to a score.

    ``output`` brings the raw value x onto the scale: ``sigmoid`` 1 + 4 sigmoid(x), ``tanh``
    1 + 2 (tanh(x) + 1), ``none`` 3 + 2 x. The last is unbounded in training, so that a score beyond
    the scale still has a gradient, and is clamped to [1, 5] in evaluation.
    """

    def __init__(self, width: int, dropout: float, output: Output) -> None:
        super().__init__()
        self.output = output
        self.last = nn.Linear(width // 4, 1)
        self.layers = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width // 2, width // 4),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        nn.init.zeros_(self.last.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """[B, D] -> [B], scores in [1, 5]."""
        x: Tensor = self.last(self.layers(embedding)).squeeze(-1)
        if self.output == "sigmoid":
            return LOW + (HIGH - LOW) * torch.sigmoid(x)
        if self.output == "tanh":
            return MIDDLE + HALF * torch.tanh(x)
        score = MIDDLE + HALF * x
        return score if self.training else score.clamp(LOW, HIGH)

    @torch.no_grad()
    def start_at(self, score: float) -> None:
        """Set the last bias so that a head whose other terms are zero says ``score``.

        Raises:
            ValueError: The score is not in [1, 5].
        """
        if not LOW <= score <= HIGH:
            raise ValueError(f"a head cannot start at {score}: scores lie in [{LOW}, {HIGH}]")
        # Exactly 1 or 5 would need an infinite bias.
        share = min(max((score - LOW) / (HIGH - LOW), 0.01), 0.99)
        y = torch.tensor(share, dtype=torch.float64)
        raw = {
            "sigmoid": torch.logit(y),
            "tanh": torch.atanh(2 * y - 1),
            "none": 2 * y - 1,
        }[self.output]
        self.last.bias.fill_(raw.item())


class AuxProjection(nn.Module):
    """The auxiliary vector as a residual to the fused embedding.

    Which values are missing is an input beside the values.
    """

    def __init__(self, width: int, common: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * width, common), nn.ReLU(), nn.Dropout(dropout), nn.Linear(common, common)
        )

    def forward(self, aux: Tensor, present: Tensor) -> Tensor:
        """[B, A] and its mask [B, A] -> [B, D]."""
        x = torch.cat([torch.where(present, aux, 0), present.to(aux.dtype)], dim=1)
        return cast(Tensor, self.layers(x))

    def last_linear(self) -> nn.Linear:
        """Return the layer that the embedding comes from."""
        return cast(nn.Linear, self.layers[-1])


class AttentionPooling(nn.Module):
    """Weighted mean over time, the weights a softmax of one learned direction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D], mask [B, T] -> [B, D]; zeros where the mask is false throughout."""
        scores = self.score(x).squeeze(-1)  # [B, T]
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = torch.where(mask, scores.softmax(dim=1), 0)
        return (weights.unsqueeze(-1) * select(x, mask)).sum(dim=1)


def select(x: Tensor, mask: Tensor) -> Tensor:
    """Zero the steps [B, T, …] that are not in the mask [B, T], whatever they hold."""
    return torch.where(mask.unsqueeze(-1), x, 0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid steps: [B, T, D], [B, T] -> [B, D]; zeros where there is none."""
    return select(x, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the valid steps: [B, T, D], [B, T] -> [B, D]; zeros where there is none."""
    highest = x.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
    return select(highest, mask.any(dim=1))


def drop_modalities(present: Mapping[str, Tensor], probability: float) -> dict[str, Tensor]:
    """Take modalities away from clips at random, never all that a clip has.

    Each modality of a clip is dropped with ``probability``, independently; a clip that would lose
    everything keeps one, drawn evenly from those that it has. Draws come from torch's generator of
    the device.

    Args:
        present: name -> [B, T] bool.
        probability: In [0, 1).

    Returns:
        name -> [B, T] bool.
    """
    has = torch.stack([mask.any(dim=1) for mask in present.values()], dim=1)  # [B, M]
    draw = torch.rand(has.shape, device=has.device)
    keep = has & (draw >= probability)
    # Given that all are below the threshold, the order of the draws is still even.
    best = draw.masked_fill(~has, -1).argmax(dim=1, keepdim=True)
    rescue = torch.zeros_like(has).scatter(1, best, True)
    keep = torch.where(keep.any(dim=1, keepdim=True), keep, rescue & has)
    return {name: mask & keep[:, i].unsqueeze(1) for i, (name, mask) in enumerate(present.items())}
