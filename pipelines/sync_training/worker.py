"""The training of SyncNet on Ray Train: one process a GPU, or several on CPUs."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from pipelines.messages import RunError
from pipelines.resources import TrainPlan
from pipelines.storage import StorageError, Store
from pipelines.sync_training.data import StoredClips
from pipelines.sync_training.errors import SyncInputError
from pipelines.sync_training.loop import SyncRun, SyncTask, build_learner
from pipelines.training.board import Board, board
from pipelines.training.worker import arguments

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
    from ray.train.torch import TorchTrainer

    outcome: list[SyncOutcome] = []
    problems: list[str] = []

    def sort(kind: str, value: Any) -> None:
        if kind == "outcome":
            outcome.append(value)
        elif kind == "problem":
            problems.append(value)
        else:
            heard(kind, value)

    # Whatever still writes there when the run is interrupted ends with the connection to Ray.
    notes = tempfile.TemporaryDirectory(prefix="talkmos-sync-", ignore_cleanup_errors=True)
    with notes as folder, board() as words:
        config = {
            "task": [ray.put(task)],
            "crops": crops,
            "store": store,
            "words": words,
            "threads": plan.threads,
            "cache_mib": cache_mib,
        }
        trainer = TorchTrainer(train_loop, train_loop_config=config, **arguments(plan, folder))
        try:
            words.watch(trainer.fit, sort)
        except ray.train.TrainingFailedError as error:
            if not problems:
                problems.append(f"a training worker failed: {_root(error)}")
    if problems:
        raise RunError(problems[0])
    if not outcome:
        raise RunError("training ended without a result: this is a defect of TalkMOS")
    return outcome[-1]


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def train_loop(config: dict[str, Any]) -> None:
    """What each worker runs."""
    import ray.train
    import ray.train.torch
    import torch
    import torch.distributed as dist

    from model.learner import Ranks
    from model.sync_learner import NotFiniteError

    torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()

    def add_up(tensor: Any) -> None:
        if size > 1:
            dist.all_reduce(tensor)

    task: SyncTask = ray.get(config["task"][0])
    words: Board = config["words"]
    device = ray.train.torch.get_device()
    clips = StoredClips(config["crops"], task.index, config["cache_mib"])
    learner = build_learner(task, Ranks(rank, size, add_up), str(device))
    run = SyncRun(task, clips, learner, config["store"], words.tell)
    try:
        run.run()
        tensors, reached = run.finish()
    except (NotFiniteError, SyncInputError, StorageError) as error:
        # The same on every worker, and again after a restart: said once, not tried again.
        if rank == 0:
            words.hand_over("problem", str(error))
        return
    if rank == 0:
        assert run.best is not None
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        told = f"{size} x {where}, {learner.precision}"
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        outcome = SyncOutcome(arrays, reached, run.history, run.best, run.seconds, told)
        words.hand_over("outcome", outcome)
    ray.train.report({"steps": learner.steps})
