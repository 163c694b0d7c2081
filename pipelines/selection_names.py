"""What the columns of the tables of scores may be called in expressions."""

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.scoring.errors import ScoreInputError
from pipelines.uris import display_text

if TYPE_CHECKING:
    import pyarrow as pa

# What people call columns -> the columns.
ALIASES = {
    "offset": "sync_offset",
    "confidence": "sync_confidence",
    "distance": "sync_distance",
    "version": "source_version",
}
# What is computed from columns -> (SQL, the columns).
COMPUTED = {
    "duration_s": ('("end_s" - "start_s")', ("end_s", "start_s")),
    "finding_kinds": ('list_transform("findings", lambda f: f.kind)', ("findings",)),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it was asked for.

    Attributes:
        label: As the user wrote it.
        sql: What reads it.
        needs: The columns of the table that this takes.
    """

    label: str
    sql: str
    needs: tuple[str, ...]


class Names:
    """What the columns of a table may be called.

    Fields of struct columns are columns of their own: ``descriptors.snr``, or ``snr`` where no
    other column is called so. Case does not matter.
    """

    def __init__(self, schema: "pa.Schema") -> None:
        import pyarrow as pa

        self.types: dict[str, pa.DataType] = {}  # of every column, fields of structs with a dot
        for item in schema:
            if pa.types.is_struct(item.type):
                self.types |= {f"{item.name}.{child.name}": child.type for child in item.type}
            else:
                self.types[item.name] = item.type
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._ambiguous: dict[str, list[str]] = {}
        for name in self.types:
            self._known[name.lower()] = (quoted(name), (name,))
        for alias, name in ALIASES.items():
            if name in self.types and alias not in self._known:
                self._known[alias] = (quoted(name), (name,))
        for name, (sql, needs) in COMPUTED.items():
            if set(needs) <= set(self.types) and name not in self._known:
                self._known[name] = (sql, needs)
        self._add_short_names()

    def _add_short_names(self) -> None:
        owners: dict[str, list[str]] = {}
        for name in self.types:
            if "." in name:
                owners.setdefault(name.partition(".")[2].lower(), []).append(name)
        for short, full in owners.items():
            if short in self._known:
                continue
            if len(full) == 1:
                self._known[short] = (quoted(full[0]), (full[0],))
            else:
                self._ambiguous[short] = full

    def __contains__(self, name: str) -> bool:
        """Say whether a column is called so."""
        return name.lower() in self._known

    def column(self, name: str) -> Column:
        """Look a name up.

        Raises:
            ScoreInputError: There is no such column (with the closest one), or there are several.
        """
        found = self._known.get(name.lower())
        if found is not None:
            return Column(name, *found)
        shown = display_text(name, 60)
        if name.lower() in self._ambiguous:
            which = " or ".join(self._ambiguous[name.lower()])
            raise ScoreInputError(f"{shown} is the name of several columns: write {which}")
        close = difflib.get_close_matches(name.lower(), self._known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ScoreInputError(
            f"there is no column {shown}: {hint}--columns-list prints what can be used"
        )

    def described(self) -> list[str]:
        """Return a line for each column: its name, its type, what else it may be called."""
        others: dict[str, list[str]] = {}
        for name, (_, needs) in self._known.items():
            if name not in COMPUTED and name != needs[0].lower():
                others.setdefault(needs[0], []).append(name)
        width = max(map(len, [*self.types, *COMPUTED])) + 2
        lines = [
            f"{name:{width}}{_type_name(kind):14}{', '.join(others.get(name, ()))}".rstrip()
            for name, kind in self.types.items()
        ]
        computed = {"duration_s": "double", "finding_kinds": "list of string"}
        lines += [f"{name:{width}}{computed[name]}" for name in COMPUTED if name in self._known]
        return lines


def _type_name(kind: "pa.DataType") -> str:
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type
        if pa.types.is_struct(inner):
            return f"list of ({', '.join(child.name for child in inner)})"
        return f"list of {_type_name(inner)}"
    return "bool" if pa.types.is_boolean(kind) else str(kind)


def quoted(name: str) -> str:
    """Write a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
