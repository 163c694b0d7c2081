"""Extractors on prepared clips: what each reads and adds, and that company changes nothing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from actors.encode import Encoder, backbone_stages, cpu_stages
from actors.features import MODALITIES, FeaturesConfig
from actors.prepare import ADDS, Preparer
from actors.row import COLUMNS, check, stored_columns
from actors.types import Row, Timings
from tests.talking import assert_same, prepared, seeded_settings, talking_video

SHARED = {"measures"}  # whichever of its two users runs first leaves it for the other
ADDED = ("visual", "audio", "sync", "sync_reason", "action_units", "lowlevel", "descriptors")


class Recording(dict[str, Any]):
    """A row that notes which columns are read and written."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.read: set[str] = set()
        self.written: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.written.add(key)
        super().__setitem__(key, value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        self.written.add(key)
        return super().setdefault(key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.written.update(dict(*args, **kwargs))
        super().update(*args, **kwargs)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """A talking face, another without sound, and one that is half black."""
    folder = tmp_path_factory.mktemp("encode")
    preparer = Preparer(FeaturesConfig())
    images = [np.zeros((320, 320, 3), np.uint8)] * 26
    videos = [
        talking_video(folder / "a.mp4", 27),
        talking_video(folder / "b.mp4", 26, "bruno", audio=None),
        talking_video(folder / "c.mp4", images=images),
    ]
    return [row for path in videos for row in prepared(preparer, path)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _encode(encoder: Encoder, rows: list[Row]) -> list[Row]:
    return encoder([dict(row) for row in rows], Timings(), lambda _: None)


@pytest.fixture(scope="module")
def together(seeded_encoder: Encoder, clips: list[Row]) -> list[Row]:
    return _encode(seeded_encoder, clips)


def test_stages_read_what_they_need_and_write_what_they_add(
    seeded_encoder: Encoder, clips: list[Row]
) -> None:
    available = set(ADDS)
    rows = [Recording(row) for row in clips]
    read: dict[str, set[str]] = {stage.name: set() for stage in seeded_encoder.stages}
    for stage in seeded_encoder.stages:
        assert set(stage.needs) | set(stage.adds) <= set(COLUMNS), stage.name
        assert set(stage.needs) <= available, f"{stage.name} runs before what it needs"
        for row in rows:
            row.read.clear()
            row.written.clear()
        rows = [stage([row])[0] for row in rows]  # type: ignore[misc]
        for row in rows:
            read[stage.name] |= row.read
            assert set(stage.adds) <= row.written <= set(stage.adds) | SHARED, stage.name
            check(row, tuple(stage.adds))
        assert read[stage.name] <= set(stage.needs) | set(stage.adds) | SHARED, stage.name
        available |= set(stage.adds)
    unused = {s.name: set(s.needs) - read[s.name] for s in seeded_encoder.stages}
    assert unused["descriptors"] <= read["lowlevel"], "it finds the measures that were left for it"
    assert not any(left for name, left in unused.items() if name != "descriptors"), unused


def test_each_stage_works_from_its_needs_alone(seeded_encoder: Encoder, clips: list[Row]) -> None:
    whole = dict(clips[0])
    for stage in seeded_encoder.stages[3:]:
        bare = {name: whole[name] for name in stage.needs}
        made = stage([bare])[0]
        assert_same(made, stage([dict(whole)])[0], tuple(stage.adds))


def test_all_stored_columns_come_out(seeded_encoder: Encoder, together: list[Row]) -> None:
    identity = {"video_id", "uri", "source_version", "generator", "speaker"}
    provenance = {"fingerprint", "extractors", "weights", "code_version", "demonstration"}
    for row in together:
        check(row, tuple(n for n in stored_columns() if n not in identity | provenance))
    assert {s.name for s in seeded_encoder.stages} | {"landmarks"} == set(MODALITIES)


def test_what_is_missing_is_masked_with_its_reason(together: list[Row]) -> None:
    talking, mute, black = together
    assert talking["sync_reason"] is None
    assert np.isfinite(talking["sync"]).all()
    assert np.isfinite(talking["visual"][:27].astype(float)).all()
    assert not talking["visual"][27:].any()  # padding
    assert talking["audio"][:27].any(axis=1).all()
    assert not talking["audio"][27:].any()
    assert mute["sync_reason"] == "no_sound"
    assert np.isnan(mute["sync"]).all()
    assert not mute["audio"].any()
    assert np.isfinite(mute["visual"][:26].astype(float)).all()
    assert black["sync_reason"] == "no_face"
    assert np.isnan(black["visual"][:26]).all()
    assert not black["visual"][26:].any()
    assert black["audio"][:26].any()


def test_same_bits_in_a_batch_in_another_order_and_alone_from_read_only_arrays(
    seeded_encoder: Encoder, clips: list[Row], together: list[Row]
) -> None:
    turned = _encode(seeded_encoder, clips[::-1])[::-1]
    for row, left, right in zip(clips, together, turned, strict=True):
        frozen = dict(row)  # as Ray hands rows over
        for name, value in frozen.items():
            if isinstance(value, np.ndarray):
                frozen[name] = value.copy()
                frozen[name].flags.writeable = False
        (alone,) = _encode(seeded_encoder, [frozen])
        assert_same(alone, left, ADDED)
        assert_same(alone, right, ADDED)


def test_seconds_and_signs_of_life_of_each_stage(seeded_encoder: Encoder, clips: list[Row]) -> None:
    timings, heard = Timings(), list[str]()
    seeded_encoder([dict(clips[2])], timings, heard.append)
    names = [stage.name for stage in seeded_encoder.stages]
    assert heard == names
    assert set(timings.seconds) == set(names)


def test_provenance(seeded_encoder: Encoder) -> None:
    assert set(seeded_encoder.weights) == {"visual", "audio", "sync"}
    assert all(digest.startswith("seeded-") for digest in seeded_encoder.weights.values())
    assert seeded_encoder.demonstration
    assert set(seeded_encoder.notes) == {"visual", "audio", "sync"}


def test_a_slim_run_loads_nothing_that_it_does_not_need() -> None:
    config = seeded_settings(modalities=("landmarks", "action_units"))
    assert backbone_stages(config, "cpu", 1) == []
    assert [stage.name for stage in cpu_stages(config)] == ["action_units"]
    encoder = Encoder(cpu_stages(config))
    assert encoder.weights == {}
    assert encoder.demonstration is False
