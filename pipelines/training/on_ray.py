"""Workers that train together on Ray Train: what the training of any network shares.

A kind of training gives a function that every worker runs, and gets what worker 0 hands over.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import ray

from pipelines.messages import RunError
from pipelines.resources import TrainPlan
from pipelines.training.board import Board, board

if TYPE_CHECKING:
    import torch

    from model.ranks import Ranks

T = TypeVar("T")

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


class CannotGoOnError(Exception):
    """The same on every worker, and again after a restart: said once, not tried again."""


@dataclass(frozen=True)
class TrainWorker:
    """One of the processes that train together, as it sees itself.

    Attributes:
        ranks: Which of how many it is, and how they add tensors up.
        device: Where it computes.
        tell: Sends ``(kind, value)`` to the driver, without waiting.
    """

    ranks: "Ranks"
    device: "torch.device"
    tell: Callable[[str, Any], None]

    def place(self, precision: str) -> str:
        """Say where all workers compute, and in which number format: ``2 x CPU, fp32``."""
        import torch

        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{self.ranks.size} x {where}, {precision}"


def run_on_ray(
    work: Callable[..., tuple[T, dict[str, Any]]],
    task: Any,
    given: dict[str, Any],
    plan: TrainPlan,
    heard: Callable[[str, Any], None],
) -> T:
    """Train on the cluster that this process is connected to.

    Args:
        work: Run by every worker, as ``work(worker, task, **given)`` with its
            :class:`TrainWorker`: a function of a module, for it travels by name. It returns what
            comes of the training, and figures for the notes of Ray Train. It raises
            :class:`CannotGoOnError` where another try would end in the same way.
        task: What to train; put into the object store once.
        given: What else ``work`` needs; a copy travels to each worker.
        plan: Where the workers go.
        heard: Told what worker 0 says.

    Returns:
        What comes of the training on worker 0.

    Raises:
        RunError: Training cannot go on; what was saved stands.
    """
    from ray.train.torch import TorchTrainer

    outcome: list[T] = []
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
        config = {
            "work": work,
            "task": [ray.put(task)],
            "given": given,
            "words": words,
            "threads": plan.threads,
        }
        trainer = TorchTrainer(_on_worker, train_loop_config=config, **arguments(plan, folder))
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
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _on_worker(config: dict[str, Any]) -> None:
    """What each worker runs."""
    import ray.train
    import ray.train.torch
    import torch
    import torch.distributed as dist

    from model.ranks import Ranks

    torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()

    def add_up(tensor: Any) -> None:
        if size > 1:
            dist.all_reduce(tensor)

    task = ray.get(config["task"][0])
    words: Board = config["words"]
    worker = TrainWorker(Ranks(rank, size, add_up), ray.train.torch.get_device(), words.tell)
    try:
        outcome, figures = config["work"](worker, task, **config["given"])
    except CannotGoOnError as error:
        if rank == 0:
            words.hand_over("problem", str(error))
        return
    if rank == 0:
        words.hand_over("outcome", outcome)
    ray.train.report(figures)
