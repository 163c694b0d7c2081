"""Training: from feature shards and a label table to a checkpoint, with honest figures beside it.

1. Read     features, labels -> videos       N : N      pipelines/training/data.py
2. Clean    clips -> clips                   1 : 0..1   pipelines/training/cleaning.py
3. Split    videos -> train, val, test       1 : 1      pipelines/training/splits.py, leakage.py
4. Report   what there is to learn from      N : 1      pipelines/training/data_report.py
5. Fit      training clips -> preprocessor   N : 1      pipelines/training/fit_preprocessor.py (Ray)
6. Reduce   clip -> reduced clip             1 : 1      pipelines/training/reduced_clips.py
7. Train    reduced clips -> weights         N : 1      pipelines/training/worker.py (Ray Train)
8. Judge    clip -> scores -> metrics        N : 1      pipelines/predictions.py, evaluate.py
9. Keep     checkpoint, card, report         1 : 1      pipelines/training/results.py
"""

import time
from typing import Any

import numpy as np
import psutil

from actors.row import COLUMNS
from pipelines.checkpoint import Checkpoint
from pipelines.cluster import LOCAL_OBJECT_STORE, connected
from pipelines.lock import RunLock, new_run_id
from pipelines.resources import Cluster, plan_training
from pipelines.storage import Store
from pipelines.training import state
from pipelines.training.checks import aux_names, begun_with, check_streams, learned_tasks
from pipelines.training.config import TrainConfig
from pipelines.training.data import (
    Candidates,
    TrainData,
    candidates,
    resolve_monitor,
    training_data,
)
from pipelines.training.data_report import told
from pipelines.training.fit_preprocessor import fit_preprocessor
from pipelines.training.listener import Listener
from pipelines.training.progress import CountLine
from pipelines.training.record import TrainRecord
from pipelines.training.reduced_clips import ReducedClips, reduce_clips
from pipelines.training.results import settle
from pipelines.training.splits import folds
from pipelines.training.task import TrainTask
from pipelines.training.worker import train_on_ray


def check(config: TrainConfig, out: str | None = None) -> str:
    """Take the steps before anything is computed or written; returns the account of the data.

    Args:
        config: Validated settings.
        out: Where the run would go, to hold against what is there.

    Raises:
        TrainInputError: See :func:`train`.
    """
    found = candidates(config.features, config.labels, config.cleaning, lambda _: None)
    splits = [config.splits]
    if config.splits.by == "generator" and config.splits.held_out is None:
        names = folds(found.videos, found.clean)
        splits = [config.splits.model_copy(update={"held_out": name}) for name in names]
    parts = []
    for one in splits:
        data = training_data(found, one)
        start = begun_with(config, data)
        check_streams(config, data)
        if len(splits) > 1:
            parts.append(f"\nwithout {one.held_out}:")
        elif out is not None:
            TrainRecord(Store.at(out), config.model_copy(update={"splits": one}), data, start)
        _, sentence = resolve_monitor(data, config.training)
        parts += [told(data.report), *([sentence] if sentence else [])]
    return "\n".join(parts)


def train(
    config: TrainConfig, out: str, *, address: str | None = None, local_cpus: int | None = None
) -> dict[str, Any]:
    """Run the chain; returns the summary that is also stored as ``summary.json``.

    Args:
        config: Validated settings. ``splits.by: generator`` without ``held_out`` needs
            :func:`pipelines.training.folds.train_folds`.
        out: Folder or URI of the output.
        address: Ray cluster; default $RAY_ADDRESS, else a local one.
        local_cpus: CPUs of a local cluster.

    Raises:
        TrainInputError: Features, labels, splits or a checkpoint cannot be used; nothing is
            written then.
        RunError: Training cannot go on; what was saved stands.
        StorageError, LockHeld, ResourceError: With messages for the user.
    """
    line = CountLine("")
    found = candidates(config.features, config.labels, config.cleaning, line.say)  # 1, 2
    return train_on(found, config, out, address=address, local_cpus=local_cpus)


def train_on(
    found: Candidates,
    config: TrainConfig,
    out: str,
    *,
    address: str | None = None,
    local_cpus: int | None = None,
) -> dict[str, Any]:
    """Run the chain from its third step on; see :func:`train`."""
    started = time.time()
    line = CountLine("")
    data = training_data(found, config.splits)  # 3
    line.say(told(data.report))  # 4
    start = begun_with(config, data)
    if start is not None:
        config = config.model_copy(update={"preprocessor": start.preprocessor.config})
    check_streams(config, data)
    monitor, sentence = resolve_monitor(data, config.training)
    if sentence:
        line.say(sentence)
    store = Store.at(out)
    run_id = new_run_id(started)
    with RunLock(store, run_id, wait=config.run.wait_lock):
        record = TrainRecord(store, config, data, start)
        done = record.finished()
        if done is not None:
            line.say(f"{store.display('')} holds this very run, finished: nothing to do")
            return done
        with connected(
            address, local_cpus=local_cpus, object_store=_object_store(config, data)
        ) as cluster:
            preprocessor = _preprocessor(config, data, store, cluster, start)  # 5
            record.begin()
            state.save_preprocessor(store, preprocessor)
            reduced = _reduced(config.features, data, preprocessor)  # 6
            plan = plan_training(cluster, config.run.workers)
            task = TrainTask(
                evaluator=config.evaluator,
                loss=config.loss,
                weighting=config.weighting,
                training=config.training,
                widths=preprocessor.widths,
                aux_width=preprocessor.aux_width,
                labels=data.labels,
                monitor=monitor,
                start=None if start is None else {k: v.numpy() for k, v in start.weights.items()},
            )
            line.say(f"starting {plan.workers} training workers, {plan.resources} each")
            with Listener(store, data, task, plan.workers, run_id) as listener:
                outcome = train_on_ray(task, reduced, store, plan, listener.heard)  # 7
        return settle(  # 8, 9
            config,
            data,
            store,
            preprocessor,
            outcome,
            monitor=monitor,
            learned=learned_tasks(data, start),
            started=started,
        )


def _preprocessor(
    config: TrainConfig,
    data: TrainData,
    store: Store,
    cluster: Cluster,
    start: Checkpoint | None,
) -> Any:
    if start is not None:
        return start.preprocessor
    stored = state.load_preprocessor(store)
    if stored is not None:
        return stored
    line = CountLine("preprocessor")
    shards, _ = data.shard_rows("train")
    workers = max(1, min(len(shards), int(cluster.cpus)))
    preprocessor = fit_preprocessor(
        Store.at(config.features),
        shards,
        config.preprocessor,
        config.evaluator.streams,
        aux_names(config, data),
        workers=workers,
        progress=line.update,
    )
    line.end()
    for text in preprocessor.report():
        line.say(text)
    return preprocessor


def _reduced(features: str, data: TrainData, preprocessor: Any) -> ReducedClips:
    line = CountLine("reducing")
    shards, numbers = data.shard_rows()
    total = len(data.clips) + len(data.silenced)
    reduced = reduce_clips(
        Store.at(features),
        shards,
        numbers,
        preprocessor,
        silenced=data.silenced_rows(),
        progress=lambda done: line.update(done, total),
    )
    line.end()
    return reduced


def _object_store(config: TrainConfig, data: TrainData) -> int:
    """Return the bytes of a local cluster's object store that hold all reduced clips, if they fit.

    What does not fit is spilled to disk by Ray.
    """
    reduced = config.preprocessor
    width = sum(
        reduced.components(name) or int(COLUMNS[name].shape[1] or 0)
        for name in config.evaluator.streams
    )
    clips = np.concatenate([data.clips, data.clips[data.silenced]])
    need = int(data.index.length[clips].sum()) * width * 4
    return min(LOCAL_OBJECT_STORE + int(1.2 * need), int(0.4 * psutil.virtual_memory().total))
