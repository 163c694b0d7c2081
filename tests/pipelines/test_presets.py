"""The YAML files in configs/: they load, and the complete one states the real defaults."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import load_config
from pipelines.extract import ExtractConfig
from tests.support import ROOT

CORPUS = ["corpus.corpus=/videos"]


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_preset_loads(file: Path) -> None:
    load_config(ExtractConfig, str(file), CORPUS)


def test_the_complete_file_is_the_defaults() -> None:
    file = ROOT / "configs" / "extract.yaml"
    assert load_config(ExtractConfig, str(file), CORPUS) == load_config(ExtractConfig, None, CORPUS)


def test_the_complete_file_names_every_setting() -> None:
    written = yaml.safe_load((ROOT / "configs" / "extract.yaml").read_text())
    settings = load_config(ExtractConfig, None, CORPUS).model_dump(mode="json")

    def missing(have: Any, want: Any, prefix: str = "") -> list[str]:
        if not isinstance(want, dict):
            return []
        lines = []
        for key, value in want.items():
            name = f"{prefix}{key}"
            if key not in have:
                lines.append(name)
            else:
                lines += missing(have[key], value, f"{name}.")
        return lines

    assert missing(written, settings) == ["corpus.corpus", "corpus.suffixes"]
