"""A checkpoint: everything that scores videos with an evaluator, without a single pickle.

    checkpoint/
      checkpoint.json            what it is, which features it reads, digests of the files below
      evaluator.safetensors      weights
      preprocessor.safetensors   medians, means, deviations, components
      uncertainty.safetensors    residuals of validation, where embeddings lie; may be absent
      model_card.json, .md       what it was trained on and how good it is

``checkpoint.json`` is written last: a folder without it is not (yet) a checkpoint.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from model.evaluator_config import EvaluatorConfig
from model.tasks import TASKS
from model.uncertainty import Uncertainty
from pipelines import tensor_file
from pipelines.storage import MissingError, StorageError, Store
from pipelines.train_errors import TrainInputError
from pipelines.uris import display_text

if TYPE_CHECKING:
    from torch import Tensor

    from model.evaluator import Evaluator
    from model.preprocessor import Preprocessor

FORMAT = "talkmos-checkpoint"
FORMAT_VERSION = 1
EVALUATOR, PREPROCESSOR = "evaluator.safetensors", "preprocessor.safetensors"
UNCERTAINTY = "uncertainty.safetensors"
DESCRIPTION = "checkpoint.json"


class CheckpointError(TrainInputError):
    """A checkpoint cannot be used: what is wrong with it."""


@dataclass(frozen=True, slots=True)
class FeatureOrigin:
    """Which features a checkpoint was trained on, and therefore reads."""

    fingerprint: str
    settings: dict[str, Any]
    extractors: dict[str, str]
    weights: dict[str, str]
    demonstration: bool


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        config: Of the evaluator.
        weights: Of the evaluator.
        preprocessor: Fitted.
        features: What it reads.
        digest: 16 hex digits of its content: weights, preprocessor, uncertainty, description.
        details: Further values of ``checkpoint.json``.
        uncertainty: What its scores can be trusted for; None in a checkpoint from before there was
            any.
    """

    config: EvaluatorConfig
    weights: "dict[str, Tensor]"
    preprocessor: "Preprocessor"
    features: FeatureOrigin
    digest: str
    details: dict[str, Any]
    uncertainty: Uncertainty | None = None

    def evaluator(self) -> "Evaluator":
        """Build the evaluator with its weights, ready to judge."""
        from model.evaluator import build_evaluator

        evaluator = build_evaluator(
            self.config, self.preprocessor.widths, self.preprocessor.aux_width
        )
        evaluator.load_state_dict(self.weights)
        return evaluator.eval()

    def check_features(self, fingerprint: str, where: str) -> None:
        """Refuse features that were made with other settings, extractors or weights.

        Raises:
            CheckpointError: Names both fingerprints.
        """
        if fingerprint != self.features.fingerprint:
            raise CheckpointError(
                f"{where} holds features with the fingerprint {fingerprint}, but the checkpoint "
                f"was trained on features with the fingerprint {self.features.fingerprint}. Their "
                "numbers would mean something else to it: extract the videos again with the "
                "settings and weights in its checkpoint.json, or train on these features"
            )


@dataclass(frozen=True)
class CheckpointParts:
    """What :func:`save_checkpoint` writes, and its digest, before anything is written."""

    files: dict[str, bytes]
    description: dict[str, Any]

    @property
    def digest(self) -> str:
        """16 hex digits of weights, preprocessor, uncertainty, settings and features."""
        return _digest(self.description)


def pack_checkpoint(
    config: EvaluatorConfig,
    weights: "dict[str, Tensor]",
    preprocessor: "Preprocessor",
    features: FeatureOrigin,
    details: dict[str, Any],
    *,
    uncertainty: Uncertainty | None = None,
) -> CheckpointParts:
    """Put a checkpoint together; ``details`` are further values of ``checkpoint.json``."""
    files = {
        EVALUATOR: tensor_file.pack(weights),
        PREPROCESSOR: tensor_file.pack(preprocessor.to_tensors()),
    }
    facts: dict[str, Any] = {}
    if uncertainty is not None:
        files[UNCERTAINTY] = _pack_arrays(uncertainty.to_arrays())
        facts = {"uncertainty": uncertainty.to_json()}
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tasks": list(TASKS),
        "evaluator": config.model_dump(mode="json"),
        "preprocessor": preprocessor.to_json(),
        "features": {
            "fingerprint": features.fingerprint,
            "settings": features.settings,
            "extractors": features.extractors,
            "weights": features.weights,
            "demonstration": features.demonstration,
        },
        **facts,
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        },
        **details,
    }
    return CheckpointParts(files, description)


def _pack_arrays(arrays: dict[str, Any]) -> bytes:
    import torch

    return tensor_file.pack({name: torch.tensor(array) for name, array in arrays.items()})


def save_checkpoint(
    store: Store, folder: str, parts: CheckpointParts, card: dict[str, Any], card_text: str
) -> None:
    """Write a checkpoint and its model card below ``folder`` of the store."""
    for name, data in parts.files.items():
        store.write_bytes(f"{folder}/{name}", data)
    store.write_bytes(f"{folder}/model_card.json", json.dumps(card, indent=1).encode())
    store.write_bytes(f"{folder}/model_card.md", card_text.encode())
    store.write_bytes(f"{folder}/{DESCRIPTION}", json.dumps(parts.description, indent=1).encode())


def _digest(description: dict[str, Any]) -> str:
    names = ("evaluator", "preprocessor", "features", "uncertainty", "files")
    kept = {k: description[k] for k in names if k in description}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class CheckpointPeek:
    """What a checkpoint says of itself, without its tensors.

    Attributes:
        where: Its folder, credentials stripped.
        digest: That of :class:`Checkpoint`.
        features: What it reads.
        details: Further values of ``checkpoint.json``.
        card: The model card, None when it is missing or damaged: scoring does without.
    """

    where: str
    digest: str
    features: FeatureOrigin
    details: dict[str, Any]
    card: dict[str, Any] | None


def peek_checkpoint(uri: str) -> CheckpointPeek:
    """Read what a checkpoint says of itself; light: no torch, no tensors.

    Raises:
        CheckpointError: It is missing, no checkpoint, of a newer format or damaged.
    """
    store, description = _description(uri)
    try:
        features = FeatureOrigin(**description["features"])
    except (KeyError, TypeError):
        raise CheckpointError(f"{store.display(DESCRIPTION)} is damaged: features") from None
    try:
        card = json.loads(store.read_bytes("model_card.json"))
    except (StorageError, ValueError):
        card = None
    return CheckpointPeek(
        store.display(""),
        _digest(description),
        features,
        description,
        card if isinstance(card, dict) else None,
    )


def load_checkpoint(uri: str) -> Checkpoint:
    """Read and check a checkpoint; nothing in it is executed.

    Args:
        uri: Its folder, or the output of the training run that made it.

    Raises:
        CheckpointError: It is missing, no checkpoint, of a newer format, damaged or does not fit
            together.
    """
    store, description = _description(uri)
    where = store.display("")
    files = description["files"]
    tensors = {}
    for name in files:
        try:
            data = store.read_bytes(name)
        except MissingError:
            raise CheckpointError(
                f"{store.display(name)} is missing: copy all of {where}"
            ) from None
        tensors[name] = tensor_file.unpack(data, store.display(name))[0]
        if hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
            raise CheckpointError(
                f"{store.display(name)} is not the file that {DESCRIPTION} describes (another "
                "digest): copy the whole checkpoint again"
            )
    return _assembled(description, tensors, where)


def _assembled(
    description: dict[str, Any], tensors: "dict[str, dict[str, Tensor]]", where: str
) -> Checkpoint:
    from model.evaluator import build_evaluator
    from model.preprocessor import Preprocessor

    known = {"format", "format_version", "tasks", "evaluator", "preprocessor", "features", "files"}
    known.add("uncertainty")
    try:
        config = EvaluatorConfig.model_validate(description["evaluator"])
        preprocessor = Preprocessor.from_tensors(tensors[PREPROCESSOR], description["preprocessor"])
        features = FeatureOrigin(**description["features"])
        evaluator = build_evaluator(config, preprocessor.widths, preprocessor.aux_width)
        evaluator.load_state_dict(tensors[EVALUATOR])
        uncertainty = _uncertainty(description, tensors, config.width)
    except (
        *(ValidationError, ValueError, TypeError, KeyError, AttributeError),  # values of any kind
        RuntimeError,  # tensors of other names or shapes
    ) as error:
        raise CheckpointError(
            f"the parts of the checkpoint {where} do not fit together: {_problem(error)}; copy the "
            "whole checkpoint again"
        ) from None
    details = {k: v for k, v in description.items() if k not in known}
    weights = tensors[EVALUATOR]
    return Checkpoint(
        config, weights, preprocessor, features, _digest(description), details, uncertainty
    )


def _problem(error: Exception) -> str:
    """Say what is wrong, without the words of libraries around it."""
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        place = ".".join(("evaluator", *map(str, found["loc"])))
        return f"{place} in {DESCRIPTION}: {found['msg']}"
    if isinstance(error, KeyError):  # its text is the key alone
        return f"{display_text(str(error), 80)} is missing"
    return str(error)


def _uncertainty(
    description: dict[str, Any], tensors: "dict[str, dict[str, Tensor]]", width: int
) -> Uncertainty | None:
    if ("uncertainty" in description) != (UNCERTAINTY in tensors):
        raise ValueError(f"{UNCERTAINTY} and its description belong together")
    if UNCERTAINTY not in tensors:
        return None
    arrays = {name: tensor.double().numpy() for name, tensor in tensors[UNCERTAINTY].items()}
    result = Uncertainty.of_parts(arrays, description["uncertainty"])
    if result.width not in (None, width):
        raise ValueError(f"{UNCERTAINTY} is for embeddings of width {result.width}, not of {width}")
    return result


def _description(uri: str) -> tuple[Store, dict[str, Any]]:
    store = Store.at(uri)
    try:
        data = store.read_bytes(DESCRIPTION)
    except StorageError as first:
        _reraise_outage(store, first)
        nested = Store.at(f"{uri.rstrip('/')}/checkpoint")
        try:
            data = nested.read_bytes(DESCRIPTION)
        except StorageError as error:
            _reraise_outage(store, error)
            raise CheckpointError(_not_a_checkpoint(uri, error)) from None
        store = nested
    try:
        description = json.loads(data)
        if description["format"] != FORMAT:
            raise ValueError
        version = int(description["format_version"])
        if set(description["files"]) - {UNCERTAINTY} != {EVALUATOR, PREPROCESSOR}:
            raise ValueError
        digests = [entry["sha256"] for entry in description["files"].values()]
        if not all(isinstance(digest, str) for digest in digests):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{store.display(DESCRIPTION)} is damaged or does not belong to TalkMOS"
        ) from None
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{store.display(DESCRIPTION)} has format {version}; this version of TalkMOS reads "
            f"up to {FORMAT_VERSION}: update TalkMOS"
        )
    if description.get("tasks") != list(TASKS):
        raise CheckpointError(f"{store.display(DESCRIPTION)} is for other tasks")
    return store, description


def _reraise_outage(store: Store, error: StorageError) -> None:
    """Raise what says nothing of the checkpoint: a remote storage that refuses or fails."""
    if not store.is_local and not isinstance(error, MissingError):
        raise error


def _not_a_checkpoint(uri: str, error: StorageError) -> str:
    folder, _, name = uri.rstrip("/").rpartition("/")
    parent = Store.at(folder or ".")
    shown = parent.display(name)
    try:
        head = parent.read_range(name, 0, 4)
    except StorageError:
        return (
            f"{shown} is not a checkpoint: it has no {DESCRIPTION}. A checkpoint is the folder "
            f"that jobs/train.py writes ({error})"
        )
    try:
        tensor_file.unpack(head, shown)
    except TrainInputError as reason:
        if "pickle" in str(reason):
            return str(reason)
    return (
        f"{shown} is a file. A checkpoint is a folder with {DESCRIPTION}, {EVALUATOR} and "
        f"{PREPROCESSOR}, as jobs/train.py writes it"
    )
