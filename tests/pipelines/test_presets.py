"""The YAML files in configs/: they load, and the complete one states the real defaults."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import load_config
from pipelines.extract import ExtractConfig
from pipelines.training.config import PRESETS, TrainConfig, preset_file
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


TRAIN = ["features=/features", "labels.labels=/labels.csv"]
FAMILIES = {
    "standard": "cross_modal_encoder",
    "optimized": "cross_modal_encoder",
    "advanced": "dual_path",
    "cross_attention": "cross_attention",
}


def test_the_presets_of_training_are_those_of_the_specification() -> None:
    assert FAMILIES.keys() <= {path.stem for path in PRESETS.glob("*.yaml")}


@pytest.mark.parametrize("file", sorted(PRESETS.glob("*.yaml")), ids=lambda p: p.name)
def test_every_preset_of_training_loads_and_is_built(file: Path) -> None:
    import torch

    from model.evaluator import build_evaluator

    config = load_config(TrainConfig, None, TRAIN, base=preset_file(file.stem))
    assert config.evaluator.family == FAMILIES.get(file.stem, config.evaluator.family)
    with torch.device("meta"):
        evaluator = build_evaluator(
            config.evaluator, dict.fromkeys(config.evaluator.streams, 17), 3
        )
    assert evaluator.shared_parameters()


def test_what_is_set_wins_over_a_file_and_a_file_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("evaluator: {dropout: 0.3, layers: 2}\n")
    config = load_config(
        TrainConfig,
        str(tmp_path / "own.yaml"),
        [*TRAIN, "evaluator.layers=1"],
        base=preset_file("standard"),
    )
    assert (config.evaluator.width, config.evaluator.dropout, config.evaluator.layers) == (
        256,
        0.3,
        1,
    )
