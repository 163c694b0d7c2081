"""The training run on Ray Train: one process a GPU, or several on CPUs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from pipelines.messages import RunError
from pipelines.resources import TrainPlan
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.board import Board, board
from pipelines.training.loop import TooManyNotFiniteError, TrainingRun
from pipelines.training.reduced_clips import ReducedClips
from pipelines.training.task import TrainTask, build_learner
from pipelines.training.verdict import Verdict

COLLECTIVE_SECONDS = 900  # a rank that waits longer for another one gives up
# A step on a CPU frees and takes blocks of hundreds of MiB. In a thread that is not the main one,
# which is where Ray Train runs, glibc gives each of them back to the system, and the next step
# pays for the page faults: a seventh of its time. So: one arena, and what is free stays.
CPU_MEMORY = {
    "GLIBC_TUNABLES": ":".join(
        (
            "glibc.malloc.arena_max=1",
            f"glibc.malloc.mmap_threshold={2**30}",
            f"glibc.malloc.trim_threshold={2**32}",
            "glibc.malloc.hugetlb=1",
        )
    )
}
WORKER_FAILURES = 3  # workers that die are replaced so often; the run goes on from its state


@dataclass(frozen=True)
class TrainOutcome:
    """What the ranks leave behind.

    Attributes:
        verdict: What the best epoch's weights say of every clip.
        history: Epochs, steps, incidents (clips by number).
        best: Epoch, step, monitor value and name of the weights.
        seconds: What the time went into: data, steps, validation, state.
        device: Where it ran, and in which number format.
    """

    verdict: Verdict
    history: dict[str, Any]
    best: dict[str, Any]
    seconds: dict[str, float]
    device: str


def train_on_ray(
    task: TrainTask,
    clips: ReducedClips,
    store: Store,
    plan: TrainPlan,
    heard: Callable[[str, Any], None],
) -> TrainOutcome:
    """Train on the cluster that this process is connected to.

    Args:
        task: What to train.
        clips: In the object store.
        store: The output.
        plan: Where the workers go.
        heard: Told what rank 0 says.

    Raises:
        RunError: Training cannot go on; what was saved stands.
    """
    import tempfile

    from ray.train.torch import TorchTrainer

    outcome: list[TrainOutcome] = []
    problems: list[str] = []

    def sort(kind: str, value: Any) -> None:
        if kind == "outcome":
            outcome.append(value)
        elif kind == "problem":
            problems.append(value)
        else:
            heard(kind, value)

    # Whatever still writes there when the run is interrupted ends with the connection to Ray.
    notes = tempfile.TemporaryDirectory(prefix="talkmos-train-", ignore_cleanup_errors=True)
    with notes as folder, board() as words:
        config = {"task": [ray.put(task)], "clips": clips, "store": store, "words": words}
        config["threads"] = plan.threads
        trainer = TorchTrainer(train_loop, train_loop_config=config, **arguments(plan, folder))
        try:
            words.watch(trainer.fit, sort)
        except ray.train.TrainingFailedError as error:
            if problems:
                raise RunError(problems[0]) from error
            raise RunError(f"a training worker failed: {_root(error)}") from error
    if problems:
        raise RunError(problems[0])
    if not outcome:
        raise RunError("training ended without a result: this is a defect of TalkMOS")
    return outcome[-1]


def arguments(plan: TrainPlan, folder: str) -> dict[str, Any]:
    """Return what Ray Train is given beside the loop: workers, their resources, failures."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    return {
        "scaling_config": ScalingConfig(
            num_workers=plan.workers, use_gpu=plan.use_gpu, resources_per_worker=plan.resources
        ),
        "torch_config": TorchConfig(
            backend="nccl" if plan.use_gpu else "gloo", timeout_s=COLLECTIVE_SECONDS
        ),
        "run_config": RunConfig(
            name="talkmos",
            # Checkpoints go through the project's own storage; Ray Train keeps its notes here.
            storage_path=folder,
            failure_config=FailureConfig(max_failures=WORKER_FAILURES),
            worker_runtime_env={"env_vars": {} if plan.use_gpu else CPU_MEMORY},
        ),
    }


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def train_loop(config: dict[str, Any]) -> None:
    """What each worker runs."""
    import ray.train
    import ray.train.torch
    import torch
    import torch.distributed as dist

    from model.learner import Ranks

    torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()

    def add_up(tensor: Any) -> None:
        if size > 1:
            dist.all_reduce(tensor)

    task: TrainTask = ray.get(config["task"][0])
    words: Board = config["words"]
    device = ray.train.torch.get_device()
    learner = build_learner(task, Ranks(rank, size, add_up), str(device))
    run = TrainingRun(task, config["clips"], learner, config["store"], words.tell)
    try:
        run.run()
        verdict = run.judge_all()
    except (TooManyNotFiniteError, TrainInputError) as error:
        # The same on every rank, and again after a restart: said once, not tried again.
        if rank == 0:
            words.hand_over("problem", str(error))
        return
    if rank == 0:
        assert run.best is not None
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        told = f"{size} x {where}, {learner.precision}"
        outcome = TrainOutcome(verdict, run.history, run.best, run.seconds, told)
        words.hand_over("outcome", outcome)
    ray.train.report({"epochs": run.epoch})
