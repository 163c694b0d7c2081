"""The release gate's YAML file: every rule, validated (docs/gate.md)."""

import difflib
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from actors.descriptors import DESCRIPTOR_NAMES
from actors.findings_kinds import KINDS
from model.config import Config
from model.tasks import HIGH, LOW, TITLES, Task
from pipelines.config import ConfigError, load_config
from pipelines.scoring.columns import NOVELTY, SYNC
from pipelines.scoring.errors import ScoreInputError
from pipelines.uris import display_text

EACH: Final = "each"
# What a rule can measure beside the scores: numbers of the table of videos.
MEASURES: Final = (
    *(name for name, kind in {**SYNC, **NOVELTY}.items() if kind == "float"),
    *(f"descriptors.{name}" for name in DESCRIPTOR_NAMES),
)


def _close(name: str, known: "tuple[str, ...]") -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


class Finite(Config):
    """A section whose numbers are finite: an infinite limit would decide nothing."""

    model_config = ConfigDict(allow_inf_nan=False)


class Quantile(Finite):
    """A limit of a quantile (linear between order statistics)."""

    q: float = Field(gt=0, lt=1, description="which quantile, a share; 0.1: the worst tenth")
    value: float = Field(description="its limit, in the unit of the task or measure")


class Share(Finite):
    """A limit of how many videos are beyond a value."""

    value: float = Field(description="in the unit of the task or measure; itself is allowed")
    share: float = Field(ge=0, le=1, description="most videos beyond it, a share of those that "
                         "have a value")  # fmt: skip


class Drop(Finite):
    """A limit of the mean drop against the baseline, held by a paired test."""

    value: float = Field(ge=0, description="drop that is still allowed, in scores")
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="level of the one-sided test, a share; default 0.05"
    )
    untestable: Literal["fail", "pass"] = Field(
        "fail",
        description="verdict when there are too few units for any drop to be significant; "
        "default fail",
    )


class Findings(Finite):
    """A limit of how many videos have a finding."""

    kind: str = Field(description="kind of the finding, see docs/findings.md")
    share: float = Field(ge=0, le=1, description="most videos with it, a share of all in scope")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"there is no such kind of finding; {_close(kind, tuple(KINDS))}")
        return kind


class Rule(Finite):
    """One rule: what it looks at, of which videos, and exactly one condition."""

    task: Task | None = Field(None, description="score to judge, on [1, 5]")
    measure: str | None = Field(
        None,
        description="number to judge instead of a score: a column of the table of videos "
        "(sync_offset in frames, sync_confidence, sync_distance, sync_score, ood_distance) or "
        "descriptors.NAME",
    )
    generator: str | None = Field(
        None,
        min_length=1,
        description="only the videos of this generator; each: one verdict for every generator; "
        "default: all videos together",
    )
    min_mean: float | None = Field(None, description="least mean over videos")
    max_mean: float | None = Field(None, description="greatest mean over videos")
    min_low: float | None = Field(
        None, description="least lower end of the bootstrap interval of the mean"
    )
    min_quantile: Quantile | None = Field(None, description="least quantile over videos")
    max_quantile: Quantile | None = Field(None, description="greatest quantile over videos")
    max_share_below: Share | None = Field(None, description="most videos below a value")
    max_share_above: Share | None = Field(None, description="most videos above a value")
    max_abs: Share | None = Field(
        None, description="most videos whose absolute value is above a value"
    )
    max_drop: Drop | None = Field(
        None, description="greatest mean drop of a task against the baseline"
    )
    max_findings: Findings | None = Field(None, description="most videos with a finding")
    min_coverage: float | None = Field(
        None, ge=0, le=1, description="least videos with a value, a share of all in scope"
    )
    least_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="least videos with a value for the rule to be judged at all, a share of all "
        "in scope (max_drop: of those with a score in the baseline); default 0.5",
    )

    @field_validator("measure")
    @classmethod
    def _known_measure(cls, measure: str | None) -> str | None:
        if measure is not None and measure not in MEASURES:
            hint = _close(measure, MEASURES)
            raise ValueError(f"there is no such measure; {hint}")
        return measure

    @model_validator(mode="after")
    def _one_condition(self) -> "Rule":
        given = [name for name in CONDITIONS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"got {' and '.join(given)}: write a rule for each" if given else "got none"
            raise ValueError(f"a rule has exactly one condition ({', '.join(CONDITIONS)}); {found}")
        subjects = [name for name in ("task", "measure") if getattr(self, name) is not None]
        if self.max_findings is not None:
            if subjects:
                raise ValueError(f"max_findings judges findings: leave {subjects[0]} out")
        elif self.max_drop is not None:
            if subjects != ["task"]:
                raise ValueError("max_drop compares scores: name a task, and no measure")
        elif len(subjects) != 1:
            raise ValueError(f"{given[0]} needs a task or a measure, one of them")
        if "least_share" in self.model_fields_set and given[0] in ("max_findings", "min_coverage"):
            raise ValueError(f"{given[0]} counts all videos of its scope: leave least_share out")
        self._check_scale(given[0])
        return self

    def _check_scale(self, name: str) -> None:
        if self.task is None or name in ("max_drop", "min_coverage"):
            return
        limit = getattr(self, name)
        value = limit if isinstance(limit, float) else limit.value
        if not LOW <= value <= HIGH:
            raise ValueError(
                f"{name}: scores lie on [{LOW:g}, {HIGH:g}], {value:g} would decide nothing"
            )

    @property
    def condition(self) -> tuple[str, Any]:
        """The name of the rule's condition, and its limit."""
        name = next(name for name in CONDITIONS if getattr(self, name) is not None)
        return name, getattr(self, name)

    @property
    def words(self) -> str:
        """The rule in words, without its scope."""
        name, limit = self.condition
        subject = TITLES[self.task] if self.task is not None else str(self.measure)
        return {
            "min_mean": lambda: f"{subject}: mean at least {limit:g}",
            "max_mean": lambda: f"{subject}: mean at most {limit:g}",
            "min_low": lambda: f"{subject}: lower end of the mean's interval at least {limit:g}",
            "min_quantile": lambda: f"{subject}: {limit.q:g} quantile at least {limit.value:g}",
            "max_quantile": lambda: f"{subject}: {limit.q:g} quantile at most {limit.value:g}",
            "max_share_below": lambda: (
                f"{subject}: at most {_per_cent(limit.share)} of videos below {limit.value:g}"
            ),
            "max_share_above": lambda: (
                f"{subject}: at most {_per_cent(limit.share)} of videos above {limit.value:g}"
            ),
            "max_abs": lambda: (
                f"{subject}: at most {_per_cent(limit.share)} of videos beyond +-{limit.value:g}"
            ),
            "max_drop": lambda: (
                f"{subject}: drop of at most {limit.value:g} against the baseline "
                f"(alpha {limit.alpha:g})"
            ),
            "max_findings": lambda: f"at most {_per_cent(limit.share)} of videos with {limit.kind}",
            "min_coverage": lambda: f"{subject}: at least {_per_cent(limit)} of videos have it",
        }[name]()


CONDITIONS: Final = tuple(name for name in Rule.model_fields if name.startswith(("min_", "max_")))


class GateConfig(Finite):
    """When a run may be released."""

    min_videos: int = Field(1, ge=0, description="least videos with a score; default 1")
    allow_demonstration: bool = Field(
        False,
        description="let scores of demonstration weights (seeded, or learned from made-up faces) "
        "pass, for trying out; default false"
        "faces), for trying out; default false",
    )
    max_failure_share: float | None = Field(
        None, ge=0, le=1, description="most videos of the corpus that failed, a share"
    )
    min_coverage: float | None = Field(
        None, ge=0, le=1, description="least videos of the corpus with a score, a share"
    )
    max_ood_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="most videos unlike those that the evaluator was trained on, a share of those "
        "where that is known",
    )
    rules: tuple[Rule, ...] = Field((), description="each must hold")

    @property
    def needs_baseline(self) -> bool:
        """Whether a rule compares with a baseline."""
        return any(rule.max_drop is not None for rule in self.rules)


def load_gate(file: str) -> GateConfig:
    """Read a gate's YAML file on a local disk.

    Raises:
        ScoreInputError: With one line for each problem.
    """
    try:
        return load_config(GateConfig, file, [])
    except ConfigError as error:
        text = str(error)
        if not text.startswith(f"{file}: "):
            text = f"{display_text(file)}:\n  " + text.replace("\n", "\n  ")
        raise ScoreInputError(f"gate {text}") from None


def _per_cent(share: float) -> str:
    return f"{100 * share:g} %"
