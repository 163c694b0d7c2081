"""Markdown in which text from outside stays text."""

import re
from collections.abc import Sequence

from pipelines.uris import display_text

_NOTHING = "\u200b"  # breaks an @channel without being seen


class Markup(str):
    """Text that is Markdown already, such as figures; everything else is escaped."""

    __slots__ = ()


def text(value: object) -> str:
    """Show text from outside: control characters visible, no character means markup.

    An ``@`` is followed by a space without width, so that it calls nobody.
    """
    if isinstance(value, Markup):
        return value
    shown = display_text(str(value), 300)
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", shown).replace("@", f"@{_NOTHING}")


def bullets(texts: Sequence[object]) -> list[str]:
    """Write a list, one line a text."""
    return [f"- {text(item)}" for item in texts]


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Write a table; the heads are ours, the cells text from outside unless they are markup."""
    if not rows:
        return ["(none)"]
    written = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return written + [f"| {' | '.join(text(cell) for cell in row)} |" for row in rows]


def code(value: object) -> str:
    """Show an external name as code; an ``@`` or ``<`` in it calls nobody.

    Not every chat leaves code alone: such a character is followed by a space without width.
    """
    shown = display_text(str(value), 200).replace("`", "'")
    return f"`{re.sub('([@<])', f'{chr(92)}1{_NOTHING}', shown)}`"
