"""Columns of the label table that say what was done to a clean video: source, type, severity."""

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.training.label_file import Problems, RawTable, severity, text
from pipelines.uris import display_text

F64: TypeAlias = NDArray[np.float64]

SOURCE: Final = "source"
VARIANT_COLUMNS: Final = (SOURCE, "type", "severity")
CLEAN: Final = "clean"


@dataclass(frozen=True, slots=True)
class VariantTable:
    """What is known of the damage of V videos, in the order of the label table.

    Attributes:
        source: [V] the clean video that each was made of, None unknown.
        type: [V] name of its damage, None unknown; ``clean`` where there is none.
        severity: [V] in [0, 1], 0 for clean videos; NaN unknown, as for combinations.
    """

    source: list[str | None]
    type: list[str | None]
    severity: F64


def read_variants(table: RawTable, problems: Problems) -> VariantTable | None:
    """Read the three columns; None when the table lacks one of them, so that others are just text.

    Args:
        table: The label table.
        problems: Hears of severities outside [0, 1], of severities without a source or type, and of
            damaged clean videos.
    """
    if not set(VARIANT_COLUMNS) <= set(table.columns):
        return None
    sources, types, found = [], [], np.full(len(table.rows), math.nan)
    for v, (row, cells) in enumerate(table.rows):
        source, kind = text(cells.get(SOURCE)), text(cells.get("type"))
        sources.append(source)
        types.append(kind)
        value = cells.get("severity")
        try:
            found[v] = severity(value)
        except ValueError as error:
            problems.add(f"row {row}, severity: {display_text(repr(value), 40)} {error}")
            continue
        if kind == CLEAN:
            if found[v] > 0:
                problems.add(f"row {row}, severity: {found[v]:g}, and type is {CLEAN}, which is 0")
            found[v] = 0.0
        lacking = [name for name, cell in ((SOURCE, source), ("type", kind)) if cell is None]
        if lacking and not math.isnan(found[v]):
            problems.add(f"row {row}: a severity, and no {' and no '.join(lacking)}")
    return VariantTable(sources, types, found)
