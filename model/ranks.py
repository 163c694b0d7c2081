"""Who takes part in a training step, and what they do together, whatever carries the numbers.

Gradients are added up, not averaged: the losses of a step are already divided by the counts of the
whole step (model/learner.py, model/sync_learner.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that share a step.

    Attributes:
        rank: Of this process, from 0.
        size: Number of processes.
        add_up: Adds a tensor up over all of them, in place.
    """

    rank: int = 0
    size: int = 1
    add_up: Callable[[Tensor], None] = lambda _: None

    def share(self, module: nn.Module) -> None:
        """Give every rank the parameters and buffers of rank 0."""
        if self.size == 1:
            return
        for tensor in (*module.parameters(), *module.buffers()):
            if self.rank:
                tensor.data.zero_()
            self.add_up(tensor.data)

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
        """Add gradients up over all ranks, in one piece.

        Returns:
            The gradients that there are; with several ranks, those of all ``parameters``.
        """
        parameters = list(parameters)
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is None:  # no clip of this rank reached it
                    parameter.grad = torch.zeros_like(parameter)
        grads = [p.grad for p in parameters if p.grad is not None]
        if self.size > 1:
            flat = torch.cat([g.reshape(-1) for g in grads])
            self.add_up(flat)
            parts = torch.split(flat, [g.numel() for g in grads])
            for grad, part in zip(grads, parts, strict=True):
                grad.copy_(part.view_as(grad))
        return grads
