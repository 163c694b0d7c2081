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
class ClipTargets:
    """Labels of the clips of a batch.

    Attributes:
        values: [B, N] scores in [1, 5]; arbitrary where not valid.
        valid: [B, N] bool, the label exists.
        weight: [B, N] float > 0, what the label counts for: 1 / clips of its video, times what
            the number of raters or their spread adds.
        group: [B] int64, clips of one video share a number (pairs of a ranking loss come from
            different videos).
    """

    values: Tensor
    valid: Tensor
    weight: Tensor
    group: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ClipTargets":
        """Return the targets on ``device``."""
        parts = (self.values, self.valid, self.weight, self.group)
        return ClipTargets(*(x.to(device, non_blocking=non_blocking) for x in parts))


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
