"""The loop over epochs, the same on every rank: steps, validation, state, best weights.

It knows nothing of Ray: who the other ranks are, where words go and where clips come from is given
to it. Which clips a step holds depends on the seed, the epoch and the number of clips in a step,
not on how many ranks share them.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.tasks import TASKS
from pipelines import tensor_file
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.training.judging import judged, monitored, number
from pipelines.training.order import epoch_order
from pipelines.training.prefetch import prefetched
from pipelines.training.state import best_name, load_state, save_best, save_state
from pipelines.training.task import Clips, TrainTask
from pipelines.training.verdict import EmbeddingWatch, Verdict, together

if TYPE_CHECKING:
    from torch import Tensor

    from model.learner import Learner, MicroBatch, StepResult

HISTORY_STEPS = 1000  # about so many steps of a run are kept in its history
TELL_SECONDS = 0.25


class TooManyNotFiniteError(Exception):
    """Training cannot go on: losses are NaN or infinite again and again."""


class TrainingRun:
    """Trains, validates, saves; see the module.

    Args:
        task: What to train, on what.
        clips: Where reduced clips come from.
        learner: From :func:`build_learner`.
        store: The output; state goes below ``state/``.
        tell: Hears ``(kind, value)``: ``progress``, ``step``, ``epoch``, ``incident``, ``note``.
            Only rank 0 speaks.
    """

    def __init__(
        self,
        task: TrainTask,
        clips: Clips,
        learner: "Learner",
        store: Store,
        tell: Callable[[str, Any], None],
    ) -> None:
        self.task, self.clips, self.learner, self.store = task, clips, learner, store
        self.ranks = learner.ranks
        self._tell = tell if self.ranks.rank == 0 else lambda *_: None
        self.per_epoch = task.steps_per_epoch(self.ranks.size)
        self.group = task.clips_per_step(self.ranks.size)
        self.epoch = 0
        self.position = 0  # steps of this epoch that are done
        self.history: dict[str, list[Any]] = {"epochs": [], "steps": [], "incidents": []}
        self.sums: dict[str, list[float]] = {}  # name -> [sum, count] over this epoch
        self.best: dict[str, Any] | None = None  # epoch, step, value, weights
        self.stale = 0
        self.over = False
        self.seconds = {"data": 0.0, "steps": 0.0, "validation": 0.0, "state": 0.0}
        self._told = self._saved = time.monotonic()

    # --- the loop

    def run(self) -> None:
        """Train to the end, from the newest state if there is one.

        Raises:
            TooManyNotFiniteError: See ``training.max_not_finite``.
            TrainInputError: The state is damaged, or of another number of workers.
        """
        stored = load_state(self.store)
        if stored is not None:
            self._restore(*stored)
        while not self.over:
            self._train_epoch()
            self._end_epoch()

    def _train_epoch(self) -> None:
        waited = time.monotonic()
        for groups, micros, offset in prefetched(self._plan()):
            now = time.monotonic()
            self.seconds["data"] += now - waited
            result = self.learner.step(micros, offset=offset, size=len(groups))
            self.position += 1
            self._note_step(result, groups)
            waited = time.monotonic()
            self.seconds["steps"] += waited - now
            self._progress(result)
            every = self.learner.steps % self.task.training.state_steps == 0
            if every or self._state_is_due(waited):
                self._save()
                waited = time.monotonic()

    def _plan(self) -> Iterator[tuple[NDArray[np.int64], "list[MicroBatch]", int]]:
        """Yield for each step left of the epoch all its clips, this rank's part, its offset."""
        training, labels = self.task.training, self.task.labels
        order = epoch_order(labels, training, self.epoch)
        rank, size = self.ranks.rank, self.ranks.size
        for step in range(self.position, self.per_epoch):
            parts = order.shared(step * self.group, self.group, size, training.batch_size)
            group = np.concatenate([micro for part in parts for micro in part])
            offset = sum(len(micro) for part in parts[:rank] for micro in part)
            yield group, [(self.clips.read(m), labels.targets(m)) for m in parts[rank]], offset

    def _state_is_due(self, now: float) -> bool:
        # Only rank 0 writes, and writing depends on nothing of the other ranks.
        return self.ranks.rank == 0 and now - self._saved > self.task.training.state_seconds

    def judge_all(self) -> Verdict:
        """Judge every clip with the weights of the best epoch.

        Clips beyond the labelled ones are validation clips whose sound is masked.

        Raises:
            TooManyNotFiniteError: Training went astray: these weights give no scores.
        """
        import torch

        assert self.best is not None  # run() ends with one
        self.ranks.add_up(torch.zeros(1, device=self.learner.device))  # rank 0 has written them
        self.learner.adopt(tensor_file.read(self.store, self.best["weights"])[0])
        labels, total = self.task.labels, len(self.clips)
        watch = EmbeddingWatch(labels, total, self._centre(), self.learner)
        scores = self.predict(np.arange(total), watch.hear)
        lost = int((~np.isfinite(scores)).any(axis=1).sum())
        if lost:
            raise TooManyNotFiniteError(
                f"the weights of the best epoch ({self.best['epoch'] + 1}) give scores that are "
                f"NaN or infinite for {lost} of {len(scores)} clips: training went astray. Try "
                "lower learning rates, into another --out"
            )
        return watch.verdict(scores)

    def _centre(self) -> NDArray[np.float64]:
        """Return a place [D] among the embeddings, the same on all ranks."""
        some = self.task.labels.of("train")[: self.task.training.batch_size]
        embedding = self.learner.predict(self.clips.read(some)).embedding
        mean = np.nan_to_num(embedding.double().mean(dim=0).cpu().numpy(), posinf=0.0, neginf=0.0)
        return together(self.learner, mean if self.ranks.rank == 0 else np.zeros_like(mean))

    # --- what a step leaves behind

    def _note_step(self, result: "StepResult", group: NDArray[np.int64]) -> None:
        step = self.learner.steps
        losses = dict(zip(TASKS, result.losses.tolist(), strict=True))
        if result.taken:
            for name, value in {**losses, **result.coupled, "total": result.total}.items():
                if not math.isnan(value):
                    entry = self.sums.setdefault(name, [0.0, 0.0])
                    entry[0] += value
                    entry[1] += 1
        if result.overflow:
            self.sums.setdefault("overflows", [0.0, 0.0])[0] += 1
        every = max(1, self.learner.total_steps // HISTORY_STEPS)
        if step % every == 0 or step == 1:
            record = {
                "step": step,
                "epoch": self.epoch,
                "total": number(result.total),
                **{name: number(value) for name, value in losses.items()},
                **{name: number(value) for name, value in result.coupled.items()},
                "weights": self._weights(),
                "lr": result.learning_rates,
                "grad_norm": number(result.grad_norm),
            }
            self.history["steps"].append(record)
            self._tell("step", record)
        if result.culprits or result.explosion:
            self._incident(result, group)

    def _incident(self, result: "StepResult", group: NDArray[np.int64]) -> None:
        positions = list(result.culprits) or list(range(len(group)))
        record = {
            "step": self.learner.steps,
            "epoch": self.epoch,
            "kind": "not_finite" if result.culprits else "explosion",
            "value": str(result.total) if result.culprits else result.grad_norm,
            "clips": [int(group[i]) for i in positions],
        }
        self.history["incidents"].append(record)
        self._tell("incident", record)
        if result.culprits and self.learner.not_finite > self.task.training.max_not_finite:
            raise TooManyNotFiniteError(
                f"the loss was NaN or infinite in {self.learner.not_finite} steps, more than "
                f"training.max_not_finite = {self.task.training.max_not_finite}"
            )

    def _weights(self) -> dict[str, float]:
        return dict(zip(TASKS, self.learner.weighting.weights().tolist(), strict=True))

    def _progress(self, result: "StepResult") -> None:
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        self._tell("progress", (self.epoch, self.learner.steps, result.total))

    # --- validation

    def predict(
        self,
        clips: NDArray[np.int64],
        hear: Callable[[NDArray[np.int64], NDArray[np.float32]], None] | None = None,
    ) -> NDArray[np.float32]:
        """Judge clips [n] with the weights that are validated, shared by the ranks -> [n, N].

        ``hear`` is told the numbers and the embeddings of this rank's clips.
        """
        import torch

        size = self.task.training.batch_size
        own = np.array_split(np.arange(len(clips)), self.ranks.size)[self.ranks.rank]
        pieces = [own[i : i + size] for i in range(0, len(own), size)]
        scores = torch.zeros(len(clips), len(TASKS), device=self.learner.device)
        read = ((piece, self.clips.read(clips[piece])) for piece in pieces)
        for piece, batch in prefetched(read):
            found = self.learner.predict(batch)
            scores[torch.from_numpy(piece).to(scores.device)] = found.scores
            if hear is not None:
                hear(clips[piece], found.embedding.cpu().numpy())
        self.ranks.add_up(scores)
        return np.asarray(scores.cpu().numpy(), np.float32)

    def _validate(self) -> dict[str, Any]:
        clips = self.task.labels.of("val")
        return judged(self.task, clips, self.predict(clips))

    def _epoch_losses(self) -> dict[str, float | None]:
        """Average the steps' losses: each task, their sum, the other terms, what was minimised."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        objective = means.pop("total", None)
        tasks = [means[task] for task in TASKS if task in means]
        return {**means, "total": sum(tasks) if tasks else None, "objective": objective}

    def _end_epoch(self) -> None:
        started = time.monotonic()
        record: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.learner.steps,
            "train": self._epoch_losses(),
            "overflows": int(self.sums.get("overflows", [0])[0]),
            **self._validate(),
            "weights": self._weights(),
            "lr": self.learner.last_rates(),
            "grad_norm": self.learner.recent_norm(),
        }
        record["monitor"] = value = monitored(self.task, record)
        # The first epoch is kept whatever it is worth: a run always ends with a checkpoint.
        before = None if self.best is None else self.best["value"]
        better = self.best is None or (value is not None and (before is None or value > before))
        record["best"] = better
        if better:
            step = self.learner.steps
            name = best_name(step)
            self.best = {"epoch": self.epoch, "step": step, "value": value, "weights": name}
            if self.ranks.rank == 0:
                save_best(self.store, step, self.learner.judged_weights())
        self.stale = 0 if better else self.stale + 1
        self.epoch += 1
        self.position = 0
        self.sums = {}
        patience = self.task.training.patience
        stopped = patience is not None and self.stale >= patience
        self.over = self.epoch >= self.task.training.epochs or stopped
        if stopped and self.epoch < self.task.training.epochs:
            self._tell("note", f"stopped early: no better epoch in {self.stale}")
        self.seconds["validation"] += time.monotonic() - started
        record["seconds"] = round(sum(self.seconds.values()), 3)
        self.history["epochs"].append(record)
        self._tell("epoch", record)
        self._save()

    # --- state

    def _save(self) -> None:
        if self.ranks.rank:
            return
        started = time.monotonic()
        tensors, values = self.learner.state()
        save_state(
            self.store,
            self.learner.steps,
            tensors,
            {
                "learner": values,
                "epoch": self.epoch,
                "position": self.position,
                "group": self.group,
                "history": self.history,
                "sums": self.sums,
                "best": self.best,
                "best_weights": None if self.best is None else self.best["weights"],
                "stale": self.stale,
                "over": self.over,
                "seconds": self.seconds,
            },
        )
        self._saved = time.monotonic()
        self.seconds["state"] += self._saved - started

    def _restore(self, tensors: "dict[str, Tensor]", values: dict[str, Any]) -> None:
        if values["group"] != self.group:  # its position in the epoch would mean other clips
            workers = values["group"] * self.ranks.size // self.group
            raise TrainInputError(
                f"{self.store.display('')} was begun with steps of {values['group']} clips, and "
                f"{self.ranks.size} workers make steps of {self.group}: go on with --workers "
                f"{workers}, or choose another --out"
            )
        try:
            self.learner.restore(tensors, values["learner"])
        except ValueError as error:
            raise TrainInputError(
                f"{error}. Go on where it began, or choose another --out"
            ) from None
        self.epoch, self.position = values["epoch"], values["position"]
        self.history, self.sums = values["history"], values["sums"]
        self.best, self.stale, self.over = values["best"], values["stale"], values["over"]
        self.seconds = values["seconds"]
        self._tell("resumed", (self.epoch, self.learner.steps))
