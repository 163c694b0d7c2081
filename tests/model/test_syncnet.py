"""The network under its public names, and its folded form against the original layers."""

import pytest
import torch
from torch import nn

from model.syncnet import (
    AudioStream2d,
    LipStream2d,
    SyncNet,
    audio_windows,
    lip_map,
    stack_windows,
    window_count,
)

# Written down from the published layer list, not read from the class.
PUBLIC_SHAPES = {
    "netcnnaud.0.weight": (64, 1, 3, 3),
    "netcnnaud.1.running_var": (64,),
    "netcnnaud.4.weight": (192, 64, 3, 3),
    "netcnnaud.8.weight": (384, 192, 3, 3),
    "netcnnaud.11.weight": (256, 384, 3, 3),
    "netcnnaud.14.weight": (256, 256, 3, 3),
    "netcnnaud.18.weight": (512, 256, 5, 4),
    "netcnnaud.19.running_mean": (512,),
    "netfcaud.0.weight": (512, 512),
    "netfcaud.1.weight": (512,),
    "netfcaud.3.weight": (1024, 512),
    "netcnnlip.0.weight": (96, 3, 5, 7, 7),
    "netcnnlip.1.weight": (96,),
    "netcnnlip.4.weight": (256, 96, 1, 5, 5),
    "netcnnlip.8.weight": (256, 256, 1, 3, 3),
    "netcnnlip.11.weight": (256, 256, 1, 3, 3),
    "netcnnlip.14.weight": (256, 256, 1, 3, 3),
    "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    "netcnnlip.19.bias": (512,),
    "netfclip.0.bias": (512,),
    "netfclip.1.running_mean": (512,),
    "netfclip.3.weight": (1024, 512),
}


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """[T, 224, 224, 3] BGR, smooth and different from frame to frame as pictures of a scene are."""
    coarse = 255 * torch.rand(14, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    smooth = nn.functional.interpolate(coarse, size=(224, 224), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).contiguous().to(torch.uint8)


@pytest.fixture(scope="module")
def mfcc_windows() -> torch.Tensor:
    return 10 * torch.randn(6, 1, 13, 20, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def net(frames: torch.Tensor, mfcc_windows: torch.Tensor) -> SyncNet:
    """Random weights, batch norms with statistics, scales and shifts that are not trivial."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = SyncNet().train()
        for part in net.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.momentum = 1.0
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.3)
        net(_clip(frames, torch.float32), mfcc_windows)
        return net.eval()


def _clip(frames: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return frames.to(dtype).permute(3, 0, 1, 2)[None]  # [1, 3, T, H, W]


def test_parameters_have_the_public_names_and_shapes() -> None:
    state = SyncNet().state_dict()
    assert {k: tuple(state[k].shape) for k in PUBLIC_SHAPES} == PUBLIC_SHAPES
    learned = [k for k in state if k.endswith(("weight", "bias"))]
    assert len(learned) == 2 * (2 * 6 + 2 * 6 + 2 * 3)  # maps and norms of both streams and heads


def test_a_clip_at_once_equals_window_by_window(net: SyncNet, frames: torch.Tensor) -> None:
    x = _clip(frames[:7], torch.float32)
    with torch.no_grad():
        at_once = net.forward_lip(x)
        windows = torch.cat([net.forward_lip(x[:, :, i : i + 5]) for i in range(3)], dim=1)
    assert at_once.shape == (1, 3, 1024)
    torch.testing.assert_close(at_once, windows, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "mean", "rgb"),
    [
        (torch.float32, 0.0, False),
        (torch.float32, 128.0, True),
        (torch.float64, 128.0, True),
    ],
)
def test_the_folded_lip_stream_equals_the_original(
    net: SyncNet, frames: torch.Tensor, dtype: torch.dtype, mean: float, rgb: bool
) -> None:
    frames = frames[:6]
    fast = LipStream2d(net, dtype, mean=mean, rgb=rgb)
    original = SyncNet().to(dtype).eval()
    original.load_state_dict(net.state_dict())
    with torch.no_grad():
        expected = original.forward_lip(_clip(frames, dtype))[0]
        windows = stack_windows(frames.flip(3) if rgb else frames, mean, dtype)
        got = fast(windows)
    assert windows.is_contiguous(memory_format=torch.channels_last)
    assert 0.05 < expected.std() < 1
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)


def test_the_folded_audio_stream_equals_the_original(
    net: SyncNet, mfcc_windows: torch.Tensor
) -> None:
    with torch.no_grad():
        expected = net.forward_aud(mfcc_windows)
        got = AudioStream2d(net)(mfcc_windows)
    assert expected.std() > 0.05
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_windows_of_sound_are_columns_4i_to_4i_plus_19() -> None:
    columns = torch.arange(60 * 13.0).reshape(60, 13)
    windows = audio_windows(columns, 11)
    assert windows.shape == (11, 1, 13, 20)
    torch.testing.assert_close(windows[3, 0], columns[12:32].T)


@pytest.mark.parametrize(
    ("frames", "samples", "windows"),
    [(150, 96_000, 145), (150, 95_999, 144), (100, 96_000, 95), (5, 96_000, 0), (3, 0, 0)],
)
def test_window_count_is_that_of_the_published_tool(
    frames: int, samples: int, windows: int
) -> None:
    assert window_count(frames, samples) == windows


@pytest.mark.parametrize(
    ("face", "rest"), [(224, 6), (112, 2), (96, 2), (80, 1), (52, 1), (128, 3), (192, 5)]
)
def test_the_last_convolution_spans_what_is_left_of_a_face(face: int, rest: int) -> None:
    assert lip_map(face) == rest
    net = SyncNet(1 / 64, face, 8)
    assert net.netcnnlip[18].kernel_size == (1, rest, rest)
    with torch.no_grad():
        assert net.eval().forward_lip(torch.zeros(1, 3, 5, face, face)).shape == (1, 1, 8)


def test_a_small_network_has_the_names_of_the_large_one_and_fewer_channels() -> None:
    small, large = SyncNet(1 / 8, 96, 128).state_dict(), SyncNet().state_dict()
    assert list(small) == list(large)
    assert [small[k].shape[0] * 8 for k in small if k.startswith("netcnn") and small[k].ndim] == [
        large[k].shape[0] for k in large if k.startswith("netcnn") and large[k].ndim
    ]
    assert small["netfclip.3.weight"].shape == (128, 64)


@pytest.mark.parametrize(
    "values", [{"width": 0.0}, {"width": -1.0}, {"embedding": 0}, {"face": 51}]
)
def test_impossible_networks_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"no such network|too small"):
        SyncNet(**values)  # type: ignore[arg-type]


def test_small_streams_fold_as_the_published_ones() -> None:
    torch.manual_seed(3)
    net = SyncNet(1 / 16, 96, 32).double().train()
    g = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (9, 96, 96, 3), dtype=torch.uint8, generator=g)
    sound = 10 * torch.randn(5, 1, 13, 20, generator=g).double()
    with torch.no_grad():
        net(_clip(frames, torch.float64), sound)
        net.eval()
        lips, heard = net(_clip(frames, torch.float64), sound)
        windows = stack_windows(frames.flip(3), 128.0, torch.float64)
        found = LipStream2d(net, torch.float64, mean=128.0, rgb=True)(windows)
    torch.testing.assert_close(found, lips[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(AudioStream2d(net, torch.float64)(sound), heard, rtol=0, atol=1e-9)


class TestLoading:
    def test_prefixed_and_plain_names_load(self, net: SyncNet) -> None:
        for prefix in ("__S__.", ""):
            other = SyncNet()
            other.load_public_state({prefix + k: v for k, v in net.state_dict().items()})
            for name, tensor in other.state_dict().items():
                assert torch.equal(tensor, net.state_dict()[name]), name

    def test_files_without_step_counters_load(self, net: SyncNet) -> None:
        state = net.state_dict()
        SyncNet().load_public_state({k: v for k, v in state.items() if "num_batches" not in k})

    def test_missing_foreign_and_misshapen_tensors_are_named(self, net: SyncNet) -> None:
        state = dict(net.state_dict())
        del state["netfclip.3.bias"]
        state["netcnnlip.0.weight"] = torch.zeros(96, 3, 5, 5, 5)
        state["fc.weight"] = torch.zeros(1)
        with pytest.raises(ValueError, match="not the weights of SyncNet") as error:
            SyncNet().load_public_state(state)
        message = str(error.value)
        assert "netfclip.3.bias is missing" in message
        assert "fc.weight is not part of SyncNet" in message
        assert "(96, 3, 5, 5, 5) instead of (96, 3, 5, 7, 7)" in message
