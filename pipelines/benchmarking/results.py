"""Answers that stay: what was asked once of a video is not asked again."""

import json
import secrets
import time
from typing import Any, Final

from pipelines.benchmarking.answers import Answer, JudgeError
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.variants import Variant
from pipelines.config import digest
from pipelines.storage import Store

FOLDER: Final = "answers/"
_MOST: Final = 500  # answers that are held back
_LONGEST: Final = 15.0  # seconds that they are held back


class Results:
    """Answers of one evaluator, in files of JSON Lines below the output.

    Args:
        store: The output.
        key: Changes with the evaluator, see :func:`evaluator_key`.
        again: Forget failures of earlier runs.
        fresh: Forget everything of earlier runs.

    Raises:
        BenchmarkInputError: A file of answers is damaged.
    """

    def __init__(self, store: Store, key: str, *, again: bool = False, fresh: bool = False) -> None:
        self._store, self._folder = store, f"{FOLDER}{key}/"
        self._known: dict[str, dict[str, Any]] = {}
        self._new: list[dict[str, Any]] = []
        self._written = time.monotonic()
        if fresh:
            return
        names = sorted(info.name for info in store.list(self._folder))
        for name in names:
            for number, line in enumerate(store.read_bytes(name).splitlines(), 1):
                row = _row(line, f"{store.display(name)}, line {number}")
                self._known[row["video"]] = row
        self._known = {
            name: row
            for name, row in self._known.items()
            if not (row.get("transient") or (again and "reason" in row))
        }

    def known(self, variant: Variant) -> bool:
        """Say whether the variant was asked about before."""
        return _identity(variant) in self._known

    def failed(self, variant: Variant) -> bool:
        """Say whether the variant was asked about before, and has no score."""
        return "reason" in self._known.get(_identity(variant), ())

    def answer(self, variant: Variant) -> Answer | JudgeError:
        """Return what was said of a variant that is known."""
        row = self._known[_identity(variant)]
        if "reason" in row:
            return JudgeError(row["reason"], row["message"])
        return {str(name): float(value) for name, value in row["scores"].items()}

    def add(self, variant: Variant, answer: Answer | JudgeError) -> None:
        """Take an answer in; now and then all new ones are written."""
        row: dict[str, Any] = {"video": _identity(variant), "video_id": variant.video_id}
        if isinstance(answer, JudgeError):
            row |= {"reason": answer.reason, "message": answer.message}
            if answer.transient:
                row["transient"] = True  # the next run asks again
        else:
            row["scores"] = answer
        self._known[row["video"]] = row
        self._new.append(row)
        if len(self._new) >= _MOST:
            self.flush()
        self.pulse()

    def pulse(self) -> None:
        """Write what is new when the last time is long ago."""
        if time.monotonic() - self._written > _LONGEST:
            self.flush()

    def flush(self) -> None:
        """Write what is new."""
        self._written = time.monotonic()
        if not self._new:
            return
        # Sorted by name, later parts win.
        name = f"{self._folder}{time.time_ns():020d}-{secrets.token_hex(4)}.jsonl"
        text = "".join(f"{json.dumps(row)}\n" for row in self._new)
        self._store.write_bytes(name, text.encode())
        self._new = []


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        sound = isinstance(row["video"], str)
        if "reason" in row:
            sound = sound and all(isinstance(row[key], str) for key in ("reason", "message"))
        else:
            sound = sound and all(isinstance(n, int | float) for n in row["scores"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise BenchmarkInputError(
            f"{where}: is no answer of an evaluator; remove that file, and its videos are asked "
            "about again"
        )
    assert isinstance(row, dict)
    return row


def evaluator_key(**parts: Any) -> str:
    """Return 16 hex digits of what makes an evaluator another one."""
    return digest(parts)


def _identity(variant: Variant) -> str:
    # The address and the chain too: a remote video may have no version.
    return digest(
        {
            "id": variant.video_id,
            "uri": variant.uri,
            "version": variant.content,
            "artefacts": variant.artefacts,
        }
    )
