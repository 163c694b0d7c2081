"""Videos or clips of scored corpora that meet a condition, as a manifest for other runs.

The table of scores is read through :mod:`pipelines.storage` and handed to DuckDB in memory: DuckDB
itself may reach neither the file system nor the network.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipelines.scoring.columns import clip_schema, video_schema
from pipelines.scoring.errors import ScoreInputError
from pipelines.selection_expression import Expression, Reader
from pipelines.selection_names import Column, Names, quoted
from pipelines.storage import MissingError, ObjectInfo, Store
from pipelines.uris import display_text

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Kind = Literal["videos", "clips"]

_PART = re.compile(r"(?:videos|clips)/run_date=([^/]+)/part-[^/]+\.parquet")
_AT_ONCE = 8  # parts that are read at the same time
_LISTINGS = 3  # a part that a run has just replaced is looked for so often
_BASE = {
    "uri": "uri",
    "video_id": "video_id",
    "generator": "generator",
    "speaker": "speaker",
    "version": "source_version",
}
_CLIP_BASE = {"clip_index": "clip_index", "start_s": "start_s", "end_s": "end_s"}


@dataclass(frozen=True, slots=True)
class Selection:
    """What a condition chose.

    Attributes:
        table: The manifest: uri, video_id, generator, speaker, version (and clip_index, start_s,
            end_s of clips), then the values asked for; in a stable order.
        rows: Videos or clips in the table of scores.
        matched: Of them, those that meet the condition, before ``limit``.
        missing: Column of the condition -> rows where it has no value.
        read_as: The condition over the columns' full names.
    """

    table: "pa.Table"
    rows: int
    matched: int
    missing: dict[str, int]
    read_as: str


def select(
    scores: str,
    where: str,
    *,
    kind: Kind = "videos",
    columns: str | None = None,
    order_by: str | None = None,
    limit: int | None = None,
) -> Selection:
    """Choose videos (or clips) by a condition over the columns of their scores.

    A comparison with a missing value is neither true nor false and chooses nothing; ask for
    ``… is null``.

    Args:
        scores: Output of a scoring run, a folder or bucket prefix.
        where: One SQL expression (DuckDB's dialect) that is true or false for a row.
        kind: Which table.
        columns: Values in the manifest, names with commas between; None: those that ``where`` and
            ``order_by`` read.
        order_by: What to sort by, as after ORDER BY; ties, and None, are sorted by the ids.
        limit: At most so many rows.

    Raises:
        ScoreInputError: There are no scores, or an expression cannot be used.
        StorageError: The scores cannot be read.
    """
    if limit is not None and limit < 0:
        raise ScoreInputError(f"--limit {limit}: expected 0 or more")
    store = Store.at(scores)
    parts = _parts(store, kind)
    names = Names(_schema(store, parts, kind))
    con = _connection()
    try:
        reader = Reader(con, names)
        condition = reader.condition(where)
        order = reader.order(order_by) if order_by is not None else None
        if columns is not None:
            extra = reader.columns(columns)
        else:
            extra = [*condition.columns, *(order.columns if order else ())]
        base = _BASE | (_CLIP_BASE if kind == "clips" else {})
        shown = _manifest_columns(base, extra, given=columns is not None)
        needs = {name for column in (*shown, *condition.columns) for name in column.needs}
        needs |= {name for column in (order.columns if order else ()) for name in column.needs}
        con.register("parts", _read(store, parts, kind, names, needs))
        by = order.sql if order else None
        return _run(con, shown, condition, order=by, limit=limit, kind=kind)
    finally:
        con.close()


def usable_columns(scores: str, kind: Kind = "videos") -> list[str]:
    """Return a line for each column that a condition may use: name, type, other names.

    Raises:
        ScoreInputError: There are no scores.
        StorageError: They cannot be read.
    """
    store = Store.at(scores)
    return Names(_schema(store, _parts(store, kind), kind)).described()


def _connection() -> "duckdb.DuckDBPyConnection":
    """Open DuckDB in memory, shut off from files, network, extensions and Python's variables."""
    import duckdb

    con = duckdb.connect(
        ":memory:",
        config={
            "enable_external_access": "false",
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": "",
        },
    )
    con.execute("SET lock_configuration = true")
    return con


def _parts(store: Store, kind: Kind) -> list[ObjectInfo]:
    """List the parts of a table, the oldest run first."""
    found = [
        (match[1], info.modified, info.name, info)
        for info in store.iter_objects(f"{kind}/run_date=")
        if (match := _PART.fullmatch(info.name))
    ]
    if not found:
        raise ScoreInputError(
            f"{store.display('')}: there are no scores ({kind}/run_date=…/part-….parquet): name "
            "the --out of a jobs/score.py that has ended"
        )
    return [info for *_, info in sorted(found, key=lambda item: item[:3])]


def _schema(store: Store, parts: list[ObjectInfo], kind: Kind) -> "pa.Schema":
    """Return the columns that the table has by contract, and those that the newest part has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    contract = video_schema() if kind == "videos" else clip_schema()
    fields = {item.name: item for item in contract}
    with store.open(parts[-1].name) as file:
        try:
            fields |= {item.name: item for item in pq.read_schema(file) if item.name not in fields}
        except pa.ArrowInvalid as error:
            raise _unreadable(store, parts[-1].name, error) from error
    fields["run_date"] = pa.field("run_date", pa.string())
    return pa.schema(list(fields.values()))


def _unreadable(store: Store, name: str, error: Exception) -> ScoreInputError:
    return ScoreInputError(
        f"{store.display(name)}: not a readable Parquet file: {display_text(str(error))}"
    )


def _read(
    store: Store, parts: list[ObjectInfo], kind: Kind, names: Names, needs: Iterable[str]
) -> "pa.Table":
    """Read columns of all parts: a flat table with the number of its part beside each row."""
    import pyarrow as pa

    wanted = {name: names.types[name] for name in sorted({"video_id", *needs})}
    for left in range(_LISTINGS - 1, -1, -1):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            jobs = [
                pool.submit(_read_part, store, info.name, number, wanted)
                for number, info in enumerate(parts)
            ]
            try:
                return pa.concat_tables([job.result() for job in jobs])
            except MissingError:  # a run that ends now has put the part's rows into another one
                if not left:
                    raise
        parts = _parts(store, kind)
    raise AssertionError("unreachable")


def _read_part(
    store: Store, name: str, number: int, wanted: dict[str, "pa.DataType"]
) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    match = _PART.fullmatch(name)
    assert match
    with store.open(name) as file:
        try:
            parquet = pq.ParquetFile(file)
            has = set(Names(parquet.schema_arrow).types)
            read = parquet.read(columns=[column for column in wanted if column in has])
        except pa.ArrowInvalid as error:
            raise _unreadable(store, name, error) from error
    columns: dict[str, Any] = {}
    for column, kind in wanted.items():
        if column == "run_date":
            columns[column] = pa.repeat(pa.scalar(match[1]), read.num_rows)
        elif column in has:
            columns[column] = _leaf(read, column).cast(kind)
        else:
            columns[column] = pa.nulls(read.num_rows, kind)
    columns["_part"] = pa.repeat(pa.scalar(number, pa.int32()), read.num_rows)
    return pa.table(columns)


def _leaf(table: "pa.Table", column: str) -> Any:
    """Return a column, or a field of a struct column; NaN is a missing value like null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    name, _, child = column.partition(".")
    values = table[column] if column in table.column_names else pc.struct_field(table[name], child)
    if pa.types.is_floating(values.type):  # to DuckDB, NaN is larger than any number
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return values


def _manifest_columns(base: dict[str, str], extra: list[Column], *, given: bool) -> list[Column]:
    shown = {label: Column(label, quoted(name), (name,)) for label, name in base.items()}
    for column in extra:
        label = column.label.lower()
        if label not in shown:
            shown[label] = column
        elif given and shown[label].sql != column.sql:
            raise ScoreInputError(
                f"--columns: the manifest has a column {display_text(column.label, 60)} already: "
                "choose another name with as"
            )
    return list(shown.values())


def _run(
    con: "duckdb.DuckDBPyConnection",
    shown: list[Column],
    condition: Expression,
    *,
    order: str | None,
    limit: int | None,
    kind: Kind,
) -> Selection:
    import duckdb

    # A run that was killed may leave a video in two parts until the next run: the newer one counts.
    con.execute(
        "CREATE TABLE scores AS FROM parts SEMI JOIN (SELECT video_id, max(_part) AS _part "
        "FROM parts GROUP BY video_id) USING (video_id, _part)"
    )
    # The texts are those that Reader has checked: expressions over quoted columns.
    where = f"({condition.sql}\n)"
    missing = [f"count(*) FILTER (WHERE {column.sql} IS NULL)" for column in condition.columns]
    counted = ", ".join(["count(*)", f"count(*) FILTER (WHERE {where})", *missing])
    by = ", ".join(filter(None, [order, "video_id", "clip_index" if kind == "clips" else ""]))
    most = "" if limit is None else f"LIMIT {limit}"
    listed = ", ".join(f"{column.sql} AS {quoted(column.label)}" for column in shown)
    chosen = f"SELECT * FROM scores WHERE {where} ORDER BY {by} {most}"  # noqa: S608
    try:
        gives = con.execute(f"DESCRIBE SELECT {where} FROM scores").fetchall()[0][1]  # noqa: S608
        if gives != "BOOLEAN":
            raise ScoreInputError(
                f"--where: gives {gives}, expected true or false: compare it with something"
            )
        rows, matched, *without = con.execute(f"SELECT {counted} FROM scores").fetchall()[0]  # noqa: S608
        # In two steps: a name that --columns gives must not stand for a column in the condition.
        found = con.sql(f"SELECT {listed} FROM ({chosen})").to_arrow_table()  # noqa: S608
    except duckdb.Error as error:
        raise ScoreInputError(_told(error)) from None
    counts = dict(zip((c.label for c in condition.columns), without, strict=True))
    return Selection(
        found, rows, matched, {name: n for name, n in counts.items() if n}, condition.sql.strip()
    )


def _told(error: Exception) -> str:
    """Return DuckDB's complaint without the statement around the user's words."""
    message = str(error).split("\n\nLINE ")[0].replace("\n", " ").strip()
    return f"the expression does not fit the columns: {display_text(message, 400)}"
