#!/usr/bin/env python3
"""Training: how much of the time is spent on steps, and how far from a plain PyTorch loop it is.

    python benchmarks/train.py [--preset optimized] [--batch 32] [--steps 12] [--rounds 2]

Each round runs the real training loop (Ray Train, one worker, clips from the object store, masks,
five heads, AdamW, clipping, watching) and a plain PyTorch loop over preloaded tensors (the same
network, masked squared errors, AdamW, clipping) in the same minutes, in turn; then the memory of a
step with and without gradient checkpointing, each in a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from model.batch import REDUCED_WIDTHS, ClipBatch, ClipTargets
from model.evaluator import Evaluator, build_evaluator
from model.evaluator_config import EvaluatorConfig
from model.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 150
WARM = 2  # steps before the clock starts


def settings(preset: str, checkpointing: bool = False) -> Any:
    from pipelines.config import load_config
    from pipelines.training.config import TrainConfig, preset_file

    given = ["features=x", "labels.labels=x"]
    if checkpointing:
        given.append("evaluator.gradient_checkpointing=true")
    return load_config(TrainConfig, None, given, base=preset_file(preset))


def clips(config: EvaluatorConfig, count: int, seed: int = 0) -> tuple[ClipBatch, ClipTargets]:
    """Full clips of noise with random labels, a fifth of them missing."""
    rng = np.random.default_rng(seed)
    mask = torch.ones(count, FRAMES, dtype=torch.bool)
    streams = {
        name: torch.from_numpy(
            rng.standard_normal((count, FRAMES, REDUCED_WIDTHS[name]), np.float32)
        )
        for name in config.streams
    }
    values = torch.from_numpy(rng.uniform(1, 5, (count, len(TASKS))).astype(np.float32))
    valid = torch.from_numpy(rng.random((count, len(TASKS))) < 0.8)
    targets = ClipTargets(values, valid, torch.ones_like(values), torch.arange(count))
    return ClipBatch(streams, dict.fromkeys(config.streams, mask), mask), targets


def evaluator_of(config: EvaluatorConfig) -> Evaluator:
    torch.manual_seed(0)
    return build_evaluator(config, REDUCED_WIDTHS, 0)


def plain_loop(preset: str, batch: int, steps: int, threads: int, precision: str) -> float:
    """Steps a second of what a user would write over tensors that are there."""
    torch.set_num_threads(threads)
    config = settings(preset)
    network = evaluator_of(config.evaluator).train()
    data = [clips(config.evaluator, batch, seed) for seed in range(4)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.training.learning_rate)
    half = precision == "bf16"
    started = 0.0
    for step in range(WARM + steps):
        if step == WARM:
            started = time.perf_counter()
        items, targets = data[step % len(data)]
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            scores = network(items).scores
        error = torch.where(targets.valid, scores - targets.values, 0.0)
        (error.square().sum() / targets.valid.sum()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return steps / (time.perf_counter() - started)


def pipeline(
    preset: str, batch: int, steps: int, threads: int, precision: str
) -> tuple[float, float]:
    """Steps a second of the real loop, and the share of its time that it spent on steps."""
    import ray

    from pipelines.resources import TrainPlan
    from pipelines.storage import Store
    from pipelines.training.reduced_clips import ReducedClips, table_of
    from pipelines.training.task import ClipLabels, TrainTask
    from pipelines.training.worker import train_on_ray

    config = settings(preset)
    count = batch * (WARM + steps)
    items, targets = clips(config.evaluator, count)
    block = 16
    blocks = []
    for first in range(0, count, block):
        part = slice(first, first + block)
        piece = ClipBatch(
            {k: v[part] for k, v in items.streams.items()},
            {k: v[part] for k, v in items.present.items()},
            items.frame_mask[part],
        )
        blocks.append(ray.put(table_of(piece, np.arange(count)[part])))
    numbers = np.arange(count, dtype=np.int32)
    reduced = ReducedClips(
        blocks,
        numbers // block,
        numbers % block,
        np.full(count, FRAMES, np.int32),
        tuple(config.evaluator.streams),
        aux=False,
    )
    values = np.where(targets.valid.numpy(), targets.values.numpy(), np.nan).astype(np.float32)
    split = np.zeros(count, np.int8)
    split[-1] = 1  # the loop wants something to validate on
    split[-2] = 2
    labels = ClipLabels(
        values,
        np.ones_like(values),
        numbers.astype(np.int64),
        np.full(count, FRAMES, np.int32),
        split,
    )
    training = config.training.model_copy(
        update={"epochs": 1, "batch_size": batch, "accumulation": 1, "precision": precision}
    )
    task = TrainTask(
        evaluator=config.evaluator,
        loss=config.loss,
        weighting=config.weighting,
        training=training,
        widths={name: REDUCED_WIDTHS[name] for name in config.evaluator.streams},
        aux_width=0,
        labels=labels,
        monitor="loss",
    )
    seen: list[tuple[int, float]] = []

    def heard(kind: str, value: Any) -> None:
        if kind == "step":
            seen.append((value["step"], time.perf_counter()))  # to 0.2 s: messages are fetched

    with tempfile.TemporaryDirectory(prefix="talkmos-bench-") as folder:
        plan = TrainPlan(1, False, {"CPU": 1.0}, threads)
        outcome = train_on_ray(task, reduced, Store.at(folder), plan, heard)
    times = dict(seen)
    first, last = WARM, max(times)
    share = outcome.seconds["steps"] / (outcome.seconds["steps"] + outcome.seconds["data"])
    return (last - first) / (times[last] - times[first]), share


def memory(preset: str, batch: int, threads: int, precision: str, checkpointing: bool) -> float:
    """Peak memory of a training step beyond the network and its optimiser's state, MiB."""
    torch.set_num_threads(threads)
    config = settings(preset, checkpointing)
    network = evaluator_of(config.evaluator).train()
    data, _ = clips(config.evaluator, 1)
    network(data).scores.sum().backward()  # libraries and gradients are there
    data, targets = clips(config.evaluator, batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        scores = network(data).scores
    torch.where(targets.valid, scores - targets.values, 0.0).square().sum().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def apart(what: str, args: argparse.Namespace, *more: str) -> Any:
    """Run a part of this file in a process of its own; returns what it measured."""
    command = [sys.executable, __file__, "--part", what, "--preset", args.preset]
    command += ["--batch", str(args.batch), "--steps", str(args.steps)]
    command += ["--threads", str(args.threads), "--precision", args.precision, *more]
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def part(args: argparse.Namespace) -> Any:
    if args.part == "plain":
        return plain_loop(args.preset, args.batch, args.steps, args.threads, args.precision)
    if args.part == "memory":
        return memory(args.preset, args.batch, args.threads, args.precision, args.checkpointing)
    from pipelines.cluster import connected

    need = args.batch * (WARM + args.steps) * FRAMES * sum(REDUCED_WIDTHS.values()) * 5
    with connected(None, object_store=max(512 * 2**20, need)):
        return pipeline(args.preset, args.batch, args.steps, args.threads, args.precision)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="optimized")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--part", choices=("plain", "pipeline", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    if args.part:
        print(json.dumps(part(args)))
        return 0
    print(f"{args.preset}, batch {args.batch}, {args.precision}, {args.threads} threads")
    print(f"{'round':>5} {'plain steps/s':>14} {'ours steps/s':>13} {'ratio':>7} {'on steps':>9}")
    ratios = []
    for number in range(args.rounds):
        before = apart("plain", args)
        ours, share = apart("pipeline", args)
        after = apart("plain", args)
        plain = (before + after) / 2
        ratios.append(ours / plain)
        print(f"{number + 1:>5} {plain:>14.3f} {ours:>13.3f} {ratios[-1]:>7.3f} {share:>9.3f}")
    print(f"median ratio {median(ratios):.3f}")
    without, with_it = apart("memory", args), apart("memory", args, "--checkpointing")
    print(f"memory of a step: {without:.0f} MiB, with gradient checkpointing {with_it:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
