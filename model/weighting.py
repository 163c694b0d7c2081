"""How the losses of the tasks become one (SPEC section 7): four weightings behind one interface.

Legend: N tasks in the order of :data:`model.tasks.TASKS`; L_t the loss of task t, w_t its weight.
A task is active in a step when the step holds a valid label of it, on whatever rank. An inactive
task adds nothing, and the parameter of its weight gets a gradient of exactly zero.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from model.loss_config import (
    GradNormConfig,
    LearnedConfig,
    UncertaintyConfig,
    WeightingConfig,
)
from model.tasks import TASKS


class Weighting(nn.Module):
    """Weights of tasks.

    ``parameters()`` are those that the main optimiser trains, without weight decay: decay would
    pull the weights towards an arbitrary value. ``state_dict()`` holds what a resumed run needs.

    Attributes:
        needs_gradient_norms: Whether :meth:`update` wants to be called after each backward pass.
    """

    needs_gradient_norms = False

    @abstractmethod
    def terms(self) -> tuple[Tensor, Tensor]:
        """Return [N] w_t and [N] what is added to w_t L_t, both with their gradients."""

    def weights(self) -> Tensor:
        """Return [N] what each loss is multiplied by now, without gradient."""
        return self.terms()[0].detach().clone()

    def combine(self, losses: Tensor, active: Tensor, share: float = 1.0) -> Tensor:
        """Combine the losses of one micro-batch of one rank.

        Args:
            losses: [N] sums over the labels of the micro-batch, divided by the label weights of
                the whole step, so that the parts of a step add up. Arbitrary where not active.
            active: [N] bool, the same for all parts of a step.
            share: 1 / parts of the step (ranks x micro-batches): terms that are not sums over
                labels count this much in each part, so once in the whole.

        Returns:
            [] loss to differentiate; the parts of a step add up to the loss of the step.
        """
        weight, added = self.terms()
        # Selected, not multiplied: the loss of an inactive task may be NaN.
        terms = weight * torch.where(active, losses, 0.0) + share * added
        return torch.where(active, terms, 0.0).sum()

    def update(self, grad_norms: Tensor, losses: Tensor, active: Tensor) -> None:
        """Adapt the weights after a step; only ``gradnorm`` does.

        Every rank must pass the same values, those of the whole step.

        Args:
            grad_norms: [N] L2 norms of the gradients of the unweighted L_t with respect to the
                parameters of the last shared layer.
            losses: [N] unweighted L_t of the whole step.
            active: [N] bool.
        """


class FixedWeighting(Weighting):
    """Sum of w_t L_t with given weights."""

    weight: Tensor

    def __init__(self, weight: list[float]) -> None:
        super().__init__()
        # Not part of the state: the configuration holds it.
        self.register_buffer("weight", torch.tensor(weight), persistent=False)

    def terms(self) -> tuple[Tensor, Tensor]:
        """Return the given weights and 0."""
        return self.weight, torch.zeros_like(self.weight)


class LearnedWeighting(Weighting):
    """Sum of w_t L_t with w_t = sigmoid(a_t) + eps, a_t trained, 0 at the start.

    Nothing in the loss opposes small weights: all a_t fall, those of large losses fastest, until
    the weights sit at eps. See docs/losses.md.
    """

    def __init__(self, config: LearnedConfig, tasks: int) -> None:
        super().__init__()
        self.eps = config.eps
        self.logit = nn.Parameter(torch.zeros(tasks))

    def terms(self) -> tuple[Tensor, Tensor]:
        """Return sigmoid(a) + eps and 0."""
        return self.logit.sigmoid() + self.eps, torch.zeros_like(self.logit)


class UncertaintyWeighting(Weighting):
    """Sum of exp(-s_t) L_t + s_t, s_t the log variance of task t, trained, 0 at the start.

    After Kendall, Gal and Cipolla, CVPR 2018, section 3.2, without its factors 1/2, which move
    nothing: with L_t a mean squared error the minimum is s_t = log L_t, so exp(s_t / 2) is the
    standard deviation of what the model cannot explain, in score points. s_t is kept within bounds.
    """

    def __init__(self, config: UncertaintyConfig, tasks: int) -> None:
        super().__init__()
        self.lowest, self.highest = config.lowest, config.highest
        self.log_variance = nn.Parameter(torch.zeros(tasks))

    def terms(self) -> tuple[Tensor, Tensor]:
        """Return exp(-s) and s, after putting s back within its bounds."""
        # A projection of the parameter and no clamp in the graph: behind a clamp the gradient is 0
        # and a value that momentum has carried out would never return. Nor a rule on the sign of
        # the gradient: each part of a step sees only its part of the gradient. Done here and not
        # after the step, so that nobody can forget it; between two steps it changes nothing.
        self.log_variance.data.clamp_(self.lowest, self.highest)
        return torch.exp(-self.log_variance), self.log_variance


class GradNormWeighting(Weighting):
    """GradNorm (Chen, Badrinarayanan, Lee and Rabinovich, ICML 2018, section 3 and algorithm 1).

    With g_t the gradient norm of L_t on the last shared layer, G_t = w_t g_t, the relative training
    rate r_t = (L_t / L_t at the first step) / mean of these over the tasks, and the target
    mean(G) r_t^alpha held constant, the weights descend on the sum of |G_t - target_t| with their
    own optimiser (Adam) and are then scaled to their old sum, N over all tasks.

    One departure: the optimiser steps on log w_t, so a weight stays positive and a step means the
    same for small and large weights. Inactive tasks keep their weights. A task whose numbers are
    not finite, or whose first loss is 0, takes no part in the update.
    """

    needs_gradient_norms = True
    BETA1, BETA2, EPS = 0.9, 0.999, 1e-12  # Adam (Kingma and Ba, ICLR 2015), EPS for tiny norms
    log_weight: Tensor
    first_loss: Tensor
    moment1: Tensor
    moment2: Tensor
    updates: Tensor

    def __init__(self, config: GradNormConfig, tasks: int) -> None:
        super().__init__()
        self.alpha, self.learning_rate = config.alpha, config.learning_rate
        self.register_buffer("log_weight", torch.zeros(tasks))
        self.register_buffer("first_loss", torch.zeros(tasks))  # 0: not seen yet
        self.register_buffer("moment1", torch.zeros(tasks))
        self.register_buffer("moment2", torch.zeros(tasks))
        self.register_buffer("updates", torch.zeros(tasks))

    def terms(self) -> tuple[Tensor, Tensor]:
        """Return the weights and 0."""
        return self.log_weight.exp(), torch.zeros_like(self.log_weight)

    def targets(self, grad_norms: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        """Return [N] what the weighted gradient norms should be; NaN for tasks that take no part.

        Before the first update of a task its loss counts as its first.
        """
        first = torch.where(self.first_loss > 0, self.first_loss, losses)
        part = active & losses.isfinite() & grad_norms.isfinite() & (first > 0)
        count = part.sum().clamp(min=1)
        ratio = torch.where(part, losses / torch.where(part, first, 1.0), 0.0)
        rate = ratio / (ratio.sum() / count).clamp(min=self.EPS)
        mean = torch.where(part, self.weights() * grad_norms, 0.0).sum() / count
        return torch.where(part, mean * rate**self.alpha, torch.nan)

    @torch.no_grad()
    def update(self, grad_norms: Tensor, losses: Tensor, active: Tensor) -> None:
        """Move the weights by one step of their optimiser; see :meth:`Weighting.update`."""
        losses, grad_norms = losses.to(self.log_weight), grad_norms.to(self.log_weight)
        target = self.targets(grad_norms, losses, active)
        part = target.isfinite()
        weight = self.weights()
        norms = weight * grad_norms
        # Derivative of |G - target| with respect to log w, dG / dlog w being G.
        slope = torch.where(part, torch.sign(norms - target) * norms, 0.0)
        self.first_loss.copy_(torch.where(part & (self.first_loss <= 0), losses, self.first_loss))
        self.updates.add_(part)
        for moment, value, beta in (
            (self.moment1, slope, self.BETA1),
            (self.moment2, slope.square(), self.BETA2),
        ):
            moment.copy_(torch.where(part, beta * moment + (1 - beta) * value, moment))
        age = self.updates.clamp(min=1)
        mean = self.moment1 / (1 - self.BETA1**age)
        spread = (self.moment2 / (1 - self.BETA2**age)).sqrt()
        step = self.learning_rate * mean / (spread + self.EPS)
        moved = torch.where(part, self.log_weight - step, self.log_weight)
        # The tasks that took part share what they had, so the sum over all stays N.
        had = torch.where(part, weight, 0.0).sum()
        have = torch.where(part, moved.exp(), 0.0).sum()
        scale = torch.log(had.clamp(min=self.EPS) / have.clamp(min=self.EPS))
        self.log_weight.copy_(torch.where(part, moved + scale, self.log_weight))


def build_weighting(config: WeightingConfig, tasks: int = len(TASKS)) -> Weighting:
    """Build the weighting that the configuration names.

    Args:
        config: Its ``kind``, and the section of that name.
        tasks: N.

    Raises:
        ValueError: ``fixed`` for another number of tasks than it has weights.
    """
    if config.kind == "learned":
        return LearnedWeighting(config.learned, tasks)
    if config.kind == "uncertainty":
        return UncertaintyWeighting(config.uncertainty, tasks)
    if config.kind == "gradnorm":
        return GradNormWeighting(config.gradnorm, tasks)
    weight = [getattr(config.fixed, task) for task in TASKS]
    if len(weight) != tasks:
        raise ValueError(f"fixed has {len(weight)} weights, there are {tasks} tasks")
    return FixedWeighting(weight)
