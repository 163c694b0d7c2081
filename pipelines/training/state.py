"""The state of a training run that was interrupted: kept in the output, one object each.

``state/state-<step>.safetensors`` holds everything that the next step depends on (weights, moments
of the optimiser, moving average, loss scale, position in the epoch, history); it appears whole, so
a run that is killed goes on from the newest. ``state/best-<step>.safetensors`` holds the weights
of the best epoch so far. ``state/preprocessor.safetensors`` saves fitting it again.
"""

import json
import re
from typing import TYPE_CHECKING, Any

from pipelines import tensor_file
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError

if TYPE_CHECKING:
    from torch import Tensor

    from model.preprocessor import Preprocessor

FOLDER = "state/"
PREPROCESSOR = f"{FOLDER}preprocessor.safetensors"
STATE = re.compile(r"^state/state-(\d{9})\.safetensors$")
BEST = re.compile(r"^state/best-(\d{9})\.safetensors$")


def state_name(step: int) -> str:
    """Return the name of the state after ``step`` steps."""
    return f"{FOLDER}state-{step:09d}.safetensors"


def best_name(step: int) -> str:
    """Return the name of the best weights, reached after ``step`` steps."""
    return f"{FOLDER}best-{step:09d}.safetensors"


def save_best(store: Store, step: int, weights: "dict[str, Tensor]") -> None:
    """Store the weights of the best epoch so far as :func:`best_name`."""
    store.write_bytes(best_name(step), tensor_file.pack(weights))


def save_state(
    store: Store, step: int, tensors: "dict[str, Tensor]", values: dict[str, Any]
) -> None:
    """Store a state, then delete the older ones and the best weights it does not name."""
    store.write_bytes(
        state_name(step), tensor_file.pack(tensors, {"values": json.dumps(values, allow_nan=False)})
    )
    for info in store.list(FOLDER):
        old = STATE.match(info.name)
        if (old and int(old[1]) < step) or (
            BEST.match(info.name) and info.name != values.get("best_weights")
        ):
            store.delete(info.name)


def load_state(store: Store) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
    """Read the newest state, or None when there is none.

    Raises:
        TrainInputError: It is damaged.
    """
    names = [info.name for info in store.list(FOLDER) if STATE.match(info.name)]
    if not names:
        return None
    return _read(store, max(names))


def _read(store: Store, name: str) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    tensors, metadata = tensor_file.read(store, name)
    try:
        values: dict[str, Any] = json.loads(metadata["values"])
    except (KeyError, ValueError):
        raise TrainInputError(
            f"{store.display(name)} was not written by a training run: choose another --out"
        ) from None
    return tensors, values


def save_preprocessor(store: Store, preprocessor: "Preprocessor") -> None:
    """Store a fitted preprocessor: a run that goes on need not fit it again."""
    metadata = {"values": json.dumps(preprocessor.to_json())}
    store.write_bytes(PREPROCESSOR, tensor_file.pack(preprocessor.to_tensors(), metadata))


def load_preprocessor(store: Store) -> "Preprocessor | None":
    """Read the fitted preprocessor, or None when there is none.

    Raises:
        TrainInputError: It is damaged.
    """
    from model.preprocessor import Preprocessor

    if not store.exists(PREPROCESSOR):
        return None
    tensors, values = _read(store, PREPROCESSOR)
    return Preprocessor.from_tensors(tensors, values)


def clear(store: Store) -> None:
    """Delete what this module wrote: the run is over."""
    for info in store.list(FOLDER):
        if STATE.match(info.name) or BEST.match(info.name) or info.name == PREPROCESSOR:
            store.delete(info.name)
