"""Rules about drops against the baseline: one family of paired tests, corrected together."""

from math import ceil, log2

import numpy as np

from model.paired import MeanTest, holm
from model.tasks import TASKS
from pipelines.scoring.baseline import Change
from pipelines.scoring.gate_config import Drop, GateConfig, Rule
from pipelines.scoring.gate_rules import Corpus, Held, too_few

MOST_PERMUTATIONS = 1_000_000


def judge_drops(
    gate: GateConfig, change: Change | None, corpus: Corpus
) -> dict[tuple[int, str | None], Held]:
    """Test all drop rules together: verdict and reason by number of the rule and generator."""
    asked = [
        (number, rule, generator)
        for number, rule in enumerate(gate.rules)
        if rule.max_drop is not None
        for generator in corpus.scopes(rule)
    ]
    if change is None or not asked:
        return {}
    alphas = [rule.max_drop.alpha for _, rule, _ in asked if rule.max_drop is not None]
    # Enough permutations that the smallest p-value survives the correction.
    permutations = max(
        change.config.permutations, min(MOST_PERMUTATIONS, ceil(2 * len(asked) / min(alphas)))
    )
    tests: list[MeanTest] = []
    for _, rule, generator in asked:
        assert rule.task is not None
        assert rule.max_drop is not None
        tests.append(
            change.test(
                rule.task,
                generator,
                delta=-rule.max_drop.value,
                alternative="less",
                permutations=permutations,
            )
        )
    tested = sum(test.p is not None for test in tests)
    corrected = holm([test.p for test in tests])
    return {
        (number, generator): (
            _unknown(change, rule, test, generator)
            or _verdict(rule, test, p or 0.0, tested, permutations)
        )
        for (number, rule, generator), test, p in zip(asked, tests, corrected, strict=True)
    }


def _unknown(change: Change, rule: Rule, test: MeanTest, generator: str | None) -> Held | None:
    """Say that a rule has nothing to judge, or too little of what the baseline had."""
    assert rule.task is not None
    if generator in change.absent:
        return False, "only the baseline has this generator"
    if test.p is None:
        return False, "no video of this scope has a score here and in the baseline"
    rows = slice(None) if generator is None else change.generators == generator
    had = int((~np.isnan(change.before[rows, TASKS.index(rule.task)])).sum())
    few = too_few(test.n, had, rule.least_share)
    return None if few is None else (False, f"{few} with a score in the baseline have one here")


def _verdict(rule: Rule, test: MeanTest, corrected: float, tested: int, permutations: int) -> Held:
    """Hold the corrected p of a test against the rule's alpha."""
    assert rule.max_drop is not None
    assert test.difference is not None
    alpha = rule.max_drop.alpha
    seen = f"mean change {test.difference:+.3f} over {test.n} videos in {test.clusters} units"
    if corrected <= alpha:
        return False, f"{seen}; corrected p = {corrected:.2g} <= {alpha:g}"
    # Less than this no outcome could give, whatever the other tests say.
    if (test.least_p or 0.0) * tested > alpha:
        return rule.max_drop.untestable == "pass", (
            f"cannot be tested: {_units(test, rule.max_drop, tested, permutations)}; {seen}"
        )
    return True, f"{seen}; corrected p = {corrected:.2g} > {alpha:g}"


def _units(test: MeanTest, limit: Drop, tested: int, permutations: int) -> str:
    """Say how many units a test needs for the smallest corrected p to be at most its alpha."""
    needed = ceil(log2(tested / limit.alpha))
    among = f" among {tested} drop tests" if tested > 1 else ""
    if test.clusters >= needed:
        return f"{permutations:,} permutations are too few for alpha {limit.alpha:g}{among}"
    units = "1 unit" if test.clusters == 1 else f"{test.clusters} units"
    return (
        f"{units} cannot show a drop of more than {limit.value:g} at alpha {limit.alpha:g}{among}; "
        f"at least {needed} are needed"
    )
