"""Manifests: a table with one video a row, as CSV, JSON Lines or Parquet; read row by row."""

import csv
import datetime as dt
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.retry import StorageError, storage_error
from pipelines.since import timestamp_of
from pipelines.spool import CorpusError
from pipelines.storage import Store
from pipelines.uris import display_text, scheme_of

if TYPE_CHECKING:
    import pyarrow as pa

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


def time_of(record: Record, column: str, where: str) -> float | None:
    """Return a column's time in seconds since 1970, or None when it is absent, null or empty.

    Raises:
        CorpusError: It is no time.
    """
    value = record[1].get(column)
    if not isinstance(value, dt.date):  # a datetime is one, too
        value = text_of(record, column, where)
    if value is None:
        return None
    try:
        return timestamp_of(value)
    except ValueError as error:
        raise CorpusError(f"{where}, row {record[0]}: {column}: {error}") from None


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


def write_manifest(table: "pa.Table", uri: str) -> None:
    """Write a manifest whole, in the kind that its suffix names.

    Lists become JSON in CSV. An empty table has its header (in JSON Lines there is none).

    Raises:
        CorpusError: The suffix is unknown.
        StorageError: It cannot be written.
    """
    suffix = check_manifest_name(uri)
    write = {"csv": _csv_bytes, "parquet": _parquet_bytes}.get(suffix, _jsonl_bytes)
    path = uri if scheme_of(uri) else os.path.abspath(uri)  # noqa: PTH100 - Path would resolve "//"
    folder, _, name = path.rpartition("/")
    Store.at(folder or "/").write_bytes(name, write(table))


def check_manifest_name(uri: str) -> str:
    """Return the suffix of a manifest's name.

    Raises:
        CorpusError: It is unknown, or a folder is there.
    """
    suffix = uri.rpartition("/")[2].rpartition(".")[2].lower()
    if suffix not in MANIFEST_SUFFIXES:
        raise CorpusError(
            f"--out {display_text(uri)}: the name must end in .csv, .jsonl or .parquet"
        )
    if not scheme_of(uri) and Path(uri).is_dir():
        raise CorpusError(f"--out {display_text(uri)}: is a folder, name a file")
    return suffix


def _csv_bytes(table: "pa.Table") -> bytes:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    columns = {}
    for name, values in zip(table.column_names, table.columns, strict=True):
        nested = pa.types.is_nested(values.type)
        columns[name] = (
            pa.array(map(_json_text, values.to_pylist()), pa.string()) if nested else values
        )
    sink = io.BytesIO()
    arrow_csv.write_csv(pa.table(columns), sink)
    return sink.getvalue()


def _json_text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _jsonl_bytes(table: "pa.Table") -> bytes:
    import pyarrow as pa

    columns = [
        # The shortest text of a float32, not the 17 digits of its double.
        values.cast(pa.string()).cast(pa.float64()) if pa.types.is_float32(values.type) else values
        for values in table.columns
    ]
    rows = pa.table(columns, names=table.column_names).to_pylist()
    return "".join(f"{_json_text(row)}\n" for row in rows).encode()


def _parquet_bytes(table: "pa.Table") -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
