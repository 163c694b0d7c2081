"""The manifest of jobs/degrade.py as a table, and what its rows show now."""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from actors.artefacts.chain import Chain, chain_digest, parse_chain
from pipelines.benchmarking.errors import BenchmarkInputError
from pipelines.corpus import local_version, with_version
from pipelines.storage import Store, strip_credentials
from pipelines.uris import display_text, scheme_of

if TYPE_CHECKING:
    import pyarrow as pa

NAME: Final = "manifest.parquet"
NEEDED: Final = ("video_id", "uri", "source", "type", "severity")


def read_table(store: Store) -> "pa.Table":
    """Read the manifest.

    Raises:
        BenchmarkInputError: It is none of jobs/degrade.py.
        StorageError: It cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(store.read_bytes(NAME)))
    except (pa.ArrowInvalid, OSError) as error:
        raise BenchmarkInputError(f"{store.display(NAME)} cannot be read: {error}") from None
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise BenchmarkInputError(
            f"{store.display(NAME)} has no column {', '.join(missing)}: --corpus is the output "
            "folder of jobs/degrade.py"
        )
    if not table.num_rows:
        raise BenchmarkInputError(f"{store.display(NAME)} has no rows")
    return table


def absolute(table: "pa.Table", base: str) -> "pa.Table":
    """Make addresses independent of the manifest's folder, those of donors too.

    Raises:
        BenchmarkInputError: A chain is no list of steps.
    """
    import pyarrow as pa

    def address(text: str) -> str:
        if scheme_of(text) or text.startswith("/"):
            return text
        return (
            f"{base.rstrip('/')}/{text}"
            if scheme_of(base)
            else os.path.normpath(
                os.path.join(base, text)  # noqa: PTH118 - keeps undecodable names
            )
        )

    def chain(text: str | None) -> str | None:
        if not text:
            return text
        try:
            steps = json.loads(text)
            return json.dumps(
                [
                    {**step, "donor": address(step["donor"])} if step.get("donor") else step
                    for step in steps
                ],
                separators=(",", ":"),
                ensure_ascii=False,
            )
        except (ValueError, AttributeError, TypeError):
            where = display_text(f"{strip_credentials(base)}/{NAME}")
            raise BenchmarkInputError(
                f"{where}: {display_text(str(text), 60)!r} is no chain of artefacts"
            ) from None

    def put(name: str, values: list[Any]) -> "pa.Table":
        place = table.schema.get_field_index(name)
        return table.set_column(place, name, pa.array(values, pa.string()))

    table = put("uri", [address(str(value)) for value in table["uri"].to_pylist()])
    for name in ("artefacts", "chain"):
        if name in table.column_names:
            table = put(name, [chain(value) for value in table[name].to_pylist()])
    return table


def contents_of(table: "pa.Table", addresses: list[str], base: str, where: str) -> Iterator[str]:
    """Yield what changes when a row shows something else: extraction's version of the video.

    Local files have no version in the manifest, or one that grows old: they are looked at, donors
    of sound too. Of what is remote, the manifest says what it was.

    Args:
        table: The manifest.
        addresses: Of the rows, absolute.
        base: Its folder, where the addresses of donors start.
        where: The manifest, for messages.

    Raises:
        BenchmarkInputError: A chain of artefacts cannot be applied; names the row.
    """
    chains = _column(table, "artefacts")
    versions = _column(table, "version")
    look = functools.cache(_look)  # many variants of one source
    for row, (address, text, said) in enumerate(zip(addresses, chains, versions, strict=True), 1):
        version = str(said or "") or look(address)
        if not text:
            yield version
            continue
        chain = tuple(with_version(step, base) for step in _parsed(text, row, where))
        yield f"{version}+{chain_digest(chain)}"


def _column(table: "pa.Table", name: str) -> list[object]:
    return table[name].to_pylist() if name in table.column_names else [None] * table.num_rows


def _look(address: str) -> str:
    if scheme_of(address):
        return ""
    try:
        return local_version(Path(address).stat())
    except OSError:
        return ""  # a failure of that video when it is opened


def _parsed(text: object, row: int, where: str) -> Chain:
    try:
        return parse_chain(str(text))
    except ValueError as error:
        raise BenchmarkInputError(
            f"{where}, row {row}: artefacts: {display_text(str(error), 300)} (such a manifest is "
            "written by jobs/degrade.py; make it again with this version)"
        ) from None
