#!/usr/bin/env python3
"""What controlled artefacts cost: making stored variants, and extraction of virtual ones.

    python benchmarks/degrade.py [--video FILE] [--seconds 3] [--severity 0.6] [--types A,B]
        [--no-alone]

In one process and thread, without Ray, in turns for every type of artefact:

stored       seconds to make the variant and write it without loss (the source is decoded already)
plain        seconds to extract all features of that file, as of any other
virtual      seconds to extract the same from the source, the artefact applied at decode, after the
             other variants of the source: what they share is remembered
alone        the same for a single variant that shares nothing (left out with --no-alone)

The cost of a virtual corpus is the sum of `virtual` over the sum of `plain`. The first variant, the
clean one, pays for what all share; it is counted.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

COLUMNS = ("stored", "plain", "virtual", "alone")


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that ``work`` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Bench:
    """Measures variants of one source, one after another.

    Args:
        uri: Of the source.
        warm: Of another video, on which everything is loaded and used once.
        folder: For stored variants, which are deleted again.
    """

    def __init__(self, uri: str, warm: str, folder: Path) -> None:
        from actors.artefacts.studio import Studio
        from actors.features import FeaturesConfig
        from pipelines.processors import WholeProcessor
        from pipelines.storage import open_uri

        seeded = {name: {"weights": "seeded"} for name in ("visual", "audio", "sync")}
        config = FeaturesConfig.model_validate(seeded)
        self.uri, self._folder = uri, folder
        self._studio = Studio(config, open_uri)
        self._processor = WholeProcessor(config, 1, 4)
        self._processor.load()
        face = '[{"type":"frozen_mouth","severity":0.5}]'
        for chain in ("[]", face):
            self._variant(warm, chain, "w")
        self._read("[]")

    def decoding(self) -> float:
        """Seconds to decode the source once."""
        self._studio.close()
        return timed(lambda: self._read("[]"))

    def measure(
        self, number: int, chain: str, columns: tuple[str, ...]
    ) -> tuple[dict[str, float], int]:
        """Return the seconds of :data:`COLUMNS` and the bytes of the stored variant."""
        from actors.artefacts.studio import write_video

        path = self._folder / f"{number}.mov"
        with path.open("w+b") as file:
            seconds = {"stored": timed(lambda: write_video(self._read(chain), file))}
        seconds["plain"] = timed(lambda: self._plain(str(path)))
        if number:  # extraction of a plain file closed the source: open it again, unmeasured
            self._variant(self.uri, "[]", "a")
        seconds["virtual"] = timed(lambda: self._variant(self.uri, chain, "a"))
        if "alone" in columns:
            seconds["alone"] = timed(lambda: self._variant(self.uri, chain, None))
        size = path.stat().st_size
        path.unlink()
        return seconds, size

    def _read(self, chain: str) -> Any:
        from actors.artefacts.chain import parse_chain
        from actors.types import Timings

        return self._studio.read(self.uri, "a", parse_chain(chain), Timings())

    def _plain(self, uri: str) -> None:
        from actors.types import VideoRef

        self._extract(VideoRef("plain", uri))

    def _variant(self, uri: str, chain: str, source: str | None) -> None:
        from actors.types import VideoRef

        key = source or f"alone-{time.monotonic_ns()}"
        self._extract(VideoRef("v", uri, version=f"{key}+x", source=source, artefacts=chain))

    def _extract(self, ref: Any) -> None:
        from actors.types import Timings
        from pipelines.messages import Progress

        for _ in self._processor.process(ref, Progress(), Timings()):
            pass


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--video", type=Path, help="a clean video (default: one of the demo corpus)")
    p.add_argument("--seconds", type=float, default=3.0, help="of the demo video")
    p.add_argument("--severity", type=float, default=0.6)
    p.add_argument("--types", help="only these")
    p.add_argument("--no-alone", action="store_true", help="leave out variants that share nothing")
    args = p.parse_args()
    columns = COLUMNS[: -1 if args.no_alone else None]

    from actors.artefacts.chain import Step, chain_text
    from actors.artefacts.registry import ARTEFACTS
    from pipelines.demo import write_demo_corpus

    types = args.types.split(",") if args.types else list(ARTEFACTS)
    with tempfile.TemporaryDirectory(prefix="talkmos-bench-") as name:
        folder = Path(name)
        try:
            demo = write_demo_corpus(folder / "demo", videos=2, seconds=args.seconds, processes=1)
        except ValueError as error:
            sys.exit(f"--seconds: {error}")
        first, second = (str(demo.folder / f"{spec.video_id}.mp4") for spec in demo.specs)
        uri = str(args.video.absolute()) if args.video else first
        chains = {"clean": "[]"} | {
            kind: chain_text(
                [Step(kind, args.severity, 7, second if ARTEFACTS[kind].needs_donor else None)]
            )
            for kind in types
        }
        bench = Bench(uri, second, folder)
        print(f"{Path(uri).name}, severity {args.severity:g}; decoded in {bench.decoding():.2f} s")
        print(f"{'type':<18}{'group':<10}" + "".join(f"{c:>10}" for c in columns) + f"{'MiB':>8}")
        sums: dict[str, dict[str, float]] = {}
        for number, (kind, chain) in enumerate(chains.items()):
            group = ARTEFACTS[kind].group if kind in ARTEFACTS else "clean"
            seconds, size = bench.measure(number, chain, columns)
            for scope in (group, "all"):
                into = sums.setdefault(scope, dict.fromkeys((*columns, "n"), 0.0))
                for key, value in {**seconds, "n": 1.0}.items():
                    into[key] += value
            figures = "".join(f"{seconds[c]:>10.2f}" for c in columns)
            print(f"{kind:<18}{group:<10}{figures}{size / 2**20:>8.1f}", flush=True)
    print(f"\n{'mean of group':<28}" + "".join(f"{c:>10}" for c in columns))
    for scope, total in sums.items():
        figures = "".join(f"{total[c] / total['n']:>10.2f}" for c in columns)
        print(f"{scope:<28}{figures}")
    every = sums["all"]
    print(f"stored variants per second and core: {every['n'] / every['stored']:.2f}")
    shared = every["virtual"] / every["plain"] - 1
    print(f"a virtual corpus against plain extraction of a stored one: {shared:+.1%}")
    if "alone" in columns:
        alone = every["alone"] / every["plain"] - 1
        print(f"the same when variants share nothing: {alone:+.1%}")


if __name__ == "__main__":
    main()
