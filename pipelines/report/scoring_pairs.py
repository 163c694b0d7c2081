"""Comparisons of two generators in words: which is better, over what, and against what."""

from collections.abc import Mapping
from typing import Any

from pipelines.report.html import finite, number
from pipelines.report.scoring_words import known, named, p_value, signed

_SHOWN = 0.01  # the smallest difference that figures show


def mean_of(row: Mapping[str, Any], task: str) -> float | None:
    """Return a generator's mean score; None when it has none."""
    return finite((row.get(task) or {}).get("mean"))


def significant(board: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    """Return the pairs that differ in ``task`` after correction, the clearest first."""
    found = [
        pair
        for pair in board.get("pairs") or []
        if pair.get("task") == task and pair.get("significant")
    ]
    return sorted(found, key=lambda pair: -abs(finite(pair.get("difference")) or 0.0))


def winner(pair: Mapping[str, Any]) -> tuple[object, object]:
    """Return the better one of a pair, then the other."""
    a, b = pair.get("a"), pair.get("b")
    return (a, b) if (finite(pair.get("difference")) or 0.0) >= 0 else (b, a)


def over(board: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    """Say what a comparison averages over: the units that both have, or all that each has."""
    count = int(finite(pair.get("n")) or 0)
    name = {"speaker": "speaker", "name": "name"}.get(str(board.get("pair_by")), "unit")
    units = f"{count:,} {{}}{name}{'s' * (count != 1)}"
    if pair.get("method") == "unpaired":
        return f"unpaired, {units.format('')} of both together"
    return f"over the {units.format('shared ')}"


def opposite(board: Mapping[str, Any], pair: Mapping[str, Any]) -> str | None:
    """Say that a tested difference contradicts the means in the leaderboard; None if not."""
    difference = finite(pair.get("difference"))
    rows = {row.get("name"): row for row in board.get("generators") or []}
    task = str(pair.get("task"))
    a, b = (mean_of(rows.get(pair.get(side)) or {}, task) for side in ("a", "b"))
    if difference is None or a is None or b is None:
        return None
    if min(abs(difference), abs(a - b)) < _SHOWN / 2 or (difference > 0) is (a > b):
        return None
    return (
        f"the means over all their videos say the opposite: {signed(a - b)}, compared "
        f"{signed(difference)}"
    )


def finding(board: Mapping[str, Any], pair: Mapping[str, Any]) -> list[object]:
    """Say which of two generators is better, by how much and over what; names are isolated."""
    better, worse = winner(pair)
    gap = abs(finite(pair.get("difference")) or 0.0)
    p = p_value(pair.get("p_adjusted"))
    against = opposite(board, pair)
    return [
        named(better), " above ", named(worse),
        f" by {number(gap, 2)} {over(board, pair)} (p {'' if p.startswith('<') else '= '}{p})",
        f"; CAUTION: {against}" if against else "",
    ]  # fmt: skip


def pairing(board: Mapping[str, Any]) -> str:
    """Say what makes videos one unit, and why; empty when the leaderboard does not say."""
    by, reason = board.get("pair_by"), board.get("pair_reason")
    if not by:
        return ""
    same = {"speaker": "speaker", "name": "name"}.get(str(by), f"unit ({known(by)})")
    why = f" ({known(reason, 300)})" if reason else ""
    return f" Videos of the same {same} belong together{why}."
