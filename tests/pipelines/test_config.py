"""The door: every wrong setting gets one clear line."""

import re
from pathlib import Path
from typing import Annotated, Self

import pytest
from pydantic import Field, model_validator

from model.config import Config
from pipelines.config import ConfigError, differences, digest, load_config


class Inner(Config):
    hop_s: float = 6.0
    mode: str = "a"


class Root(Config):
    decode: Inner = Inner()
    count: int = Field(1, ge=1)
    shares: tuple[Annotated[float, Field(le=1)], ...] = Field((1.0,), min_length=1)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.count == 7 and self.decode.mode == "z":
            raise ValueError("count and mode do not go together")
        return self


def test_file_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("decode: {hop_s: 3}\ncount: 4\n")
    config = load_config(Root, str(file), ["decode.hop_s=1.5", "decode.mode=b"])
    assert config == Root(decode=Inner(hop_s=1.5, mode="b"), count=4)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("decode.hops=3", "decode.hops: there is no such setting; did you mean hop_s?"),
        ("zzz=3", "zzz: there is no such setting; known here: count, decode, shares"),
        ("count=0", "count: Input should be greater than or equal to 1"),
        ("count=many", "count: Input should be a valid integer"),
        ("count", "expected section.setting=value"),
        ("=1", "expected section.setting=value"),
        ("count.a=1", "count: Input should be a valid integer"),
        ("decode.mode=[", "the value is not YAML"),
    ],
)
def test_wrong_settings_are_explained(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s).*" + says.replace("?", r"\?").replace("[", r"\[")):
        load_config(Root, None, [override])


def test_several_problems_are_all_named() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Root, None, ["decode.hops=3", "count=0"])
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["count=7", "decode.mode=z"], "count and mode do not go together"),
        (["shares=[1.5]"], "shares.0: Input should be less than or equal to 1 (given: 1.5)"),
        (["shares=[]"], "shares: Tuple should have at least 1 item after validation, not 0"),
        (["decode=3"], "decode: expected settings, each as name: value (given: 3)"),
    ],
)
def test_a_problem_is_told_once_and_in_words_of_the_user(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Root, None, overrides)
    (line,) = str(error.value).splitlines()
    assert line.startswith(says)


@pytest.mark.parametrize(("text", "says"), [("- a", "expected sections"), ("a: [", "is not YAML")])
def test_wrong_files_are_explained(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_config(Root, str(file), [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "count: 1\ndecode: {hop_s: 3}\ncount: 2\n",
            "line 3: count is given twice (first in line 1)",
        ),
        (
            "decode:\n  hop_s: 3\n  mode: a\n  'hop_s': 3\n",
            "line 4: hop_s is given twice (first in",
        ),
        ("decode: {mode: a, mode: a}", "line 1: mode is given twice"),
        ("decode: {mode, mode}", "line 1: mode is given twice"),
        ("count: 2026-13-45", "is not YAML: month must be in 1..12"),
    ],
)
def test_a_key_that_comes_twice_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{file}: {says}")):
        load_config(Root, str(file), [])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("decode={mode: a, mode: b}", "mode is given twice"),
        ("count=2026-13-45", "the value is not YAML"),
    ],
)
def test_an_override_is_read_as_a_file_is(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--set {override}: {says}")):
        load_config(Root, None, [override])


def test_a_section_may_change_what_it_merges(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("decode: {<<: &base {hop_s: 3, mode: a}, <<: *base, mode: b}\n")
    assert load_config(Root, str(file), []).decode == Inner(hop_s=3, mode="b")


def test_missing_file_is_explained() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(Root, "/nonexistent/c.yaml", [])


def test_digest_ignores_order_and_notices_values() -> None:
    assert digest({"a": 1, "b": {"c": 2}}) == digest({"b": {"c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_differences_name_the_place() -> None:
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}}) == ["a.b: 1 -> 3", "c: 2 -> None"]
