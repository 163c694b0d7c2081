"""Dealing: which variants are made of which source, and on which side of the split."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from actors.artefacts.chain import CLEAN_SCORE, chain_digest, target_scores
from actors.artefacts.registry import ARTEFACTS
from pipelines.degrading.config import SIDES
from pipelines.degrading.plan import DegradeInputError, read_text
from tests.pipelines.degrading.sources import ALL_TEST, ALL_TRAIN, dealt, sources

SEVERITIES = (0.2, 0.4, 0.6, 0.8, 1.0)


def test_without_counts_every_type_comes_at_every_severity_once_beside_the_clean_one() -> None:
    for plan in dealt(sources(3), **ALL_TEST).values():
        clean, *rest = plan.variants
        assert (clean.type, clean.name, clean.chain, clean.severity) == ("clean", "clean", (), 0.0)
        assert clean.generator == "clean"
        assert set(clean.scores().values()) == {CLEAN_SCORE}
        assert [(v.type, v.severity) for v in rest] == [
            (n, s) for n in ARTEFACTS for s in SEVERITIES
        ]
        for variant in rest:
            (step,) = variant.chain
            assert (step.type, step.severity) == (variant.type, variant.severity)
            assert variant.name == f"{step.type}-{round(1000 * step.severity):03d}"
            assert variant.video_id == f"{plan.source.video_id}/{variant.name}"
            assert (variant.group, variant.generator) == (ARTEFACTS[step.type].group, step.type)
            assert variant.scores() == target_scores(variant.chain)


def test_severities_of_a_type_share_the_seed_and_nothing_else_does() -> None:
    seeds = {
        (source, v.type): {step.seed for w in plan.variants if w.type == v.type for step in w.chain}
        for source, plan in dealt(sources(5), **ALL_TEST).items()
        for v in plan.variants[1:]
    }
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set().union(*seeds.values())) == 5 * len(ARTEFACTS)
    plans = dealt(sources(2), seed=1, **ALL_TEST).values()
    other = {step.seed for plan in plans for v in plan.variants for step in v.chain}
    assert not other & set().union(*seeds.values())


def test_a_source_is_dealt_alike_in_any_order_and_any_company() -> None:
    refs = sources(40, speakers=4)
    combined = {"combinations": {"per_source": 2}}
    shuffled = refs.copy()
    random.Random(1).shuffle(shuffled)
    for some in ({}, {"per_source": {"train": 9, "val": 4}}):
        assert dealt(shuffled, **some, **combined) == dealt(refs, **some, **combined)
    alone = dealt(refs[::2], leave_out=["foreign_sound"], **combined)
    full = dealt(refs, leave_out=["foreign_sound"], **combined)
    assert alone == {name: full[name] for name in alone}
    moved = dealt([replace(ref, version="2") for ref in refs], **combined)
    for plan, other in zip(moved.values(), dealt(refs, **combined).values(), strict=True):
        assert plan.text() == other.text()  # where and what it is decides, not when it was changed


def test_counts_are_dealt_evenly_over_types_and_severities() -> None:
    for wanted, count in ((30, 40), (7, 60), (1, 120), (119, 24)):
        plans = dealt(sources(count), per_source={"train": wanted}, **ALL_TRAIN)
        cells: Counter[tuple[str, float]] = Counter()
        for plan in plans.values():
            steps = [(s.type, s.severity) for v in plan.variants[1:] for s in v.chain]
            assert len(steps) == len(set(steps)) == wanted
            turns = Counter(name for name, _ in steps)
            if wanted < 100:
                assert max(turns.values()) - min(turns[name] for name in ARTEFACTS) <= 1
            names = [name for name, _ in steps]
            assert list(dict.fromkeys(names)) == [name for name in ARTEFACTS if name in turns]
            cells.update(steps)
        assert len(cells) == len(ARTEFACTS) * len(SEVERITIES)
        assert max(cells.values()) - min(cells.values()) <= 2, (wanted, count)


def test_more_than_there_is_gives_all_and_none_gives_the_clean_one() -> None:
    everything = dealt(sources(2), **ALL_TRAIN)
    assert dealt(sources(2), per_source={"train": 10_000}, **ALL_TRAIN) == everything
    for plan in dealt(sources(2), per_source={"train": 0}, **ALL_TRAIN).values():
        assert [v.type for v in plan.variants] == ["clean"]


def test_types_may_have_severities_of_their_own() -> None:
    values = {"artefacts": {"noise": {"severities": [0.05, 0.125]}, "blur": None}}
    for plan in dealt(sources(2), **values, **ALL_TEST).values():
        names = [v.name for v in plan.variants]
        blurred = [f"blur-{share}" for share in (200, 400, 600, 800, 1000)]
        assert names == ["clean", "noise-050", "noise-125", *blurred]


def test_held_out_and_blind_types_are_in_the_test_split_alone() -> None:
    held, blind = {"dropouts", "blur"}, {"flattened"}
    chosen = {name: {"held_out": True} for name in held}
    chosen |= {name: {"blind": "not to be seen"} for name in blind}
    values = {
        "artefacts": dict.fromkeys(ARTEFACTS) | chosen,
        "combinations": {"per_source": 6, "of": 3},
    }
    plans = dealt(sources(120), **values)
    seen: dict[str, set[str]] = {side: set() for side in SIDES}
    for plan in plans.values():
        for variant in plan.variants:
            types = {step.type for step in variant.chain}
            seen[plan.side] |= types
            assert variant.side == plan.side
            assert variant.held_out == bool(types & held)
    assert seen["test"] == set(ARTEFACTS)
    assert seen["train"] == seen["val"] == set(ARTEFACTS) - held - blind


def test_donors_come_from_the_same_side_and_person_and_are_somebody_else() -> None:
    for speakers in (0, 7):
        refs = sources(80, speakers)
        plans = dealt(refs, artefacts={"foreign_sound": None})
        by_uri = {ref.uri: ref for ref in refs}
        for plan in plans.values():
            donors = {s.donor for v in plan.variants for s in v.chain if s.donor is not None}
            assert len(donors) == 1
            donor = by_uri[donors.pop()]
            assert donor.video_id != plan.source.video_id
            assert plans[donor.video_id].side == plan.side
            company = [
                p for p in plans.values()
                if p.side == plan.side and p.source.speaker == plan.source.speaker
            ]  # fmt: skip
            if speakers and len(company) > 1:
                assert donor.speaker == plan.source.speaker


def test_a_new_source_changes_one_donor_of_its_side_at_most() -> None:
    def donors(count: int) -> dict[str, str | None]:
        plans = dealt(sources(count), artefacts={"foreign_sound": None}, **ALL_TEST)
        return {name: plan.variants[1].chain[0].donor for name, plan in plans.items()}

    for few, more in pairwise(donors(count) for count in range(10, 20)):
        assert sum(more[name] != few[name] for name in few) == 1


def test_a_source_alone_on_its_side_goes_without_foreign_sound() -> None:
    refs = sources(5)
    assign = {ref.video_id: "train" for ref in refs} | {"v0003": "test"}
    plans = dealt(refs, splits={"assign": assign})
    needy = tuple(name for name, artefact in ARTEFACTS.items() if artefact.needs_donor)
    assert needy
    for name, plan in plans.items():
        assert plan.without_donor == (needy if name == "v0003" else ())
        assert (needy[0] in {v.type for v in plan.variants}) == (name != "v0003")


def test_sides_follow_the_shares_and_the_salt() -> None:
    plans = dealt(sources(2000), artefacts={"blur": None})
    counts = Counter(plan.side for plan in plans.values())
    assert [counts[side] / 2000 for side in SIDES] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)
    other = dealt(sources(2000), artefacts={"blur": None}, splits={"salt": 1})
    assert {n: p.side for n, p in other.items()} != {n: p.side for n, p in plans.items()}
    more = dealt(sources(2100), artefacts={"blur": None})
    assert all(more[name].side == plan.side for name, plan in plans.items())


def test_a_person_is_on_one_side() -> None:
    plans = dealt(sources(150, speakers=40), artefacts={"blur": None}, splits={"by": "speaker"})
    side: dict[str | None, set[str]] = {}
    for plan in plans.values():
        side.setdefault(plan.source.speaker, set()).add(plan.side)
    assert {len(found) for found in side.values()} == {1}
    assert {next(iter(found)) for found in side.values()} == set(SIDES)


def test_all_variants_of_a_source_are_on_its_side() -> None:
    for plan in dealt(sources(100), combinations={"per_source": 3}).values():
        assert {v.side for v in plan.variants} == {plan.side}
        assert {v.source for v in plan.variants} == {plan.source}


def test_sources_and_speakers_may_be_assigned() -> None:
    refs = sources(60, speakers=6)
    plans = dealt(
        refs,
        artefacts={"blur": None},
        splits={"assign": {"s2": "test", "v0002": "val", "v0001": "test"}},
    )
    assert plans["v0001"].side == "test"
    assert plans["v0002"].side == "val"  # the source wins over its speaker
    assert {plans[f"v{i:04d}"].side for i in range(8, 60, 6)} == {"test"}
    hashed = dealt(refs, artefacts={"blur": None})
    assert all(plans[n].side == hashed[n].side for n in plans if int(n[1:]) % 6 not in (1, 2))


@pytest.mark.parametrize(
    ("values", "count", "says"),
    [
        ({"splits": {"assign": {"ghost": "test"}}}, 9, "splits.assign names ghost, which is no"),
        ({"splits": {"by": "speaker"}}, 9, "v0000 has none: give --pattern"),
        ({}, 1, "has only 1 source"),
        ({"splits": {"shares": (0.5, 0.5, 0)}}, 1, "has only 1 source"),
    ],
)
def test_what_cannot_be_split_is_said(values: dict[str, object], count: int, says: str) -> None:
    with pytest.raises(DegradeInputError, match=says):
        dealt(sources(count), **values)


def test_names_in_messages_are_safe_to_show() -> None:
    refs = [replace(ref, video_id=f"a\n\x1b[31m{i}") for i, ref in enumerate(sources(9))]
    with pytest.raises(DegradeInputError) as error:
        dealt(refs, splits={"by": "speaker"})
    assert "\x1b" not in str(error.value)
    with pytest.raises(DegradeInputError) as error:
        dealt(refs, splits={"assign": {"\x1b[31m": "test"}})
    assert "\x1b" not in str(error.value)


def test_combinations_are_of_different_types_and_never_twice_the_same() -> None:
    values = {"combinations": {"per_source": 20, "of": 2}}
    small = {"artefacts": dict.fromkeys(["noise", "blur", "seam"]), "severities": [0.4, 0.8, 1.0]}
    for plan in dealt(sources(60), **values, **small, **ALL_TEST).values():
        combined = [v for v in plan.variants if v.type == "combination"]
        assert len(combined) == 20  # of 27 that there are
        assert plan.combinations_short == 0
        assert len({v.video_id for v in plan.variants}) == len(plan.variants)
        for variant in combined:
            types = [step.type for step in variant.chain]
            groups = [ARTEFACTS[name].group for name in types]
            # The face is found in the clean pictures: it must still be where it was.
            assert groups == sorted(groups, key=["sound", "sync", "face", "picture"].index)
            assert len(set(types)) == 2
            assert (variant.severity, variant.group) == (None, None)
            assert variant.generator == "+".join(types)
            assert variant.scores() == target_scores(variant.chain)
    one = {"artefacts": {"noise": None, "blur": None}, "severities": [0.5]}
    for plan in dealt(sources(9), **values, **one, **ALL_TEST).values():
        assert [v.type for v in plan.variants].count("combination") == 1, "there is no other"
        assert plan.combinations_short == 19
    alone = {"artefacts": {"noise": None, "blur": {"held_out": True}}}
    for plan in dealt(sources(9), **values, **alone, **ALL_TRAIN).values():
        assert "combination" not in {v.type for v in plan.variants}
        assert plan.combinations_short == 20


def test_the_text_of_a_plan_round_trips_and_its_version_follows_what_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"combinations": {"per_source": 2}} | ALL_TEST
    plans = dealt(sources(4), **values)
    for plan in plans.values():
        assert read_text(plan.text()) == [(v.name, v.chain) for v in plan.variants]
    versions = {name: plan.version() for name, plan in plans.items()}
    assert len(set(versions.values())) == 4
    assert versions == {n: p.version() for n, p in dealt(sources(4), **values).items()}
    more = dealt(sources(4), severities=[0.3, 1.0], **values)
    assert all(more[name].version() != versions[name] for name in versions)
    before = {v.name: chain_digest(v.chain) for v in plans["v0000"].variants}
    monkeypatch.setattr(type(ARTEFACTS["blur"]), "version", "changed")
    after = {v.name: chain_digest(v.chain) for v in plans["v0000"].variants}
    assert {n for n in after if after[n] != before[n]} == {n for n in after if "blur" in n}
    assert all(plan.version() != versions[name] for name, plan in plans.items())


def test_a_signed_link_to_a_donor_does_not_make_its_variants_new() -> None:
    """Signatures change with every listing; the video behind them does not."""

    def versions(signature: str) -> list[str]:
        refs = [
            replace(ref, uri=f"https://host/{ref.video_id}.mp4?X-Amz-Signature={signature}")
            for ref in sources(4)
        ]
        return [plan.version() for plan in dealt(refs, **ALL_TEST).values()]

    assert versions("one") == versions("two")


def test_another_content_of_a_donor_makes_its_variants_new_and_no_others() -> None:
    refs = sources(4)
    plans = dealt(refs, **ALL_TEST)
    uri = plans["v0000"].variants[-1].source.uri
    donor = next(s.donor for v in plans["v0000"].variants for s in v.chain if s.donor)
    assert donor != uri
    changed = [replace(ref, version="new") if ref.uri == donor else ref for ref in refs]
    after = dealt(changed, **ALL_TEST)["v0000"]
    differ = {
        old.type
        for old, new in zip(plans["v0000"].variants, after.variants, strict=True)
        if chain_digest(old.public) != chain_digest(new.public)
    }
    assert differ == {name for name, artefact in ARTEFACTS.items() if artefact.needs_donor}
    assert after.version() != plans["v0000"].version()
