#!/usr/bin/env python3
"""Fitting the preprocessor against scikit-learn's streaming classes on the same feature shards.

    python benchmarks/preprocessor.py [--rows 300000] [--workers 2] [--folder DIR]

Writes shards with the real `visual` column (low rank and noise, float16) and fits 2048 -> 100
twice:

- ours: exact medians, moments, principal components, on Ray;
- scikit-learn: StandardScaler.partial_fit over all shards, then IncrementalPCA.partial_fit of what
  it scales, in float32 (its fastest), all CPUs for its linear algebra; no medians. On a busy
  machine fewer threads can be faster: `--threads 1`.

Prints seconds, their ratio, how far the two results are apart, and the peak memory of our processes
over all shards and over an eighth of them. `--sklearn-rows N` times scikit-learn on the first N
rows only and scales its seconds up (the cost of a batch does not change along the way).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

T, WIDTH, COMPONENTS = 150, 2048, 100
GROUP_CLIPS = 16
SHARDS = 16


def write_shards(folder: Path, clips: int) -> None:
    """Feature-like rows: 300 factors of falling strength behind a ReLU, as after pooling."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((300, WIDTH)).astype(np.float32)
    mixing *= (1.0 / np.arange(1, 301) ** 0.7)[:, None].astype(np.float32)
    per_shard = -(-clips // SHARDS)
    for number in range(SHARDS):
        count = min(per_shard, clips - number * per_shard)
        writer = None
        for start in range(0, count, GROUP_CLIPS):
            n = min(GROUP_CLIPS, count - start)
            values = rng.standard_normal((n * T, 300), np.float32) @ mixing
            values += 0.3 * rng.standard_normal(values.shape, np.float32) + 0.5
            np.maximum(values, 0, out=values)
            tensor = values.astype(np.float16).reshape(n, T, WIDTH)
            mask = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(n * T, bool)), T)
            table = pa.table(
                {
                    **dict.fromkeys(("frame_mask", "face_mask", "audio_mask"), mask),
                    "visual": pa.FixedShapeTensorArray.from_numpy_ndarray(tensor),
                }
            )
            if writer is None:
                path = folder / f"part-{number:02d}.parquet"
                # As the extraction writes them, see pipelines/shard_writer.py.
                writer = pq.ParquetWriter(
                    path,
                    table.schema,
                    compression="zstd",
                    compression_level=3,
                    use_dictionary=[],
                    write_statistics=[],
                )
            writer.write_table(table, row_group_size=n)
        if writer is not None:
            writer.close()


class Peak(threading.Thread):
    """Highest private memory (MiB) of this process and of Ray's workers, and their CPU seconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.driver = self.worker = 0.0
        self._cpu: dict[int, float] = {}
        self._end = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._end.wait(0.25):
            memory = me.memory_info()
            self.driver = max(self.driver, (memory.rss - memory.shared) / 2**20)
            for child in me.children(recursive=True):
                try:
                    if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::"):
                        memory = child.memory_info()
                        own = (memory.rss - memory.shared) / 2**20
                        self.worker = max(self.worker, own)
                        times = child.cpu_times()
                        self._cpu[child.pid] = times.user + times.system
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue

    @property
    def cpu(self) -> float:
        return sum(self._cpu.values()) + time.process_time() - self._begun

    def __enter__(self) -> "Peak":
        self._begun = time.process_time()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def fit_ours(folder: str, shards: int, workers: int, out: str) -> None:
    """One fit in a fresh process and a fresh Ray; Ray's start is not counted."""
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    from model.preprocessor_config import PreprocessorConfig
    from pipelines.storage import Store
    from pipelines.training.fit_preprocessor import ShardRows, fit_preprocessor

    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=512 * 2**20,
    )
    names = sorted(Path(folder).glob("*.parquet"))[:shards]
    rows = [ShardRows(p.name, np.arange(pq.read_metadata(p).num_rows)) for p in names]
    phases: dict[str, float] = {}
    with Peak() as peak:
        start = time.perf_counter()

        def told(_done: int, _total: int, phase: str) -> None:
            phases[phase] = time.perf_counter() - start

        found = fit_preprocessor(
            Store.at(folder),
            rows,
            PreprocessorConfig(visual=COMPONENTS),
            ["visual"],
            workers=workers,
            progress=told,
        )
        seconds = time.perf_counter() - start
    np.save(f"{out}.npy", found.streams["visual"].components)
    result = {
        "seconds": seconds,
        "phases": phases,
        "cpu": peak.cpu,
        "driver": peak.driver,
        "worker": peak.worker,
        "variance": found.streams["visual"].explained_variance.tolist(),
    }
    Path(out).write_text(json.dumps(result))


def fit_sklearn(folder: str, rows: int, batch_clips: int, out: str) -> None:
    from sklearn.decomposition import IncrementalPCA
    from sklearn.preprocessing import StandardScaler

    def batches():  # type: ignore[no-untyped-def]
        done = 0
        for path in sorted(Path(folder).glob("*.parquet")):
            file = pq.ParquetFile(path)
            for batch in file.iter_batches(batch_size=batch_clips, columns=["visual"]):
                values = batch.column(0).to_numpy_ndarray().reshape(-1, WIDTH)
                yield values.astype(np.float32)
                done += len(values)
                if done >= rows:
                    return

    start = time.perf_counter()
    scaler, pca, done = StandardScaler(), IncrementalPCA(COMPONENTS), 0
    for values in batches():
        scaler.partial_fit(values)
    scaled = time.perf_counter() - start
    for values in batches():
        pca.partial_fit(scaler.transform(values))
        done += len(values)
    seconds = time.perf_counter() - start
    memory = psutil.Process().memory_info().rss / 2**20
    np.save(f"{out}.npy", pca.components_)
    result = {
        "seconds": seconds,
        "cpu": time.process_time(),
        "scaler": scaled,
        "rows": done,
        "memory": memory,
        "variance": pca.explained_variance_.tolist(),
    }
    Path(out).write_text(json.dumps(result))


def in_process(kind: str, *arguments: object, threads: int = 0) -> tuple[dict, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result"
        environment = {**os.environ}
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.pop(name, None)
        if kind == "sklearn":
            environment["OMP_NUM_THREADS"] = str(threads)
        command = [sys.executable, __file__, "--run", kind, *map(str, arguments), str(out)]
        subprocess.run(command, check=True, env=environment)
        return json.loads(out.read_text()), np.load(f"{out}.npy")


def compare(folder: Path, options: argparse.Namespace) -> None:
    cpus = len(os.sched_getaffinity(0))
    threads = options.threads or cpus
    small, _ = in_process("ours", folder, max(SHARDS // 8, 1), options.workers)
    ours, axes = in_process("ours", folder, SHARDS, options.workers)
    wanted = min(options.sklearn_rows or options.rows, options.rows)
    theirs, other = in_process("sklearn", folder, wanted, options.batch_clips, threads=threads)
    from scipy.linalg import subspace_angles

    seconds = theirs["seconds"] * options.rows / theirs["rows"]
    print(f"{options.rows:,} rows x {WIDTH} -> {COMPONENTS}, {SHARDS} shards, {cpus} CPUs")
    print("\n|  | seconds | CPU seconds |\n|---|---|---|")
    what = f"batches of {options.batch_clips * T} rows, {threads} threads"
    cpu = theirs["cpu"] * options.rows / theirs["rows"]
    print(f"| scikit-learn, {what} | {seconds:.1f} | {cpu:.0f} |")
    print(f"| ours, {options.workers} workers | {ours['seconds']:.1f} | {ours['cpu']:.0f} |")
    print(f"| ratio | {seconds / ours['seconds']:.1f} | {cpu / ours['cpu']:.1f} |")
    if theirs["rows"] < options.rows:
        print(f"\nscikit-learn timed over {theirs['rows']:,} rows and scaled up")
    print(f"\nof scikit-learn's seconds, the scaler: {theirs['scaler']:.1f}")
    print(f"ends of our phases, s: { ({k: round(v, 1) for k, v in ours['phases'].items()}) }")
    print(f"memory of scikit-learn at the end: {theirs['memory']:.0f} MiB")
    print("\n| peak memory, MiB | worker | driver |\n|---|---|---|")
    for shards, found in ((max(SHARDS // 8, 1), small), (SHARDS, ours)):
        print(f"| {shards} shards | {found['worker']:.0f} | {found['driver']:.0f} |")
    angle = subspace_angles(axes[:20].T, other.T).max()
    gap = np.abs(np.array(theirs["variance"]) / np.array(ours["variance"]) - 1)[:20].max()
    print(f"\nfirst 20 components: angle to scikit-learn's {COMPONENTS} {angle:.1e}, ", end="")
    print(f"variances within {gap:.1e} (IncrementalPCA is an approximation)")


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        kind, folder, size, workers, out = sys.argv[2:]
        run = fit_ours if kind == "ours" else fit_sklearn
        run(folder, int(size), int(workers), out)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-clips", type=int, default=16, help="of scikit-learn's batches")
    parser.add_argument("--threads", type=int, default=0, help="of scikit-learn; 0: all CPUs")
    parser.add_argument("--sklearn-rows", type=int, default=0, help="0: all")
    parser.add_argument("--folder", help="keep the shards here and use them again")
    options = parser.parse_args()
    clips = options.rows // T
    options.rows = clips * T
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary) / f"rows-{options.rows}"
        if not folder.exists():
            folder.mkdir(parents=True)
            write_shards(folder, clips)
        compare(folder, options)


if __name__ == "__main__":
    main()
