"""Asking an evaluator about every video, several at once; each answer is kept."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.benchmarking.answers import Answer, JudgeError
from pipelines.benchmarking.evaluation import Miss
from pipelines.benchmarking.places import Materialise, local_file
from pipelines.benchmarking.results import Results
from pipelines.benchmarking.variants import Corpus, Variant
from pipelines.progress import LiveLine

_TOGETHER = 16  # videos of one source that one worker takes: the clean one is fetched once
_WAIT = 0.2  # seconds between two looks at a quiet run


class Judge(Protocol):
    """Scores one video after another in one thread."""

    @property
    def needs_clean(self) -> bool:
        """The clean video is wanted beside each."""

    def judge(self, video: Path, clean: Path | None) -> Answer:
        """Return the scores of a video, or raise JudgeError."""

    def close(self) -> None:
        """End whatever was started."""


@dataclass(frozen=True)
class Asked:
    """What an evaluator said.

    Attributes:
        scores: Video -> task -> score.
        misses: Videos without.
        before: Videos that were asked about in an earlier run.
    """

    scores: dict[str, Answer]
    misses: list[Miss]
    before: int


_Item = tuple[Variant, Answer | JudgeError]


def ask(
    corpus: Corpus,
    make: Callable[[], Judge],
    results: Results,
    *,
    jobs: int,
    stop: threading.Event,
    materialise: Materialise,
) -> Asked:
    """Ask about every variant that was not asked about before.

    Args:
        corpus: The variants.
        make: Makes the evaluator of one worker.
        results: Answers so far; new ones are added.
        jobs: Workers at a time.
        stop: Set here when the run is interrupted; evaluators look at it.
        materialise: Writes virtual variants.
    """
    wanted = [v for v in corpus.variants if not results.known(v)]
    line = LiveLine()
    before = len(corpus.variants) - len(wanted)
    known = f"{before} are known from earlier runs"
    if failed := sum(results.failed(v) for v in corpus.variants):
        known += f", {failed} of them failed (--retry-failed asks about these again)"
    if wanted:
        line.say(f"{len(wanted)} videos to ask about, {known if before else 'none known'}")
    else:
        line.say(f"nothing is asked: all {known}; --fresh asks again")
    parts = _parts(wanted)
    done: queue.Queue[_Item | None] = queue.Queue()
    waiting: queue.SimpleQueue[list[Variant]] = queue.SimpleQueue()
    for part in parts:
        waiting.put(part)

    def work() -> None:
        try:
            judge = make()
            try:
                while not stop.is_set():
                    try:
                        part = waiting.get_nowait()
                    except queue.Empty:
                        return
                    clean = corpus.clean.get(part[0].source)
                    for item in _answers(part, clean, judge, materialise):
                        done.put(item)
                        if stop.is_set():
                            return
            finally:
                judge.close()
        except BaseException:
            stop.set()  # a defect: the others need not go on
            raise
        finally:
            done.put(None)

    workers = min(jobs, len(parts))
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        running = [pool.submit(work) for _ in range(workers)]
        try:
            _collect(done, workers, results, line, len(wanted))
        except BaseException:
            stop.set()
            raise
        finally:
            results.flush()
            line.end()
        for worker in running:
            worker.result()
    return _asked(corpus, results, before)


def _parts(wanted: list[Variant]) -> list[list[Variant]]:
    by_source: dict[str, list[Variant]] = {}
    for variant in wanted:
        by_source.setdefault(variant.source, []).append(variant)
    return [
        group[start : start + _TOGETHER]
        for group in by_source.values()
        for start in range(0, len(group), _TOGETHER)
    ]


def _answers(
    part: list[Variant], clean: Variant | None, judge: Judge, materialise: Materialise
) -> Iterator[_Item]:
    """Ask about variants of one source, in order; ends early when the run is interrupted."""
    with ExitStack() as stack:
        beside: Path | None = None
        lost: JudgeError | None = None
        if judge.needs_clean and clean is None:
            lost = JudgeError("no_clean_video", "its source has no clean video")
        elif judge.needs_clean and clean is not None:
            try:
                beside = stack.enter_context(local_file(clean, materialise))
            except JudgeError as error:
                lost = error
        for variant in part:
            answer: Answer | JudgeError
            try:
                if lost is not None:
                    raise lost
                if variant == clean and beside is not None:
                    answer = judge.judge(beside, beside)
                else:
                    with local_file(variant, materialise) as path:
                        answer = judge.judge(path, beside)
            except JudgeError as error:
                if error.reason == "stopped":
                    return
                answer = error
            yield variant, answer


def _collect(
    done: "queue.Queue[_Item | None]", workers: int, results: Results, line: LiveLine, total: int
) -> None:
    ended = finished = failed = 0
    while ended < workers:
        try:
            item = done.get(timeout=_WAIT)
        except queue.Empty:
            item = None
            results.pulse()
        else:
            if item is None:
                ended += 1
        if item is not None:
            results.add(*item)
            finished += 1
            failed += isinstance(item[1], JudgeError)
        if finished and line.due():
            line.draw(f"{finished}/{total} videos, {failed} failed")


def _asked(corpus: Corpus, results: Results, before: int) -> Asked:
    scores: dict[str, Answer] = {}
    misses = []
    for variant in corpus.variants:
        answer = results.answer(variant)
        if isinstance(answer, JudgeError):
            misses.append(Miss(variant.video_id, answer.reason, answer.message))
        else:
            scores[variant.video_id] = answer
    return Asked(scores, misses, before)
