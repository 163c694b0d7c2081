"""Which videos of different generators belong together: the same speaker, or the same prompt.

Videos of one unit are compared with each other, and drawn together in resamples, because a hard
sentence or face is hard for every generator.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.bootstrap import MIN_GROUPS
from pipelines.scoring.errors import ScoreInputError
from pipelines.uris import display_text

if TYPE_CHECKING:
    import pyarrow as pa

AUTO, SPEAKER, NAME = "auto", "speaker", "name"
UNKNOWN = "(unknown)"  # how the group of videos without a generator is called
_ALONE = "\0"  # begins the unit of a video that has no other


@dataclass(frozen=True)
class Pairing:
    """The units of a table of videos.

    Attributes:
        by: ``speaker``, ``name`` or the regular expression.
        reason: Why, in words.
        units: [V] numbers of the units from 0, in the order of their names.
        alone: Videos that are a unit of their own, because nothing says what theirs is.
    """

    by: str
    reason: str
    units: NDArray[np.int64]
    alone: int


def generators_of(videos: "pa.Table") -> list[str]:
    """Return the generator of each video, :data:`UNKNOWN` where it has none."""
    return [UNKNOWN if name is None else name for name in videos["generator"].to_pylist()]


def check_pair_by(pair_by: str) -> str:
    """Return ``pair_by`` if it is a known word or a regular expression.

    Raises:
        ValueError: It is neither.
    """
    if pair_by not in (AUTO, SPEAKER, NAME):
        try:
            re.compile(pair_by)
        except re.error as error:
            raise ValueError(
                f"expected auto, speaker, name or a regular expression over the video id; "
                f"{pair_by!r} is not one: {error}"
            ) from None
    return pair_by


def pair_videos(videos: "pa.Table", pair_by: str = AUTO) -> Pairing:
    """Find the unit of each video.

    ``speaker`` is the column; ``name`` the video id without the folder that is its generator's
    name, so that ``wav2lip/may`` and ``source/may`` are one unit; a regular expression is searched
    in the video id, and its group ``unit``, or else its first group, or else the match is the unit.
    ``auto`` takes the speaker, because videos of one speaker are not independent, when speakers are
    known of at least half of the videos and two generators share at least
    :data:`model.bootstrap.MIN_GROUPS` of them; else whichever of speaker and name links more pairs
    of generators by so many shared units (then: by any). With a single generator it takes the
    speaker when there are enough of them, else each name. Where names are used although there are
    speakers with several of them, the reason says what that neglects.

    Args:
        videos: With columns video_id, generator, speaker.
        pair_by: See above.

    Raises:
        ScoreInputError: A regular expression matches no video.
    """
    ids: list[str] = videos["video_id"].to_pylist()
    generators = generators_of(videos)
    if pair_by == AUTO:
        speakers = _speakers(videos)
        names = [_name(i, g) for i, g in zip(ids, generators, strict=True)]
        by, reason = _choose(speakers, names, generators)
        if by == SPEAKER:
            return _numbered(by, reason, speakers, ids)
        return _numbered(by, reason + _caveat(speakers, names, generators), list(names), ids)
    if pair_by == SPEAKER:
        return _numbered(SPEAKER, "asked for", _speakers(videos), ids)
    if pair_by == NAME:
        names = [_name(i, g) for i, g in zip(ids, generators, strict=True)]
        reason = "asked for" + _caveat(_speakers(videos), names, generators)
        return _numbered(NAME, reason, list(names), ids)
    pattern = re.compile(check_pair_by(pair_by))
    found = [_matched(pattern, i) for i in ids]
    if ids and not any(found):
        raise ScoreInputError(
            f"leaderboard.pair_by: {pair_by!r} matches no video id, such as "
            f"{display_text(ids[0])}; write auto, speaker, name or another regular expression"
        )
    return _numbered(pair_by, "asked for", found, ids)


def _speakers(videos: "pa.Table") -> list[str | None]:
    return list(videos["speaker"].to_pylist())


def _name(video_id: str, generator: str) -> str:
    parts = video_id.split("/")
    if generator in parts[:-1]:
        parts.remove(generator)
    return "/".join(parts)


def _matched(pattern: re.Pattern[str], video_id: str) -> str | None:
    match = pattern.search(video_id)
    if match is None:
        return None
    if "unit" in pattern.groupindex:
        return match["unit"]
    text: str | None = match[1] if pattern.groups else match[0]
    return text


def _numbered(by: str, reason: str, names: Sequence[str | None], ids: list[str]) -> Pairing:
    known = [_ALONE + i if n is None else n for n, i in zip(names, ids, strict=True)]
    number = {name: i for i, name in enumerate(sorted(set(known)))}
    units = np.array([number[name] for name in known], np.int64)
    return Pairing(by, reason, units, sum(name is None for name in names))


def _choose(
    speakers: Sequence[str | None], names: Sequence[str], generators: Sequence[str]
) -> tuple[str, str]:
    total = len(set(generators))
    if total < 2:
        several = len({s for s in speakers if s is not None})
        if several >= MIN_GROUPS:
            return SPEAKER, f"auto: one generator, {several} speakers"
        return NAME, f"auto: one generator, fewer than {MIN_GROUPS} speakers: each name alone"
    by_speaker, by_name = _shared(speakers, generators), _shared(names, generators)
    known = 2 * sum(s is not None for s in speakers) >= len(speakers)
    linked = by_speaker[0] and known
    choice = SPEAKER if linked or (by_speaker >= by_name and by_speaker[1]) else NAME
    enough, some = by_speaker if choice == SPEAKER else by_name
    other, others = (NAME, by_name) if choice == SPEAKER else (SPEAKER, by_speaker)
    pairs = total * (total - 1) // 2
    if not some:
        return NAME, "auto: generators share neither speakers nor names"
    return choice, (
        f"auto: of {pairs} pairs of generators, {enough} share at least {MIN_GROUPS} "
        f"{choice}s and {some} any ({other}s: {others[0]} and {others[1]})"
    )


def _caveat(speakers: Sequence[str | None], names: Sequence[str], generators: Sequence[str]) -> str:
    """Say what units of names neglect; empty when there is no such thing."""
    seen = {(s, n) for s, n in zip(speakers, names, strict=True) if s is not None}
    several = len({speaker for speaker, _ in seen})
    if len(seen) == several:  # each speaker has one name: names are speakers
        return ""
    told = "; videos of one speaker are treated as independent"
    if several < MIN_GROUPS:
        return f"{told}; only {several} {SPEAKER}{'s' if several > 1 else ''}"
    if len(set(generators)) > 1 and not _shared(speakers, generators)[0]:
        return f"{told}; generators share fewer than {MIN_GROUPS} speakers"
    return told


def _shared(units: Sequence[str | None], generators: Sequence[str]) -> tuple[int, int]:
    """Count the pairs of generators that share enough units, and that share any."""
    seen: dict[str, set[str]] = {}
    for unit, generator in zip(units, generators, strict=True):
        if unit is not None:
            seen.setdefault(unit, set()).add(generator)
    number = {name: i for i, name in enumerate(sorted(set(generators)))}
    shared = [sorted(number[g] for g in found) for found in seen.values() if len(found) > 1]
    counts = np.zeros((len(number), len(number)), np.int64)
    for found in shared:
        counts[np.ix_(found, found)] += 1
    above = counts[np.triu_indices(len(number), 1)]
    return int((above >= MIN_GROUPS).sum()), int((above > 0).sum())
