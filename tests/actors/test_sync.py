"""Lip sync of prepared clips: against an independent computation, signs, reasons, precision."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.signal import medfilt

from actors.row import check
from actors.sync import Sync, SyncConfig, fit_faces, runs, sounding_span, window_mask
from actors.sync_weights import (
    load_syncnet,
    synthetic_face,
    synthetic_voice,
    trained_metadata,
)
from actors.types import CLIP_FRAMES, Row
from actors.weights import WeightsError
from model.syncnet import SyncNet
from tests.support import clips_dir

FP32 = SyncConfig(weights="seeded", precision="fp32", min_windows=8)


@pytest.fixture(scope="module")
def network() -> SyncNet:
    return load_syncnet("seeded")[0]


@pytest.fixture(scope="module")
def seeded() -> Sync:
    return Sync(FP32)


def _row(crops: np.ndarray, samples: np.ndarray, **changes: Any) -> Row:
    """A clip as it comes from preparation: every frame has its own crop."""
    frames = len(crops)
    mask = np.arange(CLIP_FRAMES) < frames
    row: Row = {
        "sync_crops": crops,
        "sync_index": np.arange(frames, dtype=np.int32),
        "waveform": samples.astype(np.float32) / 32768,
        "has_sound": True,
        "frame_mask": mask,
        "audio_mask": mask.copy(),
        "frame_times": np.arange(frames) / 25,
    }
    return row | changes


@pytest.fixture(scope="module")
def clip() -> Row:
    """18 frames, 13 windows."""
    return _row(synthetic_face(18, seed=9), synthetic_voice(0.72, seed=9))


def _independent(crops: np.ndarray, samples: np.ndarray, net: SyncNet) -> dict[str, Any]:
    """The published evaluation in plain loops: original layers, python_speech_features, NumPy."""
    psf = pytest.importorskip("python_speech_features")
    coefficients = psf.mfcc(samples, 16_000)
    count = min(len(crops), len(samples) // 640) - 5
    lips, sounds = [], []
    for i in range(count):
        picture = crops[i : i + 5, ..., ::-1].astype(np.float32)  # BGR
        lip = torch.from_numpy(picture).permute(3, 0, 1, 2)[None]
        sound = torch.from_numpy(coefficients[4 * i : 4 * i + 20].T.astype(np.float32))[None, None]
        with torch.no_grad():
            lips.append(net.netfclip(net.netcnnlip(lip).flatten(1))[0].numpy())
            sounds.append(net.netfcaud(net.netcnnaud(sound).flatten(1))[0].numpy())
    table = np.zeros((31, count))
    for i in range(count):
        for j in range(31):
            k = i + j - 15
            other = sounds[k] if 0 <= k < count else np.zeros_like(sounds[0])
            table[j, i] = np.sqrt(np.sum((lips[i] - other + 1e-6) ** 2))
    means = table.mean(axis=1)
    best = int(means.argmin())
    median = sorted(means)[15]
    return {
        "offset": 15 - best,
        "distances": means,
        "min_distance": means[best],
        "confidence": median - means[best],
        "per_window": medfilt(median - table[best], 9),
    }


def test_all_measures_equal_an_independent_computation(
    seeded: Sync, network: SyncNet, clip: Row
) -> None:
    samples = np.round(clip["waveform"] * 32768).astype(np.int16)
    expected = _independent(clip["sync_crops"], samples, network)
    got = seeded.measure(clip["sync_crops"], clip["sync_index"], samples)
    assert not isinstance(got, str)
    assert got.offset == expected["offset"]
    for name in ("min_distance", "confidence"):
        assert getattr(got, name) == pytest.approx(expected[name], abs=1e-4)
    for name in ("distances", "per_window"):
        np.testing.assert_allclose(getattr(got, name), expected[name], atol=1e-4)

    row = seeded([dict(clip)])[0]
    confidence = expected["confidence"]
    score = 5 / (1 + np.exp(-10 * (confidence / 10 - 0.5)))
    wanted = [score, expected["offset"], confidence, expected["min_distance"]]
    np.testing.assert_allclose(row["sync"], wanted, atol=1e-4)
    check(row, Sync.adds)


# --- planted weights: brightness of the picture against loudness of the sound

UNITS = 64
QUIET, LOUD = 13.0, 23.0  # log energy of int16 noise


def _planted() -> dict[str, torch.Tensor]:
    """Weights whose embeddings of both streams are a thermometer of one level in 0..1.

    Lips: brightness / 255 of a pixel. Sound: MFCC 0 (log energy) on QUIET..LOUD.
    """
    net = SyncNet()
    state = net.state_dict()
    for name, tensor in state.items():
        is_norm = name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1)
        tensor.fill_(1.0 if is_norm else 0.0)
    # Pooling makes the sound stream see columns 4..10, the second and third frame of the window.
    state["netcnnlip.0.weight"][0, :, 1:3, 3, 3] = 1 / 6
    for name in ("netcnnlip.4", "netcnnlip.8", "netcnnlip.11", "netcnnlip.14"):
        middle = state[f"{name}.weight"].shape[-1] // 2
        state[f"{name}.weight"][0, 0, 0, middle, middle] = 1
    state["netcnnlip.18.weight"][0, 0, 0, 3, 3] = 1
    for index in (0, 4, 8, 11, 14):
        state[f"netcnnaud.{index}.weight"][0, 0, 1, 1] = 1
    state["netcnnaud.18.weight"][0, 0, 0, 1] = 1
    steps = torch.arange(UNITS) / UNITS
    for part, gain, zero in (
        ("netfclip", 1 / 255, 0.0),
        ("netfcaud", 1 / (LOUD - QUIET), QUIET / (LOUD - QUIET)),
    ):
        state[f"{part}.0.weight"][:UNITS, 0] = gain
        state[f"{part}.0.bias"][:UNITS] = -zero - steps
        state[f"{part}.3.weight"][torch.arange(UNITS), torch.arange(UNITS)] = 1
        state[f"{part}.3.bias"][:UNITS] = -(0.5 - steps).clamp_min(
            0
        )  # level 0.5 is the zero vector
    return {f"__S__.{name}": tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def planted_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "syncnet_v2.model"
    torch.save(_planted(), path)
    return path


@pytest.fixture(scope="module")
def planted(planted_file: Path) -> Sync:
    return Sync(SyncConfig(weights=str(planted_file), precision="fp32"))


def _levels(frames: int) -> np.ndarray:
    """A level for each frame, 0.15..0.85, smooth as syllables are and never repeating."""
    rng = np.random.default_rng(4)
    smooth = np.convolve(rng.normal(size=frames + 8), np.hanning(7), "valid")[:frames]
    return 0.5 + 0.35 * np.clip(smooth / (2.5 * smooth.std()), -1, 1)


def _flickering_clip(shift: int, frames: int = 34) -> Row:
    """Picture and noise that follow one level; the sound comes ``shift`` frames early."""
    levels = _levels(frames + 60)
    brightness = np.round(255 * levels[30 : 30 + frames]).astype(np.uint8)
    crops = np.broadcast_to(brightness[:, None, None, None], (frames, 224, 224, 3))
    loudness = levels[30 + shift : 30 + shift + frames]
    # By Parseval, 400 samples of white noise of deviation a have (1 + 0.97²) 400 a² / 2 in the
    # one-sided spectrum.
    constant = np.log((1 + 0.97**2) * 200)
    amplitude = np.exp((QUIET + (LOUD - QUIET) * loudness - constant) / 2)
    noise = np.random.default_rng(0).normal(size=640 * frames) * np.repeat(amplitude, 640)
    return _row(np.ascontiguousarray(crops), np.clip(noise, -32768, 32767).astype(np.int16))


def test_published_names_load_and_shifted_sound_moves_the_offset(planted: Sync) -> None:
    assert planted.demonstration is False
    shifts = (-5, 0, 5)
    rows = planted([_flickering_clip(shift) for shift in shifts])
    offsets = [row["sync"][1] for row in rows]
    assert offsets == list(shifts)  # early sound: positive
    assert all(row["sync"][2] > 0.15 for row in rows)


# --- no silent gaps


def _reason(sync: Sync, row: Row) -> str:
    out = sync([row])[0]
    check(out, Sync.adds)
    assert np.isnan(out["sync"]).all()
    return str(out["sync_reason"])


def test_a_clip_without_sound_says_so(seeded: Sync, clip: Row) -> None:
    assert _reason(seeded, clip | {"has_sound": False}) == "no_sound"


def test_short_clips_say_so(seeded: Sync, clip: Row) -> None:
    short = _row(clip["sync_crops"][:12], synthetic_voice(0.8, 0))  # 7 windows
    assert _reason(seeded, short) == "too_short"
    little_sound = clip | {"waveform": np.zeros(640 * 10, np.float32)}
    assert _reason(seeded, little_sound) == "too_short"


def test_a_clip_without_a_face_says_so(seeded: Sync, clip: Row) -> None:
    faceless = clip | {
        "sync_crops": np.zeros((0, 224, 224, 3), np.uint8),
        "sync_index": np.full(18, -1, np.int32),
    }
    assert _reason(seeded, faceless) == "no_face"


def test_too_few_face_frames_say_so(seeded: Sync, clip: Row) -> None:
    index = clip["sync_index"].copy()
    index[6] = -1  # spoils the windows 2..6 of 13: 8 remain
    assert seeded([clip | {"sync_index": index}])[0]["sync_reason"] is None
    index[15] = -1
    assert _reason(seeded, clip | {"sync_index": index}) == "too_few_face_frames"
    index[:] = np.where(np.arange(18) < 13, np.arange(18), -1)  # 9 of 13 windows: a share of 0.69
    strict = Sync(FP32.model_copy(update={"min_face_share": 0.7}))
    assert _reason(strict, clip | {"sync_index": index}) == "too_few_face_frames"


def test_windows_that_touch_a_masked_frame_change_nothing(seeded: Sync, clip: Row) -> None:
    mask = clip["frame_mask"].copy()
    mask[10] = False
    dirty = clip["sync_crops"].copy()
    dirty[10] = 255
    a = seeded([clip | {"frame_mask": mask}])[0]["sync"]
    b = seeded([clip | {"frame_mask": mask, "sync_crops": dirty}])[0]["sync"]
    c = seeded([dict(clip)])[0]["sync"]
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_sound_that_ends_early_ends_the_measurement(seeded: Sync, clip: Row) -> None:
    heard = np.arange(CLIP_FRAMES) < 16
    silent_tail = clip["waveform"].copy()
    silent_tail[16 * 640 :] = 0
    a = seeded([clip | {"waveform": silent_tail, "audio_mask": heard}])[0]["sync"]
    samples = np.round(silent_tail[: 16 * 640] * 32768).astype(np.int16)
    b = seeded.measure(clip["sync_crops"], clip["sync_index"], samples)
    assert not isinstance(b, str)
    np.testing.assert_allclose(a[1:], [b.offset, b.confidence, b.min_distance], rtol=1e-6)


def test_helpers() -> None:
    present = np.ones(12, np.bool_)
    present[5] = False
    np.testing.assert_array_equal(window_mask(present, 7), [1, 0, 0, 0, 0, 0, 1])
    assert window_mask(present, 0).size == 0
    assert runs(np.array([1, 1, 1, 0, 1, 0, 0, 1], np.bool_), 2) == [(0, 2), (2, 3), (4, 5), (7, 8)]
    assert runs(np.zeros(4, np.bool_), 2) == []
    assert sounding_span(np.array([0, 0, 1, 0, 1, 0], np.bool_)) == (2, 5)
    assert sounding_span(np.zeros(3, np.bool_)) == (0, 0)


# --- batches, duplicates, modes, precision


def test_same_bits_alone_and_in_a_batch_and_with_shared_crops(seeded: Sync, clip: Row) -> None:
    other = _row(synthetic_face(24, seed=5), synthetic_voice(0.96, seed=5))
    alone = [seeded([dict(row)])[0]["sync"] for row in (clip, other)]
    together = [row["sync"] for row in seeded([dict(other), dict(clip)])]
    np.testing.assert_array_equal(alone[0], together[1])
    np.testing.assert_array_equal(alone[1], together[0])
    frozen = clip | {"sync_index": np.minimum(clip["sync_index"], 12)}
    copied = clip | {"sync_crops": clip["sync_crops"][np.minimum(np.arange(18), 12)]}
    np.testing.assert_array_equal(*(seeded([row])[0]["sync"] for row in (frozen, copied)))


def test_other_sub_batches_agree(seeded: Sync, clip: Row) -> None:
    small = Sync(FP32.model_copy(update={"batch_windows": 5}))
    a, b = (sync([dict(clip)])[0]["sync"] for sync in (small, seeded))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_real_clips_bf16_keeps_lse_and_offset(seeded: Sync) -> None:
    from actors.decode import DecodeConfig, VideoReader

    fast = Sync(FP32.model_copy(update={"precision": "bf16"}))
    path = clips_dir() / "real" / "talk_mpeg4_16k.mp4"
    frames = 26
    with path.open("rb") as file, VideoReader(file, DecodeConfig(), path.name) as reader:
        pictures = [frame.image for frame in reader.frames()][:frames]
        sound = reader.sound()
    assert sound is not None
    crops = np.stack([np.ascontiguousarray(p[60:508:2, 32:480:2]) for p in pictures])  # type: ignore[index]
    samples = np.round(sound.samples[: 640 * frames] * 32768).astype(np.int16)
    index = np.arange(frames, dtype=np.int32)
    a, b = seeded.measure(crops, index, samples), fast.measure(crops, index, samples)
    assert not isinstance(a, str)
    assert not isinstance(b, str)
    assert a.offset == b.offset
    assert a.min_distance == pytest.approx(b.min_distance, abs=0.05)
    assert a.confidence == pytest.approx(b.confidence, abs=0.05)
    assert fast.dtype == torch.bfloat16
    assert "LSE on the probe" in fast.precision_note


# --- weights


def test_seeded_weights_are_the_same_each_time_and_leave_the_global_generator_alone(
    network: SyncNet,
) -> None:
    before = torch.get_rng_state()
    again, loaded = load_syncnet("seeded")
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert loaded.demonstration
    assert loaded.digest.startswith("seeded-")


def test_pretrained_says_where_the_file_is_to_be_had() -> None:
    with pytest.raises(WeightsError, match=r"(?s)syncnet_v2\.model.*joonson/syncnet_python"):
        Sync(SyncConfig(weights="pretrained"))


def test_other_weights_are_refused_by_name(planted_file: Path, tmp_path: Path) -> None:
    state = torch.load(planted_file, weights_only=True)
    del state["__S__.netfcaud.3.weight"]
    state["__S__.netcnnlip.0.weight"] = torch.zeros(96, 3, 5, 3, 3)
    wrong = tmp_path / "wrong.model"
    torch.save(state, wrong)
    with pytest.raises(WeightsError, match=r"netfcaud\.3\.weight is missing") as error:
        Sync(SyncConfig(weights=str(wrong)))
    assert "(96, 3, 5, 3, 3) instead of (96, 3, 5, 7, 7)" in str(error.value)


def test_weights_that_are_not_numbers_are_an_error_of_the_video(
    planted_file: Path, tmp_path: Path
) -> None:
    from actors.errors import VideoError

    state = torch.load(planted_file, weights_only=True)
    state["__S__.netfclip.3.bias"][0] = torch.nan
    damaged = tmp_path / "damaged.model"
    torch.save(state, damaged)
    sync = Sync(FP32.model_copy(update={"weights": str(damaged)}))
    with pytest.raises(VideoError, match="not finite"):
        sync([_flickering_clip(0, frames=18)])


# --- trained networks of other sizes


@pytest.fixture(scope="module")
def trained_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as jobs/train_sync.py writes it."""
    path = tmp_path_factory.mktemp("trained") / "small.safetensors"
    _write(path, _small_net())
    return path


def _small_net() -> SyncNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = SyncNet(1 / 16, 96, 32).train()
        g = torch.Generator().manual_seed(1)
        frames = 255 * torch.rand(2, 3, 12, 96, 96, generator=g)
        net(frames, 10 * torch.randn(16, 1, 13, 20, generator=g))
    return net.eval()


def _write(path: Path, net: SyncNet, **changes: str) -> None:
    state = {k: v.half() if v.ndim > 1 else v for k, v in net.state_dict().items()}
    metadata = trained_metadata(net, demonstration=True, code_version="0", corpus="c")
    save_file(state, path, metadata | changes)


def test_a_small_network_loads_back(trained_file: Path) -> None:
    net, loaded = load_syncnet(str(trained_file))
    assert (net.width, net.face, net.embedding) == (1 / 16, 96, 32)
    assert loaded.demonstration
    assert len(loaded.digest) == 16
    assert not net.training
    for name, tensor in _small_net().state_dict().items():
        found = net.state_dict()[name]
        assert found.dtype == tensor.dtype
        torch.testing.assert_close(found, tensor.half().float() if tensor.ndim > 1 else tensor)


def test_a_small_network_measures_shrunk_faces(trained_file: Path, clip: Row) -> None:
    """Against the original layers on faces that were shrunk beforehand."""
    net, _ = load_syncnet(str(trained_file))
    config = FP32.model_copy(update={"weights": str(trained_file)})
    sync = Sync(config)
    assert sync.face == 96
    samples = np.round(clip["waveform"] * 32768).astype(np.int16)
    small = fit_faces(clip["sync_crops"], 96)
    expected = _independent(small, samples, net)
    got = sync.measure(clip["sync_crops"], clip["sync_index"], samples)
    assert not isinstance(got, str)
    assert got.offset == expected["offset"]
    assert got.min_distance == pytest.approx(expected["min_distance"], rel=1e-4)
    fast = Sync(config.model_copy(update={"precision": "auto"}))
    again = fast.measure(clip["sync_crops"], clip["sync_index"], samples)
    assert not isinstance(again, str)
    assert again.min_distance == pytest.approx(got.min_distance, rel=0.01)


def test_shrinking_takes_means() -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (2, 224, 224, 3), np.uint8)
    assert fit_faces(crops, 224) is crops
    means = crops.reshape(2, 112, 2, 112, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(fit_faces(crops, 112), means, atol=0.5)
    assert fit_faces(crops, 96).shape == (2, 96, 96, 3)
    assert abs(fit_faces(crops, 96).mean() - crops.mean()) < 0.5
    assert fit_faces(crops[:0], 96).shape == (0, 96, 96, 3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "9"}, "format version '9'"),
        ({"network": "{"}, "metadata is damaged"),
        ({"network": "[]"}, "metadata is damaged"),
        ({"network": '{"width": 0.0625, "face": 96}'}, "KeyError"),
        ({"network": '{"width": 0.0625, "face": 9, "embedding": 32}'}, "too small"),
        ({"network": '{"width": 1e9, "face": 96, "embedding": 32}'}, "no such network"),
        ({"network": '{"width": "x", "face": 96, "embedding": 32}'}, "no such network"),
        ({"network": '{"width": 0.125, "face": 96, "embedding": 32}'}, "instead of"),
        ({"demonstration": "maybe"}, "metadata is damaged"),
        ({"demonstration": "1"}, "metadata is damaged"),
        ({"format": "other"}, "not the weights of SyncNet"),
    ],
)
def test_damaged_files_of_trained_weights(
    tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    path = tmp_path / "w.safetensors"
    _write(path, _small_net(), **changes)
    with pytest.raises(WeightsError, match=re.escape(says)) as error:
        load_syncnet(str(path))
    assert str(path) in str(error.value)


def test_trained_weights_that_lack_a_tensor(tmp_path: Path, trained_file: Path) -> None:
    data = trained_file.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(data[:-50])
    with pytest.raises(WeightsError, match="damaged"):
        load_syncnet(str(cut))
    net = _small_net()
    state = net.state_dict()
    del state["netfclip.3.bias"]
    lacking = tmp_path / "lacking.safetensors"
    metadata = trained_metadata(net, demonstration=False, code_version="0", corpus="c")
    save_file(state, lacking, metadata)
    with pytest.raises(WeightsError, match=r"netfclip\.3\.bias is missing"):
        load_syncnet(str(lacking))
