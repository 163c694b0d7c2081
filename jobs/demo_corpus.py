"""Make a corpus of talking faces, offline.

python jobs/demo_corpus.py --out demo-output/corpus
python jobs/demo_corpus.py --out demo-output/generated --generators
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# This folder must not stay on the path: its select.py would stand in for Python's own module.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

from pipelines.demo import (  # noqa: E402 - the path comes first
    GENERATED_SECONDS,
    SECONDS,
    VIDEOS,
    write_demo_corpus,
)
from pipelines.demo_generators import PROMPTS  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Make the corpus, say what was made, and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Make talking-face videos whose lip motion follows a made-up voice, offline."
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the corpus goes")
    parser.add_argument(
        "--generators",
        action="store_true",
        help="the same words from made-up generators of known quality, to score",
    )
    parser.add_argument(
        "--videos",
        type=int,
        help=f"how many (default {VIDEOS}, or {PROMPTS} of each generator)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"length of each (default {SECONDS:g}; of generators {GENERATED_SECONDS:g})",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed says other things")
    parser.add_argument(
        "--processes", type=int, default=2, help="workers that draw (default %(default)s)"
    )
    options = parser.parse_args(argv)
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        print(f"  video {done} of {total}, {time.monotonic() - started:.0f} s", flush=True)

    try:
        corpus = write_demo_corpus(
            options.out,
            videos=options.videos,
            seconds=options.seconds,
            seed=options.seed,
            kind="generators" if options.generators else "clean",
            processes=options.processes,
            progress=progress,
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"demo_corpus: {error}", file=sys.stderr)
        return 2
    speakers = {spec.speaker for spec in corpus.specs}
    print(
        f"{len(corpus.specs)} videos of {corpus.specs[0].seconds:g} s by {len(speakers)} speakers, "
        f"{corpus.clips} clips ({corpus.written} made now, {corpus.kept} were there)"
    )
    print(f"list: {corpus.manifest}")
    print(f"what they say, frame by frame: {corpus.folder / 'truth.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
