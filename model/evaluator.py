"""Evaluators: masked modality sequences in, five scores in [1, 5] out (SPEC section 6).

Legend: B clips, T steps (at most 150), D common width, N = 5 tasks, A width of the auxiliary
vector.
"""

from collections.abc import Mapping, Sequence
from typing import Final, cast

import torch
from torch import Tensor, nn

from model.batch import ClipBatch, Prediction
from model.blocks import AuxProjection, Head, Trunk, drop_modalities
from model.cross_attention import CrossAttention
from model.cross_modal_encoder import CrossModalEncoder
from model.dual_path import DualPath
from model.evaluator_config import EvaluatorConfig, Family
from model.tasks import TASKS, Task

MAX_STEPS: Final = 150  # frames of a clip (SPEC section 2)
# Family `auxiliary` has no trunk.
FAMILIES: Final[dict[Family, type[nn.Module]]] = {
    "cross_modal_encoder": CrossModalEncoder,
    "dual_path": DualPath,
    "cross_attention": CrossAttention,
}


class Evaluator(nn.Module):
    """A family's trunk, the auxiliary projection if there is one, and a head for each task.

    The family ``auxiliary`` reads no sequence: its embedding is the projection alone.

    Attributes:
        config: The settings it was built from.
        widths: stream -> width K that it reads, for the streams of ``config``.
        aux_width: Width A of the auxiliary vector; 0 without one.
        heads: task -> :class:`model.blocks.Head`.
    """

    def __init__(self, config: EvaluatorConfig, widths: Mapping[str, int], aux_width: int) -> None:
        super().__init__()
        self.config = config
        self.widths = {name: widths[name] for name in config.streams}
        self.aux_width = aux_width if config.aux else 0
        family = FAMILIES.get(config.family)
        self.trunk = None if family is None else family(config, self.widths, MAX_STEPS)
        self.aux = AuxProjection(aux_width, config.width, config.dropout) if config.aux else None
        self.heads = nn.ModuleDict(
            {task: Head(config.width, config.dropout, config.output) for task in TASKS}
        )

    def forward(self, batch: ClipBatch) -> Prediction:
        """Judge clips.

        Values under false masks have no effect. Under autocast the heads still compute in the
        format of their weights: bfloat16 would leave steps of 0.03 between scores.

        Raises:
            ValueError: The batch lacks a stream or the auxiliary vector, or has another width.
        """
        self._check(batch)
        embedding, encoded = self._fused(batch)
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = embedding.to(self._dtype())
            scores = torch.stack([head(embedding) for head in self.heads.values()], dim=1)
        return Prediction(scores, embedding, encoded)

    def _fused(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the embedding [B, D] and each stream after its encoder, by name."""
        if self.trunk is None:
            return self._vector(batch), {}
        present: dict[str, Tensor] = {
            name: batch.present[name] & batch.frame_mask for name in self.widths
        }
        kept = present
        if self.training and self.config.modality_dropout > 0:
            kept = drop_modalities(present, self.config.modality_dropout)
        trunk = cast(Trunk, self.trunk)
        embedding, encoded = trunk(batch.streams, present, kept, batch.frame_mask)
        if self.aux is None:
            return embedding, encoded
        if self._drops_sequences():
            return self._vector(batch), encoded
        return embedding + self._vector(batch), encoded

    def _vector(self, batch: ClipBatch) -> Tensor:
        """Return the projected auxiliary vector [B, D]."""
        return cast(Tensor, cast(AuxProjection, self.aux)(*self._aux_of(batch)))

    def _drops_sequences(self) -> bool:
        share = self.config.sequence_dropout
        return self.training and share > 0 and float(torch.rand(())) < share

    def head_parameters(self, task: Task) -> list[nn.Parameter]:
        """Return the parameters of one task's head."""
        return list(self.heads[task].parameters())

    def trunk_parameters(self) -> list[nn.Parameter]:
        """Return all parameters outside the heads."""
        return [p for name, p in self.named_parameters() if not name.startswith("heads.")]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the weights of the last layer that all tasks share (GradNorm measures there)."""
        if self.trunk is None:
            return list(cast(AuxProjection, self.aux).last_linear().parameters())
        return cast(Trunk, self.trunk).shared_parameters()

    def start_at(self, scores: Sequence[float]) -> None:
        """Let the heads start near given scores, one a task (such as the training means)."""
        for head, score in zip(self.heads.values(), scores, strict=True):
            cast(Head, head).start_at(score)

    def _dtype(self) -> torch.dtype:
        return cast(Head, self.heads[TASKS[0]]).last.weight.dtype

    def _check(self, batch: ClipBatch) -> None:
        for name, width in self.widths.items():
            if name not in batch.streams:
                raise ValueError(f"the evaluator reads stream {name}, which the batch lacks")
            if batch.streams[name].shape[-1] != width:
                raise ValueError(
                    f"stream {name}: the evaluator reads width {width}, "
                    f"the batch has {batch.streams[name].shape[-1]}"
                )

    def _aux_of(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        if batch.aux is None or batch.aux_present is None:
            raise ValueError("the evaluator reads the auxiliary vector, which the batch lacks")
        if batch.aux.shape[1] != self.aux_width:
            raise ValueError(
                f"auxiliary vector: the evaluator reads width {self.aux_width}, "
                f"the batch has {batch.aux.shape[1]}"
            )
        return batch.aux, batch.aux_present


def build_evaluator(
    config: EvaluatorConfig, widths: Mapping[str, int], aux_width: int = 0
) -> Evaluator:
    """Build an evaluator with random weights from torch's generator.

    Linear layers start as torch initialises them (uniform within 1 / sqrt(inputs)), attention's
    input projections Xavier-uniform with zero biases, learned vectors and positions normal with
    deviation 0.02, the last bias of a head at 0, the middle of the scale.

    Args:
        config: The settings.
        widths: stream -> width after the preprocessor; streams that the settings do not name are
            ignored.
        aux_width: Width of the auxiliary vector; ignored where ``config.aux`` is false.

    Raises:
        ValueError: A stream or the auxiliary vector that the settings ask for has no width.
    """
    missing = [name for name in config.streams if widths.get(name, 0) < 1]
    if missing:
        raise ValueError(
            f"evaluator.streams asks for {', '.join(missing)}, which the features do not hold "
            f"(they hold {', '.join(widths) or 'nothing'})"
        )
    if config.aux and aux_width < 1:
        raise ValueError("evaluator.aux is true, but the features hold no auxiliary values")
    return Evaluator(config, widths, aux_width)
