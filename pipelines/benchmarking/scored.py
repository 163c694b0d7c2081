"""Scores of our own: made now by a checkpoint, or made earlier, or in anybody's table."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model.tasks import MISSING, TASKS
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.evaluation import SINGLE, Evaluation, Miss
from pipelines.benchmarking.variants import Corpus
from pipelines.storage import Store, strip_credentials
from pipelines.uris import display_text

if TYPE_CHECKING:
    from pipelines.checkpoint import CheckpointPeek
    from pipelines.messages import ProcessorFactory
    from pipelines.scoring.config import ScoreConfig

SCORES = "scores"
MANIFEST = "variants.parquet"
_FORMAT = "talkmos-scores"
_MISSING = ("", "nan", "null")  # how a text file writes it


def score_variants(
    corpus: Corpus,
    out: Store,
    settings: Sequence[str],
    file: str | None = None,
    *,
    address: str | None = None,
    factory: "ProcessorFactory | None" = None,
) -> Evaluation:
    """Score the variants with a checkpoint, into ``scores/`` of the output; known ones stay.

    Args:
        corpus: The variants.
        out: The output.
        settings: ``key=value`` of jobs/score.py, the checkpoint among them.
        file: YAML file of such settings.
        address: Ray cluster.
        factory: Another source of feature rows than extraction (tests).

    Raises:
        UserInputError: A setting or the checkpoint is wrong.
        RunError: The run cannot go on.
    """
    from pipelines.manifest import write_manifest
    from pipelines.score import score
    from pipelines.scoring.config import load_score_config

    place = f"{out.raw_uri}/{MANIFEST}"
    listed = f"corpus.corpus={json.dumps(place)}"
    config, peek = load_score_config(file, [*settings, listed])
    write_manifest(corpus.manifest, place)
    scores = f"{out.raw_uri}/{SCORES}"
    score(config, peek, scores, address=address, factory=factory)
    return _of_run(corpus, Store.at(scores), _facts(config, peek), peek)


def _facts(config: "ScoreConfig", peek: "CheckpointPeek") -> dict[str, Any]:
    return {
        "checkpoint": strip_credentials(peek.where),
        "checkpoint digest": peek.digest,
        "fingerprint of the features": peek.features.fingerprint,
        "weights": dict(peek.features.weights),
        "stored features": None if config.features is None else strip_credentials(config.features),
    }


def read_scores(corpus: Corpus, uri: str) -> Evaluation:
    """Take scores that are there: an output of jobs/score.py, or a table.

    Raises:
        BenchmarkInputError: There are none, or none of these variants.
        UserInputError: The table cannot be read.
        StorageError: The storage fails.
    """
    from pipelines.manifest import MANIFEST_SUFFIXES
    from pipelines.paths import suffix_of

    if suffix_of(uri) in MANIFEST_SUFFIXES:
        return _of_table(corpus, uri)
    store = Store.at(uri)
    if not store.exists("run.json"):
        raise BenchmarkInputError(
            f"--scores {store.display('')}: neither an output of jobs/score.py nor a table named "
            ".csv, .jsonl or .parquet"
        )
    try:
        record = json.loads(store.read_bytes("run.json"))
    except ValueError:
        record = {}
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise BenchmarkInputError(f"--scores {store.display('')} is no output of jobs/score.py")
    checkpoint = record.get("checkpoint") or {}
    facts = {
        "scores": strip_credentials(uri),
        "checkpoint": checkpoint.get("where"),
        "checkpoint digest": checkpoint.get("digest"),
    }
    return _of_run(corpus, store, facts, None)


def _of_run(
    corpus: Corpus, store: Store, facts: dict[str, Any], peek: "CheckpointPeek | None"
) -> Evaluation:
    from pipelines.failures import FailureTable
    from pipelines.scoring import tables

    ids = [variant.video_id for variant in corpus.variants]
    videos = tables.read_table(store, tables.VIDEOS, ids)
    columns = videos.select(["video_id", *TASKS, "demonstration"]).to_pylist()
    scores = {row["video_id"]: _known(row, TASKS) for row in columns}
    failed = {row["video_id"]: row for row in FailureTable.load(store).rows()}
    misses = []
    for name in ids:
        if scores.get(name):
            continue
        if name in failed:
            why = failed[name]
            misses.append(Miss(name, why["error_class"], why["message"]))
        elif name in scores:
            misses.append(Miss(name, "no_score", "it went through without any score"))
        else:
            misses.append(Miss(name, "not_scored", "the scores have no row of it"))
    seeded = any(row["demonstration"] for row in columns)
    where = facts.get("checkpoint") or facts.get("scores") or "checkpoint"
    return _evaluation(
        corpus,
        scores,
        misses,
        # jobs/train.py calls the folder of every checkpoint so.
        name=str(where).rstrip("/").removesuffix("/checkpoint").rpartition("/")[2],
        kind="scores" if peek is None else "checkpoint",
        facts=facts,
        demonstration=seeded or (peek is not None and peek.features.demonstration),
    )


def _of_table(corpus: Corpus, uri: str) -> Evaluation:
    from pipelines.training.label_file import read_raw, text

    table = read_raw(uri)
    if "video_id" not in table.columns:
        raise BenchmarkInputError(f"{table.where}: there is no column video_id")
    names = [name for name in (*TASKS, SINGLE) if name in table.columns]
    if not names:
        raise BenchmarkInputError(
            f"{table.where}: there is no column of scores: name it {SINGLE}, or after the tasks "
            f"{', '.join(TASKS)}"
        )
    scores: dict[str, dict[str, float]] = {}
    wanted = {variant.video_id for variant in corpus.variants}
    others = 0
    for row, cells in table.rows:
        name = text(cells.get("video_id"))
        if name is None:
            raise BenchmarkInputError(f"{table.where}, row {row}: video_id is empty")
        if name not in wanted:
            others += 1
            continue
        if name in scores:
            raise BenchmarkInputError(
                f"{table.where}, row {row}: {display_text(name, 80)} is there twice"
            )
        values: dict[str, Any] = {}
        for column in names:
            try:
                values[column] = _cell(cells.get(column), column)
            except ValueError as error:
                raise BenchmarkInputError(f"{table.where}, row {row}: {column} {error}") from None
        scores[name] = _known(values, names)
    misses = [
        Miss(name, "not_scored", "the table has no row of it")
        if name not in scores
        else Miss(name, "no_score", "its row has no score")
        for name in (variant.video_id for variant in corpus.variants)
        if not scores.get(name)
    ]
    facts = {"scores": strip_credentials(uri), "rows of other videos": others}
    stem = uri.rpartition("/")[2].rpartition(".")[0]
    return _evaluation(corpus, scores, misses, name=stem, kind="scores", facts=facts)


def _cell(value: Any, column: str) -> float:
    """Return a cell's number, NaN when it is missing.

    -1 is "not rated" in the columns of tasks, as in tables of labels; a ``score`` has a scale of
    its own, which may hold it.

    Raises:
        ValueError: It is something else; the message says what.
    """
    if isinstance(value, str):
        value = value.strip()
        value = None if value.lower() in _MISSING else value
    if value is None:
        return math.nan
    if isinstance(value, bool):
        raise ValueError("is not a number")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("is not a number") from None
    if math.isinf(found):
        raise ValueError("is infinite")
    return math.nan if column != SINGLE and found == MISSING else found


def _known(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    """Return the scores that are numbers."""
    values = {name: row[name] for name in names}
    return {n: float(v) for n, v in values.items() if v is not None and v == v}  # noqa: PLR0124


def _evaluation(
    corpus: Corpus,
    scores: dict[str, dict[str, float]],
    misses: list[Miss],
    *,
    name: str,
    kind: str,
    facts: dict[str, Any],
    demonstration: bool = False,
) -> Evaluation:
    tasks = tuple(
        task for task in (*TASKS, SINGLE) if any(task in found for found in scores.values())
    )
    if not tasks:
        raise BenchmarkInputError(
            f"no video of {display_text(corpus.where)} (split {corpus.split}) has a score: "
            f"{len(misses)} videos, such as {display_text(misses[0].video_id, 80)} "
            f"({display_text(misses[0].message, 200)})"
        )
    return Evaluation(
        name=name,
        kind=kind,
        tasks=tasks,
        scores=scores,
        misses=misses,
        blind=tasks != (SINGLE,),  # the plan speaks of evaluators of the five tasks
        demonstration=demonstration,
        facts={key: value for key, value in facts.items() if value is not None},
    )
