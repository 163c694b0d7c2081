"""Leave-one-out over generators: each is the test once, so every figure is of an unseen one."""

import hashlib
import json
import re
from typing import TYPE_CHECKING

from pipelines import evaluate
from pipelines.cluster import connected
from pipelines.storage import Store, display_text
from pipelines.train import train_on
from pipelines.train_errors import TrainInputError
from pipelines.training.data import candidates, training_data
from pipelines.training.progress import CountLine
from pipelines.training.splits import folds

if TYPE_CHECKING:
    from pipelines.training.config import TrainConfig

NAME = "leave_one_out.json"


def train_folds(
    config: "TrainConfig", out: str, *, address: str | None = None, local_cpus: int | None = None
) -> str:
    """Train once for each generator without it, below ``out``; returns the table for a person.

    A fold that is finished is not trained again. ``leave_one_out.json`` holds the table.

    Raises:
        See :func:`pipelines.train.train`.
    """
    line = CountLine("")
    found = candidates(config.features, config.labels, config.cleaning, line.say)
    names = folds(found.videos, found.clean)
    settings = {
        name: config.splits.model_copy(update={"by": "generator", "held_out": name})
        for name in names
    }
    for name, splits in settings.items():  # before the first of them is trained for hours
        try:
            training_data(found, splits)
        except TrainInputError as error:
            raise TrainInputError(f"without {display_text(name, 60)}: {error}") from None
    metrics = {}
    with connected(address, local_cpus=local_cpus):
        for number, name in enumerate(names):
            line.say(f"\nfold {number + 1} of {len(names)}: without {display_text(name)}")
            fold = f"{out.rstrip('/')}/{folder_of(name)}"
            train_on(found, config.model_copy(update={"splits": settings[name]}), fold)
            metrics[name] = json.loads(Store.at(fold).read_bytes(evaluate.NAME))
    table = evaluate.leave_one_out_table(metrics)
    Store.at(out).write_bytes(NAME, json.dumps(table, indent=1).encode())
    parts = [evaluate.told_leave_one_out(table, metric) for metric in ("plcc", "srcc")]
    return "\n\n".join([*parts, f"table: {Store.at(out).display(NAME)}"])


def folder_of(generator: str) -> str:
    """Name a fold's folder: readable, and distinct for every name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", generator).strip("-.")[:40]
    return f"without-{plain}-{hashlib.sha256(generator.encode()).hexdigest()[:6]}"
