"""Everything that steers `jobs/train_sync.py`, as one tree, and the presets."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from actors.decode import DecodeConfig
from actors.faces import FacesConfig
from actors.features import FeaturesConfig, PrepareConfig
from model.config import Config
from model.sync_training_config import NetworkConfig, SyncTrainingConfig, SyncValidationConfig
from pipelines.config import ConfigError
from pipelines.corpus import CorpusConfig
from pipelines.pool_run import RunConfig
from pipelines.resources import ResourcesConfig

PRESETS = Path(__file__).resolve().parents[2] / "configs" / "sync"
Text = Annotated[str, Field(coerce_numbers_to_str=True)]


class SyncSplitConfig(Config):
    """Which videos serve validation; the others are learned from."""

    by: Literal["auto", "speaker", "video"] = Field(
        "auto",
        description="what stays on one side: auto is speaker where every video has one and there "
        "are at least two, else video",
    )
    share: FiniteFloat = Field(
        0.1, gt=0, lt=1, description="share of the groups that validate, chosen by hash; at least 1"
    )
    salt: int = Field(0, description="enters the hash; another one chooses otherwise")
    val: tuple[Text, ...] = Field((), description="names of the groups that validate, not by hash")
    left_out: tuple[Text, ...] = Field(
        (), description="names of groups that take no part: kept for tests of one's own"
    )

    @model_validator(mode="after")
    def _on_one_side(self) -> Self:
        both = sorted({*self.val} & {*self.left_out})
        if both:
            raise ValueError(f"{both[0]!r} cannot validate and be left out")
        return self


class CropDataConfig(Config):
    """How stored crops are read while the network learns."""

    cache_mib: int = Field(
        2048, ge=64, description="memory of each worker for clips that were read, MiB"
    )
    shuffle_groups: int = Field(
        16,
        ge=1,
        description="row groups (8 clips each) whose clips are mixed; a step's clips come from so "
        "many, so that a corpus larger than the memory is read in large pieces",
    )


class SyncTrainConfig(Config):
    """Everything that steers `jobs/train_sync.py`."""

    preset: str = Field("small", description="name of the settings, for the card")
    corpus: CorpusConfig = CorpusConfig()
    crops: str | None = Field(
        None,
        description="output of an earlier run, finished or not, whose crops are learned from; none "
        "are made then",
    )
    init: str | None = Field(None, description="weights to begin with: a path or URI")
    demonstration: bool = Field(
        False,
        description="faces or voices of the corpus are made up, so the weights mean nothing for "
        "real video; whatever is measured with them is marked",
    )
    decode: DecodeConfig = DecodeConfig()
    prepare: PrepareConfig = PrepareConfig()
    faces: FacesConfig = FacesConfig()
    network: NetworkConfig = NetworkConfig()
    split: SyncSplitConfig = SyncSplitConfig()
    data: CropDataConfig = CropDataConfig()
    training: SyncTrainingConfig = SyncTrainingConfig()
    validation: SyncValidationConfig = SyncValidationConfig()
    workers: int | None = Field(
        None, ge=1, description="training processes, a GPU each where there are GPUs; default 1"
    )
    resources: ResourcesConfig = ResourcesConfig(layout="whole")
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.resources.layout != "whole":
            raise ValueError("resources.layout: crops are made in whole processes: whole")
        if self.decode.policy != "windows":
            raise ValueError("decode.policy: SyncNet reads consecutive frames: windows")
        return self

    def features(self) -> FeaturesConfig:
        """Return the settings of extraction's first half, with what SyncNet needs."""
        return FeaturesConfig(
            modalities=("sync",), decode=self.decode, prepare=self.prepare, faces=self.faces
        )


def preset_file(name: str) -> str:
    """Return the YAML file of a preset.

    Raises:
        ConfigError: There is no such preset.
    """
    known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"--preset {name}: there is no such preset; known: {', '.join(known)}")
    return str(PRESETS / f"{name}.yaml")
