"""Scores of others: a command, a Python function, or a peer."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from model.tasks import TASKS
from pipelines.benchmarking.asking import Judge, ask
from pipelines.benchmarking.commands import Command, CommandJudge
from pipelines.benchmarking.config import AskingConfig
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.evaluation import SINGLE, Evaluation
from pipelines.benchmarking.functions import FunctionJudge, check_target
from pipelines.benchmarking.peers import find_peer, versions
from pipelines.benchmarking.places import Materialise
from pipelines.benchmarking.results import Results, evaluator_key
from pipelines.benchmarking.variants import Corpus
from pipelines.storage import Store
from pipelines.uris import display_text, strip_text


def run_command(
    corpus: Corpus, text: str, out: Store, config: AskingConfig, materialise: Materialise
) -> Evaluation:
    """Run a program for every video.

    Raises:
        BenchmarkInputError: The command cannot be run, or not one video has a score.
    """
    command = Command.parse(text)
    stop = threading.Event()
    return _asked(
        corpus,
        lambda: CommandJudge(command, config.timeout_s, stop),
        out=out,
        config=config,
        stop=stop,
        materialise=materialise,
        kind="command",
        name=command.arguments[0].rpartition("/")[2],
        facts={"command": text},
    )


def call_function(
    corpus: Corpus, target: str, out: Store, config: AskingConfig, materialise: Materialise
) -> Evaluation:
    """Call a Python function for every video.

    Raises:
        BenchmarkInputError: It cannot be imported, or not one video has a score.
    """
    make, stop = _functions(check_target(target), config)
    return _asked(
        corpus,
        make,
        out=out,
        config=config,
        stop=stop,
        materialise=materialise,
        kind="callable",
        name=target.rpartition(":")[2],
        facts={"callable": target},
    )


def call_peer(
    corpus: Corpus, name: str, out: Store, config: AskingConfig, materialise: Materialise
) -> Evaluation:
    """Ask a measure of somebody else about every video.

    Raises:
        BenchmarkInputError: It is unknown or not installed, or not one video has a score.
    """
    peer = find_peer(name)
    make, stop = _functions(peer.target, config)
    return _asked(
        corpus,
        make,
        out=out,
        config=config,
        stop=stop,
        materialise=materialise,
        kind="peer",
        name=name,
        facts={
            "peer": peer.title,
            "scale": peer.scale,
            "packages": versions(peer),
            "compares with the clean video": "yes" if peer.full_reference else "no",
        },
        speaks_for=peer.speaks_for,
    )


def _functions(target: str, config: AskingConfig) -> tuple[Callable[[], Judge], threading.Event]:
    """Import the function once, so that what cannot work ends before a single video."""
    from pipelines.benchmarking.answers import JudgeError

    stop = threading.Event()
    first = FunctionJudge(target, config.timeout_s, stop)
    try:
        first.start()
    except JudgeError as error:
        raise BenchmarkInputError(
            f"{display_text(target)}: importing it failed: {error.message}"
        ) from None
    finally:
        first.close()
    needs_clean = first.needs_clean
    return (
        lambda: FunctionJudge(target, config.timeout_s, stop, needs_clean=needs_clean),
        stop,
    )


def _asked(
    corpus: Corpus,
    make: Callable[[], Judge],
    *,
    out: Store,
    config: AskingConfig,
    stop: threading.Event,
    materialise: Materialise,
    kind: str,
    name: str,
    facts: Mapping[str, Any],
    speaks_for: tuple[str, ...] = ("overall",),
) -> Evaluation:
    key = evaluator_key(kind=kind, **facts)
    results = Results(out, key, again=config.retry_failed, fresh=config.fresh)
    found = ask(corpus, make, results, jobs=config.jobs, stop=stop, materialise=materialise)
    tasks = tuple(
        task for task in (*TASKS, SINGLE) if any(task in s for s in found.scores.values())
    )
    if not tasks:
        first = found.misses[0]
        again = ""
        if found.before:
            asked = len(found.misses) - found.before
            again = (
                f"; {found.before} of these failures are of earlier runs, {asked or 'no'} "
                "videos were asked about now: --retry-failed asks again"
            )
        raise BenchmarkInputError(
            f"{display_text(name)} gave no score for any of {len(found.misses)} videos, such as "
            f"{display_text(first.video_id, 80)} ({first.reason}: "
            f"{display_text(first.message, 300)}){again}"
        )
    return Evaluation(
        name=name,
        kind=kind,
        tasks=tasks,
        scores=found.scores,
        misses=found.misses,
        speaks_for=speaks_for,
        facts={k: strip_text(v) if isinstance(v, str) else v for k, v in facts.items()},
    )
