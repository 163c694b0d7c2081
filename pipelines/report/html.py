"""Markup that is escaped by construction: text becomes text, only :class:`Html` is markup."""

import html
import math
import re
from collections.abc import Iterable
from typing import Any

from pipelines.uris import display_text

# What neither HTML nor XML 1.0 may hold: control characters and lone surrogates.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VOID = frozenset({"br", "col", "hr", "img", "input", "meta"})
MINUS = "\u2212"
DASH = "\u2013"


class Html(str):
    """A string that is markup already; everything else is escaped when it enters a page."""

    __slots__ = ()


def escape(text: object) -> Html:
    """Escape ``text`` for element content and for quoted attributes."""
    if isinstance(text, Html):
        return text
    legal = _ILLEGAL.sub(lambda match: f"\\u{ord(match.group()):04x}", str(text))
    return Html(html.escape(legal, quote=True))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Escape the parts that are not markup and put them together."""
    return Html(separator.join(escape(part) for part in parts if part is not None))


def el(name: str, *children: object, **attributes: object) -> Html:
    """Build an element.

    Args:
        name: The element's name. It and the attributes' names are code, never external text.
        children: Markup is kept, other values are escaped, ``None`` is left out.
        attributes: ``class_`` means ``class``; ``_`` becomes ``-``; ``None`` and ``False``
            leave the attribute out, ``True`` gives it without a value; floats are rounded
            to 2 decimals.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def _value(value: object) -> str:
    if value is True:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return escape(value)


def name_of(text: object, limit: int = 80) -> str:
    """Show an external name: control characters and direction overrides become visible escapes."""
    return display_text(str(text), limit)


def isolated(text: object, limit: int = 80) -> Html:
    """Show an external name whose writing direction changes nothing around it (``<bdi>``)."""
    return el("bdi", name_of(text, limit))


def finite(value: Any) -> float | None:
    """Return ``value`` as a finite float, or ``None`` when it is missing, NaN or infinite."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def number(value: float, digits: int = 3) -> str:
    """Write a number with a proper minus sign; ``-0.000`` becomes ``0.000``."""
    text = f"{value:,.{digits}f}"
    if text.startswith("-"):
        bare = text[1:]
        return bare if not bare.strip("0.,") else MINUS + bare
    return text


def short_number(value: float) -> str:
    """Write a number of any size with up to four significant digits."""
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e9:
        return number(value, 0)
    if 1e-3 <= abs(value) < 1e6:
        digits = max(0, 3 - math.floor(math.log10(abs(value))))
        text = number(value, digits)
        return text.rstrip("0").rstrip(".") if "." in text else text
    return scientific(value)


def scientific(value: float) -> str:
    """Write a number as a mantissa of up to three digits and a power of ten."""
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".").replace("-", MINUS)
    return f"{mantissa}e{str(int(exponent)).replace('-', MINUS)}"
