"""Settings of the evaluators (SPEC section 6). Free of torch, so that a driver can read them."""

from typing import Final, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from model.config import Config

Family = Literal["cross_modal_encoder", "dual_path", "cross_attention", "auxiliary"]
Stream = Literal["visual", "audio", "landmarks", "action_units", "lowlevel"]
STREAM_ORDER: Final[tuple[Stream, ...]] = get_args(Stream)
PAPER_STREAMS: Final[tuple[Stream, ...]] = ("visual", "audio", "landmarks", "action_units")
# Which family has a setting that the others lack.
ONLY_IN: Final[dict[str, Family]] = {"fusion": "dual_path", "pooling": "cross_attention"}


class EvaluatorConfig(Config):
    """Which network reads the clips. The defaults are those of the preset ``optimized``."""

    family: Family = Field(
        "cross_modal_encoder", description="architecture, see docs/evaluators.md"
    )
    width: int = Field(512, ge=8, description="common width D of all layers, a multiple of 4")
    layers: int = Field(
        6, ge=1, le=48, description="Transformer layers (dual_path: the layers of path B)"
    )
    heads: int = Field(16, ge=1, description="attention heads; divides width")
    feedforward: int = Field(2048, ge=1, description="inner width of the feed-forward blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout probability, everywhere")
    streams: tuple[Stream, ...] = Field(
        PAPER_STREAMS,
        description="sequences that are read; their order has no effect. auxiliary: none, []",
    )
    aux: bool = Field(
        False, description="the auxiliary vector (sync, descriptors) joins the fused embedding"
    )
    output: Literal["sigmoid", "tanh", "none"] = Field(
        "sigmoid", description="activation that brings a head's output onto [1, 5]"
    )
    positional: Literal["learned", "none"] = Field(
        "learned", description="learned encodings of the time steps; none: order in time is unseen"
    )
    norm_first: bool = Field(
        False, description="LayerNorm before each Transformer block instead of behind it"
    )
    fusion: Literal["mean", "gate"] = Field(
        "mean", description="dual_path: (A + B) / 2, or a learned gate between the paths"
    )
    pooling: Literal["mean", "attention"] = Field(
        "mean", description="cross_attention: how the time steps become one embedding"
    )
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that a clip loses a modality in training; one always remains",
    )
    sequence_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that training judges a batch by the auxiliary vector alone, so "
        "that the vector must do and sequences only add to it",
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute layers in the backward pass: less memory, about 1/3 slower"
    )

    @field_validator("streams")
    @classmethod
    def _in_order(cls, streams: tuple[Stream, ...]) -> tuple[Stream, ...]:
        twice = sorted({name for name in streams if streams.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: named more than once")
        return tuple(name for name in STREAM_ORDER if name in streams)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % 4:
            raise ValueError(f"width {self.width}: must be a multiple of 4 (heads D, D/2, D/4, 1)")
        if self.width % self.heads:
            raise ValueError(f"width {self.width}: must be a multiple of heads ({self.heads})")
        if self.family == "auxiliary":
            self._reads_no_sequence()
        elif not self.streams:
            raise ValueError(
                "streams: at least one; with none, family auxiliary reads the aux vector alone"
            )
        if self.sequence_dropout and not self.aux:
            raise ValueError("sequence_dropout: without aux nothing would be left to judge by")
        if self.family == "cross_attention" and (
            "audio" not in self.streams or len(self.streams) == 1
        ):
            raise ValueError(
                "streams: cross_attention asks with audio and needs another stream to look at, "
                f"got {', '.join(self.streams)}"
            )
        for name, family in ONLY_IN.items():
            value = getattr(self, name)
            if family != self.family and value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name}: {value} works only in family {family}, not {self.family}"
                )
        return self

    def _reads_no_sequence(self) -> None:
        if self.streams:
            raise ValueError(
                f"streams: family auxiliary reads no sequence, got {', '.join(self.streams)}; "
                "write streams: []"
            )
        if not self.aux:
            raise ValueError("aux: family auxiliary reads nothing else; write aux: true")
        for name in ("modality_dropout", "sequence_dropout"):
            if getattr(self, name):
                raise ValueError(f"{name}: family auxiliary has no sequence to drop")
