"""SyncNet: does the mouth move with the sound, and how far apart are they?

Source: Chung & Zisserman, "Out of time: automated lip sync in the wild" (ACCV workshop 2016), and
the published network of joonson/syncnet_python.

=====  ==============================  ==================================
part   lips, [B, 3, T, 224, 224]       sound, [B, 1, 13, 20]
=====  ==============================  ==================================
input  BGR, 0..255, not normalised     MFCC of int16 sound, 20 columns
time   25 frames/s; windows of 5       100 columns/s; a window of 20
output [B, T - 4, 1024]                [B, 1024]
=====  ==============================  ==================================

Parameter names are the published ones, so ``syncnet_v2.model`` loads as it is. Smaller networks
have the same layers and names with fewer channels, and smaller faces (:class:`SyncNet`).
"""

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 5  # frames
COLUMNS = 20  # MFCC columns of a window
COLUMNS_PER_FRAME = 4
SAMPLES_PER_FRAME = 640  # 16 kHz / 25 fps
CROP = 224  # side of the published network's faces, pixels
EMBEDDING = 1024
LEAST_FACE = 52  # pixels: a smaller face leaves the last convolution of the lips nothing to see
PUBLIC_PREFIX = "__S__."


class SyncNet(nn.Module):
    """The published network under its published parameter names, or a smaller one.

    Args:
        width: All channels are multiplied by it (and rounded, at least 1); 1 is the published
            network.
        face: Side of the crops that it reads, pixels; at least :data:`LEAST_FACE`. The last
            convolution of the lips spans whatever is left of the map: 6 x 6 at 224, 2 x 2 at 96.
        embedding: Numbers in the embedding of a window.

    Raises:
        ValueError: ``width`` or ``embedding`` is not above 0, or ``face`` is too small.
    """

    def __init__(self, width: float = 1.0, face: int = CROP, embedding: int = EMBEDDING) -> None:
        super().__init__()
        if not width > 0 or embedding < 1:
            raise ValueError(f"no such network: width {width:g}, embedding {embedding}")
        self.width, self.face, self.embedding = width, face, embedding
        c64, c96, c192, c256, c384, c512 = (
            max(1, round(width * n)) for n in (64, 96, 192, 256, 384, 512)
        )
        rest = lip_map(face)
        self.netcnnaud = nn.Sequential(
            *_conv2d(1, c64, 3, 1),
            nn.MaxPool2d(1, 1),
            *_conv2d(c64, c192, 3, 1),
            nn.MaxPool2d(3, (1, 2)),
            *_conv2d(c192, c384, 3, 1),
            *_conv2d(c384, c256, 3, 1),
            *_conv2d(c256, c256, 3, 1),
            nn.MaxPool2d(3, 2),
            *_conv2d(c256, c512, (5, 4), 0),
        )
        self.netfcaud = _head(c512, embedding)
        self.netcnnlip = nn.Sequential(
            *_conv3d(3, c96, (5, 7, 7), 2, 0),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(c96, c256, (1, 5, 5), 2, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_conv3d(c256, c256, (1, 3, 3), 1, 1),
            *_conv3d(c256, c256, (1, 3, 3), 1, 1),
            *_conv3d(c256, c256, (1, 3, 3), 1, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(c256, c512, (1, rest, rest), 1, 0),
        )
        self.netfclip = _head(c512, embedding)

    def forward_lip(self, x: Tensor) -> Tensor:
        """Embed every window of five frames.

        Args:
            x: [B, 3, T, face, face] BGR, 0..255; T >= 5.

        Returns:
            [B, T - 4, embedding].
        """
        y = self.netcnnlip(x)[..., 0, 0]  # [B, 512, T - 4]
        b, c, n = y.shape
        out: Tensor = self.netfclip(y.transpose(1, 2).reshape(b * n, c))
        return out.view(b, n, self.embedding)

    def forward_aud(self, x: Tensor) -> Tensor:
        """Embed windows of sound: [B, 1, 13, 20] MFCC -> [B, embedding]."""
        out: Tensor = self.netfcaud(self.netcnnaud(x).flatten(1))
        return out

    def forward(self, lip: Tensor, aud: Tensor) -> tuple[Tensor, Tensor]:
        """Return :meth:`forward_lip` and :meth:`forward_aud`."""
        return self.forward_lip(lip), self.forward_aud(aud)

    def load_public_state(self, state: Mapping[str, Tensor]) -> None:
        """Load published weights; keys may carry the prefix ``__S__.``.

        Raises:
            ValueError: A tensor is missing, has another shape, or is none of SyncNet's.
        """
        state = {k.removeprefix(PUBLIC_PREFIX): v for k, v in state.items()}
        own = self.state_dict()
        # Files of old PyTorch versions lack this counter, which inference does not read.
        counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
        state = {**counters, **state}
        problems = [f"{k} is missing" for k in own if k not in state]
        problems += [f"{k} is not part of SyncNet" for k in state if k not in own]
        problems += [
            f"{k} has shape {tuple(v.shape)} instead of {tuple(own[k].shape)}"
            for k, v in state.items()
            if k in own and v.shape != own[k].shape
        ]
        if problems:
            more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
            published = (self.width, self.face, self.embedding) == (1.0, CROP, EMBEDDING)
            which = "syncnet_v2.model" if published else f"of width {self.width:g}"
            raise ValueError(
                f"these are not the weights of SyncNet ({which}): {'; '.join(problems[:5])}{more}"
            )
        self.load_state_dict(state)


def lip_map(face: int) -> int:
    """Return the side of the map that the last convolution of the lips sees.

    Args:
        face: Side of the crop, pixels.

    Raises:
        ValueError: Nothing is left of it.
    """
    if face < LEAST_FACE:
        raise ValueError(f"a face of {face} pixels is too small: at least {LEAST_FACE}")
    side = face
    for kernel, stride, padding in ((7, 2, 0), (3, 2, 0), (5, 2, 1), (3, 2, 1), (3, 2, 0)):
        side = (side + 2 * padding - kernel) // stride + 1
    return side


def _conv2d(n_in: int, n_out: int, kernel: int | tuple[int, int], padding: int) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, kernel, padding=padding)
    return [conv, nn.BatchNorm2d(n_out), nn.ReLU()]


def _conv3d(
    n_in: int, n_out: int, kernel: tuple[int, int, int], stride: int, padding: int
) -> list[nn.Module]:
    conv = nn.Conv3d(n_in, n_out, kernel, (1, stride, stride), (0, padding, padding))
    return [conv, nn.BatchNorm3d(n_out), nn.ReLU()]


def _head(width: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, embedding)
    )


class FoldedStream(nn.Module):
    """One stream of SyncNet for fast inference, mathematically equal to the original.

    Convolutions are two-dimensional and channels-last with batch norm folded into them; ReLU comes
    after pooling (the two commute), where there is less of it to do. The convolutions may run in a
    lower precision; the fully connected head stays in FP32 and so does what it returns.
    """

    def __init__(
        self,
        convolutions: nn.Sequential,
        head: nn.Sequential,
        dtype: torch.dtype,
        mean: float = 0.0,
    ) -> None:
        """Build from trained parts.

        Args:
            convolutions: ``netcnnlip`` or ``netcnnaud``.
            head: ``netfclip`` or ``netfcaud``.
            dtype: Of the convolutions.
            mean: What callers subtract from every input value beforehand (only where the first
                convolution does not pad).
        """
        super().__init__()
        self.dtype = dtype
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.geometry: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.pools: list[tuple[tuple[int, ...], ...]] = []  # kernel, stride, padding; or none
        for part, norm in _pairs(convolutions):
            weight, bias = _fold(part, norm)
            if not self.weights:
                bias = bias + mean * weight.flatten(1).sum(1)
            if weight.ndim == 5:  # [out, in, time, h, w] -> [out, time * in, h, w]
                weight = weight.transpose(1, 2).flatten(1, 2)
            weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
            self.weights.append(nn.Parameter(weight, requires_grad=False))
            self.biases.append(nn.Parameter(bias.to(dtype), requires_grad=False))
            self.geometry.append((_plane(part.stride), _plane(part.padding)))
        for pool in _pools(convolutions):
            settings = (pool.kernel_size, pool.stride, pool.padding) if pool else ()
            self.pools.append(tuple(_plane(setting) for setting in settings))
        full = torch.float64 if dtype == torch.float64 else torch.float32
        self.head = nn.ParameterList()
        for tensor in (*_fold(head[0], head[1]), *_fold(head[3], None)):
            self.head.append(nn.Parameter(tensor.to(full), requires_grad=False))

    def forward(self, x: Tensor) -> Tensor:
        """Embed windows: [n, channels, h, w] in ``dtype``, best channels-last -> [n, embedding]."""
        for weight, bias, (stride, padding), pool in zip(
            self.weights, self.biases, self.geometry, self.pools, strict=True
        ):
            x = F.conv2d(x, weight, bias, stride, padding)
            if pool:
                x = _max_pool(x, *pool)
            x = torch.relu_(x)
        w1, b1, w2, b2 = self.head
        x = x.flatten(1).to(w1.dtype)
        return F.linear(torch.relu_(F.linear(x, w1, b1)), w2, b2)


class LipStream2d(FoldedStream):
    """The lip stream on windows [n, 15, face, face]: channel 3 k + c is colour c of frame k.

    Only the first convolution spans time, and a window has as many frames as its kernel, so five
    frames stacked as channels make it two-dimensional.
    """

    def __init__(
        self,
        net: SyncNet,
        dtype: torch.dtype = torch.float32,
        *,
        mean: float = 0.0,
        rgb: bool = False,
    ) -> None:
        """Build from a network.

        Args:
            net: With its weights; not changed.
            dtype: Of the convolutions.
            mean: What callers subtract from the pixels. With 128 every pixel stays exact in
                bfloat16, and its rounded weights meet no large constant.
            rgb: The caller's colours are RGB instead of BGR.
        """
        super().__init__(net.netcnnlip, net.netfclip, dtype, mean)
        if rgb:
            weight = self.weights[0].data.unflatten(1, (WINDOW, 3)).flip(2).flatten(1, 2)
            self.weights[0].data = weight.contiguous(memory_format=torch.channels_last)


class AudioStream2d(FoldedStream):
    """The audio stream on windows [n, 1, 13, 20] of MFCC."""

    def __init__(self, net: SyncNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(net.netcnnaud, net.netfcaud, dtype)


def stack_windows(frames: Tensor, mean: float, dtype: torch.dtype) -> Tensor:
    """Turn consecutive frames into lip windows for :class:`LipStream2d`.

    Args:
        frames: [n + 4, H, W, 3] uint8.
        mean: Subtracted from every pixel.
        dtype: Of the result.

    Returns:
        [n, 15, H, W], channels-last.
    """
    count, height, width, colours = frames.shape
    # With the frames of a pixel side by side a window is one run of 15 values at every pixel.
    pixels = frames.permute(1, 2, 0, 3).reshape(height, width, count * colours)
    pixels = pixels.to(dtype).sub_(mean)
    windows = pixels.unfold(2, WINDOW * colours, colours)  # [H, W, n, 15]
    return windows.permute(2, 0, 1, 3).contiguous().permute(0, 3, 1, 2)


def audio_windows(coefficients: Tensor, windows: int) -> Tensor:
    """Cut MFCC [columns, 13] into ``windows`` windows [n, 1, 13, 20], one a frame."""
    cut = coefficients.unfold(0, COLUMNS, COLUMNS_PER_FRAME)[:windows]  # [n, 13, 20]
    return cut.unsqueeze(1)


def window_count(frames: int, samples: int) -> int:
    """Return how many windows the published tool takes: one fewer than would fit, at least 0."""
    return max(min(frames, samples // SAMPLES_PER_FRAME) - WINDOW, 0)


def _pairs(parts: nn.Sequential) -> Iterable[tuple[nn.Conv2d | nn.Conv3d, nn.Module]]:
    for part, norm in zip(parts, list(parts)[1:], strict=False):
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            yield part, norm


def _pools(parts: nn.Sequential) -> list[nn.MaxPool2d | nn.MaxPool3d | None]:
    """Return the pooling that follows each convolution, None where it is absent or of size 1."""
    found: list[nn.MaxPool2d | nn.MaxPool3d | None] = []
    for part in parts:
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            found.append(None)
        elif isinstance(part, (nn.MaxPool2d, nn.MaxPool3d)) and part.kernel_size != 1:
            found[-1] = part
    return found


def _fold(linear: nn.Module, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Return weight and bias (float64) of a linear map followed by a batch norm in inference."""
    assert isinstance(linear, (nn.Conv2d, nn.Conv3d, nn.Linear))
    assert linear.bias is not None
    weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
    if norm is None:
        return weight, bias
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.detach().double() - norm.running_mean.double() * scale
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


def _plane(value: int | tuple[int, ...] | str) -> tuple[int, ...]:
    """Return the two spatial members of a layer's setting."""
    assert not isinstance(value, str)
    return (value, value) if isinstance(value, int) else tuple(value[-2:])


def _max_pool(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """Max pooling; on CPUs as maxima of slices, which keep to whole vectors of channels."""
    if x.is_cuda or kernel != (3, 3) or stride != (2, 2) or padding != (0, 0):
        return F.max_pool2d(x, kernel, stride, padding)
    x = torch.maximum(torch.maximum(x[:, :, :-2:2], x[:, :, 1:-1:2]), x[:, :, 2::2])
    return torch.maximum(torch.maximum(x[..., :-2:2], x[..., 1:-1:2]), x[..., 2::2])
