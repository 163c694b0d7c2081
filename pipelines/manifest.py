"""Manifests: a table with one video a row, as CSV, JSON Lines or Parquet, read row by row."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from pipelines.retry import StorageError, storage_error
from pipelines.spool import CorpusError
from pipelines.storage import Store
from pipelines.uris import display_text

MANIFEST_SUFFIXES = ("csv", "jsonl", "ndjson", "parquet")
_BATCH = 4_096

Record = tuple[int, dict[str, Any]]  # row number as a person counts it, columns


def read_manifest(store: Store, name: str) -> Iterator[Record]:
    """Yield (row number, columns) of a manifest.

    The number is the line in the file for text (a header is line 1), and counts from 1 in Parquet.

    Raises:
        CorpusError: A row cannot be read; file and row are named.
        StorageError: The file cannot be read.
    """
    suffix = name.rpartition(".")[2].lower()
    reader = {"csv": _csv, "parquet": _parquet}.get(suffix, _jsonl)
    with store.open(name) as file:
        yield from reader(file, store.display(name))


def text_of(record: Record, column: str, where: str) -> str | None:
    """Return a column's text, or None when it is absent, null or empty.

    Raises:
        CorpusError: It holds something else than a text or a number.
    """
    row, fields = record
    value = fields.get(column)
    if value is None or value == "" or value != value:  # noqa: PLR0124 - NaN is a missing value
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise CorpusError(
            f"{where}, row {row}: {column} must be a text, got {type(value).__name__} "
            f"{display_text(repr(value), 60)}"
        )
    if isinstance(value, str) and "\x00" in value:
        raise CorpusError(f"{where}, row {row}: {column} holds a zero byte")
    return (
        value
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _csv(file: Any, where: str) -> Iterator[Record]:
    text = io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8-sig", newline="")
    reader = csv.DictReader(text, strict=True)
    try:
        for fields in reader:
            if None in fields:
                raise CorpusError(f"{where}, row {reader.line_num}: more cells than columns")
            yield reader.line_num, dict(fields)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where}, after row {reader.line_num}: not UTF-8 text") from error
    except csv.Error as error:
        raise CorpusError(f"{where}, row {reader.line_num}: {error}") from error


def _jsonl(file: Any, where: str) -> Iterator[Record]:
    for row, line in enumerate(io.BufferedReader(file), 1):
        content = line.removeprefix(b"\xef\xbb\xbf") if row == 1 else line
        if not content.strip():
            continue
        try:
            fields = json.loads(content)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CorpusError(f"{where}, row {row}: not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise CorpusError(
                f"{where}, row {row}: expected an object, got {type(fields).__name__}"
            )
        yield row, fields


def _parquet(file: Any, where: str) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        wanted = [
            field.name
            for field in table.schema_arrow
            if pa.types.is_string(field.type)
            or pa.types.is_large_string(field.type)
            or pa.types.is_primitive(field.type)
            or pa.types.is_dictionary(field.type)
        ]
        row = 0
        for batch in table.iter_batches(batch_size=_BATCH, columns=wanted):
            for fields in batch.to_pylist():
                row += 1
                yield row, fields
    except pa.ArrowInvalid as error:
        raise CorpusError(
            f"{where}: not a readable Parquet file: {display_text(str(error))}"
        ) from error
    except OSError as error:
        failure: StorageError = storage_error(error, "read", where)
        raise failure from error
