"""Reasons below a table, and intervals beside its figures."""

from pipelines.report.html import Html, el, name_of, number


class Notes:
    """Reasons of one table: each is written once below it and referred to by a letter."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, reason: str) -> Html:
        """Return the reference to a reason."""
        count = len(self._letters)
        letter = self._letters.setdefault(reason, _letter(count))
        return el("sup", letter)

    def listed(self) -> Html:
        """Return the reasons, in order of first use."""
        if not self._letters:
            return Html("")
        items = [
            el("li", el("sup", letter), f" {name_of(reason, 500)}")
            for reason, letter in self._letters.items()
        ]
        return el("ol", *items, class_="notes")


def _letter(count: int) -> str:
    first = chr(ord("a") + count % 26)
    return first if count < 26 else f"{first}{count // 26}"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Write the ends of an interval."""
    return f"[{number(low, digits)}, {number(high, digits)}]"
