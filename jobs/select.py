#!/usr/bin/env python3
"""Select the videos (or clips) of a scored corpus that meet a condition, as a manifest.

    python jobs/select.py --scores OUT --where "lip_sync > 3.5 and abs(offset) <= 2" --out good.csv
    python jobs/select.py --scores OUT --columns-list

The manifest of videos can be the --corpus of jobs/extract.py and jobs/score.py. The condition is
one SQL expression (DuckDB); a comparison with a missing value chooses nothing.

Exit status: 0 done (also when nothing matches), 2 wrong usage, condition or scores, 3 the storage
failed, 130 interrupted.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# This folder must not stay on the path: this file would stand in for Python's own module select.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

from jobs.door import OK, guarded, usage  # noqa: E402 - the path comes first

if TYPE_CHECKING:
    from pipelines.selection import Kind, Selection

NAME = "select.py"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="jobs/select.py",
        description="Select scored videos that meet a condition, as a manifest.",
        epilog="Exit status: 0 done, 2 usage, 3 storage failed, 130 interrupted.",
    )
    p.add_argument("--scores", metavar="URI", required=True, help="output of jobs/score.py")
    p.add_argument("--where", metavar="SQL", help='such as "lip_sync > 3.5 and abs(offset) <= 2"')
    p.add_argument("--out", metavar="URI", help="manifest to write: .csv, .jsonl or .parquet")
    p.add_argument(
        "--clips", action="store_true", help="select clips with start and end, not whole videos"
    )
    p.add_argument(
        "--columns",
        metavar="A,B",
        help="values in the manifest, as NAME or NAME as OTHER; default: those of the condition",
    )
    p.add_argument("--order-by", metavar="SQL", help='such as "overall desc"')
    p.add_argument("--limit", type=int, metavar="N", help="at most N rows, after sorting")
    p.add_argument(
        "--explain", action="store_true", help="say how the condition is read; write nothing"
    )
    p.add_argument("--columns-list", action="store_true", help="print the columns that can be used")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if not args.columns_list and args.where is None:
        return usage(NAME, "--where is needed (--columns-list prints what can stand in it)")
    if not (args.columns_list or args.explain or args.out):
        return usage(NAME, "--out is needed (or --explain)")
    return guarded(NAME, lambda: _select(args), "nothing was written")


def _select(args: argparse.Namespace) -> int:
    from pipelines.manifest import check_manifest_name, write_manifest
    from pipelines.selection import select, usable_columns

    kind: Kind = "clips" if args.clips else "videos"
    if args.columns_list:
        print("\n".join(usable_columns(args.scores, kind)))
        return OK
    if args.out and not args.explain:
        check_manifest_name(args.out)
    found = select(
        args.scores,
        args.where,
        kind=kind,
        columns=args.columns,
        order_by=args.order_by,
        limit=args.limit,
    )
    if args.explain:
        print(f"read as: {_shown(found.read_as)}")
        print("manifest: " + ", ".join(map(_shown, found.table.column_names)))
    else:
        write_manifest(found.table, args.out)
    print(_told(found, kind, args))
    return OK


def _shown(text: str) -> str:
    from pipelines.uris import display_text

    return display_text(text, 2_000)


def _told(found: "Selection", kind: "Kind", args: argparse.Namespace) -> str:
    from pipelines.uris import display_text, strip_credentials

    lines = [f"{found.matched} of {found.rows} {kind} match"]
    if found.table.num_rows < found.matched:
        lines[0] += f", the first {found.table.num_rows} were taken (--limit)"
    if not args.explain:
        lines[0] += f": {display_text(strip_credentials(args.out))}"
        if not found.table.num_rows:
            lines.append("the manifest is empty: it has no rows")
    lines += [
        f"{_shown(name)} has no value for {count} {kind}; a comparison with it is never true there"
        for name, count in found.missing.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
