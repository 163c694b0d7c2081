"""TensorBoard's files, read by the format's own definition: framed records of protobuf events."""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.tasks import TASKS
from pipelines.storage import Store
from pipelines.training.tensorboard import TensorBoardLog, heat_map


def events_of(data: bytes) -> list[Any]:
    """Read records: length, its checksum, content, its checksum."""
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(part: bytes) -> int:
        crc = int(crc32c(part))
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    found, at = [], 0
    while at < len(data):
        head = data[at : at + 8]
        (length,) = struct.unpack("<Q", head)
        body = data[at + 12 : at + 12 + length]
        assert len(body) == length, "cut off"
        assert struct.unpack("<I", data[at + 8 : at + 12]) == (masked(head),)
        assert struct.unpack("<I", data[at + 12 + length : at + 16 + length]) == (masked(body),)
        found.append(Event.FromString(body))
        at += 16 + length
    return found


def scalars_of(events: list[Any]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events:
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def images_of(events: list[Any]) -> dict[str, Any]:
    return {v.tag: v.image for e in events for v in e.summary.value if v.HasField("image")}


def logged(folder: Path) -> list[Any]:
    (path,) = sorted((folder / "tensorboard").iterdir())
    return events_of(path.read_bytes())


def step_record(step: int, **more: Any) -> dict[str, Any]:
    record = {
        "step": step,
        "epoch": 0,
        "total": 2.0 / step,
        **{task: float(n) for n, task in enumerate(TASKS)},
        "consistency": 0.25,
        "weights": dict.fromkeys(TASKS, 0.5),
        "lr": {"trunk": 1e-3, "overall": 2e-3},
        "grad_norm": 3.0,
    }
    return record | more


def epoch_record(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "train": {"total": 1.5},
        "val": {"total": 1.25, "overall": None},
        "plcc": {"overall": 0.75, "lip_sync": None},
        "srcc": {"overall": 0.5},
        "monitor": 0.75,
    }


def test_what_is_logged_is_in_the_file(tmp_path: Path) -> None:
    log = TensorBoardLog(Store.at(tmp_path), "run-1")
    for step in (1, 2):
        log.step(step_record(step))
    log.epoch(epoch_record(2))
    log.correlations("validation_predictions", [[1.0] * 5, *([[None] * 5] * 4)], 2)
    log.publish()
    early = scalars_of(logged(tmp_path))  # complete records at any time
    log.close()
    events = logged(tmp_path)
    found = scalars_of(events)
    assert early == found
    assert found["loss/total"] == {1: 2.0, 2: 1.0}
    assert found["loss/overall"][2] == TASKS.index("overall")
    assert found["loss/consistency"] == {1: 0.25, 2: 0.25}
    assert found["weight/lip_sync"][1] == 0.5
    assert found["learning_rate/trunk"][1] == pytest.approx(1e-3)
    assert found["gradient/norm"][2] == 3.0
    assert found["epoch_loss/total"] == {2: 1.5}
    assert found["validation_loss/total"] == {2: 1.25}
    assert found["validation_plcc/overall"] == {2: 0.75}
    assert found["validation/monitor"] == {2: 0.75}
    # What is undefined is left out, not logged as a number.
    assert "validation_loss/overall" not in found
    assert "validation_plcc/lip_sync" not in found
    assert "loss/ranking" not in found
    (image,) = images_of(events).values()
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert (image.height, image.width) == heat_map(np.eye(5)).shape[1:]


def test_a_resumed_run_has_a_file_of_its_own_and_hides_what_comes_later(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    for run, begun in (("run-1", 0), ("run-2", 3)):
        log = TensorBoardLog(store, run, begun)
        log.step(step_record(begun + 1))
        log.close()
    first, second = sorted((tmp_path / "tensorboard").iterdir(), key=lambda p: p.suffix)
    assert (first.suffix, second.suffix) == (".run-1", ".run-2")
    started = [e for e in events_of(second.read_bytes()) if e.HasField("session_log")]
    assert [(e.session_log.status, e.step) for e in started] == [(1, 3)]  # START: purge from 3
    assert not [e for e in events_of(first.read_bytes()) if e.HasField("session_log")]


def test_the_local_folder_is_gone_at_the_end(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    log = TensorBoardLog(Store.at(tmp_path / "out"), "run")
    assert list((tmp_path / "tmp").iterdir())
    log.close()
    assert not list((tmp_path / "tmp").iterdir())


def test_the_heat_map_shows_sign_and_what_is_undefined() -> None:
    def colour(value: float) -> np.ndarray:  # type: ignore[type-arg]
        image = heat_map(np.full((5, 5), value)).astype(int)
        assert image.shape[0] == 3
        pixels = image.reshape(3, -1).T
        colours, count = np.unique(pixels, axis=0, return_counts=True)
        white = (colours == 255).all(axis=1)
        return np.asarray(colours[~white][np.argmax(count[~white])])

    red, blue, grey = colour(1.0), colour(-1.0), colour(math.nan)
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    assert grey.max() - grey.min() <= 1
    assert heat_map(np.eye(5)).dtype == np.uint8
