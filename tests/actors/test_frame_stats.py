import cv2
import numpy as np
import pytest
from scipy import ndimage

from actors.frame_stats import (
    FRAME_STATS,
    SCALED_WIDTH,
    STAT,
    FrameStatistics,
    blockiness,
    laplacian_variance,
    noise_level,
)


@pytest.fixture(scope="module")
def picture():
    """Smooth texture with detail at several scales, [480, 512, 3]."""
    rng = np.random.default_rng(3)
    layers = [
        ndimage.gaussian_filter(rng.standard_normal((480, 512, 3)), (s, s, 0)) for s in (1, 4, 16)
    ]
    mixed = sum(layer / layer.std() * 12 for layer in layers) + 120
    return np.clip(mixed, 0, 255).astype(np.uint8)


def value(stats, name):
    return float(stats[STAT[name]])


def test_luma_and_chroma_are_those_of_bt601(picture):
    stats = FrameStatistics()(picture)
    ycc = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb).astype(float)
    assert stats.shape == (len(FRAME_STATS),)
    assert stats.dtype == np.float32
    assert value(stats, "luma_mean") == pytest.approx(ycc[..., 0].mean(), abs=0.01)
    assert value(stats, "luma_std") == pytest.approx(ycc[..., 0].std(), abs=0.01)
    assert value(stats, "cr_mean") == pytest.approx(ycc[..., 1].mean() - 128, abs=0.2)
    assert value(stats, "cb_mean") == pytest.approx(ycc[..., 2].mean() - 128, abs=0.2)


def test_first_frame_has_no_difference_and_reset_forgets(picture):
    measure = FrameStatistics()
    first = measure(picture)
    assert np.isnan(first[[STAT["difference"], STAT["duplicate"]]]).all()
    brighter = measure(picture + 3)
    assert value(brighter, "difference") == pytest.approx(3, abs=0.1)
    assert value(brighter, "duplicate") == 0
    measure.reset()
    np.testing.assert_array_equal(measure(picture), first)


def test_duplicates_survive_recoding_and_a_moving_mouth_is_no_duplicate(picture):
    measure = FrameStatistics()
    measure(picture)
    assert value(measure(picture.copy()), "duplicate") == 1
    recoded = picture.copy()
    recoded[::16, ::16] ^= 1
    assert value(measure(recoded), "duplicate") == 1
    talking = recoded.copy()
    talking[300:330, 220:290] = np.roll(talking[300:330, 220:290], 3, axis=0)
    assert value(measure(talking), "duplicate") == 0


@pytest.mark.parametrize("shape", [(480, 512), (301, 203), (1000, 1216)])
def test_blockiness_finds_the_coding_grid_only(picture, shape):
    gray = cv2.cvtColor(cv2.resize(picture, shape[::-1]), cv2.COLOR_RGB2GRAY)
    assert blockiness(gray) == pytest.approx(1, abs=0.05)
    ratios = []
    for quality in (60, 20, 8):
        _, coded = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])
        ratios.append(blockiness(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)))
    assert 1.0 < ratios[0] < ratios[1] < ratios[2]
    assert ratios[2] > 1.5


def test_blockiness_equals_the_plain_definition():
    gray = np.random.default_rng(0).integers(0, 255, (64, 72), dtype=np.uint8)
    g = gray.astype(float)
    across, down = np.abs(np.diff(g[::3], axis=1)).mean(0), np.abs(np.diff(g, axis=0)).mean(1)
    expected = np.mean([p[7::8].mean() / np.delete(p, np.s_[7::8]).mean() for p in (across, down)])
    assert blockiness(gray) == pytest.approx(expected, rel=1e-9)


def test_flat_and_tiny_pictures_have_no_blockiness():
    assert np.isnan(blockiness(np.full((64, 64), 90, np.uint8)))
    assert np.isnan(blockiness(np.zeros((8, 64), np.uint8)))


def test_sharpness_is_the_variance_of_the_laplacian_and_falls_with_blur(picture):
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    reference = ndimage.convolve(gray.astype(float), kernel, mode="mirror").var()
    assert laplacian_variance(gray) == pytest.approx(reference, rel=1e-6)
    measure = FrameStatistics()
    sharp = [
        value(measure(cv2.GaussianBlur(picture, (0, 0), s) if s else picture), "sharpness")
        for s in (0, 1, 2, 4)
    ]
    assert sharp[0] > 1.5 * sharp[1] > 1.5**2 * sharp[2] > 1.5**3 * sharp[3]


@pytest.mark.parametrize("size", [(64, 48), (256, 256), (480, 512), (1080, 1920)])
@pytest.mark.parametrize("sigma", [1.0, 2.0, 5.0, 20.0])
def test_noise_is_its_standard_deviation(size, sigma):
    rng = np.random.default_rng(4)
    ramp = np.add.outer(np.linspace(60, 120, size[0]), np.linspace(0, 60, size[1]))
    noisy = np.rint(ramp + sigma * rng.standard_normal(size)).clip(0, 255).astype(np.uint8)
    rounded = np.hypot(sigma, 12**-0.5)  # whole levels are noise of their own
    assert noise_level(noisy) == pytest.approx(rounded, rel=0.06 if noisy.size > 10_000 else 0.15)


def test_edges_black_bars_and_blur_are_no_noise(picture):
    gray = cv2.cvtColor(cv2.GaussianBlur(picture, (0, 0), 3), cv2.COLOR_RGB2GRAY)
    assert noise_level(gray) < 0.35
    noise = 4 * np.random.default_rng(5).standard_normal(gray.shape)
    noisy = np.rint(gray + noise).clip(0, 255).astype(np.uint8)
    assert noise_level(noisy) == pytest.approx(4, rel=0.06)
    edges = noisy.copy()
    edges[:, ::40] = 255  # hard lines, a tenth of the pixels near one
    assert noise_level(edges) == pytest.approx(4, rel=0.2)
    barred = noisy.copy()
    barred[:, :170] = barred[:, 342:] = 0  # two thirds of it
    assert noise_level(barred) == pytest.approx(4, rel=0.06)


def test_black_flat_and_tiny_pictures_have_no_noise_to_speak_of():
    assert np.isnan(noise_level(np.zeros((480, 512), np.uint8)))
    assert np.isnan(noise_level(np.full((4, 4), 90, np.uint8)))
    assert np.isnan(noise_level(np.full((1, 3), 90, np.uint8)))
    assert noise_level(np.full((480, 512), 90, np.uint8)) < 0.1


@pytest.mark.parametrize("size", [(256, 256), (1080, 1920), (1920, 1080), (90, 120), (700, 700)])
def test_any_size_works_and_sharpness_hardly_depends_on_it(picture, size):
    soft = cv2.GaussianBlur(picture, (0, 0), 8)
    base = cv2.resize(soft, (512, round(512 * size[0] / size[1])), interpolation=cv2.INTER_CUBIC)
    stats = FrameStatistics()(cv2.resize(base, size[::-1], interpolation=cv2.INTER_CUBIC))
    reference = FrameStatistics()(base)
    assert np.isfinite(stats[[STAT["luma_mean"], STAT["sharpness"], STAT["blockiness"]]]).all()
    if size[1] >= SCALED_WIDTH:
        assert value(stats, "sharpness") == pytest.approx(value(reference, "sharpness"), rel=0.5)
