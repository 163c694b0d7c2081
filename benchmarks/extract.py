#!/usr/bin/env python3
"""Throughput beside the straightforward script, and how much of the machine the pipeline uses.

    python benchmarks/extract.py [--clips FOLDER] [--naive SCRIPT] [--videos 8] [--rounds 2]

1. Real videos are cut to their first 6 s at 25 fps (150 frames), so that both sides see the same
frames.
2. In turn: the script that a user would write instead (one process, FP32), our job with its four
modalities
   (visual, audio, landmarks, action units), and our job with everything.
3. Each stage alone over the same clips: one process a core, one thread each, warm, nothing else
   running. Efficiency = sum of the stages alone / wall seconds of the job. Start of Ray and models
   apart.

The script needs an `ffmpeg` program; without one a stand-in that decodes with PyAV is put on its
PATH.
"""

import argparse
import json
import multiprocessing as mp
import os
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

FOUR = "visual,audio,landmarks,action_units"
FRAMES = 150

FFMPEG = """#!{python}
import sys
import av, numpy as np
source = sys.argv[sys.argv.index("-i") + 1]
rate = int(sys.argv[sys.argv.index("-ar") + 1])
with av.open(source) as c:
    if not c.streams.audio:
        sys.exit(1)
    r = av.AudioResampler("flt", "mono", rate)
    for f in c.decode(audio=0):
        for g in r.resample(f):
            sys.stdout.buffer.write(g.to_ndarray().tobytes())
"""


def cut(source: Path, target: Path) -> bool:
    """Write the first 150 frames and their sound; False when there are fewer, or no sound."""
    import av
    import numpy as np

    from actors.decode import DecodeConfig, VideoReader

    with source.open("rb") as file, VideoReader(file, DecodeConfig(), source.name) as reader:
        images: list[Any] = []
        for frame in reader.frames():
            images += [frame.image] * len(frame.grid)
        sound = reader.sound()
    if len(images) < FRAMES or sound is None or any(i is None for i in images[:FRAMES]):
        return False
    height, width = (side // 2 * 2 for side in images[0].shape[:2])
    with av.open(str(target), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "16"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=16000, layout="mono")
        for image in images[:FRAMES]:
            out.mux(
                video.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]))
                )
            )
        out.mux(video.encode(None))
        samples = sound.samples[None, : FRAMES * 640].astype(np.float32)
        block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        block.sample_rate = 16000
        out.mux(audio.encode(block))
        out.mux(audio.encode(None))
    return True


def run_naive(script: Path, videos: list[Path], folder: Path) -> float:
    """Return the script's own seconds: start and models apart."""
    shim = folder / "bin"
    shim.mkdir(exist_ok=True)
    tool = shim / "ffmpeg"
    tool.write_text(FFMPEG.format(python=sys.executable))
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    env = {**os.environ, "PATH": os.environ["PATH"] + os.pathsep + str(shim)}
    done = subprocess.run(
        [sys.executable, str(script), str(folder / "naive"), *map(str, videos)],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.strip().splitlines()[-1].split(" in ")[1].split(" s")[0])


def cut_videos(clips: Path, folder: Path, count: int) -> list[Path]:
    """Cut up to ``count`` videos below ``clips`` into a new folder."""
    folder.mkdir()
    made: list[Path] = []
    for source in sorted(clips.rglob("*.mp4")):
        target = folder / ("-".join(source.relative_to(clips).parts))
        if len(made) < count and cut(source, target):
            made.append(target)
    return made


def run_job(videos: Path, out: Path, modalities: str | None) -> dict[str, Any]:
    """Run the real command; returns its summary."""
    command = [sys.executable, str(ROOT / "jobs" / "extract.py"), "--corpus", str(videos)]
    command += ["--out", str(out), "--weights", "seeded"]
    if modalities:
        command += ["--modalities", modalities]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "summary.json").read_text())


def alone(videos: list[Path], barrier: Any, answers: Any, modalities: str | None) -> None:
    """One process of two: each stage by itself over this half of the videos."""
    from actors.encode import backbone_stages, cpu_stages
    from actors.features import MODALITIES, FeaturesConfig
    from actors.prepare import Preparer
    from actors.types import Timings
    from pipelines.processors import limit_threads

    limit_threads(1)
    names = modalities.split(",") if modalities else list(MODALITIES)
    seeded = {"weights": "seeded"}
    config = FeaturesConfig.model_validate(
        {"modalities": names, "visual": seeded, "audio": seeded, "sync": seeded}
    )
    preparer = Preparer(config)
    stages = backbone_stages(config, "cpu", len(videos)) + cpu_stages(config)
    seconds: dict[str, float] = {}

    def prepare(timings: Timings) -> list[dict[str, Any]]:
        rows = []
        for path in videos:
            with path.open("rb") as file:
                rows += list(preparer.open(file, path.name, timings, lambda _: None).rows)
        return rows

    rows = prepare(Timings())  # warm
    barrier.wait()
    timings = Timings()
    prepare(timings)
    seconds.update(timings.seconds)
    for stage in stages:
        barrier.wait()
        begun = time.perf_counter()
        for row in rows:
            stage([row])
        seconds[stage.name] = time.perf_counter() - begun
    barrier.wait()
    answers.put(seconds)


def stages_alone(videos: list[Path], modalities: str | None) -> dict[str, float]:
    """Return seconds of each stage over all videos with both cores busy."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    context = mp.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    halves = [videos[0::2], videos[1::2]]
    workers = [
        context.Process(target=alone, args=(h, barrier, answers, modalities)) for h in halves
    ]
    for worker in workers:
        worker.start()
    results = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        del os.environ[name]
    return {name: sum(r[name] for r in results) / len(results) for name in results[0]}


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = ROOT.parent / "shared"
    p.add_argument("--clips", type=Path, default=os.environ.get("TALKMOS_CLIPS", shared / "clips"))
    p.add_argument("--naive", type=Path, default=shared / "baselines" / "naive_extract.py")
    p.add_argument("--videos", type=int, default=8)
    p.add_argument("--rounds", type=int, default=2)
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="talkmos-bench-") as name:
        folder = Path(name)
        videos = folder / "videos"
        made = cut_videos(Path(args.clips), videos, args.videos)
        n = len(made)
        print(f"{n} real clips of 150 frames, {os.cpu_count()} cores, {args.rounds} rounds in turn")
        naive, four, full, alone_full = [], [], [], []
        summary: dict[str, Any] = {}
        for i in range(args.rounds):
            four.append(run_job(videos, folder / f"four{i}", FOUR)["work_seconds"])
            if args.naive.exists():
                naive.append(run_naive(args.naive, made, folder))
            alone_full.append(stages_alone(made, None))
            summary = run_job(videos, folder / f"full{i}", None)
            full.append(summary["work_seconds"])
            print(
                f"round {i + 1}: four {four[-1]:.1f} s, naive {naive[-1] if naive else 0:.1f} s, "
                f"all {full[-1]:.1f} s, stages alone {sum(alone_full[-1].values()):.1f} s",
                flush=True,
            )
    if naive:
        print(f"{'':<36}{'clips/s':>10}{'ratio':>10}   each round")
        print(f"{'naive script':<36}{n / statistics.median(naive):>10.3f}{1.0:>10.2f}")
        for name, ours in (("job, four modalities", four), ("job, everything", full)):
            each = [b / a for a, b in zip(ours, naive, strict=True)]
            rounds = ", ".join(f"{r:.2f}" for r in each)
            rate, ratio = n / statistics.median(ours), statistics.median(each)
            print(f"{name:<36}{rate:>10.3f}{ratio:>10.2f}   {rounds}")
    efficiency = [sum(a.values()) / w for a, w in zip(alone_full, full, strict=True)]
    rounds = ", ".join(f"{e:.3f}" for e in efficiency)
    print(
        f"efficiency of the whole job: {statistics.median(efficiency):.3f}   (each round: {rounds})"
    )
    total = sum(alone_full[-1].values())
    print("stage, alone (share; s a clip on both cores):")
    for stage, seconds in sorted(alone_full[-1].items(), key=lambda item: -item[1]):
        print(f"  {stage:<16}{seconds / total:>7.1%}{seconds / n:>9.3f}")
    worker, driver = summary["worker_peak_rss_mib"], summary["driver_peak_rss_mib"]
    print(f"peak memory: worker {worker} MiB, driver {driver} MiB")


if __name__ == "__main__":
    main()
