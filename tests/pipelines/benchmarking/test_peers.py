"""Peers on a talking face with planted damage, and virtual variants as real files.

The drawn face and voice are no benchmark of a peer: what is checked is that each runs, that higher
is better, and that damage it must see moves it. Those that are not installed are skipped.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.decode import DecodeConfig, VideoReader
from pipelines.benchmarking import peer_picture, peer_sound
from pipelines.benchmarking.making import VariantMaker
from pipelines.benchmarking.peers import PEERS, missing
from tests.media import write_video
from tests.talking import faces, talking_video

FRAMES = 50


def installed(name: str) -> Callable[..., Any]:
    lacking = missing(PEERS[name])
    return pytest.mark.skipif(bool(lacking), reason=f"not installed: {', '.join(lacking)}")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking_video(tmp_path_factory.mktemp("peers") / "clean.mp4", FRAMES)


@pytest.fixture(scope="module")
def made(clean: Path) -> dict[str, Path]:
    """Virtual variants as files, asked for by two threads at once."""
    chains = {
        "noise": '[{"type":"noise","severity":0.8,"seed":1}]',
        "blur": '[{"type":"blur","severity":0.8,"seed":1}]',
        "slight": '[{"type":"blur","severity":0.2,"seed":1}]',
    }
    with VariantMaker() as make, ThreadPoolExecutor(2) as pool:

        def one(name: str) -> Path:
            path = clean.with_name(f"{name}.mov")
            row = {"source": "s", "uri": str(clean), "version": "1", "artefacts": chains[name]}
            make(row, path)
            return path

        return dict(zip(chains, pool.map(one, chains), strict=True))


def read(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    with path.open("rb") as file, VideoReader(file, DecodeConfig()) as reader:
        images = [frame.image for frame in reader.frames()]
        sound = reader.sound()
    assert sound is not None
    return images, sound.samples  # type: ignore[return-value]


def test_a_made_file_holds_the_damage_and_nothing_else(clean: Path, made: dict[str, Path]) -> None:
    images, samples = read(clean)
    noisy_images, noisy = read(made["noise"])
    np.testing.assert_array_equal(noisy_images, images)
    assert np.abs(noisy - samples).max() > 0.01
    blurred, same = read(made["blur"])
    np.testing.assert_array_equal(same, samples)
    detail = [float(np.abs(np.diff(v.astype(int), axis=0)).mean()) for v in (images[0], blurred[0])]
    assert detail[1] < 0.8 * detail[0]


@installed("sharpness")
def test_sharpness_falls_with_blur_and_hears_nothing(clean: Path, made: dict[str, Path]) -> None:
    found = {name: peer_picture.sharpness(str(path)) for name, path in made.items()}
    reference = peer_picture.sharpness(str(clean))
    assert found["blur"] < found["slight"] < reference
    assert found["noise"] == reference


@installed("ssim")
def test_ssim_is_1_for_equal_pictures(clean: Path, made: dict[str, Path]) -> None:
    found = {n: peer_picture.ssim(str(path), str(clean)) for n, path in made.items()}
    assert found["noise"] == pytest.approx(1)
    assert found["blur"] < found["slight"] < 1


@installed("brisque")
def test_brisque_sees_blur(clean: Path, made: dict[str, Path]) -> None:
    assert peer_picture.brisque(str(made["blur"])) < peer_picture.brisque(str(clean))
    assert peer_picture.brisque(str(clean)) < 50


@installed("stoi")
def test_stoi_hears_noise(clean: Path, made: dict[str, Path]) -> None:
    assert peer_sound.stoi(str(clean), str(clean)) == pytest.approx(1, abs=1e-3)
    assert peer_sound.stoi(str(made["noise"]), str(clean)) < 0.98


@installed("pesq")
def test_pesq_hears_noise(clean: Path, made: dict[str, Path]) -> None:
    assert peer_sound.pesq(str(clean), str(clean)) > 4.5
    assert peer_sound.pesq(str(made["noise"]), str(clean)) < 3


@installed("dnsmos")
def test_dnsmos_hears_noise(clean: Path, made: dict[str, Path]) -> None:
    assert peer_sound.dnsmos(str(made["noise"])) < peer_sound.dnsmos(str(clean))


def test_a_video_without_sound_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "mute.mp4", faces(25))
    with pytest.raises(ValueError, match="no sound"):
        peer_sound.sound_of(str(path))


@installed("stoi")
def test_a_silent_reference_is_told(tmp_path: Path, clean: Path) -> None:
    silence = np.zeros(32_000, np.float32)
    path = write_video(tmp_path / "silent.mp4", faces(FRAMES), audio=silence)
    with pytest.raises(ValueError, match="the clean video is silent"):
        peer_sound.stoi(str(clean), str(path))
