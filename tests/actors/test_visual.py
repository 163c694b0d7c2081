import copy
import hashlib
from pathlib import Path
from typing import Any
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import resnet101
from torchvision.transforms.functional import normalize

from actors import precision, visual, weights
from actors.row import check
from actors.visual import Visual, VisualConfig
from actors.weights import WeightsError
from tests.support import clips_dir


def row(crops: np.ndarray, index: list[int]) -> dict[str, Any]:
    frames = np.full(150, -1, np.int32)
    frames[: len(index)] = index
    times = np.arange(len(index)) / 25
    return {
        "video_id": "v",
        "visual_crops": crops,
        "visual_index": frames,
        "frame_times": times,
    }


@pytest.fixture(scope="module")
def seeded() -> Visual:
    return Visual(VisualConfig(weights="seeded"))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return visual.synthetic_images(8, seed=9)


@pytest.fixture(scope="module")
def body() -> torch.nn.Module:
    return visual._build(weights.seeded(visual.WHAT))


@pytest.fixture
def built_once(body: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a test the calibration of seeded weights."""
    monkeypatch.setattr(visual, "_build", lambda loaded: copy.deepcopy(body))


@pytest.fixture(scope="module")
def published(
    body: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> tuple[torch.nn.Module, Path]:
    """A complete torchvision network with plausible batch norms, and its file."""
    net = resnet101()
    net.load_state_dict(
        body.state_dict() | {k: v for k, v in net.state_dict().items() if "fc." in k}
    )
    path = tmp_path_factory.mktemp("weights") / "resnet101.pth"
    torch.save(net.state_dict(), path)
    net.fc = torch.nn.Identity()
    return net.eval(), path


def reference(net: torch.nn.Module, crops: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(crops.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return net(normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_normalise_as_torchvision(pictures: np.ndarray) -> None:
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    expected = normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    made = visual.normalise(torch.from_numpy(pictures), torch.float32)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_expand_puts_nan_where_no_face_is() -> None:
    made = visual.expand(
        np.array([[1, 2], [3, 4]], np.float32), np.array([1, -1, 0, -1], np.int32), 3
    )
    assert made.dtype == np.float16
    np.testing.assert_array_equal(made, [[3, 4], [np.nan, np.nan], [1, 2], [0, 0]])


def test_row(seeded: Visual, pictures: np.ndarray) -> None:
    (made,) = seeded([row(pictures[:3], [2, -1, 0, 1, 1])])
    check(made, Visual.adds)
    features = made["visual"]
    assert np.isnan(features[1]).all()
    assert not features[5:].any()  # padding
    assert np.isfinite(features[[0, 2, 3, 4]]).all()
    np.testing.assert_array_equal(features[3], features[4])
    assert seeded.demonstration
    assert seeded.digest == "seeded-resnet101-v1"


def test_same_bits_alone_and_in_a_batch(seeded: Visual, pictures: np.ndarray) -> None:
    pictures.flags.writeable = False  # as Ray hands them over
    rows = [
        row(pictures[:5], [0, 1, 2, 3, 4]),
        row(pictures[:0], [-1, -1, -1]),
        row(pictures[3:8], [0, 1, 2, 3, 4]),
    ]
    together = [r["visual"] for r in seeded([dict(r) for r in rows])]
    alone = [seeded([dict(r)])[0]["visual"] for r in rows]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(together[0][3:5], together[2][:2])
    assert np.isnan(together[1][:3]).all()


def test_seeded_features_depend_on_the_picture(seeded: Visual, pictures: np.ndarray) -> None:
    (made,) = seeded([row(pictures, list(range(8)))])
    features = made["visual"][:8].astype(np.float64)
    assert features.std(0).mean() > 0.1 * features.mean()
    assert 0.1 < features.mean() < 10


def test_file_against_torchvision(
    published: tuple[torch.nn.Module, Path], pictures: np.ndarray
) -> None:
    net, path = published
    made = Visual(VisualConfig(weights=str(path), precision="fp32"))
    expected = reference(net, pictures[:3])
    (features,) = (r["visual"] for r in made([row(pictures, [0, 1, 2])]))
    # float16 keeps 11 bits
    np.testing.assert_allclose(features[:3], expected, rtol=2e-3, atol=2e-3)
    assert made.digest == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert not made.demonstration


def test_mixed_precision_on_real_clips(
    seeded: Visual, published: tuple[torch.nn.Module, Path]
) -> None:
    crops = []
    for path in sorted(clips_dir().rglob("*.mp4")):
        capture = cv2.VideoCapture(str(path))
        capture.set(cv2.CAP_PROP_POS_FRAMES, 30)
        good, frame = capture.read()
        if good:
            crops.append(cv2.cvtColor(cv2.resize(frame, (224, 224)), cv2.COLOR_BGR2RGB))
    frames = np.stack(crops[::3])
    (made,) = seeded([row(frames, list(range(len(frames))))])
    expected = reference(published[0], frames)
    assert cosines(made["visual"][: len(frames)], expected).min() >= 0.9995


@pytest.mark.usefixtures("built_once")
def test_stays_in_fp32_when_a_format_cannot_keep_the_cosine(
    monkeypatch: pytest.MonkeyPatch, pictures: np.ndarray
) -> None:
    honest = precision.self_check

    def strict(reference: torch.Tensor, fast: torch.Tensor) -> tuple[bool, str]:
        return honest(reference, fast, threshold=0.9999999)

    monkeypatch.setattr(precision, "self_check", strict)
    made = Visual(VisualConfig(weights="seeded", precision="bf16", batch_frames=2))
    assert made.precision_note.startswith("bf16: stays in FP32: smallest cosine")
    assert np.isfinite(made([row(pictures[:1], [0])])[0]["visual"][0]).all()


@pytest.mark.usefixtures("built_once")
def test_eager_path_where_onednn_has_no_fusion(
    monkeypatch: pytest.MonkeyPatch, seeded: Visual, pictures: np.ndarray
) -> None:
    monkeypatch.setattr(precision, "has_onednn_fusion", lambda *_: False)
    made = Visual(VisualConfig(weights="seeded", batch_frames=4))
    a, b = (m([row(pictures, list(range(8)))])[0]["visual"][:8] for m in (made, seeded))
    assert cosines(a, b).min() >= 0.9995


def test_not_finite_is_a_failure_of_the_video(seeded: Visual, pictures: np.ndarray) -> None:
    broken = object.__new__(Visual)
    broken.__dict__.update(seeded.__dict__)
    broken._net = lambda x: torch.full((len(x), visual.WIDTH), 1e5)
    with pytest.raises(visual.VideoError, match="beyond float16 for v;") as caught:
        broken([row(pictures, [0])])
    assert (caught.value.stage, caught.value.reason) == ("features", "not_finite")


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.ones(64, 3, 7, 7)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"another network\. Missing: bn1\.weight"):
        Visual(VisualConfig(weights=str(tmp_path / "w.pt")))


def test_published_weights_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(WeightsError) as caught:
        Visual(VisualConfig())
    for part in (
        "no route to host",
        "machine with network",
        "IMAGENET1K_V1",
        "visual.weights=seeded",
    ):
        assert part in str(caught.value)


def test_published_weights_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet101-63fe2227.pth").write_bytes(b"half a download")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"is damaged .* published 63fe2227"):
        Visual(VisualConfig())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("number_format", ["fp32", "bf16", "fp16"])
def test_cuda_agrees_with_fp32(
    number_format: precision.Precision,
    published: tuple[torch.nn.Module, Path],
    pictures: np.ndarray,
) -> None:
    made = Visual(VisualConfig(weights="seeded", precision=number_format), device="cuda:0")
    assert number_format in made.precision_note
    expected = reference(published[0], pictures)
    features = made([row(pictures, list(range(8)))])[0]["visual"]
    assert cosines(features[:8], expected).min() >= 0.9995
    again = made([row(pictures[4:], [0, 1, 2, 3])])[0]["visual"]
    np.testing.assert_array_equal(features[4:8], again[:4])
