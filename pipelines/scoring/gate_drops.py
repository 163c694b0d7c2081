"""Rules about drops against the baseline: one family of paired tests, corrected together."""

from math import ceil

from model.paired import RESOLUTION, MeanTest, holm
from pipelines.scoring.baseline import Change
from pipelines.scoring.gate_config import GateConfig, Rule
from pipelines.scoring.gate_rules import Corpus, Held

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
        (number, generator): _drop_verdict(rule, test, p, tested, absent=generator in change.absent)
        for (number, rule, generator), test, p in zip(asked, tests, corrected, strict=True)
    }


def _drop_verdict(
    rule: Rule,
    test: MeanTest,
    corrected: float | None,
    tested: int,
    *,
    absent: bool,
) -> Held:
    assert rule.max_drop is not None
    value, alpha = rule.max_drop.value, rule.max_drop.alpha
    if test.difference is None or corrected is None or test.least_p is None:
        if absent:
            return False, "only the baseline has this generator"
        return False, "no video of this scope has a score here and in the baseline"
    seen = f"mean change {test.difference:+.3f} over {test.n} videos in {test.clusters} units"
    least = min(1.0, test.least_p * tested)
    if least > alpha:
        passed = -test.difference <= value + RESOLUTION
        return passed, f"{seen}; too few to test (p cannot be below {least:.2g}): the mean decides"
    sign = "<=" if corrected <= alpha else ">"
    return corrected > alpha, f"{seen}; corrected p = {corrected:.2g} {sign} {alpha:g}"
