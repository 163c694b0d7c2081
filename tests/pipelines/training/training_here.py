"""Stand-ins for the parts of a training run that need a cluster: small, in this process."""

from collections.abc import Callable
from typing import Any

import numpy as np

from actors.raw_clips import LOWLEVEL_MASKS
from model.fitted_stream import FittedAux, FittedStream
from model.preprocessor import Preprocessor
from model.preprocessor_config import PreprocessorConfig, stream_layout
from pipelines.resources import TrainPlan
from pipelines.storage import Store
from pipelines.training.loop import TrainingRun
from pipelines.training.task import Clips, TrainTask, build_learner
from pipelines.training.worker import TrainOutcome

RAW_WIDTHS = {"action_units": 17, "lowlevel": 64}


def preprocessor_of(
    streams: tuple[str, ...] = ("action_units", "lowlevel"),
    aux: tuple[str, ...] = (),
    seed: int = 0,
) -> Preprocessor:
    """A preprocessor of streams that are not reduced, with made-up statistics."""
    rng = np.random.default_rng(seed)
    fitted = []
    for name in streams:
        layout = stream_layout(name, RAW_WIDTHS[name], LOWLEVEL_MASKS)
        fitted.append(
            FittedStream(
                layout=layout,
                rows=(100,) * len(layout.groups),
                filled=0,
                empty=0,
                median=rng.standard_normal(layout.width),
                mean=rng.standard_normal(layout.width),
                scale=rng.uniform(0.5, 2, layout.width),
            )
        )
    vector = None
    if aux:
        vector = FittedAux(aux, rng.standard_normal(len(aux)), rng.uniform(0.5, 2, len(aux)))
    return Preprocessor(PreprocessorConfig(), fitted, vector)


def train_here(
    task: TrainTask,
    clips: Clips,
    store: Store,
    _plan: TrainPlan,
    heard: Callable[[str, Any], None],
) -> TrainOutcome:
    """What `train_on_ray` does, as the only rank, in this process."""
    learner = build_learner(task, _alone(), "cpu")
    run = TrainingRun(task, clips, learner, store, heard)
    run.run()
    assert run.best is not None
    return TrainOutcome(run.judge_all(), run.history, run.best, run.seconds, "1 x CPU, fp32")


def _alone() -> Any:
    from model.ranks import Ranks

    return Ranks()
