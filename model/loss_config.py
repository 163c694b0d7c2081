"""Settings of the losses and of the weighting of tasks (no torch here: pipelines read them)."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from model.config import Config

ConsistencyMode = Literal["std", "corr", "cov"]
RankingKind = Literal["hinge", "logistic"]
RankingPairs = Literal["all", "source"]
WeightingKind = Literal["fixed", "learned", "uncertainty", "gradnorm"]


class ConsistencyConfig(Config):
    """How much the five scores are asked to agree."""

    mode: ConsistencyMode = Field(
        "corr",
        description="corr: 1 - mean correlation of two tasks over the batch; std: standard "
        "deviation across the tasks of a clip; cov: trace of the batch covariance of the tasks",
    )
    weight: FiniteFloat = Field(
        0.1,
        ge=0,
        description="weight lambda of the term; 0 switches it off (right on artefact corpora, "
        "where tasks must part)",
    )


class RankingConfig(Config):
    """Pairwise ranking: of two videos the better one should score higher."""

    weight: FiniteFloat = Field(0.0, ge=0, description="weight of the term; 0 switches it off")
    pairs: RankingPairs = Field(
        "all",
        description="all: any two videos whose labels differ; source: variants of the same clip of "
        "one clean video, with the same type of damage or none, ordered by its severity",
    )
    kind: RankingKind = Field(
        "hinge",
        description="hinge: the scores should differ by at least margin x the difference of the "
        "labels; logistic: log(1 + exp(-difference of the scores / scale))",
    )
    least_difference: FiniteFloat = Field(
        0.25,
        ge=0,
        lt=4,
        description="score points by which two labels must differ to make a pair; smaller "
        "differences are within the error of a panel. With pairs: source, the points that "
        "severity 1 of a type must take off a task for the type to count as harming it",
    )
    least_severity_step: FiniteFloat = Field(
        0.1, gt=0, le=1, description="with pairs: source, least difference of two severities"
    )
    margin: FiniteFloat = Field(
        0.5, ge=0, le=1, description="share of the labels' difference that hinge asks for"
    )
    scale: FiniteFloat = Field(0.5, gt=0, description="score points in which logistic measures")
    noise: FiniteFloat = Field(
        0.0,
        ge=0,
        description="score points, standard deviation of a difference of two labels beyond the "
        "standard errors of their raters' means; above 0, logistic takes the better one to be "
        "better with the probability that follows. 0: for certain",
    )
    tie_weight: FiniteFloat = Field(
        0.0,
        ge=0,
        description="with pairs: source, weight of the squared difference of two variants' scores "
        "of tasks that neither one's damage touches, beside the cost of the pairs in order",
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.noise and self.kind != "logistic":
            raise ValueError(f"noise is for kind: logistic, and kind is {self.kind}")
        if self.noise and self.pairs == "source":
            raise ValueError("noise is for pairs: all; the order of severities is certain")
        if self.tie_weight and self.pairs != "source":
            raise ValueError(f"tie_weight is for pairs: source, and pairs is {self.pairs}")
        return self


class AlignmentConfig(Config):
    """Contrastive alignment of sound and picture."""

    weight: FiniteFloat = Field(0.0, ge=0, description="weight of the term; 0 switches it off")
    width: int = Field(128, ge=2, description="width of the space in which the two are compared")
    temperature: FiniteFloat = Field(
        0.1, gt=0, description="what cosine similarities are divided by"
    )
    shift: int = Field(
        5,
        ge=1,
        lt=150,
        description="least shift of a time-shifted negative in frames (25 per second); below "
        "about 3 people do not notice",
    )
    shifts: int = Field(
        2,
        ge=0,
        description="time-shifted negatives to each side, at shift, 2 x shift ... frames; 0: none",
    )


class LossConfig(Config):
    """What training minimises (SPEC section 7)."""

    l1: FiniteFloat = Field(
        0.1,
        ge=0,
        description="weight of the absolute error beside the squared error; 0 is the paper's "
        "plain MSE",
    )
    label_smoothing: FiniteFloat = Field(
        0.0,
        ge=0,
        lt=1,
        description="share e by which a label moves towards the training mean of its task",
    )
    consistency: ConsistencyConfig = ConsistencyConfig()
    ranking: RankingConfig = RankingConfig()
    alignment: AlignmentConfig = AlignmentConfig()


class FixedConfig(Config):
    """Weight of each task under ``fixed``."""

    lip_sync: FiniteFloat = Field(1.0, ge=0, description="weight of lip_sync")
    expression: FiniteFloat = Field(1.0, ge=0, description="weight of expression")
    audio_quality: FiniteFloat = Field(1.0, ge=0, description="weight of audio_quality")
    cross_modal: FiniteFloat = Field(1.0, ge=0, description="weight of cross_modal")
    overall: FiniteFloat = Field(1.0, ge=0, description="weight of overall")

    @model_validator(mode="after")
    def _some_task_counts(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0: at least one task needs a weight above 0")
        return self


class LearnedConfig(Config):
    """Settings of ``learned``."""

    eps: FiniteFloat = Field(
        0.1,
        gt=0,
        le=1,
        description="least weight of a task; weights lie in (eps, 1 + eps). Not tiny: the loss "
        "pulls every weight down towards it",
    )


class UncertaintyConfig(Config):
    """Settings of ``uncertainty``."""

    lowest: FiniteFloat = Field(
        -5.0,
        le=0,
        description="least log variance; -5 is a deviation of 0.08 score points, a weight of 148. "
        "It keeps a task with next to no variance from taking over",
    )
    highest: FiniteFloat = Field(5.0, ge=0, description="largest log variance; a weight of 0.007")

    @model_validator(mode="after")
    def _some_room(self) -> Self:
        if self.lowest == self.highest:
            raise ValueError("lowest and highest are both 0: nothing is left to learn; use fixed")
        return self


class GradNormConfig(Config):
    """Settings of ``gradnorm``."""

    alpha: FiniteFloat = Field(
        1.0,
        ge=0,
        description="how strongly tasks that learn slowly are favoured; 0: equal gradient norms. "
        "At 1 all targets can be met at once; the paper takes 0.12 to 1.5",
    )
    learning_rate: FiniteFloat = Field(
        0.025, gt=0, le=1, description="step of the weights' own optimiser, relative to a weight"
    )


class WeightingConfig(Config):
    """How the losses of the five tasks become one (SPEC section 7)."""

    kind: WeightingKind = Field(
        "fixed",
        description="fixed: given weights; learned: sigmoid(a) + eps; uncertainty: "
        "exp(-s) loss + s; gradnorm: balanced gradient norms",
    )
    fixed: FixedConfig = FixedConfig()
    learned: LearnedConfig = LearnedConfig()
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    gradnorm: GradNormConfig = GradNormConfig()
