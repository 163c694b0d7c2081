"""The worker without Ray: whose fault an error of storage is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.types import Row, Timings, VideoRef
from pipelines.messages import Processor, Progress, RunContext, VideoEnd
from pipelines.shards import ShardWriter
from pipelines.storage import StorageError
from pipelines.worker import ExtractWorker
from tests.fakes import Fake, make_fake

REFS = [VideoRef(name, f"/nowhere/{name}.mp4", version="1") for name in ("a", "b")]


class Unreadable(Fake):
    def process(
        self, ref: VideoRef, progress: Progress, timings: Timings
    ) -> Iterator[Row | VideoEnd]:
        for item in super().process(ref, progress, timings):
            yield item
            if ref.video_id == "a":
                raise StorageError("cannot read /nowhere/a.mp4: the cable is out.")


def make_unreadable(threads: int) -> Processor:
    return Unreadable(threads)


def worker(out: Path, factory: object = make_fake) -> ExtractWorker:
    made = ExtractWorker(factory, 1)  # type: ignore[arg-type]
    made.load()
    made.begin(RunContext("run", str(out), "0" * 16, "1", 1000, 1000.0))
    return made


def test_a_video_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    made = worker(tmp_path, make_unreadable)
    first, second = made.extract(1, REFS).outcomes
    assert (first.reason, first.transient) == ("unreadable_source", True)
    assert first.message == "cannot read /nowhere/a.mp4: the cable is out."
    assert not second.reason
    made.close()


def test_rows_that_cannot_be_written_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("cannot write the spool: No space left on device.")

    made = worker(tmp_path)
    monkeypatch.setattr(ShardWriter, "append", full)
    with pytest.raises(StorageError, match="No space left"):
        made.extract(1, REFS)
    made.close()
