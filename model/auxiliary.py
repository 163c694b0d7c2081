"""An evaluator without sequences: the auxiliary vector alone, by a multilayer perceptron."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.evaluator_config import EvaluatorConfig


class Auxiliary(nn.Module):
    """The family ``auxiliary``: there is nothing to fuse.

    The embedding is what :class:`model.blocks.AuxProjection` makes of sync measurements and
    descriptors; the heads read that. As quality measures of hand-made features do (BRISQUE, Mittal
    et al. 2012; VIDEVAL, Tu et al. 2021), it carries to new people where sequences, learned from a
    few, know those few.
    """

    def __init__(self, config: EvaluatorConfig, widths: Mapping[str, int], steps: int) -> None:
        super().__init__()
        self.width = config.width

    def forward(
        self,
        streams: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        frame_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`model.blocks.Trunk`; the embedding of no sequence is 0."""
        return torch.zeros(len(frame_mask), self.width, device=frame_mask.device), {}

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return none: the last layer that all tasks share is that of the auxiliary vector."""
        return []
