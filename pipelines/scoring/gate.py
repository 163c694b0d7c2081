"""The release gate: rules held against a scored corpus; each says what it saw."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.types import DEMONSTRATION_WEIGHTS
from model.paired import RESOLUTION
from pipelines.scoring.baseline import Change
from pipelines.scoring.errors import ScoreInputError
from pipelines.scoring.gate_config import EACH, GateConfig
from pipelines.scoring.gate_drops import judge_drops
from pipelines.scoring.gate_rules import Corpus, Held, at_most, named, per_cent
from pipelines.scoring.leaderboard import LeaderboardConfig, scores_of

if TYPE_CHECKING:
    import pyarrow as pa

LINES = 30  # of the text: one screen


@dataclass(frozen=True)
class GateFacts:
    """What a gate judges.

    Attributes:
        videos: Rows of :func:`pipelines.scoring.columns.video_schema` of this run's corpus.
        corpus: Videos that the corpus has.
        failed: Videos of the corpus that could not be scored, now or before.
        demonstration: Whether the checkpoint reads features of seeded weights.
        change: Against the baseline, None without one.
        config: Units, level, resamples, permutations, seed, as in the leaderboard.
    """

    videos: "pa.Table"
    corpus: int
    failed: int
    demonstration: bool
    change: Change | None = None
    config: LeaderboardConfig = field(default_factory=LeaderboardConfig)


@dataclass(frozen=True)
class Verdict:
    """One rule: in words, whether it holds, and the numbers that say so."""

    rule: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class GateResult:
    """All verdicts; passed when every one is."""

    passed: bool
    verdicts: list[Verdict]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"passed": self.passed, "verdicts": [asdict(v) for v in self.verdicts]}

    def text(self) -> str:
        """Return the result on one screen, failed rules first."""
        failed = [v for v in self.verdicts if not v.passed]
        total = len(self.verdicts)
        ordered = sorted(self.verdicts, key=lambda v: v.passed)
        lines = [f"gate FAILED: {len(failed)} of {total} rules" if failed
                 else f"gate passed: {total} rules"]  # fmt: skip
        lines += [
            f"  {'pass' if v.passed else 'FAIL'}  {v.rule}: {v.reason}" for v in ordered[:LINES]
        ]
        if more := ordered[LINES:]:
            bad = sum(not v.passed for v in more)
            lines.append(f"  and {bad} more failed, {len(more) - bad} more passed")
        return "\n".join(lines)


def check_gate(gate: GateConfig, *, with_baseline: bool) -> None:
    """Refuse rules that cannot be judged.

    Raises:
        ScoreInputError: A rule needs a baseline and there is none.
    """
    if with_baseline:
        return
    for number, rule in enumerate(gate.rules):
        if rule.max_drop is not None:
            raise ScoreInputError(
                f"gate: rules.{number} ({rule.words}) compares with a baseline: give one with "
                "--baseline URI, or leave the rule out"
            )


def judge(gate: GateConfig, facts: GateFacts) -> GateResult:
    """Hold every rule against a run.

    A rule that has nothing to judge (a generator that is absent, no scores, no interval) fails
    with that reason. docs/gate.md defines each rule.

    Raises:
        ScoreInputError: A rule needs a baseline and there is none.
    """
    check_gate(gate, with_baseline=facts.change is not None)
    verdicts = _of_the_run(gate, facts)
    absent = [] if facts.change is None else facts.change.absent
    corpus = Corpus(facts.videos, facts.config, absent)
    drops = judge_drops(gate, facts.change, corpus)
    for number, rule in enumerate(gate.rules):
        for generator in corpus.scopes(rule):
            name = rule.words if generator is None else f"{named(generator)}, {rule.words}"
            if generator == EACH:
                verdict = False, "there is no video, so no generator"
            elif rule.max_drop is not None:
                verdict = drops[number, generator]
            else:
                verdict = corpus.judge(rule, generator)
            verdicts.append(Verdict(name, *verdict))
    return GateResult(all(v.passed for v in verdicts), verdicts)


def _of_the_run(gate: GateConfig, facts: GateFacts) -> list[Verdict]:
    """Judge what is not about a score: numbers of videos, seeded weights, novelty."""
    videos, corpus = facts.videos, facts.corpus
    scored = _scored(videos)
    found = [
        Verdict(
            f"at least {gate.min_videos} videos with scores",
            scored >= gate.min_videos,
            f"{scored} have scores",
        )
    ]
    seeded = facts.demonstration or True in videos["demonstration"].to_pylist()
    if seeded or not gate.allow_demonstration:
        reason = f"the scores come from {DEMONSTRATION_WEIGHTS} and mean nothing for real quality"
        if seeded and gate.allow_demonstration:
            reason += "; allow_demonstration lets them pass"
        found.append(
            Verdict(
                "no demonstration",
                not seeded or gate.allow_demonstration,
                reason if seeded else "no demonstration weights",
            )
        )
    no_corpus = False, "the corpus has no video"
    if gate.max_failure_share is not None:
        limit = gate.max_failure_share
        held = at_most(facts.failed, corpus, limit, "failed") if corpus else no_corpus
        found.append(Verdict(f"at most {per_cent(limit)} of the corpus failed", *held))
    if gate.min_coverage is not None:
        share = scored / corpus if corpus else 0.0
        reason = f"{scored} of {corpus} ({per_cent(share)}) have scores"
        enough = share >= gate.min_coverage - RESOLUTION, reason
        rule = f"at least {per_cent(gate.min_coverage)} of the corpus scored"
        found.append(Verdict(rule, *(enough if corpus else no_corpus)))
    if gate.max_ood_share is not None:
        rule = f"at most {per_cent(gate.max_ood_share)} of videos unlike the training set"
        found.append(Verdict(rule, *_novelty(videos, gate.max_ood_share)))
    return found


def _novelty(videos: "pa.Table", limit: float) -> Held:
    flags = [flag for flag in videos["ood"].to_pylist() if flag is not None]
    if not flags:
        return False, "it is known of no video: the checkpoint has no measure of it, or no video"
    return at_most(sum(flags), len(flags), limit, "are, of those where it is known")


def _scored(videos: "pa.Table") -> int:
    return int((~np.isnan(scores_of(videos))).any(axis=1).sum())
