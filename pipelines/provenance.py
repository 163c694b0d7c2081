"""With which settings, code and weights an output was made, and that nothing else goes into it."""

import json
from typing import Any

from actors.features import FeaturesConfig
from actors.row import SCHEMA_VERSION
from actors.types import DEMONSTRATION_WEIGHTS
from pipelines.config import differences, digest
from pipelines.messages import ProcessorInfo, RunError
from pipelines.storage import Store, strip_credentials
from pipelines.version import CODE_VERSION

DEMONSTRATION = (
    f"DEMONSTRATION: {DEMONSTRATION_WEIGHTS}; these features have no meaning for real quality"
)


class OutputMismatchError(RunError):
    """The output holds features of other settings."""


def _settings(config: FeaturesConfig) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **config.value_settings()}


def _stored_settings(store: Store) -> dict[str, Any]:
    try:
        stored = json.loads(store.read_bytes("run.json"))
        if {"settings", "fingerprint", "extractors", "weights"} <= stored.keys():
            return dict(stored)
    except (ValueError, AttributeError):
        pass
    raise OutputMismatchError(
        f"{store.display('run.json')} is damaged, so nobody can tell with which settings the "
        "features there were made: choose another --out"
    )


def check_settings(store: Store, config: FeaturesConfig) -> None:
    """Refuse early, before models are loaded, what cannot go into the same output.

    Raises:
        OutputMismatchError: Names the settings that differ.
    """
    if not store.exists("run.json"):
        return
    old = _stored_settings(store)
    new = json.loads(json.dumps(_settings(config)))
    changes = differences(old["settings"], new)
    if changes:
        raise OutputMismatchError(_mismatch(store, changes))


def store_settings(store: Store, config: FeaturesConfig, info: ProcessorInfo, corpus: str) -> str:
    """Write ``run.json`` if the output has none yet; returns the fingerprint.

    Raises:
        OutputMismatchError: The output was made with other settings, code or weights.
    """
    values = {
        "settings": json.loads(json.dumps(_settings(config))),
        "extractors": info.extractors,
        "weights": info.weights,
    }
    fingerprint = digest(values)
    if store.exists("run.json"):
        old = _stored_settings(store)
        if old["fingerprint"] != fingerprint:
            kept = {key: old[key] for key in values}
            raise OutputMismatchError(_mismatch(store, differences(kept, values)))
        return fingerprint
    record = {
        "fingerprint": fingerprint,
        **values,
        "demonstration": info.demonstration,
        "code_version": CODE_VERSION,
        "corpus": strip_credentials(corpus),
    }
    store.write_bytes("run.json", json.dumps(record, indent=1, sort_keys=True).encode())
    return fingerprint


def _mismatch(store: Store, changes: list[str]) -> str:
    lines = "\n".join(f"  {change}" for change in changes)
    return (
        f"{store.uri} holds features of other settings (old -> new):\n{lines}\n"
        "Features of different settings do not belong together: choose another --out, or the old "
        "settings."
    )
