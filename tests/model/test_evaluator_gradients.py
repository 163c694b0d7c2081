import pytest
import torch
from torch import Tensor

from model.batch import STREAMS
from model.evaluator import Evaluator
from model.tasks import TASKS
from tests.model.evaluator_cases import FAMILIES, VARIANTS, build, clips, lacking, patchy


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request: pytest.FixtureRequest) -> Evaluator:
    return build(**VARIANTS[request.param]).eval()


# --- gradients


def test_every_parameter_takes_part_whatever_is_missing(variant: Evaluator) -> None:
    # Data-parallel training needs the same set of parameters on every rank.
    batch = clips(9, 4, 6)
    for given in (batch, lacking(batch, "audio"), lacking(batch, *STREAMS)):
        scores = variant(given).scores.sum()
        gradients = torch.autograd.grad(scores, list(variant.parameters()), allow_unused=True)
        assert all(g is not None for g in gradients)


def test_a_task_moves_its_own_head_and_no_other(variant: Evaluator) -> None:
    scores = variant(clips(9, 4, 6)).scores
    for i, task in enumerate(TASKS):
        for other in TASKS:
            gradients = torch.autograd.grad(
                scores[:, i].sum(), variant.head_parameters(other), retain_graph=True
            )
            assert any(g.ne(0).any() for g in gradients) is (other == task)


def test_parameters_are_split_into_trunk_and_heads(variant: Evaluator) -> None:
    groups = [variant.trunk_parameters(), *(variant.head_parameters(task) for task in TASKS)]
    ids = [id(p) for group in groups for p in group]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in variant.parameters()}


def test_shared_parameters_are_the_trunks_and_move_every_task(variant: Evaluator) -> None:
    shared = variant.shared_parameters()
    assert {id(p) for p in shared} <= {id(p) for p in variant.trunk_parameters()}
    scores = variant(clips(9, 4, 6)).scores
    for i in range(len(TASKS)):
        gradients = torch.autograd.grad(scores[:, i].sum(), shared, retain_graph=True)
        assert all(g.norm() > 0 for g in gradients)


@pytest.mark.parametrize("name", [n for n in VARIANTS if n != "auxiliary"])  # no such layers
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_no_gradient(name: str, dropout: float) -> None:
    settings = {**VARIANTS[name], "dropout": dropout, "modality_dropout": dropout}

    def gradients(checkpointing: bool) -> tuple[list[Tensor], int]:
        evaluator = build(**settings, gradient_checkpointing=checkpointing).train()
        torch.manual_seed(5)
        kept = 0

        def count(x: Tensor) -> Tensor:
            nonlocal kept
            kept += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            loss = evaluator(patchy(9, 4, 6)).scores.square().sum()
        loss.backward()
        return [p.grad for p in evaluator.parameters() if p.grad is not None], kept

    (plain, plain_kept), (recomputed, kept) = gradients(False), gradients(True)
    assert len(plain) == len(recomputed)
    for a, b in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert kept < 0.6 * plain_kept  # it does spare activations


def test_modality_dropout_acts_in_training_only_and_leaves_the_encoded_streams() -> None:
    batch = clips(*[6] * 32)
    evaluator = build(family="cross_modal_encoder", modality_dropout=0.2)
    plain = build(family="cross_modal_encoder")
    assert evaluator.eval()(batch).scores.equal(plain.eval()(batch).scores)
    torch.manual_seed(0)
    dropped, whole = evaluator.train()(batch), plain.train()(batch)
    changed = (dropped.scores - whole.scores).abs().amax(dim=1) > 1e-5
    assert 8 < changed.sum() < 30  # 1 - 0.8^4: 19 of 32 clips lose something on average
    for name, x in dropped.encoded.items():
        assert x.equal(whole.encoded[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_sequence_dropout_judges_whole_batches_by_the_auxiliary_vector(family: str) -> None:
    batch = clips(9, 4, 6)
    evaluator = build(family=family, aux=True, sequence_dropout=0.5)
    assert evaluator.eval()(batch).scores.equal(build(family=family, aux=True).eval()(batch).scores)
    assert evaluator.aux is not None
    assert batch.aux is not None
    alone = evaluator.aux(batch.aux, batch.aux_present)
    torch.manual_seed(0)
    drawn = [evaluator.train()(batch) for _ in range(40)]
    dropped = [p for p in drawn if p.embedding.equal(alone)]
    assert 10 < len(dropped) < 30
    trunk = list(evaluator.trunk.parameters())
    gradients = torch.autograd.grad(dropped[0].scores.sum(), trunk, allow_unused=True)
    assert all(g is None for g in gradients)
    assert set(dropped[0].encoded) == set(evaluator.config.streams)  # other losses go on
