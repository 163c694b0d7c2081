"""Settings of training SyncNet; free of torch: drivers read them."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from model.config import Config
from model.schedule import ScheduleConfig

LARGEST_SHIFT = 15  # windows, as far as the measure looks


class NetworkConfig(Config):
    """Which SyncNet is trained."""

    width: FiniteFloat = Field(
        1.0, gt=0, le=4, description="all channels are multiplied by it; 1 is the published network"
    )
    face: int = Field(224, ge=52, le=224, description="side of the face crops it reads, pixels")
    embedding: int = Field(1024, ge=8, le=4096, description="numbers in a window's embedding")
    storage: Literal["fp16", "fp32"] = Field(
        "fp16", description="number format of the matrices in the file; vectors stay fp32"
    )


class CurriculumConfig(Config):
    """Which shifts of the same video the network must tell from the true one, as it learns."""

    far: int = Field(
        8, ge=1, le=LARGEST_SHIFT, description="least shift at the beginning, windows (40 ms each)"
    )
    near: int = Field(1, ge=1, le=LARGEST_SHIFT, description="least shift at the end, windows")
    share: FiniteFloat = Field(
        0.4, ge=0, le=1, description="share of all steps over which it comes down"
    )

    @model_validator(mode="after")
    def _comes_down(self) -> Self:
        if self.near > self.far:
            raise ValueError(f"near ({self.near}) must not be above far ({self.far})")
        return self


class SyncLossConfig(Config):
    """What is minimised; distances are those of the measure (L2 of two embeddings)."""

    kind: Literal["contrast", "margin"] = Field(
        "contrast",
        description="contrast: cross-entropy of the true partner, by exp(-distance / temperature), "
        "among shifted windows and among foreign ones; margin: the published contrastive loss",
    )
    distance: Literal["plain", "squared"] = Field(
        "plain", description="contrast: whether it is the distance or its square"
    )
    temperature: FiniteFloat = Field(
        1.0, gt=0, description="contrast: what distances are divided by"
    )
    margin: FiniteFloat = Field(
        20.0, gt=0, description="margin: distance from which a false pair costs nothing"
    )
    both_ways: bool = Field(
        True, description="contrast: find the sound of lips and the lips of a sound, not only the "
        "first"
    )  # fmt: skip
    foreign: bool = Field(True, description="windows of other videos are false partners too")


class AugmentationConfig(Config):
    """What is changed at random in each excerpt, the same in all its frames."""

    flip: FiniteFloat = Field(0.5, ge=0, le=1, description="probability of a mirrored picture")
    zoom: FiniteFloat = Field(0.1, ge=0, lt=0.5, description="largest change of size, as a share")
    move: FiniteFloat = Field(
        0.05, ge=0, lt=0.5, description="largest shift to each side, as a share of the face"
    )
    turn: FiniteFloat = Field(5.0, ge=0, le=45, description="largest rotation, degrees")
    brightness: FiniteFloat = Field(
        30.0, ge=0, le=128, description="largest change of each colour, of 255"
    )
    contrast: FiniteFloat = Field(0.3, ge=0, lt=1, description="largest change of contrast")
    gain: FiniteFloat = Field(
        10.0, ge=0, le=40, description="largest change of the sound's level, dB"
    )
    noise: FiniteFloat = Field(
        0.3, ge=0, le=1, description="probability of white noise, 5 to 35 dB below the sound"
    )


class SyncTrainingConfig(Config):
    """How SyncNet is trained."""

    steps: int = Field(600, ge=1, description="optimisation steps")
    clips: int = Field(
        16, ge=2, description="excerpts of a step, over all workers; windows of different videos "
        "among them are the foreign ones"
    )  # fmt: skip
    micro_clips: int = Field(
        4, ge=2, description="excerpts that go through the network at once, on one worker. Batch "
        "norms see so many, whatever the number of workers"
    )  # fmt: skip
    windows: int = Field(
        24, ge=2, description="consecutive windows of an excerpt, 40 ms apart; shifts within "
        "them are the shifted ones"
    )  # fmt: skip
    learning_rate: FiniteFloat = Field(2e-3, gt=0, description="AdamW")
    weight_decay: FiniteFloat = Field(0.01, ge=0, description="AdamW, of matrices")
    clip_norm: FiniteFloat = Field(5.0, gt=0, description="largest norm of a gradient")
    schedule: ScheduleConfig = ScheduleConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    loss: SyncLossConfig = SyncLossConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of convolutions: auto is bf16 on GPUs that have it, else fp32"
    )
    seed: int = Field(0, ge=0, description="of weights, order, excerpts and augmentation")
    validate_steps: int = Field(100, ge=1, description="steps between validations")
    patience: int | None = Field(
        None, ge=1, description="stop after so many validations without a better one, once the "
        "curriculum is at its end; None: never"
    )  # fmt: skip
    state_seconds: FiniteFloat = Field(
        120.0, ge=0, description="the state is saved at validations, and after so long"
    )

    @model_validator(mode="after")
    def _whole_parts(self) -> Self:
        if self.clips % self.micro_clips:
            raise ValueError(
                f"clips ({self.clips}) must be a multiple of micro_clips ({self.micro_clips})"
            )
        if self.windows <= self.curriculum.far:
            raise ValueError(
                f"windows ({self.windows}) must be more than curriculum.far "
                f"({self.curriculum.far}): no two windows would be so far apart"
            )
        return self


class SyncValidationConfig(Config):
    """What decides which weights are kept."""

    offset: int = Field(
        10, ge=1, le=LARGEST_SHIFT - 1, description="offsets of -offset to offset frames are tried"
    )
    clips: int = Field(64, ge=1, description="validation clips, at most, spread over the videos")
    piece_s: FiniteFloat = Field(
        3.0, ge=1.6, description="clips are judged whole and cut into pieces of this length, s"
    )
    foreigners: int = Field(4, ge=1, description="foreign sounds that each clip is tried with")
    confidence: FiniteFloat = Field(
        7.0, gt=0, description="distances are scaled until the median LSE-C of whole validation "
        "clips in sync is this, as that of good published footage"
    )  # fmt: skip
