import hashlib
import json
from pathlib import Path
from typing import Any

import av
import fsspec
import huggingface_hub
import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from actors import audio, audio_weights
from actors.audio import Audio, AudioConfig, synthetic_speech
from actors.precision import min_cosine
from actors.row import check
from actors.weights import WeightsError
from tests.support import clips_dir

SMALL = {
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
}
VOICE = synthetic_speech(6.0, seed=5)


def row(sound: np.ndarray, frames: int = 150, has_sound: bool = True) -> dict[str, Any]:
    return {
        "video_id": "v",
        "waveform": sound,
        "has_sound": has_sound,
        "frame_times": np.arange(frames) / 25,
    }


@pytest.fixture(scope="module")
def model() -> HubertModel:
    torch.manual_seed(4)
    return HubertModel(HubertConfig(**SMALL)).eval()


@pytest.fixture(scope="module")
def folder(model: HubertModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers saves it."""
    path = tmp_path_factory.mktemp("hubert")
    model.save_pretrained(path)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def small(folder: Path) -> Audio:
    return Audio(AudioConfig(weights=str(folder), precision="fp32"))


@pytest.fixture(scope="module")
def seeded() -> Audio:
    return Audio(AudioConfig(weights="seeded"))


def reference(model: HubertModel, sound: np.ndarray, frames: int) -> np.ndarray:
    """Independent: numpy normalisation and interpolation, transformers' own forward pass."""
    x = sound.astype(np.float64)
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
    with torch.no_grad():
        hidden = model(torch.from_numpy(x[None]).float()).last_hidden_state[0].numpy()
    steps = len(hidden)
    at = np.clip((np.arange(frames) + 0.5) * steps / frames - 0.5, 0, steps - 1)
    return np.stack([np.interp(at, np.arange(steps), c) for c in hidden.T], 1)


@pytest.mark.parametrize(("steps", "frames"), [(299, 150), (61, 31), (1, 1), (3, 150)])
def test_interpolation_against_numpy(steps: int, frames: int) -> None:
    hidden = np.random.default_rng(steps).standard_normal((steps, 5)).astype(np.float32)
    made = audio.to_frames(torch.from_numpy(hidden), frames)
    at = np.clip((np.arange(frames) + 0.5) * steps / frames - 0.5, 0, steps - 1)
    expected = np.stack([np.interp(at, np.arange(steps), c) for c in hidden.T], 1)
    np.testing.assert_allclose(made[:frames], expected, atol=2e-3)
    assert not made[frames:].any()


@pytest.mark.parametrize(("seconds", "frames"), [(6.0, 150), (1.24, 31)])
def test_folder_against_transformers(
    small: Audio, model: HubertModel, seconds: float, frames: int
) -> None:
    sound = synthetic_speech(seconds, seed=2)
    (made,) = small([row(sound, frames)])
    check(made, Audio.adds)
    np.testing.assert_allclose(made["audio"][:frames], reference(model, sound, frames), atol=3e-3)
    assert not made["audio"][frames:].any()


def test_whole_policy_spreads_the_sound_over_all_frames(folder: Path, model: HubertModel) -> None:
    made = Audio(AudioConfig(weights=str(folder), precision="fp32"), stretch_to_clip=True)
    sound = synthetic_speech(7.3, seed=2)
    (out,) = made([row(sound, 40)])
    np.testing.assert_allclose(out["audio"], reference(model, sound, 150), atol=3e-3)


def test_no_sound_and_too_short_sound_give_zeros(small: Audio) -> None:
    rows = small(
        [row(VOICE, has_sound=False), row(VOICE[:399]), row(VOICE[:400], 1), row(VOICE, 0)]
    )
    assert [bool(r["audio"].any()) for r in rows] == [False, False, True, False]


def test_same_bits_alone_and_in_a_batch(seeded: Audio) -> None:
    sounds = [VOICE, VOICE[:32000], VOICE[::-1].copy(), VOICE[:32001]]
    for sound in sounds:
        sound.flags.writeable = False  # as Ray hands them over
    together = [r["audio"] for r in seeded([row(s) for s in sounds])]
    for sound, made in zip(sounds, together, strict=True):
        np.testing.assert_array_equal(made, seeded([row(sound)])[0]["audio"])


def test_larger_batches_agree_with_single_clips(folder: Path, small: Audio) -> None:
    batched = Audio(AudioConfig(weights=str(folder), precision="fp32", batch_clips=3))
    sounds = [VOICE, VOICE[::-1].copy(), VOICE * 0.1, VOICE[:48000]]
    for a, b in zip(
        batched([row(s) for s in sounds]), small([row(s) for s in sounds]), strict=True
    ):
        np.testing.assert_allclose(a["audio"], b["audio"], atol=3e-3)


def test_seeded_features_depend_on_the_sound(seeded: Audio) -> None:
    (made,) = seeded([row(VOICE)])
    features = made["audio"].astype(np.float64)
    assert features.std(0).mean() > 0.2
    assert seeded.demonstration
    assert seeded.digest == "seeded-hubertbase-v1"


def test_mixed_precision_on_real_clips(seeded: Audio) -> None:
    exact = Audio(AudioConfig(weights="seeded", precision="fp32"))
    paths = sorted(clips_dir().rglob("*.mp4"))
    checked = 0
    for path in paths[::6]:
        sound = decode(path)
        if sound is None:
            continue
        a, b = (torch.from_numpy(m([row(sound)])[0]["audio"]) for m in (seeded, exact))
        assert min_cosine(a, b) >= 0.9995
        checked += 1
    assert checked


def decode(path: Path) -> np.ndarray | None:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        resampler = av.AudioResampler("flt", "mono", 16000)
        parts = [
            out.to_ndarray()[0]
            for frame in container.decode(audio=0)
            for out in resampler.resample(frame)
        ]
    return np.concatenate(parts)[:96000]


def test_digest_covers_every_file_that_changes_values(small: Audio, folder: Path) -> None:
    names = ("model.safetensors", "config.json", "preprocessor_config.json")
    content = b"".join((folder / n).read_bytes() for n in names)
    assert small.digest == hashlib.sha256(content).hexdigest()[:16]
    assert not small.demonstration


def test_remote_folder_and_older_parameter_names(
    small: Audio, model: HubertModel, folder: Path
) -> None:
    """A pytorch_model.bin as published: weight_g and weight_v, as a part of a larger model."""
    names = {
        "parametrizations.weight.original0": "weight_g",
        "parametrizations.weight.original1": "weight_v",
    }
    state = {"lm_head.bias": torch.ones(3)}
    for key, value in model.state_dict().items():
        for new, old in names.items():
            key = key.replace(new, old)  # noqa: PLW2901
        state[f"hubert.{key}"] = value
    with fsspec.open("memory://hubert-old/pytorch_model.bin", "wb") as file:
        torch.save(state, file)
    with fsspec.open("memory://hubert-old/config.json", "wb") as file:
        file.write((folder / "config.json").read_bytes())
    old = Audio(AudioConfig(weights="memory://hubert-old", precision="fp32"))
    a, b = (m([row(VOICE)])[0]["audio"] for m in (old, small))
    np.testing.assert_array_equal(a, b)


def test_single_file(small: Audio, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.HubertConfig", lambda: HubertConfig(**SMALL))
    single = Audio(AudioConfig(weights=str(folder / "model.safetensors"), precision="fp32"))
    a, b = (m([row(VOICE)])[0]["audio"] for m in (single, small))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, r"has no model\.safetensors or pytorch_model\.bin"),
        ({"model.safetensors": ""}, r"has no config\.json"),
        ({"model.safetensors": "", "config.json": "{"}, r"config\.json is not JSON"),
        ({"model.safetensors": "", "config.json": "[]"}, "not a JSON object"),
        (
            {"model.safetensors": "", "config.json": json.dumps({"model_type": "wavlm"})},
            "describes a wavlm model",
        ),
        (
            {
                "model.safetensors": "",
                "config.json": json.dumps({"model_type": "hubert", "hidden_size": 1024}),
            },
            "width 1024; audio.weights needs",
        ),
    ],
)
def test_unusable_folders(files: dict[str, str], said: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(WeightsError, match=said):
        Audio(AudioConfig(weights=str(tmp_path)))


def test_published_weights_come_from_the_pinned_commit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def cached(repository: str, **options: Any) -> str:
        asked.append((repository, options["revision"]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    made = Audio(AudioConfig(precision="fp32"))
    assert asked == [("facebook/hubert-base-ls960", audio_weights.REVISION)]
    assert not made.demonstration


def test_published_weights_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(repository: str, **options: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("Got: ConnectError\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(WeightsError) as caught:
        Audio(AudioConfig())
    for part in (
        "Got: ConnectError.",
        "hf download",
        audio_weights.REVISION,
        "audio.weights=seeded",
    ):
        assert part in str(caught.value)


def test_loading_leaves_the_global_random_state_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    Audio(AudioConfig(weights=str(folder), precision="fp32"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("number_format", ["fp32", "bf16", "fp16"])
def test_cuda_agrees_with_fp32(number_format: Any) -> None:
    exact = Audio(AudioConfig(weights="seeded", precision="fp32"))
    made = Audio(AudioConfig(weights="seeded", precision=number_format), device="cuda:0")
    sounds = [VOICE, VOICE[::-1].copy(), VOICE[:48000]]
    for a, b in zip(made([row(s) for s in sounds]), exact([row(s) for s in sounds]), strict=True):
        assert min_cosine(torch.from_numpy(a["audio"]), torch.from_numpy(b["audio"])) >= 0.9995
