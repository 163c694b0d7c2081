"""The contact sheet of a plan: one source, every artefact at up to five severities, to be played.

1. Choose  sources  -> source     N : 1    the first with sound, a face and two seconds
2. Cut     source   -> excerpt    1 : 1    three seconds are a video of their own
3. Make    artefact -> films      1 : N    in a child: pipelines/degrading/contact_process.py
4. Write   films    -> page       N : 1    pipelines/report/contact_sheet.py
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from actors.artefacts.artefact import SoundArtefact
from actors.artefacts.chain import Step
from actors.artefacts.registry import ARTEFACTS
from pipelines.degrading.config import DegradeConfig
from pipelines.degrading.contact_facts import Film, SheetFacts, SheetRow
from pipelines.degrading.contact_process import Look, Made, Request, Workshop
from pipelines.degrading.plan import DegradeInputError, SourcePlan, whole_grid
from pipelines.progress import LiveLine
from pipelines.report.contact_sheet import contact_sheet
from pipelines.storage import Store
from pipelines.uris import display_text
from pipelines.version import CODE_VERSION

SHEET: Final = "contact_sheet.html"
SECONDS: Final = 3.0  # of the excerpt
LEAST_SECONDS: Final = 2.0
COLUMNS: Final = 5  # severities, at most
LOOKED_AT: Final = 12  # sources
LOOK_SECONDS: Final = 180.0  # for one source
ROW_SECONDS: Final = 300.0  # for one artefact
NO_DONOR: Final = "No other source on its side of the split could lend its sound."

Say = Callable[[str], None]
Grid = Mapping[str, tuple[Step, ...]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    plan: SourcePlan
    look: Look
    lacks: tuple[str, ...]


def check_source(name: str, plans: Iterable[SourcePlan]) -> None:
    """Refuse a source that the corpus has not got.

    Raises:
        DegradeInputError: It is not among the plans.
    """
    if not any(plan.source.video_id == name for plan in plans):
        raise DegradeInputError(
            f"--contact-source: the corpus has no video {display_text(name)}; its ids are those in "
            "the column source of the manifest"
        )


def write_contact_sheet(
    store: Store,
    config: DegradeConfig,
    plans: Iterable[SourcePlan],
    say: Say,
    *,
    source: str | None = None,
) -> str | None:
    """Write ``contact_sheet.html`` into the output; equal plans and sources give equal bytes.

    Args:
        store: The output.
        config: Of the plan.
        plans: Of all sources, in the order of the corpus.
        say: Tells a person a line.
        source: Id of the source to show; default the first that has all that the plan's artefacts
            need.

    Returns:
        Where it is, for messages; None when no source could be shown: ``say`` told why.

    Raises:
        DegradeInputError: There is no such source.
        StorageError: It cannot be written.
    """
    known = list(plans)
    if source is not None:
        check_source(source, known)
        candidates = [plan for plan in known if plan.source.video_id == source]
    else:
        candidates = known[:LOOKED_AT]
    line = LiveLine()
    with Workshop(config.decode, SECONDS) as workshop:
        chosen, troubles = _choose(workshop, candidates, known, config, line)
        if chosen is None:
            line.end()
            for name, trouble in troubles.items():
                say(f"contact sheet: {display_text(name)}: {display_text(trouble, 500)}")
            say("contact sheet: none was written, as no source could be shown")
            return None
        rows = _rows(workshop, chosen.plan, known, config, line)
    line.end()
    ref = chosen.plan.source
    facts = SheetFacts(
        source=ref.video_id,
        speaker=ref.speaker,
        side=chosen.plan.side,
        size=chosen.look.size,
        seconds=chosen.look.seconds,
        clean=chosen.look.film,
        rows=rows,
        seed=config.seed,
        lacks=chosen.lacks,
        code_version=CODE_VERSION,
    )
    data = contact_sheet(facts).encode()
    if not store.exists(SHEET) or store.read_bytes(SHEET) != data:
        store.write_bytes(SHEET, data)
    place = store.display(SHEET)
    shown = sum(bool(film.mp4) for row in rows for film in row.films)
    say(f"contact sheet: {place}, {shown} films of {len(rows)} artefacts, {len(data) / 1e6:.1f} MB")
    return place


def _choose(
    workshop: Workshop,
    candidates: list[SourcePlan],
    plans: list[SourcePlan],
    config: DegradeConfig,
    line: LiveLine,
) -> tuple[_Candidate | None, dict[str, str]]:
    """Return the first source with all that is needed, else the one that lacks least."""
    best: _Candidate | None = None
    troubles: dict[str, str] = {}
    for number, plan in enumerate(candidates, 1):
        if line.due():
            line.draw(f"contact sheet: looking at source {number} of {len(candidates)}")
        steps = _grid(plan, plans, config)
        face = next((s[-1] for n, s in steps.items() if ARTEFACTS[n].group == "face" and s), None)
        hears = any(isinstance(ARTEFACTS[name], SoundArtefact) for name in steps)
        look = workshop.ask(Request(plan.source.uri, face=face), LOOK_SECONDS)
        if isinstance(look, str):
            troubles[plan.source.video_id] = look
            continue
        assert isinstance(look, Look)
        needs = {
            "sound": look.sound or not hears,
            "a face": look.face is not False,
            f"{LEAST_SECONDS:g} seconds": look.seconds >= LEAST_SECONDS,
        }
        found = _Candidate(plan, look, tuple(name for name, there in needs.items() if not there))
        if best is None or len(found.lacks) < len(best.lacks):
            best = found
        if not best.lacks:
            break
    return best, troubles


def _grid(plan: SourcePlan, plans: list[SourcePlan], config: DegradeConfig) -> Grid:
    peers = (other.source for other in plans if other.side == plan.side)
    return {name: _few(s) for name, s in whole_grid(plan.source, peers, config).items()}


def _few(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return at most five of the steps, the first and the last among them."""
    if len(steps) <= COLUMNS:
        return steps
    places = np.rint(np.linspace(0, len(steps) - 1, COLUMNS)).astype(int).tolist()
    return tuple(steps[place] for place in places)


def _rows(
    workshop: Workshop,
    plan: SourcePlan,
    plans: list[SourcePlan],
    config: DegradeConfig,
    line: LiveLine,
) -> tuple[SheetRow, ...]:
    rows: list[SheetRow] = []
    grid = _grid(plan, plans, config)
    for number, (name, steps) in enumerate(grid.items(), 1):
        if line.due():
            line.draw(f"contact sheet: artefact {number} of {len(grid)}, {name}")
        made: Made | str = NO_DONOR
        if steps:
            made = workshop.ask(Request(plan.source.uri, steps), ROW_SECONDS)
        if isinstance(made, str):
            severities = [s.severity for s in steps] or list(config.severities_of(name)[:1])
            made = Made(tuple(Film(severity, reason=made) for severity in severities), b"", b"")
        how = config.types[name]
        clean = (made.clean_still, made.clean_detail)
        rows.append(SheetRow(name, made.films, *clean, how.held_out, how.blind))
    return tuple(rows)
