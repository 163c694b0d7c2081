"""What the validation clips say of a network while it learns, and of the one that is kept."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.sync_training.data import Clips
from pipelines.sync_training.excerpts import embedded, spread

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from model.ranks import Ranks
    from model.sync_judging import Embedded, Judged
    from model.syncnet import SyncNet
    from pipelines.sync_training.loop import SyncTask

FPS = 25


class Judging:
    """Judges networks on the validation clips; the work is shared, the result the same everywhere.

    All workers call its methods together, in the same order.

    Args:
        task: What is trained, on what.
        clips: Where they come from.
        ranks: Who shares the work.
        device: Where this worker computes.
    """

    def __init__(
        self, task: "SyncTask", clips: Clips, ranks: "Ranks", device: "torch.device"
    ) -> None:
        self._task, self._clips, self._ranks, self._device = task, clips, ranks, device
        # Of an exchange of embeddings all workers must know every length beforehand.
        self._val = spread(task.split.val, task.validation.clips)
        self._foreigners = _foreigners(task, self._val)
        self._judged = np.unique(np.concatenate([self._val, *self._foreigners]))
        self._longest = int(task.index.windows[self._judged].max())

    def judge(self, net: "SyncNet") -> "tuple[Judged, Judged]":
        """Judge a network, on this worker's device, on the clips whole and in pieces.

        Raises:
            ValueError: No window of any clip has a face.
        """
        from model.sync_judging import judge

        by_number = self._embed(net, self._judged)
        largest = self._task.validation.offset
        whole = [by_number[n] for n in self._val.tolist()]
        others = [[by_number[n] for n in some.tolist()] for some in self._foreigners]
        windows = round(self._task.validation.piece_s * FPS) - 5  # as a clip of this length has
        pieces, pieces_others = [], []
        for clip, lenders in zip(whole, others, strict=True):
            cut = clip.pieces(windows) if len(clip) > windows else [clip]
            pieces += cut
            pieces_others += [[lender.part(0, windows) for lender in lenders]] * len(cut)
        return judge(whole, others, largest), judge(pieces, pieces_others, largest)

    def place(self, net: "SyncNet") -> "tuple[dict[str, Tensor], dict[str, Any]]":
        """Place a network in its space, and judge it as it will be stored.

        Args:
            net: On this worker's device; changed in place.

        Returns:
            The tensors of the file, on the CPU, and what they reach: ``whole`` and ``pieces``.

        Raises:
            ValueError: No window of any clip has a face.
        """
        from model.sync_judging import median_confidence, neutral_origin, place_heads

        clips = list(self._embed(net, self._val).values())
        origin = neutral_origin(clips)
        confidence = median_confidence([clip.placed(origin) for clip in clips])
        wanted = self._task.validation.confidence
        place_heads(net, origin, wanted / confidence if confidence > 0 else 1.0)
        storage = self._task.network.storage
        stored = {k: _stored_as(v, storage) for k, v in net.state_dict().items()}
        net.load_public_state(
            {k: v.float() if v.is_floating_point() else v for k, v in stored.items()}
        )
        whole, pieces = self.judge(net)
        tensors = {k: v.cpu() for k, v in stored.items()}
        return tensors, {"whole": asdict(whole), "pieces": asdict(pieces)}

    def _embed(self, net: "SyncNet", clips: NDArray[np.int64]) -> "dict[int, Embedded]":
        """Take clips through a network, shared by the workers."""
        import torch

        from model.sync_judging import Embedded

        own = np.array_split(clips, self._ranks.size)[self._ranks.rank]
        device = self._device
        if self._ranks.size == 1:
            return {n: embedded(net, self._clips.read(n), device) for n in own.tolist()}
        shape = (len(clips), self._longest, net.embedding)
        table = torch.zeros(2, *shape, device=device)
        masks = torch.zeros(shape[:2], device=device)
        at = {n: i for i, n in enumerate(clips.tolist())}
        for number in own.tolist():
            found = embedded(net, self._clips.read(number), device)
            place, count = at[number], len(found)
            table[0, place, :count], table[1, place, :count] = found.lips, found.sounds
            masks[place, :count] = torch.from_numpy(found.mask.astype(np.float32))
        self._ranks.add_up(table)
        self._ranks.add_up(masks)
        table, real = table.cpu(), masks.cpu().numpy() > 0
        lengths = self._task.index.windows[clips].tolist()
        return {
            n: Embedded(table[0, i, :count], table[1, i, :count], real[i, :count])
            for i, (n, count) in enumerate(zip(clips.tolist(), lengths, strict=True))
        }


def _foreigners(task: "SyncTask", clips: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Choose for each clip those that lend it their sound: of other videos, at random by seed.

    From the validation clips, where enough of other videos are among them, else from all.
    """
    index, wanted = task.index, task.validation.foreigners
    rng = np.random.default_rng([task.training.seed, 0xF0])
    chosen = []
    for clip in clips.tolist():
        others = clips[index.video[clips] != index.video[clip]]
        if not len(others):
            every = task.split.train
            others = every[index.video[every] != index.video[clip]]
        chosen.append(rng.permutation(others)[:wanted])
    return chosen


def _stored_as(tensor: "Tensor", storage: str) -> "Tensor":
    """Return a tensor in the number format of the file: vectors and counters as they are."""
    import torch

    tensor = tensor.detach()
    return tensor.to(torch.float16) if storage == "fp16" and tensor.ndim >= 2 else tensor.clone()
