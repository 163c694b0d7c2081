"""Artefacts of single pictures: is each what it says it is, by a measure of its own?"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from actors.artefacts.picture.blur import Blur
from actors.artefacts.picture.compression import Compression
from actors.artefacts.picture.flicker import Flicker
from actors.artefacts.picture.low_resolution import LowResolution
from actors.artefacts.picture.picture_noise import PictureNoise
from actors.decode import DecodeConfig, VideoReader
from actors.demo.render import VideoSpec, pictures, utterance
from actors.types import U8
from tests.actors.artefacts.test_picture import damage
from tests.support import clips_dir

STEPS = (0.2, 0.4, 0.6, 0.8, 1.0)
SEEDS = (0, 1, 2)
Stack = NDArray[np.float64]


def _demo() -> list[U8]:
    spec = VideoSpec("clean", "fay", 1, 1.0, 6)
    return list(pictures(spec, utterance(spec)))[8:18]


def _real() -> list[U8]:
    path = clips_dir() / "real" / "talk_mpeg4_16k.mp4"
    shown = []
    with path.open("rb") as file, VideoReader(file, DecodeConfig()) as reader:
        for frame in reader.frames():
            assert frame.image is not None
            shown.append(frame.image)
            if len(shown) == 8:
                return shown
    raise AssertionError("the clip is longer")


@pytest.fixture(scope="module", params=[_demo, _real], ids=["demo", "real"])
def faces(request: pytest.FixtureRequest) -> list[U8]:
    """A talking face."""
    make: Callable[[], list[U8]] = request.param
    return make()


@pytest.fixture(scope="module")
def speckles() -> list[U8]:
    """White noise that does not clip, where every spatial frequency is present."""
    rng = np.random.default_rng(1)
    return [np.clip(rng.normal(128, 35, (256, 320, 3)), 0, 255).astype(np.uint8)]


def rising(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def luma(frames: list[U8]) -> Stack:
    """[n, H, W], BT.601."""
    return np.array([frame @ np.array([0.299, 0.587, 0.114]) for frame in frames])


def psnr(made: list[U8], clean: list[U8]) -> float:
    error = np.mean((np.array(made, np.float64) - np.array(clean, np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error))


def sharpness(frames: list[U8]) -> float:
    """Variance of the Laplacian."""
    return float(np.mean([ndimage.laplace(picture).var() for picture in luma(frames)]))


def gain(made: U8, clean: U8) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radial frequency (cycles a pixel), and by what factor its amplitude is kept, in bins."""
    size = clean.shape[:2]
    radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[None])
    bins = np.arange(0.01, 0.5, 0.02)

    def power(frame: U8) -> NDArray[np.float64]:
        window = np.outer(np.hanning(size[0]), np.hanning(size[1]))
        spectrum = np.abs(np.fft.fft2((luma([frame])[0] - 128) * window)) ** 2
        which = np.digitize(radius.ravel(), bins)
        return np.asarray(np.bincount(which, spectrum.ravel(), len(bins) + 1)[1:-1], np.float64)

    return (bins[1:] + bins[:-1]) / 2, np.sqrt(power(made) / power(clean))


# --- blur, low resolution


@pytest.mark.parametrize("severity", STEPS)
def test_blur_has_the_spectrum_of_its_gaussian(severity: float, speckles: list[U8]) -> None:
    sigma = Blur().measures(severity)["sigma_percent"] / 100 * 256
    frequency, kept = gain(damage(Blur(), speckles, severity)[0], speckles[0])
    wanted = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    # Below, rounding to whole levels is all there is; and a Gaussian narrower than a pixel has
    # another spectrum near the limit of sampling.
    measurable = (wanted > 0.05) & (frequency < 0.3)
    assert measurable.sum() >= 2
    np.testing.assert_allclose(kept[measurable], wanted[measurable], atol=0.03)


def test_blur_scales_with_the_picture() -> None:
    """A step edge is as wide, in shares of the picture, whatever the size."""
    widths = []
    for side in (128, 512):
        frame = np.zeros((side, 2 * side, 3), np.uint8)
        frame[:, side:] = 200
        row = damage(Blur(), [frame], 0.8)[0][side // 2, :, 0].astype(float)
        slope = np.diff(row)
        at = np.arange(slope.size)
        centre = (slope * at).sum() / slope.sum()
        widths.append(np.sqrt((slope * (at - centre) ** 2).sum() / slope.sum()) / side)
    assert widths[1] == pytest.approx(Blur().measures(0.8)["sigma_percent"] / 100, rel=0.05)
    assert widths[0] == pytest.approx(widths[1], rel=0.05)


def test_blur_and_low_resolution_take_ever_more_sharpness(faces: list[U8]) -> None:
    faces = faces[::4]
    for artefact in (Blur(), LowResolution()):
        made = [damage(artefact, faces, severity) for severity in STEPS]
        sharp = [sharpness(faces), *map(sharpness, made)]
        assert rising(sharp[::-1])
        assert sharp[-1] < 0.3 * sharp[0]
        # Light is neither lost nor gained.
        for frames in made:
            np.testing.assert_allclose(
                np.mean(frames, axis=(0, 1, 2)), np.mean(faces, axis=(0, 1, 2)), atol=0.3
            )


def test_low_resolution_leaves_no_detail_beyond_its_pixels(speckles: list[U8]) -> None:
    past = []
    for severity in STEPS:
        nyquist = 0.5 / LowResolution().measures(severity)["factor"]
        frequency, kept = gain(damage(LowResolution(), speckles, severity)[0], speckles[0])
        coarse, fine = kept[frequency < 0.3 * nyquist], kept[frequency > 2 * nyquist]
        assert coarse.size == 0 or coarse.mean() > 0.85
        if fine.size:
            past.append(float(fine.mean()))
            assert fine.mean() < 0.12
    assert len(past) == len(STEPS) - 1  # the mildest reaches up to the picture's own limit


# --- noise


@pytest.mark.parametrize(
    ("seed", "size"), [*((seed, (120, 160)) for seed in SEEDS), (0, (768, 780))]
)
def test_noise_has_its_deviation_and_is_one_noise_at_all_severities(
    seed: int, size: tuple[int, int]
) -> None:
    grey = [np.full((*size, 3), 128, np.uint8)] * 2
    draws = []
    for severity in STEPS:
        noise = np.array(damage(PictureNoise(), grey, severity, seed), np.float64) - 128
        wanted = PictureNoise().measures(severity)["deviation_levels"]
        # Rounding to whole levels adds 1/12.
        deviation = np.sqrt(np.maximum(noise.var(axis=(1, 2)) - 1 / 12, 0))
        np.testing.assert_allclose(deviation, wanted, rtol=0.05)
        assert abs(noise.mean()) < 0.05 * wanted
        draws.append(noise / wanted)
    for weak, strong in pairwise(draws):
        assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.98


def test_noise_is_new_in_each_picture_and_partly_coloured() -> None:
    grey = [np.full((256, 256, 3), 128, np.uint8)] * 3
    first, second, third = np.array(damage(PictureNoise(), grey, 0.8), np.float64) - 128
    for other in (second, third):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02
    channels = np.corrcoef(first.reshape(-1, 3).T)
    np.testing.assert_allclose(channels[np.triu_indices(3, 1)], 0.6, atol=0.04)


def test_noise_buries_a_face_ever_deeper(faces: list[U8]) -> None:
    for seed in SEEDS:
        made = [damage(PictureNoise(), faces[:3], severity, seed) for severity in STEPS]
        assert rising([psnr(frames, faces[:3]) for frames in made][::-1])


# --- compression


def blockiness(frames: list[U8], side: int) -> float:
    """Mean step between neighbours across the edges of a grid, over that inside its squares."""
    ratios = []
    for axis in (1, 2):
        steps = np.abs(np.diff(luma(frames), axis=axis)).mean(axis=(0, 3 - axis))
        edge = np.arange(1, steps.size + 1) % side == 0
        ratios.append(steps[edge].mean() / steps[~edge].mean())
    return float(np.mean(ratios))


def test_compression_loses_ever_more_and_shows_blocks(faces: list[U8]) -> None:
    made = [damage(Compression(), faces, severity) for severity in STEPS]
    assert rising([psnr(frames, faces) for frames in made][::-1])
    for side in (4, 8):
        blocks = [blockiness(frames, side) for frames in (faces, *made)]
        assert rising(blocks)
        assert blocks[-1] > 2 * blocks[0]


def test_compression_keeps_colours_and_order() -> None:
    """Each picture has a flat colour of its own, so that none can stand for another."""
    colours = np.random.default_rng(2).integers(20, 236, (60, 3))
    frames = [np.full((33, 47, 3), colour, np.uint8) for colour in colours]
    made = damage(Compression(), frames, 0.01)
    assert np.abs(np.mean(made, axis=(1, 2)) - colours).max() < 4
    assert np.abs(np.mean(made, axis=(0, 1, 2)) - colours.mean(axis=0)).max() < 0.6


def test_light_compression_shifts_no_colours(faces: list[U8]) -> None:
    made = damage(Compression(), faces, 0.05)
    assert np.abs(np.mean(made, axis=(0, 1, 2)) - np.mean(faces, axis=(0, 1, 2))).max() < 1


# --- flicker, on a face


def test_flicker_of_a_face_grows(faces: list[U8]) -> None:
    for seed in SEEDS:
        made = [damage(Flicker(), faces, severity, seed) for severity in STEPS]
        assert rising([float(luma(frames).mean(axis=(1, 2)).std()) for frames in made])
