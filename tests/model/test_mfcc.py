"""MFCC against python_speech_features, the package that SyncNet was trained with."""

import numpy as np
import pytest

from model.mfcc import mel_filters, mfcc, to_int16

psf = pytest.importorskip("python_speech_features")


def _speech(samples: int, seed: int = 0) -> np.ndarray:
    """Harmonics with a syllabic envelope and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 16_000
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
    signal = voice * np.clip(np.sin(2 * np.pi * 4 * t), 0, 1) * 6000 + rng.normal(0, 30, samples)
    return signal.astype(np.int16)


@pytest.mark.parametrize("samples", [1, 2, 399, 400, 401, 560, 561, 640, 3333, 96_000])
@pytest.mark.parametrize("kind", ["noise", "speech", "silence", "square"])
def test_mfcc_agrees_with_python_speech_features(kind: str, samples: int) -> None:
    rng = np.random.default_rng(samples)
    signal = {
        "noise": rng.integers(-32768, 32768, samples).astype(np.int16),
        "speech": _speech(samples, samples),
        "silence": np.zeros(samples, np.int16),
        "square": np.where(np.arange(samples) // 40 % 2, 32767, -32768).astype(np.int16),
    }[kind]
    np.testing.assert_allclose(mfcc(signal), psf.mfcc(signal, 16_000), rtol=0, atol=1e-9)


def test_silence_between_sounds_agrees() -> None:
    signal = _speech(16_000)
    signal[3000:9000] = 0
    np.testing.assert_allclose(mfcc(signal), psf.mfcc(signal, 16_000), rtol=0, atol=1e-9)


def test_mel_filters_agree() -> None:
    np.testing.assert_allclose(mel_filters(), psf.get_filterbanks(26, 512, 16_000), atol=1e-12)


def test_empty_sound_has_no_columns() -> None:
    assert mfcc(np.zeros(0, np.int16)).shape == (0, 13)


def test_float_sound_is_refused_because_only_coefficient_0_would_tell() -> None:
    signal = _speech(8000)
    shift = psf.mfcc(signal / 32768.0, 16_000) - psf.mfcc(signal, 16_000)
    assert shift[:, 0] == pytest.approx(-2 * np.log(32768), abs=1e-6)  # -20.79
    assert np.abs(shift[:, 1:]).max() < 1e-6
    with pytest.raises(ValueError, match="int16"):
        mfcc((signal / 32768.0).astype(np.float32))  # type: ignore[arg-type]


def test_int16_sound_round_trips_through_float32() -> None:
    everything = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(to_int16(everything.astype(np.float32) / 32768), everything)
    np.testing.assert_array_equal(
        to_int16(np.array([1.5, -1.5, 1.0], np.float32)), [32767, -32768, 32767]
    )
