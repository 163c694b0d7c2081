"""Prepared clips -> rows: the extractors in their order, on one device."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from actors.features import FeaturesConfig
from actors.memory import Memory, digest_of
from actors.types import Row, Timings


class Stage(Protocol):
    """One extractor."""

    @property
    def name(self) -> str:
        """Of the modality."""
        ...

    @property
    def version(self) -> str:
        """Raised by hand when values change."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of the row that it reads."""
        ...

    @property
    def adds(self) -> tuple[str, ...]:
        """Columns of the row that it writes."""
        ...

    def __call__(self, batch: list[Row]) -> list[Row]:
        """Add the columns `adds` to each row."""
        ...


class Encoder:
    """Runs extractors over prepared clips and keeps the time of each.

    Args:
        stages: In the order of their needs.
        memory: Bytes of features kept for inputs that come again.
    """

    def __init__(self, stages: Iterable[Stage], memory: int = 0) -> None:
        self.stages = tuple(stages)
        self.memory = Memory(memory)

    def __call__(
        self,
        batch: list[Row],
        timings: Timings,
        beat: Callable[[str], None],
        *,
        remember: bool = False,
    ) -> list[Row]:
        """Add the columns of all stages.

        Args:
            batch: Prepared clips.
            timings: Seconds of each stage are added here.
            beat: Hears of each stage that begins.
            remember: What a backbone made of the same input before is taken again. Digests cost
                about 2 % of the time that backbones take, so this is for variants of a video.
        """
        for stage in self.stages:
            beat(stage.name)
            begun = time.perf_counter()
            if hasattr(stage, "memory"):  # it remembers its streams one by one
                stage.memory = self.memory if remember else None
            if remember and hasattr(stage, "digest"):
                batch = [self._remembered(stage, row) for row in batch]
            else:
                batch = stage(batch)
            timings.add(stage.name, time.perf_counter() - begun)
        return batch

    def _remembered(self, stage: Stage, row: Row) -> Row:
        def make() -> Row:
            (made,) = stage([dict(row)])
            return {name: made[name] for name in stage.adds}

        key = digest_of(stage.name, (row[name] for name in stage.needs))
        row.update(self.memory.get(key, make))
        return row

    @property
    def weights(self) -> dict[str, str]:
        """Backbone -> digest of its weights."""
        return {s.name: s.digest for s in self.stages if hasattr(s, "digest")}

    @property
    def demonstration(self) -> bool:
        """Whether any backbone has seeded weights."""
        return any(getattr(s, "demonstration", False) for s in self.stages)

    @property
    def notes(self) -> dict[str, str]:
        """What backbones say of their number format."""
        return {s.name: s.precision_note for s in self.stages if hasattr(s, "precision_note")}


def cpu_stages(config: FeaturesConfig) -> list[Stage]:
    """Make the extractors that need no weights; on a cluster with GPUs they run ahead of them."""
    from actors.action_units import ActionUnits
    from actors.descriptors import Descriptors
    from actors.lowlevel import LowLevel

    stages: list[Stage] = []
    if "action_units" in config.modalities:
        stages.append(ActionUnits(config.action_units))
    if "lowlevel" in config.modalities:
        stages.append(LowLevel(config.lowlevel))
    if "descriptors" in config.modalities:
        stages.append(Descriptors(config.descriptors))
    return stages


def backbone_stages(config: FeaturesConfig, device: str, expected_clips: int) -> list[Stage]:
    """Make the extractors that carry weights, loaded and warmed up on ``device``.

    ``expected_clips`` tells whether compiling can pay.
    """
    from actors.audio import Audio
    from actors.sync import Sync
    from actors.visual import Visual

    stages: list[Stage] = []
    if "visual" in config.modalities:
        stages.append(Visual(config.visual, device=device, expected_clips=expected_clips))
    if "audio" in config.modalities:
        whole = config.decode.policy == "whole"
        stages.append(Audio(config.audio, device=device, stretch_to_clip=whole))
    if "sync" in config.modalities:
        stages.append(Sync(config.sync, device=device))
    return stages
