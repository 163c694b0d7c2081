"""Degrading: from clean videos to a corpus of known damage, stored or virtual.

1. List    corpus -> sources            1 : N      pipelines/corpus.py
2. Deal    source -> variants           1 : N      pipelines/degrading/plan.py: hashes alone
3. Look    output -> what is made       N : N      pipelines/ledger.py (stored only, as 4 to 6)
4. Make    source -> videos, rows       1 : N      pipelines/degrading/processor.py on the pool
5. Commit  rows   -> shard              N : 1      pipelines/shards.py
6. Write   variants -> manifest, labels, plan      pipelines/degrading/tables.py
7. Settle  output: videos that no row needs, nothing twice, failure table, ledger
8. Show    plan   -> contact sheet      N : 1      pipelines/degrading/contact_sheet.py (if asked)
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pipelines.cluster import connected
from pipelines.config import digest
from pipelines.degrading.checks import check_output, check_sources
from pipelines.degrading.config import DegradeConfig
from pipelines.degrading.contact_sheet import check_source, write_contact_sheet
from pipelines.degrading.plan import SourcePlan, deal
from pipelines.degrading.processor import (
    FOLDER,
    VIDEOS,
    DegradeFactory,
    folder_of,
    is_variant,
)
from pipelines.degrading.tables import (
    FORMAT,
    Made,
    listed_before,
    write_tables,
)
from pipelines.failures import FailureTable
from pipelines.keeper import CUT_OFF_SECONDS, Keeper
from pipelines.ledger import Ledger
from pipelines.lock import LockGuard, RunLock, new_run_id
from pipelines.messages import PoolReport, RunContext
from pipelines.pool import WorkerPool
from pipelines.pool_run import run_pool
from pipelines.progress import ProgressLine
from pipelines.resources import Plan
from pipelines.resources import plan as plan_resources
from pipelines.shard_index import list_shards
from pipelines.shards import clean_leftovers
from pipelines.spool import SpooledCorpus, spool_corpus
from pipelines.storage import StorageError, Store
from pipelines.summary import describe, summarise
from pipelines.todo import Todo, listed
from pipelines.version import CODE_VERSION

_USED = ["video_id", "source_version", "name", "uri", "digest", "reason", "message"]
_USED += ["end_s", "missing_s"]


@dataclass(frozen=True)
class Degraded:
    """What there is now.

    Attributes:
        made: Variants, in the order of the manifest.
        missing: Variants that could not be made: id, reason, message.
        cut_off: Sources that end before their header says -> seconds that there are, and that it
            promises. A virtual corpus opens no source: extraction and scoring count them.
        without_donor: Sources that lack a donor of sound -> types that they go without.
        short: Sources with fewer combinations than were asked for -> how many are lacking.
        summary: Of the run on the pool; None for a virtual corpus.
        gone: How many variants the tables named before, and do not any more.
    """

    made: list[Made]
    missing: list[tuple[str, str, str]]
    cut_off: dict[str, tuple[float, float]]
    without_donor: dict[str, tuple[str, ...]]
    short: dict[str, int]
    summary: dict[str, Any] | None
    gone: int


def degrade(
    config: DegradeConfig,
    out: str,
    *,
    virtual: bool,
    address: str | None = None,
    local_cpus: int | None = None,
    contact_sheet: bool = False,
    contact_source: str | None = None,
) -> Degraded:
    """Run the chain.

    Args:
        config: Validated settings.
        out: Folder or URI of the output.
        virtual: Write no video: the manifest says what is done at decode.
        address: Ray cluster; default $RAY_ADDRESS, else a local one.
        local_cpus: CPUs of a local cluster.
        contact_sheet: Write ``contact_sheet.html`` as well.
        contact_source: Id of the source that it shows; default the first that fits.

    Raises:
        DegradeInputError, CorpusError, StorageError, LockHeld: With messages for the user.
        RunError: The run cannot go on; what was committed stands.
    """
    started = time.time()
    run_id = new_run_id(started)
    store = Store.at(out)
    check_output(store, config.corpus.corpus, virtual=virtual)
    corpus, warnings = listed(config.corpus)  # 1
    sources = list(corpus)
    check_sources(store, sources, virtual=virtual)
    plans = {plan.source.video_id: plan for plan in deal(sources, config)}  # 2
    if contact_source is not None:
        check_source(contact_source, plans.values())  # at once, not after hours

    def show() -> None:  # 8
        if contact_sheet or contact_source is not None:
            write_contact_sheet(store, config, plans.values(), line.say, source=contact_source)

    without = {name: plan.without_donor for name, plan in plans.items() if plan.without_donor}
    short = {n: p.combinations_short for n, p in plans.items() if p.combinations_short}
    line = ProgressLine(len(plans))
    for text in warnings:
        line.say(text)
    with RunLock(store, run_id, wait=config.run.wait_lock):
        # Again: there may be another corpus now, of a run that this one waited for.
        check_output(store, config.corpus.corpus, virtual=virtual)
        before = listed_before(store)
        if virtual:
            chosen = _within(config.run.limit, plans.values(), set(before.values()))
            made = [Made(v) for plan in chosen for v in plan.variants]
            write_tables(store, made, config, virtual=True)  # 6
            show()
            return Degraded(made, [], {}, without, short, None, _gone(before, made))
        for folder in (FOLDER, VIDEOS):
            clean_leftovers(store, folder)
        todo_corpus = _versioned(plans.values())
        ledger, failures = Ledger.load(store, FOLDER), FailureTable.load(store, run_id)  # 3
        todo = Todo(todo_corpus, ledger, failures, config.run.retry_failed, config.run.limit)
        counts = todo.count()
        guard = LockGuard(store.raw_uri, run_id)
        line = ProgressLine(counts.todo)
        keeper = Keeper(store, ledger, failures, line, guard)
        line.say(str(counts))
        report, layout = None, None
        if counts.todo:
            with connected(address, local_cpus=local_cpus) as cluster:
                layout = plan_resources(cluster, config.resources)
                report = _make(config, layout, keeper, todo, run_id)  # 4, 5
        present = _stored(store)
        versions = {ref.video_id: ref.version for ref in todo_corpus}
        made, missing = _made(present, plans, versions)
        guard()
        write_tables(store, made, config, virtual=False)  # 6
        # Before the rows that name them go: a run that is killed here leaves no video behind.
        for uri in _unneeded(present, versions).union(_orphans(store, present, versions)):  # 7
            store.delete(uri)
        keeper.settle(todo_corpus)
        show()
        summary = summarise(
            counts, keeper, report=report, layout=layout, run_id=run_id, started=started
        )
    cut_off = _cut_off(present, versions)
    return Degraded(made, missing, cut_off, without, short, summary, _gone(before, made))


def _make(
    config: DegradeConfig, layout: Plan, keeper: Keeper, todo: Todo, run_id: str
) -> PoolReport:
    """Make what is to be done on the pool."""
    keeper.line.say(describe(layout))
    uri = keeper.store.raw_uri
    pool = WorkerPool(layout, DegradeFactory(config, uri), config.run.limits, keeper)
    context = RunContext(
        run_id,
        uri,
        digest({"format": FORMAT}),
        CODE_VERSION,
        config.run.shard_clips,
        config.run.flush_seconds,
        folder=FOLDER,
    )
    return run_pool(config.run, pool, keeper, todo, lambda _: context)


def _within(
    limit: int | None, plans: Iterable[SourcePlan], before: set[str]
) -> Iterator[SourcePlan]:
    """Yield what the tables have already and, as in a stored corpus, so many more sources."""
    left = math.inf if limit is None else limit
    for plan in plans:
        if plan.source.video_id in before:
            yield plan
        elif left > 0:
            left -= 1
            yield plan


def _gone(before: Iterable[str], made: Iterable[Made]) -> int:
    return len(set(before).difference(one.variant.video_id for one in made))


def _versioned(plans: Iterable[SourcePlan]) -> SpooledCorpus:
    """Return the sources with all that is made of them as part of their version."""
    return spool_corpus(
        replace(
            plan.source,
            version=f"{plan.source.version}@{plan.version()}",
            artefacts=plan.text(),
        )
        for plan in plans
    )


def _stored(store: Store) -> list[dict[str, Any]]:
    """Read the rows of what was made."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for info in list_shards(store, FOLDER):
        with store.open(info.name) as file:
            try:
                rows += pq.ParquetFile(file).read(_USED).to_pylist()
            except (pa.ArrowInvalid, OSError) as error:
                raise StorageError(
                    f"{store.display(info.name)} cannot be read ({error}): remove it and run again"
                ) from error
    return rows


def _unneeded(rows: list[dict[str, Any]], versions: dict[str, str]) -> set[str]:
    """Return the videos that older plans made and no row stands for any more.

    Rows of sources that the corpus does not list now stay, and so do those of a source of which
    nothing newer could be made: see :mod:`pipelines.reconcile`.
    """
    now = {
        row["video_id"] for row in rows if versions.get(row["video_id"]) == row["source_version"]
    }
    stay, go = set[str](), set[str]()
    for row in rows:
        if row["uri"] is not None:
            replaced = row["video_id"] in now and versions[row["video_id"]] != row["source_version"]
            (go if replaced else stay).add(row["uri"])
    return go - stay


def _orphans(store: Store, rows: list[dict[str, Any]], sources: Iterable[str]) -> list[str]:
    """Return the videos that no row names: a run was killed after it had stored them.

    Only what bears the name of a variant, in the folder of a source: other files are not ours.
    """
    named = {row["uri"] for row in rows}
    folders = {f"{VIDEOS}{folder_of(name)}" for name in sources}
    found = []
    for info in store.iter_objects(VIDEOS):
        folder, _, file = info.name.rpartition("/")
        if info.name not in named and folder in folders and is_variant(file):
            found.append(info.name)
    return found


def _cut_off(
    rows: list[dict[str, Any]], versions: dict[str, str]
) -> dict[str, tuple[float, float]]:
    """Return the sources, as they are now, that end too early: seconds there, seconds promised."""
    return {
        row["video_id"]: (row["end_s"], row["end_s"] + row["missing_s"])
        for row in rows
        if versions.get(row["video_id"]) == row["source_version"]
        and (row.get("missing_s") or 0.0) > CUT_OFF_SECONDS  # older rows do not say
    }


def _made(
    rows: list[dict[str, Any]], plans: dict[str, SourcePlan], versions: dict[str, str]
) -> tuple[list[Made], list[tuple[str, str, str]]]:
    """Return what is there, in the order of the plans, and what could not be made."""
    found = {
        (row["video_id"], row["name"]): row
        for row in rows
        if versions.get(row["video_id"]) == row["source_version"]
    }
    made: list[Made] = []
    missing: list[tuple[str, str, str]] = []
    for name, plan in plans.items():
        for variant in plan.variants:
            row = found.get((name, variant.name))
            if row is None:
                continue  # the whole source failed: it is in the failure table
            if row["uri"] is None:
                missing.append((variant.video_id, row["reason"], row["message"]))
            else:
                made.append(Made(variant, row["uri"], row["digest"]))
    return made, missing
