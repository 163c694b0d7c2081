#!/usr/bin/env python3
"""Scoring: how much of the time goes into the extractors, and what a video costs in large corpora.

    python benchmarks/score.py [--clips FOLDER] [--videos 6] [--rounds 1] [--many 10,100,1000]

1. Real videos are cut to their first 6 s. The extractors run alone over them (one process a core,
   one thread each, warm, nothing else running), then the real command scores the same videos with a
   checkpoint that was trained on their features. Efficiency = sum of the extractors alone / the
   time from the first lease to the end of the run; start of Ray and models apart. Beside it: what
   evaluator, descriptors and everything after the last video take.
2. Made-up features stand where decoding stands, for corpora of 10 to 1,000 videos: milliseconds a
   video, first while scoring, then for tables, leaderboard and report.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.extract import cut_videos, stages_alone  # noqa: E402 - the path comes first

OURS = ("descriptors", "score")  # what scoring adds to the backbones


def command(name: str, *arguments: str) -> None:
    """Run a door of the project."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / name), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"jobs/{name} failed:\n{done.stdout}{done.stderr}")


def checkpoint_of(videos: Path, folder: Path) -> Path:
    """Train an evaluator for a moment on the videos' features; its scores mean nothing."""
    features = folder / "features"
    command("extract.py", "--corpus", str(videos), "--out", str(features), "--weights", "seeded")
    labels = folder / "labels.csv"
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "overall", "lip_sync", "audio_quality", "split"])
        for i, path in enumerate(sorted(videos.glob("*.mp4"))):
            split = ("train", "train", "val", "test")[i % 4]
            writer.writerow([path.stem, 1 + i % 5, 1 + (i + 2) % 5, 1 + (2 * i) % 5, split])
    out = folder / "training"
    command(
        *("train.py", "--features", str(features), "--labels", str(labels), "--out", str(out)),
        *("--preset", "optimized", "--split-column", "split"),
        *("--set", "training.epochs=1", "--set", "training.batch_size=2"),
    )
    return out


def score(videos: Path, checkpoint: Path, out: Path) -> tuple[dict[str, Any], float]:
    """Score with the real command; returns its summary, and seconds after the last video."""
    command(
        *("score.py", "--corpus", str(videos), "--checkpoint", str(checkpoint), "--out", str(out))
    )
    run = json.loads((out / "report" / "summary.json").read_text())["run"]
    last = max(path.stat().st_mtime for path in (out / "clips").rglob("*.parquet"))
    return run, (out / "report" / "summary.json").stat().st_mtime - last


def real(args: argparse.Namespace) -> None:
    """Part 1."""
    with tempfile.TemporaryDirectory(prefix="talkmos-bench-") as name:
        folder = Path(name)
        videos = folder / "videos"
        made = cut_videos(Path(args.clips), videos, args.videos)
        if len(made) < 4:
            sys.exit(f"{args.clips}: at least 4 videos of 6 s with sound are needed")
        checkpoint = checkpoint_of(videos, folder)
        print(f"{len(made)} real clips of 150 frames, {os.cpu_count()} cores")
        efficiencies, added = [], []
        for i in range(args.rounds):
            alone = stages_alone(made, None)
            run, after = score(videos, checkpoint, folder / f"scores{i}")
            whole = run["work_seconds"] + after
            workers = run["workers"]
            extra = sum(run["stage_seconds"].get(name, 0.0) for name in OURS) / workers + after
            efficiencies.append(sum(alone.values()) / whole)
            added.append(extra / whole)
            print(
                f"round {i + 1}: extractors alone {sum(alone.values()):.1f} s, scoring "
                f"{run['work_seconds']:.1f} s, then {after:.1f} s; efficiency "
                f"{efficiencies[-1]:.3f}; evaluator, descriptors and report {added[-1]:.1%}",
                flush=True,
            )
        stages = run["stage_seconds"]
        for stage in OURS:
            each = stages.get(stage, 0.0) / len(made)
            print(f"  {stage:<12} {each:.3f} s a clip on one core")
        hours = len(made) * 6 / whole * 24 / (os.cpu_count() or 1)
        print(f"efficiency {statistics.median(efficiencies):.3f}")
        print(f"{hours:.1f} hours of video a day on one core")


def many(counts: list[int]) -> None:
    """Part 2."""
    from pipelines.score import score as run_score
    from pipelines.scoring.config import load_score_config
    from tests.score_fakes import make_score_fake, tiny_checkpoint

    os.environ["PYTHONPATH"] = str(ROOT)
    print(f"{'videos':>8} {'scoring ms/video':>18} {'tables, report ms/video':>25} {'wall s':>8}")
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="talkmos-bench-") as name:
            folder = Path(name)
            corpus = folder / "corpus"
            for i in range(count):
                path = corpus / f"g{i % 5}" / f"v{i // 5:05d}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"stub")
            checkpoint = tiny_checkpoint(folder / "model")
            given = [f"corpus.corpus={corpus}", f"checkpoint={checkpoint}"]
            given += ["corpus.pattern='{generator}/*.mp4'", "report.worst=0", "report.best=0"]
            config, peek = load_score_config(None, given)
            begun = time.perf_counter()
            told = run_score(config, peek, str(folder / "out"), factory=make_score_fake)
            wall = time.perf_counter() - begun
            run = told.summary["run"]
            last = max(p.stat().st_mtime for p in (folder / "out/clips").rglob("*.parquet"))
            after = (folder / "out/report/summary.json").stat().st_mtime - last
            scoring = run["work_seconds"] / count * 1e3
            print(
                f"{count:>8} {scoring:>18.1f} {after / count * 1e3:>25.1f} {wall:>8.1f}",
                flush=True,
            )


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = ROOT.parent / "shared"
    p.add_argument("--clips", type=Path, default=os.environ.get("TALKMOS_CLIPS", shared / "clips"))
    p.add_argument("--videos", type=int, default=6)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--many", default="10,100,1000", help="sizes of part 2; empty: leave it out")
    p.add_argument("--skip-real", action="store_true", help="leave part 1 out")
    args = p.parse_args()
    if not args.skip_real:
        real(args)
    if args.many:
        many([int(part) for part in args.many.split(",")])


if __name__ == "__main__":
    main()
