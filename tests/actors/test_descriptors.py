import itertools

import cv2
import numpy as np
import pytest
import scipy.signal
from scipy.spatial.transform import Rotation

from actors import descriptors_face as face
from actors import descriptors_picture as picture
from actors import descriptors_sound as sound
from actors.descriptors import (
    DESCRIPTOR_FIELDS,
    DESCRIPTOR_NAMES,
    LOG_FLOORS,
    SOUND_DESCRIPTORS,
    Descriptors,
    DescriptorsConfig,
    lagged_correlation,
    rhythm_agreement,
)
from actors.frame_stats import FRAME_STATS, STAT, FrameStatistics
from actors.lowlevel import LowLevel, LowLevelConfig
from actors.row import check
from actors.sound_frames import analyse_sound
from tests.support import clips_dir

RATE = 16_000
T = 150
PERIOD = 0.04


def voice(seconds=6.0, syllables=4.0, pauses=((2.0, 2.6), (4.4, 5.0)), seed=0):
    """Speech-like sound: a pulse train through three formants, in syllables, with silent pauses.

    Returns:
        Samples [n], and their amplitude contour [n], 0 in the pauses.
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    t = np.arange(n) / RATE
    phase = np.cumsum(130 * (1 + 0.15 * np.sin(2 * np.pi * 0.4 * t)) / RATE)
    x = np.diff(np.floor(phase), prepend=0) + 0.003 * rng.standard_normal(n)
    for hertz, width in ((600, 90), (1300, 120), (2600, 180)):
        radius = np.exp(-np.pi * width / RATE)
        x = scipy.signal.lfilter(
            [1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2], x
        )
    loudness = rng.uniform(0.3, 1.0, int(seconds * syllables) + 1)[(t * syllables).astype(int)]
    gate = np.ones(n, bool)
    for start, end in pauses:
        gate[round(start * RATE) : round(end * RATE)] = False
    contour = gate * (0.1 + 0.9 * loudness * np.sin(np.pi * syllables * t) ** 2)
    x *= contour
    return (0.3 * x / np.abs(x).max()).astype(np.float32), contour


def white(n, seed=1):
    return np.random.default_rng(seed).standard_normal(n)


def everything(frames):
    return np.ones(len(frames.power), bool)


# --- loudness and level


def test_k_weighting_is_the_published_filter_at_48_khz():
    shelf, high_pass = sound.k_weighting(48_000)
    np.testing.assert_allclose(
        shelf,
        [
            1.53512485958697,
            -2.69169618940638,
            1.19839281085285,
            1,
            -1.69065929318241,
            0.73248077421585,
        ],
        atol=1e-8,
    )
    np.testing.assert_allclose(
        high_pass, [1, -2, 1, 1, -1.99004745483398, 0.99007225036621], atol=1e-8
    )


@pytest.mark.parametrize(("rate", "tolerance"), [(48_000, 0.01), (16_000, 0.1)])
def test_full_scale_sine_of_997_hz_has_minus_3_lufs(rate, tolerance):
    x = np.sin(2 * np.pi * 997 * np.arange(4 * rate) / rate).astype(np.float32)
    assert sound.loudness_lufs(x, rate) == pytest.approx(-3.01, abs=tolerance)
    assert sound.loudness_lufs(x * 0.1, rate) == pytest.approx(-23.01, abs=tolerance)


def test_loudness_gates_pauses_and_silence():
    x = np.sin(2 * np.pi * 997 * np.arange(10 * RATE) / RATE).astype(np.float32)
    gated = np.concatenate([x, np.zeros_like(x)])
    assert sound.loudness_lufs(gated) == pytest.approx(-3.01, abs=0.2)
    assert sound.loudness_lufs(np.zeros(RATE, np.float32)) is None
    assert sound.loudness_lufs(x[: RATE // 5]) is None
    assert set(sound.level_descriptors(np.zeros(RATE, np.float32)).values()) == {None}


def test_level_and_crest_factor_of_a_sine():
    x = (0.5 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)).astype(np.float32)
    values = sound.level_descriptors(x)
    assert values["loudness_dbfs"] == pytest.approx(20 * np.log10(0.5) - 3.01, abs=0.01)
    assert values["crest_factor_db"] == pytest.approx(3.01, abs=0.01)


@pytest.mark.parametrize("limit", [0.8, 0.4, 0.2])
@pytest.mark.parametrize("gain", [1.0, 0.25])
def test_clipping_share_is_the_share_of_clipped_samples(limit, gain):
    x, _ = voice()
    x = x / np.abs(x).max()
    clipped = np.clip(x, -limit, limit)
    hit = np.abs(x) >= 0.98 * limit
    assert sound.clipping_share((gain * clipped).astype(np.float32)) == pytest.approx(
        hit.mean(), rel=0.15, abs=2e-3
    )
    assert sound.clipping_share(x.astype(np.float32)) < 1e-3


# --- noise, spectrum


@pytest.mark.parametrize("known", [5, 10, 20, 30, 40])
@pytest.mark.parametrize("colour", ["white", "pink"])
def test_known_snr_is_found_within_1_db(known, colour):
    x, contour = voice()
    gate = contour > 0
    noise = white(x.size)
    if colour == "pink":
        noise = scipy.signal.lfilter([1], [1, -0.95], noise)
        # The measure leaves out what lies below 60 Hz.
        rumble = scipy.signal.butter(8, 80, "high", fs=RATE, output="sos")
        noise = scipy.signal.sosfilt(rumble, noise)
    noise *= np.sqrt((x[gate] ** 2).mean() / (noise**2).mean()) * 10 ** (-known / 20)
    frames = analyse_sound((x + noise).astype(np.float32))
    assert sound.snr(frames, everything(frames)) == pytest.approx(known, abs=1.0)


def test_snr_needs_speech_and_pauses():
    x, _ = voice(pauses=())
    frames = analyse_sound(x)
    assert sound.snr(frames, everything(frames)) is None
    silent = analyse_sound(np.zeros(3 * RATE, np.float32))
    assert sound.snr(silent, everything(silent)) is None


@pytest.mark.parametrize("rate", [60.0, 150.0, 300.0, 400.0])
@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_decay_rate_is_the_rate_at_which_sounds_die_away(rate, gain):
    t = np.arange(6 * RATE) / RATE
    since = t % min(0.4, 60 / rate)  # of a new syllable; it falls by at most 60 dB
    rise = np.minimum(1, since / 0.02)
    chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in range(110, 5000, 110))
    x = gain * 0.02 * rise * chord * 10 ** (-rate * since / 20)
    frames = analyse_sound(x.astype(np.float32))
    assert sound.decay_rate(frames, everything(frames)) == pytest.approx(rate, rel=0.07)


def test_a_room_makes_speech_die_away_as_slowly_as_its_reverberation():
    x, _ = voice(pauses=())
    rates = []
    for seconds in (0.0, 0.3, 0.6, 1.2, 2.4):  # reverberation time
        wet = x
        if seconds:
            n = round(seconds * RATE)
            room = white(n) * 10 ** (-3 * np.arange(n) / n)
            wet = scipy.signal.fftconvolve(x, room)[: x.size]
        frames = analyse_sound((0.3 * wet / np.abs(wet).max()).astype(np.float32))
        rates.append(sound.decay_rate(frames, everything(frames)))
    assert all(a > 1.15 * b for a, b in itertools.pairwise(rates)), rates


def test_digital_silence_is_no_decay_and_without_speech_there_is_none():
    x, _ = voice()
    frames = analyse_sound(x)
    whole = sound.decay_rate(frames, everything(frames))
    broken = x.copy()
    for start in range(1600, x.size - 1600, 8000):
        broken[start : start + 800] = 0
    holes = analyse_sound(broken)
    assert sound.decay_rate(holes, everything(holes)) == pytest.approx(whole, rel=0.15)
    for samples, use in ((np.zeros(RATE), True), (x[:1000], True), (x, False)):
        frames = analyse_sound(samples.astype(np.float32))
        assert sound.decay_rate(frames, everything(frames) & use) is None


def test_flatness_is_1_for_white_noise_and_0_for_a_tone():
    noise = analyse_sound((0.1 * white(5 * RATE)).astype(np.float32))
    values = sound.spectral_descriptors(noise, everything(noise))
    assert values["spectral_flatness"] == pytest.approx(1, abs=0.02)
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE).astype(np.float32)
    frames = analyse_sound(tone)
    inner = np.zeros(len(frames.power), bool)
    inner[5:-5] = True
    assert sound.spectral_descriptors(frames, inner)["spectral_flatness"] < 1e-3


def test_white_noise_has_its_energy_by_bandwidth():
    frames = analyse_sound((0.1 * white(5 * RATE)).astype(np.float32))
    values = sound.spectral_descriptors(frames, everything(frames))
    for low, high in sound.BANDS_HZ:
        share = (min(high, 8000) - low) / 8000
        assert values[sound.band_name(low, high)] == pytest.approx(10 * np.log10(share), abs=0.3)
    total = sum(10 ** (values[sound.band_name(*band)] / 10) for band in sound.BANDS_HZ)
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("edge", [2000, 3400, 6000])
def test_bandwidth_of_band_limited_noise(edge):
    low_pass = scipy.signal.ellip(12, 0.1, 90, edge, fs=RATE, output="sos")
    x = scipy.signal.sosfilt(low_pass, 0.1 * white(5 * RATE)).astype(np.float32)
    hertz, response = scipy.signal.freqz_sos(low_pass, 8192, fs=RATE)
    truth = hertz[np.abs(response) > 10 ** (-50 / 20)][-1]
    frames = analyse_sound(x)
    values = sound.spectral_descriptors(frames, everything(frames))
    # The window smears a steep edge by some 130 Hz at -50 dB.
    assert values["bandwidth"] == pytest.approx(truth, abs=140)


# --- pitch statistics, syllables, drop-outs


def test_pitch_statistics_of_a_known_contour():
    x, contour = voice()
    gate = contour > 0
    frames = analyse_sound(x)
    values = sound.pitch_descriptors(frames, everything(frames))
    f0 = 130 * (1 + 0.15 * np.sin(2 * np.pi * 0.4 * np.arange(x.size) / RATE))[gate]
    low, high = np.percentile(f0, (5, 95))
    assert values["f0_mean"] == pytest.approx(f0.mean(), rel=0.01)
    assert values["f0_std"] == pytest.approx(f0.std(), rel=0.1)
    assert values["f0_range"] == pytest.approx(high - low, rel=0.05)
    assert values["hnr"] > 10


@pytest.mark.parametrize("rate", [2.5, 4.0, 6.0])
def test_syllables_are_counted(rate):
    x, _ = voice(syllables=rate, pauses=())
    nuclei = sound.syllable_nuclei(analyse_sound(x))
    assert nuclei.size == pytest.approx(6 * rate, abs=1)
    # A syllable peaks where the sine is at its top, half a period after its start.
    np.testing.assert_allclose((nuclei * 0.01 * rate) % 1, 0.5, atol=0.15)


def test_drop_outs_are_told_from_pauses():
    x, _ = voice()
    frames = analyse_sound(x)
    assert sound.dropout_share(x, frames.active) == 0
    broken = x.copy()
    for start in (0.61, 1.36, 3.11):  # at syllable tops
        broken[round(start * RATE) : round((start + 0.05) * RATE)] = 0
    share = sound.dropout_share(broken, frames.active)
    assert share == pytest.approx(0.15 / (frames.active.sum() * 0.01), rel=0.1)
    assert sound.dropout_share(x, np.zeros(600, bool)) is None


# --- lips against sound


@pytest.mark.parametrize("shift", [-10, -3, 0, 4, 12])
def test_planted_lag_is_found_with_syncnets_sign(shift):
    rng = np.random.default_rng(5)
    lips = np.convolve(rng.standard_normal(T + 60), np.hanning(9), "same")
    opening = lips[30 : 30 + T]
    # Delaying the sound makes the lag smaller: the sound of frame t is what the lips did at t - d.
    delayed = lips[30 + shift : 30 + shift + T] + 0.3 * rng.standard_normal(T)
    lag, height = lagged_correlation(delayed, opening)
    assert lag == pytest.approx(shift, abs=0.3)
    assert height > 0.8


def test_lag_is_refined_below_a_frame():
    t = np.arange(T) * 1.0
    signal = lambda x: np.sin(0.5 * x) + np.sin(0.23 * x + 1)  # noqa: E731
    lag, _ = lagged_correlation(signal(t), signal(t - 2.4))
    assert lag == pytest.approx(2.4, abs=0.15)


def test_lag_skips_missing_frames_and_needs_25_pairs():
    rng = np.random.default_rng(5)
    lips = np.convolve(rng.standard_normal(T + 60), np.hanning(9), "same")
    opening, envelope = lips[30 : 30 + T].copy(), lips[33 : 33 + T].copy()
    opening[::7] = np.nan
    envelope[:20] = np.nan
    assert lagged_correlation(envelope, opening)[0] == pytest.approx(3, abs=0.1)
    assert lagged_correlation(envelope[20:44], opening[20:44]) is None
    assert lagged_correlation(np.ones(T), opening) is None


def test_rhythm_agreement_is_symmetric():
    assert rhythm_agreement(4, 3) == rhythm_agreement(3, 4) == 0.75
    assert rhythm_agreement(0, 0) is None
    assert rhythm_agreement(None, 3) is None


def test_frozen_mouth_run_is_found_only_while_somebody_speaks():
    t = np.arange(T)
    opening = 0.1 + 0.05 * np.sin(2 * np.pi * 3 * t / 25)
    opening[40:80] = opening[40]
    width = np.full(T, 0.7)
    speaking = np.ones(T, bool)
    found = face.frozen_mouth(opening, width, speaking, PERIOD)
    assert found == pytest.approx(39 * PERIOD, abs=2 * PERIOD)
    speaking[45:80] = False
    assert face.frozen_mouth(opening, width, speaking, PERIOD) < 0.4
    assert face.frozen_mouth(opening, width, np.zeros(T, bool), PERIOD) is None
    noisy = opening + 0.002 * np.random.default_rng(0).uniform(-1, 1, T)
    speaking[:] = True
    assert face.frozen_mouth(noisy, width, speaking, PERIOD) == pytest.approx(found, abs=0.08)


def test_still_mouth_share_is_the_share_of_speech_without_movement():
    t = np.arange(T)
    rng = np.random.default_rng(0)
    moving = 0.1 + 0.05 * np.sin(2 * np.pi * 3 * t / 25)
    speaking = np.ones(T, bool)
    for still in (0, 30, 75, 120):
        opening = moving + 0.005 * rng.standard_normal(T)  # noise of landmarks
        opening[10 : 10 + still] -= moving[10 : 10 + still] - 0.1
        found = face.still_mouth_share(opening, speaking, PERIOD)
        # A stretch that is half of both moves enough not to count.
        assert found == pytest.approx(max(0, still - 9) / (T - 9), abs=0.05)
    opening[120:] = np.nan
    assert face.still_mouth_share(opening, speaking, PERIOD) > 0.9  # what is left of the face
    assert face.still_mouth_share(opening, t < 9, PERIOD) is None
    assert face.still_mouth_share(opening, t >= 120, PERIOD) is None


def test_lip_rate_counts_openings():
    opening = 0.1 + 0.05 * np.sin(2 * np.pi * 3 * np.arange(T) / 25)
    assert face.lip_rate(opening, np.ones(T, bool), PERIOD) == pytest.approx(3, abs=0.2)
    assert face.lip_rate(opening, np.arange(T) < 20, PERIOD) is None


def test_lip_statistics_of_a_sine():
    f, a = 1.0, 0.04
    opening = (0.1 + a * np.sin(2 * np.pi * f * np.arange(T) * PERIOD)).astype(np.float32)
    values = face.lip_descriptors(opening, PERIOD)
    assert values["lip_opening_mean"] == pytest.approx(0.1, abs=1e-6)
    assert values["lip_opening_std"] == pytest.approx(a / np.sqrt(2), rel=1e-3)
    assert values["lip_velocity"] == pytest.approx(4 * f * a, rel=0.01)
    assert values["lip_acceleration"] == pytest.approx(8 * np.pi * f**2 * a, rel=0.01)
    assert set(face.lip_descriptors(np.full(T, np.nan, np.float32), PERIOD).values()) == {None}


# --- face and head


def head(n=1, seed=0):
    """A face of 468 random points, symmetric about x = 0, about 2 iod across, [n, 468, 3]."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (468, 3))
    right, left = np.array(face.PAIRS).T
    points[right] = points[left] * [-1, 1, 1]
    points[33], points[263] = (-0.5, 0, 0), (0.5, 0, 0)
    return np.repeat(points[None], n, axis=0)


def test_face_points_correct_the_aspect_ratio():
    landmarks = np.zeros((2, 468, 3), np.float32)
    landmarks[0, 33, :2], landmarks[0, 263, :2] = (0.4, 0.25), (0.6, 0.25)
    landmarks[0, 14] = (0.5, 0.50, 0.1)
    points, iod = face.face_points(landmarks.reshape(2, -1), np.array([True, False]), (400, 200))
    assert iod[0] == pytest.approx(40)
    np.testing.assert_allclose(points[0, 14], [100 / 40, 200 / 40, 20 / 40], rtol=1e-5)
    assert np.isnan(points[1]).all()


def test_mirror_pairs_hold_each_point_once():
    flat = np.array(face.PAIRS).ravel()
    assert len(set(flat)) == flat.size


def test_asymmetry_ignores_the_pose_and_sees_a_crooked_face():
    still = head()
    turned = still @ Rotation.from_euler("yxz", [25, 10, -15], degrees=True).as_matrix().T + 3
    assert face.facial_asymmetry(still) == pytest.approx(0, abs=1e-9)
    assert face.facial_asymmetry(turned) == pytest.approx(0, abs=1e-9)
    crooked = turned.copy()
    crooked[:, 61, 1] += 0.2
    assert face.facial_asymmetry(crooked) > 0.01
    assert face.facial_asymmetry(np.full((3, 468, 3), np.nan)) is None


def test_rigid_rotation_is_scipys():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((4, 12, 3))
    target = source @ Rotation.random(4, rng=0).as_matrix().transpose(0, 2, 1)
    target += 0.05 * rng.standard_normal(target.shape)
    ours = face.rigid_rotations(source, target)
    for i in range(4):
        expected, _ = Rotation.align_vectors(target[i], source[i])
        np.testing.assert_allclose(ours[i], expected.as_matrix(), atol=1e-9)


def test_known_head_motion_is_measured():
    n, speed = T, 20.0
    angles = speed * PERIOD * np.arange(n)
    turns = Rotation.from_euler("y", angles[:, None], degrees=True).as_matrix()
    points = np.einsum("nij,npj->npi", turns, head(n))
    still = face.head_motion(head(n), np.full(n, 50.0), PERIOD)
    assert still["head_translation_speed"] == pytest.approx(0, abs=1e-9)
    assert still["head_rotation_speed"] == pytest.approx(0, abs=1e-5)
    turning = face.head_motion(points, np.full(n, 50.0), PERIOD)
    assert turning["head_rotation_speed"] == pytest.approx(speed, rel=1e-6)
    assert turning["head_rotation_range"] == pytest.approx(angles.max(), rel=1e-6)
    moved = head(n) + np.array([0.3, 0.4, 0]) * PERIOD * np.arange(n)[:, None, None]
    moving = face.head_motion(moved, np.full(n, 50.0), PERIOD)
    assert moving["head_translation_speed"] == pytest.approx(0.5, rel=1e-6)
    gone = face.head_motion(np.full((n, 468, 3), np.nan), np.full(n, np.nan), PERIOD)
    assert set(gone.values()) == {None}


def test_a_skull_deforms_by_what_moves_against_its_rigid_motion():
    """Against a planted deformation, whatever the head does; and none without one."""
    n, hz, size = T, 1.0, 0.02
    turns = Rotation.from_euler("yx", np.linspace(0, [30, 10], n), degrees=True).as_matrix()
    still = head(n)
    posed = np.einsum("nij,npj->npi", turns, still) + np.linspace(0, 1, n)[:, None, None]
    assert face.skull_deformation(posed, PERIOD) == pytest.approx(0, abs=1e-9)
    # Both temples (127, 356; 234, 454) swing apart and together: no rigid motion does that.
    swing = size * np.sin(2 * np.pi * hz * PERIOD * np.arange(n))
    wobbling = still.copy()
    for right, left in ((127, 356), (234, 454)):
        wobbling[:, right, 0] -= swing
        wobbling[:, left, 0] += swing
    # sin(a + d) - sin(a) has the amplitude 2 sin(d / 2); 4 of 17 points move.
    expected = size * 2 * np.sin(np.pi * hz * 0.2) * np.sqrt(1 / 2 * 4 / 17)
    found = face.skull_deformation(wobbling, PERIOD)
    assert found == pytest.approx(expected, rel=0.1)
    assert face.skull_deformation(
        np.einsum("nij,npj->npi", turns[:1], wobbling), PERIOD
    ) == pytest.approx(found, rel=0.1)
    gaps = wobbling.copy()
    gaps[20:25] = np.nan
    assert face.skull_deformation(gaps, PERIOD) == pytest.approx(found, rel=0.1)
    assert face.skull_deformation(wobbling[:5], PERIOD) is None
    assert face.skull_deformation(np.full((n, 468, 3), np.nan), PERIOD) is None


def test_eye_aspect_ratio_is_height_over_width():
    points = np.zeros((1, 468, 3))
    for corners, x in ((face.RIGHT_EYE, -1.0), (face.LEFT_EYE, 1.0)):
        outer, inner, *lids = corners
        points[0, outer, 0], points[0, inner, 0] = x, 0.5 * x
        for upper, lower in (lids[:2], lids[2:]):
            points[0, upper, 1], points[0, lower, 1] = 0.07, -0.08
    assert face.eye_aspect_ratio(points) == pytest.approx(0.3)


@pytest.mark.parametrize("blinks", [0, 1, 3, 6])
def test_known_blinks_are_counted(blinks):
    rng = np.random.default_rng(blinks)
    ratio = 0.3 + 0.01 * rng.standard_normal(T)
    for i in range(blinks):
        ratio[10 + 23 * i : 15 + 23 * i] = [0.2, 0.1, 0.08, 0.15, 0.22]
    assert face.count_blinks(ratio, PERIOD) == blinks
    ratio[60:64] = np.nan
    assert face.count_blinks(ratio, PERIOD) == blinks


def test_looking_down_for_long_is_no_blink():
    ratio = np.full(T, 0.3)
    ratio[50:100] = 0.15
    assert face.count_blinks(ratio, PERIOD) == 0


def test_au_jerk_is_zero_for_a_still_face_and_grows_with_jitter():
    rng = np.random.default_rng(0)
    values = [
        face.au_jerk(head(T) + noise * rng.standard_normal((T, 468, 3)), PERIOD)
        for noise in (0.0, 0.001, 0.01)
    ]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[2] == pytest.approx(10 * values[1], rel=0.1)


# --- picture


def frame_table(n=T, **columns):
    stats = np.zeros((T, len(FRAME_STATS)), np.float32)
    stats[:, STAT["blockiness"]] = 1
    for name, values in columns.items():
        stats[:, STAT[name]] = values
    stats[n:] = np.nan
    stats[0, [STAT["difference"], STAT["duplicate"]]] = np.nan
    return stats


def describe_picture(stats, fresh=None, mask=None):
    mask = np.ones(T, bool) if mask is None else mask
    fresh = np.ones(T, bool) if fresh is None else fresh
    return picture.picture_descriptors(stats, mask, fresh, T, PERIOD)


def test_freezes_are_found_and_single_duplicates_are_no_freeze():
    duplicate = np.zeros(T)
    duplicate[[20, 40, 60]] = 1  # single repeats
    duplicate[100:125] = 1  # 26 frames of one picture
    values = describe_picture(frame_table(duplicate=duplicate))
    assert values["duplicated_share"] == pytest.approx(28 / 149)
    assert values["longest_freeze"] == pytest.approx(26 * PERIOD)
    assert values["frozen_share"] == pytest.approx(26 / 150)


def test_a_slow_source_is_not_frozen():
    fresh = np.arange(T) % 5 == 0  # 5 fps on the grid
    values = describe_picture(frame_table(), fresh=fresh)
    assert values["duplicated_share"] == values["frozen_share"] == values["longest_freeze"] == 0
    duplicate = np.zeros(T)
    duplicate[50:60] = 1  # two source frames that repeat, 0.2 s each
    values = describe_picture(frame_table(duplicate=duplicate), fresh=fresh)
    assert values["longest_freeze"] == pytest.approx(0.6)


def test_flicker_ignores_drifts():
    drift = describe_picture(frame_table(luma_mean=100 + 0.2 * np.arange(T)))
    assert drift["flicker_luma"] == pytest.approx(0, abs=1e-4)
    flicker = describe_picture(
        frame_table(luma_mean=100 + np.arange(T) % 2 * 3, cr_mean=np.arange(T) % 2 * 2)
    )
    assert flicker["flicker_luma"] == pytest.approx(3)
    assert flicker["flicker_chroma"] == pytest.approx(2)


def test_masked_frames_take_no_part():
    mask = np.arange(T) != 50
    stats = frame_table(luma_mean=100.0, sharpness=7.0)
    stats[50] = 1e6
    values = describe_picture(stats, mask=mask)
    assert values["luma"] == pytest.approx(100)
    assert values["flicker_luma"] == pytest.approx(0)
    assert values["sharpness"] == pytest.approx(7)


def test_statistics_of_real_pixels_lead_to_freezes():
    rng = np.random.default_rng(0)
    measure = FrameStatistics()
    image = cv2.GaussianBlur(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8), (0, 0), 2)
    rows = []
    for i in range(T):
        if not 60 <= i < 85:
            image = np.roll(image, 2, axis=1)
        rows.append(measure(image))
    values = describe_picture(np.stack(rows))
    assert values["longest_freeze"] == pytest.approx(26 * PERIOD)


# --- the whole


def make_row(sounding=True, seen=True, frames=T):
    rng = np.random.default_rng(0)
    x, contour = voice()
    gate = contour.reshape(T, 640).mean(axis=1)  # lips follow the voice
    landmarks = (head(T) * 0.1 + 0.5).astype(np.float32)
    landmarks[:, 13, :2] = np.stack([np.full(T, 0.5), 0.65 - 0.01 * gate], 1)
    landmarks[:, 14, :2] = np.stack([np.full(T, 0.5), 0.65 + 0.01 * gate], 1)
    landmarks += 1e-5 * rng.standard_normal(landmarks.shape).astype(np.float32)
    mask = np.arange(T) < frames
    face_mask = mask & seen
    landmarks[~face_mask] = 0
    return {
        "waveform": x[: frames * 640] if sounding else np.zeros(frames * 640, np.float32),
        "has_sound": sounding,
        "audio_mask": mask & sounding,
        "landmarks": landmarks.reshape(T, 1404),
        "face_mask": face_mask,
        "frame_mask": mask,
        "visual_crops": rng.integers(0, 255, (int(seen), 224, 224, 3), dtype=np.uint8),
        "visual_index": np.where(face_mask, 0, -1).astype(np.int32),
        "frame_stats": frame_table(frames, luma_mean=100.0),
        "image_size": (300, 300),
        "frame_times": np.arange(frames) / 25,
        "frame_period": 0.04,
    }


def run(row):
    extractor = Descriptors(DescriptorsConfig())
    check(row, extractor.needs)
    (out,) = extractor([row])
    check(out, extractor.adds)
    return out["descriptors"]


def test_names_and_types_are_the_columns_of_the_struct():
    values = run(make_row())
    assert tuple(values) == DESCRIPTOR_NAMES == tuple(DESCRIPTOR_FIELDS)
    assert all(isinstance(v, float) and np.isfinite(v) for v in values.values())


def test_a_talking_clip_reads_as_one():
    values = run(make_row())
    assert values["av_lag"] == pytest.approx(0, abs=PERIOD)
    assert values["av_correlation"] > 0.6
    assert values["speech_share"] == pytest.approx(0.8, abs=0.05)
    assert values["rhythm_agreement"] > 0.85
    assert values["blink_rate"] == 0


def test_without_sound_or_face_the_rest_remains():
    joint = (
        *("av_lag", "av_correlation", "lip_rate", "rhythm_agreement"),
        *("frozen_mouth", "still_mouth_share"),
    )
    mute = run(make_row(sounding=False))
    assert {n for n, v in mute.items() if v is None} == {*SOUND_DESCRIPTORS, *joint}
    unseen = run(make_row(seen=False))
    assert unseen["f0_mean"] == pytest.approx(run(make_row())["f0_mean"])
    assert unseen["luma"] == pytest.approx(100)
    for name in (*joint, "lip_opening_mean", "au_jerk", "facial_asymmetry", "blink_rate"):
        assert unseen[name] is None
    nothing = run(make_row(sounding=False, seen=False))
    assert nothing["face_sharpness"] is None


def test_the_shortest_clip_has_values_or_none():
    values = run(make_row(frames=25))
    assert all(v is None or np.isfinite(v) for v in values.values())
    assert values["f0_mean"] is not None


def test_results_do_not_depend_on_who_measured_first():
    alone = run(make_row())
    row = make_row()
    LowLevel(LowLevelConfig())([row])
    assert run(row) == alone
    other = make_row()
    run(other)
    LowLevel(LowLevelConfig())([other])
    np.testing.assert_array_equal(other["lowlevel"], row["lowlevel"])


def test_f0_of_real_speech_is_that_of_librosas_pyin():
    import av
    import librosa

    with av.open(str(clips_dir() / "generated" / "source" / "may.mp4")) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        parts = [
            out.to_ndarray().ravel()
            for frame in container.decode(audio=0)
            for out in resampler.resample(frame)
        ]
    x = np.concatenate(parts)[: 4 * RATE]
    frames = analyse_sound(x)
    reference, voiced, _ = librosa.pyin(
        x, fmin=65, fmax=500, sr=RATE, frame_length=1024, hop_length=160
    )
    n = min(len(reference), len(frames.f0))
    both = voiced[:n] & frames.voiced[:n]
    assert both.sum() > 0.7 * max(voiced[:n].sum(), frames.voiced[:n].sum())
    error = np.abs(frames.f0[:n][both] / reference[:n][both] - 1)
    assert np.median(error) < 0.01
    assert (error < 0.05).mean() > 0.9


def test_floors_of_logarithms_belong_to_descriptors_that_are_never_negative():
    signed = {"av_lag", "av_correlation", "loudness_dbfs", "loudness_lufs", "snr", "hnr"}
    assert set(LOG_FLOORS) <= set(DESCRIPTOR_NAMES) - signed
    assert all(floor > 0 for floor in LOG_FLOORS.values())
