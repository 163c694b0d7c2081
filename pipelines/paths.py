"""Paths below a corpus root: suffixes, ids, globs, and patterns that name generator and speaker."""

import re

MAGIC = re.compile(r"[*?\[]")
NAMES = ("generator", "speaker")
_PLACE = re.compile(r"\{([^{}]*)\}|\*\*/|\*\*|\*|\?")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Turn a path pattern into a regular expression over the path below the root.

    Raises:
        ValueError: A placeholder has an unknown name, or a brace has no partner.
    """
    if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", pattern)):
        raise ValueError(f"pattern {pattern!r}: a brace has no partner; write {{generator}}")
    parts, end, seen = [], 0, set[str]()
    for match in _PLACE.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        end = match.end()
        name = match.group(1)
        if name is None:
            simple = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
            parts.append(simple[match.group()])
        elif name not in NAMES:
            raise ValueError(
                f"pattern {pattern!r}: {{{name}}} is unknown; use {{generator}} and {{speaker}}"
            )
        else:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)")
            seen.add(name)
    parts.append(re.escape(pattern[end:]))
    return re.compile("".join(parts), re.DOTALL)


def split_glob(corpus: str) -> tuple[str, str]:
    """Split into the folder before the first wildcard and the glob below it."""
    first = MAGIC.search(corpus, corpus.find("://") + 3 if "://" in corpus else 0)
    assert first is not None
    cut = corpus.rfind("/", 0, first.start())
    return corpus[:cut] or "/", corpus[cut + 1 :]


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Turn a glob into a regular expression; ``**`` matches across folders."""
    parts = []
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL):
        simple = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token)
        if simple is None and len(token) > 1:
            inner = token[1:-1].replace("\\", "\\\\")
            simple = f"[{'^' + inner[1:] if inner.startswith('!') else inner}]"
        parts.append(simple or re.escape(token))
    return re.compile("".join(parts), re.DOTALL)


def storable(name: str) -> str:
    """Return a name that can be stored as UTF-8 whatever bytes the disk has."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case, without the dot."""
    base = name.rpartition("/")[2]
    return base.rpartition(".")[2].lower() if "." in base.lstrip(".") else ""


def stem_of(name: str) -> str:
    """Return a path without its suffix."""
    return name[: -len(suffix_of(name)) - 1] if suffix_of(name) else name


def id_of(name: str) -> str:
    """Return the video id of a path below the corpus root: without its suffix."""
    return stem_of(storable(name))
