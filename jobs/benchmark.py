#!/usr/bin/env python3
r"""Measure an evaluator on videos with known damage: does its score follow the severity?

    python jobs/benchmark.py --corpus DEGRADED --checkpoint CHECKPOINT --out OUT
    python jobs/benchmark.py --corpus DEGRADED --scores scores.csv --out OUT
    python jobs/benchmark.py --corpus DEGRADED --command "judge --quiet {video}" --jobs 4 --out OUT
    python jobs/benchmark.py --corpus DEGRADED --callable mymetric.core:score --out OUT
    python jobs/benchmark.py --corpus DEGRADED --peer pesq --out OUT
    python jobs/benchmark.py --compare OUT1 OUT2 --out BOTH

DEGRADED is the output of jobs/degrade.py. What was scored or asked once is not done again. The
figures are defined in docs/benchmark.md.

Exit status: 0 done, 1 more failures than --max-failures allows, 2 wrong usage or input, 3 the run
could not go on (what was scored stands; start it again to resume), 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# This folder must not stay on the path: its select.py would stand in for Python's own module.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

from jobs.door import (  # noqa: E402 - the path comes first
    OK,
    REFUSED,
    STANDS,
    as_overrides,
    guarded,
    usage,
    weights_given,
    weights_options,
)

NAME = "benchmark.py"
EVALUATORS = ("checkpoint", "scores", "command", "callable", "peer")
# What says something to some evaluators only; with others it would be a mistake without a word.
SCORING = (
    "features", "weights", "visual_weights", "audio_weights", "sync_weights", "config", "set",
    "workers", "address",
)  # fmt: skip
ASKED = "--command, --callable or --peer"
ASKING = ("jobs", "timeout", "fresh")
MEASURING = (
    "split", "task", "limit", "name", "speaks_for", "max_failures", "tolerance", "alpha", "rounds",
    "level", "seed", "retry_failed",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="jobs/benchmark.py",
        description="Measure an evaluator on videos with known damage.",
        epilog="Exit status: 0 done, 1 too many failures, 2 usage, 3 run failed, 130 interrupted.",
    )
    what = p.add_argument_group("what")
    what.add_argument("--corpus", metavar="URI", help="output folder of jobs/degrade.py")
    what.add_argument("--out", metavar="URI", help="folder or bucket prefix of the output")
    what.add_argument(
        "--split", choices=("train", "val", "test", "all"), help="default: test, if there is one"
    )
    what.add_argument(
        "--task", action="append", metavar="TASK", help="only this task; may be repeated"
    )
    what.add_argument(
        "--limit", type=int, metavar="N", help="only the first sources, of N videos together"
    )
    what.add_argument(
        "--compare", nargs="+", metavar="OUT", help="earlier outputs to stand beside this one"
    )
    who = p.add_argument_group("evaluator (one of these)")
    who.add_argument("--checkpoint", metavar="URI", help="what jobs/train.py wrote")
    who.add_argument("--scores", metavar="URI", help="output of jobs/score.py, or a table")
    who.add_argument("--command", metavar="CMD", help='program that prints a number: "x {video}"')
    who.add_argument("--callable", metavar="M:F", help="package.module:function of a video's path")
    who.add_argument("--peer", metavar="NAME", help="measure of others; --list-peers")
    who.add_argument("--list-peers", action="store_true", help="list the peers and end")
    who.add_argument("--name", help="of the evaluator, in the report")
    who.add_argument(
        "--speaks-for",
        metavar="A,B",
        help="tasks (or sound, sync, picture, face) that a single number stands for",
    )
    ours = p.add_argument_group("with --checkpoint, as in jobs/score.py")
    ours.add_argument("--features", metavar="URI", help="score stored features of the corpus")
    weights_options(ours, "of every backbone: pretrained or seeded")
    ours.add_argument("--config", metavar="YAML", help="settings of scoring")
    ours.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="one of them; may be repeated"
    )
    ours.add_argument("--workers", type=int, metavar="N", help="encoding workers")
    ours.add_argument("--address", help="Ray cluster; default $RAY_ADDRESS, else a local one")
    others = p.add_argument_group("with --command, --callable, --peer")
    others.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default 1)")
    others.add_argument("--timeout", type=float, metavar="S", help="of a video (default 120 s)")
    others.add_argument("--fresh", action="store_true", help="ask about all videos again")
    p.add_argument(
        "--retry-failed", action="store_true", help="try videos again that failed before"
    )
    p.add_argument("--max-failures", metavar="N|P%", help="status 1 when more videos fail")
    p.add_argument(
        "--wait-lock", action="store_true", help="wait for another run on the same output"
    )
    ruler = p.add_argument_group("ruler, see docs/benchmark.md")
    ruler.add_argument("--tolerance", type=float, metavar="T", help="least fall, in points")
    ruler.add_argument("--alpha", type=float, metavar="A", help="level of detection (0.05)")
    ruler.add_argument("--rounds", type=int, metavar="R", help="bootstrap resamples (1000)")
    ruler.add_argument("--level", type=float, metavar="P", help="of the intervals (0.95)")
    ruler.add_argument("--seed", type=int, metavar="K", help="of the resamples (0)")
    return p


def overrides(args: argparse.Namespace) -> list[str]:
    """Turn options into settings of the benchmark."""
    claims = [name.strip() for name in (args.speaks_for or "").split(",") if name.strip()]
    return as_overrides(
        {
            "corpus": args.corpus,
            "split": args.split,
            "tasks": args.task,
            "limit": args.limit,
            "name": args.name,
            "speaks_for": claims or None,
            "wait_lock": args.wait_lock or None,
            "ruler.tolerance": args.tolerance,
            "ruler.alpha": args.alpha,
            "ruler.rounds": args.rounds,
            "ruler.level": args.level,
            "ruler.seed": args.seed,
            "asking.jobs": args.jobs,
            "asking.timeout_s": args.timeout,
            "asking.fresh": args.fresh or None,
            "asking.retry_failed": args.retry_failed or None,
        }
    )


def scoring(args: argparse.Namespace) -> list[str]:
    """Turn options into settings of scoring; ``--set`` comes last and wins."""
    weights = {f"extraction.{key}": source for key, source in weights_given(args).items()}
    direct = {
        "checkpoint": args.checkpoint,
        "features": args.features,
        "resources.workers": args.workers,
        "run.retry_failed": args.retry_failed or None,
        "run.wait_lock": args.wait_lock or None,
    }
    return [*as_overrides(weights), *as_overrides(direct), *args.set]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if args.list_peers:
        return guarded(NAME, _peers, "nothing was done")
    given = [name for name in EVALUATORS if getattr(args, name) is not None]
    if not args.out:
        return usage(NAME, "--out is needed")
    if problem := _idle(args, given):
        return usage(NAME, problem)
    if not given and args.compare and not args.corpus:
        return guarded(NAME, lambda: _compare(args), "nothing was written")
    if not args.corpus:
        return usage(NAME, "--corpus is needed: the output folder of jobs/degrade.py")
    if len(given) != 1:
        names = ", ".join(f"--{name}" for name in EVALUATORS)
        return usage(NAME, f"one evaluator is needed, of {names}; {len(given)} were given")
    return guarded(NAME, lambda: _benchmark(args), STANDS)


def _idle(args: argparse.Namespace, given: list[str]) -> str | None:
    """Say which option would do nothing, or name a task that there is none of."""
    from model.tasks import TASKS
    from pipelines.benchmarking.evaluation import SINGLE
    from pipelines.uris import display_text

    def first(names: tuple[str, ...]) -> str | None:
        idle = (n for n in names if (v := getattr(args, n)) not in (None, []) and v is not False)
        return next(idle, None)

    for task in args.task or ():
        if task not in (*TASKS, SINGLE):
            known = f"the tasks {', '.join(TASKS)}, and {SINGLE}"
            return f"--task {display_text(task, 40)}: known are {known}"
    if not given and args.compare and not args.corpus:
        idle, need = first((*SCORING, *ASKING, *MEASURING)), "an evaluator and --corpus"
    elif len(given) != 1:
        return None  # which is said by itself
    elif given == ["checkpoint"]:
        idle, need = first(ASKING), ASKED
    elif given == ["scores"]:
        asking = first((*ASKING, "retry_failed"))
        idle, need = asking or first(SCORING), ASKED if asking else "--checkpoint"
    else:
        idle, need = first(SCORING), "--checkpoint"
    if idle is None:
        return None
    beside = f"--{given[0]}" if given else "--compare alone"
    return f"--{idle.replace('_', '-')} says nothing to {beside}: it needs {need}"


def _benchmark(args: argparse.Namespace) -> int:
    from pipelines.benchmark import Evaluator, benchmark
    from pipelines.benchmarking.config import BenchmarkConfig
    from pipelines.config import load_config
    from pipelines.summary import allowed_failures

    config = load_config(BenchmarkConfig, None, overrides(args))
    allowed_failures(args.max_failures, 0)
    who = Evaluator(
        checkpoint=args.checkpoint,
        scores=args.scores,
        command=args.command,
        function=args.callable,
        peer=args.peer,
        settings=scoring(args),
        settings_file=args.config if args.checkpoint else None,
    )
    told = benchmark(config, who, args.out, compare=args.compare or (), address=args.address)
    print(told.text)
    if told.failed > allowed_failures(args.max_failures, told.videos):
        share = f"{told.failed} of {told.videos} videos have no score"
        print(f"{share}: more than --max-failures {args.max_failures}", file=sys.stderr)
        return REFUSED
    return OK


def _compare(args: argparse.Namespace) -> int:
    from pipelines.benchmark import compared

    print(compared(args.compare, args.out, wait=args.wait_lock).text)
    return OK


def _peers() -> int:
    from pipelines.benchmarking.peers import PEERS, missing

    for name, peer in PEERS.items():
        here = "installed" if not missing(peer) else f"needs {' '.join(peer.packages)}"
        print(f"{name:<10} {peer.title}; {', '.join(peer.speaks_for)}; {peer.scale}; {here}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
