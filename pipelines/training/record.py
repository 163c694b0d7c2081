"""Which run an output belongs to, and whether it is finished: ``run.json``, ``summary.json``."""

import json
from typing import TYPE_CHECKING, Any

from pipelines.checkpoint import Checkpoint
from pipelines.config import differences, digest
from pipelines.storage import Store, strip_credentials
from pipelines.train_errors import TrainInputError
from pipelines.training.data import TrainData
from pipelines.version import CODE_VERSION

if TYPE_CHECKING:
    from pipelines.training.config import TrainConfig

KIND = "training"
# What this product's chains leave behind and a training would write over or stand beside.
OTHERS = ("summary.json", "plan.json", "metrics.json", "report.html")


def stored_run(
    store: Store, kind: str, identity: dict[str, Any], what: str, error: type[TrainInputError]
) -> tuple[dict[str, Any] | None, str]:
    """Read which run an output holds, and hold it against another one.

    Args:
        store: The output.
        kind: Of run, as ``run.json`` names it.
        identity: What makes this run what it is.
        what: The same kind, for people: ``a training run``.
        error: What is raised.

    Returns:
        What ``run.json`` holds, None where there is none; a line for each difference, "" without.

    Raises:
        TrainInputError: As ``error``: the output comes from something else.
    """
    if not store.exists("run.json"):
        for name in OTHERS:
            if store.exists(name):
                raise error(
                    f"{store.display(name)} does not come from {what}: choose another --out"
                )
        return None, ""
    try:
        stored = json.loads(store.read_bytes("run.json"))
        old = stored["identity"] if stored["kind"] == kind else None
    except (ValueError, KeyError, TypeError):
        old = None
    if old is None:
        where = store.display("run.json")
        raise error(f"{where} does not come from {what}: choose another --out")
    return stored, "\n".join(f"  {change}" for change in differences(old, identity))


def finished_run(store: Store, name: str, error: type[TrainInputError]) -> dict[str, Any] | None:
    """Read the summary that a run wrote as its last deed, None where there is none.

    Raises:
        TrainInputError: As ``error``: it is damaged.
    """
    if not store.exists(name):
        return None
    try:
        summary = json.loads(store.read_bytes(name))
        if not isinstance(summary, dict):
            raise ValueError("no object")
    except ValueError:
        raise error(
            f"{store.display(name)} is damaged: choose another --out, or remove this file to "
            "train again"
        ) from None
    return summary


class TrainRecord:
    """Settings and data of a run, held against what the output says.

    Raises:
        TrainInputError: The output belongs to a run with other settings or data, or to something
            else.
    """

    def __init__(
        self, store: Store, config: "TrainConfig", data: TrainData, start: Checkpoint | None
    ) -> None:
        self._store = store
        self._data = data
        self.settings = settings_of(config)
        settings = {k: v for k, v in self.settings.items() if k not in ("features", "init")}
        labels = {k: v for k, v in settings["labels"].items() if k != "labels"}
        self.identity = {
            "settings": settings
            | {"labels": labels},  # what the places hold has digests of its own
            "data": data.digest,
            "init": None if start is None else start.digest,
        }
        _, changes = stored_run(store, KIND, self.identity, "a training run", TrainInputError)
        if changes:
            raise TrainInputError(
                f"{store.uri} holds another training run (old -> new):\n{changes}\n"
                "Choose another --out, or the old settings and data to go on with that run"
            )

    def finished(self) -> dict[str, Any] | None:
        """Return the summary when this run was finished before."""
        return finished_run(self._store, "summary.json", TrainInputError)

    def begin(self) -> None:
        """Write what is known before training."""
        store, data = self._store, self._data
        store.write_bytes("data_report.json", json.dumps(data.report, indent=1).encode())
        store.write_bytes("dropped.parquet", _parquet(data.clean.table(data.index)))
        store.write_bytes("splits.parquet", _parquet(data.splits.table(data.videos)))
        record = {"kind": KIND, "identity": self.identity, "code_version": CODE_VERSION}
        store.write_bytes("run.json", json.dumps(record, indent=1).encode())


def settings_of(config: "TrainConfig") -> dict[str, Any]:
    """Return the settings that change results, credentials stripped."""
    tree = json.loads(config.model_dump_json())
    tree.pop("run")
    tree.pop("preset")
    for name in ("state_steps", "state_seconds"):  # when it is saved, not what
        tree["training"].pop(name)
    for name in ("features", "init"):
        tree[name] = None if tree[name] is None else strip_credentials(tree[name])
    for name in ("labels", "spans"):
        value = tree["labels"][name]
        tree["labels"][name] = None if value is None else strip_credentials(value)
    return dict(tree)


def settings_digest(config: "TrainConfig") -> str:
    """Return 16 hex digits of the settings."""
    return digest(settings_of(config))


def _parquet(table: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
