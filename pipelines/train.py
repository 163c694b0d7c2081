"""Training: from feature shards and a label table to a checkpoint, with honest figures beside it.

1. Read     features, labels -> videos       N : N      pipelines/train_data.py
2. Clean    clips -> clips                   1 : 0..1   pipelines/cleaning.py
3. Split    videos -> train, val, test       1 : 1      pipelines/splits.py, leakage.py
4. Report   what there is to learn from      N : 1      pipelines/data_report.py
5. Fit      training clips -> preprocessor   N : 1      pipelines/fit_preprocessor.py (Ray)
6. Reduce   clip -> reduced clip             1 : 1      pipelines/reduced_clips.py (Ray Data)
7. Train    reduced clips -> weights         N : 1      pipelines/train_worker.py (Ray Train)
8. Judge    clip -> scores -> metrics        N : 1      pipelines/predictions.py, evaluate.py
9. Keep     checkpoint, card, report         1 : 1      pipelines/train_results.py
"""

import os
import time
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from actors.raw_clips import AUX_NAMES, SYNC_NAMES
from actors.row import COLUMNS
from model.config import Config
from model.evaluator_config import EvaluatorConfig
from model.loss_config import LossConfig, WeightingConfig
from model.metrics_config import EvaluationConfig
from model.preprocessor_config import PreprocessorConfig
from model.tasks import TASKS
from model.training_config import TrainingConfig
from pipelines import train_state
from pipelines.checkpoint import Checkpoint, load_checkpoint
from pipelines.cleaning import CleaningConfig
from pipelines.cluster import LOCAL_OBJECT_STORE, connected
from pipelines.config import ConfigError, differences
from pipelines.data_report import told
from pipelines.fit_preprocessor import fit_preprocessor
from pipelines.labels import LabelsConfig
from pipelines.lock import RunLock
from pipelines.reduced_clips import ReducedClips, reduce_clips
from pipelines.resources import Cluster, plan_training
from pipelines.splits import SplitsConfig, folds
from pipelines.storage import Store, strip_credentials
from pipelines.train_data import Candidates, TrainData, candidates, resolve_monitor, training_data
from pipelines.train_errors import TrainInputError
from pipelines.train_listener import Listener
from pipelines.train_progress import CountLine
from pipelines.train_record import TrainRecord
from pipelines.train_results import settle
from pipelines.train_worker import train_on_ray
from pipelines.training_run import TrainTask

PRESETS = Path(__file__).resolve().parents[1] / "configs" / "train"


class TrainRunConfig(Config):
    """How a run behaves."""

    workers: int | None = Field(
        None, ge=1, description="training processes, a GPU each where there are GPUs; default 1"
    )
    wait_lock: bool = Field(
        False, description="wait for another run on the same output instead of stopping"
    )


class TrainConfig(Config):
    """Everything that steers `jobs/train.py`."""

    preset: str = Field("optimized", description="name of the settings, for the model card")
    features: str = Field(min_length=1, description="output of an extraction, folder or URI")
    labels: LabelsConfig
    init: str | None = Field(
        None, description="checkpoint to begin with: its weights and its preprocessor are kept"
    )
    cleaning: CleaningConfig = CleaningConfig()
    splits: SplitsConfig = SplitsConfig()
    preprocessor: PreprocessorConfig = PreprocessorConfig()
    evaluator: EvaluatorConfig = EvaluatorConfig()
    loss: LossConfig = LossConfig()
    weighting: WeightingConfig = WeightingConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: TrainRunConfig = TrainRunConfig()


def preset_file(name: str) -> str:
    """Return the YAML file of a preset.

    Raises:
        ConfigError: There is no such preset.
    """
    known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"--preset {name}: there is no such preset; known: {', '.join(known)}")
    return str(PRESETS / f"{name}.yaml")


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
        start = _start(config, data)
        _check_streams(config, data)
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
            :func:`pipelines.train_folds.train_folds`.
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
    start = _start(config, data)
    if start is not None:
        config = config.model_copy(update={"preprocessor": start.preprocessor.config})
    _check_streams(config, data)
    monitor, sentence = resolve_monitor(data, config.training)
    if sentence:
        line.say(sentence)
    store = Store.at(out)
    run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(started))}-{os.urandom(3).hex()}"
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
            train_state.save_preprocessor(store, preprocessor)
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
            learned=_learned(data, start),
            started=started,
        )


def _start(config: TrainConfig, data: TrainData) -> Checkpoint | None:
    if config.init is None:
        return None
    start = load_checkpoint(config.init)
    start.check_features(data.index.fingerprint, data.index.uri)
    same = start.config.model_copy(
        update={name: getattr(config.evaluator, name) for name in _FREE_SETTINGS}
    )
    if same != config.evaluator:
        raise TrainInputError(
            f"init: {strip_credentials(config.init)} holds an evaluator of other settings than "
            f"this run's ({start.config.family}, width {start.config.width}, "
            f"{start.config.layers} layers, streams {', '.join(start.config.streams)}): use its preset"
        )
    fitted = start.preprocessor.config
    if config.preprocessor not in (fitted, PreprocessorConfig()):
        changes = differences(fitted.model_dump(), config.preprocessor.model_dump())
        raise TrainInputError(
            "init: the preprocessor of the checkpoint is kept, so its settings cannot be others "
            f"({'; '.join(changes)}): leave preprocessor.* out"
        )
    return start


def _learned(data: TrainData, start: Checkpoint | None) -> tuple[str, ...]:
    """Return the tasks that were learned here, or before in the checkpoint begun with."""
    before = () if start is None else start.details["learned_tasks"]
    return tuple(task for task in TASKS if task in data.learned or task in before)


# Settings that may differ between a checkpoint and what goes on from it: no weight depends on them.
_FREE_SETTINGS = ("dropout", "modality_dropout", "gradient_checkpointing")


def _check_streams(config: TrainConfig, data: TrainData) -> None:
    have = data.index.streams
    missing = [name for name in config.evaluator.streams if name not in have]
    if missing:
        raise TrainInputError(
            f"evaluator.streams asks for {', '.join(missing)}, which the features in "
            f"{data.index.uri} do not hold (they hold {', '.join(have)}): extract them, or leave "
            "them out with --set evaluator.streams=[…]"
        )
    unaligned = {"visual", "audio"} - set(config.evaluator.streams)
    if config.loss.alignment.weight and unaligned:
        raise TrainInputError(
            "loss.alignment compares sound and picture, but evaluator.streams lacks "
            f"{' and '.join(sorted(unaligned))}: --set loss.alignment.weight=0, or add them"
        )
    if config.evaluator.aux and not _aux_names(config, data):
        raise TrainInputError(
            f"evaluator.aux is on, but the features in {data.index.uri} hold neither sync nor "
            "descriptors: extract them, or --set evaluator.aux=false"
        )


def _aux_names(config: TrainConfig, data: TrainData) -> tuple[str, ...]:
    """Return the auxiliary values that the features hold, none when the evaluator reads none."""
    if not config.evaluator.aux:
        return ()
    have = data.index.columns
    return tuple(
        name for name in AUX_NAMES if ("sync" if name in SYNC_NAMES else "descriptors") in have
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
    stored = train_state.load_preprocessor(store)
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
        _aux_names(config, data),
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
    total = len(data.clips)
    reduced = reduce_clips(
        Store.at(features),
        shards,
        numbers,
        preprocessor,
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
    need = int(data.index.length[data.clips].sum()) * width * 4
    return min(LOCAL_OBJECT_STORE + int(1.2 * need), int(0.4 * psutil.virtual_memory().total))
