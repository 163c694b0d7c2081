"""Runs `jobs/extract.py` as a user does, and reads what it left without the product's own code."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from tests.support import ROOT

# The two modalities that need no weights; the names as the demo corpus has them.
SLIM = (
    "--modalities", "landmarks,action_units", "--pattern", "{generator}/{speaker}-*.mp4",
)  # fmt: skip
PLACE = ("uri", "source_version")  # of a row: where the video was; all else is what it shows

Rows = dict[tuple[str, int], dict[str, bytes]]


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without a cluster or credentials of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}
    # As in tests/conftest.py: workers that yield to all else would seem to hang.
    own = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    return {**kept, **own, **more}


def extract(
    *arguments: str | Path, timeout: float = 500, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the door in slim mode."""
    return subprocess.run(
        [sys.executable, "jobs/extract.py", *SLIM, *map(str, arguments)],
        cwd=ROOT, env=clean_environment(**environment), text=True, capture_output=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def rows(out: Path) -> Rows:
    """Every row's columns in bytes; a row that is there twice is an error."""
    table = pd.read_parquet(out / "features")
    found: Rows = {}
    for record in table.to_dict("records"):
        key = (record["video_id"], record["clip_index"])
        assert key not in found, f"{key} is there twice"
        found[key] = {name: _bytes(value) for name, value in record.items() if name not in PLACE}
    return found


def _bytes(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def assert_same(found: Rows, wanted: Rows) -> None:
    """Compare bit for bit; a difference is told by its row and column."""
    assert sorted(found) == sorted(wanted)
    for key, row in wanted.items():
        assert sorted(found[key]) == sorted(row)
        assert [name for name in row if found[key][name] != row[name]] == [], key


def texts(out: Path) -> dict[str, str]:
    """What can be read in every file of an output; Parquet decoded, since it is compressed."""
    found: dict[str, str] = {}
    for path in out.rglob("*"):
        if not path.is_file():
            continue
        text = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            words = [n for n in table.column_names if "tensor" not in str(table[n].type)]
            text += f"{table.schema.metadata} {table.select(words).to_pylist()}"
        found[str(path.relative_to(out))] = text
    return found
