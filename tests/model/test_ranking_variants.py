"""Ranking within a source: pairs by severity, ties, labels that err."""

import itertools
import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from model.batch import ClipTargets, Variants
from model.loss_config import RankingConfig
from model.ranking import ranking_loss, tie_weights, variant_pairs

N = 3  # a task that both types harm, one that only type 1 harms, one that neither does
HARM = {-1: (0.0, 0.0, 0.0), 0: (3.0, 0.0, 0.0), 1: (2.0, 1.0, 0.0)}
KINDS = ["hinge", "logistic"]


def config_of(**more: Any) -> RankingConfig:
    return RankingConfig.model_validate({"pairs": "source", "weight": 1.0} | more)


def corpus(contents: int = 3, noise: float = 0.0, seed: int = 1) -> ClipTargets:
    """Each content: clean, and both types at 0.2, 0.6 and 1; at the end two of unknown origin."""
    rng = torch.Generator().manual_seed(seed)
    cells = [(-1, 0.0), *itertools.product((0, 1), (0.2, 0.6, 1.0))]
    kind = torch.tensor([k for k, _ in cells] * contents + [-1, -1])
    severity = torch.tensor([s for _, s in cells] * contents + [math.nan] * 2).double()
    content = torch.tensor([*itertools.chain(*([c] * len(cells) for c in range(contents))), -1, -1])
    harm = torch.tensor([HARM[int(k)] for k in kind]).double()
    harm[-2:] = math.nan
    values = 4.5 - harm.nan_to_num() * severity.nan_to_num()[:, None]
    values = values + noise * torch.randn(values.shape, generator=rng).double()
    weight = 0.2 + torch.rand(values.shape, generator=rng).double()
    valid = torch.ones_like(values, dtype=torch.bool)
    return ClipTargets(
        values,
        valid,
        weight,
        torch.arange(len(kind)),
        None,
        Variants(content, kind, severity, harm),
    )


def scores_for(targets: ClipTargets, seed: int = 2) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (1 + 4 * torch.rand(targets.values.shape, generator=rng).double()).requires_grad_()


def one_by_one(scores: Tensor, targets: ClipTargets, config: RankingConfig) -> float:
    """The definition, pair by pair, in plain numbers."""
    v = targets.variants
    assert v is not None
    total = count = tied = ties = 0.0
    for i, j, t in itertools.product(range(len(scores)), range(len(scores)), range(N)):
        if v.content[i] != v.content[j] or v.content[i] < 0 or i == j:
            continue
        if not (targets.valid[i, t] and targets.valid[j, t]):
            continue
        weight = math.sqrt(float(targets.weight[i, t] * targets.weight[j, t]))
        lead = float(scores[i, t] - scores[j, t])
        kinds = {int(v.type[i]), int(v.type[j])} - {-1}
        harms = {k: HARM[k][t] for k in kinds}
        if i < j and not any(harms.values()):
            tied, ties = tied + weight * lead**2, ties + weight
        step = float(v.severity[j] - v.severity[i])
        if len(kinds) != 1 or step < config.least_severity_step - 1e-6:
            continue
        (harm,) = harms.values()
        if harm <= config.least_difference:
            continue
        if config.kind == "hinge":
            cost = max(0.0, config.margin * harm * step - lead)
        else:
            cost = math.log1p(math.exp(-lead / config.scale))
        total, count = total + weight * cost, count + weight
    return total / count + config.tie_weight * tied / ties


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tie_weight", [0.0, 0.7])
@pytest.mark.parametrize("step", [0.1, 0.4, 0.5])
def test_agrees_with_the_definition_pair_by_pair(kind: str, tie_weight: float, step: float) -> None:
    config = config_of(kind=kind, tie_weight=tie_weight, least_severity_step=step)
    targets = corpus(noise=0.8)
    targets.valid[2, 0] = targets.valid[9, 1] = targets.valid[4, 2] = False
    targets.values[~targets.valid] = math.nan
    scores = scores_for(targets)
    expected = one_by_one(scores.detach(), targets, config)
    assert ranking_loss(scores, targets, config).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "hinge", "tie_weight": 1.0},
        {"kind": "logistic", "tie_weight": 0.5},
        {"kind": "logistic", "pairs": "all", "noise": 0.4},
    ],
)
def test_gradcheck(settings: dict[str, Any]) -> None:
    targets = corpus(1, noise=0.5)
    targets.valid[3, 0] = False
    error = torch.linspace(0, 1, targets.values.numel()).double().reshape(targets.values.shape)
    targets = replace(targets, error=torch.where(error > 0.8, torch.nan, error))
    config = config_of(**settings)
    assert torch.autograd.gradcheck(
        lambda s: ranking_loss(s, targets, config), [scores_for(targets)]
    )


def test_what_stands_alone_is_left_alone() -> None:
    """No pair across contents, none across types, none with what is not known."""
    targets = corpus()
    weights, gaps = variant_pairs(targets, config_of())
    v = targets.variants
    assert v is not None
    pair = weights > 0
    assert int(pair[..., 0].sum()) == 3 * 2 * 6  # 4 severities of a type make 6 pairs
    assert int(pair[..., 1].sum()) == 3 * 6
    assert int(pair[..., 2].sum()) == 0
    for i, j, _ in torch.nonzero(pair).tolist():
        assert v.content[i] == v.content[j]
        assert v.severity[i] < v.severity[j]
        assert v.type[i] in (-1, v.type[j])
    clean, worst = 0, 6  # of the first content; type 1 at severity 1
    assert gaps[clean, worst].tolist() == [2.0, 1.0, 0.0]
    scores = scores_for(targets)
    ranking_loss(scores, targets, config_of(tie_weight=1.0)).backward()
    assert scores.grad is not None
    assert (scores.grad[-2:] == 0).all()


def test_labels_that_contradict_the_severities_change_nothing() -> None:
    right, wrong = corpus(), corpus()
    wrong = replace(wrong, values=6 - wrong.values)
    scores = scores_for(right)
    for kind in KINDS:
        config = config_of(kind=kind, tie_weight=0.3)
        assert ranking_loss(scores, right, config) == ranking_loss(scores, wrong, config)
    assert ranking_loss(right.values, wrong, config_of()) == 0
    assert ranking_loss(wrong.values, wrong, config_of()) > 1


def test_ties_ask_for_equal_scores_of_spared_tasks_and_of_no_others() -> None:
    targets = corpus(1)
    config = config_of(tie_weight=1.0)
    weights = tie_weights(targets)
    assert int((weights[..., 2] > 0).sum()) == 7 * 6 / 2  # nobody harms it
    assert int((weights[..., 1] > 0).sum()) == 4 * 3 / 2  # clean and type 0
    assert int((weights[..., 0] > 0).sum()) == 0
    exact = targets.values.clone()
    assert ranking_loss(exact, targets, config) == 0
    exact[3, 2] -= 1  # a spared task of a damaged variant moves
    assert ranking_loss(exact, targets, config) > 0
    assert ranking_loss(exact, targets, config_of()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_compare_gives_zero_without_gradient(kind: str) -> None:
    targets = corpus()
    assert targets.variants is not None
    lonely = replace(targets.variants, content=torch.arange(len(targets.values)))
    unknown = replace(targets.variants, harm=torch.full_like(targets.values, torch.nan))
    for variants in (None, lonely, unknown):
        scores = scores_for(targets)
        value = ranking_loss(
            scores, replace(targets, variants=variants), config_of(kind=kind, tie_weight=1.0)
        )
        value.backward()
        assert value == 0
        assert scores.grad is not None
        assert (scores.grad == 0).all()
    none = ClipTargets(
        *(x[:0] for x in (targets.values, targets.valid, targets.weight, targets.group))
    )
    assert ranking_loss(torch.zeros(0, N), none, config_of(kind=kind)) == 0


def test_a_source_counts_the_same_however_many_clips_it_has() -> None:
    targets = corpus(2)
    v = targets.variants
    assert v is not None
    first = (v.content == 0).nonzero().flatten()
    again = torch.cat([first, first, first, torch.arange(len(v.content))[len(first) :]])
    content = v.content[again].clone()
    content[: len(first)], content[len(first) : 2 * len(first)] = 10, 11  # other clips of it
    weight = torch.ones_like(targets.values)[again]
    weight[: 3 * len(first)] /= 3
    many = ClipTargets(
        targets.values[again],
        targets.valid[again],
        weight,
        targets.group[again],
        None,
        Variants(content, v.type[again], v.severity[again], v.harm[again]),
    )
    one = replace(targets, weight=torch.ones_like(targets.values))
    scores, config = scores_for(targets), config_of(tie_weight=0.5)
    torch.testing.assert_close(
        ranking_loss(scores[again], many, config), ranking_loss(scores, one, config)
    )


# --- labels that err


def two(gap: float, errors: tuple[float, float]) -> ClipTargets:
    values = torch.tensor([[3.0 + gap], [3.0]], dtype=torch.float64)
    return ClipTargets(
        values,
        torch.ones(2, 1, dtype=torch.bool),
        torch.ones(2, 1).double(),
        torch.arange(2),
        torch.tensor(errors, dtype=torch.float64)[:, None],
    )


def test_an_uncertain_pair_is_happiest_where_the_evaluator_doubts_as_much() -> None:
    """The minimum lies where sigmoid(d / scale) is the probability of the order."""
    config = RankingConfig(kind="logistic", noise=0.3, scale=0.5)
    for gap, errors in ((0.5, (0.4, 0.2)), (1.0, (0.0, math.nan)), (0.3, (0.6, 0.6))):
        known = [e for e in errors if not math.isnan(e)]
        spread = math.sqrt(0.3**2 + sum(e**2 for e in known))
        p = NormalDist().cdf(gap / spread)
        lead = 0.5 * math.log(p / (1 - p))
        scores = torch.tensor([[3.0 + lead], [3.0]], dtype=torch.float64, requires_grad=True)
        value = ranking_loss(scores, two(gap, errors), config)
        value.backward()
        entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
        assert value.item() == pytest.approx(entropy, rel=1e-9)
        assert scores.grad is not None
        assert scores.grad.abs().max() < 1e-9


def test_without_noise_the_better_one_is_better_for_certain() -> None:
    scores = torch.tensor([[3.4], [3.0]], dtype=torch.float64)
    value = ranking_loss(scores, two(0.5, (0.4, 0.4)), RankingConfig(kind="logistic"))
    assert value.item() == pytest.approx(math.log1p(math.exp(-0.4 / 0.5)), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 0.3}, "kind: logistic"),
        ({"noise": 0.3, "kind": "logistic", "pairs": "source"}, "pairs: all"),
        ({"tie_weight": 0.3}, "pairs: source"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RankingConfig.model_validate(settings)


def test_severities_teach_an_order_that_noisy_labels_hide() -> None:
    """Few sources, many features, labels wrong by more than a step: the order is learned from
    severities, not from labels, and holds on sources that were not seen."""
    rng = torch.Generator().manual_seed(5)
    direction = torch.randn(24, generator=rng).double()

    def features(sources: int) -> tuple[Tensor, Tensor, Tensor]:
        content = torch.arange(sources).repeat_interleave(6)
        severity = torch.linspace(0, 1, 6).double().repeat(sources)
        own = torch.randn(sources, 24, generator=rng).double()[content]  # what a source looks like
        noise = torch.randn(len(severity), 24, generator=rng).double()
        return own + severity[:, None] * direction + 0.2 * noise, content, severity

    x, content, severity = features(12)
    labels = 4.5 - 2 * severity + 1.5 * torch.randn(len(severity), generator=rng).double()
    targets = ClipTargets(
        labels[:, None],
        torch.ones(len(x), 1, dtype=torch.bool),
        torch.ones(len(x), 1).double(),
        torch.arange(len(x)),
        None,
        Variants(
            content,
            torch.where(severity > 0, 0, -1),
            severity,
            torch.where(severity > 0, 2.0, 0.0)[:, None].double(),
        ),
    )
    unseen, unseen_content, unseen_severity = features(60)

    def order_kept(config: RankingConfig) -> float:
        weights = torch.zeros(24, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.1)
        for _ in range(50):
            optimizer.zero_grad()
            loss = ranking_loss((x @ weights)[:, None], targets, config)
            (loss + 1e-3 * weights.square().sum()).backward()
            optimizer.step()
        found = (unseen @ weights).detach()
        better = (unseen_content[:, None] == unseen_content) & (
            unseen_severity[:, None] < unseen_severity - 1e-9
        )
        return float((found[:, None] > found)[better].double().mean())

    by_labels = order_kept(RankingConfig(kind="logistic"))
    by_severity = order_kept(RankingConfig(kind="logistic", pairs="source"))
    assert by_severity > 0.97
    assert by_severity > by_labels + 0.05
