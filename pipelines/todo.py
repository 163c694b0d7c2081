"""What is to be done: the corpus held against what the output has (chain steps 1 to 3)."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from actors.types import VideoRef
from pipelines.corpus import CorpusConfig, CorpusReport, iter_corpus
from pipelines.failures import FailureTable
from pipelines.ledger import Ledger
from pipelines.spool import CorpusError, SpooledCorpus, spool_corpus
from pipelines.storage import strip_credentials

LOOK_BATCH = 2048


@dataclass(slots=True)
class Counts:
    """How many videos there are of each kind."""

    corpus: int
    corpus_bytes: int
    done: int = 0
    failed_before: int = 0
    todo: int = 0
    todo_bytes: int = 0
    changed: int = 0  # of those to do

    def __str__(self) -> str:
        changed = f" ({self.changed} of them changed)" if self.changed else ""
        return (
            f"{self.corpus} videos ({size(self.corpus_bytes)}): {self.done} done before, "
            f"{self.failed_before} failed before, {self.todo} to do{changed}"
        )


def listed(config: CorpusConfig) -> tuple[SpooledCorpus, list[str]]:
    """List the corpus; returns it and what a person should know of it.

    Raises:
        CorpusError: It cannot be listed, or there is no video in it (of any age).
    """
    report = CorpusReport()
    corpus = spool_corpus(iter_corpus(config, report))
    if not corpus.count and not report.older:
        raise CorpusError(
            f"{strip_credentials(config.corpus)}: there is no video in it"
            + "".join(f"; {warning}" for warning in report.warnings())
        )
    return corpus, report.warnings()


@dataclass(frozen=True, slots=True)
class Todo:
    """A corpus beside what is known of its videos; counted and streamed, never held in memory."""

    corpus: SpooledCorpus
    ledger: Ledger
    failures: FailureTable
    retry_failed: bool = False
    limit: int | None = None

    def count(self) -> Counts:
        """Count the videos of each kind."""
        found = Counts(self.corpus.count, self.corpus.total_bytes)
        for ref, state in self._judged():
            if state == "done":
                found.done += 1
            elif state == "failed":
                found.failed_before += 1
            elif self.limit is None or found.todo < self.limit:
                found.todo += 1
                found.todo_bytes += ref.size or 0
                found.changed += state == "changed"
        return found

    def videos(self) -> Iterator[VideoRef]:
        """Stream the videos that are to be processed."""
        refs = (ref for ref, state in self._judged() if state in ("new", "changed"))
        return itertools.islice(refs, self.limit)

    def _judged(self) -> Iterator[tuple[VideoRef, str]]:
        refs = iter(self.corpus)
        while batch := list(itertools.islice(refs, LOOK_BATCH)):
            states = self.ledger.status_many([(ref.video_id, ref.version) for ref in batch])
            for ref, state in zip(batch, states, strict=True):
                before = self.failures.status(ref.video_id, ref.version)
                if state != "done" and before == "permanent" and not self.retry_failed:
                    yield ref, "failed"
                else:
                    yield ref, state


def size(count: int) -> str:
    """Write bytes as a person would."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
