"""What every artefact promises, seen through the reader that extraction and stored corpora use."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from actors.artefacts.artefact import PictureArtefact, SoundArtefact
from actors.artefacts.chain import Chain, Step
from actors.artefacts.registry import ARTEFACTS
from actors.artefacts.source import DamagedReader
from actors.artefacts.studio import Studio
from actors.errors import VideoError
from actors.features import FeaturesConfig
from actors.types import Frame, Sound, Timings
from tests.talking import talking_video, voice

COUNT = 27
# Nothing is drawn: the seed changes no value.
SAME_FOR_EVERY_SEED = {
    "band_limit", "blur", "clipping", "compression", "damped_mouth", "exaggerated",
    "flattened", "frozen_mouth", "low_resolution", "sound_codec",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("every")
    talking_video(folder / "a.mp4", COUNT)
    talking_video(folder / "donor.mp4", 26, "bruno")
    talking_video(folder / "silent.mp4", 26, audio=None)
    talking_video(folder / "late.mkv", COUNT, audio=voice(0.7), audio_start_s=0.1)
    talking_video(folder / "zeros.mp4", 26, audio=np.zeros(16_000, np.float32))
    grey = [np.full((96, 96, 3), 90 + i, np.uint8) for i in range(26)]
    talking_video(folder / "nobody.mp4", images=grey)
    return folder


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    made = Studio(FeaturesConfig(), local)
    yield made
    made.close()


def local(uri: str) -> BinaryIO:
    return Path(uri).open("rb")


def chain_of(folder: Path, name: str, severity: float, seed: int = 5) -> Chain:
    donor = str(folder / "donor.mp4") if ARTEFACTS[name].needs_donor else None
    return (Step(name, severity, seed, donor),)


def reader_of(studio: Studio, path: Path, chain: Chain) -> DamagedReader:
    return studio.read(str(path), str(path), chain, Timings())


def read(studio: Studio, path: Path, chain: Chain) -> tuple[list[Frame], Sound | None]:
    reader = reader_of(studio, path, chain)
    return list(reader.frames()), reader.sound()


def content(frames: list[Frame], sound: Sound | None) -> tuple[list[bytes], bytes]:
    images = [b"" if frame.image is None else frame.image.tobytes() for frame in frames]
    return images, b"" if sound is None else sound.samples.tobytes()


def without_image(frame: Frame) -> tuple[Any, ...]:
    return frame.ordinal, frame.time_s, frame.grid, frame.whole


each = pytest.mark.parametrize("name", ARTEFACTS)


@each
def test_through_the_reader(studio: Studio, folder: Path, name: str) -> None:
    path = folder / "a.mp4"
    clean_frames, clean_sound = read(studio, path, ())
    assert clean_sound is not None
    clean = content(clean_frames, clean_sound)
    assert content(*read(studio, path, chain_of(folder, name, 0.0))) == clean, "severity 0 is clean"

    frames, sound = read(studio, path, chain_of(folder, name, 0.8))
    assert sound is not None
    damaged = content(frames, sound)
    assert content(*read(studio, path, chain_of(folder, name, 0.8))) == damaged
    other = content(*read(studio, path, chain_of(folder, name, 0.8, seed=6)))
    assert (other == damaged) == (name in SAME_FOR_EVERY_SEED)

    assert [without_image(f) for f in frames] == [without_image(f) for f in clean_frames]
    for frame, was in zip(frames, clean_frames, strict=True):
        assert frame.image is not None
        assert was.image is not None
        assert (frame.image.shape, frame.image.dtype) == (was.image.shape, was.image.dtype)
    assert sound.samples.shape == clean_sound.samples.shape
    assert sound.samples.dtype == np.float32
    assert np.abs(sound.samples).max() <= 1
    assert (sound.start_s, sound.end_s) == (clean_sound.start_s, clean_sound.end_s)
    # One stream is damaged and the other one is the very same.
    artefact = ARTEFACTS[name]
    assert (damaged[0] != clean[0]) == isinstance(artefact, PictureArtefact)
    assert (damaged[1] != clean[1]) == isinstance(artefact, SoundArtefact)
    assert content(*read(studio, path, ())) == clean, "the source is as it was"


@each
def test_severity_zero_needs_neither_sound_nor_face_nor_donor(
    studio: Studio, folder: Path, name: str
) -> None:
    for video in ("silent.mp4", "nobody.mp4"):
        clean = content(*read(studio, folder / video, ()))
        donor = "/nowhere.mp4" if ARTEFACTS[name].needs_donor else None
        assert content(*read(studio, folder / video, (Step(name, 0.0, 1, donor),))) == clean


SOUND = [name for name, a in ARTEFACTS.items() if isinstance(a, SoundArtefact)]
FACE = [name for name, a in ARTEFACTS.items() if a.group == "face"]


@pytest.mark.parametrize("name", SOUND)
def test_a_source_without_sound_says_so(studio: Studio, folder: Path, name: str) -> None:
    reader = reader_of(studio, folder / "silent.mp4", chain_of(folder, name, 0.5))
    with pytest.raises(VideoError, match=f"no sound that {name} could act on") as error:
        reader.sound()
    assert error.value.reason == "no_sound"


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_of_zeros_is_no_sound(studio: Studio, folder: Path, name: str) -> None:
    """Nothing would be damaged, and the label would say that it was."""
    path = folder / "zeros.mp4"
    clean = reader_of(studio, path, ()).sound()
    assert clean is not None
    assert not clean.samples.any()
    with pytest.raises(VideoError) as error:
        reader_of(studio, path, chain_of(folder, name, 0.5)).sound()
    assert error.value.reason == "silent_sound"


@pytest.mark.parametrize("name", FACE)
def test_a_source_without_a_face_says_so(studio: Studio, folder: Path, name: str) -> None:
    reader = reader_of(studio, folder / "nobody.mp4", chain_of(folder, name, 0.5))
    with pytest.raises(VideoError) as error:
        list(reader.frames())
    assert error.value.reason == "no_face"
    assert reader.sound() is not None


@pytest.mark.parametrize("name", SOUND)
def test_what_only_fills_up_stays_silent(studio: Studio, folder: Path, name: str) -> None:
    clean = reader_of(studio, folder / "late.mkv", ()).sound()
    sound = reader_of(studio, folder / "late.mkv", chain_of(folder, name, 1.0)).sound()
    assert clean is not None
    assert sound is not None
    start, stop = round(clean.start_s * 16_000), round(clean.end_s * 16_000)
    assert start > 0
    assert stop < len(clean.samples)
    assert not sound.samples[:start].any()
    assert not sound.samples[stop:].any()
    assert sound.samples[start:stop].tobytes() != clean.samples[start:stop].tobytes()


def test_steps_act_in_order_and_each_on_its_stream(studio: Studio, folder: Path) -> None:
    path = folder / "a.mp4"
    noise, clip = chain_of(folder, "noise", 0.6), chain_of(folder, "clipping", 0.6)
    blur = chain_of(folder, "blur", 0.6)
    one = content(*read(studio, path, noise + clip + blur))
    two = content(*read(studio, path, clip + noise + blur))
    assert one[0] == two[0] == content(*read(studio, path, blur))[0]
    assert one[1] != two[1]
    assert one[1] == content(*read(studio, path, noise + clip))[1]
    assert content(*read(studio, path, noise + chain_of(folder, "clipping", 0.0))) == content(
        *read(studio, path, noise)
    )


@pytest.mark.parametrize(
    ("donor", "says"),
    [("silent.mp4", "has no sound"), ("broken.mp4", "cannot be read"), ("zeros.mp4", "silence")],
)
def test_donors_that_are_no_use_are_told(
    studio: Studio, folder: Path, donor: str, says: str
) -> None:
    (folder / "broken.mp4").write_bytes(b"no video at all")
    chain = (Step("foreign_sound", 1.0, 0, str(folder / donor)),)
    with pytest.raises(VideoError, match=says) as error:
        reader_of(studio, folder / "a.mp4", chain).sound()
    assert error.value.reason == "bad_donor"
    assert donor in error.value.message


def test_a_signed_link_of_a_donor_is_not_in_the_message(folder: Path) -> None:
    def open_file(uri: str) -> Any:
        return io.BytesIO(b"nothing") if "://" in uri else local(uri)

    studio = Studio(FeaturesConfig(), open_file)
    uri = "https://user:s3cret@host/d.mp4?X-Amz-Signature=SIGNATURE/x"
    with pytest.raises(VideoError) as error:
        reader_of(studio, folder / "a.mp4", (Step("foreign_sound", 1.0, 0, uri),)).sound()
    assert "d.mp4" in error.value.message
    assert "s3cret" not in error.value.message
    assert "SIGNATURE" not in error.value.message
    studio.close()


def test_a_source_with_a_broken_picture_is_refused_and_closed(folder: Path) -> None:
    data = bytearray((folder / "a.mp4").read_bytes())
    at = data.index(b"mdat") + 4
    data[at + 6000 : at + 9000] = bytes(3000)
    (folder / "torn.mp4").write_bytes(data)
    opened: list[Any] = []

    def open_file(uri: str) -> Any:
        opened.append(local(uri))
        return opened[-1]

    studio = Studio(FeaturesConfig(), open_file)
    for _ in range(3):  # variants: one look is enough
        with pytest.raises(VideoError):
            studio.read(str(folder / "torn.mp4"), "torn", (), Timings())
    assert [file.closed for file in opened] == [True]
    studio.read(str(folder / "a.mp4"), "a", (), Timings())
    studio.read(str(folder / "late.mkv"), "late", (), Timings())
    assert [file.closed for file in opened] == [True, True, False]
    studio.close()
    studio.close()
    assert all(file.closed for file in opened)
