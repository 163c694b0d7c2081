"""The corpus of variants: what jobs/degrade.py wrote, checked, and the part that is measured."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.benchmarking.manifest_table import NAME, NEEDED, absolute, contents_of, read_table
from pipelines.benchmarking.plan import CLEAN, COMBINATION, Plan, read_plan
from pipelines.storage import Store, strip_credentials
from pipelines.uris import display_text, scheme_of

if TYPE_CHECKING:
    import pyarrow as pa

N = TypeVar("N", int, float)
SPLITS: Final = ("test", "val", "train", "all")
_OPTIONAL: Final = ("seed", "split", "artefacts", "chain", "generator", "version")


@dataclass(frozen=True, slots=True)
class Variant:
    """One video of the corpus.

    Attributes:
        video_id: Its id.
        uri: Absolute; of the source itself when the variant is virtual.
        source: Id of the clean video's content.
        type: Type of the artefact, ``clean`` or ``combination``.
        severity: 0 of clean videos, None of combinations.
        seed: Of the artefact.
        split: train, val or test; empty when the corpus has no splits.
        parts: Types of the artefacts in it.
        virtual: No file holds it: its artefacts are applied at decode.
        version: Of the video at ``uri``, by the manifest; empty where it says nothing.
        content: Changes when what is seen and heard does: the file, the chain, the donor.
        artefacts: The chain as text, ``[]`` of clean videos in a virtual corpus; empty in a stored
            one, whose files hold the damage already.
    """

    video_id: str
    uri: str
    source: str
    type: str
    severity: float | None
    seed: int
    split: str
    parts: tuple[str, ...]
    virtual: bool
    version: str
    content: str
    artefacts: str


@dataclass(frozen=True)
class Corpus:
    """The variants that are measured.

    Attributes:
        where: The corpus, without credentials.
        plan: What it says of its artefacts.
        split: Which part of it.
        variants: In the order of the manifest.
        clean: Source -> its clean video, also of a virtual corpus.
        manifest: The same rows as a manifest with absolute addresses.
        digest: Changes when what is measured changes: ids, types, severities, contents.
        notes: What a person should know.
    """

    where: str
    plan: Plan
    split: str
    variants: list[Variant]
    clean: dict[str, Variant]
    manifest: "pa.Table"
    digest: str
    notes: list[str]


def read_corpus(uri: str, split: str | None = None) -> Corpus:
    """Read the corpus and choose a split.

    Args:
        uri: Folder of jobs/degrade.py, or its manifest.
        split: One of :data:`SPLITS`; None: test where there is one, else all.

    Raises:
        BenchmarkInputError: It is no such corpus; says where and what to do.
        StorageError: It cannot be read.
    """
    base = uri if scheme_of(uri) else os.path.abspath(uri)  # noqa: PTH100 - Path resolves more
    if base.endswith(f"/{NAME}"):
        base = base.removesuffix(f"/{NAME}")
    store = Store.at(base)
    if not store.exists(NAME):
        raise BenchmarkInputError(
            f"{store.display(NAME)} does not exist: --corpus is the output folder of "
            "jobs/degrade.py"
        )
    plan = read_plan(store)
    where, read = store.display(NAME), read_table(store)
    table = absolute(read, base)
    # Chains as they stand in the manifest: a corpus that moves with its donors stays the same.
    contents = list(contents_of(read, table["uri"].to_pylist(), base, where))
    variants = _checked(_variants(table, contents, where), plan, where)
    chosen, used = _split(variants, split, where)
    clean = {variant.source: variant for variant in chosen if variant.type == CLEAN}
    notes = []
    without = sorted({v.source for v in chosen} - clean.keys())
    if without:
        notes.append(
            f"{len(without)} sources have no clean video in this split; their variants are not "
            f"measured (such as {display_text(without[0], 60)})"
        )
    if not clean:
        raise BenchmarkInputError(
            f"{where}: there is no clean video in the split {used}: nothing can be compared"
        )
    rows = [i for i, v in enumerate(variants) if used in ("all", v.split)]
    return Corpus(
        strip_credentials(base), plan, used, chosen, clean, table.take(rows), _digest(chosen), notes
    )


def _variants(table: "pa.Table", contents: Sequence[str], where: str) -> list[Variant]:
    names = [*NEEDED, *(name for name in _OPTIONAL if name in table.column_names)]
    rows: list[dict[str, Any]] = table.select(names).to_pylist()
    found = []
    for place, row in enumerate(rows):
        try:
            found.append(_variant(row, contents[place]))
        except ValueError as error:
            raise BenchmarkInputError(
                f"{where}, row {place + 1} ({display_text(str(row['video_id']), 80)}): {error}"
            ) from None
    return found


def _variant(row: dict[str, Any], content: str) -> Variant:
    """Read a row.

    Raises:
        ValueError: A cell is wrong; the message says which.
    """
    kind = str(row["type"])
    severity = 0.0 if kind == CLEAN else row["severity"]
    at_decode = row.get("artefacts") or ""
    steps = json.loads(row.get("chain") or at_decode or "[]")
    parts: tuple[str, ...] = (kind,)
    if kind == COMBINATION:
        parts = tuple(str(step.get("type")) for step in steps)
        parts = parts or tuple(str(row.get("generator") or "").split("+"))
    seed = row.get("seed")
    if seed is None:
        seed = steps[0].get("seed", 0) if len(steps) == 1 else 0
    return Variant(
        video_id=str(row["video_id"]),
        uri=row["uri"],
        source=str(row["source"]),
        type=kind,
        severity=None if severity is None else _number(float, severity, "severity"),
        seed=_number(int, seed, "seed"),
        split=str(row.get("split") or ""),
        parts=() if kind == CLEAN else parts,
        virtual=at_decode not in ("", "[]"),
        version=str(row.get("version") or ""),
        content=content,
        artefacts=at_decode,
    )


def _number(kind: Callable[[Any], N], value: Any, name: str) -> N:
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        text = display_text(repr(value), 40)
        raise ValueError(f"{name} is not a number: {text}") from None


def _checked(variants: list[Variant], plan: Plan, where: str) -> list[Variant]:
    ids: set[str] = set()
    cells: dict[tuple[str, str, float, int], str] = {}
    for row, v in enumerate(variants, 1):
        name = display_text(v.video_id, 80)
        if v.video_id in ids:
            raise BenchmarkInputError(f"{where}, row {row}: the id {name} is there twice")
        ids.add(v.video_id)
        unknown = [part for part in v.parts if part not in plan.artefacts]
        if unknown:
            raise BenchmarkInputError(
                f"{where}, row {row} ({name}): plan.json knows no artefact "
                f"{display_text(unknown[0], 40)!r}"
            )
        if v.type == COMBINATION:
            continue
        if v.severity is None or not (v.severity == 0 if v.type == CLEAN else 0 < v.severity <= 1):
            raise BenchmarkInputError(
                f"{where}, row {row} ({name}): a severity lies in (0, 1], not {v.severity}"
            )
        seed = 0 if v.type == CLEAN else v.seed
        first = cells.setdefault((v.source, v.type, v.severity, seed), name)
        if first != name:
            raise BenchmarkInputError(
                f"{where}, row {row}: {name} is the same variant as {first}: source, type, "
                "severity and seed are equal"
            )
    return variants


def _split(variants: list[Variant], split: str | None, where: str) -> tuple[list[Variant], str]:
    there = Counter(v.split for v in variants)
    used = split or ("test" if there["test"] else "all")
    if used == "all":
        return variants, used
    chosen = [v for v in variants if v.split == used]
    if not chosen:
        have = ", ".join(f"{count} {name or 'without'}" for name, count in sorted(there.items()))
        raise BenchmarkInputError(f"{where}: no video is of the split {used} ({have})")
    return chosen, used


def _digest(variants: Sequence[Variant]) -> str:
    text = hashlib.sha256()
    for key in sorted((v.video_id, v.type, str(v.severity), v.content) for v in variants):
        text.update(json.dumps(key).encode() + b"\n")
    return text.hexdigest()[:16]


def limited(corpus: Corpus, limit: int) -> Corpus:
    """Keep the first sources only, so that at most ``limit`` videos are left (one source at least).

    Whole sources go, because a curve without its clean video says nothing.
    """
    sizes: Mapping[str, int] = Counter(v.source for v in corpus.variants)
    kept: set[str] = set()
    total = 0
    for source in dict.fromkeys(v.source for v in corpus.variants):
        if kept and total + sizes[source] > limit:
            break
        kept.add(source)
        total += sizes[source]
    rows = [i for i, v in enumerate(corpus.variants) if v.source in kept]
    variants = [corpus.variants[i] for i in rows]
    return replace(
        corpus,
        variants=variants,
        clean={s: v for s, v in corpus.clean.items() if s in kept},
        manifest=corpus.manifest.take(rows),
        digest=_digest(variants),
        notes=[*corpus.notes, f"limited to the first {len(kept)} sources"],
    )
