"""What stands beside a corpus of known damage: manifest, labels and the plan itself."""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from actors.artefacts.artefact import GROUPS
from actors.artefacts.chain import CLEAN_SCORE, Step, chain_text
from actors.artefacts.registry import ARTEFACTS
from model.tasks import TASKS
from pipelines.degrading.config import DegradeConfig
from pipelines.degrading.plan import DegradeInputError, Variant
from pipelines.storage import Store, strip_credentials
from pipelines.uris import scheme_of
from pipelines.version import CODE_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST, LABELS, PLAN = "manifest.parquet", "labels.csv", "plan.json"
FORMAT = "talkmos-degraded"
_BATCH = 10_000  # variants


@dataclass(frozen=True, slots=True)
class Made:
    """A variant that is there.

    Attributes:
        variant: Which one.
        uri: Of the stored video below the output; None when the variant is virtual.
        version: Of the stored video: digest of its bytes.
    """

    variant: Variant
    uri: str | None = None
    version: str = ""


def manifest_schema() -> "pa.Schema":
    """Return the columns of the manifest."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("video_id", text),
            ("uri", text),
            ("generator", text),
            ("speaker", text),
            ("version", text),
            ("source", text),
            ("artefacts", text),  # to be applied at decode; null in a stored corpus
            ("chain", text),  # what is, or was, done
            ("type", text),
            ("group", pa.dictionary(pa.int8(), text)),
            ("severity", pa.float64()),
            ("split", text),
            ("held_out", pa.bool_()),
        ]
    )


def manifest(made: Iterable[Made]) -> "pa.Table":
    """Return the manifest, a row a variant; variants of a source follow each other."""
    import pyarrow as pa

    schema, rest = manifest_schema(), iter(made)
    batches = []
    # Row by row a million variants would be gigabytes of Python objects.
    while some := list(itertools.islice(rest, _BATCH)):
        rows = [_manifest_row(one) for one in some]
        arrays = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema).combine_chunks()


def _manifest_row(one: Made) -> dict[str, Any]:
    variant, source = one.variant, one.variant.source
    chain = chain_text(_lasting(step) for step in variant.public)
    virtual = one.uri is None
    return {
        "video_id": variant.video_id,
        "uri": _address(source.uri) if one.uri is None else one.uri,
        "generator": variant.generator,
        "speaker": source.speaker,
        # Local sources are looked at when they are read: what is written here would grow old.
        "version": one.version or (source.version if scheme_of(source.uri) else None),
        "source": source.video_id,
        "artefacts": chain if virtual else None,
        "chain": chain,
        "type": variant.type,
        "group": variant.group,
        "severity": variant.severity,
        "split": variant.side,
        "held_out": variant.held_out,
    }


def _lasting(step: Step) -> Step:
    """Leave out what grows old: local donors, like local sources, are looked at when read."""
    return step if step.donor is None or scheme_of(step.donor) else replace(step, donor_version="")


def listed_before(store: Store) -> dict[str, str]:
    """Return variant -> source of the manifest that is there, empty when there is none.

    Raises:
        DegradeInputError: It is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not store.exists(MANIFEST):
        return {}
    columns = ["video_id", "source"]
    try:
        table = pq.ParquetFile(pa.BufferReader(store.read_bytes(MANIFEST))).read(columns)
        names, sources = (table[column].to_pylist() for column in columns)
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise DegradeInputError(
            f"{store.display(MANIFEST)} is damaged ({error}): remove it and run again"
        ) from None
    return dict(zip(names, sources, strict=True))


def labels(made: Iterable[Made]) -> str:
    """Return the label table of jobs/train.py as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    extras = ["source", "type", "severity", "generator", "speaker", "split"]
    writer.writerow(["video_id", *TASKS, *extras])
    for one in made:
        variant = one.variant
        scores = variant.scores()
        severity = "" if variant.severity is None else f"{variant.severity:g}"
        writer.writerow(
            [
                variant.video_id,
                *(f"{scores[task]:.4f}" for task in TASKS),
                variant.source.video_id,
                variant.type,
                severity,
                variant.generator,
                variant.source.speaker or "",
                variant.side,
            ]
        )
    return text.getvalue()


def plan_record(config: DegradeConfig, *, virtual: bool) -> dict[str, Any]:
    """Return what ``plan.json`` says: all that decides the variants, and what each type is."""
    types = {}
    for name, how in config.types.items():
        artefact = ARTEFACTS[name]
        severities = config.severities_of(name)
        types[name] = {
            "title": artefact.title,
            "group": artefact.group,
            "version": artefact.version,
            "harms": dict(artefact.harms),
            "held_out": how.held_out,
            "blind": how.blind,
            "severities": list(severities),
            "measures": {f"{s:g}": artefact.measures(s) for s in severities},
        }
    settings = config.model_dump(mode="json", exclude={"resources", "run"})
    settings["corpus"]["corpus"] = strip_credentials(settings["corpus"]["corpus"])
    return {
        "format": FORMAT,
        "code_version": CODE_VERSION,
        "virtual": virtual,
        "seed": config.seed,
        "severities": list(config.severities),
        "clean_score": CLEAN_SCORE,
        "groups": list(GROUPS),
        "artefacts": types,
        "settings": settings,
    }


def write_tables(store: Store, made: list[Made], config: DegradeConfig, *, virtual: bool) -> None:
    """Write manifest, labels and plan; what is equal already stays as it is."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(manifest(made), sink, compression="zstd")
    record = plan_record(config, virtual=virtual)
    for name, data in (
        (PLAN, (json.dumps(record, indent=1) + "\n").encode()),  # first: it says whose the rest is
        (LABELS, labels(made).encode()),
        (MANIFEST, sink.getvalue()),  # last: what it names is there
    ):
        if not store.exists(name) or store.read_bytes(name) != data:
            store.write_bytes(name, data)


def _address(uri: str) -> str:
    """Return the address of a source without secrets; local ones whole."""
    return strip_credentials(uri) if scheme_of(uri) else os.path.abspath(uri)  # noqa: PTH100
