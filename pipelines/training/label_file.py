"""Tables that people write: read row by row; each wrong cell is named with its row and column."""

import difflib
import math
import os
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from model.tasks import HIGH, LOW, MISSING, TASKS
from pipelines.manifest import MANIFEST_SUFFIXES, Record, read_manifest
from pipelines.paths import suffix_of
from pipelines.spool import CorpusError
from pipelines.storage import Store
from pipelines.train_errors import TrainInputError
from pipelines.uris import display_text, scheme_of, strip_credentials

KEYS: Final = ("video_id", "uri")  # what a row may be known by, the first that is there
STD: Final = "_std"
RATERS: Final = "_n"
_MISSING_TEXTS: Final = ("", "nan", "null")
_LISTED: Final = 20  # problems in one message
_CLOSE: Final = 0.85  # difflib ratio above which a column's name is taken for a slip
# Written behind a task's name these mean its score, its spread or its raters.
_SYNONYMS: Final = {
    "": ("mos", "score", "rating", "label", "mean"),
    STD: ("sd", "stdev", "stddev", "sigma", "dev"),
    RATERS: ("num", "count", "raters", "votes", "nraters"),
}


class Problems:
    """Collects what is wrong with one file, so that one message tells all of it."""

    def __init__(self, where: str, advice: str = "") -> None:
        self._where, self._advice = where, advice
        self._lines: list[str] = []
        self._count = 0

    def add(self, text: str) -> None:
        """Write a problem down; beyond the first 20 they are only counted."""
        self._count += 1
        if len(self._lines) < _LISTED:
            self._lines.append(text)

    def raise_if_any(self) -> None:
        """End the reading when something was wrong.

        Raises:
            TrainInputError: With a line for each problem.
        """
        if not self._count:
            return
        head = "1 problem" if self._count == 1 else f"{self._count} problems"
        lines = [f"{self._where}: {head}", *(f"  {line}" for line in self._lines)]
        if self._count > len(self._lines):
            lines.append(f"  … and {self._count - len(self._lines)} more")
        if self._advice:
            lines.append(self._advice)
        raise TrainInputError("\n".join(lines))


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table as it was written.

    Attributes:
        where: The file, for messages.
        folder: The folder or prefix it lies in; relative addresses start there.
        columns: Names in their order.
        rows: (row number as a person counts it, cells): the line of a text file, where a CSV's
            header is line 1; counted from 1 in Parquet.
    """

    where: str
    folder: str
    columns: list[str]
    rows: list[Record]


def read_raw(uri: str) -> RawTable:
    """Read a CSV, JSON Lines or Parquet table from a local path or a URI.

    Raises:
        TrainInputError: It does not exist, is of another kind, cannot be parsed, has no rows, or
            names a column twice.
        StorageError: The storage refuses or fails.
    """
    if not scheme_of(uri):
        uri = os.path.abspath(uri)  # noqa: PTH100 - Path would resolve nothing else
    folder, _, name = uri.rpartition("/")
    store = Store.at(folder or "/")
    where = store.display(name)
    if suffix_of(name) not in MANIFEST_SUFFIXES:
        raise TrainInputError(f"{where}: expected a table named .csv, .jsonl or .parquet")
    if not store.exists(name):
        raise TrainInputError(f"{where} does not exist")
    try:
        columns = _header(store, name)
        rows = list(read_manifest(store, name))
    except CorpusError as error:
        raise TrainInputError(str(error)) from error
    if columns is None:
        columns = list(dict.fromkeys(key for _, fields in rows for key in fields))
    if not rows:
        raise TrainInputError(f"{where}: the table has no rows")
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        raise TrainInputError(f"{where}: the columns of a CSV are separated by commas")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise TrainInputError(f"{where}: column {_shown(twice[0])} is there twice")
    unread = [n for n in columns if n in known_columns() and n not in rows[0][1]]
    if unread and suffix_of(name) == "parquet":
        raise TrainInputError(f"{where}: column {unread[0]} holds neither numbers nor text")
    return RawTable(where, folder, columns, rows)


def _header(store: Store, name: str) -> list[str] | None:
    """Return the names of the columns as the file has them; None when rows bring their own."""
    import csv
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    suffix = suffix_of(name)
    with store.open(name) as file:
        if suffix == "csv":
            text = io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8-sig", newline="")  # type: ignore[type-var]
            try:
                return next(csv.reader(text, strict=True), [])
            except (UnicodeDecodeError, csv.Error) as error:
                raise TrainInputError(
                    f"{store.display(name)}, row 1: not CSV in UTF-8: {error}"
                ) from error
        if suffix == "parquet":
            try:
                return list(pq.ParquetFile(file).schema_arrow.names)
            except pa.ArrowInvalid as error:
                raise TrainInputError(
                    f"{store.display(name)}: not a readable Parquet file: {error}"
                ) from error
    return None


# --- cells


def number(value: Any) -> float:
    """Return a cell's number; NaN when it is missing: -1, empty, null, NaN.

    Raises:
        ValueError: It is something else; the message says what.
    """
    if value is None:
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _MISSING_TEXTS:
            return math.nan
        try:
            found = float(text) if "_" not in text else None
        except ValueError:
            found = None
        if found is None:
            comma = text.count(",") == 1 and text.replace(",", "").isdigit()
            hint = "; write a decimal point" if comma else ""
            raise ValueError(f"is not a number{hint}")
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"is not a number but {type(value).__name__}")
    else:
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
    return math.nan if found == MISSING else found


def score(value: Any) -> float:
    """Return a label in [1, 5], NaN when it is missing.

    Raises:
        ValueError: It is no number or lies elsewhere.
    """
    found = number(value)
    if not math.isnan(found) and not LOW <= found <= HIGH:
        raise ValueError(f"lies outside [{LOW:g}, {HIGH:g}]")
    return found


def spread(value: Any) -> float:
    """Return a standard deviation of ratings in [1, 5], NaN when it is missing.

    Raises:
        ValueError: It is no number, negative, or larger than ratings in [1, 5] can have.
    """
    found = number(value)
    # Two ratings at the ends: the sample's deviation is (HIGH - LOW) / sqrt(2), and never more.
    most = (HIGH - LOW) / math.sqrt(2)
    if not math.isnan(found) and not 0 <= found <= most + 1e-6:
        raise ValueError(f"lies outside [0, {most:.2f}], the spread of ratings in [1, 5]")
    return found


def raters(value: Any) -> float:
    """Return a number of raters, NaN when it is missing.

    Raises:
        ValueError: It is no whole number of at least 0.
    """
    found = number(value)
    if not math.isnan(found) and not (found >= 0 and math.isfinite(found) and found % 1 == 0):
        raise ValueError("is not a number of raters")
    return found


def severity(value: Any) -> float:
    """Return a severity in [0, 1], NaN when it is missing.

    Raises:
        ValueError: It is no number or lies elsewhere.
    """
    found = number(value)
    if not math.isnan(found) and not 0 <= found <= 1:
        raise ValueError("lies outside [0, 1]")
    return found


def text(value: Any) -> str | None:
    """Return a cell as text, None when it is empty, null or NaN. Whole floats lose their ``.0``."""
    if value is None or value != value:  # noqa: PLR0124 - NaN is a missing value
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def key_column(table: RawTable) -> str:
    """Return the column that says which video a row is about.

    Raises:
        TrainInputError: There is none.
    """
    for name in KEYS:
        if name in table.columns:
            return name
    have = ", ".join(_shown(name) for name in table.columns)
    raise TrainInputError(
        f"{table.where}: no column video_id or uri says which video a row is about (the columns "
        f"are: {have})"
    )


def key_of(cells: dict[str, Any], column: str, folder: str) -> str | None:
    """Return the id or the full address of a row's video, None when the cell is empty."""
    found = text(cells.get(column))
    if found is None or column == "video_id":
        return found
    if not scheme_of(found) and not found.startswith("/"):
        found = f"{folder}/{found}"
    return plain_uri(found)


def plain_uri(uri: str) -> str:
    """Return an address as features hold it: no credentials, local paths plain and normalised."""
    if scheme_of(uri) in ("file", "local"):
        uri = uri.split("://", 1)[1]
    return strip_credentials(uri) if scheme_of(uri) else os.path.normpath(uri)


# --- names of columns


def known_columns() -> tuple[str, ...]:
    """Return the columns that have a meaning of their own."""
    return (*KEYS, *(task + end for task in TASKS for end in ("", STD, RATERS)))


def slip(column: str, columns: list[str]) -> str | None:
    """Return what an unknown column was probably meant to be, None when it is just another one.

    ``overal`` and ``Overall`` mean ``overall``; ``overall_mos`` does when there is no ``overall``.
    """
    plain = column.strip().lower().replace("-", "_").replace(" ", "_")
    base, end = plain, ""
    for suffix in (STD, RATERS):
        if plain.endswith(suffix):
            base, end = plain.removesuffix(suffix), suffix
    close = difflib.get_close_matches(base, TASKS, 1, _CLOSE)
    if close:
        return close[0] + end
    for task in TASKS:
        for end, words in _SYNONYMS.items():
            meant = task + end
            if meant not in columns and plain in {f"{task}_{word}" for word in words}:
                return meant
    return None


def _shown(name: str) -> str:
    return display_text(repr(name), 60)
