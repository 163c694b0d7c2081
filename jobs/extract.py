#!/usr/bin/env python3
"""Extract features from a corpus of talking-face videos into Parquet shards.

    python jobs/extract.py --corpus CORPUS --out OUT --weights seeded
    ray job submit --working-dir . -- python jobs/extract.py --corpus s3://… --out s3://…
    python jobs/extract.py --inspect OUT

Exit status: 0 done, 1 more failures than --max-failures allows, 2 wrong usage or settings,
3 the run could not go on (what was committed stands; start it again to resume), 130 interrupted.
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
        prog="jobs/extract.py",
        description="Extract features from talking-face videos into Parquet shards.",
        epilog="Exit status: 0 done, 1 too many failures, 2 usage, 3 run failed, 130 interrupted.",
    )
    what = p.add_argument_group("what")
    what.add_argument(
        "--corpus",
        metavar="URI",
        help="folder, glob, bucket prefix, video or manifest (CSV, JSONL, Parquet)",
    )
    what.add_argument("--out", metavar="URI", help="folder or bucket prefix of the output")
    what.add_argument("--pattern", help="names in paths, as {generator}/{speaker}.mp4")
    what.add_argument("--limit", type=int, metavar="N", help="process at most N videos in this run")
    what.add_argument(
        "--retry-failed", action="store_true", help="try videos again that failed before"
    )
    values = p.add_argument_group("values")
    weights_options(values, "of every backbone: pretrained or seeded (demonstration only)")
    values.add_argument("--modalities", metavar="A,B", help="slim mode: extract only these")
    values.add_argument(
        "--policy", choices=("windows", "whole"), help="how a video is cut into clips"
    )
    values.add_argument("--hop", type=float, metavar="S", help="seconds between clip starts")
    values.add_argument("--config", metavar="YAML", help="settings, see configs/")
    values.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="one setting; may be repeated"
    )
    how = p.add_argument_group("how")
    how.add_argument(
        "--workers", type=int, metavar="N", help="encoding workers; default: what the cluster holds"
    )
    how.add_argument("--address", help="Ray cluster; default $RAY_ADDRESS, else a local one")
    how.add_argument(
        "--max-failures", metavar="N|P%", help="exit with status 1 when more videos fail"
    )
    how.add_argument(
        "--wait-lock", action="store_true", help="wait for another run on the same output"
    )
    how.add_argument(
        "--dry-run", action="store_true", help="say what would be done and how big it will be"
    )
    how.add_argument("--inspect", metavar="OUT", help="print what is in a shard set and exit")
    return p


def overrides(args: argparse.Namespace) -> list[str]:
    """Turn convenience options into settings; ``--set`` comes last and wins."""
    weights = weights_given(args)
    direct = {
        "corpus.corpus": args.corpus,
        "corpus.pattern": args.pattern,
        "decode.policy": args.policy,
        "decode.hop_s": args.hop,
        "resources.workers": args.workers,
        "run.limit": args.limit,
        "run.retry_failed": args.retry_failed or None,
        "run.wait_lock": args.wait_lock or None,
        "modalities": None
        if args.modalities is None
        else [name.strip() for name in args.modalities.split(",")],
    }
    return [*as_overrides(weights), *as_overrides(direct), *args.set]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if args.inspect:
        return guarded(
            "extract.py",
            lambda: _inspect(args.inspect),
            "what was committed stands, start again to resume",
        )
    if not args.corpus and not args.config:
        return usage("extract.py", "--corpus is needed (or --config with corpus.corpus)")
    if not args.out and not args.dry_run:
        return usage("extract.py", "--out is needed")
    return guarded("extract.py", lambda: _extract(args), STANDS)


def _inspect(out: str) -> int:
    from pipelines.inspect import describe

    print(describe(out))
    return OK


def _extract(args: argparse.Namespace) -> int:
    from pipelines.config import load_config
    from pipelines.extract import ExtractConfig, extract
    from pipelines.preview import preview
    from pipelines.summary import allowed_failures, told

    config = load_config(ExtractConfig, args.config, overrides(args))
    allowed_failures(args.max_failures, 0)
    if args.dry_run:
        print(preview(config, args.out, args.address))
        return OK
    summary = extract(config, args.out, address=args.address)
    print(told(summary, args.out))
    videos = summary["videos"]
    failed = videos["failed"] + videos["failed_before"]
    if failed > allowed_failures(args.max_failures, videos["corpus"]):
        share = f"{failed} of {videos['corpus']} videos failed"
        print(f"{share}: more than --max-failures {args.max_failures}", file=sys.stderr)
        return REFUSED
    return OK


if __name__ == "__main__":
    sys.exit(main())
