"""What evaluators read and losses compare: reduced clips and their labels, as tensors.

Legend: B clips, T time steps (at most 150), K width of a stream after the preprocessor, A width of
the auxiliary vector, N = 5 tasks in the order of :data:`model.tasks.TASKS`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Sequences an evaluator may read, in their order. The first four are the paper's.
STREAMS = ("visual", "audio", "landmarks", "action_units", "lowlevel")
# Widths after the preprocessor with its default settings (SPEC section 5).
REDUCED_WIDTHS = {"visual": 100, "audio": 200, "landmarks": 50, "action_units": 17, "lowlevel": 64}


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Reduced clips.

    Values under a false mask are arbitrary, NaN included: whoever reads them selects by the mask
    (``torch.where``) and never multiplies by it.

    Attributes:
        streams: name -> [B, T, K] float.
        present: name -> [B, T] bool, the step holds data of the stream; never true outside
            ``frame_mask``. A modality that a clip lacks is false throughout.
        frame_mask: [B, T] bool, the step is a real frame.
        aux: [B, A] standardised auxiliary vector, or None.
        aux_present: [B, A] bool, or None.
    """

    streams: dict[str, Tensor]
    present: dict[str, Tensor]
    frame_mask: Tensor
    aux: Tensor | None = None
    aux_present: Tensor | None = None

    def __len__(self) -> int:
        return len(self.frame_mask)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ClipBatch":
        """Return the batch on ``device``."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=non_blocking)

        return ClipBatch(
            {name: move(x) for name, x in self.streams.items()},
            {name: move(x) for name, x in self.present.items()},
            move(self.frame_mask),
            None if self.aux is None else move(self.aux),
            None if self.aux_present is None else move(self.aux_present),
        )


@dataclass(frozen=True, slots=True)
class Variants:
    """Which clips of a batch show the same content, damaged in known ways.

    Attributes:
        content: [B] int64, variants of one clip of one clean video share a number; -1 unknown.
        type: [B] int64, clips damaged in one way share a number; -1 for clean clips, for
            combinations, and where it is unknown.
        severity: [B] float in [0, 1], of the damage; 0 for a clean clip, NaN unknown.
        harm: [B, N] float, score points that the clip's type of damage takes off each task at
            severity 1, as the labels of the training split say; 0 where it leaves the task alone
            and for clean clips, NaN unknown.
    """

    content: Tensor
    type: Tensor
    severity: Tensor
    harm: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Variants":
        """Return the same on ``device``."""
        parts = (self.content, self.type, self.severity, self.harm)
        return Variants(*(x.to(device, non_blocking=non_blocking) for x in parts))


@dataclass(frozen=True, slots=True)
class ClipTargets:
    """Labels of the clips of a batch.

    Attributes:
        values: [B, N] scores in [1, 5]; arbitrary where not valid.
        valid: [B, N] bool, the label exists.
        weight: [B, N] float > 0, what the label counts for: 1 / clips of its video, times what
            the number of raters or their spread adds.
        group: [B] int64, clips of one video share a number (pairs of a ranking loss come from
            different videos).
        error: [B, N] float, standard error of the label in score points, NaN unknown; None: no
            label has one.
        variants: What is known of controlled damage; None: nothing.
    """

    values: Tensor
    valid: Tensor
    weight: Tensor
    group: Tensor
    error: Tensor | None = None
    variants: Variants | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ClipTargets":
        """Return the targets on ``device``."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=non_blocking)

        return ClipTargets(
            move(self.values),
            move(self.valid),
            move(self.weight),
            move(self.group),
            None if self.error is None else move(self.error),
            None if self.variants is None else self.variants.to(device, non_blocking),
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an evaluator says of a batch.

    Attributes:
        scores: [B, N] in [1, 5].
        embedding: [B, D] the fused embedding that the heads read.
        encoded: name -> [B, T, D] each stream after its encoder, before fusion (for the
            alignment loss); arbitrary where not ``present``.
    """

    scores: Tensor
    embedding: Tensor
    encoded: dict[str, Tensor]
