"""The loop over steps, the same on every worker: excerpts, steps, validation, state, best weights.

It knows nothing of Ray: who the other workers are, where words go and where clips come from is
given to it. Which excerpts a step holds, and how they are changed, depends on the seed and the step
alone, not on how many workers share them.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.sync_training_config import NetworkConfig, SyncTrainingConfig, SyncValidationConfig
from pipelines import tensor_file
from pipelines.storage import Store
from pipelines.sync_training.data import Clips, CropIndex, SyncSplit, order
from pipelines.sync_training.errors import SyncInputError
from pipelines.sync_training.excerpts import excerpt
from pipelines.sync_training.judging import Judging
from pipelines.training.prefetch import prefetched
from pipelines.training.state import best_name, load_state, save_best, save_state

if TYPE_CHECKING:
    from torch import Tensor

    from model.ranks import Ranks
    from model.sync_learner import MicroBatch, SyncLearner
    from model.syncnet import SyncNet

TELL_SECONDS = 0.25
HISTORY_STEPS = 500  # about so many steps of a run are kept in its history


@dataclass(frozen=True)
class SyncTask:
    """What is trained, on what.

    Attributes:
        network: Which SyncNet.
        training: How.
        validation: What decides which weights are kept.
        index: All stored clips.
        split: Which of them serve what.
        groups: Row groups whose clips are mixed, see :func:`pipelines.sync_training.data.order`.
        start: Weights to begin with, as arrays; None: random ones.
    """

    network: NetworkConfig
    training: SyncTrainingConfig
    validation: SyncValidationConfig
    index: CropIndex
    split: SyncSplit
    groups: int
    start: dict[str, NDArray[Any]] | None = None


def build_net(task: SyncTask) -> "SyncNet":
    """Make the network with its first weights, the same everywhere; on the CPU."""
    import torch

    from model.syncnet import SyncNet

    network = task.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.training.seed)
        net = SyncNet(network.width, network.face, network.embedding)
    if task.start is not None:
        net.load_public_state({k: torch.from_numpy(v) for k, v in task.start.items()})
    return net


def build_learner(task: SyncTask, ranks: "Ranks", device: str) -> "SyncLearner":
    """Make the learner on its device."""
    from model.sync_learner import SyncLearner

    return SyncLearner(build_net(task).to(device), task.training, ranks)


class SyncRun:
    """Trains, validates, saves; see the module.

    Args:
        task: What is trained, on what.
        clips: Where they come from.
        learner: From :func:`build_learner`.
        store: The output; state goes below ``state/``.
        tell: Hears ``(kind, value)``: ``progress``, ``validation``, ``note``, ``resumed``. Only
            worker 0 speaks.
    """

    def __init__(
        self,
        task: SyncTask,
        clips: Clips,
        learner: "SyncLearner",
        store: Store,
        tell: Callable[[str, Any], None],
    ) -> None:
        self.task, self.clips, self.learner, self.store = task, clips, learner, store
        self.ranks = learner.ranks
        self._tell = tell if self.ranks.rank == 0 else lambda *_: None
        self.history: dict[str, list[Any]] = {"steps": [], "validations": []}
        self.losses: list[float] = []  # since the last validation
        self.best: dict[str, Any] | None = None
        self.stale = 0
        self.over = False
        self.seconds = {"steps": 0.0, "validation": 0.0, "state": 0.0}
        self._told = self._saved = time.monotonic()
        self._passes: dict[int, NDArray[np.int64]] = {}
        self._judging = Judging(task, clips, self.ranks, learner.device)

    # --- the loop

    def run(self) -> None:
        """Train to the end, from the newest state if there is one.

        Raises:
            NotFiniteError: Training went astray.
            SyncInputError: The state is damaged, or of another network.
        """
        stored = load_state(self.store)
        if stored is not None:
            self._restore(*stored)
        while not self.over:
            self._train()
            self._validate()

    def _train(self) -> None:
        """Take the steps up to the next validation."""
        training = self.task.training
        first = self.learner.steps
        until = min(
            training.steps, (first // training.validate_steps + 1) * training.validate_steps
        )
        for videos, micros, offset in prefetched(self._plan(first, until)):
            started = time.monotonic()
            done = self.learner.step(micros, videos, offset)
            self.losses.append(done.loss)
            self._note(asdict(done))
            self.seconds["steps"] += time.monotonic() - started
            due = time.monotonic() - self._saved > training.state_seconds
            if due and self.learner.steps < until:
                self._save()

    def _plan(self, first: int, until: int) -> "Iterator[tuple[Tensor, list[MicroBatch], int]]":
        """Yield for each step the videos of all its excerpts, this worker's part, its offset."""
        import torch

        training = self.task.training
        micros = np.arange(training.clips).reshape(-1, training.micro_clips)
        own = np.array_split(micros, self.ranks.size)[self.ranks.rank]
        for step in range(first, until):
            clips = self._clips_of(step)
            parts = [
                [self._excerpt(step, int(place), int(clips[place])) for place in micro]
                for micro in own
            ]
            stacked = [
                (torch.stack([p for p, _ in part]), torch.stack([s for _, s in part]))
                for part in parts
            ]
            offset = int(own[0, 0]) if len(own) else 0
            yield torch.from_numpy(self.task.index.video[clips]), stacked, offset

    def _excerpt(self, step: int, place: int, clip: int) -> "tuple[Tensor, Tensor]":
        training = self.task.training
        rng = np.random.default_rng([training.seed, step, place, 0x5C])
        return excerpt(self.clips.read(clip), training.windows, rng, training.augmentation)

    def _clips_of(self, step: int) -> NDArray[np.int64]:
        """Return the clips of a step: the next of an endless row of passes over all of them."""
        size, total = self.task.training.clips, len(self.task.split.train)
        return np.array(
            [self._pass(at // total)[at % total] for at in range(step * size, (step + 1) * size)]
        )

    def _pass(self, number: int) -> NDArray[np.int64]:
        if number not in self._passes:
            while len(self._passes) > 2:
                del self._passes[min(self._passes)]
            task = self.task
            self._passes[number] = order(
                task.split.train,
                task.index,
                groups=task.groups,
                seed=task.training.seed,
                passed=number,
            )
        return self._passes[number]

    def _note(self, done: dict[str, Any]) -> None:
        step, total = self.learner.steps, self.task.training.steps
        if step == 1 or step % max(1, total // HISTORY_STEPS) == 0:
            self.history["steps"].append({"step": step, **done})
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS or step == total:
            self._told = now
            self._tell("progress", (step, done["loss"], done["least"]))

    # --- validation

    def _validate(self) -> None:
        started = time.monotonic()
        step, training = self.learner.steps, self.task.training
        whole, pieces = self._judging.judge(self.learner.net)
        value = (whole.share + pieces.share) / 2
        record = {
            "step": step,
            "loss": float(np.mean(self.losses)) if self.losses else None,
            "whole": asdict(whole),
            "pieces": asdict(pieces),
            "value": value,
            "sharpness": pieces.sharpness,
        }
        before = (-1.0, -math.inf) if self.best is None else tuple(self.best["rank"])
        # Shares soon reach 1: among equals the weights that tell true from wrong most clearly.
        rank = (round(value, 6), pieces.sharpness)
        record["best"] = better = rank > before
        if better:
            name = best_name(step)
            self.best = {"step": step, "value": value, "rank": list(rank), "weights": name}
            if self.ranks.rank == 0:
                save_best(self.store, step, self.learner.net.state_dict())
        settled = step >= training.curriculum.share * training.steps
        self.stale = 0 if better or not settled else self.stale + 1
        stopped = training.patience is not None and self.stale >= training.patience
        self.over = step >= training.steps or stopped
        if stopped and step < training.steps:
            self._tell("note", f"stopped early: no better validation in {self.stale}")
        self.losses = []
        self.history["validations"].append(record)
        self.seconds["validation"] += time.monotonic() - started
        self._tell("validation", record)
        self._save()

    # --- the end

    def finish(self) -> "tuple[dict[str, Tensor], dict[str, Any]]":
        """Place the best weights in their space and judge them as they will be stored.

        Returns:
            The tensors of the file, and what they reach.
        """
        import torch

        from model.syncnet import SyncNet

        assert self.best is not None  # run() ends with one
        self.ranks.add_up(torch.zeros(1, device=self.learner.device))  # worker 0 has written them
        network = self.task.network
        net = SyncNet(network.width, network.face, network.embedding)
        net.load_public_state(tensor_file.read(self.store, self.best["weights"])[0])
        return self._judging.place(net.to(self.learner.device).eval())

    # --- state

    def _save(self) -> None:
        if self.ranks.rank:
            return
        started = time.monotonic()
        values = {
            "step": self.learner.steps,
            "history": self.history,
            "losses": self.losses,
            "best": self.best,
            "best_weights": None if self.best is None else self.best["weights"],
            "stale": self.stale,
            "over": self.over,
            "seconds": self.seconds,
        }
        save_state(self.store, self.learner.steps, self.learner.state(), values)
        self._saved = time.monotonic()
        self.seconds["state"] += self._saved - started

    def _restore(self, tensors: "dict[str, Tensor]", values: dict[str, Any]) -> None:
        try:
            self.learner.restore(tensors, values["step"])
        except (ValueError, KeyError) as error:
            raise SyncInputError(
                f"{self.store.display('state/')} cannot be gone on from ({error}): choose another "
                "--out"
            ) from None
        self.history, self.losses = values["history"], values["losses"]
        self.best, self.stale, self.over = values["best"], values["stale"], values["over"]
        self.seconds = values["seconds"]
        self._tell("resumed", self.learner.steps)
