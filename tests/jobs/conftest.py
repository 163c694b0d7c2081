"""What the tests of the doors share: a small demo corpus and its rows from a plain local run."""

from pathlib import Path

import pytest

from pipelines.demo import write_demo_corpus
from tests.jobs.runs import Rows, extract, rows

SECONDS = 2.0


@pytest.fixture(scope="session")
def demo_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three talking faces of one clip each, and their manifest."""
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    write_demo_corpus(folder, videos=3, seconds=SECONDS)
    return folder


@pytest.fixture(scope="session")
def local_rows(demo_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of a run on this machine's disk with a cluster of its own."""
    out = tmp_path_factory.mktemp("local") / "out"
    done = extract("--corpus", demo_corpus, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(out)
    assert len(found) == 3
    return found
