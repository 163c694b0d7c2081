"""Extraction: from a corpus of videos to Parquet shards of features.

1. List    corpus -> videos            1 : N      pipelines/corpus.py
2. Look    output -> what is done      N : N      pipelines/ledger.py, pipelines/failures.py
3. Filter  videos -> videos to do      1 : 0..1
4. Plan    cluster -> workers          1 : 1      pipelines/resources.py
5. Lease   videos -> workers           N : 1      pipelines/leases.py, pipelines/pool.py
6. Prepare video  -> clips             1 : N      actors/prepare.py
7. Encode  clip   -> row               1 : 1      actors/encode.py
8. Commit  rows   -> shard             N : 1      pipelines/shards.py
9. Settle  output: nothing twice, failure table, ledger, summary
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from actors.features import FeaturesConfig
from actors.row import SCHEMA_VERSION
from actors.types import VideoRef
from model.config import Config
from pipelines.cluster import connected
from pipelines.config import differences, digest
from pipelines.corpus import CorpusConfig, CorpusReport, iter_corpus
from pipelines.failures import FailureTable
from pipelines.keeper import Keeper
from pipelines.leases import LeaseBook
from pipelines.ledger import Ledger
from pipelines.lock import LockGuard, RunLock
from pipelines.pool import Limits, PoolReport, RunError, WorkerPool
from pipelines.processors import ExtractFactory
from pipelines.progress import ProgressLine
from pipelines.resources import Plan, ResourcesConfig, plan
from pipelines.shards import clean_leftovers
from pipelines.spool import CorpusError, SpooledCorpus, spool_corpus
from pipelines.storage import Store, strip_credentials
from pipelines.version import CODE_VERSION
from pipelines.worker import ProcessorFactory, ProcessorInfo, RunContext

LOOK_BATCH = 2048
DEMONSTRATION = (
    "DEMONSTRATION: seeded (random) weights; these features have no meaning for real quality"
)


class RunConfig(Config):
    """How a run behaves; none of it changes values."""

    shard_clips: int = Field(
        64, ge=1, description="clips after which a worker publishes a shard (about 80 MB)"
    )
    flush_seconds: float = Field(
        120.0, gt=0, description="rows wait no longer than this for their shard"
    )
    stall_seconds: float = Field(
        60.0, gt=0, description="a worker without any progress for so long is ended"
    )
    video_seconds: float = Field(3600.0, gt=0, description="what one video may take in all")
    max_attempts: int = Field(2, ge=1, description="how often a video may bring its worker down")
    retry_failed: bool = Field(
        False, description="try videos again that failed for good in an earlier run"
    )
    wait_lock: bool = Field(
        False, description="wait for another run on the same output instead of stopping"
    )
    limit: int | None = Field(None, ge=1, description="process at most so many videos in this run")


class ExtractConfig(FeaturesConfig):
    """Everything that steers `jobs/extract.py`."""

    corpus: CorpusConfig
    resources: ResourcesConfig = ResourcesConfig()
    run: RunConfig = RunConfig()

    def features(self) -> FeaturesConfig:
        """Return the part that a worker needs."""
        return FeaturesConfig(**{name: getattr(self, name) for name in FeaturesConfig.model_fields})


class OutputMismatch(RunError):
    """The output holds features of other settings."""


@dataclass(slots=True)
class Todo:
    """What a look at corpus and output found."""

    corpus: SpooledCorpus
    todo: int
    todo_bytes: int
    done: int
    changed: int
    failed_before: int


def listed(config: ExtractConfig) -> tuple[SpooledCorpus, list[str]]:
    """List the corpus (chain step 1); returns it and what a person should know of it.

    Raises:
        CorpusError: It cannot be listed, or there is no video in it.
    """
    report = CorpusReport()
    corpus = spool_corpus(iter_corpus(config.corpus, report))
    if not corpus.count:
        raise CorpusError(
            f"{strip_credentials(config.corpus.corpus)}: there is no video in it"
            + "".join(f"; {warning}" for warning in report.warnings())
        )
    return corpus, report.warnings()


def look(
    config: ExtractConfig, corpus: SpooledCorpus, ledger: Ledger, failures: FailureTable
) -> Todo:
    """Count what is to be done (chain steps 1 to 3)."""
    found = Todo(corpus, 0, 0, 0, 0, 0)
    for ref, state in _judged(config, corpus, ledger, failures):
        if state == "done":
            found.done += 1
        elif state == "failed":
            found.failed_before += 1
        else:
            found.todo += 1
            found.todo_bytes += ref.size or 0
            found.changed += state == "changed"
    if config.run.limit is not None and found.todo > config.run.limit:
        found.todo = config.run.limit
    return found


def _judged(
    config: ExtractConfig, corpus: SpooledCorpus, ledger: Ledger, failures: FailureTable
) -> Iterator[tuple[VideoRef, str]]:
    refs = iter(corpus)
    while batch := list(itertools.islice(refs, LOOK_BATCH)):
        states = ledger.status_many([(ref.video_id, ref.version) for ref in batch])
        for ref, state in zip(batch, states, strict=True):
            before = failures.status(ref.video_id, ref.version)
            if state != "done" and before == "permanent" and not config.run.retry_failed:
                yield ref, "failed"
            else:
                yield ref, state


def videos_to_do(
    config: ExtractConfig, corpus: SpooledCorpus, ledger: Ledger, failures: FailureTable
) -> Iterator[VideoRef]:
    """Stream the videos that are to be processed (chain step 3)."""
    refs = (
        ref
        for ref, state in _judged(config, corpus, ledger, failures)
        if state in ("new", "changed")
    )
    return itertools.islice(refs, config.run.limit)


def extract(
    config: ExtractConfig,
    out: str,
    *,
    address: str | None = None,
    local_cpus: int | None = None,
    factory: ProcessorFactory | None = None,
) -> dict[str, Any]:
    """Run the chain; returns the summary that is also stored as ``summary.json``.

    Args:
        config: Validated settings.
        out: Folder or URI of the output.
        address: Ray cluster; default $RAY_ADDRESS, else a local one.
        local_cpus: CPUs of a local cluster.
        factory: Another processor than that of ``config`` (tests and benchmarks).

    Raises:
        RunError: The run cannot go on.
        StorageError, CorpusError, LockHeld: With messages for the user.
    """
    started = time.time()
    run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(started))}-{os.urandom(3).hex()}"
    store = Store.at(out)
    corpus, warnings = listed(config)
    with RunLock(store, run_id, wait=config.run.wait_lock):
        clean_leftovers(store)
        check_settings(store, config)
        ledger, failures = Ledger.load(store), FailureTable.load(store, run_id)
        todo = look(config, corpus, ledger, failures)
        keeper = Keeper(
            store, ledger, failures, ProgressLine(todo.todo), LockGuard(store.raw_uri, run_id)
        )
        for text in (*warnings, account(todo)):
            keeper.line.say(text)
        report, layout = None, None
        if todo.todo:
            with connected(address, local_cpus=local_cpus) as cluster:
                layout = plan(cluster, config.resources)
                keeper.line.say(_describe(layout))
                report = _process(config, layout, factory, keeper, todo, RunPlace(run_id, out))
            keeper.settle(corpus)
        summary = summarise(config, todo, keeper, report, layout, (run_id, started))
        store.write_bytes("summary.json", json.dumps(summary, indent=1).encode())
    return summary


def account(todo: Todo) -> str:
    """Say in one line what there is and what is to be done."""
    changed = f" ({todo.changed} of them changed)" if todo.changed else ""
    return (
        f"{todo.corpus.count} videos ({size(todo.corpus.total_bytes)}): {todo.done} done before, "
        f"{todo.failed_before} failed before, {todo.todo} to do{changed}"
    )


def size(count: int) -> str:
    """Write bytes as a person would."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Which run writes where."""

    run_id: str
    out: str


def _process(
    config: ExtractConfig,
    layout: Plan,
    factory: ProcessorFactory | None,
    keeper: Keeper,
    todo: Todo,
    place: RunPlace,
) -> PoolReport:
    run = config.run
    limits = Limits(run.stall_seconds, run.video_seconds, run.max_attempts)
    if factory is None:
        factory = ExtractFactory(
            config.features(), layout, todo.todo // layout.workers, run.stall_seconds
        )
    pool = WorkerPool(layout, factory, limits, keeper)
    try:
        info = pool.start()
        for name, note in sorted(info.notes.items()):
            keeper.line.say(f"{name}: {note}")
        if info.demonstration:
            keeper.line.say(DEMONSTRATION)
        fingerprint = _store_settings(keeper.store, config, info)
        context = RunContext(
            place.run_id, place.out, fingerprint, CODE_VERSION, run.shard_clips, run.flush_seconds
        )
        videos = videos_to_do(config, todo.corpus, keeper.ledger, keeper.failures)
        book = LeaseBook(videos, max_attempts=run.max_attempts)
        keeper.line.restart()
        report = pool.run(book, context)
    finally:
        pool.stop()
        keeper.save()
    keeper.line.close(layout.workers)
    if book.taken != book.committed + book.failed:
        raise RunError(
            f"{book.taken} videos were taken, but {book.committed} committed and {book.failed} failed: "
            "this is a defect of TalkMOS, please report it"
        )
    return report


# --- settings of an output


def _settings(config: ExtractConfig) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **config.features().value_settings()}


def _stored_settings(store: Store) -> dict[str, Any]:
    try:
        stored = json.loads(store.read_bytes("run.json"))
        if {"settings", "fingerprint", "extractors", "weights"} <= stored.keys():
            return dict(stored)
    except (ValueError, AttributeError):
        pass
    raise OutputMismatch(
        f"{store.display('run.json')} is damaged, so nobody can tell with which settings the "
        "features there were made: choose another --out"
    )


def check_settings(store: Store, config: ExtractConfig) -> None:
    """Refuse early, before models are loaded, what cannot go into the same output.

    Raises:
        OutputMismatch: Names the settings that differ.
    """
    if not store.exists("run.json"):
        return
    old = _stored_settings(store)
    new = json.loads(json.dumps(_settings(config)))
    changes = differences(old["settings"], new)
    if changes:
        raise OutputMismatch(_mismatch(store, changes))


def _store_settings(store: Store, config: ExtractConfig, info: ProcessorInfo) -> str:
    values = {
        "settings": json.loads(json.dumps(_settings(config))),
        "extractors": info.extractors,
        "weights": info.weights,
    }
    fingerprint = digest(values)
    if store.exists("run.json"):
        old = _stored_settings(store)
        if old["fingerprint"] != fingerprint:
            kept = {key: old[key] for key in values}
            raise OutputMismatch(_mismatch(store, differences(kept, values)))
        return fingerprint
    record = {
        "fingerprint": fingerprint,
        **values,
        "demonstration": info.demonstration,
        "code_version": CODE_VERSION,
        "corpus": strip_credentials(config.corpus.corpus),
    }
    store.write_bytes("run.json", json.dumps(record, indent=1, sort_keys=True).encode())
    return fingerprint


def _mismatch(store: Store, changes: list[str]) -> str:
    lines = "\n".join(f"  {change}" for change in changes)
    return (
        f"{store.uri} holds features of other settings (old -> new):\n{lines}\n"
        "Features of different settings do not belong together: choose another --out, or the old settings."
    )


def summarise(
    config: ExtractConfig,
    todo: Todo,
    keeper: Keeper,
    report: PoolReport | None,
    layout: Plan | None,
    run: tuple[str, float],
) -> dict[str, Any]:
    """Compose the summary of a run; all figures are of this run unless they say ``total``."""
    run_id, started = run
    summary: dict[str, Any] = {
        "run_id": run_id,
        "code_version": CODE_VERSION,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 3),
        "videos": {
            "corpus": todo.corpus.count,
            "done_before": todo.done,
            "failed_before": todo.failed_before,
            "to_do": todo.todo,
            "done": keeper.videos,
            "failed": keeper.failed,
        },
        "clips": keeper.clips,
        "uncovered_seconds": round(keeper.uncovered_s, 3),
        "failures": dict(sorted(keeper.reasons.items())),
        "shards": {"written": keeper.shards, "bytes": keeper.bytes, "repaired": keeper.repaired},
        "total": {"videos": keeper.ledger.videos, "clips": keeper.ledger.clips},
        "driver_peak_rss_mib": round(keeper.driver_peak / 2**20),
    }
    if report is not None and layout is not None:
        work = max(report.work_seconds, 1e-9)
        busy = report.busy_seconds
        stages = sorted(report.timings.seconds.items(), key=lambda item: -item[1])
        summary |= {
            "layout": layout.layout,
            "workers": layout.workers,
            "workers_lost": report.workers_lost,
            "work_seconds": round(work, 3),
            "clips_per_second": round(keeper.clips / work, 3),
            "busy_share": round(busy / (work * layout.workers), 4),
            "stage_seconds": {name: round(seconds, 3) for name, seconds in stages},
            "stage_share": {name: round(seconds / max(busy, 1e-9), 4) for name, seconds in stages},
            "worker_peak_rss_mib": round(report.peak_rss / 2**20),
            "weights": report.info.weights,
            "notes": report.info.notes,
            "demonstration": report.info.demonstration,
        }
    return summary


def _describe(layout: Plan) -> str:
    place = "on GPUs" if layout.device == "cuda" else "on CPUs"
    helpers = f", each with {layout.preparers} decoding processes" if layout.preparers else ""
    return f"{layout.workers} workers {place}, {layout.threads} thread(s) each{helpers}"
