"""Made-up sources and settings for tests of degrading."""

from typing import Any

from actors.types import VideoRef
from pipelines.degrading.config import DegradeConfig
from pipelines.degrading.plan import SourcePlan, deal

ALL_TEST = {"splits": {"shares": (0, 0, 1)}}
ALL_TRAIN = {"splits": {"shares": (1, 0, 0)}}


def settings(**values: Any) -> DegradeConfig:
    """Settings as a plan file gives them."""
    return DegradeConfig.model_validate({"corpus": {"corpus": "/corpus"}, **values})


def sources(count: int, speakers: int = 0) -> list[VideoRef]:
    """Sources that take turns in ``speakers``; 0: nobody is named."""
    return [
        VideoRef(
            f"v{i:04d}",
            f"/corpus/v{i:04d}.mp4",
            speaker=f"s{i % speakers}" if speakers else None,
            version=f"1-{i}",
        )
        for i in range(count)
    ]


def dealt(refs: list[VideoRef], **values: Any) -> dict[str, SourcePlan]:
    """Source -> what is made of it."""
    return {plan.source.video_id: plan for plan in deal(refs, settings(**values))}
