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

import json
import time
from collections.abc import Callable
from typing import Any

from actors.features import FeaturesConfig
from pipelines.cluster import connected
from pipelines.corpus import CorpusConfig
from pipelines.failures import FailureTable
from pipelines.keeper import Keeper
from pipelines.ledger import Ledger
from pipelines.lock import LockGuard, RunLock, new_run_id
from pipelines.messages import ProcessorFactory, ProcessorInfo, RunContext
from pipelines.pool import WorkerPool
from pipelines.pool_run import RunConfig, run_pool
from pipelines.processors import ExtractFactory
from pipelines.progress import ProgressLine
from pipelines.provenance import check_settings, store_settings
from pipelines.resources import ResourcesConfig, plan
from pipelines.shards import clean_leftovers
from pipelines.storage import Store
from pipelines.summary import describe, summarise
from pipelines.todo import Todo, listed
from pipelines.version import CODE_VERSION


class ExtractConfig(FeaturesConfig):
    """Everything that steers `jobs/extract.py`."""

    corpus: CorpusConfig
    resources: ResourcesConfig = ResourcesConfig()
    run: RunConfig = RunConfig()

    def features(self) -> FeaturesConfig:
        """Return the part that a worker needs."""
        return FeaturesConfig(**{name: getattr(self, name) for name in FeaturesConfig.model_fields})


def extract(
    config: ExtractConfig,
    out: str,
    *,
    address: str | None = None,
    local_cpus: int | None = None,
    factory: ProcessorFactory | None = None,
    check: Callable[[ProcessorInfo], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the chain; returns the summary that is also stored as ``summary.json``.

    Args:
        config: Validated settings.
        out: Folder or URI of the output.
        address: Ray cluster; default $RAY_ADDRESS, else a local one.
        local_cpus: CPUs of a local cluster.
        factory: Another processor than that of ``config`` (tests and benchmarks).
        check: Shown what workers say of themselves before anything is extracted; may refuse.

    Raises:
        RunError: The run cannot go on.
        StorageError, CorpusError, LockHeld: With messages for the user.
    """
    started = time.time()
    run_id = new_run_id(started)
    store = Store.at(out)
    run = config.run
    corpus, warnings = listed(config.corpus)  # 1
    with RunLock(store, run_id, wait=run.wait_lock):
        clean_leftovers(store)
        check_settings(store, config.features())
        ledger, failures = Ledger.load(store), FailureTable.load(store, run_id)  # 2
        todo = Todo(corpus, ledger, failures, run.retry_failed, run.limit)  # 3
        counts = todo.count()
        guard = LockGuard(store.raw_uri, run_id)
        keeper = Keeper(store, ledger, failures, ProgressLine(counts.todo), guard)
        for text in (*warnings, str(counts)):
            keeper.line.say(text)
        report, layout = None, None
        if counts.todo:
            with connected(address, local_cpus=local_cpus) as cluster:
                layout = plan(cluster, config.resources)  # 4
                keeper.line.say(describe(layout))
                each = counts.todo // layout.workers
                make = factory or ExtractFactory(config.features(), layout, each, run.stall_seconds)
                pool = WorkerPool(layout, make, run.limits, keeper)

                def context(info: ProcessorInfo) -> RunContext:
                    check(info)
                    fingerprint = store_settings(
                        store, config.features(), info, config.corpus.corpus
                    )
                    shards = (run.shard_clips, run.flush_seconds)
                    return RunContext(run_id, store.raw_uri, fingerprint, CODE_VERSION, *shards)

                report = run_pool(run, pool, keeper, todo, context)  # 5 to 8
        keeper.settle(corpus)  # 9
        summary = summarise(
            counts, keeper, report=report, layout=layout, run_id=run_id, started=started
        )
        guard()
        store.write_bytes("summary.json", json.dumps(summary, indent=1).encode())
    return summary
