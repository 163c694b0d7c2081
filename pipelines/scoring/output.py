"""What an output of scoring says of itself: ``run.json``, and the key that versions its rows."""

import json
from typing import Any

from pipelines.checkpoint import CheckpointPeek
from pipelines.config import digest
from pipelines.scoring.columns import SCORES_VERSION
from pipelines.scoring.errors import ScoreInputError
from pipelines.storage import Store, strip_credentials
from pipelines.version import CODE_VERSION

FORMAT = "talkmos-scores"
NAME = "run.json"


def score_key(peek: CheckpointPeek) -> str:
    """Return 16 hex digits of everything that changes a row of scores, but for the video itself."""
    from actors.findings import VERSION as FINDINGS_VERSION

    return digest(
        {
            "scores_version": SCORES_VERSION,
            "checkpoint": peek.digest,
            "features": peek.features.fingerprint,
            "findings": FINDINGS_VERSION,
        }
    )


def version_of(content: str, key: str) -> str:
    """Name the version of a row: which content of the video, scored by what."""
    return f"{content}@{key}"


def check_output(store: Store) -> None:
    """Refuse an output that is something else.

    Raises:
        ScoreInputError: It holds features or a training run, or its record is damaged.
    """
    if not store.exists(NAME):
        return
    try:
        record = json.loads(store.read_bytes(NAME))
        if record.get("format") == FORMAT:
            return
    except (ValueError, AttributeError):
        raise ScoreInputError(
            f"{store.display(NAME)} is damaged, so nobody can tell what is in this output: choose "
            "another --out"
        ) from None
    what = "features" if "extractors" in record else "something else than scores"
    raise ScoreInputError(f"{store.display('')} holds {what}: choose another --out")


def write_output(store: Store, key: str, peek: CheckpointPeek, settings: dict[str, Any]) -> None:
    """Write with what the newest rows of the output are made."""
    record = {
        "format": FORMAT,
        "score_key": key,
        "checkpoint": {"where": strip_credentials(peek.where), "digest": peek.digest},
        "features": {
            "fingerprint": peek.features.fingerprint,
            "weights": peek.features.weights,
            "extractors": peek.features.extractors,
        },
        "demonstration": peek.features.demonstration,
        "code_version": CODE_VERSION,
        "settings": _shown(settings),
    }
    data = json.dumps(record, indent=1, sort_keys=True).encode()
    if not store.exists(NAME) or store.read_bytes(NAME) != data:
        store.write_bytes(NAME, data)


def _shown(settings: dict[str, Any]) -> dict[str, Any]:
    """Strip credentials from every text of the settings."""
    return {
        key: _shown(value)
        if isinstance(value, dict)
        else strip_credentials(value)
        if isinstance(value, str)
        else value
        for key, value in settings.items()
    }
