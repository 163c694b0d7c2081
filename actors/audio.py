"""Audio features: the last hidden state of HuBERT-Base, on the frames of the picture.

Hsu et al. 2021, "HuBERT: Self-supervised speech representation learning by masked prediction of
hidden units"; 768 values each 320 samples (20 ms), interpolated linearly onto the frames.
"""

import copy
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from actors.audio_weights import REPOSITORY, REVISION, WHAT, WIDTH, load_hubert
from actors.errors import VideoError
from actors.precision import (
    Precision,
    choose_precision,
    deterministic_kernels,
    self_check,
    short_name,
)
from actors.types import CLIP_FRAMES, F32, SAMPLE_RATE, Row
from actors.weights import PRETRAINED
from model.config import Config

if TYPE_CHECKING:
    import torch

MIN_SAMPLES = 400  # what the first hidden vector sees; shorter sound gives none
CUDA_BATCH = 8


class AudioConfig(Config):
    """The audio extractor."""

    weights: str = Field(
        PRETRAINED,
        description="`pretrained` (Hugging Face hub), `seeded` (random, demonstration only), or "
        "the path or URI of a folder (config.json, and model.safetensors or pytorch_model.bin) or "
        "of one file of weights with the shape of HuBERT-Base.",
    )
    revision: str = Field(
        REVISION, description=f"Commit of {REPOSITORY} on the hub that `pretrained` means."
    )
    precision: Precision = Field(
        "auto", description="Number format: `auto`, `fp32`, `bf16`, `fp16` (CUDA only)."
    )
    max_seconds: float = Field(
        180.0,
        gt=0,
        description="Longest sound heard at once (policy `whole`): about 2 GB of memory.",
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
    voice: F32 = (0.3 * sound / np.abs(sound).max()).astype(np.float32)
    return voice


class Audio:
    """Adds ``audio`` to prepared clips.

    Only clips with the same number of samples share a batch and nothing is padded, because the
    first layer normalises over time. On CPUs clips go one by one, so a clip gives the same bits in
    any company; on CUDA, and between devices and number formats, vectors agree to a cosine of
    at least 0.9995.

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
        self._most = int(config.max_seconds * SAMPLE_RATE)  # samples
        cuda = torch.device(device).type == "cuda"
        self._batch = config.batch_clips or (CUDA_BATCH if cuda else 1)
        model, self._normalise, self.digest, self.demonstration = load_hubert(
            config.weights, config.revision
        )
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
        wanted = choose_precision(config.precision, self.device)
        single = (torch.float32, torch.float32)
        reference = self._hidden(model, single, probe, "cpu")
        notes = []
        for dtypes in dict.fromkeys(((wanted, wanted), (torch.float32, wanted), single)):
            # From a narrow format to a wider one nothing would come back: cast a copy.
            cast = copy.deepcopy(model) if dtypes != single else model
            cast.to(self.device, dtypes[1])
            cast.feature_extractor.to(dtypes[0])
            agrees, note = self_check(reference, self._hidden(cast, dtypes, probe, self.device))
            named = "+".join(dict.fromkeys(short_name(d) for d in dtypes))
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
        with deterministic_kernels():
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
        for samples in groups:
            if samples > self._most:
                raise VideoError(
                    "features",
                    "too_long_for_audio",
                    f"HuBERT would have to hear {samples / SAMPLE_RATE:.0f} s at once; its memory "
                    f"suffices for {self._most / SAMPLE_RATE:g} s (audio.max_seconds). Policy "
                    "`windows` has no such limit.",
                )
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
