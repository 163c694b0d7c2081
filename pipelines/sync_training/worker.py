"""The training of SyncNet on Ray Train: what each worker does, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.resources import TrainPlan
from pipelines.storage import StorageError, Store
from pipelines.sync_training.data import StoredClips
from pipelines.sync_training.errors import SyncInputError
from pipelines.sync_training.loop import SyncRun, SyncTask, build_learner
from pipelines.training.on_ray import CannotGoOnError, TrainWorker, run_on_ray

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class SyncOutcome:
    """What the workers leave behind.

    Attributes:
        tensors: Of the file of weights, as arrays.
        reached: What they reach on the validation clips, whole and in pieces.
        history: Steps and validations.
        best: Step and value of the weights that were kept.
        seconds: What the time went into.
        device: Where it ran, and in which number format.
    """

    tensors: "dict[str, np.ndarray]"
    reached: dict[str, Any]
    history: dict[str, Any]
    best: dict[str, Any]
    seconds: dict[str, float]
    device: str


def train_on_ray(
    task: SyncTask,
    crops: Store,
    store: Store,
    plan: TrainPlan,
    *,
    cache_mib: int,
    heard: Callable[[str, Any], None],
) -> SyncOutcome:
    """Train on the cluster that this process is connected to.

    Args:
        task: What to train.
        crops: Where the crops lie.
        store: The output.
        plan: Where the workers go.
        cache_mib: Memory of each worker for clips.
        heard: Told what worker 0 says.

    Raises:
        RunError: Training cannot go on; what was saved stands.
    """
    given = {"crops": crops, "store": store, "cache_mib": cache_mib}
    return run_on_ray(_train, task, given, plan, heard)


def _train(
    worker: TrainWorker, task: SyncTask, *, crops: Store, store: Store, cache_mib: int
) -> tuple[SyncOutcome, dict[str, Any]]:
    from model.sync_learner import NotFiniteError

    clips = StoredClips(crops, task.index, cache_mib)
    learner = build_learner(task, worker.ranks, str(worker.device))
    run = SyncRun(task, clips, learner, store, worker.tell)
    try:
        run.run()
        tensors, reached = run.finish()
    except (NotFiniteError, SyncInputError, StorageError) as error:
        raise CannotGoOnError(str(error)) from error
    assert run.best is not None
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    place = worker.place(learner.precision)
    outcome = SyncOutcome(arrays, reached, run.history, run.best, run.seconds, place)
    return outcome, {"steps": learner.steps}
