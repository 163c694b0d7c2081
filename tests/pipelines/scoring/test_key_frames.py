import io
import multiprocessing
import socketserver
import threading
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import actors.key_frames
from actors.key_frames import stills
from pipelines.scoring import key_frames as module
from pipelines.scoring.key_frames import key_frames
from tests.media import counting_images, noise_images, read_count, write_video


def picture(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def counted(path: Path, times: list[float], **options: float) -> list[int]:
    with path.open("rb") as file:
        found = stills(file, times, **options)
    assert [still.time_s for still in found] == times
    assert all(still.reason == "" for still in found)
    return [read_count(picture(still.jpeg)) for still in found]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A key frame each second: the seeks of a 10 s video land somewhere.
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_video(path, counting_images(250), codec_options={"g": "25", "bf": "2"})


def test_the_picture_is_the_one_nearest_in_time(film: Path) -> None:
    times = [9.8, 0.0, 3.095, 3.105, 7.0, 7.04, 4.2]
    assert counted(film, times) == [245, 0, 77, 78, 175, 176, 105]


@pytest.mark.parametrize("name", ["film.avi", "film.mkv", "film.ts"])
def test_every_container_gives_the_same_pictures(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    options = {"g": "12", "qscale": "2"} if codec == "mpeg4" else {"g": "12"}
    path = write_video(tmp_path / name, counting_images(200), codec=codec, codec_options=options)
    assert counted(path, [0.4, 4.4, 7.6]) == [10, 110, 190]


@pytest.mark.parametrize("fault", ["lands too late", "fails"])
def test_a_seek_that_misleads_is_made_up_for_by_reading_on(
    film: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    seeks = []

    class Misleading:
        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def seek(self, offset: int, *, stream: Any, **more: Any) -> None:
            seeks.append(offset)
            if fault == "fails":
                raise av.FFmpegError(1, "no index")
            late = offset + round(3 / stream.time_base)
            self._container.seek(late, stream=stream, **more)

    opened = actors.key_frames.open_container
    monkeypatch.setattr(
        actors.key_frames, "open_container", lambda *a, **k: Misleading(opened(*a, **k))
    )
    assert counted(film, [5.0, 5.4]) == [125, 135]
    assert len(seeks) == 1


def test_times_count_from_the_first_picture_and_the_last_one_stands_in_beyond(
    tmp_path: Path,
) -> None:
    times = [2.0 + i / 25 for i in range(60)]
    path = write_video(tmp_path / "late.mkv", counting_images(60), times=times)
    assert counted(path, [0.0, 1.0, 99.0]) == [0, 25, 59]


def test_pictures_are_upright_small_and_never_enlarged(tmp_path: Path) -> None:
    large = write_video(tmp_path / "large.mp4", noise_images(3, (640, 360)))
    turned = write_video(tmp_path / "turned.mp4", noise_images(3, (640, 360)), rotation=90)
    small = write_video(tmp_path / "small.mp4", noise_images(3))
    shapes = []
    for path in (large, turned, small):
        with path.open("rb") as file:
            shapes.append(picture(stills(file, [0.04])[0].jpeg).shape[:2])
    assert shapes == [(180, 320), (320, 180), (48, 64)]


def test_colours_are_not_swapped(tmp_path: Path) -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 220
    path = write_video(tmp_path / "red.mp4", [red] * 3)
    with path.open("rb") as file:
        blue_green_red = picture(stills(file, [0.0])[0].jpeg).mean(axis=(0, 1))
    assert blue_green_red[2] > 180
    assert blue_green_red[:2].max() < 40


@pytest.mark.parametrize("what", ["empty", "text", "no index"])
def test_a_broken_file_gives_reasons(film: Path, what: str) -> None:
    whole = film.read_bytes()
    data = {"empty": b"", "text": b"hello " * 99, "no index": whole[: len(whole) // 3]}[what]
    found = stills(io.BytesIO(data), [0.0, 1.0])
    assert [still.jpeg for still in found] == [b"", b""]
    assert all(len(still.reason) > 10 for still in found)


def test_what_was_decoded_before_the_storage_failed_is_kept(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mkv", noise_images(100, (160, 120)))
    data = path.read_bytes()

    class Flaky(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > len(data) // 2:
                raise ConnectionError("gone")
            return super().read(size)

    first, last = stills(Flaky(data), [0.2, 3.8])
    assert first.jpeg
    assert last.jpeg == b""
    assert "ConnectionError" in last.reason


def test_time_that_is_up_is_a_reason(film: Path) -> None:
    with film.open("rb") as file:
        [still] = stills(file, [1.0], seconds=-1.0)
    assert still.jpeg == b""
    assert "too long" in still.reason


def test_a_process_decodes_and_missing_files_are_reasons(film: Path, tmp_path: Path) -> None:
    found = key_frames(
        [("a", str(film), [2.0, 1.0]), ("gone", str(tmp_path / "no.mp4"), [0.5]), ("none", "x", [])]
    )
    assert [read_count(picture(frame.jpeg)) for frame in found["a"]] == [50, 25]
    assert [frame.time_s for frame in found["a"]] == [2.0, 1.0]
    assert [frame.jpeg for frame in found["gone"]] == [b""]
    assert "does not exist" in found["gone"][0].reason
    assert found["none"] == []
    assert multiprocessing.active_children() == []


def test_a_hanging_and_a_crashing_decoder_cost_their_video_only(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.5)
    asked: list[bytes] = []

    class Silent(socketserver.BaseRequestHandler):
        """Ends who asks for /crash as a fault in a decoder would; others wait for ever."""

        def handle(self) -> None:
            asked.append(self.request.recv(1000).split()[1])
            if asked[-1] == b"/crash.mp4":
                [child] = multiprocessing.active_children()
                child.kill()
            self.request.recv(1)  # until the other side is gone

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        host = f"http://127.0.0.1:{server.server_address[1]}"
        found = key_frames(
            [
                ("first", str(film), [0.4]),
                ("hanging", f"{host}/hang.mp4", [1.0]),
                ("crashing", f"{host}/crash.mp4", [1.0, 2.0]),
                ("last", str(film), [0.8]),
            ],
            video_seconds=8.0,
        )
        server.shutdown()
    assert {b"/hang.mp4", b"/crash.mp4"} == set(asked)
    assert read_count(picture(found["first"][0].jpeg)) == 10
    assert read_count(picture(found["last"][0].jpeg)) == 20
    assert "did not end in time" in found["hanging"][0].reason
    assert ["crashed" in frame.reason for frame in found["crashing"]] == [True, True]
    assert multiprocessing.active_children() == []


def test_no_time_at_all_gives_every_video_its_reason(film: Path) -> None:
    found = key_frames([("a", str(film), [1.0]), ("b", str(film), [])], seconds=0.0)
    assert "no time was left" in found["a"][0].reason
    assert found["b"] == []
