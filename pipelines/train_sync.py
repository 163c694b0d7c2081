"""Training SyncNet: from raw talking-face video, without labels, to weights for --sync-weights.

1. List     corpus -> videos                1 : N      pipelines/corpus.py
2. Crop     video  -> face crops, sound     1 : N      pipelines/sync_training/crops.py on the
                                                       worker pool of extraction, resumable
3. Split    clips  -> learn from, validate  1 : 0..1   pipelines/sync_training/data.py
4. Train    excerpts -> weights             N : 1      pipelines/sync_training/loop.py, worker.py
                                                       (Ray Train)
5. Place    weights -> weights              1 : 1      scale and zero of the space, rounding
6. Keep     weights, card, history          1 : 1      pipelines/sync_training/result.py
"""

import json
import time
from typing import TYPE_CHECKING, Any

from actors.weights import WeightsError
from pipelines.cluster import connected
from pipelines.config import differences, digest
from pipelines.failures import FailureTable
from pipelines.keeper import Keeper
from pipelines.ledger import Ledger
from pipelines.lock import LockGuard, RunLock, new_run_id
from pipelines.messages import RunContext
from pipelines.pool import WorkerPool
from pipelines.pool_run import run_pool
from pipelines.progress import LiveLine, ProgressLine
from pipelines.resources import Cluster, plan, plan_training
from pipelines.shards import clean_leftovers
from pipelines.storage import Store
from pipelines.summary import describe
from pipelines.sync_training import crops as cropping
from pipelines.sync_training.config import SyncTrainConfig
from pipelines.sync_training.data import CropIndex, read_index, split
from pipelines.sync_training.errors import SyncInputError
from pipelines.sync_training.loop import SyncTask
from pipelines.sync_training.progress import SyncLine
from pipelines.sync_training.result import SUMMARY, keep
from pipelines.sync_training.worker import train_on_ray
from pipelines.todo import Todo, listed
from pipelines.training import state
from pipelines.training.record import finished_run, stored_run
from pipelines.uris import strip_text
from pipelines.version import CODE_VERSION

if TYPE_CHECKING:
    import numpy as np

KIND = "sync training"
RECORD = "run.json"
LEAST_BESIDE = 16  # windows that a validation clip has beside the largest offset


def train_sync(
    config: SyncTrainConfig,
    out: str,
    *,
    address: str | None = None,
    local_cpus: int | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Run the chain; returns the summary that is also stored as ``summary.json``.

    Args:
        config: Validated settings.
        out: Folder or URI of the output.
        address: Ray cluster; default $RAY_ADDRESS, else a local one.
        local_cpus: CPUs of a local cluster.
        command: What was typed, for the card; credentials are stripped.

    Raises:
        SyncInputError, CorpusError: What was given cannot be learned from.
        RunError: The run cannot go on; what was committed or saved stands.
        StorageError, LockHeld, ResourceError: With messages for the user.
    """
    started = time.time()
    run_id = new_run_id(started)
    store, line = Store.at(out), LiveLine()
    start, start_digest = first_weights(config)
    record = _Record(store, config, start_digest)
    with RunLock(store, run_id, wait=config.run.wait_lock):
        done = record.finished()
        place = Store.at(config.crops) if config.crops else store
        todo = None if config.crops else _todo(config, store, run_id, line)  # 1
        corpus = None if todo is None else todo.corpus.versions().digest()
        index = read_index(place) if config.crops else None
        if done is not None:
            record.same_data(corpus, index)
            line.say(f"{store.display('')} holds this very run, finished: nothing to do")
            return done
        record.begin()
        with connected(address, local_cpus=local_cpus) as cluster:
            if todo is not None:
                _crop(config, store, run_id, cluster, todo)  # 2
            index = index or read_index(place)
            record.data(index, corpus)
            task = _task(config, index, start)  # 3
            for text in task.split.told:
                line.say(text)
            layout = plan_training(cluster, config.workers)
            line.say(f"starting {layout.workers} training workers, {layout.resources} each")
            told = SyncLine(config.training.steps)
            outcome = train_on_ray(  # 4, 5
                task, place, store, layout, cache_mib=config.data.cache_mib, heard=told.heard
            )
            told.end()
        LockGuard(store.raw_uri, run_id)()
        summary = keep(  # 6
            config,
            settings_of(config),
            task,
            outcome,
            store,
            left_out=_left_out(store),
            command=strip_text(command),
            started=started,
        )
        state.clear(store)
    return summary


def first_weights(config: SyncTrainConfig) -> "tuple[dict[str, np.ndarray] | None, str | None]":
    """Load the weights to begin with, and their digest.

    Raises:
        SyncInputError: They cannot be had, or are of another network than the settings say.
    """
    from actors.sync_weights import load_syncnet

    if config.init is None:
        return None, None
    try:
        net, loaded = load_syncnet(config.init)
    except WeightsError as error:
        raise SyncInputError(f"--init: {error}") from None
    wanted = config.network
    found = {"width": float(net.width), "face": net.face, "embedding": net.embedding}
    asked = {name: getattr(wanted, name) for name in found}
    if found != asked:
        lines = "; ".join(f"network.{name}={found[name]:g}" for name in found)
        raise SyncInputError(
            f"--init: {loaded.source} is another network than the settings say (settings -> "
            f"weights): {'; '.join(differences(asked, found))}. To go on with it: {lines}"
        )
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}, loaded.digest


def settings_of(config: SyncTrainConfig) -> dict[str, Any]:
    """Return the settings that change results; places are left out, what they hold has digests."""
    tree = json.loads(config.model_dump_json())
    kept = {
        name: tree[name] for name in ("demonstration", "network", "split", "training", "validation")
    }
    kept["training"].pop("state_seconds")
    kept["data"] = {"shuffle_groups": tree["data"]["shuffle_groups"]}
    if config.crops is None:
        kept["crops"] = crop_settings(config)
    return kept


def crop_settings(config: SyncTrainConfig) -> dict[str, Any]:
    """Return what decides the crops of a video."""
    from actors.decode import VERSION as DECODE_VERSION
    from actors.faces import VERSION as FACES_VERSION

    values = json.loads(json.dumps(config.features().value_settings()))
    return {
        "face": config.network.face,
        "decode": values["decode"],
        "faces": values["faces"],
        "versions": {
            "crops": cropping.VERSION,
            "decode": DECODE_VERSION,
            "faces": FACES_VERSION,
        },
    }


class _Record:
    """Which run the output holds: ``run.json``, and whether it is finished.

    Raises:
        SyncInputError: The output belongs to other settings, or to something else.
    """

    def __init__(self, store: Store, config: SyncTrainConfig, init: str | None) -> None:
        self._store = store
        self._identity = {"settings": settings_of(config), "init": init}
        what = "a training of SyncNet"
        self._stored, changes = stored_run(store, KIND, self._identity, what, SyncInputError)
        if changes:
            raise SyncInputError(
                f"{store.display('')} holds another training of SyncNet (old -> new):\n{changes}\n"
                "Choose another --out (with --crops its crops are used again), or the old settings "
                "to go on with that run"
            )

    def finished(self) -> dict[str, Any] | None:
        """Return the summary when this run was finished before."""
        return finished_run(self._store, SUMMARY, SyncInputError)

    def same_data(self, corpus: str | None, index: CropIndex | None) -> None:
        """Hold what is given now against what a finished run learned from.

        Args:
            corpus: Digest of the corpus.
            index: Crops of another output, instead of a corpus.

        Raises:
            SyncInputError: They are others.
        """
        stored = self._stored or {}
        other = ""
        if index is not None and index.digest != stored.get("data"):
            other = "other crops than those given"
        elif index is None and stored.get("corpus", corpus) != corpus:
            other = "another corpus than the one given, or on other versions of its videos"
        if other:
            raise SyncInputError(
                f"{self._store.display('')} holds a finished training on {other}: choose another "
                "--out (with --crops its crops are used again)"
            )

    def begin(self) -> None:
        """Write which run this is."""
        if self._stored is None:
            self._write({})

    def data(self, index: CropIndex, corpus: str | None) -> None:
        """Write down on what is trained, or hold it against what was begun.

        Args:
            index: The crops.
            corpus: Digest of the corpus that they were made of, None for crops made before.

        Raises:
            SyncInputError: Training began on other videos.
        """
        before = (self._stored or {}).get("data")
        if before not in (None, index.digest) and state.load_state(self._store) is not None:
            raise SyncInputError(
                f"{self._store.display('')}: training began on other videos than there are crops "
                "of now. Choose another --out (with --crops these crops are used again)"
            )
        self._write({"data": index.digest, "corpus": corpus})

    def _write(self, more: dict[str, Any]) -> None:
        self._stored = {
            "kind": KIND,
            "identity": self._identity,
            "code_version": CODE_VERSION,
            **more,
        }
        self._store.write_bytes(RECORD, json.dumps(self._stored, indent=1).encode())


def _todo(config: SyncTrainConfig, store: Store, run_id: str, line: LiveLine) -> Todo:
    """List the corpus, and hold it against the crops that there are."""
    corpus, warnings = listed(config.corpus)
    clean_leftovers(store, cropping.FOLDER)
    ledger, failures = Ledger.load(store, cropping.FOLDER), FailureTable.load(store, run_id)
    todo = Todo(corpus, ledger, failures, config.run.retry_failed, config.run.limit)
    for text in warnings:
        line.say(text)
    return todo


def _crop(config: SyncTrainConfig, store: Store, run_id: str, cluster: Cluster, todo: Todo) -> None:
    """Make the crops that are missing, on the worker pool."""
    run, counts = config.run, todo.count()
    guard = LockGuard(store.raw_uri, run_id)
    keeper = Keeper(store, todo.ledger, todo.failures, ProgressLine(counts.todo), guard)
    keeper.line.say(str(counts))
    if counts.todo:
        layout = plan(cluster, config.resources)
        keeper.line.say(describe(layout))
        make = cropping.CropFactory(config.features(), config.network.face)
        pool = WorkerPool(layout, make, run.limits, keeper)
        context = RunContext(
            run_id,
            store.raw_uri,
            digest(crop_settings(config)),
            CODE_VERSION,
            run.shard_clips,
            run.flush_seconds,
            folder=cropping.FOLDER,
        )
        run_pool(run, pool, keeper, todo, lambda _: context)
    keeper.settle(todo.corpus)


def _task(
    config: SyncTrainConfig, index: CropIndex, start: "dict[str, np.ndarray] | None"
) -> SyncTask:
    if index.face != config.network.face:
        raise SyncInputError(
            f"the stored crops have {index.face} pixels, and the network reads "
            f"{config.network.face}: choose network.face={index.face}, or make crops anew"
        )
    sides = split(
        index,
        config.split,
        windows=config.training.windows,
        val_windows=config.validation.offset + LEAST_BESIDE,
    )
    return SyncTask(
        network=config.network,
        training=config.training,
        validation=config.validation,
        index=index,
        split=sides,
        groups=config.data.shuffle_groups,
        start=start,
    )


def _left_out(store: Store) -> dict[str, int]:
    """Count the videos without usable clips by reason."""
    counts: dict[str, int] = {}
    for row in FailureTable.load(store).rows():
        counts[row["error_class"]] = counts.get(row["error_class"], 0) + 1
    return dict(sorted(counts.items()))
