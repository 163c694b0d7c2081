"""Measuring an evaluator: how its scores follow damage of known severity.

1. Read     corpus of variants -> the split         1 : N      pipelines/benchmarking/variants.py
2. Score    variants -> scores                      N : 0..N   a checkpoint: scored.py, through
                                                    pipelines/score.py; a table: scored.py; a
                                                    command, a function, a peer: asked.py
3. Lay out  scores -> curves by artefact and task   N : M      pipelines/benchmarking/cells.py
4. Measure  curves -> figures with intervals        M : M      pipelines/benchmarking/measuring.py
                                                               and scopes.py, by model/ruler*.py
5. Write    tables, summary                                    pipelines/benchmarking/output.py,
                                                               where ownership.py allows it
6. Compare  evaluators beside each other            1 : E      outputs of earlier runs: earlier.py
7. Tell     report, account                                    pipelines/report/benchmark*.py
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.benchmarking.asked import call_function, call_peer, run_command
from pipelines.benchmarking.cells import make_cells
from pipelines.benchmarking.config import BenchmarkConfig
from pipelines.benchmarking.earlier import read_benchmark
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.evaluation import SINGLE, Evaluation
from pipelines.benchmarking.making import VariantMaker
from pipelines.benchmarking.measuring import measure_cells
from pipelines.benchmarking.output import REPORT, Benchmark, summarised, write_benchmark
from pipelines.benchmarking.ownership import Given, check_output, claim
from pipelines.benchmarking.plan import check_claims
from pipelines.benchmarking.scored import read_scores, score_variants
from pipelines.benchmarking.variants import Corpus, limited, read_corpus
from pipelines.lock import RunLock, new_run_id
from pipelines.messages import ProcessorFactory
from pipelines.storage import Store, strip_credentials
from pipelines.uris import scheme_of, strip_text


@dataclass(frozen=True)
class Evaluator:
    """Who is measured; exactly one of these.

    Attributes:
        checkpoint: Of jobs/train.py.
        scores: Output of jobs/score.py, or a table.
        command: Command line with ``{video}``.
        function: ``package.module:function``.
        peer: A key of :data:`pipelines.benchmarking.peers.PEERS`.
        settings: ``key=value`` of jobs/score.py, for a checkpoint.
        settings_file: YAML file of such settings.
    """

    checkpoint: str | None = None
    scores: str | None = None
    command: str | None = None
    function: str | None = None
    peer: str | None = None
    settings: Sequence[str] = field(default_factory=tuple)
    settings_file: str | None = None

    @property
    def given(self) -> Given:
        """The one that was given, by its name.

        Raises:
            BenchmarkInputError: There is none.
        """
        for kind, uri in (("checkpoint", self.checkpoint), ("scores", self.scores)):
            if uri is not None:
                path = uri if scheme_of(uri) else os.path.abspath(uri)  # noqa: PTH100 - a URI
                return Given(kind, strip_credentials(path))
        for kind, text in (("command", self.command), ("callable", self.function)):
            if text is not None:
                return Given(kind, strip_text(text))
        if self.peer is not None:
            return Given("peer", self.peer)
        raise BenchmarkInputError("no evaluator was given")


@dataclass(frozen=True)
class Told:
    """What a run says at its end.

    Attributes:
        summary: ``summary.json``.
        text: The account for a terminal.
        videos: Videos of the corpus.
        failed: Of them, those without any score.
    """

    summary: dict[str, Any]
    text: str
    videos: int
    failed: int


def benchmark(
    config: BenchmarkConfig,
    who: Evaluator,
    out: str,
    *,
    compare: Sequence[str] = (),
    address: str | None = None,
    factory: ProcessorFactory | None = None,
) -> Told:
    """Run the chain.

    Args:
        config: Validated settings.
        who: The evaluator.
        out: Folder or URI of the output.
        compare: Outputs of earlier runs on the same videos, shown beside this one.
        address: Ray cluster, for a checkpoint.
        factory: Another source of feature rows than extraction (tests), for a checkpoint.

    Raises:
        UserInputError: Corpus, evaluator, scores or settings cannot be used.
        RunError, StorageError, LockHeld: The run cannot go on.
    """
    from pipelines.report.benchmark import benchmark_report
    from pipelines.report.benchmark_text import account

    started = time.time()
    claims = check_claims(config.speaks_for)
    corpus = read_corpus(config.corpus, config.split)  # 1
    if config.limit is not None:
        corpus = limited(corpus, config.limit)
    store, given = Store.at(out), who.given
    check_output(store, given)
    others = [read_benchmark(uri, corpus.digest) for uri in compare]
    with RunLock(store, new_run_id(started), wait=config.wait_lock):
        check_output(store, given)  # another run may have written since
        claim(store, given)
        found = _scores(config, who, corpus, store, address=address, factory=factory)  # 2
        tasks = _tasks(found, config)
        if claims:
            found = _claiming(found, claims)
        cells = make_cells(corpus, found, tasks)  # 3
        if not cells:
            raise BenchmarkInputError(
                f"{corpus.where}, split {corpus.split}: there is no variant of a clean video"
            )
        measured = measure_cells(cells, config.ruler)  # 4
        done = summarised(corpus, found, measured, config, given=given.what, started=started)
        write_benchmark(store, done, corpus, found)  # 5
        everybody = [done, *others]  # 6
        store.write_bytes(REPORT, benchmark_report(everybody).encode())  # 7
    return Told(
        done.summary,
        account(everybody, store.display(REPORT)),
        len(corpus.variants),
        len(found.misses),
    )


def compared(outputs: Sequence[str], out: str, *, wait: bool = False) -> Told:
    """Put outputs of earlier runs beside each other in a report, without measuring anything.

    Args:
        outputs: Of earlier runs.
        out: Of the report; none of them.
        wait: For another run on the same output.

    Raises:
        BenchmarkInputError: One is missing, or they are about different videos; the output holds
            an evaluator or something else.
        StorageError, LockHeld: One cannot be read, the output cannot be written.
    """
    from pipelines.report.benchmark import benchmark_report
    from pipelines.report.benchmark_text import account

    everybody: list[Benchmark] = []
    for uri in outputs:
        first = everybody[0].summary["corpus"]["digest"] if everybody else None
        everybody.append(read_benchmark(uri, first))
    store = Store.at(out)
    check_output(store, None)
    with RunLock(store, new_run_id(time.time()), wait=wait):
        check_output(store, None)
        claim(store, None)
        store.write_bytes(REPORT, benchmark_report(everybody).encode())
    return Told(everybody[0].summary, account(everybody, store.display(REPORT)), 0, 0)


def _scores(
    config: BenchmarkConfig,
    who: Evaluator,
    corpus: Corpus,
    store: Store,
    *,
    address: str | None,
    factory: ProcessorFactory | None,
) -> Evaluation:
    if who.scores is not None:
        return read_scores(corpus, who.scores)
    if who.checkpoint is not None:
        return score_variants(
            corpus, store, who.settings, who.settings_file, address=address, factory=factory
        )
    with VariantMaker() as make:
        if who.command is not None:
            return run_command(corpus, who.command, store, config.asking, make)
        if who.function is not None:
            return call_function(corpus, who.function, store, config.asking, make)
        if who.peer is not None:
            return call_peer(corpus, who.peer, store, config.asking, make)
    raise BenchmarkInputError("no evaluator was given")


def _tasks(found: Evaluation, config: BenchmarkConfig) -> tuple[str, ...]:
    """Choose what is measured.

    Raises:
        BenchmarkInputError: A task was asked for that the evaluator does not score.
    """
    if not config.tasks:
        return found.tasks
    missing = [task for task in config.tasks if task not in found.tasks]
    if missing:
        raise BenchmarkInputError(
            f"--task {missing[0]}: the evaluator has no score in it (it has: "
            f"{', '.join(found.tasks)})"
        )
    return tuple(task for task in found.tasks if task in config.tasks)


def _claiming(found: Evaluation, claims: tuple[str, ...]) -> Evaluation:
    if SINGLE not in found.tasks:
        raise BenchmarkInputError(
            "--speaks-for is for evaluators that give one number; this one scores "
            f"{', '.join(found.tasks)}"
        )
    return replace(found, speaks_for=claims)
