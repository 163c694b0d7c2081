"""Controlled damage in label tables: read, numbered, and what it harms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.tasks import TASKS
from pipelines.train_errors import TrainInputError
from pipelines.training.data import TrainData
from pipelines.training.data_report import told
from pipelines.training.labels import LabelsConfig, read_labels
from pipelines.training.variants import harms
from tests.pipelines.training.train_inputs import write_csv
from tests.pipelines.training.variant_tables import HARMS, rows_of, variant_data


def named(data: TrainData) -> dict[tuple[str, int], int]:
    """(video id, clip index) -> number of the clip."""
    index = data.index
    return {
        (index.videos[index.video[at]], int(index.clip_index[at])): number
        for number, at in enumerate(data.clips.tolist())
    }


def test_clips_know_their_content_type_severity_and_harm(tmp_path: Path) -> None:
    data = variant_data(tmp_path)
    found, at = data.labels.variants, named(data)
    assert found is not None
    content: dict[int, set[tuple[str, int]]] = {}
    types: dict[str, int] = {}
    for (video, clip), number in at.items():
        source, _, name = video.partition("/")
        content.setdefault(int(found.content[number]), set()).add((source, clip))
        kind = name.rstrip("0123456789")
        severity = found.severity[number]
        if kind == "combination":
            assert found.type[number] == -1
            assert np.isnan(severity)
            assert np.isnan(found.harm[number]).all()
        elif kind == "clean":
            assert (found.type[number], severity) == (-1, 0)
            assert (found.harm[number] == 0).all()
        else:
            assert types.setdefault(kind, int(found.type[number])) == found.type[number] >= 0
            assert severity == pytest.approx(int(name.removeprefix(kind)) / 1000)
            assert found.harm[number] == pytest.approx(HARMS[kind], abs=1e-3)
    assert all(len(clips) == 1 for clips in content.values())  # one source, one clip index
    assert len(content) == 6 * 2
    assert len(types) == len(set(types.values())) == 2


def test_targets_carry_it_to_the_loss(tmp_path: Path) -> None:
    data = variant_data(tmp_path)
    clips = np.array([3, 0, 20])
    found = data.labels.targets(clips).variants
    assert found is not None
    assert data.labels.variants is not None
    for name in ("content", "type", "severity", "harm"):
        np.testing.assert_array_equal(
            getattr(found, name).numpy(), getattr(data.labels.variants, name)[clips]
        )
    moved = data.labels.targets(clips).to("cpu").variants
    assert moved is not None
    assert moved.content.tolist() == found.content.tolist()


def test_spreads_of_raters_become_standard_errors(tmp_path: Path) -> None:
    def spread(row: dict[str, Any]) -> dict[str, Any]:
        clean = row["type"] == "clean"
        return {
            "overall_std": 0.6 if clean else "",
            "overall_n": 9 if row["source"] < "s03" else "",
        }

    data = variant_data(tmp_path, change=spread)
    error = data.labels.targets(np.arange(len(data.clips))).error
    assert error is not None
    for (video, _), number in named(data).items():
        assert np.isnan(error[number, :4].numpy()).all()
        own = float(error[number, TASKS.index("overall")])
        if "clean" in video:
            assert own == pytest.approx(0.2 if video < "s03" else 0.6)
        else:
            assert np.isnan(own)
    assert variant_data(tmp_path).labels.error is None


def test_a_table_that_lacks_a_column_knows_no_variants(tmp_path: Path) -> None:
    for name in ("source", "type", "severity"):
        rows = [{k: v for k, v in row.items() if k != name} for row in rows_of(1)]
        if name != "severity":
            rows = [{**row, "severity": "strong"} for row in rows]  # means something else there
        path = write_csv(tmp_path / "labels.csv", rows)
        assert read_labels(LabelsConfig(labels=str(path))).variants is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"severity": 1.2}, r"labels.csv: 1 problem\n  row 4, severity: '1.2' lies outside \[0, 1"),
        ({"severity": -0.5}, r"row 4, severity: '-0.5' lies outside \[0, 1\]"),
        ({"severity": "0,5"}, "row 4, severity: '0,5' is not a number; write a decimal point"),
        ({"source": ""}, "row 4: a severity, and no source"),
        ({"type": "", "source": None}, "row 4: a severity, and no source and no type"),
        ({"type": "clean"}, "row 4, severity: 0.6, and type is clean, which is 0"),
    ],
)
def test_wrong_cells_are_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    rows = rows_of(1)
    rows[2] |= change
    with pytest.raises(TrainInputError, match=says):
        read_labels(LabelsConfig(labels=str(write_csv(tmp_path / "labels.csv", rows))))


def test_what_may_be_missing(tmp_path: Path) -> None:
    rows = rows_of(1)
    rows[0]["severity"] = ""  # clean says it
    rows[1] |= {"severity": "", "source": "", "type": ""}  # of another origin
    table = read_labels(LabelsConfig(labels=str(write_csv(tmp_path / "labels.csv", rows))))
    assert table.variants is not None
    assert table.variants.severity[0] == 0
    assert np.isnan(table.variants.severity[1])
    assert table.variants.source[:2] == ["s00", None]


# --- what a type harms


def corpus(noise: float, sources: int = 40, seed: int = 0) -> tuple[Any, ...]:
    """One type at five severities and the clean video, which not every source has."""
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(sources), 6)
    severity = np.tile(np.linspace(0, 1, 6), sources)
    kind = np.where(severity > 0, 0, -1)
    level = rng.uniform(3.5, 5, sources)[source]
    values = level[:, None] - severity[:, None] * np.array([2.0, 0.4, 0.0])
    values += noise * rng.standard_normal(values.shape)
    values[rng.random(values.shape) < 0.15] = np.nan
    return source, kind, severity, values


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_harm_is_the_slope_of_least_squares_with_a_constant_for_each_source(noise: float) -> None:
    source, kind, severity, values = corpus(noise)
    found = harms(source, kind, severity, values)[0]
    for n in range(3):
        known = ~np.isnan(values[:, n])
        dummies = source[known, None] == np.arange(40)
        design = np.column_stack([severity[known], dummies.astype(float)])
        slope = np.linalg.lstsq(design, values[known, n], rcond=None)[0][0]
        assert found[n] == pytest.approx(0.0 if n == 2 else -slope, rel=1e-9)
    assert found[0] == pytest.approx(2, abs=0.3)


def test_noise_alone_is_seldom_taken_for_harm() -> None:
    """Two standard errors: about one in twenty, on either side."""
    found = np.array([harms(*corpus(0.8, 12, seed))[0] for seed in range(200)])
    assert 0.01 < (found[:, 2] != 0).mean() < 0.12
    assert (found[:, 0] > 1).mean() > 0.95


def test_harm_that_labels_cannot_tell_is_not_known() -> None:
    source = np.array([0, 0, 1, 2])
    kind = np.array([-1, 0, 1, 0])
    severity = np.array([0.0, 0.5, 0.5, 1.0])
    values = np.array([[4.5, np.nan], [3.5, 4.0], [2.0, 2.0], [1.0, 1.0]])
    found = harms(source, kind, severity, values)
    np.testing.assert_allclose(found, [[2.0, np.nan], [np.nan, np.nan]])


def test_only_the_training_split_says_what_is_harmed(tmp_path: Path) -> None:
    def later(row: dict[str, Any]) -> dict[str, Any]:
        test = row["split"] == "test"
        held_out = {"type": "held_out"} if test and row["type"] == "blur" else {}
        return {"audio_quality": 1.0, **held_out} if test else {}

    data = variant_data(tmp_path, change=later)
    told_of = data.report["variants"]
    assert told_of["sources"] == 6
    assert told_of["harms"]["noise"]["audio_quality"] == pytest.approx(3, abs=1e-3)
    assert told_of["harms"]["blur"]["audio_quality"] == 0
    assert set(told_of["harms"]["held_out"].values()) == {None}
    assert "of 6 clean videos, 3 types of damage; training shows no harm of 1 (held_out)" in told(
        data.report
    )


def test_noisy_labels_still_tell_what_is_harmed(tmp_path: Path) -> None:
    data = variant_data(tmp_path, sources=42, clips=1, label_noise=0.4)
    found = data.report["variants"]["harms"]
    for kind, expected in HARMS.items():
        for task, points in zip(TASKS, expected, strict=True):
            assert found[kind][task] == pytest.approx(points, abs=0.35)
            assert (found[kind][task] > 0.25) == (points > 0.25)
