"""The account of a run of jobs/degrade.py for a person."""

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from actors.artefacts.registry import ARTEFACTS
from pipelines.degrading.config import SIDES
from pipelines.degrading.tables import LABELS, MANIFEST
from pipelines.storage import strip_credentials
from pipelines.summary import failures_told, stages_told
from pipelines.uris import display_text

if TYPE_CHECKING:
    from pipelines.degrade import Degraded

SHOWN = 5


def account(done: "Degraded", out: str) -> str:
    """Say what was made and where it is."""
    place = strip_credentials(out).rstrip("/")
    lines = []
    if done.summary is not None:
        videos = done.summary["videos"]
        lines.append(
            f"{videos['done']} sources degraded, {videos['failed']} failed, "
            f"{videos['done_before']} done before, {videos['failed_before']} failed before"
        )
        if "stage_share" in done.summary:
            lines.append(stages_told(done.summary))
        if done.summary["failures"]:
            lines.append(failures_told(done.summary))
    sources = {one.variant.source.video_id for one in done.made}
    kind = "virtual variants" if all(one.uri is None for one in done.made) else "videos"
    split = Counter(one.variant.side for one in done.made)
    shares = ", ".join(f"{split[side]} {side}" for side in SIDES if split[side])
    lines.append(f"{len(done.made)} {kind} of {len(sources)} sources ({shares or 'none'})")
    if done.gone:
        lines.append(
            f"{done.gone} variants that manifest and labels named before are in them no more: the "
            "plan or the corpus has changed"
        )
    lines += _missing(done)
    lines += _cut_off(done)
    if done.without_donor:
        types = sorted({name for names in done.without_donor.values() for name in names})
        lines.append(
            f"{len(done.without_donor)} sources go without {', '.join(types)}: no other source on "
            "their side of the split could lend its sound"
        )
    if done.short:
        lines.append(
            f"{len(done.short)} sources have fewer combinations than asked for "
            f"({sum(done.short.values())} are lacking): the types and severities of their side of "
            "the split give no more"
        )
    if done.made:
        lines += [f"manifest: {place}/{MANIFEST}", f"labels: {place}/{LABELS}"]
    return "\n".join(lines)


def _missing(done: "Degraded") -> list[str]:
    if not done.missing:
        return []
    counts = Counter(reason for _, reason, _ in done.missing)
    told = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    lines = [f"{len(done.missing)} variants could not be made: {told}"]
    lines += [
        f"  {display_text(name)}: {display_text(message)}"
        for name, _, message in done.missing[:SHOWN]
    ]
    if len(done.missing) > SHOWN:
        lines.append(f"  and {len(done.missing) - SHOWN} more, in made/*.parquet")
    return lines


def _cut_off(done: "Degraded") -> list[str]:
    if not done.cut_off:
        return []
    head = (
        f"{len(done.cut_off)} sources end before their header says: they were cut off, and what is "
        "left was taken for clean. Put whole ones in their place, or leave them out"
    )
    lines = [head]
    lines += [
        f"  {display_text(name)}: {there:.1f} s of {promised:.1f} s"
        for name, (there, promised) in itertools.islice(done.cut_off.items(), SHOWN)
    ]
    if len(done.cut_off) > SHOWN:
        lines.append(f"  and {len(done.cut_off) - SHOWN} more, see missing_s in made/*.parquet")
    return lines


def listing() -> str:
    """List all artefacts: type, group, what they harm, and severity 1 in physical units."""
    rows = [("type", "group", "harms (points at severity 1)", "at severity 1")]
    for artefact in ARTEFACTS.values():
        harms = ", ".join(f"{task} {points:g}" for task, points in artefact.harms.items())
        measures = ", ".join(f"{name} {value:g}" for name, value in artefact.measures(1.0).items())
        rows.append((artefact.type, artefact.group, harms, measures))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )
