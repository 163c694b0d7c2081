#!/usr/bin/env python3
r"""Score a corpus of generated talking-face videos, report on it, and judge the release.

    python jobs/score.py --corpus CORPUS --checkpoint CHECKPOINT --out OUT
    python jobs/score.py --features FEATURES --checkpoint CHECKPOINT --out OUT
    ray job submit --working-dir . -- python jobs/score.py --corpus s3://… --checkpoint s3://… \
        --out s3://… --baseline s3://… --gate configs/gate/example.yaml

Only what is new is scored. Exit status: 0 done, 1 the gate failed (or more failures than
--max-failures allows), 2 wrong usage or settings, 3 the run could not go on (what was committed
stands; start it again to resume), 130 interrupted.
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


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="jobs/score.py",
        description="Score a corpus of generated talking-face videos, report on it, judge it.",
        epilog="Exit status: 0 done, 1 gate failed, 2 usage, 3 run failed, 130 interrupted.",
    )
    what = p.add_argument_group("what")
    what.add_argument(
        "--corpus",
        metavar="URI",
        help="folder, glob, bucket prefix, video or manifest (CSV, JSONL, Parquet)",
    )
    what.add_argument(
        "--pattern",
        help="names in paths, as {generator}/{speaker}.mp4; the leaderboard compares generators",
    )
    what.add_argument(
        "--since", metavar="WHEN", help="only videos modified since: 24h, 7d or a date"
    )
    what.add_argument("--checkpoint", metavar="URI", help="what jobs/train.py wrote")
    what.add_argument("--out", metavar="URI", help="folder or bucket prefix of the output")
    what.add_argument(
        "--features", metavar="URI", help="score from stored feature shards instead of videos"
    )
    what.add_argument(
        "--keep-features",
        metavar="URI",
        help="extract features into this output first (resumable), and score from there",
    )
    what.add_argument("--limit", type=int, metavar="N", help="score at most N videos in this run")
    what.add_argument(
        "--retry-failed", action="store_true", help="try videos again that failed before"
    )
    verdict = p.add_argument_group("verdict")
    verdict.add_argument("--baseline", metavar="URI", help="output of another run to compare with")
    verdict.add_argument(
        "--gate", metavar="YAML", help="rules of the release gate, see docs/gate.md"
    )
    verdict.add_argument(
        "--level", type=float, metavar="P", help="of the calibrated intervals (default 0.9)"
    )
    verdict.add_argument(
        "--max-failures", metavar="N|P%", help="exit with status 1 when more videos fail"
    )
    values = p.add_argument_group("weights (those of the checkpoint's features)")
    weights_options(values, "of every backbone: pretrained or seeded")
    how = p.add_argument_group("how")
    how.add_argument("--config", metavar="YAML", help="settings, see docs/scoring.md")
    how.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="one setting; may be repeated"
    )
    how.add_argument(
        "--workers", type=int, metavar="N", help="encoding workers; default: what the cluster holds"
    )
    how.add_argument("--address", help="Ray cluster; default $RAY_ADDRESS, else a local one")
    how.add_argument(
        "--wait-lock", action="store_true", help="wait for another run on the same output"
    )
    how.add_argument("--dry-run", action="store_true", help="say what would be scored, and stop")
    return p


def overrides(args: argparse.Namespace) -> list[str]:
    """Turn convenience options into settings; ``--set`` comes last and wins."""
    weights = {f"extraction.{key}": source for key, source in weights_given(args).items()}
    direct = {
        "corpus.corpus": args.corpus,
        "corpus.pattern": args.pattern,
        "corpus.since": args.since,
        "checkpoint": args.checkpoint,
        "features": args.features,
        "keep_features": args.keep_features,
        "baseline": args.baseline,
        "gate": args.gate,
        "level": args.level,
        "resources.workers": args.workers,
        "run.limit": args.limit,
        "run.retry_failed": args.retry_failed or None,
        "run.wait_lock": args.wait_lock or None,
    }
    return [*as_overrides(weights), *as_overrides(direct), *args.set]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if not (args.corpus or args.features or args.config):
        return usage("score.py", "--corpus is needed (or --features, or --config with one of them)")
    if not args.checkpoint and not args.config:
        return usage("score.py", "--checkpoint is needed: the folder that jobs/train.py wrote")
    if not args.out and not args.dry_run:
        return usage("score.py", "--out is needed")
    if args.features and args.keep_features:
        return usage("score.py", "--features and --keep-features exclude each other")
    return guarded("score.py", lambda: _score(args), STANDS)


def _score(args: argparse.Namespace) -> int:
    from pipelines.score import score
    from pipelines.scoring.config import load_score_config
    from pipelines.scoring.preview import preview
    from pipelines.summary import allowed_failures

    config, peek = load_score_config(args.config, overrides(args))
    allowed_failures(args.max_failures, 0)
    if args.dry_run:
        print(preview(config, peek, args.out))
        return OK
    told = score(config, peek, args.out, address=args.address)
    print(told.text)
    if not told.passed:
        return REFUSED
    allowed = allowed_failures(args.max_failures, told.videos)
    if told.failed > allowed:
        share = f"{told.failed} of {told.videos} videos failed"
        print(f"{share}: more than --max-failures {args.max_failures}", file=sys.stderr)
        return REFUSED
    return OK


if __name__ == "__main__":
    sys.exit(main())
