"""Everything that steers `jobs/degrade.py`, as one tree."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from actors.artefacts.registry import ARTEFACTS
from actors.decode import DecodeConfig
from model.config import Config
from pipelines.corpus import CorpusConfig
from pipelines.pool_run import RunConfig
from pipelines.resources import ResourcesConfig

# Strict: a number in quotes, or `true` for one, is a slip of the pen.
Severity = Annotated[float, Field(strict=True, gt=0, le=1)]
Share = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")


class ArtefactConfig(Config):
    """How one type is used."""

    severities: tuple[Severity, ...] | None = Field(
        None, min_length=1, description="instead of the plan's"
    )
    held_out: bool = Field(
        False,
        strict=True,
        description="stays out of training and validation: appears in the test split only",
    )
    blind: str | None = Field(
        None,
        min_length=1,
        description="why an evaluator trained on this corpus cannot see it, declared beforehand; "
        "shown beside its figures. It is in the test split only: what cannot be seen would teach "
        "something else",
    )

    @property
    def trains(self) -> bool:
        """Whether training and validation get it."""
        return not self.held_out and self.blind is None


class CombinationsConfig(Config):
    """Several artefacts at once."""

    per_source: Count = Field(0, description="variants of each source with several artefacts")
    of: int = Field(2, strict=True, ge=2, le=5, description="artefacts in each, of different types")


class SplitConfig(Config):
    """Which source serves what; all variants of a source are on its side."""

    by: Literal["source", "speaker"] = Field(
        "source", description="what is hashed; `speaker` keeps all sources of a person together"
    )
    shares: tuple[Share, Share, Share] = Field(
        (0.8, 0.1, 0.1), description="of training, validation and test; they add up to 1"
    )
    salt: int = Field(
        0, strict=True, description="enters the hash; another one gives another split"
    )
    assign: dict[str, Side] = Field(
        default_factory=dict, description="name of a source or a speaker -> side, before any hash"
    )

    @field_validator("shares")
    @classmethod
    def _whole(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        # Said this way round, it refuses what is not a number.
        if not (min(value) >= 0 and abs(sum(value) - 1) <= 1e-6):
            raise ValueError("expected three shares of 0 or more that add up to 1")
        return value


class StoreConfig(Config):
    """How stored videos are written."""

    max_seconds: float = Field(
        120.0,
        gt=0,
        allow_inf_nan=False,
        description="longest source; longer ones are failures (split them first)",
    )


class DegradeConfig(Config):
    """Everything that steers `jobs/degrade.py`."""

    corpus: CorpusConfig
    seed: Count = Field(0, description="another seed deals and damages otherwise")
    severities: tuple[Severity, ...] = Field(
        (0.2, 0.4, 0.6, 0.8, 1.0), min_length=1, description="of every type"
    )
    artefacts: dict[str, ArtefactConfig | None] = Field(
        default_factory=dict, description="type -> how it is used; empty: all types"
    )
    leave_out: tuple[str, ...] = Field((), description="types that are not used")
    per_source: dict[Side, Count] = Field(
        default_factory=dict,
        description="side -> variants of each of its sources, dealt evenly over types and "
        "severities; a side that is not named gets every type at every severity",
    )
    combinations: CombinationsConfig = CombinationsConfig()
    splits: SplitConfig = SplitConfig()
    decode: DecodeConfig = DecodeConfig()
    store: StoreConfig = StoreConfig()
    resources: ResourcesConfig = ResourcesConfig()
    run: RunConfig = RunConfig()

    @field_validator("corpus")
    @classmethod
    def _whole_corpus(cls, value: CorpusConfig) -> CorpusConfig:
        if value.since is not None:
            raise ValueError(
                "since has no use here: variants and splits are dealt over the whole corpus, and "
                "what was made before is not made again"
            )
        return value

    @field_validator("severities")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return _checked(value)

    @field_validator("artefacts")
    @classmethod
    def _known(cls, value: dict[str, ArtefactConfig | None]) -> dict[str, ArtefactConfig | None]:
        for name, config in value.items():
            _check_type(name)
            if config is not None and config.severities is not None:
                _checked(config.severities)
        return value

    @field_validator("leave_out")
    @classmethod
    def _known_too(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            _check_type(name)
        return value

    @field_validator("decode")
    @classmethod
    def _on_the_grid(cls, value: DecodeConfig) -> DecodeConfig:
        if value.policy != "windows":
            raise ValueError("artefacts need decode.policy=windows")
        if not math.isfinite(value.max_duration_s):
            raise ValueError("max_duration_s must be finite: plan.json holds it")
        return value

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if not self.types:
            raise ValueError("no artefact is left: see artefacts and leave_out")
        wanted = self.combinations
        if wanted.per_source and wanted.of > len(self.types):
            raise ValueError(
                f"combinations.of is {wanted.of}, but the types in use are fewer "
                f"({', '.join(self.types)}): use more types, or set combinations.per_source to 0"
            )
        return self

    @property
    def types(self) -> dict[str, ArtefactConfig]:
        """Types in use, in the order of the registry -> how."""
        chosen = self.artefacts or dict.fromkeys(ARTEFACTS)
        return {
            name: chosen[name] or ArtefactConfig()
            for name in ARTEFACTS
            if name in chosen and name not in self.leave_out
        }

    def severities_of(self, name: str) -> tuple[float, ...]:
        """Return the severities of a type, ascending."""
        config = self.artefacts.get(name)
        own = None if config is None else config.severities
        return own or self.severities


def _checked(value: tuple[float, ...]) -> tuple[float, ...]:
    if sorted(set(value)) != list(value):
        raise ValueError(f"severities must ascend and differ, got {list(value)}")
    if any(abs(1000 * s - round(1000 * s)) > 1e-6 for s in value):
        raise ValueError("severities are multiples of 0.001, as ids name them")
    return value


def _check_type(name: str) -> None:
    if name not in ARTEFACTS:
        import difflib

        close = difflib.get_close_matches(name, ARTEFACTS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"unknown artefact {name!r}{hint} (known: {', '.join(ARTEFACTS)})")
