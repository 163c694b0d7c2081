"""Scoring: from a corpus of videos to tables of scores, a report and a verdict.

1. List     corpus -> videos                 1 : N      pipelines/corpus.py, or the features' own
2. Look     output -> what is done           N : N      pipelines/ledger.py, pipelines/failures.py
3. Filter   videos -> videos to do           1 : 0..1   pipelines/todo.py: content, checkpoint, key
4. Score    video -> clip rows -> shards     1 : N      pipelines/scoring/processor.py behind the
                                                        workers of extraction, or from stored
                                                        features on Ray Data: scoring/stored.py
5. Settle   output: nothing twice, failure table, ledger
6. Sum up   clip rows -> video rows          N : 1      pipelines/scoring/videos.py, tables.py
7. Compare  generators, baseline, stand-outs            pipelines/scoring/{leaderboard,baseline}.py
8. Judge    the gate                                    pipelines/scoring/gate.py
9. Tell     report, summaries, metrics                  pipelines/scoring/telling.py
"""

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.features import FeaturesConfig
from model.tasks import TASKS
from pipelines.checkpoint import CheckpointPeek
from pipelines.cluster import connected
from pipelines.extract import ExtractConfig, extract
from pipelines.failures import FailureTable
from pipelines.keeper import Keeper
from pipelines.ledger import Ledger
from pipelines.lock import LockGuard, RunLock, new_run_id
from pipelines.messages import PoolReport, ProcessorFactory, RunContext
from pipelines.pool import WorkerPool
from pipelines.pool_run import RunConfig, run_pool
from pipelines.processors import ExtractFactory
from pipelines.progress import ProgressLine
from pipelines.provenance import DEMONSTRATION
from pipelines.resources import Cluster, Plan, plan
from pipelines.scoring import tables
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.exported import RunMetrics
from pipelines.scoring.output import check_output, score_key, write_output
from pipelines.scoring.prepared import Prepared, prepare
from pipelines.scoring.processor import ScoreFactory, check_extractors
from pipelines.scoring.sources import StoredFeatures, list_videos
from pipelines.scoring.stored import StoredSource, score_stored
from pipelines.scoring.telling import Scored, Told, tell
from pipelines.scoring.videos import video_rows
from pipelines.shards import clean_leftovers
from pipelines.spool import SpooledCorpus
from pipelines.storage import Store
from pipelines.summary import describe, summarise
from pipelines.todo import Counts, Todo
from pipelines.version import CODE_VERSION

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class _Work:
    """What the steps of a run share."""

    config: ScoreConfig
    peek: CheckpointPeek
    started: float
    context: RunContext
    store: Store
    corpus: SpooledCorpus
    prepared: Prepared
    keeper: Keeper
    todo: Todo
    counts: Counts


def score(
    config: ScoreConfig,
    peek: CheckpointPeek,
    out: str,
    *,
    address: str | None = None,
    local_cpus: int | None = None,
    factory: ProcessorFactory | None = None,
) -> Told:
    """Run the chain; returns what was told.

    Args:
        config: Validated settings, see :func:`pipelines.scoring.config.load_score_config`.
        peek: The checkpoint's own words.
        out: Folder or URI of the output.
        address: Ray cluster; default $RAY_ADDRESS, else a local one.
        local_cpus: CPUs of a local cluster.
        factory: Another source of feature rows than extraction (tests and benchmarks).

    Raises:
        RunError: The run cannot go on; what was committed stands.
        ScoreInputError, CheckpointError, CorpusError, StorageError, LockHeld: For the user.
    """
    started = time.time()
    run_id = new_run_id(started)
    store, key = Store.at(out), score_key(peek)
    check_output(store)
    stored = None if config.features is None else StoredFeatures.at(config.features, peek)
    corpus, warnings = list_videos(config, stored, key)  # 1
    prepared = prepare(config, peek, (ref.video_id for ref in corpus), out=out)
    if config.keep_features is not None:
        stored = _extracted(config, peek, config.keep_features, address, local_cpus)
    with RunLock(store, run_id, wait=config.run.wait_lock):
        clean_leftovers(store, f"{tables.CLIPS}run_date=")
        ledger = Ledger.load(store, tables.CLIPS)  # 2
        failures = FailureTable.load(store, run_id)
        todo = Todo(corpus, ledger, failures, config.run.retry_failed, config.run.limit)  # 3
        counts = todo.count()
        guard = LockGuard(store.raw_uri, run_id)
        metrics = RunMetrics()
        keeper = Keeper(
            *(store, ledger, failures, ProgressLine(counts.todo), guard),
            watch=lambda k: metrics.progressed(k, k.span_s),
        )
        context = _context(config, key, run_id, store, started)
        work = _Work(config, peek, started, context, store, corpus, prepared, keeper, todo, counts)
        for text in (*warnings, str(counts)):
            keeper.line.say(text)
        settings = config.model_dump(mode="json", exclude={"resources", "run"})
        write_output(store, key, peek, settings)
        if not counts.todo:
            return _finish(work)
        _uncertainty(config.checkpoint, peek.digest)  # reads all of it: it must be whole
        with connected(address, local_cpus=local_cpus) as cluster:
            if stored is not None:
                pooled = _score_features(work, stored, cluster)  # 4
            else:
                pooled = _score_videos(work, cluster, factory)  # 4
            told = _finish(work, *pooled)
            metrics.progressed(keeper, keeper.span_s)
            metrics.told(told)
            return told


def _extracted(
    config: ScoreConfig,
    peek: CheckpointPeek,
    out: str,
    address: str | None,
    local_cpus: int | None,
) -> StoredFeatures:
    """Extract the corpus into an output of its own; returns its features."""
    parts = {name: getattr(config.extraction, name) for name in FeaturesConfig.model_fields}
    extraction = ExtractConfig(
        **parts, corpus=config.corpus, resources=config.resources, run=RunConfig()
    )
    extract(
        extraction,
        out,
        address=address,
        local_cpus=local_cpus,
        check=lambda info: check_extractors(peek.features, info),
    )
    return StoredFeatures.at(out, peek)


def _context(
    config: ScoreConfig, key: str, run_id: str, store: Store, started: float
) -> RunContext:
    """Return what all shards of the run have in common."""
    date = time.strftime("%Y-%m-%d", time.gmtime(started))
    limits = (config.run.shard_clips, config.run.flush_seconds)
    return RunContext(
        run_id, store.raw_uri, key, CODE_VERSION, *limits, folder=tables.folder_of(date)
    )


def _score_videos(
    work: _Work, cluster: Cluster, factory: ProcessorFactory | None
) -> tuple[PoolReport | None, Plan | None]:
    """Decode, extract and score in one stream: features are never stored."""
    config = work.config
    layout = plan(cluster, config.resources)
    work.keeper.line.say(describe(layout))
    each = work.counts.todo // layout.workers
    inner = factory or ExtractFactory(config.extraction, layout, each, config.run.stall_seconds)
    make = ScoreFactory(inner, config.checkpoint, work.peek.digest, layout.device)
    pool = WorkerPool(layout, make, config.run.limits, work.keeper)
    return run_pool(config.run, pool, work.keeper, work.todo, lambda _: work.context), layout


def _score_features(
    work: _Work, stored: StoredFeatures, cluster: Cluster
) -> tuple[PoolReport | None, Plan | None]:
    """Score stored features on Ray Data."""
    source = StoredSource(
        stored.store,
        work.config.checkpoint,
        work.peek.digest,
        work.context,
        work.peek.features.demonstration,
        "cuda" if cluster.gpus >= 1 else "cpu",
    )
    if source.demonstration:
        work.keeper.line.say(DEMONSTRATION)
    shards = stored.shards(work.todo.videos(), work.keeper)
    score_stored(source, shards, work.keeper, cluster)
    return None, None


def _finish(work: _Work, report: PoolReport | None = None, layout: Plan | None = None) -> Told:
    """Settle the output, sum it up, compare, judge and tell (chain steps 5 to 9)."""
    store, keeper, config = work.store, work.keeper, work.config
    run_id = work.context.run_id
    uncertainty = functools.partial(_uncertainty, config.checkpoint, work.peek.digest)
    keeper.settle(work.corpus)  # 5
    guard = LockGuard(store.raw_uri, run_id)

    def summed(clips: "pa.Table") -> "pa.Table":
        return video_rows(
            clips,
            uncertainty(),  # loaded only when there is something to sum up
            level=config.level,
            checkpoint=work.peek.digest,
            learned=work.peek.details.get("learned_tasks", TASKS),
        )

    recipe = tables.Recipe(config.level, work.peek.digest, work.context.fingerprint, summed)
    tables.derive_videos(store, recipe, guard)  # 6
    summary = summarise(
        work.counts, keeper, report=report, layout=layout, run_id=run_id, started=work.started
    )
    scored = Scored(
        config=config,
        peek=work.peek,
        store=store,
        listed={ref.video_id: ref for ref in work.corpus},
        prepared=work.prepared,
        run=summary,
        failures=list(keeper.failures.rows()),
        guard=guard,
        say=keeper.line.say,
        uncertainty=uncertainty,
    )
    return tell(scored)  # 7 to 9


@functools.cache
def _uncertainty(checkpoint: str, digest: str) -> Any:
    from pipelines.scoring.processor import load_right_checkpoint

    return load_right_checkpoint(checkpoint, digest).uncertainty
