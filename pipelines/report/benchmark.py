"""The report of a benchmark: one HTML file that needs no network."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from actors.types import DEMONSTRATION_WEIGHTS
from pipelines.report import benchmark_charts as charts
from pipelines.report import benchmark_tables as tables
from pipelines.report.assets import STYLE as COMMON_STYLE
from pipelines.report.benchmark_words import (
    SCOPES,
    SHORT,
    figure_with_interval,
    ratio_cell,
    ratio_written,
    scope_title,
    value_of,
    written,
)
from pipelines.report.generic import generic
from pipelines.report.html import DASH, Html, el, finite, isolated, join, name_of, number
from pipelines.report.notes import Notes, interval
from pipelines.report.page import (
    Cell,
    Column,
    Section,
    code_name,
    details,
    facts,
    figure,
    grid,
    name_cell,
    page,
    table,
    tile,
)

if TYPE_CHECKING:
    from pipelines.benchmarking.output import Benchmark

DEMONSTRATION: Final = (
    f"DEMONSTRATION: features of {DEMONSTRATION_WEIGHTS}. The figures show what such an evaluator "
    "can tell apart, not how people would judge."
)
STYLE = (
    COMMON_STYLE
    + """
svg .should{fill:none;stroke:var(--ink);stroke-width:1.6}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;font-size:.9rem}
"""
)


def benchmark_report(found: "Sequence[Benchmark]") -> str:
    """Write ``report.html``.

    Args:
        found: The evaluator that was measured, then others to compare it with.

    Returns:
        The document. All external text in it is escaped; undefined figures carry their reason.
    """
    first = found[0]
    told = first.summary
    shown = _tasks(told)
    sections = [Section("summary", "In short", _summary(told))]
    if len(found) > 1:
        sections.append(Section("compare", "Evaluators beside each other", _compare(found)))
    sections += [
        Section("groups", "Groups of artefacts", _groups(told)),
        Section("selectivity", "Selectivity", _selectivity(told, shown)),
        Section("curves", "Scores over severity", _curves(first, shown)),
        Section("cells", "All figures", tables.every_cell(told["cells"])),
        Section("failures", "Failures", tables.failures(first.misses, told["videos"]["reasons"])),
        Section("provenance", "Provenance", _provenance(told)),
        Section("reading", "How to read this", _reading(told)),
    ]
    evaluator, corpus = told["evaluator"], told["corpus"]
    return page(
        f"Benchmark: {name_of(evaluator['name'], 80)}",
        join([
            f"{evaluator['kind']}, on ", code_name(corpus["where"]),
            f", split {name_of(corpus['split'])}, {name_of(told['started'], 40)}",
        ]),
        sections,
        banner=DEMONSTRATION if evaluator["demonstration"] else "",
        footer=f"TalkMOS {name_of(told['code_version'], 60)}",
        style=STYLE,
    )  # fmt: skip


def _tasks(told: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(str(row["task"]) for row in told["cells"]))


def _summary(told: Mapping[str, Any]) -> Html:
    corpus, videos = told["corpus"], told["videos"]
    said = (
        f"{videos['scored']:,} of {videos['asked']:,} videos of {corpus['sources']:,} sources have "
        "a score. Monotonicity is the share of steps to a more severe variant at which a score "
        "that should fall does fall."
    )
    tiles = [
        tile(
            SCOPES.get(str(row["scope"]), str(row["scope"])),
            _big(row["monotonicity"]),
            _bounds(row["monotonicity"]),
            [
                f"SRCC {written(row['srcc']).split(' ')[0]}",
                f"selectivity {ratio_written(row['selectivity'])}",
            ],
            defined=value_of(row["monotonicity"]) is not None,
        )
        for row in told["scopes"]
        if not row["held_out"] and not row["with_blind"]
    ]
    apart = [
        join([scope_title(row), f": monotonicity {written(row['monotonicity'])}, ",
              f"SRCC {written(row['srcc'])}"])
        for row in told["scopes"]
        if row["held_out"] and row["scope"] != "all" and not row["with_blind"]
    ]  # fmt: skip
    blind = [
        join([name_of(row["title"]), ": ", name_of(row["blind"], 300)])
        for row in told["artefacts"]
        if row["blind"]
    ]
    parts: list[object] = [el("p", said), el("div", *tiles, class_="tiles")]
    if apart:
        parts += [el("h3", "Held out from training"), _list(apart)]
    if blind:
        text = "Declared blind before training; left out above, shown in all tables"
        parts += [el("h3", text), _list(blind)]
    parts += [el("p", name_of(note, 300), class_="quiet") for note in corpus["notes"]]
    return join(parts)


def _list(items: Sequence[object]) -> Html:
    return el("ul", *(el("li", item) for item in items))


def _big(found: Mapping[str, Any]) -> str:
    value = value_of(found)
    return "undefined" if value is None else number(value, 2)


def _bounds(found: Mapping[str, Any]) -> str | None:
    low, high = finite(found["low"]), finite(found["high"])
    if low is None or high is None:
        return str(found["reason"]) if found["reason"] else None
    return interval(low, high, 2)


def _groups(told: Mapping[str, Any]) -> Html:
    level = f"{told['settings']['level']:.0%}"
    said = (
        f"Brackets: {level} bootstrap intervals over sources. Selectivity is the drop of scores "
        "that should fall over the change of those that should stay, from the clean video to the "
        "highest severity. Detected: scores that should fall and lie below those of the clean "
        "videos beyond chance at some severity."
    )
    return join([el("p", said), tables.scopes(told["scopes"]),
                 tables.tasks_of_scopes(told["scopes"])])  # fmt: skip


def _selectivity(told: Mapping[str, Any], tasks: Sequence[str]) -> Html:
    chart = charts.drop_map(told["cells"], tasks, "points")
    return join(
        [
            charts.legend_of_map(),
            grid(figure(chart, "Drop at the highest severity", "points below the clean video")),
            tables.selectivity(told["artefacts"]),
        ]
    )


def _curves(found: "Benchmark", tasks: Sequence[str]) -> Html:
    told = found.summary
    drawn = charts.curves(found.levels, told["artefacts"], tasks)
    if not drawn:
        return el("p", "No artefact has severities.", class_="quiet")
    level = f"{told['settings']['level']:.0%}"
    bands = any(finite(row.get("score_low")) is not None for row in found.levels)
    said = (
        f"Mean over sources{f' with its {level} bootstrap interval' if bands else ''}; severity 0 "
        "is the clean video."
    )
    if len(tasks) > 1:
        said += " The arrow marks scores that should fall."
    return join([el("p", said), grid(*drawn)])


def _compare(found: "Sequence[Benchmark]") -> Html:
    notes = Notes()
    columns = [Column("evaluator", "name"), Column("kind"), Column("speaks for")]
    wanted = [str(s["scope"]) for s in found[0].summary["scopes"]
              if not s["held_out"] and not s["with_blind"]]  # fmt: skip
    columns += [Column(SCOPES.get(s, s), "number") for s in wanted]
    columns += [Column("SRCC", "number"), Column("selectivity", "number")]
    columns += [Column("no score", "number")]
    rows = []
    for one in found:
        told = one.summary
        scopes = {
            str(s["scope"]): s for s in told["scopes"] if not s["held_out"] and not s["with_blind"]
        }
        claims = told["evaluator"]["speaks_for"]
        everything = scopes.get("all")
        failed = told["videos"]["failed"]
        rows.append(
            [
                name_cell(one.name),
                str(told["evaluator"]["kind"]),
                "five tasks" if claims is None else name_of(", ".join(map(_claim, claims))),
                *(
                    figure_with_interval((scopes.get(s) or {}).get("monotonicity"), notes)
                    for s in wanted
                ),
                figure_with_interval((everything or {}).get("srcc"), notes),
                ratio_cell((everything or {}).get("selectivity"), notes),
                Cell(f"{failed:,}", failed),
            ]
        )
    said = (
        "The same videos for all; monotonicity by group of artefacts, then figures of all of them. "
        "Each evaluator is held to what it speaks for: artefacts that harm none of that count as "
        "ones that should leave its score alone."
    )
    pairs = [(one.name, one.summary["cells"]) for one in found]
    drawn = [
        figure(charts.rate_map(pairs, key, title), title, "mean over the tasks that it harms")
        for key, title in (
            ("monotonicity", "Monotonicity by artefact"),
            ("srcc", "SRCC by artefact"),
        )
    ]
    return join(
        [
            el("p", said),
            table(columns, rows, label="Evaluators"),
            notes.listed(),
            grid(*drawn),
            el("p", "All other sections are about ", isolated(found[0].name), ".", class_="quiet"),
        ]
    )


def _claim(name: str) -> str:
    return "all" if name == "overall" else SHORT.get(name, f"{name} artefacts")


def _provenance(told: Mapping[str, Any]) -> Html:
    evaluator, corpus = told["evaluator"], told["corpus"]
    return join(
        [
            facts(
                {
                    "evaluator": isolated(evaluator["name"]),
                    "kind": evaluator["kind"],
                    "corpus": code_name(corpus["where"]),
                    "split": name_of(corpus["split"]),
                    "digest of the videos": code_name(corpus["digest"]),
                    "seed of the corpus": corpus["seed"],
                    "severities": ", ".join(f"{s:g}" for s in corpus["severities"]) or DASH,
                    "measured": name_of(told["started"]),
                    "took": f"{told['seconds']:,.0f} s",
                    "code version": name_of(told["code_version"]),
                }
            ),
            el("h3", "The evaluator"),
            generic(evaluator["facts"], 1) if evaluator["facts"] else el("p", "Nothing is known."),
            details("Settings of the ruler", generic(told["settings"], 2)),
        ]
    )


def _reading(told: Mapping[str, Any]) -> Html:
    settings = told["settings"]
    tolerance = settings["tolerance"]
    than = f"by more than {tolerance:g} points" if tolerance else "at all"
    return facts(
        {
            "Monotonicity": f"Share of steps at which the score falls {than}. A step leads from "
            "one severity to the next, the first from the clean video. A score that stays does "
            "not fall, so an evaluator that always says the same has 0; one that guesses has 0.5.",
            "SRCC": "Spearman's correlation of severity with the falling score, along each source "
            "and then averaged; 1 is a perfect order. Pooled: over all videos at once, which "
            "also asks that sources be comparable.",
            "Drop": "Score of the clean video less that of the most severe variant; mean drop: "
            "of all variants. Change: its absolute value, which does not cancel.",
            "Selectivity": "Drop of the scores that an artefact harms over the change of those "
            f"that it does not. Limited to {settings['cap']:g}. Overall is on neither side.",
            "Smallest severity": "From there on, up to the highest severity, scores lie below "
            "those of the clean videos beyond chance (one-sided sign-flip test over sources, "
            f"level {settings['alpha']:g} for all severities together).",
            "Held out": "Artefacts that training has not seen. They are in no average of the "
            "others.",
            "Declared blind": "Said before training, with the reason. Such artefacts are left out "
            "of averages, which stand beside those with them.",
            "Intervals": "Sources are drawn with replacement. Where every step falls there is "
            "nothing to vary, and the interval is a point: that is not certainty.",
        }
    )
