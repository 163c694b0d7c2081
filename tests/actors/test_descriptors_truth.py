"""Descriptors as a whole, through the extractor, against signals whose values are known.

``test_descriptors.py`` tests the functions; here a row goes in and the struct comes out, and truth
comes from closed forms, published test signals, librosa, SciPy, OpenCV and, where they are
installed, pyloudnorm and Praat.
"""

from typing import Any

import cv2
import librosa
import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from actors import descriptors_face as face
from actors import descriptors_sound as sound
from actors.descriptors import DESCRIPTOR_NAMES, Descriptors, DescriptorsConfig
from actors.frame_stats import FrameStatistics
from actors.sound_frames import analyse_sound
from tests.actors.test_descriptors import head, make_row, voice

RATE, T, PERIOD = 16_000, 150, 0.04
TIME = np.arange(6 * RATE) / RATE


def described(**columns: Any) -> dict[str, Any]:
    """Descriptors of a clip of 6 s with these columns."""
    (row,) = Descriptors(DescriptorsConfig())([make_row() | columns])
    values: dict[str, Any] = row["descriptors"]
    assert tuple(values) == DESCRIPTOR_NAMES
    return values


def heard(samples: NDArray[Any]) -> dict[str, Any]:
    return described(waveform=samples.astype(np.float32))


def white(n: int = 6 * RATE, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(n)


# --- sound


@pytest.mark.parametrize("hertz", [110.0, 317.0])
def test_a_sine_is_what_it_is(hertz: float) -> None:
    values = heard(0.5 * np.sin(2 * np.pi * hertz * TIME))
    assert values["f0_mean"] == pytest.approx(hertz, rel=1e-3)
    assert values["f0_std"] < 0.5
    assert values["f0_range"] < 1
    assert values["hnr"] > 35
    assert values["speech_share"] > 0.98
    assert values["loudness_dbfs"] == pytest.approx(-9.03, abs=0.01)
    assert values["crest_factor_db"] == pytest.approx(3.01, abs=0.01)
    assert values["spectral_flatness"] < 1e-3
    assert values["band_0_500"] == pytest.approx(0, abs=0.01)
    assert values["dropout_share"] == 0
    assert values["snr"] is None  # no pauses


@pytest.mark.parametrize("ratio_db", [5.0, 20.0])
def test_hnr_of_a_sine_in_noise_is_their_ratio(ratio_db: float) -> None:
    sine = 0.3 * np.sin(2 * np.pi * 160 * TIME)
    noise = white() * np.sqrt(0.045) * 10 ** (-ratio_db / 20)
    assert heard(sine + noise)["hnr"] == pytest.approx(ratio_db, abs=0.6)


def test_white_noise_is_flat_and_wide() -> None:
    values = heard(0.1 * white())
    assert values["spectral_flatness"] == pytest.approx(1, abs=0.02)
    assert values["bandwidth"] == pytest.approx(8000, abs=50)
    assert values["loudness_dbfs"] == pytest.approx(-20, abs=0.1)
    assert values["f0_mean"] is None


@pytest.mark.parametrize("levels", [(0, -6, -12, -18, -24), (-30, 0, -20, -10, -40)])
def test_bands_have_the_energies_of_their_tones(levels: tuple[float, ...]) -> None:
    tones = [
        10 ** (level / 20) * np.sin(2 * np.pi * hertz * TIME)
        for level, hertz in zip(levels, (200, 700, 1500, 3000, 6000), strict=True)
    ]
    values = heard(0.2 * np.sum(tones, axis=0))
    power = 10 ** (np.array(levels) / 10)
    expected = 10 * np.log10(power / power.sum())
    found = [values[sound.band_name(*band)] for band in sound.BANDS_HZ]
    np.testing.assert_allclose(found, expected, atol=0.2)  # a window's skirt is wide


def test_spectrum_of_speech_is_that_of_librosa_and_welch() -> None:
    x, _ = voice(pauses=())
    x = x + 1e-3 * white()
    values = heard(x)
    # Hop i is centred on 160 i + 80; librosa's first frame of 512 has its window at 56..456.
    padded = np.concatenate([np.zeros(176), x, np.zeros(400)])
    spectrum = librosa.stft(padded, n_fft=512, hop_length=160, win_length=400, center=False)
    inner = np.abs(spectrum[1:-1, :600][:, analyse_sound(x.astype(np.float32)).active]) ** 2
    flatness = librosa.feature.spectral_flatness(S=inner + 1e-12, power=1.0, amin=1e-20)
    assert values["spectral_flatness"] == pytest.approx(flatness.mean() / 0.56146, rel=0.005)
    hertz, power = scipy.signal.welch(x, RATE, "hann", 400, 240, 512)
    within = hertz[power >= power.max() * 1e-5]
    assert values["bandwidth"] == pytest.approx(within[-1], abs=2 * RATE / 512)
    for low, high in sound.BANDS_HZ:
        share = power[(hertz >= low) & (hertz < high)].sum() / power.sum()
        assert values[sound.band_name(low, high)] == pytest.approx(10 * np.log10(share), abs=0.3)


@pytest.mark.parametrize("known", [3.0, 20.0])
def test_a_known_snr_is_found_within_1_db(known: float) -> None:
    x, contour = voice(seed=3)
    noise = white(seed=4)
    noise *= np.sqrt((x[contour > 0] ** 2).mean()) * 10 ** (-known / 20)
    assert heard(x + noise)["snr"] == pytest.approx(known, abs=1)


@pytest.mark.parametrize(("limit", "gain"), [(0.2, 0.3), (0.6, 1.0)])
def test_clipping_is_the_share_of_samples_at_the_limit(limit: float, gain: float) -> None:
    x, _ = voice(seed=5)
    x = x / np.abs(x).max()
    share = (np.abs(x) >= limit).mean()
    values = heard(gain * np.clip(x, -limit, limit))
    assert values["clipping_share"] == pytest.approx(share, rel=0.2, abs=1e-3)
    assert heard(gain * x)["clipping_share"] < 1e-3


@pytest.mark.parametrize("rate", [3.0, 5.0])
def test_syllables_and_speech_are_counted(rate: float) -> None:
    x, _ = voice(syllables=rate, pauses=((1.0, 2.0), (4.0, 5.0)))
    values = heard(x)
    assert values["speech_share"] == pytest.approx(4 / 6, abs=0.06)
    assert values["speech_rate"] == pytest.approx(4 * rate / 6, abs=0.5)
    assert values["articulation_rate"] == pytest.approx(rate, abs=0.6)


def test_drop_outs_are_the_time_that_is_lost() -> None:
    x, _ = voice(pauses=())
    broken = x.copy()
    # At the tops of syllables: pieces of 20 to 100 ms.
    for start, length in ((0.61, 0.02), (1.36, 0.05), (2.60, 0.1), (4.11, 0.08)):
        broken[round(start * RATE) : round((start + length) * RATE)] = 0
    values, clean = heard(broken), heard(x)
    assert clean["dropout_share"] == 0
    spoken = values["speech_share"] * 6
    assert values["dropout_share"] * spoken == pytest.approx(0.25, abs=0.02)


# EBU Tech 3341, cases 1 to 5: seconds and level of a sine of 1 kHz in each of two channels, and
# the integrated loudness. One channel alone has 3.01 LU less.
EBU = {
    "1": (((20, -23.0),), -23.0),
    "2": (((20, -33.0),), -33.0),
    "3": (((10, -36.0), (60, -23.0), (10, -36.0)), -23.0),
    "4": (((10, -72.0), (10, -36.0), (60, -23.0), (10, -36.0), (10, -72.0)), -23.0),
    "5": (((20, -26.0), (20.1, -20.0), (20, -26.0)), -23.0),
}


@pytest.mark.parametrize("case", EBU)
def test_loudness_of_the_ebus_test_signals(case: str) -> None:
    parts, expected = EBU[case]
    gain = np.concatenate([np.full(round(s * RATE), 10 ** (db / 20)) for s, db in parts])
    x = gain * np.sin(2 * np.pi * 1000 * np.arange(len(gain)) / RATE)
    assert sound.loudness_lufs(x.astype(np.float32)) == pytest.approx(expected - 3.01, abs=0.1)


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_loudness_is_pyloudnorms(rate: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    x, _ = voice(pauses=((1.0, 4.0),))
    x = scipy.signal.resample_poly(x, rate // RATE, 1)
    expected = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(x)
    assert sound.loudness_lufs(x.astype(np.float32), rate) == pytest.approx(expected, abs=0.05)


def test_pitch_and_hnr_are_praats() -> None:
    parselmouth = pytest.importorskip("parselmouth")
    x, _ = voice(seed=6)
    x = (x + 0.002 * white()).astype(np.float32)
    praat = parselmouth.Sound(x.astype(float), RATE)
    f0 = praat.to_pitch_ac(0.01, 65, very_accurate=True, pitch_ceiling=500).selected_array
    values = heard(x)
    assert values["f0_mean"] == pytest.approx(f0["frequency"][f0["frequency"] > 0].mean(), rel=0.02)
    hnr = praat.to_harmonicity_ac(0.01, 65, 0.1, 4.5).values
    assert values["hnr"] == pytest.approx(hnr[hnr > -100].mean(), abs=1.5)


# --- lips and sound


@pytest.mark.parametrize("frames", [-6, 3])
def test_sound_that_plays_earlier_has_so_much_more_lag(frames: int) -> None:
    x, _ = voice()
    still = described()["av_lag"]
    moved = described(waveform=np.roll(x, -640 * frames))["av_lag"]
    assert moved - still == pytest.approx(frames * PERIOD, abs=0.015)


# --- face and head


def mesh_row(points: NDArray[np.float64], size: tuple[int, int], eyes: float) -> dict[str, Any]:
    """Columns of a clip with these points [T, 468, 3] in eye distances, ``eyes`` pixels each."""
    height, width = size
    pixels = points * eyes + [width / 2, height / 2, 0]
    mesh = (pixels / [width, height, width]).astype(np.float32)
    return {"landmarks": mesh.reshape(T, 1404), "image_size": size}


@pytest.mark.parametrize(
    ("size", "axis"), [((300, 300), "x"), ((720, 1280), "y"), ((1280, 720), "z")]
)
def test_a_known_turn_of_the_head(size: tuple[int, int], axis: str) -> None:
    degrees = 12 * np.sin(2 * np.pi * 0.25 * np.arange(T) * PERIOD)
    turns = Rotation.from_euler(axis, degrees[:, None], degrees=True).as_matrix()
    points = np.einsum("nij,npj->npi", turns, head(T))
    values = described(**mesh_row(points, size, 80.0))
    assert values["head_rotation_range"] == pytest.approx(12, abs=0.1)
    over_four = np.abs(degrees[4:] - degrees[:-4]) / (4 * PERIOD)
    assert values["head_rotation_speed"] == pytest.approx(over_four.mean(), rel=0.02)
    assert values["facial_asymmetry"] < 0.005


def test_a_known_path_of_the_head() -> None:
    path = np.zeros((T, 1, 3))
    path[:, 0, 0] = 0.8 * PERIOD * np.arange(T)
    values = described(**mesh_row(head(T) + path, (900, 1600), 60.0))
    assert values["head_translation_speed"] == pytest.approx(0.8, rel=0.01)
    assert values["head_rotation_speed"] < 0.5


def test_jerk_of_a_cubic() -> None:
    rate = 0.003  # of growth, 1 / s³: every length L grows as L (1 + rate t³)
    growth = 1 + rate * (np.arange(T) * PERIOD) ** 3
    points = head(T) * growth[:, None, None]
    at = head()[0, :, :2]

    def length(*pairs: tuple[int, int]) -> float:
        return float(np.mean([np.linalg.norm(at[a] - at[b]) for a, b in pairs]))

    # AU 1, 2, 4, 5, 6, 9, 10, 12, 17, 20, 25 as the specification names their landmarks.
    lengths = [
        length((55, 168), (285, 168)), length((46, 168), (276, 168)), length((105, 334)),
        length((159, 145), (386, 374)), length((145, 61), (374, 291)), length((98, 327)),
        length((13, 1)), length((61, 1), (291, 1)), length((14, 1)), length((61, 291)),
        length((13, 14)),
    ]  # fmt: skip
    assert face.au_jerk(points, PERIOD) == pytest.approx(6 * rate * np.mean(lengths), rel=1e-6)


def test_asymmetry_is_the_rest_of_the_best_fit() -> None:
    crooked = head()[0] + 0.03 * np.random.default_rng(2).standard_normal((468, 3))
    right, left = np.array(face.PAIRS).T
    one = crooked[np.r_[right, left]] - crooked[np.r_[right, left]].mean(axis=0)
    other = crooked[np.r_[left, right]] * [-1, 1, 1]
    _, rest = Rotation.align_vectors(one, other - other.mean(axis=0))
    expected = rest / np.sqrt(len(one))
    assert face.facial_asymmetry(crooked[None]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("blinks", [1, 5])
def test_blinks_of_a_mesh_are_counted(blinks: int) -> None:
    shut = np.zeros(T)
    for i in range(blinks):
        shut[12 + 27 * i : 17 + 27 * i] = (0.35, 0.9, 1.0, 0.6, 0.2)
    points = head(T)
    for corners, x in ((face.RIGHT_EYE, -0.5), (face.LEFT_EYE, 0.5)):
        outer, inner, *lids = corners
        points[:, outer] = (x, 0, 0)
        points[:, inner] = (0.4 * x, 0, 0)
        for upper, lower in (lids[:2], lids[2:]):
            half = 0.045 * (1 - 0.9 * shut)
            points[:, upper] = np.stack([np.full(T, 0.7 * x), -half, np.zeros(T)], axis=1)
            points[:, lower] = np.stack([np.full(T, 0.7 * x), half, np.zeros(T)], axis=1)
    points += 0.001 * np.random.default_rng(0).standard_normal(points.shape)
    values = described(**mesh_row(points, (480, 640), 70.0))
    assert values["blink_rate"] == pytest.approx(10 * blinks)


# --- picture


def shown(images: list[NDArray[np.uint8]]) -> dict[str, Any]:
    measure = FrameStatistics()
    return described(frame_stats=np.stack([measure(image) for image in images]))


def texture(count: int = 1, size: int = 256) -> list[NDArray[np.uint8]]:
    """A soft random texture; every further picture is shifted by a pixel."""
    raw = np.random.default_rng(7).integers(0, 255, (size, size + count, 3), np.uint8)
    soft = cv2.GaussianBlur(raw, (0, 0), 1.5).astype(float)
    wide = np.clip(127 + 2.0 * (soft - 127), 0, 255).astype(np.uint8)
    return [wide[:, i : i + size].copy() for i in range(count)]


def test_picture_measures_are_opencvs() -> None:
    images = texture(T)
    values = shown(images)
    grays = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    assert values["luma"] == pytest.approx(np.mean(grays), abs=0.01)
    assert values["contrast"] == pytest.approx(np.mean([g.std() for g in grays]), abs=0.01)
    laplacians = [cv2.Laplacian(g, cv2.CV_64F).var() for g in grays]
    assert values["sharpness"] == pytest.approx(np.mean(laplacians), rel=1e-4)
    steps = np.abs(np.diff(np.array(grays, float), axis=0)).mean()
    assert values["frame_difference"] == pytest.approx(steps, rel=1e-4)
    assert values["blockiness"] == pytest.approx(1, abs=0.05)
    assert values["duplicated_share"] == values["longest_freeze"] == 0


def test_sharpness_of_the_face_is_opencvs_inside_its_oval() -> None:
    crops = np.random.default_rng(3).integers(0, 255, (3, 224, 224, 3), np.uint8)
    index = (np.arange(T) % 3).astype(np.int32)
    y, x = np.mgrid[:224, :224]
    oval = ((x - 112) / 62) ** 2 + ((y - 118) / 82) ** 2 <= 1

    def expected(crops: NDArray[np.uint8]) -> Any:
        grays = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
        return np.mean([cv2.Laplacian(gray, cv2.CV_64F)[oval].var() for gray in grays])

    values = described(visual_crops=crops, visual_index=index)
    assert values["face_sharpness"] == pytest.approx(expected(crops), rel=0.01)
    # What is around the face does not count, the face does.
    soft = np.array([cv2.GaussianBlur(crop, (0, 0), 3) for crop in crops])
    around = np.where(oval[..., None], soft, crops)
    sharp, blurred = (
        described(visual_crops=c, visual_index=index)["face_sharpness"] for c in (around, soft)
    )
    assert blurred < 0.01 * values["face_sharpness"]
    assert sharp < 0.1 * values["face_sharpness"]
    middle = np.array(cv2.erode(oval.astype(np.uint8), np.ones((9, 9))), bool)
    inside = np.where(middle[..., None], crops, soft)
    kept = described(visual_crops=inside, visual_index=index)["face_sharpness"]
    assert kept > 0.8 * values["face_sharpness"]


def test_freezes_last_as_long_as_they_last() -> None:
    images = texture(T)
    images[30:55] = [images[30]] * 25  # 1 s
    images[90:100] = [images[90]] * 10  # 0.4 s
    images[120] = images[119]  # a single repeat
    values = shown(images)
    assert values["longest_freeze"] == pytest.approx(1.0)
    assert values["frozen_share"] == pytest.approx(1.4 / 6)
    assert values["duplicated_share"] == pytest.approx((24 + 9 + 1) / 149)


@pytest.mark.parametrize("levels", [4])
def test_flicker_is_the_step_between_frames(levels: int) -> None:
    (image,) = texture()
    image = np.clip(image, 20, 230)
    lighter, bluer = image + np.uint8(levels), image.copy()
    bluer[..., 2] += np.uint8(levels)
    light = shown([lighter if i % 2 else image for i in range(T)])
    assert light["flicker_luma"] == pytest.approx(levels, abs=0.05)
    assert light["flicker_chroma"] == pytest.approx(0, abs=0.05)
    # Cb = 0.564 (B - Y), and Y takes 0.114 of the blue.
    colour = shown([bluer if i % 2 else image for i in range(T)])
    assert colour["flicker_chroma"] == pytest.approx(0.564 * 0.886 * levels, abs=0.05)
    assert colour["flicker_luma"] == pytest.approx(0.114 * levels, abs=0.1)


def test_blocks_are_seen() -> None:
    (image,) = texture()
    coarse = cv2.resize(image[::8, ::8], (256, 256), interpolation=cv2.INTER_NEAREST)
    mixed = (0.5 * image + 0.5 * coarse).astype(np.uint8)
    gray = cv2.cvtColor(mixed, cv2.COLOR_RGB2GRAY).astype(float)
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(gray, axis=axis))
        profile = steps.mean(axis=1 - axis)
        ratios.append(profile[7::8].mean() / np.delete(profile, np.s_[7::8]).mean())
    assert shown([mixed] * T)["blockiness"] == pytest.approx(np.mean(ratios), rel=0.05)
    assert np.mean(ratios) > 1.5
