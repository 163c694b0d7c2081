"""The end of a scoring run: comparisons, verdict, report and summaries.

The scores stand before anything here begins; a run that is killed in between is completed by the
next one, which scores nothing.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from actors.types import VideoRef
from pipelines.config import digest
from pipelines.scoring import tables
from pipelines.scoring.baseline import Change, compare
from pipelines.scoring.facts import ReportFacts
from pipelines.scoring.gate import GateFacts, GateResult, Verdict, judge
from pipelines.scoring.key_frames import key_frames, wanted
from pipelines.scoring.leaderboard import leaderboard
from pipelines.scoring.present import labelled, labels_differ, present
from pipelines.scoring.standouts import standouts
from pipelines.storage import Store, strip_credentials
from pipelines.version import CODE_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from pipelines.checkpoint import CheckpointPeek
    from pipelines.scoring.config import ScoreConfig
    from pipelines.scoring.prepared import Prepared

FOLDER = "report/"
ALL_LOST = "no video of the baseline has scores in this run"
HTML, JSON, MARKDOWN = (f"{FOLDER}{name}" for name in ("report.html", "summary.json", "summary.md"))


@dataclass(frozen=True)
class Told:
    """What a run says at its end.

    Attributes:
        summary: ``report/summary.json``.
        text: The account for a terminal.
        passed: The gate's verdict; True without a gate.
        videos: Videos of the corpus.
        failed: Of them, those that have no scores.
    """

    summary: dict[str, Any]
    text: str
    passed: bool
    videos: int
    failed: int


@dataclass(frozen=True)
class Scored:
    """A run whose scores stand.

    Attributes:
        config: Settings of the run.
        peek: The checkpoint's own words.
        store: The output; its tables are complete.
        listed: video_id -> the video as the corpus has it now: what the report is about.
        prepared: Baseline and gate, read before anything was scored.
        run: The account of the run, see :func:`pipelines.summary.summarise`.
        failures: Rows of the failure table.
        guard: Called before every change; raises when this run may not change the output.
        say: Shows a line.
        uncertainty: Loads the calibration of the checkpoint.
    """

    config: "ScoreConfig"
    peek: "CheckpointPeek"
    store: Store
    listed: dict[str, VideoRef]
    prepared: "Prepared"
    run: dict[str, Any]
    failures: list[dict[str, Any]]
    guard: "Callable[[], None]"
    say: "Callable[[str], None]"
    uncertainty: "Callable[[], Any]"


def tell(done: Scored) -> Told:
    """Compare, judge and report; returns what to say."""
    failures = [_failure(row) for row in done.failures if row["video_id"] in done.listed]
    videos = present(tables.read_table(done.store, tables.VIDEOS, done.listed), done.listed)
    relabelled = labels_differ(videos, done.listed)
    if relabelled:
        done.say(
            f"{relabelled} videos bear another generator or speaker in the corpus than in the "
            "tables, where names stay as they were when a video was scored: the report, the gate "
            "and their intervals go by the corpus"
        )
        videos = labelled(videos, done.listed, done.uncertainty(), done.config.level)
    inputs = _inputs(done, videos, failures)
    known = _told_before(done.store, inputs)
    if known is not None:
        return _account(known, done.run, f"the report is up to date: {done.store.display(HTML)}")
    done.say("comparing, judging and reporting")
    report = _facts(done, videos, failures)
    return _account(_write(done, report, inputs), done.run, f"report: {done.store.display(HTML)}")


def _facts(done: Scored, videos: "pa.Table", failures: list[dict[str, Any]]) -> ReportFacts:
    config, prepared = done.config, done.prepared
    clips = present(tables.read_table(done.store, tables.CLIPS, done.listed), done.listed)
    board = leaderboard(videos, config.leaderboard)
    change = None
    if prepared.baseline is not None and _shares(videos, prepared.baseline):
        change = compare(
            videos,
            prepared.baseline,
            config.leaderboard,
            other_checkpoint=config.other_checkpoint,
            uri=strip_credentials(config.baseline or ""),
        )
    gate = _verdict(done, videos, len(failures), change)
    chosen = wanted(
        videos,
        worst=config.report.worst,
        best=config.report.best,
        pictures=config.report.pictures,
    )
    pictures = key_frames(
        [(name, done.listed[name].uri, times) for name, _, times in chosen],
        seconds=config.report.picture_seconds,
        artefacts={name: ref.artefacts for name, ref in done.listed.items() if ref.artefacts},
    )
    return ReportFacts(
        videos=videos,
        clips=clips,
        failures=failures,
        counts=_counts(done),
        leaderboard=board.to_json(),
        change=None if change is None else change.to_json(),
        gate=None if gate is None else gate.to_json(),
        standouts=[asdict(item) for item in standouts(videos, clips)],
        provenance=_provenance(done, videos),
        key_frames=pictures,
    )


def _shares(videos: "pa.Table", baseline: "pa.Table") -> bool:
    """Say whether a video of the baseline has scores in this run; all of them may have failed."""
    return not set(videos["video_id"].to_pylist()).isdisjoint(baseline["video_id"].to_pylist())


def _verdict(
    done: Scored, videos: "pa.Table", failed: int, change: Change | None
) -> GateResult | None:
    gate = done.prepared.gate
    if gate is None:
        return None
    drops: list[Verdict] = []
    if change is None:
        # A night of nothing new has no drop; videos that all failed may hide one.
        quiet = not done.listed or done.config.corpus.since is not None
        why = "no video of the baseline is in this run" if quiet else ALL_LOST
        drops = [Verdict(r.words, quiet, why) for r in gate.rules if r.max_drop is not None]
        rules = [rule for rule in gate.rules if rule.max_drop is None]
        gate = gate.model_copy(update={"rules": rules})
    demonstration = done.peek.features.demonstration
    facts = GateFacts(
        videos, len(done.listed), failed, demonstration, change, done.config.leaderboard
    )
    result = judge(gate, facts)
    passed = result.passed and all(verdict.passed for verdict in drops)
    return GateResult(passed, [*result.verdicts, *drops])


def _write(done: Scored, report: ReportFacts, inputs: str) -> dict[str, Any]:
    from pipelines.report.scoring import scoring_report
    from pipelines.report.scoring_text import markdown_summary, summary_json

    summary = {"inputs": inputs, "run": done.run, **summary_json(report)}
    shown = done.config.report
    page = scoring_report(report, worst=shown.worst, best=shown.best)
    text = markdown_summary(report)
    done.guard()
    # First it goes, last it comes back: it says that the others belong to it.
    done.store.delete(JSON)
    done.store.write_bytes(HTML, page.encode())
    done.store.write_bytes(MARKDOWN, text.encode())
    done.store.write_bytes(JSON, json.dumps(summary, indent=1).encode())
    return summary


def _failure(row: dict[str, Any]) -> dict[str, Any]:
    names = ("video_id", "uri", "stage", "message", "attempts")
    return {**{name: row[name] for name in names}, "reason": row["error_class"]}


def _inputs(done: Scored, videos: "pa.Table", failures: list[dict[str, Any]]) -> str:
    """Return a digest of everything that report and verdict follow from."""
    names = ("video_id", "source_version", "generator", "speaker")
    rows = zip(*(videos[name].to_pylist() for name in names), strict=True)
    failed = sorted((f["video_id"], f["stage"], f["reason"], f["message"]) for f in failures)
    text = hashlib.sha256()
    for part in (sorted(map(str, rows)), sorted(done.listed), failed):
        text.update(json.dumps(part).encode())
    gate = done.prepared.gate
    return digest(
        {
            "videos": text.hexdigest(),
            "settings": done.config.model_dump(
                mode="json", include={"leaderboard", "report", "level", "other_checkpoint"}
            ),
            "checkpoint": done.peek.digest,
            "baseline": done.prepared.baseline_digest,
            "gate": None if gate is None else gate.model_dump(mode="json"),
            "code": CODE_VERSION,
        }
    )


def _told_before(store: Store, inputs: str) -> dict[str, Any] | None:
    """Return the summary of an earlier run about the very same, if its report is there."""
    if not (store.exists(JSON) and store.exists(HTML) and store.exists(MARKDOWN)):
        return None
    try:
        summary = json.loads(store.read_bytes(JSON))
    except ValueError:
        return None  # damaged: it is written anew
    same = isinstance(summary, dict) and summary.get("inputs") == inputs
    return summary if same else None


def _counts(done: Scored) -> dict[str, int]:
    told = done.run["videos"]
    return {
        "corpus": len(done.listed),
        "scored": told["done"],
        "known": told["done_before"],
        "failed": told["failed"],
        "failed_before": told["failed_before"],
    }


def _provenance(done: Scored, videos: "pa.Table") -> dict[str, Any]:
    config, peek, run = done.config, done.peek, done.run
    spans = zip(videos["start_s"].to_pylist(), videos["end_s"].to_pylist(), strict=True)
    return {
        "run_id": run["run_id"],
        "started": run["started"],
        "seconds": run["wall_seconds"],
        "corpus": strip_credentials(config.corpus.corpus or config.features or ""),
        "checkpoint": strip_credentials(peek.where),
        "digest": peek.digest,
        "fingerprint": peek.features.fingerprint,
        "model_card": peek.card,
        "code_version": CODE_VERSION,
        "level": config.level,
        "demonstration": peek.features.demonstration,
        "baseline": None if config.baseline is None else strip_credentials(config.baseline),
        "video_seconds": round(sum(end - start for start, end in spans), 3),
    }


def _account(summary: dict[str, Any], run: dict[str, Any], last: str) -> Told:
    from pipelines.scoring.account import account

    told = run["videos"]
    gate = summary.get("gate")
    return Told(
        summary,
        account(summary, run, last),
        passed=gate is None or bool(gate["passed"]),
        videos=told["corpus"],
        failed=told["failed"] + told["failed_before"],
    )
