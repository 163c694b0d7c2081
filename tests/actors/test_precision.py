import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cosine
from torch import nn

from actors import precision
from actors.precision import FusedConv2d, choose_precision, compile_if_worthwhile, min_cosine


@pytest.mark.parametrize(
    ("native", "requested", "expected"),
    [
        (True, "auto", torch.bfloat16),
        (False, "auto", torch.float32),
        (True, "fp32", torch.float32),
        (False, "bf16", torch.bfloat16),
    ],
)
def test_cpu_format_follows_the_hardware(
    native: bool,
    requested: precision.Precision,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "cpu_has_native_bf16", lambda: native)
    assert choose_precision(requested, "cpu") is expected


def test_fp16_on_a_cpu_is_an_error() -> None:
    with pytest.raises(ValueError, match="fp16 is for CUDA"):
        choose_precision("fp16", "cpu")


@pytest.mark.parametrize(
    ("bf16", "requested", "expected"),
    [
        (True, "auto", torch.bfloat16),
        (False, "auto", torch.float16),
        (True, "fp16", torch.float16),
        (True, "fp32", torch.float32),
    ],
)
def test_cuda_format(
    bf16: bool,
    requested: precision.Precision,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert choose_precision(requested, "cuda:0") is expected


def test_bf16_on_an_old_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ValueError, match="does not compute bfloat16"):
        choose_precision("bf16", "cuda:0")


class Mixed(nn.Module):
    """Foldable pairs (2-D, 3-D, linear), a shared convolution and a batch norm that comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.shared = nn.Conv2d(8, 8, 1)
        self.shared_norm = nn.BatchNorm2d(8)
        self.deep = nn.Sequential(nn.Conv3d(8, 4, (1, 3, 3)), nn.BatchNorm3d(4), nn.ReLU())
        self.last = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(self.first(x)))
        y = self.shared(x)
        x = self.shared_norm(y) + y
        return self.last(self.deep(x.unsqueeze(2)).mean((2, 3, 4)))


def test_folding_keeps_the_function() -> None:
    torch.manual_seed(0)
    net = Mixed()
    for norm in (m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    net.eval()
    folded = precision.fold_batch_norm(net)
    x = torch.randn(4, 3, 9, 9)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-5, atol=1e-5)
    kept = {n for n, m in folded.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert kept == {"first", "shared_norm"}
    assert isinstance(net.norm, nn.BatchNorm2d)  # the original is left alone


@pytest.mark.skipif(not precision.has_onednn_fusion(), reason="this torch has no oneDNN")
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "batch"),
    [(1, 1, 0, 4), (3, 2, 1, 4), (7, 2, 3, 1), (3, 1, 1, 9)],
)
def test_fused_convolution_equals_its_parts(
    kernel: int, stride: int, padding: int, batch: int
) -> None:
    torch.manual_seed(kernel)
    conv = nn.Conv2d(16, 32, kernel, stride, padding)
    fused = FusedConv2d(conv, 4, 14)
    x = torch.randn(batch, 16, 14, 14).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = F.conv2d(x, conv.weight, conv.bias, stride, padding)
        torch.testing.assert_close(fused(x, relu=False), plain, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fused(x), plain.relu(), rtol=1e-4, atol=1e-5)
        other = torch.randn(plain.shape).contiguous(memory_format=torch.channels_last)
        expected = (plain + other).relu()
        torch.testing.assert_close(fused(x, add=other), expected, rtol=1e-4, atol=1e-5)


def test_min_cosine_against_scipy() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 5, 7, 20))
    expected = min(
        1 - cosine(x, y) for x, y in zip(a.reshape(-1, 20), b.reshape(-1, 20), strict=True)
    )
    assert min_cosine(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, abs=1e-12)


def test_min_cosine_of_zero_and_not_finite_vectors() -> None:
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    assert min_cosine(zero, zero) == 1.0
    assert min_cosine(zero, one) == 0.0
    assert min_cosine(one, one * float("nan")) == -1.0


def test_self_check_reports_what_it_found() -> None:
    reference = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    near = torch.tensor([[1.0, 0.03], [0.0, 1.0]])
    agrees, note = precision.self_check(reference, near)
    assert agrees
    assert "0.99955" in note  # 1 / sqrt(1 + 0.03²)
    agrees, note = precision.self_check(reference, near, threshold=0.9999)
    assert not agrees
    assert "stays in FP32" in note


def test_compiling_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    module = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler"):
        compile_if_worthwhile(module, "on", device="cpu")
    assert compile_if_worthwhile(module, "auto", device="cpu", expected_clips=10**6) is module


@pytest.mark.parametrize(
    ("mode", "clips", "compiles"),
    [
        ("off", 10**6, False),
        ("auto", None, False),
        ("auto", 99, False),
        ("auto", 100, True),
        ("on", None, True),
    ],
)
def test_compiling_only_where_it_pays(
    mode: precision.CompileMode,
    clips: int | None,
    compiles: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "has_cpp_compiler", lambda: True)
    module = nn.Linear(2, 2)
    made = compile_if_worthwhile(module, mode, device="cpu", expected_clips=clips)
    assert (made is not module) is compiles
    assert compile_if_worthwhile(module, "auto", device="cuda:0", expected_clips=10**6) is module


@pytest.mark.slow
@pytest.mark.skipif(not precision.has_cpp_compiler(), reason="no C++ compiler")
def test_a_compiled_module_computes_the_same() -> None:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU()).eval()
    made = compile_if_worthwhile(module, "on", device="cpu")
    x = torch.randn(4, 6)
    with torch.no_grad():
        torch.testing.assert_close(made(x), module(x))
