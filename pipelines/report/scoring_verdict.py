"""What a scored corpus comes to: the gate's verdict, the counts, where it all comes from."""

from collections.abc import Mapping
from typing import Any

from actors.types import DEMONSTRATION_WEIGHTS
from model.tasks import TASKS
from pipelines.report.generic import generic
from pipelines.report.html import DASH, Html, el, finite, isolated, join, name_of
from pipelines.report.page import code_name, details, facts
from pipelines.report.scoring_spread import without_scores
from pipelines.report.scoring_words import duration, share
from pipelines.scoring.facts import ReportFacts

DEMONSTRATION = (
    f"DEMONSTRATION: features of {DEMONSTRATION_WEIGHTS}; these scores have no meaning for real "
    "quality"
)
RULES = 20  # shown at once


def is_demonstration(found: ReportFacts) -> bool:
    """Say whether any score comes from seeded weights."""
    if found.provenance.get("demonstration"):
        return True
    return True in found.videos["demonstration"].to_pylist()


def has_intervals(found: ReportFacts) -> bool:
    """Say whether any video has a calibrated interval."""
    columns = (found.videos[f"{task}_low"] for task in TASKS)
    return any(column.null_count < len(column) for column in columns)


def verdict(gate: Mapping[str, Any] | None) -> Html:
    """Show whether the gate passed, and each rule with its reason, failed ones first."""
    if gate is None:
        return el("p", "No gate was given, so there is no verdict.", class_="quiet")
    passed = bool(gate["passed"])
    rules = sorted(gate.get("verdicts") or [], key=lambda rule: bool(rule["passed"]))
    items = [
        el(
            "li",
            el("b", "passed: " if rule["passed"] else "FAILED: "),
            isolated(rule["rule"], 120),
            ": ",
            isolated(rule["reason"], 600),
            class_="ok" if rule["passed"] else None,
        )
        for rule in rules
    ]
    failed = sum(not rule["passed"] for rule in rules)
    more = details(f"{len(items) - RULES:,} more rules", el("ul", *items[RULES:]))
    title = "Gate passed" if passed else f"Gate FAILED: {failed:,} of {len(rules):,} rules"
    return el(
        "div",
        el("h3", title),
        el("ul", *items[:RULES]) if items else None,
        more if len(items) > RULES else None,
        class_=f"verdict {'good' if passed else 'bad'}",
    )


def said(found: ReportFacts) -> Html:
    """Say what was scored, when, and how much of it is new."""
    counts, source = found.counts, found.provenance
    rows = found.videos.num_rows
    none = without_scores(found.videos.select(list(TASKS)).to_pydict())
    corpus = source.get("corpus")
    parts = [
        f"{rows - none:,} of {counts.get('corpus', rows):,} videos of ",
        code_name(corpus) if corpus else "the corpus",
        (
            f" have at least one score. {rows:,} went through the evaluator: "
            f"{counts.get('scored', 0):,} in this run, {counts.get('known', 0):,} before"
            + (f"; {none:,} of them have no score at all. " if none else ". ")
        ),
    ]
    failed = counts.get("failed", 0) + counts.get("failed_before", 0)
    if failed:
        again = counts.get("failed_before", 0)
        parts.append(f"{failed:,} failed" + (f", {again:,} of them in earlier runs. " * bool(again)
                                             or ". "))  # fmt: skip
    else:
        parts.append("No video failed. ")
    return el("p", *parts, novelty(found))


def novelty(found: ReportFacts) -> str:
    """Say how many videos are unlike what the evaluator was trained on."""
    flags = found.videos["ood"].to_pylist()
    known = [flag for flag in flags if flag is not None]
    if not flags:
        return ""
    if not known:
        return "The checkpoint does not know which videos are unlike those it was trained on."
    far = sum(known)
    return (
        f"{far:,} ({share(far, len(known))}) are unlike the videos that the evaluator was trained "
        "on: their scores are guesses."
        if far
        else "No video is unlike those that the evaluator was trained on."
    )


def foreign(found: ReportFacts) -> str:
    """Say what makes a video unlike the training set."""
    held: Any = found.provenance.get("model_card")
    for key in ("quantitative_analyses", "uncertainty", "novelty", "quantile"):
        held = held.get(key) if isinstance(held, Mapping) else None
    part = finite(held) if isinstance(held, int | float) else None
    level = "a high quantile" if part is None else f"the {100 * part:g} % quantile"
    return (
        "The distance of the video's clips from the centre of the training set, averaged over "
        f"them, is above {level} of the distances of validation clips. Its score is a guess, "
        "whatever its interval says."
    )


def provenance(found: ReportFacts) -> Html:
    """Show the run, the checkpoint and everything that made the scores."""
    source = found.provenance
    level = finite(source.get("level"))
    flags = [flag for flag in found.videos["ood"].to_pylist() if flag is not None]
    far = share(sum(flags), len(flags)) if flags else "not known"
    dates = sorted({str(date) for date in found.videos["run_date"].to_pylist() if date})
    shown = facts(
        {
            "run": _code(source, "run_id"),
            "started": _text(source, "started"),
            "report written": source.get("told") and _text(source, "told"),
            "took": duration(finite(source.get("seconds"))),
            "corpus": _code(source, "corpus"),
            "video scored": _seconds(source, "video_seconds"),
            "baseline": _code(source, "baseline"),
            "checkpoint": _code(source, "checkpoint"),
            "digest of the checkpoint": _code(source, "digest"),
            "fingerprint of the features": _code(source, "fingerprint"),
            "code version": _text(source, "code_version"),
            "scored on": _dates(dates),
            "intervals of videos": f"{100 * level:g} %, split conformal on the validation split of "
            "the checkpoint"
            if level is not None and has_intervals(found)
            else "none: the checkpoint has no calibration for these scores",
            "unlike the training videos": far,
            "demonstration": "yes" if is_demonstration(found) else "no",
        }
    )
    card = source.get("model_card")
    if not card:
        return join([shown, el("p", "The checkpoint has no model card.", class_="quiet")])
    return join([shown, details("Model card of the checkpoint", generic(card, depth=1))])


def _dates(dates: list[str]) -> str:
    if len(dates) <= 4:
        return ", ".join(name_of(date, 40) for date in dates) or DASH
    return f"{len(dates):,} days from {name_of(dates[0], 40)} to {name_of(dates[-1], 40)}"


def _seconds(source: Mapping[str, Any], key: str) -> str | None:
    value = finite(source.get(key))
    return None if value is None else duration(value)


def _code(source: Mapping[str, Any], key: str) -> Html | str:
    value = source.get(key)
    return DASH if value in (None, "") else code_name(value)


def _text(source: Mapping[str, Any], key: str) -> str:
    value = source.get(key)
    return DASH if value in (None, "") else name_of(value, 100)
