#!/usr/bin/env python3
"""Train an evaluator: from feature shards and a label table to a checkpoint that scores videos.

    python jobs/train.py --features FEATURES --labels LABELS.csv --out OUT --preset optimized
    ray job submit --working-dir . -- python jobs/train.py --features s3://… --workers 4 …

Exit status: 0 done, 2 wrong usage, settings, features, labels or checkpoint (nothing was written),
3 the run could not go on (its state stands; start it again to resume), 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# This folder must not stay on the path: its select.py would stand in for Python's own module.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

from jobs.door import OK, as_overrides, guarded, usage  # noqa: E402 - the path comes first

DEFAULT_PRESET = "optimized"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="jobs/train.py",
        description="Train an evaluator on feature shards and opinion scores.",
        epilog="Exit status: 0 done, 2 usage or input, 3 run failed, 130 interrupted.",
    )
    what = p.add_argument_group("what")
    what.add_argument("--features", metavar="URI", help="output of jobs/extract.py")
    what.add_argument("--labels", metavar="URI", help="label table: CSV, JSONL or Parquet")
    what.add_argument("--out", metavar="URI", help="folder or bucket prefix of the output")
    what.add_argument("--init", metavar="URI", help="checkpoint to begin with (fine-tuning)")
    how = p.add_argument_group("how it learns")
    how.add_argument(
        "--preset",
        metavar="NAME",
        help="standard, optimized (default), advanced, cross_attention, artefacts (for corpora of "
        "jobs/degrade.py); see configs/train/",
    )
    how.add_argument("--config", metavar="YAML", help="settings on top of the preset")
    how.add_argument(
        "--split-by",
        choices=("video", "speaker", "source", "generator"),
        help="what stays on one side; generator leaves each one out in turn",
    )
    how.add_argument(
        "--split-column", metavar="NAME", help="column with train, val or test for each video"
    )
    how.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="one setting; may be repeated"
    )
    where = p.add_argument_group("where it runs")
    where.add_argument("--workers", type=int, metavar="N", help="training processes (GPUs)")
    where.add_argument("--address", help="Ray cluster; default $RAY_ADDRESS, else a local one")
    where.add_argument(
        "--wait-lock", action="store_true", help="wait for another run on the same output"
    )
    where.add_argument(
        "--dry-run", action="store_true", help="check everything, say what there is, train nothing"
    )
    return p


def overrides(args: argparse.Namespace) -> list[str]:
    """Turn convenience options into settings; ``--set`` comes last and wins."""
    by = "column" if args.split_column is not None else args.split_by
    direct = {
        "features": args.features,
        "labels.labels": args.labels,
        "init": args.init,
        "preset": args.preset or DEFAULT_PRESET,
        "splits.by": by,
        "splits.column": args.split_column,
        "run.workers": args.workers,
        "run.wait_lock": args.wait_lock or None,
    }
    return [*as_overrides(direct), *args.set]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if not args.out and not args.dry_run:
        return usage("train.py", "--out is needed")
    if not args.config and not (args.features and args.labels):
        return usage("train.py", "--features and --labels are needed (or --config that names them)")
    if args.split_column is not None and args.split_by is not None:
        return usage("train.py", "--split-column and --split-by exclude each other")
    return guarded("train.py", lambda: _train(args), "its state stands, start again to go on")


def _train(args: argparse.Namespace) -> int:
    from pipelines.config import ConfigError, load_config
    from pipelines.train import check, train
    from pipelines.training.config import TrainConfig, preset_file
    from pipelines.training.folds import train_folds
    from pipelines.training.told import told

    preset = args.preset or DEFAULT_PRESET
    config = load_config(TrainConfig, args.config, overrides(args), base=preset_file(preset))
    if config.preset != preset:
        raise ConfigError(f"preset: {config.preset}: a preset is chosen with --preset")
    if args.dry_run:
        print(check(config, args.out))
        return OK
    if config.splits.by == "generator" and config.splits.held_out is None:
        print(train_folds(config, args.out, address=args.address))
        return OK
    print(told(train(config, args.out, address=args.address), args.out))
    return OK


if __name__ == "__main__":
    sys.exit(main())
