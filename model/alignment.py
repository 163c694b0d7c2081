"""Contrastive alignment of sound and picture (InfoNCE; van den Oord et al. 2018, section 2.3).

The sound of a clip should fit its own picture, frame by frame, better than the picture of another
video (in-batch negatives) and better than itself moved in time (time-shifted negatives, which
teach synchrony and not just identity).

Legend: B clips, T time steps (25 per second), D width of an encoded stream, P width of the common
space, S time shifts.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.batch import ClipBatch, ClipTargets, Prediction
from model.loss_config import AlignmentConfig
from model.losses import full_precision

AUDIO, VISUAL = "audio", "visual"


class _Comparisons(NamedTuple):
    """What is compared, from the masks alone.

    steps: [B, T] bool, both streams are present. together: [B, B] steps that two clips share.
    moved: [B, S] steps that remain of a clip against itself moved. candidates: [B, 1 + B + S] bool,
    what an anchor is compared with: itself, the other clips, itself moved. anchors: [B] bool, clips
    with at least one negative.
    """

    steps: Tensor
    together: Tensor
    moved: Tensor
    candidates: Tensor
    anchors: Tensor


class AlignmentLoss(nn.Module):
    """InfoNCE between the encoded sound and picture of the clips of a batch.

    The similarity of two clips is the mean over their common steps of the cosine between the
    projected sound of one and the projected picture of the other. Each clip with both modalities
    is an anchor twice: its sound against the pictures, its picture against the sounds of the clips
    of other videos; both also against its own moved sound, where ``shift`` or more steps remain.
    Clips of one video are no negatives of each other. Clips without a step that has both streams,
    or without any negative, take no part.

    Args:
        width: D, of ``Prediction.encoded``.
        config: Its ``weight`` is not applied here.
    """

    def __init__(self, width: int, config: AlignmentConfig) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.least_steps = config.shift
        steps = [config.shift * k for k in range(1, config.shifts + 1)]
        self.offsets = steps + [-k for k in steps]
        self.project_audio = nn.Linear(width, config.width)
        self.project_visual = nn.Linear(width, config.width)

    def forward(self, prediction: Prediction, batch: ClipBatch, targets: ClipTargets) -> Tensor:
        """Compute the loss of a batch.

        Args:
            prediction: ``encoded`` is read, ``audio`` and ``visual``, [B, T, D]; values where not
                both are present are never read, NaN included.
            batch: ``present`` is read, of the same two.
            targets: ``group`` is read.

        Returns:
            [] mean over the anchors and both directions, in nats; 0 with a gradient of 0 where
            there is no anchor.
        """
        # Autocast would multiply in half precision.
        with torch.autocast(targets.group.device.type, enabled=False):
            c = self._compare(batch.present[AUDIO] & batch.present[VISUAL], targets.group)
            encoded = prediction.encoded
            audio = self._units(encoded[AUDIO], self.project_audio, c.steps)  # [B, T, P]
            visual = self._units(encoded[VISUAL], self.project_visual, c.steps)
            # Steps without both streams are zero vectors and add nothing to a sum over steps.
            sums = audio.flatten(1) @ visual.flatten(1).T  # [B, B], sound i with picture j
            similar = sums / c.together.clamp(min=1)
            moved = self._moved(audio, visual) / c.moved.clamp(min=1)  # [B, S]
            total = self._entropy(similar, moved, c) + self._entropy(similar.T, moved, c)
        return total / (2 * c.anchors.sum()).clamp(min=1)

    def _compare(self, steps: Tensor, group: Tensor) -> _Comparisons:
        ones = steps.float()
        together = ones @ ones.T
        moved = self._moved(ones[..., None], ones[..., None])
        foreign = (group[:, None] != group[None, :]) & (together > 0)
        late = moved >= self.least_steps
        negatives = torch.cat([foreign, late], dim=1)
        candidates = torch.cat([torch.ones_like(negatives[:, :1]), negatives], dim=1)
        return _Comparisons(steps, together, moved, candidates, negatives.any(dim=1))

    @staticmethod
    def _units(x: Tensor, project: nn.Linear, steps: Tensor) -> Tensor:
        # Selected before and after: a NaN must not reach the weights' gradient, and the bias must
        # not turn a missing step into a vector.
        mask = steps[..., None]
        x = project(torch.where(mask, full_precision(x), 0.0).to(project.weight.dtype))
        return F.normalize(torch.where(mask, x, 0.0), dim=-1, eps=1e-6)

    def _moved(self, audio: Tensor, visual: Tensor) -> Tensor:
        """Return [B, S] sums over t of the products of sound at t + k with picture at t."""
        frames = audio.shape[1]
        columns = []
        for k in self.offsets:
            length = max(frames - abs(k), 0)
            later, earlier = min(max(k, 0), frames), min(max(-k, 0), frames)
            product = audio.narrow(1, later, length) * visual.narrow(1, earlier, length)
            columns.append(product.sum(dim=(1, 2)))
        return torch.stack(columns, dim=1) if columns else audio.new_zeros(len(audio), 0)

    def _entropy(self, similar: Tensor, moved: Tensor, c: _Comparisons) -> Tensor:
        """Return [] the sum over the anchors of -log softmax of the fitting pair."""
        logits = torch.cat([similar.diagonal()[:, None], similar, moved], dim=1) / self.temperature
        logits = logits.masked_fill(~c.candidates, float("-inf"))
        cost = logits.logsumexp(dim=1) - logits[:, 0]
        return torch.where(c.anchors, cost, 0.0).sum()
