"""The contact sheet: a page that shows and plays every artefact at rising severities."""

import base64
from dataclasses import replace
from typing import Final

from actors.artefacts.artefact import GROUPS, Group
from actors.artefacts.chain import CLEAN_SCORE
from actors.artefacts.preview import small_size
from actors.artefacts.registry import ARTEFACTS
from pipelines.degrading.contact_facts import Film, SheetFacts, SheetRow
from pipelines.report.contact_assets import SCRIPT, STYLE
from pipelines.report.html import Html, el, isolated, join, name_of, number, short_number
from pipelines.report.names import SHORT
from pipelines.report.page import Section, code_name, facts, page

TITLES: Final[dict[Group, str]] = {
    "sound": "Sound",
    "sync": "Sound and lips apart",
    "picture": "Picture",
    "face": "Face",
}
# Ends of the names of measures -> how the value is written; longer ones come first.
UNITS: Final = {
    "_eye_distances": "eye distances",
    "_kbit_s": "kbit/s",
    "_percent": "%",
    "_frames": "frames",
    "_levels": "grey levels",
    "_stops": "stops",
    "_db": "dB",
    "_hz": "Hz",
    "_s": "s",
}
TIMES: Final = "\u00d7"
ABBREVIATIONS: Final = {"snr": "SNR", "drr": "DRR", "rt60": "RT60", "qp": "QP"}


def contact_sheet(found: SheetFacts) -> str:
    """Write ``contact_sheet.html``.

    Args:
        found: The films and what is known of them.

    Returns:
        The document; films are inside. All external text in it is escaped.
    """
    sections = [Section("reading", "What this shows", _reading(found))]
    borrowed = False  # the clean film stands in the page once
    for group in GROUPS:
        rows = [row for row in found.rows if ARTEFACTS[row.type].group == group]
        cards = []
        for row in rows:
            cards.append(_row(found, row, own_clean=not borrowed))
            borrowed = borrowed or _is_shown(row)
        if cards:
            sections.append(Section(group, TITLES[group], join(cards)))
    sections.append(Section("made", "How it was made", _made(found)))
    return page(
        "Contact sheet of artefacts",
        join(["made from ", code_name(found.source)]),
        sections,
        footer=f"TalkMOS {name_of(found.code_version, 60)}",
        style=STYLE,
        script=SCRIPT,
        media=True,
    )


def measure_text(name: str, value: float) -> str:
    """Write a measure with its unit in words: ``snr_db``, 12.0 becomes ``SNR 12 dB``."""
    rounded = float(f"{value:.3g}")
    if name.endswith("_share"):
        return (
            f"{_words(name.removesuffix('_share'))} {short_number(float(f'{100 * value:.3g}'))} %"
        )
    if name.endswith("_factor"):
        return f"{_words(name.removesuffix('_factor'))} {TIMES} {short_number(rounded)}"
    for end, unit in UNITS.items():
        if name.endswith(end):
            return f"{_words(name.removesuffix(end))} {short_number(rounded)} {unit}"
    return f"{_words(name)} {short_number(rounded)}"


def _words(name: str) -> str:
    return " ".join(ABBREVIATIONS.get(part, part) for part in name.split("_"))


def _reading(found: SheetFacts) -> Html:
    height, width = small_size(*found.size)
    shown = f"Damage is done to pictures of {found.size[1]} {TIMES} {found.size[0]} pixels"
    if (height, width) != found.size:
        shown += f" and shown at {width} {TIMES} {height}, which hides fine damage. "
        shown += "Below films of damaged pictures is the middle of the still, pixel by pixel"
    lacks = None
    if found.lacks:
        said = "No source that was looked at has all that the artefacts need. This one lacks "
        lacks = el("p", f"{said}{' and '.join(found.lacks)}.", class_="gone")
    return join(
        [
            el(
                "p",
                "One clean video, damaged in every way of the plan, a little at first and badly at "
                "last. Click a film to play it, or choose it with Tab and the arrow keys and press "
                "Enter; another one, or the same again, stops it.",
            ),
            lacks,
            facts(
                {
                    "Severity": "From 0 (untouched) to 1 (plainly terrible). Below it stand what "
                    "it means in physical units, and the points that the labels take off the tasks "
                    f"that it harms: a clean video has {CLEAN_SCORE:g} of 5.",
                    "Stills": "The instant that shows the damage best, the same one in a row.",
                    "Spectrograms": "Time to the right, 0 to 8 kHz upwards, bright is loud.",
                    "Size": f"{shown}.",
                }
            ),
        ]
    )


def _made(found: SheetFacts) -> Html:
    said = (
        f"The first {number(found.seconds, 1)} s, damaged as a video of that length: in a longer "
        "one, drifts, freezes and gaps spread over all of it."
    )
    return facts(
        {
            "source": code_name(found.source),
            "speaker": None if not found.speaker else isolated(found.speaker),
            "side of the split": f"{found.side}. Types that are held out are shown all the same.",
            "excerpt": said,
            "seed of the plan": found.seed,
            "films": "H.264 and AAC, for browsers. Nothing else ever sees them: features are "
            "computed from pictures and samples without such losses.",
        }
    )


def _is_shown(row: SheetRow) -> bool:
    return any(film.mp4 for film in row.films)


def _title(row: SheetRow) -> str:
    title = ARTEFACTS[row.type].title
    return title[:1].upper() + title[1:]


def _row(found: SheetFacts, row: SheetRow, *, own_clean: bool) -> Html:
    shown = _is_shown(row)
    play = None
    if shown:
        play = el("button", "Play the row", type="button", hidden=True, data_play="Play the row",
                  aria_describedby=f"title-{row.type}")  # fmt: skip
    return el(
        "article",
        el(
            "div",
            el("h3", _title(row), " ", el("code", row.type), id=f"title-{row.type}"),
            el("span", "held out from training", class_="badge") if row.held_out else None,
            el("span", "declared invisible", class_="badge") if row.blind else None,
            play,
            class_="head",
        ),
        el("p", "Points at severity 1: ", _points(row, 1.0), class_="quiet"),
        el("p", "Not to be seen by an evaluator trained on this corpus: ", isolated(row.blind, 500))
        if row.blind
        else None,
        _strip(found, row, own_clean=own_clean) if shown else _reasons(row),
        class_="artefact",
        id=f"artefact-{row.type}",
    )


def _reasons(row: SheetRow) -> Html:
    reasons = dict.fromkeys(film.reason for film in row.films)
    return join(el("p", "Not shown: ", isolated(reason, 500), class_="gone") for reason in reasons)


def _strip(found: SheetFacts, row: SheetRow, *, own_clean: bool) -> Html:
    group = ARTEFACTS[row.type].group
    hears = group in ("sound", "sync")
    # The middle of a picture does not show where a face is damaged.
    below = _spectrum if hears else _detail if group == "picture" else _nothing
    first = el(
        "li",
        el(
            "figure",
            _video(found, row, found.clean, row.clean_still, own=own_clean, clean=True),
            below(row, replace(found.clean, detail=row.clean_detail)),
            el("figcaption", el("b", "clean")),
        ),
    )
    cells = [
        el(
            "li",
            el(
                "figure",
                _video(found, row, film, film.still)
                if film.mp4
                else el("div", isolated(film.reason, 300), class_="gone"),
                below(row, film),
                _caption(row, film),
            ),
        )
        for film in row.films
    ]
    return el("ol", first, *cells, class_="strip")


def _video(
    found: SheetFacts,
    row: SheetRow,
    film: Film,
    poster: bytes,
    *,
    own: bool = True,
    clean: bool = False,
) -> Html:
    height, width = small_size(*found.size)
    what = "clean" if clean else f"severity {film.severity:g}"
    video = el(
        "video",
        src=_data("video/mp4", film.mp4) if own else None,
        poster=_data("image/jpeg", poster),
        preload="none",
        controls=True,
        playsinline=True,
        width=width,
        height=height,
        data_clean=own and clean,
        aria_label=f"Play {_title(row)}, {what}",
    )
    return el("div", video, class_="film")


def _spectrum(row: SheetRow, film: Film) -> Html | None:
    if not film.spectrum:
        return None
    return el(
        "img",
        src=_data("image/jpeg", film.spectrum),
        alt=f"Spectrogram of {_title(row)}, severity {film.severity:g}",
        decoding="async",
        width=240,
        height=72,
    )


def _detail(row: SheetRow, film: Film) -> Html | None:
    if not film.detail:
        return None
    return el(
        "img",
        src=_data("image/jpeg", film.detail),
        alt=f"Detail of {_title(row)}, severity {film.severity:g}",
        decoding="async",
        class_="detail",
    )


def _nothing(_: SheetRow, __: Film) -> None:
    return None


def _caption(row: SheetRow, film: Film) -> Html:
    artefact = ARTEFACTS[row.type]
    measures = [measure_text(*item) for item in artefact.measures(film.severity).items()]
    return el(
        "figcaption",
        el("b", f"{film.severity:g}"),
        *(el("span", text) for text in measures),
        el("span", _points(row, film.severity), class_="quiet"),
    )


def _points(row: SheetRow, severity: float) -> Html:
    """Say what the labels take off."""
    items = ARTEFACTS[row.type].harms.items()
    words = [
        el("span", f"{SHORT[task]} {number(-severity * points, 1)}", class_="points")
        for task, points in items
    ]
    return join(words, " ")


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
