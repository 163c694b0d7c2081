"""Audio features: the last hidden state of HuBERT-Base, on the frames of the picture.

Hsu et al. 2021, "HuBERT: Self-supervised speech representation learning by masked prediction of
hidden units"; 768 values each 320 samples (20 ms), interpolated linearly onto the frames.
"""

import copy
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from actors import precision, weights
from actors.errors import VideoError
from actors.types import CLIP_FRAMES, F32, SAMPLE_RATE, Row
from model.config import Config

if TYPE_CHECKING:
    import torch

WHAT = "HuBERT-Base"
WIDTH = 768
MIN_SAMPLES = 400  # what the first hidden vector sees; shorter sound gives none
REPOSITORY = "facebook/hubert-base-ls960"
REVISION = "dba3bb02fda4248b6e082697eee756de8fe8aa8a"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
CUDA_BATCH = 8
# Deviation of the seeded transformer's maps against He's: residual branches small enough that a
# deep random network does not forget its input.
SEEDED_GAIN = 0.4

# Of the training objective, or of SpecAugment in training: not read when features are computed.
UNUSED = ("masked_spec_embed", "lm_head.", "final_proj.", "label_embs_concat")


Normalise: TypeAlias = Callable[[F32], F32]


class AudioConfig(Config):
    """The audio extractor."""

    weights: str = Field(
        weights.PRETRAINED,
        description="`pretrained` (Hugging Face hub), `seeded` (random, demonstration only), or the "
        "path or URI of a folder (config.json with model.safetensors or pytorch_model.bin) or of "
        "one file of weights with the shape of HuBERT-Base.",
    )
    revision: str = Field(
        REVISION, description=f"Commit of {REPOSITORY} on the hub that `pretrained` means."
    )
    precision: precision.Precision = Field(
        "auto", description="Number format: `auto`, `fp32`, `bf16`, `fp16` (CUDA only)."
    )
    batch_clips: int | None = Field(
        None,
        ge=1,
        description="Clips of equal length computed at once; null: 1 on CPUs (more gains nothing "
        "there), 8 on GPUs.",
    )


def to_frames(hidden: "torch.Tensor", frames: int) -> NDArray[np.float16]:
    """Interpolate hidden states linearly onto frames, and pad to a clip.

    Args:
        hidden: [S, D], FP32; spans the clip's duration.
        frames: Number of frames of the clip, 1..150.

    Returns:
        [150, D] float16, zeros after ``frames``. Frame i is at (i + 0.5) / frames of the duration
        (``align_corners=False``).
    """
    import torch

    stretched = torch.nn.functional.interpolate(
        hidden.T[None], size=frames, mode="linear", align_corners=False
    )[0].T  # [frames, D]
    out = np.zeros((CLIP_FRAMES, hidden.shape[1]), np.float16)
    out[:frames] = stretched.cpu().numpy().astype(np.float16)
    return out


def synthetic_speech(seconds: float, seed: int) -> F32:
    """Return a voice-like sound for self-checks: gliding harmonics in syllables, and some noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(130 + 40 * np.sin(2 * np.pi * 0.7 * t)) / SAMPLE_RATE
    sound = np.zeros_like(t)
    for k in range(1, 25):
        formant = 500 + 300 * np.sin(2 * np.pi * 1.3 * t) + 900 * (k > 8)
        sound += np.sin(k * phase) / (1 + ((130 * k - formant) / 250) ** 2)
    sound *= np.clip(np.sin(2 * np.pi * 3.1 * t) + 0.4, 0, None)
    sound += 0.02 * rng.standard_normal(len(t))
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


class Audio:
    """Adds ``audio`` to prepared clips.

    Only clips with the same number of samples share a batch and nothing is padded, because the
    first layer normalises over time. On CPUs clips go one by one, so a clip gives the same bits in any
    company; on CUDA, and between devices and number formats, to a cosine of at least 0.9995.

    Args:
        config: Weights, number format, batch size.
        device: ``cpu`` or ``cuda:N``.
        stretch_to_clip: Spread the sound over all 150 frames whatever the number of real ones
            (policy ``whole``).

    Raises:
        actors.weights.WeightsError: The weights cannot be had.
    """

    name = "audio"
    version = "1"
    needs: tuple[str, ...] = ("waveform", "has_sound", "frame_times")
    adds: tuple[str, ...] = ("audio",)

    def __init__(
        self, config: AudioConfig, *, device: str = "cpu", stretch_to_clip: bool = False
    ) -> None:
        import torch

        self.device = device
        self._stretch = stretch_to_clip
        cuda = torch.device(device).type == "cuda"
        self._batch = config.batch_clips or (CUDA_BATCH if cuda else 1)
        model, self._normalise, self.digest, self.demonstration = _load(config)
        with torch.no_grad():
            self._model, self._dtypes, self.precision_note = self._fastest(model, config)

    def _fastest(
        self, model: Any, config: AudioConfig
    ) -> "tuple[Any, tuple[torch.dtype, torch.dtype], str]":
        """Return the model in the fastest number formats that agree with FP32; also warms it up.

        Formats are those of the convolutions and of the transformer.
        """
        import torch

        probe = [synthetic_speech(3.0, seed=1)]
        wanted = precision.choose_precision(config.precision, self.device)
        single = (torch.float32, torch.float32)
        reference = self._hidden(model, single, probe, "cpu")
        notes = []
        for dtypes in dict.fromkeys(((wanted, wanted), (torch.float32, wanted), single)):
            # From a narrow format to a wider one nothing would come back: cast a copy.
            cast = copy.deepcopy(model) if dtypes != single else model
            cast.to(self.device, dtypes[1])
            cast.feature_extractor.to(dtypes[0])
            agrees, note = precision.self_check(
                reference, self._hidden(cast, dtypes, probe, self.device)
            )
            named = "+".join(dict.fromkeys(precision.short_name(d) for d in dtypes))
            notes.append(f"{named}: {note}")
            if agrees:
                return cast, dtypes, "; ".join(notes)
        raise RuntimeError(f"{WHAT}: no number format agrees with FP32: {'; '.join(notes)}")

    def _hidden(
        self, model: Any, dtypes: "tuple[torch.dtype, torch.dtype]", sounds: list[F32], device: str
    ) -> "torch.Tensor":
        """Return the last hidden state of sounds of one length: [B, S, 768], FP32 on the CPU."""
        import torch

        values = torch.from_numpy(np.stack([self._normalise(s) for s in sounds]))  # [B, n]
        if torch.device(device).type == "cuda":
            values = values.pin_memory().to(device, non_blocking=True)
        with precision.deterministic_kernels():
            maps = model.feature_extractor(values.to(dtypes[0]))  # [B, 512, S]
            projected = model.feature_projection(maps.transpose(1, 2).to(dtypes[1]))
            hidden: torch.Tensor = model.encoder(projected).last_hidden_state
        return hidden.float().cpu()

    def __call__(self, batch: list[Row]) -> list[Row]:
        """Add ``audio`` to each row: zeros without sound, and for sound shorter than 25 ms.

        Raises:
            VideoError: A vector is not finite or beyond float16.
        """
        import torch

        groups: dict[int, list[Row]] = defaultdict(list)
        for row in batch:
            row["audio"] = np.zeros((CLIP_FRAMES, WIDTH), np.float16)
            samples = len(row["waveform"])
            if row["has_sound"] and samples >= MIN_SAMPLES and len(row["frame_times"]):
                groups[samples].append(row)
        for group in groups.values():
            for start in range(0, len(group), self._batch):
                rows = group[start : start + self._batch]
                with torch.no_grad():
                    hidden = self._hidden(
                        self._model, self._dtypes, [r["waveform"] for r in rows], self.device
                    )
                for row, states in zip(rows, hidden, strict=True):
                    self._finish(row, states)
        return batch

    def _finish(self, row: Row, states: "torch.Tensor") -> None:
        if not bool((states.abs() <= float(np.finfo(np.float16).max)).all()):  # also for NaN
            raise VideoError(
                "features",
                "not_finite",
                f"{WHAT} gave values beyond float16 for {row.get('video_id', 'a video')}; "
                "check audio.weights, or set audio.precision=fp32.",
            )
        frames = CLIP_FRAMES if self._stretch else len(row["frame_times"])
        row["audio"] = to_frames(states, frames)


def _load(config: AudioConfig) -> tuple[Any, Normalise, str, bool]:
    """Return the model in FP32, its preprocessor, the digest, and whether this is a demonstration."""
    from transformers import HubertConfig

    if config.weights == weights.SEEDED:
        model = _model(HubertConfig())
        _plain_positions(model)
        weights.seeded_init(model, WHAT)
        weights.seeded_init(model.encoder, WHAT, gain=SEEDED_GAIN)
        return model, _preprocessor({}), weights.seeded(WHAT).digest, True
    if config.weights == weights.PRETRAINED:
        shown = f"{REPOSITORY}@{config.revision}"
        return _from_folder(_published(config.revision), shown)
    shown = weights.clean_uri(config.weights)
    with weights.local_copy(
        config.weights, what=WHAT, setting="audio.weights", get=_get(config.revision)
    ) as path:
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
