"""One optimisation step of an evaluator, on any number of ranks and micro-batches (SPEC section 8).

Every loss is a sum over labels, divided by the number of valid labels of the *whole* step: of all
micro-batches on all ranks. Gradients are then added up, not averaged. So 2 workers with 8 clips
each, 1 worker with 16, and 1 worker with two micro-batches of 8 take the same step, also when the
labels that are missing fall unevenly. (Wrappers that average over ranks cannot do that, and they
forbid the per-task gradients that GradNorm needs; the gradient of an evaluator is small enough to
be reduced in one piece.)
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.alignment import AlignmentLoss
from model.batch import ClipBatch, ClipTargets, Prediction
from model.consistency import consistency_loss
from model.evaluator import Evaluator
from model.loss_config import LossConfig
from model.losses import label_weight, task_loss_sums
from model.ranking import ranking_loss
from model.ranks import Ranks
from model.schedule import lr_factor
from model.tasks import TASKS
from model.training_config import Precision, TrainingConfig
from model.weighting import Weighting

MicroBatch = tuple[ClipBatch, ClipTargets]
COUPLED = ("consistency", "ranking", "alignment")
RECENT = 100  # gradient norms that "explosion" is measured against
ENOUGH = 20  # of them before anything is called one


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did. The same on every rank.

    Attributes:
        losses: [N] unweighted loss of each task over the whole step; NaN without a valid label.
        coupled: the consistency, ranking and alignment losses (unweighted) that are switched on.
        total: what was minimised.
        grad_norm: norm of the whole gradient before clipping.
        taken: False when the step was left out because of a gradient that is not finite.
        overflow: it was left out because fp16 overflowed, which the loss scale takes care of.
        culprits: positions in the step of the clips whose scores were not finite; every clip when
            none can be told from the others.
        explosion: ``grad_norm`` is far above the recent ones.
        learning_rates: trunk and tasks -> rate of this step.
    """

    losses: Tensor
    coupled: dict[str, float]
    total: float
    grad_norm: float
    taken: bool
    overflow: bool
    culprits: tuple[int, ...]
    explosion: bool
    learning_rates: dict[str, float]


def choose_precision(wanted: Precision, device: torch.device) -> Precision:
    """Resolve ``auto``: bf16 where the GPU has it, fp16 on other GPUs, fp32 on CPUs."""
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


class Learner:
    """An evaluator with everything that changes while it learns.

    Args:
        evaluator: On its device; the ranks are given rank 0's weights.
        weighting: Task weights, on the same device.
        alignment: The alignment loss, or None when it is switched off.
        loss: Which losses count, and how much.
        config: Optimisation.
        total_steps: Steps of the whole run, for the schedule.
        means: [N] mean of the training labels (label smoothing moves targets towards it).
        ranks: How steps are shared.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        weighting: Weighting,
        alignment: AlignmentLoss | None,
        *,
        loss: LossConfig,
        config: TrainingConfig,
        total_steps: int,
        means: Tensor,
        ranks: Ranks | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.weighting = weighting
        self.alignment = alignment
        self.loss = loss
        self.config = config
        self.total_steps = total_steps
        self.ranks = ranks or Ranks()
        self.device = next(evaluator.parameters()).device
        self.means = means.to(self.device, torch.float32)
        self.precision = choose_precision(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.steps = 0  # taken or left out
        self.not_finite = 0
        self._recent: deque[float] = deque(maxlen=RECENT)
        for _, module in self._modules():
            self.ranks.share(module)
        self._named = dict(self._named_parameters())
        self.optimizer = self._optimizer()
        self.ema: dict[str, Tensor] | None = None
        if config.ema is not None:
            self.ema = {k: v.detach().clone() for k, v in evaluator.state_dict().items()}
        self._ema_updates = 0

    # --- parameters

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield "evaluator", self.evaluator
        yield "weighting", self.weighting
        if self.alignment is not None:
            yield "alignment", self.alignment

    def _named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for prefix, module in self._modules():
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    yield f"{prefix}.{name}", parameter

    def _optimizer(self) -> torch.optim.AdamW:
        config = self.config
        heads = {
            id(parameter): task
            for task in TASKS
            for parameter in self.evaluator.head_parameters(task)
        }
        groups: dict[tuple[str, bool], dict[str, Any]] = {}
        for name, parameter in self._named.items():
            part = heads.get(id(parameter), name.partition(".")[0])
            if part in TASKS:
                rate = config.head_rate(part)
            elif part == "weighting":
                rate = config.weighting_learning_rate
            else:
                part, rate = "trunk", config.learning_rate
            decayed = parameter.ndim >= 2 and part != "weighting"
            group = groups.setdefault(
                (part, decayed),
                {
                    "params": [],
                    "part": part,
                    "base_lr": rate,
                    "lr": rate,
                    "weight_decay": config.weight_decay if decayed else 0.0,
                },
            )
            group["params"].append(parameter)
        return torch.optim.AdamW(list(groups.values()), betas=config.betas)

    # --- a step

    def step(
        self, micro_batches: Sequence[MicroBatch], *, offset: int = 0, size: int | None = None
    ) -> StepResult:
        """Take one optimisation step.

        Args:
            micro_batches: This rank's part; a rank may have none when clips run short.
            offset: Position of this rank's first clip in the whole step.
            size: Clips of the whole step on all ranks; default: those given.
        """
        for module in (self.evaluator, self.weighting):
            module.train()
        rates = self._set_rates()
        batches = [(b.to(self.device), t.to(self.device)) for b, t in micro_batches]
        own = sum(len(batch) for batch, _ in batches)
        counts = self._counts(batches)
        labels, (clips, micros) = counts[: len(TASKS)], counts[len(TASKS) :]
        active = labels > 0
        sums = torch.zeros(len(TASKS) + len(COUPLED) + 1, device=self.device)
        flags = torch.zeros(size or own, device=self.device)
        shared = self._shared() if self.weighting.needs_gradient_norms else []
        task_grads = [[torch.zeros_like(p) for p in shared] for _ in TASKS] if shared else []
        self.optimizer.zero_grad(set_to_none=True)
        position = offset
        for number, (batch, targets) in enumerate(batches):
            self._seed(number)
            with self._autocast():
                prediction = self.evaluator(batch)
            scores = prediction.scores.float()
            flags[position : position + len(batch)] = (
                (~scores.detach().isfinite()).any(dim=1).float()
            )
            position += len(batch)
            losses = task_loss_sums(scores, targets, self.loss, self.means)
            losses = torch.where(active, losses, 0.0) / torch.where(active, labels, 1.0)
            total = self.weighting.combine(losses, active, 1 / float(micros))
            for name, (term, summed) in self._coupled(prediction, scores, batch, targets).items():
                value = term / (clips if summed else micros)
                total = total + getattr(self.loss, name).weight * value
                sums[len(TASKS) + COUPLED.index(name)] += value.detach()
            if shared:
                self._add_task_gradients(losses, shared, task_grads)
            if total.requires_grad:
                torch.autograd.backward(self.scaler.scale(total))
            sums[: len(TASKS)] += losses.detach()
            sums[-1] += total.detach()
        if not sums[-1].isfinite():
            self._blame_inputs(batches, flags, offset)
        self.ranks.add_up(sums)
        return self._finish(sums, active, flags, task_grads, rates)

    @staticmethod
    def _blame_inputs(batches: Sequence[MicroBatch], flags: Tensor, position: int) -> None:
        """Flag clips with values that are not finite, whether or not their scores show it."""
        for batch, _ in batches:
            bad = torch.zeros(len(batch), dtype=torch.bool, device=flags.device)
            for name, values in batch.streams.items():
                wrong = ~values.isfinite().all(dim=2) & batch.present[name]
                bad |= wrong.any(dim=1)
            flags[position : position + len(batch)] += bad.float()
            position += len(batch)

    def _counts(self, batches: Sequence[MicroBatch]) -> Tensor:
        """Count over the whole step, on all ranks: [N + 2] label weights, clips, micro-batches."""
        counts = torch.zeros(len(TASKS) + 2, device=self.device)
        for batch, targets in batches:
            counts[: len(TASKS)] += label_weight(targets)
            counts[-2] += len(batch)
            counts[-1] += 1
        self.ranks.add_up(counts)
        return counts

    def _coupled(
        self, prediction: Prediction, scores: Tensor, batch: ClipBatch, targets: ClipTargets
    ) -> dict[str, tuple[Tensor, bool]]:
        """Compute the terms beside the task losses that are switched on.

        Returns:
            name -> value, and whether it is a sum over clips. The others are means of a
            micro-batch, of which a step takes the mean.
        """
        loss = self.loss
        result = {}
        if loss.consistency.weight:
            mode = loss.consistency.mode
            result["consistency"] = consistency_loss(scores, mode), mode == "std"
        if loss.ranking.weight:
            result["ranking"] = ranking_loss(scores, targets, loss.ranking), False
        if self.alignment is not None:
            result["alignment"] = self.alignment(prediction, batch, targets), False
        return result

    def _shared(self) -> list[nn.Parameter]:
        return [p for p in self.evaluator.shared_parameters() if p.requires_grad]

    def _add_task_gradients(
        self, losses: Tensor, shared: list[nn.Parameter], into: list[list[Tensor]]
    ) -> None:
        scale = self.scaler.get_scale()
        for task in range(len(TASKS)):
            grads = torch.autograd.grad(
                losses[task] * scale, shared, retain_graph=True, allow_unused=True
            )
            for total, grad in zip(into[task], grads, strict=True):
                if grad is not None:
                    total.add_(grad / scale)

    def _finish(
        self,
        sums: Tensor,
        active: Tensor,
        flags: Tensor,
        task_grads: list[list[Tensor]],
        rates: dict[str, float],
    ) -> StepResult:
        grads = self.ranks.add_up_gradients(self._named.values())
        magnified = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.get_total_norm(grads))
        finite_loss = bool(sums[-1].isfinite())
        finite = math.isfinite(norm) and finite_loss
        explosion = False
        coupled = {
            name: float(sums[len(TASKS) + i])
            for i, name in enumerate(COUPLED)
            if getattr(self.loss, name).weight
        }
        # Without a label and without a coupled term there is nothing to learn, nor to decay.
        taken = finite and bool(grads) and (bool(active.any()) or bool(coupled))
        if taken:
            explosion = self._explodes(norm)
            if self.config.clip_norm is not None and norm > self.config.clip_norm:
                torch._foreach_mul_(grads, self.config.clip_norm / norm)
            self.scaler.step(self.optimizer)
            if task_grads:
                self._update_weighting(task_grads, sums[: len(TASKS)], active)
            self._update_ema()
        self.scaler.update()
        culprits: tuple[int, ...] = ()
        # With the loss no longer magnified, a gradient that is not finite is no overflow.
        overflow = not finite and finite_loss and magnified
        if not finite and not overflow:
            self.not_finite += 1
            self.ranks.add_up(flags)
            found = torch.nonzero(flags).flatten().tolist()
            culprits = tuple(found or range(len(flags)))
        self.steps += 1
        losses = torch.where(active, sums[: len(TASKS)], math.nan)
        return StepResult(
            losses.cpu(),
            coupled,
            float(sums[-1]),
            norm,
            taken,
            overflow,
            culprits,
            explosion,
            rates,
        )

    def _update_weighting(
        self, task_grads: list[list[Tensor]], losses: Tensor, active: Tensor
    ) -> None:
        norms = []
        for grads in task_grads:
            flat = torch.cat([g.reshape(-1) for g in grads])
            self.ranks.add_up(flat)
            norms.append(flat.norm())
        self.weighting.update(torch.stack(norms), losses, active)

    def _explodes(self, norm: float) -> bool:
        known = len(self._recent) >= ENOUGH
        far = known and norm > self.config.explosion_factor * float(np.median(self._recent))
        self._recent.append(norm)
        return bool(far)

    def recent_norm(self) -> float | None:
        """Return the median of the last gradient norms, None before the first step."""
        return float(np.median(self._recent)) if self._recent else None

    def last_rates(self) -> dict[str, float]:
        """Return the learning rates of the last step, also when another process took it."""
        return self._rates(max(self.steps - 1, 0))

    def _rates(self, step: int) -> dict[str, float]:
        factor = lr_factor(step, self.total_steps, self.config.schedule)
        return {g["part"]: g["base_lr"] * factor for g in self.optimizer.param_groups}

    def _set_rates(self) -> dict[str, float]:
        rates = self._rates(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["part"]]
        return rates

    def _seed(self, number: int) -> None:
        # Dropout depends on nothing but the step, the rank and the micro-batch: a run that was
        # killed goes on with the same curve, without the state of any generator.
        words = np.random.SeedSequence(
            [self.config.seed, self.steps, self.ranks.rank, number]
        ).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0] >> np.uint64(1)))

    def _autocast(self) -> AbstractContextManager[Any]:
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        kind = kinds.get(self.precision)
        return torch.autocast(self.device.type, dtype=kind, enabled=kind is not None)

    # --- what is judged and kept

    def _update_ema(self) -> None:
        if self.ema is None or self.config.ema is None:
            return
        self._ema_updates += 1
        decay = min(self.config.ema, (1 + self._ema_updates) / (10 + self._ema_updates))
        for name, value in self.evaluator.state_dict().items():
            if value.is_floating_point():
                self.ema[name].lerp_(value, 1 - decay)
            else:
                self.ema[name].copy_(value)

    def judged_weights(self) -> dict[str, Tensor]:
        """Return the weights that are validated and stored: the moving average if there is one."""
        return self.evaluator.state_dict() if self.ema is None else self.ema

    def adopt(self, weights: dict[str, Tensor]) -> None:
        """Take over weights for judging; training does not go on after that."""
        self.evaluator.load_state_dict(weights)
        self.ema = None

    @torch.no_grad()
    def predict(self, batch: ClipBatch) -> Prediction:
        """Judge a batch with :meth:`judged_weights`, without dropout; scores are float32."""
        self.evaluator.eval()
        batch = batch.to(self.device)
        with self._autocast():
            if self.ema is None:
                result: Prediction = self.evaluator(batch)
            else:
                result = torch.func.functional_call(self.evaluator, self.ema, (batch,))
        return Prediction(result.scores.float(), result.embedding.float(), result.encoded)

    # --- state

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that the next step depends on: tensors, and values for JSON."""
        tensors = {
            f"{prefix}.{name}": value
            for prefix, module in self._modules()
            for name, value in module.state_dict().items()
        }
        steps = {}
        for name, parameter in self._named.items():
            state = self.optimizer.state.get(parameter)
            if state:
                tensors[f"adam.mean/{name}"] = state["exp_avg"]
                tensors[f"adam.square/{name}"] = state["exp_avg_sq"]
                steps[name] = float(state["step"])
        if self.ema is not None:
            tensors |= {f"ema/{name}": value for name, value in self.ema.items()}
        values = {
            "steps": self.steps,
            "not_finite": self.not_finite,
            "recent": list(self._recent),
            "ema_updates": self._ema_updates,
            "precision": self.precision,
            "scaler": self.scaler.state_dict(),
            "adam_steps": steps,
        }
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, values

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from a :meth:`state` of the same settings.

        Raises:
            ValueError: It was trained in another number format (``auto`` on another device).
        """
        if values["precision"] != self.precision:
            raise ValueError(
                f"the run began in {values['precision']}, and on this device it would go on in "
                f"{self.precision}: its curve would not be the same"
            )
        for prefix, module in self._modules():
            head = f"{prefix}."
            module.load_state_dict(
                {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
            )
        for name, parameter in self._named.items():
            if name in values["adam_steps"]:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(values["adam_steps"][name]),
                    "exp_avg": tensors[f"adam.mean/{name}"].to(parameter).clone(),
                    "exp_avg_sq": tensors[f"adam.square/{name}"].to(parameter).clone(),
                }
        if self.ema is not None:
            self.ema = {k: tensors[f"ema/{k}"].to(v.device).clone() for k, v in self.ema.items()}
        self.steps = int(values["steps"])
        self.not_finite = int(values["not_finite"])
        self._recent = deque(values["recent"], maxlen=RECENT)
        self._ema_updates = int(values["ema_updates"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(values["scaler"])
