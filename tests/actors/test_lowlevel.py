import librosa
import numpy as np
import pytest
import scipy.fft

from actors.clip_measures import frame_bounds, frame_means, fresh_frames, measure
from actors.frame_stats import FRAME_STATS, STAT
from actors.lowlevel import LOWLEVEL_NAMES, LowLevel, LowLevelConfig, log_mel, mfcc
from actors.pitch import track_pitch
from actors.row import check
from actors.sound_frames import analyse_sound, band_power, mel_filterbank, runs, speech_activity

RATE = 16_000
T = 150


def tone(f0, seconds=2.0, harmonics=1, level=0.3):
    """Harmonics falling by 6 dB an octave, peak ``level``."""
    t = np.arange(round(seconds * RATE)) / RATE
    count = min(harmonics, int(7500 / f0))
    x = sum(np.sin(2 * np.pi * f0 * k * t + k) / k for k in range(1, count + 1))
    return (level * x / np.abs(x).max()).astype(np.float32)


def column(name):
    return LOWLEVEL_NAMES.index(name)


def make_row(frames=T, waveform=None, audio=None, face=None):
    """A clip whose lips open at 2 Hz; the eyes are 0.2 of the picture's width apart."""
    rng = np.random.default_rng(0)
    landmarks = np.zeros((T, 468, 3), np.float32)
    landmarks[:, 33, :2], landmarks[:, 263, :2] = (0.4, 0.5), (0.6, 0.5)
    landmarks[:, 61, :2], landmarks[:, 291, :2] = (0.43, 0.7), (0.57, 0.7)
    half = 0.01 * (1 + np.sin(2 * np.pi * 2 * np.arange(T) / 25))
    landmarks[:, 13, :2] = np.stack([np.full(T, 0.5), 0.7 - half], 1)
    landmarks[:, 14, :2] = np.stack([np.full(T, 0.5), 0.7 + half], 1)
    mask = np.arange(T) < frames
    face_mask = mask if face is None else face & mask
    landmarks[~face_mask] = 0
    stats = np.zeros((T, len(FRAME_STATS)), np.float32)
    stats[:, STAT["difference"]] = 2.5
    stats[0, STAT["difference"]] = np.nan
    stats[~mask] = np.nan
    crops = rng.integers(0, 255, (3, 224, 224, 3), dtype=np.uint8)
    has_sound = waveform is not None
    return {
        "waveform": waveform if has_sound else np.zeros(frames * 640, np.float32),
        "has_sound": has_sound,
        "audio_mask": mask & has_sound if audio is None else audio & mask,
        "landmarks": landmarks.reshape(T, 1404),
        "face_mask": face_mask,
        "frame_mask": mask,
        "visual_crops": crops,
        "visual_index": np.where(face_mask, np.arange(T) % 3, -1).astype(np.int32),
        "frame_stats": stats,
        "image_size": (200, 200),
        "frame_times": np.arange(frames) / 25,
        "frame_period": 0.04,
    }


def stream(row):
    extractor = LowLevel(LowLevelConfig())
    check(row, extractor.needs)
    (out,) = extractor([row])
    check(out, extractor.adds)
    return out["lowlevel"]


# --- spectra


def test_mel_filterbank_is_librosas():
    np.testing.assert_allclose(
        mel_filterbank(40), librosa.filters.mel(sr=RATE, n_fft=512, n_mels=40), atol=1e-8
    )


def test_log_mel_and_mfcc_are_librosas():
    x = np.random.default_rng(1).standard_normal(RATE).astype(np.float32) * 0.1
    # Hop i is centred on 160 i + 80; librosa's first frame of 512 has its window at 56..456.
    padded = np.concatenate([np.zeros(120 + 56, np.float32), x, np.zeros(400, np.float32)])
    mel = librosa.feature.melspectrogram(
        y=padded, sr=RATE, n_fft=512, hop_length=160, win_length=400, n_mels=40, center=False
    )[:, :100]
    ours = log_mel(analyse_sound(x).power.astype(np.float64))
    reference = librosa.power_to_db(mel, top_db=None)
    np.testing.assert_allclose(ours, reference.T, atol=1e-3)
    np.testing.assert_allclose(
        mfcc(ours), librosa.feature.mfcc(S=reference, n_mfcc=13).T, atol=1e-2
    )


def test_band_power_is_that_of_parseval():
    x = tone(997, level=0.5)
    power = analyse_sound(x).power
    assert band_power(power, 800, 1200)[10:-10] == pytest.approx(0.125, rel=1e-3)
    assert band_power(power, 2000, 4000)[10:-10].max() < 1e-7


# --- pitch


@pytest.mark.parametrize("f0", [70.0, 97.3, 150.0, 233.1, 480.0])
@pytest.mark.parametrize("harmonics", [1, 12])
def test_f0_of_tones_is_within_half_a_per_cent(f0, harmonics):
    pitch = track_pitch(tone(f0, harmonics=harmonics), 200)
    assert pitch.voiced[5:-5].all()
    np.testing.assert_allclose(pitch.f0[5:-5], f0, rtol=0.005)


@pytest.mark.parametrize("ratio_db", [5, 10, 20, 30])
@pytest.mark.parametrize("f0", [110.0, 220.0])
def test_hnr_is_the_known_ratio_of_harmonics_to_noise(ratio_db, f0):
    x = tone(f0, harmonics=12)
    noise = np.random.default_rng(2).standard_normal(x.size)
    noise *= np.sqrt((x**2).mean() / (noise**2).mean()) * 10 ** (-ratio_db / 20)
    pitch = track_pitch((x + noise).astype(np.float32), 200)
    assert np.nanmean(pitch.hnr[5:-5]) == pytest.approx(ratio_db, abs=0.6)
    assert np.median(pitch.f0[5:-5]) == pytest.approx(f0, rel=0.005)


def test_noise_and_silence_are_unvoiced():
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    assert track_pitch(noise, 200).voiced.mean() < 0.02
    silent = track_pitch(np.zeros(RATE, np.float32), 100)
    assert not silent.voiced.any()
    assert (silent.f0 == 0).all()
    assert np.isnan(silent.hnr).all()


def test_pitch_follows_a_glide_as_librosas_yin_does():
    t = np.arange(3 * RATE) / RATE
    phase = 2 * np.pi * (120 * t + 20 * t**2)
    x = sum(np.sin(k * phase) / k for k in range(1, 10)).astype(np.float32) * 0.2
    truth = 120 + 40 * (np.arange(300) * 160 + 80) / RATE
    pitch = track_pitch(x, 300)
    np.testing.assert_allclose(pitch.f0[5:-5], truth[5:-5], rtol=0.01)
    yin = librosa.yin(x, fmin=65, fmax=500, sr=RATE, frame_length=1024, hop_length=160)
    np.testing.assert_allclose(pitch.f0[10:-10], yin[10:290], rtol=0.03)


def test_long_sounds_are_tracked_in_parts_without_a_seam():
    x = tone(140, seconds=12, harmonics=8)
    whole = track_pitch(x, 1200)
    part = track_pitch(x[: 6 * RATE], 600)
    np.testing.assert_allclose(whole.f0[5:590], part.f0[5:590], rtol=1e-5)
    assert whole.voiced[5:-5].all()


# --- speech activity


def test_speech_activity_finds_bursts_and_closes_stops():
    level = np.full(300, -70.0, np.float32)
    level[50:100] = level[110:150] = -20  # a stop of 100 ms between
    level[200:250] = -30
    level[280:283] = -20  # a click
    active = speech_activity(level, np.zeros(300, bool))
    np.testing.assert_array_equal(runs(active), [[50, 150], [200, 250]])


def test_nobody_speaks_in_steady_noise_or_silence():
    noise = (0.05 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32)
    assert analyse_sound(noise).active.mean() < 0.05
    assert not analyse_sound(np.zeros(RATE, np.float32)).active.any()


# --- frames and time


def test_frame_bounds_are_four_hops_at_25_fps_and_follow_other_periods():
    np.testing.assert_array_equal(
        frame_bounds(600, 150, 0.04), np.stack([np.arange(150) * 4, np.arange(150) * 4 + 4], 1)
    )
    assert frame_bounds(6000, 150, 0.4)[-1].tolist() == [5960, 6000]
    assert frame_bounds(98, 25, 0.04)[-1].tolist() == [96, 98]
    assert frame_bounds(50, 25, 0.04)[-1].tolist() == [49, 50]


def test_frame_means_are_plain_means():
    values = np.random.default_rng(0).random((20, 3))
    bounds = np.array([[0, 4], [4, 5], [5, 20]])
    expected = [values[a:b].mean(0) for a, b in bounds]
    np.testing.assert_allclose(frame_means(values, bounds), expected)


def test_repeats_of_a_slow_source_are_not_fresh():
    fresh = fresh_frames(np.array([0.0, 0.0, 0.1, 0.1, 0.1, 0.2]))
    assert np.flatnonzero(fresh).tolist() == [0, 2, 5]


# --- the stream


def test_there_are_64_names():
    assert len(LOWLEVEL_NAMES) == len(set(LOWLEVEL_NAMES)) == 64


def test_sound_sits_on_its_frames():
    x = np.zeros(6 * RATE, np.float32)
    x[50 * 640 : 75 * 640] = tone(200, seconds=1.0, level=0.5)
    out = stream(make_row(waveform=x))
    energy = out[:, column("energy")]
    assert energy[51:74] == pytest.approx(10 * np.log10(0.125), abs=0.1)
    assert (energy[:49] < -90).all()
    assert (energy[76:] < -90).all()
    assert energy[50] == pytest.approx(energy[74], abs=0.1)  # the same before and behind the middle
    assert out[52:73, column("f0")] == pytest.approx(200, rel=0.005)
    assert (out[52:73, column("voicing")] == 1).all()
    assert (out[:45, column("f0")] == 0).all()
    np.testing.assert_allclose(
        out[60, 40:53], scipy.fft.dct(out[60, :40], norm="ortho")[:13], atol=1e-3
    )


def test_whole_policy_spreads_the_sound_over_the_frames():
    x = np.zeros(60 * RATE, np.float32)
    x[30 * RATE : 32 * RATE] = tone(200, seconds=2.0)
    row = make_row(waveform=x)
    row["frame_times"] = np.arange(T) * 0.4
    row["frame_period"] = 0.4
    loud = np.flatnonzero(stream(row)[:, column("energy")] > -20)
    assert loud.tolist() == [75, 76, 77, 78, 79]


def test_lips_are_in_interocular_units_with_differences():
    out = stream(make_row())
    opening = 2 * 0.01 * (1 + np.sin(2 * np.pi * 2 * np.arange(T) / 25)) / 0.2
    np.testing.assert_allclose(out[:, column("lip_opening")], opening, atol=1e-5)
    np.testing.assert_allclose(out[:, column("lip_width")], 0.7, atol=1e-5)
    np.testing.assert_allclose(out[1:, column("lip_opening_d1")], np.diff(opening), atol=1e-5)
    np.testing.assert_allclose(out[2:, column("lip_opening_d2")], np.diff(opening, 2), atol=1e-5)
    assert out[0, column("lip_opening_d1")] == out[1, column("lip_opening_d2")] == 0


def test_absent_parts_are_zero_and_everything_is_finite():
    face = np.arange(T) % 10 != 5
    audio = np.arange(T) < 100
    x = np.random.default_rng(0).standard_normal(120 * 640).astype(np.float32) * 0.1
    out = stream(make_row(frames=120, waveform=x, audio=audio, face=face))
    assert np.isfinite(out).all()
    assert not out[120:].any()
    assert not out[100:, : column("lip_opening")].any()
    assert out[:100, 0].all()
    lips = slice(column("lip_opening"), column("face_sharpness") + 1)
    assert not out[~face, lips].any()
    assert out[6, column("lip_opening_d1")] == 0  # the frame before has no face
    assert out[1:120, -1] == pytest.approx(2.5)
    assert out[0, -1] == 0
    silent = stream(make_row())
    assert not silent[:, : column("lip_opening")].any()
    assert silent[:, column("face_sharpness")].all()


def test_a_repeated_source_frame_differs_by_nothing():
    row = make_row()
    row["frame_times"] = np.floor(np.arange(T) / 2) * 0.08
    out = stream(row)
    assert (out[2::2, -1] == 2.5).all()
    assert (out[1::2, -1] == 0).all()


def test_measures_refuse_a_clip_without_frames():
    row = make_row()
    row["frame_times"] = np.zeros(0)
    with pytest.raises(ValueError, match="frame_times"):
        measure(row)
