"""Expressions over the tables of scores: what may stand in them, which columns they read.

DuckDB's own parser reads the text; the tree that it gives is checked node by node, so that nothing
but one expression over the columns of a row gets through: no second statement, no subquery, no
function with effects.
"""

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.scoring.errors import ScoreInputError
from pipelines.selection_names import Column, Names
from pipelines.uris import display_text

if TYPE_CHECKING:
    import duckdb

# DuckDB's parser takes these for columns.
_CLOCK = ("current_date", "current_timestamp")
_LONGEST = 20_000  # characters of an expression
_NOWHERE = 2**63  # the parser gives nodes that it added itself no position

_STATEMENT = re.compile(
    r"\W*(alter|attach|call|copy|create|delete|detach|drop|export|from|import|insert|install|load|"
    r"merge|pragma|reset|select|set|table|update|use|with)\b",
    re.IGNORECASE,
)

_WHAT = {
    "SUBQUERY": "a subquery",
    "PARAMETER": "a parameter",
    "WINDOW": "a window function",
    "STAR": "*",
    "DEFAULT": "DEFAULT",
    "POSITIONAL_REFERENCE": "a column by its number",
}
_CLASSES = {
    *("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT"),
    *("FUNCTION", "LAMBDA", "OPERATOR", "TYPE"),
}


@dataclass(frozen=True, slots=True)
class Expression:
    """Checked SQL over quoted columns, and the columns that it reads, in order of appearance."""

    sql: str
    columns: tuple[Column, ...]


class Reader:
    """Turns texts into checked expressions.

    Args:
        con: An open connection, for its parser.
        names: The columns.
    """

    def __init__(self, con: "duckdb.DuckDBPyConnection", names: Names) -> None:
        self._con = con
        self._names = names
        self._words = _vocabulary()

    def condition(self, text: str) -> Expression:
        """Read a condition, as after WHERE.

        Raises:
            ScoreInputError: It is none, it may not be used here, or a column does not exist.
        """
        tree, source, start = self._parse("--where", "SELECT 1 WHERE (\n", text, "\n)")
        if tree["modifiers"] or tree["where_clause"] is None:
            raise _not_one("--where")
        return self._checked("--where", [tree["where_clause"]], source, start)

    def order(self, text: str) -> Expression:
        """Read what rows are sorted by, as after ORDER BY.

        Raises:
            ScoreInputError: As for :meth:`condition`.
        """
        tree, source, start = self._parse("--order-by", "SELECT 1 ORDER BY\n", text, "\n")
        modifiers = tree["modifiers"]
        if [m["type"] for m in modifiers] != ["ORDER_MODIFIER"] or tree["where_clause"] is not None:
            raise _not_one("--order-by")
        keys = [order["expression"] for order in modifiers[0]["orders"]]
        if any(key["class"] == "CONSTANT" for key in keys):
            raise ScoreInputError("--order-by: a constant sorts nothing: name a column")
        return self._checked("--order-by", keys, source, start)

    def columns(self, text: str) -> list[Column]:
        """Read a list of columns, each with ``as NAME`` if it shall be called otherwise.

        Raises:
            ScoreInputError: As for :meth:`condition`.
        """
        tree, _, _ = self._parse("--columns", "SELECT\n", text, "\n")
        if tree["modifiers"] or tree["where_clause"] is not None:
            raise _not_one("--columns")
        found = []
        for item in tree["select_list"]:
            if item["class"] != "COLUMN_REF":
                raise ScoreInputError("--columns: expected names of columns, with commas between")
            column = self._names.column(".".join(item["column_names"]))
            found.append(Column(item["alias"] or column.label, column.sql, column.needs))
        return found

    def _parse(self, option: str, before: str, text: str, after: str) -> tuple[Any, bytes, int]:
        """Return the tree of one plain SELECT, its source, and where ``text`` starts in it."""
        if not text.strip():
            raise ScoreInputError(f"{option}: is empty")
        if len(text) > _LONGEST or "\x00" in text:
            raise ScoreInputError(f"{option}: is longer than {_LONGEST} characters or holds a zero")
        first = _STATEMENT.match(text)
        if first is not None and first[1] not in self._names:
            raise _not_one(option)
        source = before + self._quote_reserved(text) + after
        ((answer,),) = self._con.execute("SELECT json_serialize_sql(?)", [source]).fetchall()
        try:
            tree = json.loads(answer)
        except RecursionError:
            raise ScoreInputError(f"{option}: is nested too deeply") from None
        if tree["error"]:
            raise ScoreInputError(self._parse_problem(option, tree, source, len(before)))
        nodes = [statement["node"] for statement in tree["statements"]]
        if len(nodes) != 1 or nodes[0]["type"] != "SELECT_NODE":
            raise _not_one(option)
        node = nodes[0]
        if (
            node["from_table"]["type"] != "EMPTY"
            or node["cte_map"]["map"]
            or any(node[k] for k in ("group_expressions", "having", "sample", "qualify"))
        ):
            raise _not_one(option)
        return node, source.encode(), len(before.encode())

    def _quote_reserved(self, text: str) -> str:
        """Quote columns that SQL has a word for: ``offset``."""
        import duckdb

        data, parts, done = text.encode(), [], 0
        for at, kind in duckdb.tokenize(text):
            word = re.match(rb"\w+", data[at:])
            if kind != duckdb.token_type.keyword or word is None:
                continue
            name = word.group().decode(errors="replace").lower()
            if name in self._words.reserved and name in self._names:
                parts += [data[done:at], b'"', word.group(), b'"']
                done = at + len(word.group())
        return b"".join([*parts, data[done:]]).decode()

    @staticmethod
    def _parse_problem(option: str, tree: Any, source: str, start: int) -> str:
        if tree.get("error_type") == "not implemented":  # other statements than SELECT
            return str(_not_one(option))
        message = display_text(str(tree.get("error_message", "not an expression")))
        at = int(tree.get("position") or start) - start
        rest = source.encode()[start + max(at, 0) :].decode(errors="replace").strip()
        if rest.startswith(";"):
            return str(_not_one(option))
        if at < 0 or not rest.removesuffix(")").strip():
            return f"{option}: {message}: it ends too early, or a bracket has no partner"
        return f"{option}: {message} (before: {display_text(rest.removesuffix(')').strip(), 60)})"

    def _checked(self, option: str, nodes: list[Any], source: bytes, start: int) -> Expression:
        """Check the nodes; put what reads a column in the place of its name."""
        try:
            found = [ref for node in nodes for ref in self._references(option, node, frozenset())]
        except RecursionError:
            raise ScoreInputError(f"{option}: is nested too deeply") from None
        found.sort(key=lambda ref: ref[0])
        parts, done, columns = [], start, dict[str, Column]()
        for at, length, name in found:
            column = self._names.column(name)
            columns.setdefault(column.label.lower(), column)
            parts += [source[done:at].decode(), column.sql]
            done = at + length
        end = len(source) - len(b"\n)" if option == "--where" else b"\n")
        text = "".join([*parts, source[done:end].decode()])
        return Expression(text, tuple(columns.values()))

    def _references(
        self, option: str, node: Any, bound: frozenset[str]
    ) -> Iterator[tuple[int, int, str]]:
        """Yield (position, length, name) of every column; refuse what may not be there."""
        if isinstance(node, list):
            for child in node:
                yield from self._references(option, child, bound)
        if not isinstance(node, dict):
            return
        kind = node.get("class")
        if kind is not None and kind not in _CLASSES:
            what = _WHAT.get(kind, str(kind).lower())
            raise ScoreInputError(f"{option}: {what} cannot be used here: {_EXPECTED}")
        if kind == "COLUMN_REF":
            path = node["column_names"]
            if path[0] in bound or (len(path) == 1 and path[0].lower() in _CLOCK):
                return
            if node["query_location"] >= _NOWHERE:
                raise ScoreInputError(f"{option}: {display_text(path[0], 60)} cannot be used here")
            yield node["query_location"], node["query_location_length"], ".".join(path)
            return
        if kind == "FUNCTION":
            self._check_function(option, node)
        if kind == "LAMBDA":
            bound |= set(_names_in(node["lhs"]))
            yield from self._references(option, node["expr"], bound)
            return
        for child in node.values():
            yield from self._references(option, child, bound)

    def _check_function(self, option: str, node: Any) -> None:
        path = node["qualified_name"]["path"]
        name = str(path[-1]).lower()
        shown = display_text(".".join(path), 60)
        if len(path) > 1:
            raise ScoreInputError(f"{option}: {shown}(…): write the function as {name}(…)")
        if name in self._words.over_rows:
            raise ScoreInputError(
                f"{option}: {shown} looks at several rows, an expression sees one: {_EXPECTED}"
            )
        if name in self._words.effects:
            also = " For a sample: hash(video_id) % 10 = 0." if name == "random" else ""
            raise ScoreInputError(
                f"{option}: {shown} has effects or a different answer each time: {_EXPECTED}.{also}"
            )


_EXPECTED = "expected one expression over the columns of a row"


def _not_one(option: str) -> ScoreInputError:
    return ScoreInputError(
        f"{option}: {_EXPECTED}, such as lip_sync > 3.5 and abs(offset) <= 2; other statements, "
        "tables and files are refused"
    )


def _names_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            yield from node["column_names"]
        for child in node.values():
            yield from _names_in(child)
    elif isinstance(node, list):
        for child in node:
            yield from _names_in(child)


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """Words of DuckDB, in lower case.

    Attributes:
        reserved: No column can be called so without quotes.
        effects: Functions that change something, or answer differently each time.
        over_rows: Functions of several rows.
    """

    reserved: frozenset[str]
    effects: frozenset[str]
    over_rows: frozenset[str]


@functools.cache
def _vocabulary() -> _Vocabulary:
    import duckdb

    con = duckdb.connect(":memory:")
    words = con.execute(
        "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    ).fetchall()
    functions = con.execute(
        "SELECT lower(function_name), function_type, has_side_effects FROM duckdb_functions()"
    ).fetchall()
    con.close()
    plain = {name for name, kind, _ in functions if kind in ("scalar", "macro")}
    return _Vocabulary(
        frozenset(word for (word,) in words),
        frozenset(name for name, _, effects in functions if effects and name in plain),
        frozenset(name for name, kind, _ in functions if kind in ("aggregate", "window")) - plain,
    )
