#!/usr/bin/env python3
r"""Train SyncNet: from raw talking-face video, without labels, to weights for --sync-weights.

    python jobs/train_sync.py --corpus CORPUS --out OUT --preset small
    ray job submit --working-dir . -- python jobs/train_sync.py --corpus s3://… --out s3://… \
        --preset published --workers 8

Exit status: 0 done, 2 wrong usage, settings, corpus or weights, 3 the run could not go on (what was
committed and the state stand; start it again to resume), 130 interrupted.
"""

import argparse
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# This folder must not stay on the path: its select.py would stand in for Python's own module.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

from jobs.door import OK, as_overrides, guarded, usage  # noqa: E402 - the path comes first

DEFAULT_PRESET = "small"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="jobs/train_sync.py",
        description="Train SyncNet on raw talking-face video; no labels are needed.",
        epilog="Exit status: 0 done, 2 usage or input, 3 run failed, 130 interrupted.",
    )
    what = p.add_argument_group("what")
    what.add_argument(
        "--corpus",
        metavar="URI",
        help="folder, glob, bucket prefix, video or manifest of clean video whose lips and sound "
        "are in sync",
    )
    what.add_argument(
        "--pattern",
        help="names in paths, as {speaker}/*.mp4: no speaker is then on both sides of validation",
    )
    what.add_argument("--out", metavar="URI", help="folder or bucket prefix of the output")
    what.add_argument(
        "--crops", metavar="URI", help="use the crops of an earlier run instead of a corpus"
    )
    what.add_argument(
        "--init", metavar="URI", help="weights to begin with (fine-tuning), as --sync-weights"
    )
    what.add_argument("--limit", type=int, metavar="N", help="crop at most N videos in this run")
    what.add_argument(
        "--retry-failed", action="store_true", help="try videos again that failed before"
    )
    how = p.add_argument_group("how it learns")
    how.add_argument(
        "--preset", metavar="NAME", help="small (default), published or demo; see configs/sync/"
    )
    how.add_argument("--config", metavar="YAML", help="settings on top of the preset")
    how.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="one setting; may be repeated"
    )
    where = p.add_argument_group("where it runs")
    where.add_argument("--workers", type=int, metavar="N", help="training processes (GPUs)")
    where.add_argument("--address", help="Ray cluster; default $RAY_ADDRESS, else a local one")
    where.add_argument(
        "--wait-lock", action="store_true", help="wait for another run on the same output"
    )
    return p


def overrides(args: argparse.Namespace) -> list[str]:
    """Turn convenience options into settings; ``--set`` comes last and wins."""
    direct = {
        "corpus.corpus": args.corpus,
        "corpus.pattern": args.pattern,
        "crops": args.crops,
        "init": args.init,
        "preset": args.preset or DEFAULT_PRESET,
        "workers": args.workers,
        "run.limit": args.limit,
        "run.retry_failed": args.retry_failed or None,
        "run.wait_lock": args.wait_lock or None,
    }
    return [*as_overrides(direct), *args.set]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if not args.out:
        return usage("train_sync.py", "--out is needed")
    if not (args.corpus or args.crops or args.config):
        return usage("train_sync.py", "--corpus is needed (or --crops of an earlier run)")
    if args.corpus and args.crops:
        return usage("train_sync.py", "--corpus and --crops exclude each other")
    typed = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "jobs/train_sync.py", *typed])
    stands = "crops and state stand, start again to go on"
    return guarded("train_sync.py", lambda: _train(args, command), stands)


def _train(args: argparse.Namespace, command: str) -> int:
    from pipelines.config import ConfigError, load_config
    from pipelines.storage import Store
    from pipelines.sync_training.config import SyncTrainConfig, preset_file
    from pipelines.sync_training.result import told
    from pipelines.train_sync import train_sync

    preset = args.preset or DEFAULT_PRESET
    config = load_config(SyncTrainConfig, args.config, overrides(args), base=preset_file(preset))
    if config.preset != preset:
        raise ConfigError(f"preset: {config.preset}: a preset is chosen with --preset")
    if not (config.corpus.corpus or config.crops):
        raise ConfigError("corpus.corpus: no corpus was given (and no crops of an earlier run)")
    summary = train_sync(config, args.out, address=args.address, command=command)
    print(told(summary, Store.at(args.out)))
    return OK


if __name__ == "__main__":
    sys.exit(main())
