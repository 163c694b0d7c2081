"""Settings of the optimisation (SPEC section 8); free of torch: drivers read them."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, field_validator, model_validator

from model.config import Config
from model.schedule import ScheduleConfig
from model.tasks import TASKS, Task

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(Config):
    """How an evaluator is trained."""

    epochs: int = Field(40, ge=1, description="passes over the training clips, at most")
    batch_size: int = Field(
        32, ge=1, description="clips a worker takes through the network at once"
    )
    accumulation: int = Field(
        1, ge=1, description="micro-batches a worker adds up before each optimisation step"
    )
    batches: Literal["shuffled", "by_source"] = Field(
        "shuffled",
        description="shuffled: a step holds any clips; by_source: variants of one clip of a clean "
        "video stay together, as loss.ranking with pairs: source needs them",
    )
    variants_together: int = Field(
        8,
        ge=2,
        description="with by_source, variants of one clip that stand together, at most; others "
        "meet in each epoch",
    )
    learning_rate: FiniteFloat = Field(3e-4, gt=0, description="AdamW, of everything but the heads")
    head_learning_rate: FiniteFloat = Field(
        3e-4, gt=0, description="AdamW, of the heads that head_learning_rates does not name"
    )
    head_learning_rates: dict[Task, FiniteFloat] = Field(
        default_factory=dict, description="AdamW, task -> learning rate of its head"
    )
    weighting_learning_rate: FiniteFloat = Field(
        2e-2,
        gt=0,
        description="AdamW, of the task weights that the optimiser learns. A log variance moves by "
        "at most this much a step and has a way of several units to go",
    )
    weight_decay: FiniteFloat = Field(
        0.01,
        ge=0,
        description="AdamW, of matrices; vectors (biases, norms) and weights of tasks: 0",
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="AdamW, each in [0, 1)")
    schedule: ScheduleConfig = ScheduleConfig()
    clip_norm: FiniteFloat | None = Field(
        1.0, gt=0, description="largest norm of the whole gradient; null does not clip"
    )
    precision: Precision = Field(
        "auto",
        description="number format of the network: auto is bf16 on GPUs that have it, fp16 with "
        "loss scaling on others, fp32 on CPUs",
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of the moving average of weights; null keeps none"
    )
    patience: int | None = Field(
        10, ge=1, description="epochs without a better monitor before it stops; null never stops"
    )
    monitor: Literal["overall", "mean", "loss"] = Field(
        "overall",
        description="what chooses the checkpoint on the validation split: PLCC of overall, the "
        "weighted mean PLCC of the tasks, or the validation loss",
    )
    monitor_weights: dict[Task, FiniteFloat] = Field(
        default_factory=dict, description="weights of the mean monitor; a task not named counts 1"
    )
    explosion_factor: FiniteFloat = Field(
        20.0,
        gt=1,
        description="a gradient norm this many times the median of the last 100 is reported",
    )
    max_not_finite: int = Field(
        10,
        ge=0,
        description="steps left out because of NaN or infinite losses before the run gives up",
    )
    state_steps: int = Field(
        500, ge=1, description="steps after which the state is saved, beside every end of an epoch"
    )
    state_seconds: FiniteFloat = Field(
        300.0, gt=0, description="seconds after which the state is saved, beside the ends of epochs"
    )
    seed: int = Field(0, ge=0, description="of initial weights, order of clips and dropout")

    @field_validator("head_learning_rates")
    @classmethod
    def _positive(cls, value: dict[Task, float]) -> dict[Task, float]:
        for task, rate in value.items():
            if rate <= 0:
                raise ValueError(f"the learning rate of {task} must be above 0, not {rate:g}")
        return value

    @model_validator(mode="after")
    def _room_for_variants(self) -> "TrainingConfig":
        if self.batches == "by_source" and self.variants_together > self.batch_size:
            raise ValueError(
                f"variants_together is {self.variants_together}, more than batch_size, "
                f"{self.batch_size}: variants meet only in what goes through the network at once"
            )
        return self

    @model_validator(mode="after")
    def _weights_of_the_mean(self) -> "TrainingConfig":
        weights = [self.monitor_weights.get(task, 1.0) for task in TASKS]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError("monitor_weights must be 0 or more, and not all 0")
        return self

    def head_rate(self, task: str) -> float:
        """Return the learning rate of a task's head."""
        rates = {str(name): rate for name, rate in self.head_learning_rates.items()}
        return rates.get(task, self.head_learning_rate)
