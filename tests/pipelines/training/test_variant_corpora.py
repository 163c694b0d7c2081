"""Corpora of controlled damage: splits, intervals and settings that follow from their labels."""

from pathlib import Path

import pytest

from actors.artefacts.registry import ARTEFACTS
from actors.types import VideoRef
from model.metrics_config import EvaluationConfig
from model.tasks import TASKS
from pipelines.config import ConfigError, load_config
from pipelines.degrading.config import DegradeConfig
from pipelines.degrading.plan import deal
from pipelines.degrading.tables import Made, labels
from pipelines.evaluate import evaluate, group_names
from pipelines.train_errors import TrainInputError
from pipelines.training.checks import check_streams
from pipelines.training.cleaning import CleaningConfig, clean
from pipelines.training.config import TrainConfig, preset_file
from pipelines.training.data import Candidates, training_data
from pipelines.training.labels import LabelsConfig, read_labels
from pipelines.training.matching import match
from pipelines.training.results import _by
from pipelines.training.splits import SplitsConfig, assign
from tests.pipelines.test_evaluate import planted
from tests.pipelines.training.train_inputs import index_of, write_csv
from tests.pipelines.training.variant_tables import rows_of, variant_data

GIVEN = ["features=/features", "labels.labels=/labels.csv"]


def test_the_table_of_degrade_is_ready(tmp_path: Path) -> None:
    """Read as it was written, with the harm that the artefacts declare and no content shared."""
    sources = [VideoRef(video_id=f"v{n}", uri=f"/x/v{n}.mp4") for n in range(12)]
    settings = {
        "corpus": {"corpus": "/x"},
        "artefacts": {"blur": {}, "noise": {}},
        "combinations": {"per_source": 1},
        "splits": {"shares": [0.5, 0.25, 0.25]},
    }
    plans = list(deal(sources, DegradeConfig.model_validate(settings)))
    made = [Made(variant) for plan in plans for variant in plan.variants]
    (tmp_path / "labels.csv").write_text(labels(made))
    table = read_labels(LabelsConfig(labels=str(tmp_path / "labels.csv")))
    uris = {one.variant.video_id: one.variant.source.uri for one in made}
    index = index_of(sorted(uris), uris=[uris[name] for name in sorted(uris)])
    videos = match(table, index)
    by_column = SplitsConfig(by="column", column="split")
    data = training_data(Candidates(videos, clean(videos, CleaningConfig())), by_column)
    assert not any("LEAK" in line for line in data.splits.warnings)
    for name, found in data.report["variants"]["harms"].items():
        declared = {task: ARTEFACTS[name].harms.get(task, 0.0) for task in TASKS[:4]}
        assert {t: found[t] for t in TASKS[:4]} == pytest.approx(declared, abs=1e-3)
        assert found["overall"] > 0
    assert data.labels.variants is not None
    assert len(set(data.labels.variants.content.tolist())) == 12 * 2


def test_a_split_by_source_keeps_variants_together(tmp_path: Path) -> None:
    by_source = SplitsConfig(by="source", shares=(0.5, 0.25, 0.25))
    data = variant_data(tmp_path, by_source, sources=24)
    side: dict[str | None, set[int]] = {}
    for source, code in zip(data.videos.sources, data.splits.code.tolist(), strict=True):
        side.setdefault(source, set()).add(code)
    assert {len(codes) for codes in side.values()} == {1}
    assert not any("LEAK" in line for line in data.splits.warnings)
    assert data.splits.groups == data.videos.sources


def test_variants_on_two_sides_are_a_leak(tmp_path: Path) -> None:
    data = variant_data(tmp_path, SplitsConfig(shares=(0.5, 0.25, 0.25)))
    leaks = [line for line in data.splits.warnings if line.startswith("LEAK")]
    assert len(leaks) == 3  # train and val, train and test, val and test
    assert "clean videos with train (variants of one content: s00, s01, s02)" in leaks[0]
    assert "by: source keeps them apart" in leaks[0]


def test_virtual_variants_share_an_address_and_a_side(tmp_path: Path) -> None:
    rows = rows_of(12)
    table = read_labels(LabelsConfig(labels=str(write_csv(tmp_path / "labels.csv", rows))))
    ids = sorted(row["video_id"] for row in rows)
    videos = match(table, index_of(ids, uris=[f"/x/{i.partition('/')[0]}.mp4" for i in ids]))
    kept = clean(videos, CleaningConfig())
    shares = (0.5, 0.25, 0.25)
    found = assign(videos, kept, SplitsConfig(by="source", shares=shares))
    assert {o.kind for o in found.overlaps} == {"generator"}  # here the type of damage
    with pytest.raises(TrainInputError, match=r"of a clean video together \(by: source"):
        assign(videos, kept, SplitsConfig(shares=shares))


def test_sources_without_known_damage_are_groups_like_others(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "severity"} for row in rows_of(6)]
    table = read_labels(LabelsConfig(labels=str(write_csv(tmp_path / "labels.csv", rows))))
    videos = match(table, index_of(sorted(row["video_id"] for row in rows)))
    found = assign(videos, clean(videos, CleaningConfig()), SplitsConfig(shares=(0.5, 0.25, 0.25)))
    assert not any("LEAK" in line for line in found.warnings)
    assert any("sources of test are also in train" in line for line in found.warnings)


def test_sources_are_needed_to_split_by_them(tmp_path: Path) -> None:
    with pytest.raises(
        TrainInputError, match="1 of 48 labelled videos have no source, such as s00"
    ):
        variant_data(
            tmp_path,
            SplitsConfig(by="source"),
            change=lambda row: (
                {"source": "", "severity": ""} if row["video_id"] == "s00/noise200" else {}
            ),
        )


def test_intervals_resample_sources_where_there_are_some(tmp_path: Path) -> None:
    data = variant_data(tmp_path)

    def by(*settings: str) -> str:
        return _by(load_config(TrainConfig, None, [*GIVEN, *settings]), data)

    assert by("splits.by=column", "splits.column=split") == "source"
    assert by("splits.by=source") == by() == "source"
    assert by("splits.by=speaker") == "speaker"
    plain = variant_data(tmp_path)
    object.__setattr__(plain.videos.labels, "variants", None)
    assert _by(load_config(TrainConfig, None, GIVEN), plain) == "video"


def test_sources_are_groups_of_the_bootstrap() -> None:
    predictions = planted()[1]
    videos = predictions.videos
    assert len(set(group_names(videos, "source"))) == len(videos)  # unknown: each its own
    videos.source.extend([f"s{n // 6}" for n in range(len(videos) - 2)] + [None, None])
    names = group_names(videos, "source")
    assert names[:7] == ["source s0"] * 6 + ["source s1"]
    assert names[-1] == f"video {videos.video_id[-1]}"
    metrics = evaluate(predictions, EvaluationConfig(rounds=50), "source")
    assert metrics["bootstrap"]["by"] == "source"


def test_the_preset_for_artefact_corpora() -> None:
    config = load_config(TrainConfig, None, GIVEN, base=preset_file("artefacts"))
    assert config.splits.by == "source"
    assert config.loss.consistency.weight == 0
    assert (config.loss.ranking.pairs, config.training.batches) == ("source", "by_source")
    assert config.loss.ranking.weight > 0
    assert config.loss.ranking.tie_weight > 0
    assert config.evaluator.aux


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["loss.ranking.pairs=source", "loss.ranking.weight=1"], "set training.batches: by_source"),
        (["training.batches=by_source", "training.batch_size=4"], "variants_together is 8"),
    ],
)
def test_settings_under_which_variants_never_meet(settings: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(TrainConfig, None, [*GIVEN, *settings])


def test_a_table_without_variants_is_refused_by_what_needs_them(tmp_path: Path) -> None:
    data = variant_data(tmp_path)
    object.__setattr__(data.labels, "variants", None)
    del data.videos.labels.extra["severity"]
    config = load_config(TrainConfig, None, GIVEN, base=preset_file("artefacts"))
    config = config.model_copy(
        update={"evaluator": config.evaluator.model_copy(update={"streams": (), "aux": False})}
    )
    with pytest.raises(
        TrainInputError,
        match=r"labels.csv: no column severity, which loss.ranking.pairs: source and "
        r"training.batches: by_source need: .*--set training.batches=shuffled",
    ):
        check_streams(config, data)
