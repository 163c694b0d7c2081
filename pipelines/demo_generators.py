"""The demo's made-up generators: the same words by the same speakers, each worse than the last.

They stand for what a team scores every night. How bad each is, is known (``actors.demo.damage``).
"""

from typing import Final

from actors.demo.damage import Damage, Kind
from actors.demo.render import VideoSpec

# Name -> severity of what its videos suffer from; 0 is none.
GENERATORS: Final = {"faithful": 0.0, "hasty": 0.5, "broken": 1.0}
# Speakers that the demo's evaluator was not trained on, see configs/degrade/demo.yaml.
SPEAKERS: Final = ("elio", "fay")
# What the videos of a speaker suffer from, in order.
_TURNS: Final[tuple[Kind, ...]] = ("offset", "noise", "frozen_mouth", "blur")
PROMPTS: Final = 4  # by default, all speakers together


def generator_specs(videos: int, seconds: float, seed: int) -> tuple[VideoSpec, ...]:
    """Return ``videos`` specifications for each generator; equal names say the same words."""
    return tuple(
        VideoSpec(
            generator,
            SPEAKERS[i % len(SPEAKERS)],
            i // len(SPEAKERS) + 1,
            seconds,
            # Far from the seeds of the corpus for training: other words.
            seed * 100_000 + 50_000 + i,
            Damage(_TURNS[i % len(_TURNS)], severity) if severity else None,
        )
        for generator, severity in GENERATORS.items()
        for i in range(videos)
    )
