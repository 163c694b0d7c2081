"""Chains of artefacts: their text, what they may not be, their digest, the scores they earn."""

import json
import math
import random

import pytest

from actors.artefacts.chain import (
    CLEAN_SCORE,
    Chain,
    Step,
    chain_digest,
    chain_text,
    parse_chain,
    target_scores,
)
from actors.artefacts.registry import ARTEFACTS
from model.tasks import HIGH, LOW, TASKS

PARTS = [task for task in TASKS if task != "overall"]
DONOR = "/corpus/ada 1/é\"'\\?.mp4"


def step(name: str, severity: float, seed: int = 0) -> Step:
    return Step(name, severity, seed, DONOR if ARTEFACTS[name].needs_donor else None)


def test_the_registry_is_whole_and_in_order() -> None:
    assert all(artefact.type == name for name, artefact in ARTEFACTS.items())
    groups = [artefact.group for artefact in ARTEFACTS.values()]
    assert list(dict.fromkeys(groups)) == ["sound", "sync", "picture", "face"]
    assert sorted(groups, key=["sound", "sync", "picture", "face"].index) == groups
    for artefact in ARTEFACTS.values():
        assert artefact.harms
        assert "overall" not in artefact.harms
        assert all(0 < points <= CLEAN_SCORE - LOW for points in artefact.harms.values())


def test_texts_round_trip() -> None:
    rng = random.Random(1)
    for length in (0, 1, 2, 5):
        names = rng.sample(sorted(ARTEFACTS), length)
        chain = tuple(step(n, rng.randrange(1001) / 1000, rng.randrange(2**40)) for n in names)
        text = chain_text(chain)
        assert parse_chain(text) == chain
        assert chain_text(parse_chain(text)) == text
        assert [s["type"] for s in json.loads(text)] == names
    assert chain_text(()) == "[]"


def test_equal_chains_have_one_text() -> None:
    written = ['[{"type": "blur", "severity": 1, "seed": 0}]', '[{"severity":1.0,"type":"blur"}]']
    assert len({chain_text(parse_chain(text)) for text in written}) == 1
    assert len({chain_digest(parse_chain(text)) for text in written}) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[", "not JSON"),
        ("{}", "expected a JSON list of objects"),
        ("[1]", "expected a JSON list of objects"),
        ('"noise"', "expected a JSON list of objects"),
        ('[{"severity": 1}]', "'type' is missing"),
        ('[{"type": "blur"}]', "'severity' is missing"),
        ('[{"type": "blur", "severity": 1, "sed": 2}]', "'sed' is unknown"),
        ('[{"type": "blurr", "severity": 1}]', "unknown artefact 'blurr': known are noise"),
        ('[{"type": ["blur"], "severity": 1}]', "unknown artefact"),
        ('[{"type": null, "severity": 1}]', "unknown artefact"),
        ('[{"type": "blur", "severity": "1"}]', "a severity lies in"),
        ('[{"type": "blur", "severity": true}]', "a severity lies in"),
        ('[{"type": "blur", "severity": null}]', "a severity lies in"),
        ('[{"type": "blur", "severity": NaN}]', "a severity lies in"),
        ('[{"type": "blur", "severity": 1.01}]', "a severity lies in"),
        ('[{"type": "blur", "severity": -0.1}]', "a severity lies in"),
        ('[{"type": "blur", "severity": 1, "seed": -1}]', "a seed is a whole number"),
        ('[{"type": "blur", "severity": 1, "seed": 1.5}]', "a seed is a whole number"),
        ('[{"type": "blur", "severity": 1, "seed": true}]', "a seed is a whole number"),
        ('[{"type": "blur", "severity": 1, "donor": "/a.mp4"}]', "takes no donor"),
        ('[{"type": "foreign_sound", "severity": 1}]', "needs the URI of a donor"),
        ('[{"type": "foreign_sound", "severity": 1, "donor": 5}]', "needs the URI of a donor"),
        ('[{"type": "foreign_sound", "severity": 1, "donor": ""}]', "needs the URI of a donor"),
        ('[{"type": "blur", "severity": 1, "donor_version": "1"}]', "stands beside a donor"),
    ],
)
def test_what_is_no_chain_is_said(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_chain(text)


def test_one_artefact_takes_its_points_times_the_severity() -> None:
    assert target_scores(()) == dict.fromkeys(TASKS, CLEAN_SCORE)
    for name, artefact in ARTEFACTS.items():
        for severity in (0.0, 0.25, 1.0):
            scores = target_scores([step(name, severity)])
            for task in PARTS:
                expected = CLEAN_SCORE - severity * artefact.harms.get(task, 0.0)
                assert scores[task] == pytest.approx(expected)


def test_several_artefacts_multiply_what_is_left_and_never_pass_the_lowest_score() -> None:
    chain = [step("noise", 0.5), step("clipping", 0.8), step("blur", 1.0)]
    left = (1 - 0.5 * ARTEFACTS["noise"].harms["audio_quality"] / 3.5) * (
        1 - 0.8 * ARTEFACTS["clipping"].harms["audio_quality"] / 3.5
    )
    scores = target_scores(chain)
    assert scores["audio_quality"] == pytest.approx(1 + 3.5 * left)
    assert scores["expression"] == pytest.approx(4.5 - ARTEFACTS["blur"].harms["expression"])
    assert scores == pytest.approx(target_scores(reversed(chain)))
    rng = random.Random(2)
    for _ in range(200):
        chain = [step(rng.choice(sorted(ARTEFACTS)), rng.random()) for _ in range(6)]
        scores = target_scores(chain)
        assert list(scores) == [*PARTS, "overall"] or set(scores) == set(TASKS)
        assert all(LOW <= score <= HIGH for score in scores.values())
        more = target_scores([*chain, step("offset", 0.5)])
        assert all(more[task] <= scores[task] + 1e-12 for task in TASKS)


def test_overall_is_half_the_worst_and_half_the_mean() -> None:
    scores = target_scores([step("offset", 1.0), step("noise", 0.4)])
    parts = [scores[task] for task in PARTS]
    assert scores["overall"] == pytest.approx(0.5 * min(parts) + 0.5 * sum(parts) / 4)
    assert scores["overall"] < CLEAN_SCORE


def test_the_digest_tells_chains_and_versions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    chains: list[Chain] = [
        (),
        (step("blur", 0.2),),
        (step("blur", 0.4),),
        (step("blur", 0.2, 1),),
        (step("flicker", 0.2),),
        (step("blur", 0.2), step("flicker", 0.2)),
        (step("flicker", 0.2), step("blur", 0.2)),
        (step("foreign_sound", 0.2),),
        (Step("foreign_sound", 0.2, 0, "/other.mp4"),),
    ]
    before = [chain_digest(chain) for chain in chains]
    assert len(set(before)) == len(chains)
    assert before == [chain_digest(chain) for chain in chains]
    monkeypatch.setattr(type(ARTEFACTS["blur"]), "version", "changed")
    after = [chain_digest(chain) for chain in chains]
    changed = [any(s.type == "blur" for s in chain) for chain in chains]
    assert [a != b for a, b in zip(after, before, strict=True)] == changed


def test_names_of_files_that_are_no_text_are_no_obstacle() -> None:
    """A disk has such names; a donor may be one of them."""
    chain = (Step("foreign_sound", 0.5, 3, "/corpus/\udcff.mp4"),)
    assert parse_chain(chain_text(chain)) == chain
    chain_text(chain).encode()
    assert chain_digest(chain)


def test_measures_are_finite_numbers_with_units() -> None:
    for artefact in ARTEFACTS.values():
        for severity in (0.05, 0.5, 1.0):
            measures = artefact.measures(severity)
            assert measures
            assert all(math.isfinite(value) for value in measures.values())
        assert artefact.measures(0.05).keys() == artefact.measures(1.0).keys()
        assert artefact.measures(0.05) != artefact.measures(1.0)
