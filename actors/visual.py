"""Visual features: ResNet101 without its classifier, global average pool, on aligned face crops.

He et al. 2016, "Deep residual learning for image recognition"; 2048 values a frame.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from actors import precision, weights
from actors.errors import VideoError
from actors.precision import PrecisionConfig
from actors.types import U8, Row
from actors.weights import PRETRAINED

if TYPE_CHECKING:
    import torch
    from torch import nn

    Net: TypeAlias = Callable[[torch.Tensor], torch.Tensor]  # [B, 3, S, S] -> [B, 2048]

WHAT = "ResNet101"
WIDTH = 2048
SIDE = 224  # pixels
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
STD = (0.229, 0.224, 0.225)

# IMAGENET1K_V1 is what "ImageNet weights" meant when the paper was written. V2 classifies better,
# by a recipe (label smoothing, mixed images) that is known to make features transfer worse
# (Kornblith et al. 2021, "Why do better loss functions lead to less transferable features?").
# V2's file can be given by path.
PUBLISHED = "IMAGENET1K_V1"
GET = (
    "Get it on a machine with network: python -c 'from torchvision.models import "
    f"ResNet101_Weights as W; W.{PUBLISHED}.get_state_dict(check_hash=True)', then copy "
    "~/.cache/torch/hub/checkpoints/resnet101-63fe2227.pth here and name it in visual.weights."
)
CPU_BATCH = 6  # divides 150; on CPUs larger batches gain nothing and pad more
CUDA_BATCH = 75
SEEDED_BRANCH = 0.1  # scale of the last batch norm of each block
CALIBRATION_IMAGES = 8


class VisualConfig(PrecisionConfig):
    """The visual extractor."""

    weights: str = Field(
        PRETRAINED,
        description="`pretrained` (ImageNet, torchvision), `seeded` (random, demonstration only), "
        "or the path or URI of a ResNet101 state dictionary.",
    )
    crop: Literal["face", "lips"] = Field("face", description="What the crop shows.")
    batch_frames: int | None = Field(
        None,
        ge=1,
        description="Frames computed at once; null: 6 on CPUs, 75 on GPUs.",
    )


def normalise(crops: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """Return uint8 RGB crops as a normalised channels-last batch.

    Args:
        crops: [B, S, S, 3], uint8.
        dtype: Of the result; the arithmetic is FP32.

    Returns:
        [B, 3, S, S] in channels-last layout: (value / 255 - mean) / deviation of ImageNet.
    """
    import torch

    scale = torch.tensor([1 / (255 * s) for s in STD], device=crops.device)
    shift = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)], device=crops.device)
    return torch.addcmul(shift, crops.float(), scale).to(dtype).permute(0, 3, 1, 2)


def expand(
    features: NDArray[np.float32], index: NDArray[np.int32], frames: int
) -> NDArray[np.float16]:
    """Spread the features of distinct crops over the frames of a clip.

    Args:
        features: [K, D], one vector for each distinct crop.
        index: [T], the crop of each frame, -1 where there is none.
        frames: Positions of the clip that are not padding.

    Returns:
        [T, D] float16; NaN where ``index`` is negative, zeros in the padding.
    """
    spread = np.zeros((len(index), features.shape[1]), np.float16)
    spread[:frames] = np.nan
    seen = index >= 0
    spread[seen] = features[index[seen]].astype(np.float16)
    return spread


def synthetic_images(count: int, seed: int) -> U8:
    """Return smooth coloured noise with the spectrum of natural pictures, [count, 224, 224, 3].

    Amplitude falls as 1 / frequency (Field 1987); for calibration and self-checks, where no picture
    is at hand. Computed in float64 from a fixed seed.
    """
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1 / SIDE
    noise = rng.standard_normal((count, 3, SIDE, SIDE))
    smooth = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(SIDE, SIDE))
    mixed = smooth + smooth.mean(1, keepdims=True) * 2  # colours of a picture go together
    mixed /= mixed.std(axis=(1, 2, 3), keepdims=True)
    values = 120 + 50 * mixed + rng.uniform(-40, 40, (count, 1, 1, 1))
    pictures: U8 = np.clip(values, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1).copy()
    return pictures


class Visual:
    """Adds ``visual`` to prepared clips.

    A crop's vector does not depend on its batch: every batch has the same size (the last one is
    filled with black), and the convolutions give the same bits at any place in it. Between CPU and
    CUDA, or number formats, vectors agree to a cosine of at least 0.9995.

    Args:
        config: Weights, number format, batch size.
        device: ``cpu`` or ``cuda:N``.
        expected_clips: How many clips this worker will see, when known; decides about compiling.

    Raises:
        actors.weights.WeightsError: The weights cannot be had.
    """

    name = "visual"
    version = "1"
    needs: tuple[str, ...] = ("visual_crops", "visual_index", "frame_times")
    adds: tuple[str, ...] = ("visual",)

    def __init__(
        self, config: VisualConfig, *, device: str = "cpu", expected_clips: int | None = None
    ) -> None:
        import torch

        self.device = device
        cuda = torch.device(device).type == "cuda"
        self._batch = config.batch_frames or (CUDA_BATCH if cuda else CPU_BATCH)
        loaded = weights.load_state(
            config.weights, what=WHAT, setting="visual.weights", get=GET, pretrained=_published
        )
        self.digest = loaded.digest
        self.demonstration = loaded.demonstration
        self._expected = expected_clips
        with torch.no_grad():
            self._net, self._dtype, self.precision_note = self._fastest(_build(loaded), config)

    def _fastest(self, net: "nn.Module", config: VisualConfig) -> "tuple[Net, torch.dtype, str]":
        """Return the fastest form of ``net`` that agrees with FP32, its number format, a note.

        The probe batch also warms it up: later batches of the same shape find everything chosen.
        """
        import torch

        on_cpu = torch.device(self.device).type == "cpu"
        probe = torch.from_numpy(synthetic_images(CPU_BATCH, seed=2))
        reference = pool(net(normalise(probe, torch.float32)))
        folded = precision.fold_batch_norm(net)
        del net
        wanted = precision.choose_precision(config.precision, self.device)
        notes = []
        for dtype in dict.fromkeys((wanted, torch.float32)):
            cast = copy.deepcopy(folded).to(self.device, dtype)
            cast = cast.to(memory_format=torch.channels_last)
            if on_cpu and config.compile != "on" and precision.has_onednn_fusion(dtype):
                fast = fused_resnet(cast, self._batch)
            else:
                compiled = precision.compile_if_worthwhile(
                    cast, config.compile, device=self.device, expected_clips=self._expected
                )
                fast = _pooled(compiled)
            agrees, note = precision.self_check(reference, self._run(fast, dtype, probe.numpy()))
            notes.append(f"{precision.short_name(dtype)}: {note}")
            if agrees:
                return fast, dtype, "; ".join(notes)
        raise RuntimeError(f"{WHAT}: no number format agrees with FP32: {'; '.join(notes)}")

    def _run(self, net: "Net", dtype: "torch.dtype", crops: U8) -> "torch.Tensor":
        """Run ``crops`` [K, S, S, 3] in batches of one size; returns [K, 2048] FP32 on the CPU."""
        import torch

        cuda = torch.device(self.device).type == "cuda"
        parts = []
        for start in range(0, len(crops), self._batch):
            batch = torch.zeros((self._batch, SIDE, SIDE, 3), dtype=torch.uint8, pin_memory=cuda)
            count = min(self._batch, len(crops) - start)
            batch.numpy()[:count] = crops[start : start + count]  # crops may be read-only
            moved = batch.to(self.device, non_blocking=True)
            parts.append(net(normalise(moved, dtype))[:count])
        return torch.cat(parts).cpu()

    def __call__(self, batch: list[Row]) -> list[Row]:
        """Add ``visual`` to each row.

        Raises:
            VideoError: A vector is not finite or beyond float16.
        """
        import torch

        counts = [len(row["visual_crops"]) for row in batch]
        if sum(counts):
            crops = [np.asarray(row["visual_crops"]) for row in batch]
            joined = crops[0] if len(crops) == 1 else np.concatenate(crops)
            with torch.no_grad(), precision.deterministic_kernels():
                features = self._run(self._net, self._dtype, joined).numpy()
        else:
            features = np.zeros((0, WIDTH), np.float32)
        ends = np.cumsum(counts)
        for row, end, count in zip(batch, ends, counts, strict=True):
            own = features[end - count : end]
            if not (np.abs(own) <= np.finfo(np.float16).max).all():  # NaN compares false
                raise VideoError(
                    "features",
                    "not_finite",
                    f"{WHAT} gave values beyond float16 for {row.get('video_id', 'a video')}; "
                    "check visual.weights, or set visual.precision=fp32.",
                )
            row["visual"] = expand(own, np.asarray(row["visual_index"]), len(row["frame_times"]))
        return batch


def pool(maps: "torch.Tensor") -> "torch.Tensor":
    """Average the last feature maps, flattened to [B, 2048 * H * W], in FP32: [B, 2048]."""
    return maps.reshape(len(maps), WIDTH, -1).float().mean(2)


def _pooled(net: "nn.Module") -> "Net":
    return lambda x: pool(net(x))


def fused_resnet(net: Any, batch: int) -> "Net":
    """Return a torchvision ResNet of bottleneck blocks as a chain of fused oneDNN convolutions.

    Args:
        net: Batch norms folded, on the CPU, in the number format to compute in.
        batch: Size of the batches that the weights are packed for.
    """
    conv = precision.FusedConv2d
    size = SIDE // 4
    blocks = []
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in layer:
            inside = size // block.conv2.stride[0]
            skip = None if block.downsample is None else conv(block.downsample[0], batch, size)
            convs = (conv(block.conv1, batch, size), conv(block.conv2, batch, size))
            blocks.append((*convs, conv(block.conv3, batch, inside), skip))
            size = inside
    stem, maxpool = conv(net.conv1, batch, SIDE), net.maxpool

    def run(x: "torch.Tensor") -> "torch.Tensor":
        x = maxpool(stem(x))  # [B, 64, 56, 56]
        for conv1, conv2, conv3, skip in blocks:
            # conv3 writes into what it adds: x itself when the block has no projection.
            inner = conv2(conv1(x))
            x = conv3(inner, add=x if skip is None else skip(x, relu=False))
        return x.float().mean((2, 3))  # [B, 2048]

    return run


def _build(loaded: weights.LoadedWeights) -> "nn.Module":
    """Return the network in FP32 without pooling and classifier: flattened maps come out."""
    import torch
    from torchvision.models import resnet101

    with torch.device("meta"):
        net: nn.Module = resnet101()
    net.avgpool = net.fc = torch.nn.Identity()
    net = net.to_empty(device="cpu").eval()
    if loaded.state is not None:
        weights.fit_state(
            net, loaded.state, what=WHAT, shown=loaded.source, ignore=("fc.", "classifier.")
        )
        return net
    weights.seeded_init(net, WHAT)
    with torch.no_grad():
        for name, norm in net.named_modules():
            if name.endswith("bn3"):
                # Small residual branches keep a deep random network from forgetting its input.
                norm.weight.fill_(SEEDED_BRANCH)
    images = torch.from_numpy(synthetic_images(CALIBRATION_IMAGES, seed=1))
    weights.calibrate_batch_norm(
        net, [normalise(part, torch.float32) for part in torch.split(images, 4)]
    )
    return net


def _published() -> weights.LoadedWeights:
    """Return torchvision's weights from its cache, downloaded when they are not there yet."""
    import torch
    from torchvision.models import ResNet101_Weights

    url = ResNet101_Weights[PUBLISHED].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    pinned = path.stem.rpartition("-")[2]  # the name ends in the first digits of its SHA-256
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=pinned, progress=False)
        except (OSError, RuntimeError) as error:
            raise weights.unavailable(
                WHAT, "visual.weights", reason=f"{url}: {error}", get=GET
            ) from error
    digest = weights.file_digest(path)
    if not digest.startswith(pinned):
        raise weights.WeightsError(
            f"{WHAT}: {path} is damaged (SHA-256 {digest}…, published {pinned}…). Delete it. {GET}"
        )
    state = weights.read_file(path, what=WHAT, shown=str(path))
    return weights.LoadedWeights(state, digest, False, f"torchvision {PUBLISHED}")
