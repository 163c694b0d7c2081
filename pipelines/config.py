"""One tree of settings from defaults, a YAML file and ``--set``, validated once at the door."""

import copy
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from model.config import Config
from pipelines.errors import UserInputError
from pipelines.uris import display_text

C = TypeVar("C", bound=Config)


class ConfigError(UserInputError):
    """A setting is wrong: where it stands, what is wrong with it, what is allowed."""


def load_config(
    kind: type[C],
    file: str | None,
    overrides: Iterable[str],
    *,
    base: str | Mapping[str, Any] | None = None,
) -> C:
    """Compose and validate a configuration.

    Args:
        kind: The root section.
        file: A YAML file with some of its keys, or None.
        overrides: ``a.b=value`` settings; the value is read as YAML.
        base: A YAML file, or settings, that ``file`` changes.

    Raises:
        ConfigError: With one line for each problem.
    """
    tree: dict[str, Any] = {}
    for layer in (base, file):
        if isinstance(layer, str):
            tree = _merged(tree, _read_yaml(layer))
        elif layer is not None:
            tree = _merged(tree, copy.deepcopy(dict(layer)))  # overrides change it in place
    for override in overrides:
        _apply(tree, override)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = error.errors()
        told = (_explain(kind, p) for p in problems if not _follows(p, problems))
        raise ConfigError("\n".join(told)) from None


def _read_yaml(file: str) -> dict[str, Any]:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text") from None
    try:
        tree = _parsed(text)
    except _TwiceError as twice:
        raise ConfigError(
            f"{file}: line {twice.line}: {twice.key} is given twice (first in line {twice.first}): "
            "keep one of them"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file}: is not YAML: {_yaml_problem(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: expected sections with settings, got {type(tree).__name__}")
    return tree


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one tree over another: sections are merged, values replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return result


class _TwiceError(Exception):
    """A section has a key twice, of which YAML readers silently drop the first."""

    def __init__(self, key: yaml.ScalarNode, first: yaml.ScalarNode) -> None:
        super().__init__(key.value)
        self.key = display_text(key.value)
        self.line, self.first = key.start_mark.line + 1, first.start_mark.line + 1


class _Loader(yaml.SafeLoader):
    """Reads YAML without keys that come twice."""

    # As the text is, before merge keys (<<) add what a section may override.
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        assert node is not None
        seen: dict[tuple[str, str], yaml.ScalarNode] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                first = seen.setdefault((key.tag, key.value), key)
                if first is not key:
                    raise _TwiceError(key, first)
        return node


def _parsed(text: str) -> Any:
    """Read YAML.

    Raises:
        yaml.YAMLError, _TwiceError: It is none, or a key comes twice.
        ValueError: A value is of no known form, such as the date 2026-13-45.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    problem = getattr(error, "problem", None) or "it ends too early"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected section.setting=value")
    try:
        value = _parsed(text)
    except _TwiceError as twice:
        raise ConfigError(f"--set {override}: {twice.key} is given twice: keep one") from None
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"--set {override}: the value is not YAML") from None
    node = tree
    for part in parts[:-1]:
        below = node.setdefault(part, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
        node = below
    old = node.get(parts[-1])
    both = isinstance(old, dict) and isinstance(value, dict)
    node[parts[-1]] = _merged(old, value) if both else value  # type: ignore[arg-type]


def _follows(problem: Any, problems: Iterable[Any]) -> bool:
    """Say whether a list is too short only because items of it are wrong, which is said already."""
    where = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > len(where) and other["loc"][: len(where)] == where for other in problems
    )


def _explain(kind: type[BaseModel], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
        # What is wrong with several settings together stands nowhere.
        place = f"{where}: " if where else ""
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] in ("model_type", "dict_type"):  # classes are nothing to a user
            message = "expected settings, each as name: value"
        return f"{place}{message}{given}"
    known = _known_keys(kind, problem["loc"][:-1])
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
    return f"{where}: there is no such setting; {hint}"


def _known_keys(kind: type[BaseModel], path: Iterable[Any]) -> list[str]:
    section: Any = kind
    for part in path:
        if isinstance(part, int):  # an item of a list of sections, found below already
            continue
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        if field is None:
            return []
        section = _section_of(field.annotation)
    return list(getattr(section, "model_fields", {}))


def _section_of(annotation: Any) -> Any:
    """Return the section inside ``Section | None`` or ``tuple[Section, ...]``."""
    for inner in get_args(annotation):
        if hasattr(found := _section_of(inner), "model_fields"):
            return found
    return annotation


def digest(value: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change whenever ``value`` does, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List where two trees differ, as ``a.b: old -> new``."""
    lines = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} -> {b!r}")
    return lines
