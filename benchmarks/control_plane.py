#!/usr/bin/env python3
"""What the driver costs: stub videos through the real pipeline with extraction replaced by a no-op.

    python benchmarks/control_plane.py [--videos 100000] [--workers 2]

Prints milliseconds of wall and of driver CPU a video, the driver's memory along the way, and the
time of a rerun over the finished corpus, which must decode nothing.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from actors.features import STRUCT_FIELDS
from pipelines.messages import ProcessorInfo, VideoEnd

ALL = frozenset(
    {
        "visual",
        "audio",
        "landmarks",
        "action_units",
        "sync",
        "sync_reason",
        "lowlevel",
        "descriptors",
    }
)


class Noop:
    """Stands where extraction stands and gives one row without tensors for each video."""

    def load(self) -> ProcessorInfo:
        return ProcessorInfo({"noop": "1"}, {}, True, STRUCT_FIELDS, ALL)

    def ahead(self, coming: list) -> None:
        pass

    def process(self, ref, progress, _timings) -> Iterator:  # type: ignore[no-untyped-def]
        progress.beat("decode")
        with Path(ref.uri).parent.joinpath("decoded").open("ab") as count:
            count.write(b".")  # evidence of what was decoded
        mask = np.zeros(150, np.bool_)
        yield {
            "clip_index": 0,
            "start_s": 0.0,
            "end_s": 6.0,
            "frame_mask": mask,
            "face_mask": mask,
            "audio_mask": mask,
            "faces": dict.fromkeys(STRUCT_FIELDS["faces"]),
        }
        yield VideoEnd(0.0)

    def close(self) -> None:
        pass


def make_noop(_threads: int) -> Noop:
    return Noop()


class Watch(threading.Thread):
    """Samples the driver's memory every second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process()
        self.samples: list[float] = []
        self.on = True

    def run(self) -> None:
        while self.on:
            self.samples.append(self.process.memory_info().rss / 2**20)
            time.sleep(1)


def once(corpus: Path, out: Path, workers: int) -> dict:
    from pipelines.config import load_config
    from pipelines.extract import ExtractConfig, extract

    config = load_config(
        ExtractConfig,
        None,
        [
            f"corpus.corpus={json.dumps(str(corpus))}",
            f"resources.workers={workers}",
            "run.shard_clips=4096",
        ],
    )
    watch = Watch()
    watch.start()
    cpu = time.process_time()
    begun = time.perf_counter()
    summary = extract(config, str(out), factory=make_noop)
    result = {
        "wall": time.perf_counter() - begun,
        "driver_cpu": time.process_time() - cpu,
        "rss": watch.samples,
        "summary": summary,
    }
    watch.on = False
    return result


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--videos", type=int, default=100_000)
    p.add_argument("--workers", type=int, default=2)
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="talkmos-control-") as folder:
        manifest = Path(folder) / "manifest.csv"
        with manifest.open("w") as file:
            file.write("video_id,uri,generator\n")
            for i in range(args.videos):
                file.write(
                    f"g{i % 10}/video-{i:07d},{folder}/g{i % 10}/video-{i:07d}.mp4,g{i % 10}\n"
                )
        for i in range(10):
            (Path(folder) / f"g{i}").mkdir()
        out = Path(folder) / "out"
        first = once(manifest, out, args.workers)
        decoded = sum((Path(folder) / f"g{i}" / "decoded").stat().st_size for i in range(10))
        again = once(manifest, out, args.workers)
        more = sum((Path(folder) / f"g{i}" / "decoded").stat().st_size for i in range(10)) - decoded
    n = args.videos
    rss = first["rss"]
    quarter = max(1, len(rss) // 4)
    print(f"{n} stub videos, {args.workers} workers")
    rows = [
        ("first run, wall", f"{first['wall']:.1f} s", f"{first['wall'] / n * 1e3:.3f} ms a video"),
        (
            "  leases to last commit",
            f"{first['summary']['work_seconds']:.1f} s",
            f"{first['summary']['work_seconds'] / n * 1e3:.3f} ms a video",
        ),
        (
            "  driver CPU",
            f"{first['driver_cpu']:.1f} s",
            f"{first['driver_cpu'] / n * 1e3:.3f} ms a video",
        ),
        (
            "  driver memory, 1st quarter / end / peak",
            f"{max(rss[:quarter]):.0f} / {rss[-1]:.0f} / {max(rss):.0f} MiB",
            "",
        ),
        ("  decoded", str(decoded), ""),
        (
            "rerun, wall",
            f"{again['wall']:.1f} s",
            f"{again['wall'] / first['wall']:.3f} of the first",
        ),
        ("  decoded", str(more), ""),
    ]
    for name, value, note in rows:
        print(f"{name:<44}{value:>24}  {note}")


if __name__ == "__main__":
    main()
