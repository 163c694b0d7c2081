"""Fast inference that stays true: number format by hardware, folding, compiling, a self-check.

A backbone runs in bfloat16 or float16 only where the hardware computes it natively, and only after
its vectors on a probe batch agreed with FP32.
"""

import contextlib
import copy
import os
import shutil
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from model.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

Precision = Literal["auto", "fp32", "bf16", "fp16"]
CompileMode = Literal["auto", "on", "off"]

MIN_COSINE = 0.9995  # every vector against FP32
WORTHWHILE_CLIPS = 100  # a cold compilation costs about as much as it saves on so many clips


class PrecisionConfig(Config):
    """How a backbone computes; a base for the sections of the backbones."""

    precision: Precision = Field(
        "auto",
        description="Number format: `fp32`, `bf16`, `fp16` (CUDA only), or `auto`: CUDA bf16 where "
        "supported, else fp16; CPU bf16 where the processor computes it natively, else fp32.",
    )
    compile: CompileMode = Field(
        "auto",
        description="torch.compile: `on` (needs a C++ compiler on CPUs), `off`, or `auto`: when a "
        "compiler exists, it is faster, and the worker expects enough clips to earn it back.",
    )


def choose_precision(requested: Precision, device: str) -> "torch.dtype":
    """Return the number format to compute in on ``device``.

    Raises:
        ValueError: ``fp16`` on a CPU, or a format that the GPU lacks.
    """
    import torch

    if requested == "fp32":
        return torch.float32
    if torch.device(device).type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if requested == "bf16" and not bf16:
            raise ValueError("precision=bf16: this GPU does not compute bfloat16; use auto or fp16")
        return torch.bfloat16 if bf16 and requested != "fp16" else torch.float16
    if requested == "fp16":
        raise ValueError("precision=fp16 is for CUDA devices; use auto, bf16 or fp32 on a CPU")
    if requested == "bf16" or cpu_has_native_bf16():
        return torch.bfloat16
    return torch.float32


def short_name(dtype: "torch.dtype") -> Precision:
    """Return ``fp32``, ``bf16`` or ``fp16``."""
    import torch

    names: dict[torch.dtype, Precision] = {
        torch.float32: "fp32",
        torch.bfloat16: "bf16",
        torch.float16: "fp16",
    }
    return names[dtype]


def cpu_has_native_bf16() -> bool:
    """Tell whether this processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX).

    Elsewhere oneDNN accepts bfloat16 as well, but emulates it more slowly than FP32.
    """
    import torch

    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, _never)() for name in checks)


def _never() -> bool:
    return False


def fold_batch_norm(module: "nn.Module") -> "nn.Module":
    """Return a copy in evaluation mode whose batch norms are part of the map before them.

    A pair is folded when symbolic tracing shows that a batch norm reads a convolution or linear map
    that nothing else reads; the batch norm becomes an identity. The outputs differ only by
    rounding.
    """
    import torch
    from torch import fx, nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

    folded = copy.deepcopy(module).eval()
    parts = dict(folded.named_modules())
    for node in fx.symbolic_trace(folded).graph.nodes:
        norm = parts.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        before = node.args[0]
        source = parts.get(str(before.target)) if before.op == "call_module" else None
        if len(before.users) != 1 or not isinstance(source, (nn.modules.conv._ConvNd, nn.Linear)):
            continue
        with torch.no_grad():
            fuse: Callable[..., nn.Module] = (
                fuse_linear_bn_eval if isinstance(source, nn.Linear) else fuse_conv_bn_eval
            )
            folded.set_submodule(str(before.target), fuse(source, norm))
        folded.set_submodule(str(node.target), nn.Identity())
    return folded


def has_onednn_fusion(dtype: "torch.dtype | None" = None) -> bool:
    """Tell whether oneDNN's fused convolutions, which torch.compile uses too, are to be had here.

    Args:
        dtype: In this number format; bfloat16 needs a processor with AVX512 or alike. None: FP32.
    """
    import torch

    names = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (available and all(hasattr(torch.ops.mkldnn, name) for name in names)):
        return False
    return dtype is not torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class FusedConv2d:
    """A convolution on the CPU with its weights packed once and ReLU and sum done inside it.

    The same oneDNN primitives that torch.compile generates, without a compiler or its waiting time;
    they save the passes over memory that separate additions and ReLUs cost.

    Args:
        conv: With a bias (fold the batch norm first), in the number format to compute in.
        batch: Number of images that the packing is chosen for; others work as well.
        size: Height and width of the input, pixels.
    """

    def __init__(self, conv: "nn.Conv2d", batch: int, size: int) -> None:
        import torch

        self._geometry = (
            [int(v) for v in conv.padding],
            [int(v) for v in conv.stride],
            [int(v) for v in conv.dilation],
            conv.groups,
        )
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, *self._geometry, [batch, conv.in_channels, size, size]
        )
        self._bias = None if conv.bias is None else conv.bias.detach()

    def __call__(
        self, x: "torch.Tensor", *, relu: bool = True, add: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        """Return relu(conv(x) + add); ``add`` is overwritten and returned when given."""
        import torch

        after = "relu" if relu else "none"
        pointwise = torch.ops.mkldnn._convolution_pointwise
        if add is None:
            out: torch.Tensor = pointwise(
                x, self._weight, self._bias, *self._geometry, after, [], ""
            )
            return out
        inplace = torch.ops.mkldnn._convolution_pointwise_.binary
        summed: torch.Tensor = inplace(
            add, x, self._weight, self._bias, *self._geometry, "add", 1, after, [], ""
        )
        return summed


def has_cpp_compiler() -> bool:
    """Tell whether torch.compile finds a C++ compiler for CPU code."""
    candidates = [os.environ.get("CXX", ""), "g++", "clang++"]
    return any(name and shutil.which(name) for name in candidates)


def compile_if_worthwhile(
    module: "nn.Module",
    mode: CompileMode,
    *,
    device: str,
    expected_clips: int | None = None,
    worthwhile_clips: int = WORTHWHILE_CLIPS,
) -> Any:
    """Return ``module`` compiled for fixed input shapes with frozen weights, or as it is.

    The caller must run it under ``torch.no_grad`` (freezing is skipped in inference mode), always
    with the same shapes.

    Args:
        module: In evaluation mode, on its device.
        mode: ``on``, ``off``, or ``auto``: on a CPU when a compiler exists and enough clips are
            expected; a GPU compiles on request only.
        device: ``cpu`` or ``cuda:N``.
        expected_clips: How many clips this worker will see; None when unknown, and ``auto`` then
            does not compile.
        worthwhile_clips: From how many clips on ``auto`` compiles.

    Raises:
        ValueError: ``on`` without a C++ compiler for a CPU.
    """
    import torch

    on_cpu = torch.device(device).type == "cpu"
    missing = on_cpu and not has_cpp_compiler()
    if mode == "on" and missing:
        raise ValueError(
            "compile=on needs a C++ compiler (g++ or clang++ on PATH, or CXX), and there is none; "
            "install one or use compile=auto"
        )
    enough = expected_clips is not None and expected_clips >= worthwhile_clips
    if mode == "off" or (mode == "auto" and (not on_cpu or missing or not enough)):
        return module
    return torch.compile(module, dynamic=False, options={"freezing": True} if on_cpu else None)


def deterministic_kernels() -> contextlib.AbstractContextManager[None]:
    """Hold cuDNN to deterministic algorithms and true FP32; without effect on CPUs.

    Trying algorithms out (`benchmark`) could pick another one in the next run, with other rounding.
    """
    import torch

    manager: contextlib.AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return manager


def min_cosine(a: "torch.Tensor", b: "torch.Tensor") -> float:
    """Return the smallest cosine between corresponding vectors (last dimension), in float64.

    Two zero vectors agree (1.0); a value that is not finite makes it -1.0.
    """
    import torch

    a, b = a.detach().double().cpu(), b.detach().double().cpu()  # [..., D]
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        return -1.0
    norms = a.norm(dim=-1) * b.norm(dim=-1)
    cosine = torch.where(norms > 0, (a * b).sum(-1) / norms.clamp_min(1e-300), 0.0)
    both_zero = (a.norm(dim=-1) == 0) & (b.norm(dim=-1) == 0)
    return float(torch.where(both_zero, 1.0, cosine).min())


def self_check(
    reference: "torch.Tensor", fast: "torch.Tensor", threshold: float = MIN_COSINE
) -> tuple[bool, str]:
    """Compare the vectors of the fast path with those of FP32 on the same probe batch.

    Args:
        reference: FP32 output, [..., D].
        fast: Output of the fast path, same shape.
        threshold: Smallest cosine that every vector must reach.

    Returns:
        Whether the fast path may be used, and a sentence about it for the run's report.
    """
    reached = min_cosine(reference, fast)
    verdict = f"smallest cosine against FP32 on the probe batch {reached:.6f}"
    if reached >= threshold:
        return True, verdict
    return False, f"stays in FP32: {verdict}, below {threshold}"
