#!/usr/bin/env python3
"""Make a corpus of known damage from clean talking-face videos.

    python jobs/degrade.py --corpus videos/ --out damaged/ --virtual
    python jobs/degrade.py --corpus s3://bucket/clean --out s3://bucket/damaged --plan plan.yaml

Manifest, labels and plan go to --out; with --virtual no video is written: the manifest says what
is done to which source when it is decoded. See docs/artefacts.md.

Exit status: 0 done, 2 usage or input, 3 the run failed (what was committed stands; start it again
to resume), 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# This folder must not stay on the path: its select.py would stand in for Python's own module.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

from jobs.door import (  # noqa: E402 - the path comes first
    OK,
    STANDS,
    as_overrides,
    guarded,
    usage,
)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="jobs/degrade.py",
        description="Make a corpus of known damage from clean talking-face videos.",
        epilog="Exit status: 0 done, 2 usage or input, 3 run failed, 130 interrupted.",
    )
    what = p.add_argument_group("what")
    what.add_argument("--corpus", metavar="URI", help="folder, glob, prefix or manifest of videos")
    what.add_argument("--pattern", metavar="P", help="path pattern with {generator} and {speaker}")
    what.add_argument("--out", metavar="URI", help="where manifest, labels, plan and videos go")
    what.add_argument(
        "--virtual", action="store_true", help="write no videos: damage is done at decode"
    )
    what.add_argument("--plan", metavar="YAML", help="settings, see docs/artefacts.md")
    what.add_argument("--seed", metavar="K", type=int, help="another seed deals otherwise")
    what.add_argument(
        "--limit", metavar="N", type=int, help="at most so many new sources in this run"
    )
    what.add_argument(
        "--contact-sheet",
        action="store_true",
        help="write a page that shows and plays every artefact at up to five severities",
    )
    what.add_argument(
        "--contact-source",
        metavar="ID",
        help="the video that it shows (default: the first fit one)",
    )
    what.add_argument("--list", action="store_true", help="list all artefacts and end")
    how = p.add_argument_group("how")
    how.add_argument(
        "--set", metavar="A.B=V", action="append", default=[], help="a setting, repeatable"
    )
    how.add_argument("--address", help="Ray cluster (default $RAY_ADDRESS, else a local one)")
    how.add_argument(
        "--retry-failed", action="store_true", help="try sources again that failed before"
    )
    how.add_argument(
        "--wait-lock", action="store_true", help="wait for another run on the same output"
    )
    return p


def overrides(args: argparse.Namespace) -> list[str]:
    """Turn convenience options into settings; ``--set`` comes last and wins."""
    direct = {
        "corpus.corpus": args.corpus,
        "corpus.pattern": args.pattern,
        "seed": args.seed,
        "run.limit": args.limit,
        "run.retry_failed": args.retry_failed or None,
        "run.wait_lock": args.wait_lock or None,
    }
    return [*as_overrides(direct), *args.set]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if args.list:
        return guarded("degrade.py", _list, STANDS)
    if not args.corpus and not args.plan:
        return usage("degrade.py", "--corpus is needed (or --plan with corpus.corpus)")
    if not args.out:
        return usage("degrade.py", "--out is needed")
    return guarded("degrade.py", lambda: _degrade(args), STANDS)


def _list() -> int:
    from pipelines.degrading.account import listing

    print(listing())
    return OK


def _degrade(args: argparse.Namespace) -> int:
    from pipelines.config import load_config
    from pipelines.degrade import degrade
    from pipelines.degrading.account import account
    from pipelines.degrading.config import DegradeConfig

    config = load_config(DegradeConfig, args.plan, overrides(args))
    done = degrade(
        config,
        args.out,
        virtual=args.virtual,
        address=args.address,
        contact_sheet=args.contact_sheet,
        contact_source=args.contact_source,
    )
    print(account(done, args.out))
    return OK


if __name__ == "__main__":
    sys.exit(main())
