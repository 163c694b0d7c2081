"""Videos and virtual variants in one worker, one after the other."""

from pathlib import Path
from typing import BinaryIO

import pytest

from actors.features import FeaturesConfig
from actors.types import Row, Timings, VideoRef
from pipelines import processors
from pipelines.processors import VideoPreparer
from tests.talking import assert_same, talking_video

BLUR = '[{"type":"blur","severity":0.5,"seed":0}]'
COLUMNS = ("waveform", "landmarks", "frame_mask", "visual_crops")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preparer")
    talking_video(folder / "1.mp4", 26)
    talking_video(folder / "2.mp4", 26, "bruno")
    return folder


def test_sources_that_only_a_query_tells_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials are stripped with the query; what is shared must not go by what is left."""
    opened: list[str] = []

    def open_uri(uri: str) -> BinaryIO:
        opened.append(uri)
        return (folder / f"{uri[-1]}.mp4").open("rb")

    monkeypatch.setattr(processors, "open_uri", open_uri)
    preparer = VideoPreparer(FeaturesConfig())

    def rows(number: int, artefacts: str) -> Row:
        uri = f"https://host/get?id={number}"
        ref = VideoRef(f"{number}{artefacts}", uri, version="+0", source="s", artefacts=artefacts)
        with preparer.opened(ref, Timings(), lambda _: None) as video:
            (row,) = list(video.rows)
        return row

    plain = {number: rows(number, "") for number in (1, 2)}
    for number in (1, 2):
        assert_same(rows(number, "[]"), plain[number], COLUMNS)
        blurred = rows(number, BLUR)
        assert_same(blurred, plain[number], ("waveform",))
        assert blurred["visual_crops"].tobytes() != plain[number]["visual_crops"].tobytes()
    # Once each as a video, and once for all of its variants.
    assert opened == [f"https://host/get?id={n}" for n in (1, 2, 1, 2)]
