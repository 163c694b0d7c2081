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

import itertools
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from actors.types import VideoRef
from pipelines.cluster import connected
from pipelines.config import digest
from pipelines.degrading.config import DegradeConfig
from pipelines.degrading.contact_sheet import check_source, write_contact_sheet
from pipelines.degrading.plan import DegradeInputError, SourcePlan, deal
from pipelines.degrading.processor import FOLDER, VIDEOS, DegradeFactory
from pipelines.degrading.tables import FORMAT, LABELS, MANIFEST, PLAN, Made, write_tables
from pipelines.failures import FailureTable
from pipelines.keeper import Keeper
from pipelines.ledger import Ledger
from pipelines.lock import LockGuard, RunLock
from pipelines.messages import RunContext
from pipelines.paths import storable
from pipelines.pool import WorkerPool
from pipelines.pool_run import run_pool
from pipelines.progress import ProgressLine
from pipelines.resources import plan as plan_resources
from pipelines.shard_index import list_shards
from pipelines.shards import clean_leftovers
from pipelines.spool import SpooledCorpus, spool_corpus
from pipelines.storage import StorageError, Store
from pipelines.summary import describe, summarise
from pipelines.todo import Todo, listed
from pipelines.uris import display_text, scheme_of, strip_credentials
from pipelines.version import CODE_VERSION

_USED = ["video_id", "source_version", "name", "uri", "digest", "reason", "message"]


@dataclass(frozen=True)
class Degraded:
    """What there is now.

    Attributes:
        made: Variants, in the order of the manifest.
        missing: Variants that could not be made: id, reason, message.
        without_donor: Sources that lack a donor of sound -> types that they go without.
        summary: Of the run on the pool; None for a virtual corpus.
    """

    made: list[Made]
    missing: list[tuple[str, str, str]]
    without_donor: dict[str, tuple[str, ...]]
    summary: dict[str, Any] | None


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
    run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(started))}-{os.urandom(3).hex()}"
    store = Store.at(out)
    _check_output(store, config.corpus.corpus, virtual=virtual)
    corpus, warnings = listed(config.corpus)  # 1
    sources = list(corpus)
    _check_sources(store, sources, virtual=virtual)
    plans = {plan.source.video_id: plan for plan in deal(sources, config)}  # 2
    if contact_source is not None:
        check_source(contact_source, plans.values())  # at once, not after hours

    def show() -> None:  # 8
        if contact_sheet or contact_source is not None:
            write_contact_sheet(store, config, plans.values(), line.say, source=contact_source)

    without = {name: plan.without_donor for name, plan in plans.items() if plan.without_donor}
    line = ProgressLine(len(plans))
    for text in warnings:
        line.say(text)
    if virtual:
        with RunLock(store, run_id, wait=config.run.wait_lock):
            # Again: there may be another corpus now, of a run that this one waited for.
            _check_output(store, config.corpus.corpus, virtual=True)
            chosen = itertools.islice(plans.values(), config.run.limit)
            made = [Made(v) for plan in chosen for v in plan.variants]
            write_tables(store, made, config, virtual=True)  # 6
            show()
        return Degraded(made, [], without, None)
    with RunLock(store, run_id, wait=config.run.wait_lock):
        _check_output(store, config.corpus.corpus, virtual=False)  # again, as above
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
                line.say(describe(layout))
                pool = WorkerPool(
                    layout, DegradeFactory(config, store.raw_uri), config.run.limits, keeper
                )
                context = RunContext(
                    run_id,
                    store.raw_uri,
                    digest({"format": FORMAT}),
                    CODE_VERSION,
                    config.run.shard_clips,
                    config.run.flush_seconds,
                    folder=FOLDER,
                )
                report = run_pool(config.run, pool, keeper, todo, lambda _: context)  # 4, 5
        present = _stored(store)
        versions = {ref.video_id: ref.version for ref in todo_corpus}
        made, missing = _made(present, plans, versions)
        guard()
        write_tables(store, made, config, virtual=False)  # 6
        # Before the rows that name them go: a run that is killed here leaves no video behind.
        for uri in _unneeded(present, versions):  # 7
            store.delete(uri)
        keeper.settle(todo_corpus)
        show()
        summary = summarise(
            counts, keeper, report=report, layout=layout, run_id=run_id, started=started
        )
    return Degraded(made, missing, without, summary)


def _check_output(store: Store, corpus: str, *, virtual: bool) -> None:
    """Refuse an output that is something else.

    Raises:
        DegradeInputError: It holds something else, or the other kind of corpus; or its videos would
            be sources of the next run.
    """
    if corpus and not virtual:
        base = corpus.rstrip("/") if scheme_of(corpus) else os.path.abspath(corpus)  # noqa: PTH100
        below = store.raw_uri.removeprefix(f"{base}/").split("/")
        inside = store.raw_uri.startswith(f"{base}/") and not any(p[:1] in "._" for p in below)
        if inside or store.raw_uri == base:
            raise DegradeInputError(
                f"{store.display('')} lies in the corpus: the next run would take what this one "
                "makes for clean videos. Choose another --out"
            )
    if store.exists("run.json"):
        raise DegradeInputError(
            f"{store.display('')} holds features, scores or a training run: choose another --out"
        )
    if not store.exists(PLAN):
        for name in (MANIFEST, LABELS):
            if store.exists(name):
                raise DegradeInputError(
                    f"{store.display(name)} is there already, and not of this command: choose "
                    "another --out, or move it away"
                )
        if virtual and list_shards(store, FOLDER):
            raise DegradeInputError(
                f"{store.display('')} holds a stored corpus that is not finished, and this run "
                "would make a virtual one: choose another --out"
            )
        return
    try:
        record = json.loads(store.read_bytes(PLAN))
        known = record["format"] == FORMAT
        was_virtual = bool(record["virtual"])
    except (ValueError, KeyError, TypeError):
        known = was_virtual = False
    if not known:
        raise DegradeInputError(
            f"{store.display(PLAN)} is damaged or not ours: choose another --out, or remove it"
        )
    if was_virtual != virtual:
        kinds = ("virtual", "stored") if was_virtual else ("stored", "virtual")
        raise DegradeInputError(
            f"{store.display('')} holds a {kinds[0]} corpus, and this run would make a {kinds[1]} "
            "one: choose another --out"
        )


def _check_sources(store: Store, sources: list[VideoRef], *, virtual: bool) -> None:
    """Refuse sources that are themselves made, or that no manifest can name.

    Raises:
        DegradeInputError: Names one.
    """
    for ref in sources:
        if ref.artefacts:
            raise DegradeInputError(
                f"{display_text(ref.video_id)} is itself a virtual variant: degrade clean videos"
            )
        if not virtual and ref.uri.startswith(f"{store.raw_uri}/{VIDEOS}"):
            raise DegradeInputError(
                f"{display_text(ref.video_id)} lies among the videos of --out: give the clean "
                "videos alone as --corpus"
            )
        if virtual and ref.uri != storable(ref.uri):
            raise DegradeInputError(
                f"the name of {display_text(ref.video_id)} is not UTF-8, so no manifest can hold "
                "it: rename the file, or make a stored corpus"
            )
        if virtual and scheme_of(ref.uri) and ref.uri != strip_credentials(ref.uri):
            raise DegradeInputError(
                f"the address of {display_text(ref.video_id)} is a signed link, or holds a "
                "password or a query, which no manifest may keep: give plain addresses, such as "
                "s3://…, or make a stored corpus"
            )


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
