"""The training run on Ray Train: what each worker does, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.resources import TrainPlan
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.loop import TooManyNotFiniteError, TrainingRun
from pipelines.training.on_ray import CannotGoOnError, TrainWorker, run_on_ray
from pipelines.training.reduced_clips import ReducedClips
from pipelines.training.task import TrainTask, build_learner
from pipelines.training.verdict import Verdict


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
    return run_on_ray(_train, task, {"clips": clips, "store": store}, plan, heard)


def _train(
    worker: TrainWorker, task: TrainTask, *, clips: ReducedClips, store: Store
) -> tuple[TrainOutcome, dict[str, Any]]:
    learner = build_learner(task, worker.ranks, str(worker.device))
    run = TrainingRun(task, clips, learner, store, worker.tell)
    try:
        run.run()
        verdict = run.judge_all()
    except (TooManyNotFiniteError, TrainInputError) as error:
        raise CannotGoOnError(str(error)) from error
    assert run.best is not None
    place = worker.place(learner.precision)
    return TrainOutcome(verdict, run.history, run.best, run.seconds, place), {"epochs": run.epoch}
