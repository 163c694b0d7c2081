"""Loading HuBERT-Base: from the hub, a folder or a file of any storage, or seeded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from actors import weights
from actors.types import F32, SAMPLE_RATE

WHAT = "HuBERT-Base"
WIDTH = 768
REPOSITORY = "facebook/hubert-base-ls960"
# The commit that has the published files; a name such as `main` could move.
REVISION = "dba3bb02fda4248b6e082697eee756de8fe8aa8a"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
# Deviation of the seeded transformer's maps against He's: residual branches small enough that a
# deep random network does not forget its input.
SEEDED_GAIN = 0.4
# Of the training objective, or of SpecAugment in training: not read when features are computed.
UNUSED = ("masked_spec_embed", "lm_head.", "final_proj.", "label_embs_concat")

Normalise: TypeAlias = Callable[[F32], F32]


def load_hubert(source: str, revision: str) -> tuple[Any, Normalise, str, bool]:
    """Load the model that ``source`` names (see ``AudioConfig.weights``).

    Returns:
        The transformers model in FP32 on the CPU, in evaluation mode; its preprocessor; the digest
        of its files; whether the weights are random (a demonstration).

    Raises:
        actors.weights.WeightsError: The weights cannot be had or are of another network.
    """
    from transformers import HubertConfig

    if source == weights.SEEDED:
        model = _model(HubertConfig())
        _plain_positions(model)
        weights.seeded_init(model, WHAT)
        weights.seeded_init(model.encoder, WHAT, gain=SEEDED_GAIN)
        return model, _preprocessor({}), weights.seeded(WHAT).digest, True
    if source == weights.PRETRAINED:
        shown = f"{REPOSITORY}@{revision}"
        return _from_folder(_published(revision), shown)
    shown = weights.clean_uri(source)
    with weights.local_copy(source, what=WHAT, setting="audio.weights", get=_get(revision)) as path:
        if path.is_dir():
            return _from_folder(path, shown)
        model = _fitted(HubertConfig(), path, shown)
        return model, _preprocessor({}), weights.file_digest(path), False


def _from_folder(folder: Path, shown: str) -> tuple[Any, Normalise, str, bool]:
    """Load a folder as transformers saves it; the digest covers every file that changes values."""
    from transformers import HubertConfig

    found = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    settings = folder / CONFIG_FILE
    if not found or not settings.is_file():
        absent = CONFIG_FILE if found else " or ".join(WEIGHT_FILES)
        raise weights.WeightsError(
            f"{WHAT}: the folder {shown} (audio.weights) has no {absent}; it needs {CONFIG_FILE} "
            f"and one of {', '.join(WEIGHT_FILES)}."
        )
    values = _json(settings, shown)
    if values.get("model_type") != "hubert" or values.get("hidden_size", WIDTH) != WIDTH:
        raise weights.WeightsError(
            f"{WHAT}: {shown}/{CONFIG_FILE} describes a {values.get('model_type')} model of width "
            f"{values.get('hidden_size')}; audio.weights needs a hubert model of width {WIDTH}."
        )
    files = [found[0], settings]
    preprocessor = folder / PREPROCESSOR_FILE
    if preprocessor.is_file():
        files.append(preprocessor)
    model = _fitted(HubertConfig.from_dict(values), found[0], shown)
    normalise = _preprocessor(_json(preprocessor, shown) if preprocessor.is_file() else {})
    return model, normalise, weights.file_digest(*files), False


def _json(path: Path, shown: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise weights.WeightsError(f"{WHAT}: {shown}/{path.name} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise weights.WeightsError(f"{WHAT}: {shown}/{path.name} is not a JSON object")
    return values


def _model(config: Any) -> Any:
    import torch
    from transformers import HubertModel

    with torch.random.fork_rng(devices=[]):  # its constructor draws values that are overwritten
        return HubertModel(config).eval()


def _plain_positions(model: Any) -> None:
    """Replace the weight norm of the positional convolution by the weight that it yields."""
    from torch.nn.utils import parametrize

    conv = model.encoder.pos_conv_embed.conv
    if parametrize.is_parametrized(conv, "weight"):
        parametrize.remove_parametrizations(conv, "weight")


def _fitted(config: Any, path: Path, shown: str) -> Any:
    model = _model(config)
    state = weights.strip_prefix(weights.read_file(path, what=WHAT, shown=shown), "hubert.")
    weights.fit_state(model, state, what=WHAT, shown=shown, ignore=UNUSED)
    _plain_positions(model)
    return model


def _preprocessor(values: dict[str, Any]) -> Normalise:
    """Return the model's own feature extractor; without a file, that of HuBERT-Base."""
    from transformers import Wav2Vec2FeatureExtractor

    base = {"feature_size": 1, "sampling_rate": SAMPLE_RATE, "do_normalize": True}
    extractor = Wav2Vec2FeatureExtractor.from_dict({**base, **values, "feature_size": 1})
    if extractor.sampling_rate != SAMPLE_RATE:
        raise weights.WeightsError(
            f"{WHAT}: {PREPROCESSOR_FILE} asks for {extractor.sampling_rate} Hz; clips have "
            f"{SAMPLE_RATE} Hz."
        )

    def normalise(sound: F32) -> F32:
        values = extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="np").input_values
        return np.asarray(values[0], np.float32)

    return normalise


def _get(revision: str) -> str:
    return (
        f"Get it on a machine with network: hf download {REPOSITORY} --revision {revision} "
        "--local-dir DIR, then copy DIR here and set audio.weights=DIR."
    )


def _published(revision: str) -> Path:
    """Return the hub's snapshot at ``revision`` from the cache, downloaded when it is not there."""
    import huggingface_hub

    names = [CONFIG_FILE, PREPROCESSOR_FILE, "pytorch_model.bin", "model.safetensors"]

    def snapshot(local: bool) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                REPOSITORY, revision=revision, allow_patterns=names, local_files_only=local
            )
        )

    try:
        cached = snapshot(local=True)
        if (cached / CONFIG_FILE).exists() and any((cached / n).exists() for n in WEIGHT_FILES):
            return cached
    except FileNotFoundError:
        pass  # nothing in the cache yet
    try:
        return snapshot(local=False)
    except OSError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise weights.unavailable(
            WHAT,
            "audio.weights",
            reason=f"{REPOSITORY}@{revision}: {reason}",
            get=_get(revision),
        ) from error
