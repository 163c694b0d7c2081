"""Which variants are made of which source: pure, and decided by hashes and ids alone.

What a variant is depends on the seed, the source and its own type, not on the order of the corpus,
on other sources or on who makes it. Two things look at other sources: donors of sound, which are
others (which one it is, and in which version, stands in the chain, and so in the variant's
version), and ``per_source``, which deals some of the variants over all sources of a side.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from actors.artefacts.artefact import Group
from actors.artefacts.chain import (
    Chain,
    Step,
    chain_digest,
    chain_text,
    parse_chain,
    target_scores,
)
from actors.artefacts.registry import ARTEFACTS
from actors.types import VideoRef
from model.tasks import Task
from pipelines.degrading.config import SIDES, DegradeConfig, Side
from pipelines.errors import UserInputError
from pipelines.hashing import hash_text
from pipelines.uris import display_text, scheme_of, strip_credentials

CLEAN = "clean"
COMBINATION = "combination"
_ORDER: tuple[Group, ...] = ("sound", "sync", "face", "picture")  # of the steps of a chain
_DRAWS = 20  # for each combination that is wanted: some come up again


class DegradeInputError(UserInputError):
    """What was asked for cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One damaged video, or the clean one.

    Attributes:
        video_id: ``<source>/<name>``.
        source: The clean video.
        side: Split of its source.
        type: Of the artefact, ``clean``, or ``combination``.
        name: Its last part: ``clean``, ``blur-400``, ``blur-400+noise-800`` (severity in ‰).
        chain: What is done, donors by URI.
        severity: 0 for clean, None for combinations.
        held_out: Its type, or one of its types, stays out of training.
        donor_version: Of the content of the donor, if it has one.
    """

    video_id: str
    source: VideoRef
    side: Side
    type: str
    name: str
    chain: Chain
    severity: float | None
    held_out: bool
    donor_version: str = ""

    @property
    def public(self) -> Chain:
        """The chain as it may be stored: its donor by version, and without credentials."""
        return tuple(
            step
            if step.donor is None
            else replace(
                step,
                donor=strip_credentials(step.donor) if scheme_of(step.donor) else step.donor,
                donor_version=self.donor_version,
            )
            for step in self.chain
        )

    @property
    def group(self) -> Group | None:
        """Of the artefact; None for clean videos and combinations."""
        return ARTEFACTS[self.type].group if self.type in ARTEFACTS else None

    @property
    def generator(self) -> str:
        """What stands in the column of generators: the types, joined."""
        return "+".join(step.type for step in self.chain) or CLEAN

    def scores(self) -> dict[Task, float]:
        """Return the scores that it deserves."""
        return target_scores(self.chain)


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """All variants of a source, the clean one first, and what could not be made of it."""

    source: VideoRef
    side: Side
    variants: tuple[Variant, ...]
    without_donor: tuple[str, ...]  # types that found no other source on this side
    combinations_short: int  # so many fewer than combinations.per_source asks for

    def text(self) -> str:
        """Return names and chains of all variants as one text, see :func:`read_text`.

        Donors are as they can be opened: this is for workers, not for any table.
        """
        return json.dumps([[v.name, chain_text(v.chain)] for v in self.variants])

    def version(self) -> str:
        """Return what changes when anything that is made of the source changes, 16 hex digits."""
        made = json.dumps([[v.name, chain_digest(v.public)] for v in self.variants])
        return blake2b(made.encode(), digest_size=8).hexdigest()


def read_text(text: str) -> list[tuple[str, Chain]]:
    """Return names and chains from a :meth:`SourcePlan.text`."""
    return [(name, parse_chain(chain)) for name, chain in json.loads(text)]


def sides(sources: Sequence[VideoRef], config: DegradeConfig) -> list[Side]:
    """Decide the split of every source.

    Raises:
        DegradeInputError: A name in ``splits.assign`` is nobody's, a source has no speaker, or a
            side that should have a share is empty.
    """
    splits = config.splits
    known = {ref.video_id for ref in sources} | {ref.speaker for ref in sources if ref.speaker}
    unknown = sorted(splits.assign.keys() - known)
    if unknown:
        shown = ", ".join(display_text(name) for name in unknown[:5])
        raise DegradeInputError(
            f"splits.assign names {shown}, which is no source and no speaker of the corpus"
        )
    result: list[Side] = []
    bounds = np.cumsum(splits.shares)
    for ref in sources:
        given = splits.assign.get(ref.video_id) or splits.assign.get(ref.speaker or "")
        if given is not None:
            result.append(given)
            continue
        if splits.by == "speaker" and not ref.speaker:
            raise DegradeInputError(
                f"splits.by is speaker, but {display_text(ref.video_id)} has none: give --pattern "
                "or a manifest with a column speaker, or split by source"
            )
        name = ref.video_id if splits.by == "source" else ref.speaker
        place = hash_text(f"split {splits.salt} {name}") / 2**64
        result.append(SIDES[min(int(np.searchsorted(bounds, place, side="right")), 2)])
    empty = [
        side
        for side, share in zip(SIDES, splits.shares, strict=True)
        if share > 0 and side not in result
    ]
    if empty and not splits.assign:
        raise DegradeInputError(
            f"no source fell on the side {' and '.join(empty)} of the split: the corpus has only "
            f"{len(sources)} source{'s' * (len(sources) != 1)}. Take another splits.salt, say who "
            "goes where with splits.assign, or set the share of that side in splits.shares to 0"
        )
    return result


def deal(sources: Sequence[VideoRef], config: DegradeConfig) -> Iterator[SourcePlan]:
    """Yield what is made of each source, in their order.

    Raises:
        DegradeInputError: See :func:`sides`.
    """
    placed = sides(sources, config)
    donors: dict[str, VideoRef] = {}
    ranks: dict[str, int] = {}
    for side in SIDES:
        here = [ref for ref, s in zip(sources, placed, strict=True) if s == side]
        donors |= _donors(here, config.seed)
        ranks |= {name: rank for rank, name in enumerate(sorted(r.video_id for r in here))}
    for ref, side in zip(sources, placed, strict=True):
        donor = donors.get(ref.video_id)
        types, lacking = _types(config, side, has_donor=donor is not None)
        chosen = _cells(ranks[ref.video_id], side, types, config)
        chains: list[Chain] = [()]
        chains += [(_step(ref, name, severity, donor, config),) for name, severity in chosen]
        combined = list(_combined(ref, types, donor, config))
        chains += combined
        variants = tuple(_variant(ref, side, chain, donor, config) for chain in chains)
        short = config.combinations.per_source - len(combined)
        yield SourcePlan(ref, side, variants, lacking, short)


def whole_grid(
    source: VideoRef, peers: Iterable[VideoRef], config: DegradeConfig
) -> dict[str, tuple[Step, ...]]:
    """Return every type at every severity for one source, as :func:`deal` would make them.

    Those are among them that were not dealt to it, or are held out from its side.

    Args:
        source: The clean video.
        peers: All sources on its side of the split, itself among them.
        config: Seed, types and severities.

    Returns:
        Type, in the order of the registry -> steps by severity; none when it lacks a donor.
    """
    donor = _donors(peers, config.seed).get(source.video_id)
    return {
        name: ()
        if ARTEFACTS[name].needs_donor and donor is None
        else tuple(_step(source, name, s, donor, config) for s in config.severities_of(name))
        for name in config.types
    }


def _types(
    config: DegradeConfig, side: Side, *, has_donor: bool
) -> tuple[list[str], tuple[str, ...]]:
    """Return the types that a side gets, and those that lack a donor."""
    used = [n for n, how in config.types.items() if side == "test" or how.trains]
    lacking = tuple(n for n in used if ARTEFACTS[n].needs_donor and not has_donor)
    return [n for n in used if n not in lacking], lacking


def _cells(
    rank: int, side: Side, types: list[str], config: DegradeConfig
) -> list[tuple[str, float]]:
    """Choose (type, severity): all of them, or so many.

    Sources take types in turn, the next one going on where the last one stopped, and each time a
    type is taken it is at its next severity. So types and severities are used as evenly as
    possible, also by few sources.

    Args:
        rank: Position of the source among those of its side, by id.
        side: Where it is.
        types: That it may get.
        config: Of the run.
    """
    grid = [(name, severity) for name in types for severity in config.severities_of(name)]
    wanted = config.per_source.get(side)
    if wanted is None or wanted >= len(grid):
        return grid
    turns = sorted(types, key=lambda name: hash_text(f"{config.seed} turn {side} {name}"))
    taken: set[tuple[str, float]] = set()
    position = rank * wanted
    while len(taken) < wanted:
        round_, name = position // len(turns), turns[position % len(turns)]
        severities = config.severities_of(name)
        start = hash_text(f"{config.seed} severity {side} {name}")
        taken.add((name, severities[(start + round_) % len(severities)]))
        position += 1
    return [cell for cell in grid if cell in taken]


def _combined(
    ref: VideoRef, types: list[str], donor: VideoRef | None, config: DegradeConfig
) -> Iterator[Chain]:
    """Draw so many different combinations; fewer where the types do not give as many."""
    of, wanted = config.combinations.of, config.combinations.per_source
    if len(types) < of:
        return
    drawn: set[tuple[tuple[str, float], ...]] = set()
    for number in range(_DRAWS * wanted):
        if len(drawn) == wanted:
            return
        chosen = sorted(types, key=lambda name: _key(config, ref, f"of {number}", name))[:of]
        cells = []
        for name in sorted(chosen, key=_place):
            severities = config.severities_of(name)
            place = _key(config, ref, f"strength {number}", name) % len(severities)
            cells.append((name, severities[place]))
        if tuple(cells) not in drawn:
            drawn.add(tuple(cells))
            yield tuple(_step(ref, name, severity, donor, config) for name, severity in cells)


def _step(
    ref: VideoRef, name: str, severity: float, donor: VideoRef | None, config: DegradeConfig
) -> Step:
    seed = _key(config, ref, "seed", name) % 2**31
    needs = ARTEFACTS[name].needs_donor
    return Step(name, severity, seed, donor.uri if needs and donor else None)


def _variant(
    ref: VideoRef, side: Side, chain: Chain, donor: VideoRef | None, config: DegradeConfig
) -> Variant:
    name = "+".join(f"{s.type}-{round(1000 * s.severity):03d}" for s in chain) or CLEAN
    kind = CLEAN if not chain else chain[0].type if len(chain) == 1 else COMBINATION
    severity = 0.0 if not chain else chain[0].severity if len(chain) == 1 else None
    held_out = any(config.types[step.type].held_out for step in chain)
    heard = donor.version if donor and any(step.donor for step in chain) else ""
    return Variant(
        f"{ref.video_id}/{name}", ref, side, kind, name, chain, severity, held_out, heard
    )


def _place(name: str) -> tuple[int, int]:
    """Return where in a chain an artefact stands: those of the face know the clean pictures."""
    return _ORDER.index(ARTEFACTS[name].group), list(ARTEFACTS).index(name)


def _donors(sources: Iterable[VideoRef], seed: int) -> dict[str, VideoRef]:
    """Choose whose sound each source of a side may get: if possible another of the same person.

    Sources lie on a ring by their hashes, and the next one is the donor: a new source changes one
    old pair.
    """
    everybody = list(sources)
    people: dict[str | None, list[VideoRef]] = {}
    for ref in everybody:
        people.setdefault(ref.speaker, []).append(ref)
    rings = [everybody, *(refs for speaker, refs in people.items() if speaker and len(refs) > 1)]
    donors: dict[str, VideoRef] = {}
    for ring in rings:  # those of a person come later and win
        ordered = sorted(ring, key=lambda ref: hash_text(f"{seed} donor\0{ref.video_id}"))
        if len(ordered) > 1:
            following = [*ordered[1:], ordered[0]]
            donors.update(zip((r.video_id for r in ordered), following, strict=True))
    return donors


def _key(config: DegradeConfig, ref: VideoRef, what: str, name: str) -> int:
    return hash_text(f"{config.seed} {what}\0{ref.video_id}\0{name}")
