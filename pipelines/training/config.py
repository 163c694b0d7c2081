"""Everything that steers a training run, as one tree, and the presets."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from model.config import Config
from model.evaluator_config import EvaluatorConfig
from model.loss_config import LossConfig, WeightingConfig
from model.metrics_config import EvaluationConfig
from model.preprocessor_config import PreprocessorConfig
from model.training_config import TrainingConfig
from model.uncertainty_config import UncertaintyConfig
from pipelines.config import ConfigError
from pipelines.training.cleaning import CleaningConfig
from pipelines.training.labels import LabelsConfig
from pipelines.training.splits import SplitsConfig

PRESETS = Path(__file__).resolve().parents[2] / "configs" / "train"


class TrainRunConfig(Config):
    """How a run behaves."""

    workers: int | None = Field(
        None, ge=1, description="training processes, a GPU each where there are GPUs; default 1"
    )
    wait_lock: bool = Field(
        False, description="wait for another run on the same output instead of stopping"
    )


class TrainConfig(Config):
    """Everything that steers `jobs/train.py`."""

    preset: str = Field("optimized", description="name of the settings, for the model card")
    features: str = Field(min_length=1, description="output of an extraction, folder or URI")
    labels: LabelsConfig
    init: str | None = Field(
        None, description="checkpoint to begin with: its weights and its preprocessor are kept"
    )
    cleaning: CleaningConfig = CleaningConfig()
    splits: SplitsConfig = SplitsConfig()
    preprocessor: PreprocessorConfig = PreprocessorConfig()
    evaluator: EvaluatorConfig = EvaluatorConfig()
    loss: LossConfig = LossConfig()
    weighting: WeightingConfig = WeightingConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    run: TrainRunConfig = TrainRunConfig()

    @model_validator(mode="after")
    def _pairs_meet(self) -> Self:
        ranking = self.loss.ranking
        if ranking.weight and ranking.pairs == "source" and self.training.batches != "by_source":
            raise ValueError(
                "loss.ranking.pairs: source compares clips that go through the network at once, "
                "and a shuffled batch holds hardly two of one source: set training.batches: "
                "by_source"
            )
        return self


def preset_file(name: str) -> str:
    """Return the YAML file of a preset.

    Raises:
        ConfigError: There is no such preset.
    """
    known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"--preset {name}: there is no such preset; known: {', '.join(known)}")
    return str(PRESETS / f"{name}.yaml")
