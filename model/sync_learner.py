"""One optimisation step of SyncNet, the same on any number of workers.

The loss compares every window of a step with every other one, also those of other workers: each
embeds its own excerpts, embeddings are exchanged, and each computes the whole loss with only its
own ones attached. The gradients then add up to that of the whole step. Batch norms see one
micro-batch at a time, and a step's running statistics are the mean over all of them, so that they
do not depend on who computed which.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.ranks import Ranks
from model.schedule import lr_factor
from model.sync_training import Pairs, least_shift, pair_distances, sync_loss
from model.sync_training_config import SyncTrainingConfig
from model.syncnet import SyncNet

MicroBatch = tuple[Tensor, Tensor]  # lips [m, 3, n + 4, face, face], sound [m, n, 13, 20]


class NotFiniteError(Exception):
    """The loss or its gradient is NaN or infinite."""


@dataclass(frozen=True, slots=True)
class SyncStep:
    """What a step did; the same on every worker."""

    loss: float
    grad_norm: float
    rate: float
    least: int  # least shift that was told from the true one


class SyncLearner:
    """SyncNet with everything that changes while it learns.

    Args:
        net: On its device; the workers are given worker 0's weights.
        config: How it learns.
        ranks: Who takes part.
    """

    def __init__(
        self, net: SyncNet, config: SyncTrainingConfig, ranks: Ranks | None = None
    ) -> None:
        self.net, self.config, self.ranks = net, config, ranks or Ranks()
        self.device = next(net.parameters()).device
        self.precision = _precision(config.precision, self.device)
        self.steps = 0
        self.ranks.share(net)
        matrices = [p for p in net.parameters() if p.ndim >= 2]
        vectors = [p for p in net.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
        )

    # --- a step

    def step(self, micros: Sequence[MicroBatch], videos: Tensor, offset: int) -> SyncStep:
        """Take one optimisation step.

        Args:
            micros: This worker's micro-batches, each of ``micro_clips`` excerpts.
            videos: [C] number of the video of every excerpt of the step, on all workers.
            offset: Position of this worker's first excerpt in the step.

        Raises:
            NotFiniteError: Training went astray; nothing was changed.
        """
        config = self.config
        factor = lr_factor(self.steps, config.steps, config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        least = least_shift(self.steps, config.steps, config.curriculum)
        self.optimizer.zero_grad(set_to_none=True)
        lips, sounds = self._embed(micros, len(videos) // config.micro_clips)
        lips, sounds = (self._together(own, offset, len(videos)) for own in (lips, sounds))
        pairs = Pairs.of(videos.to(self.device), config.windows, least, foreign=config.loss.foreign)
        loss = sync_loss(pair_distances(lips, sounds), pairs, config.loss)
        if micros:
            torch.autograd.backward(loss)
        value = float(loss.detach())
        grads = self.ranks.add_up_gradients(self.net.parameters())
        norm = float(nn.utils.get_total_norm(grads))
        if not (math.isfinite(norm) and math.isfinite(value)):
            raise NotFiniteError(
                f"in step {self.steps + 1} the loss is {value:g} and its gradient {norm:g}"
            )
        if norm > config.clip_norm:
            torch._foreach_mul_(grads, config.clip_norm / norm)
        self.optimizer.step()
        self.steps += 1
        return SyncStep(value, norm, config.learning_rate * factor, least)

    def _embed(self, micros: Sequence[MicroBatch], count: int) -> tuple[Tensor, Tensor]:
        """Embed own excerpts: two [own, n, D]; running statistics become the mean over a step."""
        self.net.train()
        norms = [m for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        before = [_statistics(norm) for norm in norms]
        totals = [torch.zeros_like(old) for old in before]
        lips, sounds = [], []
        for picture, sound in micros:
            for norm, old in zip(norms, before, strict=True):
                # New tensors: the backward pass holds on to those of the forward pass.
                norm.running_mean, norm.running_var = old.clone().unbind()
            clips, windows = sound.shape[:2]
            with self._autocast():
                lip = self.net.forward_lip(picture.to(self.device))
                heard = self.net.forward_aud(sound.to(self.device).flatten(0, 1)[:, None])
            lips.append(lip.float() if lip.dtype != torch.float64 else lip)
            heard = heard.float() if heard.dtype != torch.float64 else heard
            sounds.append(heard.view(clips, windows, -1))
            for norm, total in zip(norms, totals, strict=True):
                total.add_(_statistics(norm))
        for norm, total in zip(norms, totals, strict=True):
            self.ranks.add_up(total)
            norm.running_mean, norm.running_var = (total / count).unbind()
        empty = torch.zeros(0, self.config.windows, self.net.embedding, device=self.device)
        return torch.cat(lips or [empty]), torch.cat(sounds or [empty])

    def _together(self, own: Tensor, offset: int, clips: int) -> Tensor:
        """Return the embeddings of the whole step; only the own ones carry a gradient."""
        if self.ranks.size == 1:
            return own
        every = own.new_zeros(clips, *own.shape[1:])
        every[offset : offset + len(own)] = own.detach()
        self.ranks.add_up(every)
        return torch.cat([every[:offset], own, every[offset + len(own) :]])

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    # --- state

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, but for its number."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        for number, (_, moments) in enumerate(self._moments()):
            tensors |= {f"optimizer.{number}.{k}": v for k, v in moments.items()}
        return tensors

    def _moments(self) -> Iterator[tuple[nn.Parameter, dict[str, Tensor]]]:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                yield parameter, self.optimizer.state.get(parameter, {})

    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Take over a state.

        Raises:
            ValueError: It is that of another network.
        """
        weights = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
        self.net.load_public_state(weights)
        for number, (parameter, _) in enumerate(self._moments()):
            prefix = f"optimizer.{number}."
            found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if found:
                self.optimizer.state[parameter] = {
                    # The counter of steps stays where AdamW wants it, on the CPU.
                    k: v.clone() if k == "step" else v.to(self.device, copy=True)
                    for k, v in found.items()
                }
        self.steps = steps


def _statistics(norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    """Return a copy of running mean and variance: [2, channels]."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return torch.stack([norm.running_mean, norm.running_var])


def _precision(wanted: str, device: torch.device) -> str:
    if wanted != "auto":
        return wanted
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if able else "fp32"
