"""Lip sync of a clip by SyncNet: score, offset, LSE-C and LSE-D (SPEC section 3).

A clip's frames are consecutive at 25 fps; SyncNet reads windows of five frames and the sound of the
same 0.2 s. Windows that touch a frame without a face crop are left out: nothing is invented for
them, and when too few remain the clip has no sync, with the reason. A clip is measured alone
whatever the batch, in sub-batches of its own windows, so a batch changes nothing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from actors.errors import VideoError
from actors.memory import Memory, digest_of
from actors.precision import Precision, choose_precision, deterministic_kernels
from actors.sync_weights import load_syncnet, synthetic_face, synthetic_voice
from actors.types import FPS, SAMPLE_RATE, U8, Bool, Row
from model.config import Config

if TYPE_CHECKING:
    import torch

    from model.sync_measures import SyncMeasures
    from model.syncnet import SyncNet

Reason = Literal["no_sound", "too_short", "silent_sound", "no_face", "too_few_face_frames"]

PIXEL_MEAN: Final = 128.0  # subtracted from pixels: -128..127 is exact in bfloat16
PROBE_WINDOWS: Final = 16
PROBE_TOLERANCE: Final = 0.03  # of LSE-D and LSE-C together; a clip's may differ by 0.05
UNDECIDED: Final = 3e-4  # of LSE-D: offsets closer than this are decided in FP32


class SyncConfig(Config):
    """Settings of SyncNet."""

    weights: str = "pretrained"
    """`syncnet_v2.model`, or what jobs/train_sync.py wrote, by path or URI; or `seeded` for a
    demonstration with random weights. `pretrained` explains where the published file is to be had:
    there is no hub entry to download."""
    mode: Literal["parity", "masked"] = "parity"
    """`parity`: the published measures, comparable with papers; zero vectors stand for sound beyond
    the ends of a clip, so numbers depend on its length. `masked`: a shift averages only over pairs
    of windows that exist."""
    min_face_share: float = Field(0.5, ge=0, le=1)
    """Least share of a clip's windows whose five frames all have a face crop."""
    min_windows: int = Field(16, ge=1)
    """Least number of windows. With fewer than 16 the largest shifts have no pair at all."""
    batch_windows: int = Field(12, ge=1)
    """Windows computed at once; 12 need about 70 MB in bf16, twice as much in FP32. More gain
    nothing on a CPU: larger blocks of memory go back to the system after each use."""
    precision: Precision = "auto"
    """Number format of the convolutions: `fp32`, `bf16`, `fp16` (CUDA), or `auto`: the fast one of
    the hardware if LSE-D and LSE-C of a probe stay within 0.03 of FP32."""


def window_mask(present: Bool, windows: int) -> Bool:
    """Tell which windows have all their five frames: [frames] -> [windows]."""
    from model.syncnet import WINDOW

    if windows == 0:
        return np.zeros(0, np.bool_)
    frames = np.lib.stride_tricks.sliding_window_view(present, WINDOW)[:windows]
    whole: Bool = np.logical_and.reduce(frames, axis=1)
    return whole


def runs(mask: Bool, size: int) -> list[tuple[int, int]]:
    """Cut the true stretches of ``mask`` into pieces [start, stop) of at most ``size``."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False]))
    return [
        (start, min(start + size, int(stop)))
        for first, stop in edges.reshape(-1, 2)
        for start in range(int(first), int(stop), size)
    ]


def sounding_span(audio_mask: Bool) -> tuple[int, int]:
    """Return the frames [start, stop) from the first to the last one with sound in the file."""
    where = np.flatnonzero(audio_mask)
    return (int(where[0]), int(where[-1]) + 1) if where.size else (0, 0)


def fit_faces(crops: U8, face: int) -> U8:
    """Shrink face crops to the side that a network reads, each pixel the mean of what it covers.

    The same function serves training and use.

    Args:
        crops: [k, 224, 224, 3], as rows carry them.
        face: Side in pixels, at most 224; at 224 the crops are returned as they are.

    Returns:
        [k, face, face, 3].
    """
    import cv2

    if crops.shape[1:3] == (face, face):
        return crops
    small = np.empty((len(crops), face, face, 3), np.uint8)
    for crop, place in zip(crops, small, strict=True):
        cv2.resize(crop, (face, face), dst=place, interpolation=cv2.INTER_AREA)
    return small


def heard_frames(row: Row) -> "tuple[NDArray[np.int32], NDArray[np.int16]]":
    """Return what of a clip with sound is measured: which crop shows in each frame, and the sound.

    Args:
        row: A prepared clip.

    Returns:
        [frames] index into ``sync_crops``, -1 for none; 16 kHz samples from the first frame's
        instant.
    """
    from model.mfcc import to_int16

    index = row["sync_index"]
    samples = to_int16(row["waveform"])
    # Under the policy `whole` the clip's frames are others than SyncNet's, and their masks too.
    if len(row["frame_times"]) == len(index):
        index = np.where(row["frame_mask"][: len(index)], index, -1)
        # Zeros that only fill up missing sound are not sound: the published tool ends there.
        start, stop = sounding_span(row["audio_mask"][: len(index)])
        end = stop * SAMPLE_RATE // FPS if stop < len(index) else len(samples)
        index, samples = index[start:stop], samples[start * SAMPLE_RATE // FPS : end]
    return index, samples


class Sync:
    """Adds the lip sync of each clip.

    ``sync`` is [score 0..5, offset in frames (> 0: the sound leads), LSE-C, LSE-D], or NaN with
    ``sync_reason``: ``no_sound``, ``too_short`` (fewer windows than ``min_windows``),
    ``silent_sound`` (a sound track of nothing but zeros), ``no_face``, ``too_few_face_frames``.

    Attributes:
        digest: Of the weights in use.
        demonstration: The weights are random, or were trained on made-up faces.
        face: Side of the crops that the network reads, pixels.
        dtype: Number format of the convolutions.
        precision_note: How that format was chosen, for the run's report.
        memory: Where embeddings are kept for streams that come again; None keeps none.
    """

    name: ClassVar[str] = "sync"
    version: ClassVar[str] = "1"
    needs: ClassVar[tuple[str, ...]] = (
        "sync_crops",
        "sync_index",
        "waveform",
        "has_sound",
        "frame_mask",
        "audio_mask",
        "frame_times",
    )
    adds: ClassVar[tuple[str, ...]] = ("sync", "sync_reason")

    def __init__(self, config: SyncConfig, *, device: str = "cpu") -> None:
        """Load the network.

        Raises:
            WeightsError: The weights cannot be had, or are not SyncNet's.
            ValueError: The precision does not exist on ``device``.
        """
        import torch

        self.config = config
        self.memory: Memory | None = None
        self.device = torch.device(device)
        net, loaded = load_syncnet(config.weights)
        self.digest, self.demonstration = loaded.digest, loaded.demonstration
        self.face = net.face
        self._exact = _Streams(net, torch.float32, self.device)
        self._fast = self._exact
        wanted = choose_precision(config.precision, device)
        if wanted == torch.float32:
            self.precision_note = "float32"
            return
        self._fast = _Streams(net, wanted, self.device)
        error = self._probe_error()
        note = f"LSE on the probe within {error:.4f} of float32, limit {PROBE_TOLERANCE}"
        self.precision_note = f"{wanted}: {note}".replace("torch.", "")
        if config.precision == "auto" and error > PROBE_TOLERANCE:
            self._fast = self._exact
            self.precision_note = f"stays in float32; {self.precision_note}"

    @property
    def dtype(self) -> "torch.dtype":
        """Number format of the convolutions."""
        return self._fast.dtype

    def _probe_error(self) -> float:
        """Return how far the fast format moves LSE-D or LSE-C of a synthetic clip."""
        from model.syncnet import WINDOW

        frames = fit_faces(synthetic_face(PROBE_WINDOWS + WINDOW - 1, 1), self.face)
        voice = synthetic_voice(2.0, 1)
        index, mask = np.arange(len(frames)), np.ones(PROBE_WINDOWS, np.bool_)
        fast = self._measure(self._fast, frames, index, voice, mask)
        exact = self._measure(self._exact, frames, index, voice, mask)
        if fast is None or exact is None:
            return np.inf
        by_distance = abs(fast.min_distance - exact.min_distance)
        return by_distance + abs(fast.confidence - exact.confidence)

    def __call__(self, batch: list[Row]) -> list[Row]:
        """Add ``sync`` and ``sync_reason`` to every row."""
        from model.sync_measures import sync_score

        for row in batch:
            found = self._clip(row)
            if isinstance(found, str):
                row["sync"], row["sync_reason"] = np.full(4, np.nan, np.float32), found
                continue
            score = sync_score(found.confidence)
            values = (score, found.offset, found.confidence, found.min_distance)
            row["sync"], row["sync_reason"] = np.array(values, np.float32), None
        return batch

    def _clip(self, row: Row) -> "SyncMeasures | Reason":
        if not row["has_sound"]:
            return "no_sound"
        return self.measure(row["sync_crops"], *heard_frames(row))

    def measure(
        self, crops: U8, index: NDArray[np.int32], samples: NDArray[np.int16]
    ) -> "SyncMeasures | Reason":
        """Measure consecutive 25 fps frames against their sound.

        Args:
            crops: [k, 224, 224, 3] RGB, distinct face crops.
            index: [frames] which crop shows in a frame, -1 for none.
            samples: 16 kHz mono from the instant of the first frame.

        Returns:
            The measures, or why there are none.

        Raises:
            VideoError: ``sync_not_finite``: damaged weights.
        """
        from model.syncnet import window_count

        count = window_count(len(index), len(samples))
        if count < self.config.min_windows:
            return "too_short"
        if not samples.any():
            # All sound windows are equal then: distances would order the shifts by their padding.
            return "silent_sound"
        mask = window_mask(index >= 0, count)
        if not (index >= 0).any():
            return "no_face"
        if mask.sum() < max(self.config.min_windows, self.config.min_face_share * count):
            return "too_few_face_frames"
        crops = fit_faces(crops, self.face)
        found = self._measure(self._fast, crops, index, samples, mask)
        # Rounding must never decide between two offsets that are as good as each other.
        if self._fast is not self._exact and (
            found is None or found.margin < UNDECIDED * found.min_distance
        ):
            found = self._measure(self._exact, crops, index, samples, mask)
        if found is None:
            raise VideoError(
                "features",
                "sync_not_finite",
                "SyncNet gives values that are not finite: its weights (sync.weights) are damaged.",
            )
        return found

    def _measure(
        self,
        streams: "_Streams",
        crops: U8,
        index: NDArray[np.integer],
        samples: NDArray[np.int16],
        mask: Bool,
    ) -> "SyncMeasures | None":
        """Measure in one number format; None when it overflowed."""
        import torch

        from model.sync_measures import sync_measures

        lips = self._once(
            f"lips {streams.dtype}",
            (crops, index, mask),
            lambda: self._embed_lips(streams, crops, index, mask),
        )
        sound = self._once(
            f"sound {streams.dtype}",
            (samples, len(mask)),
            lambda: self._embed_sound(streams, samples, len(mask)),
        )
        if not (torch.isfinite(lips).all() and torch.isfinite(sound).all()):
            return None
        return sync_measures(lips, sound, mask=mask, mode=self.config.mode)

    def _once(
        self, what: str, inputs: tuple[Any, ...], make: "Callable[[], torch.Tensor]"
    ) -> "torch.Tensor":
        """Embed a stream, or remember what the same stream gave beside another one."""
        if self.memory is None:
            return make()
        found: torch.Tensor = self.memory.get(digest_of(f"{self.name} {what}", inputs), make)
        return found

    def _embed_lips(
        self, streams: "_Streams", crops: U8, index: NDArray[np.integer], mask: Bool
    ) -> "torch.Tensor":
        """Embed the lip windows i (frames i .. i + 4) where ``mask``: [n, D], others zero."""
        import torch

        from model.syncnet import WINDOW, stack_windows

        lips = torch.zeros(len(mask), streams.embedding)
        with torch.inference_mode(), deterministic_kernels():
            for start, stop in runs(mask, self.config.batch_windows):
                frames = torch.from_numpy(crops[index[start : stop + WINDOW - 1]]).to(self.device)
                windows = stack_windows(frames, PIXEL_MEAN, streams.dtype)
                lips[start:stop] = streams.lips(windows).cpu()
        return lips

    def _embed_sound(
        self, streams: "_Streams", samples: NDArray[np.int16], windows: int
    ) -> "torch.Tensor":
        """Embed the sound windows of frames 0 .. ``windows`` - 1: [n, D]."""
        import torch

        from model.mfcc import mfcc
        from model.syncnet import audio_windows

        cut = audio_windows(torch.from_numpy(mfcc(samples)), windows)
        with torch.inference_mode(), deterministic_kernels():
            parts = [
                streams.sound(part.to(self.device, streams.dtype)).cpu()
                for part in torch.split(cut, self.config.batch_windows)
            ]
            return torch.cat(parts)


class _Streams:
    """Both streams in one number format on one device."""

    def __init__(self, net: "SyncNet", dtype: "torch.dtype", device: "torch.device") -> None:
        from model.syncnet import AudioStream2d, LipStream2d

        self.dtype, self.embedding = dtype, net.embedding
        self.lips = LipStream2d(net, dtype, mean=PIXEL_MEAN, rgb=True).eval().to(device)
        self.sound = AudioStream2d(net, dtype).eval().to(device)
